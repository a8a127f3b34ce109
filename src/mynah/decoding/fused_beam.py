"""CTC prefix beam search in which language models and hotwords take part (shallow fusion).

A prefix is ranked by the log of the sum over its alignments plus what the scorers add to its
tokens (Hannun et al., "First-pass large vocabulary continuous speech recognition using
bi-directional recurrent DNNs", 2014). Prefixes, frames and what a frame makes of a prefix are those
of the search without scorers; only the order differs, so the beam is ranked by logarithms.

Scorers are asked once for a prefix and a unit: the answer stays with the prefix. With a bound on
what a token can add, a frame sure of its blank costs as little as without scorers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from heapq import heapify, heappush, heapreplace
from operator import itemgetter
from typing import TypeAlias

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.prefixes import (
    HIGHEST,
    LOWEST,
    NEVER,
    USUAL,
    Frame,
    Node,
    Prefix,
    after_blank,
    born,
    carry,
    hypothesis,
    scaled,
)
from mynah.decoding.scorer import Scorer, most
from mynah.errors import ModelError

_Ranked: TypeAlias = tuple[float, Prefix]
_rank_of = itemgetter(0)

# A new prefix is ranked before its sum is known to the last bit; those so near stay candidates.
_SLACK = 1e-9


class _Scored(Node):
    """A prefix, the state of the scorer after it, and what the scorer has added so far."""

    __slots__ = ("added", "grown", "state")

    def __init__(self, token: int, parent: _Scored | None, state: Hashable, added: float) -> None:
        super().__init__(token, parent)
        self.state = state
        self.added = added
        self.grown: dict[int, tuple[Hashable, float]] = {}  # what the scorer answered, by unit

    def grow(self, scorer: Scorer, unit: int) -> tuple[Hashable, float]:
        """The state after ``unit``, and what it adds; kept in ``grown``."""
        found = self.grown[unit] = scorer.extend(self.state, unit)
        return found


def start_fused(scorer: Scorer) -> Prefix:
    """The empty prefix."""
    node = _Scored(-1, None, scorer.start(), 0.0)
    return (USUAL, USUAL, 0.0, 0.0, NEVER, None, None, node)


def advance_fused(
    scorer: Scorer,
    prefixes: Sequence[Prefix],
    log_scale: float,
    frames: Iterator[Frame],
    *,
    size: int,
    blank: int,
) -> tuple[list[Prefix], float]:
    """The beam of at most ``size`` prefixes, best first, and the scale of its totals.

    Raises:
        ModelError: a frame in which nothing is possible.
    """
    bound = most(scorer)
    beam = list(prefixes)
    ranks = [math.log(prefix[0]) + prefix[7].added for prefix in beam]
    lasts = {prefix[7].token for prefix in beam}
    settled = False  # no prefix ends in a unit: a further blank changes nothing
    for frame in frames:
        log_scale += frame.base
        repeated = lasts.intersection(frame.units)
        sure = frame.units[0] == blank
        first = 1 if sure else 0
        log = frame.logs[first] - frame.base if len(frame.logs) > first else NEVER
        highest = ranks[0] + log + bound if log > NEVER else NEVER  # that a new prefix can reach
        if sure and not repeated and highest <= (ranks[-1] if len(beam) == size else NEVER):
            if not settled:
                beam = [after_blank(prefix) for prefix in beam]
                settled = True
            continue
        carried = carry(beam, frame, repeated, blank)
        ranked = [(math.log(p[0]) + p[7].added, p) for p in carried if p[0] > 0.0]
        if highest > NEVER:
            ranked += _find_new(scorer, bound, beam, ranks, ranked, frame, size, blank)
        if not ranked:
            raise ModelError(f"log-probabilities of frame {frame.time} allow no unit")
        ranked.sort(key=_rank_of, reverse=True)
        del ranked[size:]
        ranks, beam = [rank for rank, _ in ranked], [prefix for _, prefix in ranked]
        lasts = {prefix[7].token for prefix in beam}
        settled = False
        best = max([prefix[0] for prefix in beam])
        if not LOWEST < best < HIGHEST:
            beam = [scaled(prefix, USUAL / best) for prefix in beam]
            beam = [prefix for prefix in beam if prefix[0] > 0.0]
            log_scale -= math.log(USUAL / best)
            ranks = [math.log(prefix[0]) + prefix[7].added for prefix in beam]
    return beam, log_scale


def nbest_fused(scorer: Scorer, beam: Sequence[Prefix], log_scale: float) -> list[Hypothesis]:
    """The hypotheses as if the utterance ended here, best first; the beam can still go on."""
    found = []
    for prefix in beam:
        node = prefix[7]
        assert isinstance(node, _Scored)
        plain = hypothesis(prefix, log_scale)
        added = node.added + scorer.finish(node.state)
        found.append(replace(plain, score=plain.score + added, added=added))
    return sorted(found, key=lambda hypothesis: hypothesis.score, reverse=True)


def _find_new(
    scorer: Scorer,
    bound: float,
    beam: list[Prefix],
    ranks: list[float],
    carried: list[_Ranked],
    frame: Frame,
    size: int,
    blank: int,
) -> list[_Ranked]:
    """New prefixes, one unit longer, that may be among the ``size`` best. Better units and prefixes
    come first, so that the rest can be left out."""
    found: list[tuple[float, float, Prefix, int, Hashable, float]] = []
    heap = [rank for rank, _ in carried]  # the best so far
    heapify(heap)
    floor = heap[0] if len(heap) == size else NEVER
    members = {(prefix[7].parent_key, prefix[7].token) for prefix in beam}
    for at, (unit, log) in enumerate(zip(frame.units, frame.logs, strict=True)):
        if unit == blank:
            continue
        log -= frame.base
        if log == NEVER or ranks[0] + log + bound <= floor:
            break
        prob = frame.probs[at]
        bar = floor - bound - log  # of a prefix, under which the unit cannot lift it
        for prefix, rank in zip(beam, ranks, strict=True):
            if rank <= bar:
                break
            node = prefix[7]
            rank += log
            total = prefix[0] * prob
            if node.token == unit:  # only from the paths that end in blank
                total = prefix[1] * prob
                rank = math.log(total) + node.added if total > 0.0 else NEVER
                if rank + bound <= floor:
                    continue
            if total <= 0.0 or (node.key, unit) in members:
                continue
            assert isinstance(node, _Scored)
            state, score = node.grown.get(unit) or node.grow(scorer, unit)
            rank += score
            if rank <= floor:
                continue
            found.append((rank, total, prefix, at, state, node.added + score))
            if len(heap) < size:
                heappush(heap, rank)
            else:
                heapreplace(heap, rank)
            if len(heap) == size:
                floor = heap[0]
                bar = floor - bound - log
    new = []
    for rank, total, parent, at, state, added in found:
        if rank >= floor - _SLACK:
            before = parent[7]
            assert isinstance(before, _Scored)
            node = _Scored(frame.units[at], before, state, added)
            new.append((math.log(total) + added, born(parent, frame, at, total, node)))
    return new
