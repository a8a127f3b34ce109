"""Viterbi search through given units in a row, in a band that is known to hold the best path.

All units advance together, a frame at a time. Frames are taken in blocks; between two blocks the
band is cut to the units that can still matter, and the scores there are kept, so that the way back
searches each block once more and nothing is stored per frame: memory grows with the number of
blocks times the width of the band.

A unit is left out when it is far behind the best one. What such units could have reached at most,
taking the best unit of each frame to the end, is remembered; if it is less than the score that was
found, no path was lost. If it is more, the search is repeated, and leaves out only what cannot
reach that score: the result is then the best path whatever the sound is.

Optionally there are *stars*: places between units where anything may be said, and from one of which
to the next the units may be left out at a cost (after the wildcards of Cai et al., "W-CTC", ICLR
2022, and Pratap et al., "Star temporal classification", NeurIPS 2022, and the free start and end of
Kürzinger et al., "CTC-segmentation of large corpora", SPECOM 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.decoding.units import Floats

Scores = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BLOCK = 128  # frames
BEAM = 300.0  # natural log; a unit so far behind the best one is left out at first
FLOOR = -1e9  # stands for the log of a blank that is impossible, so that scores stay numbers
_WIDE = 1e6  # a beam that leaves nothing out
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Trellis:
    """What is searched. T frames, V units, U of them in a row, N stars.

    Place u lies before unit u of the row and place U behind the last; a blank is spoken in a place.
    All scores are relative to the blank, so that a blank adds nothing.

    Attributes:
        frames: log-probabilities (T, V).
        blanks: those of the blank, not below :data:`FLOOR`, (T,).
        labels: the units in a row, (U,).
        stars: places where anything may be said, ascending, the first 0 and the last U; or empty.
        costs: of leaving out all units before each star, ascending from 0, (N,).
        leap: what leaving out units costs beside the difference of their stars' costs.
        star_logs: what a frame adds in a star, at least 0, (T,).
    """

    frames: Floats
    blanks: Scores
    labels: Places
    stars: Places
    costs: Scores
    star_logs: Scores
    leap: float = 0.0

    def logs(self, first: int, stop: int, labels: Places) -> Scores:
        """What ``labels`` (W,) add in the frames ``first`` to ``stop``, (stop - first, W)."""
        logs = self.frames[first:stop].take(labels, axis=1).astype(np.float64)
        logs -= self.blanks[first:stop, None]
        return logs

    def most(self) -> Scores:
        """The most that the frames from each on can add, (T + 1,)."""
        used, best = np.unique(self.labels), [np.zeros(0)]
        for first in range(0, len(self.frames), BLOCK):
            best.append(self.logs(first, first + BLOCK, used).max(axis=1, initial=0.0))
        most = np.concatenate(best)
        if len(self.stars):
            most = np.maximum(most, self.star_logs)
        return np.append(np.cumsum(most[::-1])[::-1], 0.0)


@dataclass(frozen=True)
class Found:
    """The best path: the unit of the row (-1: none) and the place of each frame, both (T,).

    ``score`` is relative to blanks alone, -inf where there is no path; ``exact`` says whether no
    better path can have been lost.
    """

    units: Places
    places: Places
    score: float
    exact: bool


@dataclass(frozen=True)
class _Band:
    """Scores of the units ``low`` to ``low + W - 1``, and of the W + 1 places around them."""

    low: int
    unit: Scores  # (W,)
    place: Scores  # (W + 1,)

    @property
    def high(self) -> int:
        """One past the last unit."""
        return self.low + len(self.unit)

    def part(self, low: int, high: int) -> _Band:
        """The band of units ``low`` to ``high - 1``; what was not in it is impossible."""
        unit, place = np.full(high - low, -math.inf), np.full(high - low + 1, -math.inf)
        first, last = max(low, self.low), min(high, self.high)
        unit[first - low : last - low] = self.unit[first - self.low : last - self.low]
        place[first - low : last + 1 - low] = self.place[first - self.low : last + 1 - self.low]
        return _Band(low, unit, place)


@dataclass
class _Rows:
    """What a block held before its first frame and after each, for the way back."""

    unit: list[Scores]
    place: list[Scores]
    leapt: list[Flags]  # stars that were reached by leaving out what is before them, (N,)
    peaks: list[Flags]  # stars from which those behind them were reached, (N,)


def search(trellis: Trellis, *, beam: float = BEAM, effort: float = math.inf) -> Found:
    """The best path through all units, in order.

    Where the first band may have lost it, the search is repeated without that doubt, unless this
    takes more than ``effort`` steps (frames times units).
    """
    rest = trellis.most()
    bands, lost = _forward(trellis, rest, beam, None)
    score = _end(trellis, bands[-1])[0]
    exact = lost <= score
    while not exact and score == -math.inf and beam < _WIDE:  # the end itself was lost
        beam *= 4
        bands, lost = _forward(trellis, rest, beam, None)
        score = _end(trellis, bands[-1])[0]
        exact = lost <= score
    if not exact and len(trellis.frames) * len(trellis.labels) <= effort:
        slack = 1e-9 * float(np.abs(rest).max())  # of rounding
        bands, _ = _forward(trellis, rest, math.inf, score - slack)
        score, exact = _end(trellis, bands[-1])[0], True
    if not score > -math.inf:
        return Found(_NONE, _NONE, score, exact)
    units, places = _backward(trellis, bands)
    return Found(units, places, score, exact)


def _end(trellis: Trellis, band: _Band) -> tuple[float, bool]:
    """The score of a path that ends with ``band``, and whether it ends in a blank."""
    count = len(trellis.labels)
    if band.high < count:
        return -math.inf, True
    in_place = float(band.place[count - band.low])
    in_unit = float(band.unit[-1]) if len(band.unit) else -math.inf
    return max(in_place, in_unit), in_place > in_unit


def _forward(
    trellis: Trellis, rest: Scores, beam: float, needed: float | None
) -> tuple[list[_Band], float]:
    """The bands before each block and behind the last, and the most that was left out could reach.

    Left out is what is ``beam`` behind the best, or, with ``needed``, cannot reach that score.
    """
    size, count = len(trellis.frames), len(trellis.labels)
    start = np.full(count + 1, -math.inf)
    start[0] = 0.0
    start[trellis.stars[1:]] = -trellis.costs[1:] - trellis.leap
    width = max(min(BLOCK, count), _reach(trellis, 0, beam))
    band = _Band(0, np.full(width, -math.inf), start[: width + 1])
    bands, lost = [band], -math.inf
    for first in range(0, size, BLOCK):
        stop = min(first + BLOCK, size)
        band = _advance(trellis, band, first, stop)
        lost = max(lost, _skips_lost(trellis, band) + float(rest[first]))
        if stop < size:
            floor = None if needed is None else needed - float(rest[stop])
            band, left = _cut(trellis, band, beam, floor)
            lost = max(lost, left + float(rest[stop]))
        bands.append(band)
    return bands, lost


def _cut(trellis: Trellis, band: _Band, beam: float, floor: float | None) -> tuple[_Band, float]:
    """The band of the next block, and the best score of what is left out of it."""
    unit, place = band.unit, band.place
    best = max(float(place.max()), float(unit.max(initial=-math.inf)))
    floor = best - beam if floor is None else floor
    units = np.flatnonzero((unit >= floor) & (unit > -math.inf))
    places = np.flatnonzero((place >= floor) & (place > -math.inf))
    if not len(units) and not len(places):
        return band, -math.inf
    ends = [int(i) for found in (units, places) if len(found) for i in (found[0], found[-1])]
    low, high = min(ends), max(*ends, int(units[-1]) + 1 if len(units) else 0)
    high = min(high, len(unit))
    left = max(
        float(part.max(initial=-math.inf))
        for part in (unit[:low], unit[high:], place[:low], place[high + 1 :])
    )
    # a block has one unit a frame at most, and leaving units out for more than the beam is no use
    front = max(band.low + high + BLOCK, _reach(trellis, band.low + int(place.argmax()), beam))
    return band.part(band.low + low, min(front, len(trellis.labels))), left


def _reach(trellis: Trellis, place: int, beam: float) -> int:
    """The furthest place that is reached from ``place`` by leaving out units within ``beam``."""
    if not len(trellis.stars):
        return place
    start = trellis.costs[np.searchsorted(trellis.stars, place)]
    last = np.searchsorted(trellis.costs, start + beam, side="right")
    return int(trellis.stars[min(int(last), len(trellis.stars) - 1)])


def _skips_lost(trellis: Trellis, band: _Band) -> float:
    """The best score of leaving out units up to a star beyond the band (stars only gain)."""
    beyond = int(np.searchsorted(trellis.stars, band.high, side="right"))
    if beyond == len(trellis.stars):
        return -math.inf
    inside = slice(int(np.searchsorted(trellis.stars, band.low)), beyond)
    values = band.place[trellis.stars[inside] - band.low] + trellis.costs[inside]
    return float(values.max(initial=-math.inf) - trellis.costs[beyond]) - trellis.leap


def _barred(labels: Places) -> Scores | None:
    """What forbids a unit to follow the same unit without a blank, (W - 1,); None: nothing does."""
    same = labels[1:] == labels[:-1]
    return np.where(same, -math.inf, 0.0) if same.any() else None


def _advance(
    trellis: Trellis, band: _Band, first: int, stop: int, rows: _Rows | None = None
) -> _Band:
    """The band after the frames ``first`` to ``stop - 1``; ``rows`` takes what it was in between.

    A unit is entered from itself, from the blank before it, or from the unit before it.
    """
    unit, place = band.unit.copy(), band.place.copy()
    labels = trellis.labels[band.low : band.high]
    barred = _barred(labels)
    before, after, stay = place[:-1], place[1:], np.empty_like(unit)
    last, behind = unit[:-1], stay[1:]
    direct = last if barred is None else np.empty_like(last)
    inside = (trellis.stars >= band.low) & (trellis.stars <= band.high)
    stars, costs = trellis.stars[inside] - band.low, trellis.costs[inside]
    leaps = costs[1:] + trellis.leap
    for t, row in enumerate(trellis.logs(first, stop, labels), start=first):
        np.maximum(unit, before, out=stay)
        if barred is not None:
            np.add(last, barred, out=direct)
        np.maximum(behind, direct, out=behind)
        np.maximum(after, unit, out=after)
        np.add(stay, row, out=unit)
        if len(stars):
            values = place[stars] + trellis.star_logs[t]
            total = values + costs
            reached = np.maximum.accumulate(total)
            landed = reached[:-1] - leaps
            if rows is not None:
                rows.leapt.append(np.append(False, landed > values[1:]))
                rows.peaks.append(total >= reached)
            np.maximum(values[1:], landed, out=values[1:])
            place[stars] = values
        if rows is not None:
            rows.unit.append(unit.copy())
            rows.place.append(place.copy())
    return _Band(band.low, unit, place)


def _backward(trellis: Trellis, bands: list[_Band]) -> tuple[Places, Places]:
    """The unit and the place of each frame, from the last block to the first."""
    size, count = len(trellis.frames), len(trellis.labels)
    units, places = np.full(size, -1, np.int64), np.empty(size, np.int64)
    blank = _end(trellis, bands[-1])[1]
    at = count if blank else count - 1
    for number in range(len(bands) - 2, -1, -1):
        first, stop = number * BLOCK, min((number + 1) * BLOCK, size)
        band, high = bands[number], min(at + 1, bands[number].high)
        # what is further back than a unit a frame has no part in it, unless units are left out
        low = band.low if len(trellis.stars) else max(band.low, at - (stop - first) - 2)
        blank, at = _trace(
            trellis, band.part(low, high), first, stop, (blank, at), units, places
        )  # fmt: skip
    return units, places


def _trace(
    trellis: Trellis,
    band: _Band,
    first: int,
    stop: int,
    end: tuple[bool, int],
    units: Places,
    places: Places,
) -> tuple[bool, int]:
    """Walk a block back from ``end`` (whether in a blank, and where), and say where it began."""
    rows = _Rows([band.unit], [band.place], [], [])
    _advance(trellis, band, first, stop, rows)
    width = len(band.unit)
    unit, place = np.stack(rows.unit[:-1]), np.stack(rows.place[:-1])
    entered = (unit > place[:, 1:]).tobytes()
    moves = (place[:, :-1] > unit).astype(np.uint8)
    direct, barred = unit[:, :-1], _barred(trellis.labels[band.low : band.high])
    if barred is not None:
        direct = direct + barred
    moves[:, 1:] |= (direct > np.maximum(unit, place[:, :-1])[:, 1:]).astype(np.uint8) << 1
    codes = moves.tobytes()
    stars = trellis.stars[(trellis.stars >= band.low) & (trellis.stars <= band.high)]
    numbers = {star: number for number, star in enumerate(stars.tolist())}
    blank, at = end
    for t in range(stop - first - 1, -1, -1):
        if blank:
            number = numbers.get(at, 0)
            if number and rows.leapt[t][number]:
                at = int(stars[np.flatnonzero(rows.peaks[t][:number])[-1]])
            places[first + t] = at
            if at > band.low and entered[t * width + at - band.low - 1]:
                blank, at = False, at - 1
            continue
        units[first + t] = places[first + t] = at
        move = codes[t * width + at - band.low]
        if move & 2:
            at -= 1
        elif move & 1:
            blank = True
    return blank, at
