"""CTC prefix beam search, exact, incremental, in plain Python over few numbers.

Graves and Jaitly, "Towards end-to-end speech recognition with recurrent neural networks" (2014);
the variant is WeNet's: ``top_units`` units of each frame extend the ``beam`` best prefixes, and a
prefix carries, beside the sum over its alignments, the best of them, which gives its times.

What makes it fast without changing a result:

- numpy finds the best units of all frames at once; the rest is floats, tuples and dicts.
- Sums are kept as scaled probabilities, so that adding two needs no logarithm. A prefix less
  probable than about exp(-800) times the best is lost to underflow.
- A prefix carried over from the last frame can only receive from itself and from its parent;
  a new one only from its parent. So nothing is collected in a table by prefix.
- Units and prefixes are sorted, so the search for new prefixes stops at the first product that
  the worst member of the new beam already beats.
- Probabilities are taken relative to the blank where it dominates: a prefix that only receives a
  blank then stays the same object, and a frame in which this holds for all costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappush, heapreplace
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.options import check_beam
from mynah.decoding.units import Floats, Ints, as_frames, best_units, penalise_blank
from mynah.errors import ModelError

_NEVER = -math.inf
_BLOCK = 512  # frames whose best units are sought at once: bounds the memory for them

# The best probability of a beam is kept within these, far above underflow for the others.
_LOWEST, _USUAL, _HIGHEST = 1e50, 1e150, 1e250


class _Node:
    """A prefix: its last token and the prefix before it. ``key`` stands for the whole."""

    __slots__ = ("key", "parent", "parent_key", "token")

    def __init__(self, token: int, parent: _Node | None) -> None:
        self.token = token
        self.parent = parent
        self.parent_key: int = parent.key if parent is not None else 0
        self.key: int = hash((self.parent_key, token))


# Frame and log-probability of the last token, then those of the tokens before.
_Times: TypeAlias = "tuple[int, float, _Times] | None"

# total (the sum of the next two), probability ending in blank, ending in the last token,
# log-probability of the best path ending in blank, ending in the last token, times of these two.
_Prefix: TypeAlias = tuple[float, float, float, float, float, _Times, _Times, _Node]
_New: TypeAlias = tuple[float, int, int]  # total, place of the parent, place of the unit

_total = itemgetter(0)
_ROOT = _Node(-1, None)


class _Frame(NamedTuple):
    """The best units of a frame, best first."""

    time: int
    units: list[int]
    logs: list[float]
    probs: list[float]  # relative to that of the best unit
    base: float  # log-probability of the best unit


@dataclass(frozen=True, slots=True)
class PrefixBeamState:
    """What a prefix beam search knows after ``frames`` frames: a value, never changed."""

    frames: int
    beam: tuple[_Prefix, ...]
    log_scale: float  # of the totals; best paths have an origin of their own, not needed


@dataclass(frozen=True)
class PrefixBeamSearch:
    """CTC prefix beam search fed chunk by chunk; any chunks give the result of one shot.

    A hypothesis' score is the log of the sum over the alignments that the beam held. Its times
    are those of the best of them: a token stands at the last frame of its run, as in WeNet. Its
    token confidence is the largest probability within the run.

    Attributes:
        beam, top_units, blank_penalty, blank_skip: see :class:`DecodingOptions`.
        blank: unit id of the blank.

    Raises:
        ConfigError: a value out of its range.
    """

    beam: int = 10
    top_units: int = 10
    blank: int = 0
    blank_penalty: float = 0.0
    blank_skip: float | None = None

    def __post_init__(self) -> None:
        check_beam(self.beam, self.top_units, self.blank_penalty, self.blank_skip)

    def start(self) -> PrefixBeamState:
        """The state before the first frame: the empty prefix."""
        empty: _Prefix = (_USUAL, _USUAL, 0.0, 0.0, _NEVER, None, None, _ROOT)
        return PrefixBeamState(0, (empty,), -math.log(_USUAL))

    def advance(self, state: PrefixBeamState, log_probs: npt.ArrayLike) -> PrefixBeamState:
        """The state after the frames ``log_probs`` (T, V); ``state`` itself stays as it is.

        Raises:
            ModelError: a frame of NaN, or one in which nothing is possible.
        """
        frames = as_frames(log_probs)
        for first in range(0, len(frames), _BLOCK):
            block = frames[first : first + _BLOCK]
            state = self._advance(state, penalise_blank(block, self.blank, self.blank_penalty))
        return state

    def _advance(self, state: PrefixBeamState, log_probs: Floats) -> PrefixBeamState:
        beam, log_scale = list(state.beam), state.log_scale
        lasts = {prefix[7].token for prefix in beam}
        settled = False  # no prefix ends in a unit: a further blank changes nothing
        for frame in self._frames(log_probs, state.frames):
            log_scale += frame.base
            repeated = lasts.intersection(frame.units)
            sure = frame.units[0] == self.blank
            # The most that a new prefix can have; the worst member of a full beam is its rival.
            first_unit = 1 if sure else 0
            most = beam[0][0] * frame.probs[first_unit] if len(frame.probs) > first_unit else 0.0
            if sure and not repeated and most <= _floor(beam, self.beam):
                if not settled:
                    beam = [_after_blank(prefix) for prefix in beam]
                    settled = True
                continue
            carried = _carry(beam, frame, repeated, self.blank)
            floor = _floor(carried, self.beam)
            if most > floor:
                found, floor = _find_new(beam, carried, frame, self.blank, self.beam, floor)
                carried += [_born(beam, frame, *new) for new in found if new[0] >= floor]
                carried.sort(key=_total, reverse=True)
                del carried[self.beam :]
                lasts = {prefix[7].token for prefix in carried}
            if not carried:
                raise ModelError(f"log-probabilities of frame {frame.time} allow no unit")
            beam = carried
            settled = False
            best = beam[0][0]
            if not _LOWEST < best < _HIGHEST:
                beam = [_scaled(prefix, _USUAL / best) for prefix in beam]
                log_scale -= math.log(_USUAL / best)
        return PrefixBeamState(state.frames + len(log_probs), tuple(beam), log_scale)

    def _frames(self, log_probs: Floats, first: int) -> Iterator[_Frame]:
        units, logs = self._best(log_probs)
        bases = logs[:, :1]
        if not np.isfinite(bases).all():
            raise ModelError("log-probabilities hold a frame that allows no unit")
        times = range(first, first + len(log_probs))
        probs = np.exp(logs - bases)
        return map(
            _Frame, times, units.tolist(), logs.tolist(), probs.tolist(), bases[:, 0].tolist()
        )

    def _best(self, log_probs: Floats) -> tuple[Ints, Floats]:
        """The best units of each frame and their log-probabilities."""
        if self.blank_skip is None:
            units, logs = best_units(log_probs, self.top_units)
            return units, logs.astype(np.float64)
        blank_logs = log_probs[:, self.blank]
        kept = np.flatnonzero(blank_logs <= math.log(self.blank_skip))
        found, values = best_units(log_probs[kept], self.top_units)
        shape = (len(log_probs), found.shape[1])
        units, logs = np.full(shape, self.blank), np.full(shape, _NEVER)
        logs[:, 0] = blank_logs
        units[kept], logs[kept] = found, values
        return units, logs

    def nbest(self, state: PrefixBeamState, limit: int | None = None) -> list[Hypothesis]:
        """The hypotheses of ``state``, best first, at most ``limit`` of them."""
        return [_hypothesis(prefix, state.log_scale) for prefix in state.beam[:limit]]


def _after_blank(prefix: _Prefix) -> _Prefix:
    """A prefix after a frame of nothing but blank."""
    total, _, _, blank_best, unit_best, blank_times, unit_times, node = prefix
    if blank_best > unit_best:
        return (total, total, 0.0, blank_best, _NEVER, blank_times, None, node)
    return (total, total, 0.0, unit_best, _NEVER, unit_times, None, node)


def _carry(beam: list[_Prefix], frame: _Frame, repeated: set[int], blank: int) -> list[_Prefix]:
    """The prefixes of the beam after a frame, each with all that it receives, best first.

    ``repeated`` are the last tokens that are among the best units of the frame.
    """
    time, units, logs, probs, base = frame
    hits = {unit: (probs[at := units.index(unit)], logs[at]) for unit in repeated}
    blank_prob, blank_log = 0.0, _NEVER
    if blank in units:
        at = units.index(blank)
        blank_prob, blank_log = probs[at], logs[at] - base
    places: dict[int, int] | None = None
    carried: list[_Prefix] = []
    for place, prefix in enumerate(beam):
        total, _, in_unit, best, unit_best, times, unit_times, node = prefix
        hit = hits.get(node.token)
        if hit is None and in_unit == 0.0 and blank_prob == 1.0:
            carried.append(prefix)  # a sure blank after a blank changes nothing
            continue
        ending, ending_times = unit_best, unit_times
        if unit_best >= best:
            best, times = unit_best, unit_times
        best += blank_log
        in_blank = total * blank_prob
        if hit is None:
            carried.append((in_blank, in_blank, 0.0, best, _NEVER, times, None, node))
            continue
        prob, log = hit
        ending += log - base
        in_unit *= prob
        if ending_times is not None:
            peak = ending_times[1]
            ending_times = (time, log if log > peak else peak, ending_times[2])
        if places is None:
            places = {other[7].key: i for i, other in enumerate(beam)}
        above = places.get(node.parent_key)
        if above is not None and _same(beam[above][7], node.parent):
            arriving, arriving_best, arriving_times = _arrive(beam[above], node.token, prob)
            arriving_best += log - base
            in_unit += arriving
            # A prefix reached again from a better one takes its times, as in WeNet.
            if arriving > 0.0 and (above < place or arriving_best > ending):
                ending_times = (time, log, arriving_times)
            if arriving_best > ending:
                ending = arriving_best
        total = in_blank + in_unit
        carried.append((total, in_blank, in_unit, best, ending, times, ending_times, node))
    carried.sort(key=_total, reverse=True)
    while carried and carried[-1][0] <= 0.0:
        carried.pop()
    return carried


def _arrive(parent: _Prefix, token: int, prob: float) -> tuple[float, float, _Times]:
    """What leaves a prefix by a unit: probability, log of the best path before, its times."""
    total, in_blank, _, best, unit_best, times, unit_times, node = parent
    if node.token == token:  # the same unit twice needs a blank between
        return in_blank * prob, best, times
    if best > unit_best:
        return total * prob, best, times
    return total * prob, unit_best, unit_times


def _floor(beam: list[_Prefix], size: int) -> float:
    """What a prefix must surpass to enter a beam of ``size``."""
    return beam[-1][0] if len(beam) == size else 0.0


def _find_new(
    beam: list[_Prefix],
    carried: list[_Prefix],
    frame: _Frame,
    blank: int,
    size: int,
    floor: float,
) -> tuple[list[_New], float]:
    """New prefixes, one unit longer, that may be among the ``size`` best, and the total that they
    must reach for it. Better units and prefixes come first, so that the rest can be left out."""
    best = beam[0][0]
    found: list[_New] = []
    totals = [prefix[0] for prefix in carried]  # the best so far, as a heap
    heapify(totals)
    members = {(prefix[7].parent_key, prefix[7].token) for prefix in beam}
    for at, (unit, prob) in enumerate(zip(frame.units, frame.probs, strict=True)):
        if unit == blank:
            continue
        if best * prob <= floor:
            break
        for place, prefix in enumerate(beam):
            total = prefix[0] * prob
            if total <= floor:
                break
            node = prefix[7]
            if node.token == unit:
                total = prefix[1] * prob
                if total <= floor:
                    continue
            if (node.key, unit) in members:
                continue
            found.append((total, place, at))
            if len(totals) < size:
                heappush(totals, total)
            else:
                heapreplace(totals, total)
            if len(totals) == size:
                floor = totals[0]
    return found, floor


def _born(beam: list[_Prefix], frame: _Frame, total: float, place: int, at: int) -> _Prefix:
    """A new prefix: that at ``place`` of the beam, and the unit ``at`` of the frame."""
    parent, unit, log = beam[place], frame.units[at], frame.logs[at]
    _, best, times = _arrive(parent, unit, 1.0)
    born = (frame.time, log, times)
    return (total, 0.0, total, _NEVER, best + log - frame.base, None, born, _Node(unit, parent[7]))


def _same(one: _Node | None, other: _Node | None) -> bool:
    """Whether two nodes stand for the same tokens."""
    while one is not other:
        if one is None or other is None or one.token != other.token:
            return False
        one, other = one.parent, other.parent
    return True


def _scaled(prefix: _Prefix, factor: float) -> _Prefix:
    return (prefix[0] * factor, prefix[1] * factor, prefix[2] * factor, *prefix[3:])


def _hypothesis(prefix: _Prefix, log_scale: float) -> Hypothesis:
    total, _, _, blank_best, unit_best, blank_times, unit_times, last = prefix
    tokens, times, peaks = [], [], []
    node: _Node | None = last
    while node is not None and node.parent is not None:
        tokens.append(node.token)
        node = node.parent
    cell = blank_times if blank_best > unit_best else unit_times
    while cell is not None:
        times.append(cell[0])
        peaks.append(min(1.0, math.exp(cell[1])))
        cell = cell[2]
    return Hypothesis(
        tokens=tuple(reversed(tokens)),
        score=math.log(total) + log_scale,
        times=tuple(reversed(times)),
        token_confidences=tuple(reversed(peaks)),
    )
