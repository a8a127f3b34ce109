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
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.options import check_beam
from mynah.decoding.units import Floats, as_frames, best_units, penalise_blank
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
# Best units of a frame, best first: probability and its log, relative to the best of them.
_Top: TypeAlias = dict[int, tuple[float, float]]

_total = itemgetter(0)
_ROOT = _Node(-1, None)


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
        for time, (units, logs, probs, base) in enumerate(self._columns(log_probs), state.frames):
            log_scale += base
            if units[0] == self.blank and lasts.isdisjoint(units):
                worst = beam[-1][0] if len(beam) == self.beam else 0.0
                if len(units) == 1 or beam[0][0] * probs[1] <= worst:
                    if not settled:
                        beam = [_after_blank(prefix) for prefix in beam]
                        settled = True
                    continue
            top = dict(zip(units, zip(probs, logs)))  # noqa: B905  (strict is slower)
            carried = _carry(beam, top, self.blank, time, base)
            beam = _extend(beam, carried, top, self.blank, self.beam, time, base)
            if not beam:
                raise ModelError(f"log-probabilities of frame {time} allow no unit")
            best = beam[0][0]
            if not _LOWEST < best < _HIGHEST:
                beam = [_scaled(prefix, _USUAL / best) for prefix in beam]
                log_scale -= math.log(_USUAL / best)
            lasts = {prefix[7].token for prefix in beam}
            settled = False
        return PrefixBeamState(state.frames + len(log_probs), tuple(beam), log_scale)

    def _columns(
        self, log_probs: Floats
    ) -> Iterator[tuple[list[int], list[float], list[float], float]]:
        """Of each frame: its best units, their log-probabilities and probabilities relative to
        the best, and the log-probability of the best."""
        kept = np.arange(len(log_probs))
        if self.blank_skip is not None:
            kept = np.flatnonzero(log_probs[:, self.blank] <= math.log(self.blank_skip))
        some = log_probs if len(kept) == len(log_probs) else log_probs[kept]
        units, values = best_units(some, self.top_units)
        logs = values.astype(np.float64)
        bases = logs[:, 0].copy()
        if not np.isfinite(bases).all():
            raise ModelError("log-probabilities hold a frame that allows no unit")
        logs -= bases[:, None]
        columns = zip(
            units.tolist(), logs.tolist(), np.exp(logs).tolist(), bases.tolist(), strict=True
        )
        if len(kept) == len(log_probs):
            yield from columns
            return
        known = set(kept.tolist())
        blanks = log_probs[:, self.blank].astype(np.float64).tolist()
        for frame, base in enumerate(blanks):
            yield next(columns) if frame in known else ([self.blank], [0.0], [1.0], base)

    def nbest(self, state: PrefixBeamState, limit: int | None = None) -> list[Hypothesis]:
        """The hypotheses of ``state``, best first, at most ``limit`` of them."""
        return [_hypothesis(prefix, state.log_scale) for prefix in state.beam[:limit]]


def _after_blank(prefix: _Prefix) -> _Prefix:
    """A prefix after a frame of nothing but blank."""
    total, _, _, blank_best, unit_best, blank_times, unit_times, node = prefix
    if blank_best > unit_best:
        return (total, total, 0.0, blank_best, _NEVER, blank_times, None, node)
    return (total, total, 0.0, unit_best, _NEVER, unit_times, None, node)


def _carry(beam: list[_Prefix], top: _Top, blank: int, time: int, base: float) -> list[_Prefix]:
    """The prefixes of the beam after a frame, each with all that it receives, best first."""
    blank_prob, blank_log = top.get(blank, (0.0, _NEVER))
    places: dict[int, int] | None = None
    carried: list[_Prefix] = []
    for place, prefix in enumerate(beam):
        total, _, in_unit, best, unit_best, times, unit_times, node = prefix
        token = node.token
        if token not in top:
            if in_unit == 0.0 and blank_prob == 1.0:
                carried.append(prefix)  # a sure blank after a blank changes nothing
                continue
            if unit_best >= best:
                best, times = unit_best, unit_times
            total *= blank_prob
            carried.append((total, total, 0.0, best + blank_log, _NEVER, times, None, node))
            continue
        prob, log = top[token]
        if unit_best >= best:
            best, times = unit_best, unit_times
        in_blank = total * blank_prob
        if in_unit > 0.0 and unit_times is not None:
            in_unit *= prob
            unit_best += log
            unit_times = (time, max(unit_times[1], log + base), unit_times[2])
        if places is None:
            places = {other[7].key: i for i, other in enumerate(beam)}
        above = places.get(node.parent_key)
        if above is not None and _same(beam[above][7], node.parent):
            arriving, arriving_best, arriving_times = _arrive(beam[above], token, prob, log)
            in_unit += arriving
            # A prefix reached again from a better one takes its times, as in WeNet.
            if arriving > 0.0 and (above < place or arriving_best > unit_best):
                unit_times = (time, log + base, arriving_times)
            unit_best = max(unit_best, arriving_best)
        carried.append(
            (
                in_blank + in_unit,
                in_blank,
                in_unit,
                best + blank_log,
                unit_best,
                times,
                unit_times,
                node,
            )
        )
    carried.sort(key=_total, reverse=True)
    while carried and carried[-1][0] <= 0.0:
        carried.pop()
    return carried


def _arrive(parent: _Prefix, token: int, prob: float, log: float) -> tuple[float, float, _Times]:
    """What a prefix receives from its parent: probability, that of the best path, its times."""
    total, in_blank, _, blank_best, unit_best, blank_times, unit_times, node = parent
    if node.token == token:  # the same unit twice needs a blank between
        return in_blank * prob, blank_best + log, blank_times
    if blank_best > unit_best:
        return total * prob, blank_best + log, blank_times
    return total * prob, unit_best + log, unit_times


def _extend(
    beam: list[_Prefix],
    carried: list[_Prefix],
    top: _Top,
    blank: int,
    size: int,
    time: int,
    base: float,
) -> list[_Prefix]:
    """The ``size`` best of the carried prefixes and of new ones, one unit longer, best first."""
    floor = carried[-1][0] if len(carried) == size else 0.0
    best = beam[0][0]
    found: list[tuple[float, int, int]] = []
    totals: list[float] | None = None  # the best ones so far, as a heap
    members: set[tuple[int, int]] = set()
    for unit, (prob, _) in top.items():
        if unit == blank:
            continue
        if best * prob <= floor:
            break
        if totals is None:
            totals = [prefix[0] for prefix in carried]
            heapify(totals)
            members = {(prefix[7].parent_key, prefix[7].token) for prefix in beam}
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
            found.append((total, place, unit))
            if len(totals) < size:
                heappush(totals, total)
            else:
                heapreplace(totals, total)
            if len(totals) == size:
                floor = totals[0]
    if not found:
        return carried
    for total, place, unit in found:
        if total >= floor:
            parent = beam[place]
            prob, log = top[unit]
            _, path, times = _arrive(parent, unit, prob, log)
            born = (time, log + base, times)
            node = _Node(unit, parent[7])
            carried.append((total, 0.0, total, _NEVER, path, None, born, node))
    carried.sort(key=_total, reverse=True)
    return carried[:size]


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
