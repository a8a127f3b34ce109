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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappush, heapreplace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.decoding.fused_beam import advance_fused, nbest_fused, start_fused
from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.options import check_beam
from mynah.decoding.prefixes import (
    HIGHEST,
    LOWEST,
    NEVER,
    ROOT,
    USUAL,
    Frame,
    Node,
    Prefix,
    after_blank,
    born,
    carry,
    hypothesis,
    scaled,
    total_of,
)
from mynah.decoding.scorer import Scorer, add_up
from mynah.decoding.units import Floats, Ints, as_frames, best_units, penalise_blank
from mynah.errors import ModelError

_BLOCK = 512  # frames whose best units are sought at once: bounds the memory for them

_New: TypeAlias = tuple[float, int, int]  # total, place of the parent, place of the unit


@dataclass(frozen=True, slots=True)
class PrefixBeamState:
    """What a prefix beam search knows after ``frames`` frames: a value, never changed."""

    frames: int
    beam: tuple[Prefix, ...]
    log_scale: float  # of the totals; best paths have an origin of their own, not needed


@dataclass(frozen=True)
class PrefixBeamSearch:
    """CTC prefix beam search fed chunk by chunk; any chunks give the result of one shot.

    A hypothesis' score is the log of the sum over the alignments that the beam held. Its times
    are those of the best of them: a token stands at the last frame of its run, as in WeNet. Its
    token confidence is the largest probability within the run.

    With scorers, prefixes are ranked by that score plus what the scorers add (see ``fused_beam``).
    ``nbest`` then adds what they say of the end, as if the utterance ended there, and sorts again;
    ``Hypothesis.added`` is the scorers' part of the score. The state does not end, so that partial
    results can be taken at any time. A state belongs to the scorers that it was started with.

    Attributes:
        beam, top_units, blank_penalty, blank_skip: see :class:`DecodingOptions`.
        blank: unit id of the blank.
        scorers: language models and hotwords that take part.

    Raises:
        ConfigError: a value out of its range.
    """

    beam: int = 10
    top_units: int = 10
    blank: int = 0
    blank_penalty: float = 0.0
    blank_skip: float | None = None
    scorers: Sequence[Scorer] = ()

    def __post_init__(self) -> None:
        check_beam(self.beam, self.top_units, self.blank_penalty, self.blank_skip)

    def start(self) -> PrefixBeamState:
        """The state before the first frame: the empty prefix."""
        if self.scorers:
            return PrefixBeamState(0, (start_fused(add_up(self.scorers)),), -math.log(USUAL))
        empty: Prefix = (USUAL, USUAL, 0.0, 0.0, NEVER, None, None, ROOT)
        return PrefixBeamState(0, (empty,), -math.log(USUAL))

    def advance(self, state: PrefixBeamState, log_probs: npt.ArrayLike) -> PrefixBeamState:
        """The state after the frames ``log_probs`` (T, V); ``state`` itself stays as it is.

        Raises:
            ModelError: a frame of NaN, or one in which nothing is possible.
        """
        frames = as_frames(log_probs)
        for first in range(0, len(frames), _BLOCK):
            block = frames[first : first + _BLOCK]
            block = penalise_blank(block, self.blank, self.blank_penalty)
            state = self._fused(state, block) if self.scorers else self._advance(state, block)
        return state

    def _fused(self, state: PrefixBeamState, log_probs: Floats) -> PrefixBeamState:
        beam, log_scale = advance_fused(
            add_up(self.scorers),
            state.beam,
            state.log_scale,
            self._frames(log_probs, state.frames),
            size=self.beam,
            blank=self.blank,
        )
        return PrefixBeamState(state.frames + len(log_probs), tuple(beam), log_scale)

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
                    beam = [after_blank(prefix) for prefix in beam]
                    settled = True
                continue
            carried = carry(beam, frame, repeated, self.blank)
            carried.sort(key=total_of, reverse=True)
            while carried and carried[-1][0] <= 0.0:
                carried.pop()
            floor = _floor(carried, self.beam)
            if most > floor:
                found, floor = _find_new(beam, carried, frame, self.blank, self.beam, floor)
                for total, place, at in found:
                    if total >= floor:
                        parent = beam[place]
                        node = Node(frame.units[at], parent[7])
                        carried.append(born(parent, frame, at, total, node))
                carried.sort(key=total_of, reverse=True)
                del carried[self.beam :]
                lasts = {prefix[7].token for prefix in carried}
            if not carried:
                raise ModelError(f"log-probabilities of frame {frame.time} allow no unit")
            beam = carried
            settled = False
            best = beam[0][0]
            if not LOWEST < best < HIGHEST:
                beam = [scaled(prefix, USUAL / best) for prefix in beam]
                log_scale -= math.log(USUAL / best)
        return PrefixBeamState(state.frames + len(log_probs), tuple(beam), log_scale)

    def _frames(self, log_probs: Floats, first: int) -> Iterator[Frame]:
        units, logs = self._best(log_probs)
        bases = logs[:, :1]
        if not np.isfinite(bases).all():
            raise ModelError("log-probabilities hold a frame that allows no unit")
        times = range(first, first + len(log_probs))
        probs = np.exp(logs - bases)
        return map(
            Frame, times, units.tolist(), logs.tolist(), probs.tolist(), bases[:, 0].tolist()
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
        units, logs = np.full(shape, self.blank), np.full(shape, NEVER)
        logs[:, 0] = blank_logs
        units[kept], logs[kept] = found, values
        return units, logs

    def nbest(self, state: PrefixBeamState, limit: int | None = None) -> list[Hypothesis]:
        """The hypotheses of ``state``, best first, at most ``limit`` of them."""
        if self.scorers:
            return nbest_fused(add_up(self.scorers), state.beam, state.log_scale)[:limit]
        return [hypothesis(prefix, state.log_scale) for prefix in state.beam[:limit]]


def _floor(beam: list[Prefix], size: int) -> float:
    """What a prefix must surpass to enter a beam of ``size``."""
    return beam[-1][0] if len(beam) == size else 0.0


def _find_new(
    beam: list[Prefix],
    carried: list[Prefix],
    frame: Frame,
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
