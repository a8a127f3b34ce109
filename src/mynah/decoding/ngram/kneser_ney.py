"""Interpolated modified Kneser-Ney estimates (Chen and Goodman 1998) from counts.

P(w | h) = (a(h w) - D(a(h w))) / sum_v a(h v) + gamma(h) P(w | h'), where a is the raw count at
the highest order and for n-grams that begin with ``<s>``, and elsewhere the number of different
words before the n-gram; gamma(h) is the share of what was taken away. Below the unigrams lies the
uniform distribution over all words but ``<s>``. N-grams left out by a cut-off give all of their
count to gamma.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.counting import BOS_ID, EOS_ID, Counts, Packing
from mynah.decoding.ngram.levels import BLOCK, Finder, Ints, Level, Trie
from mynah.decoding.ngram.scratch import Array, Scratch, changes

log = logging.getLogger(__name__)

NEVER = -99 * np.log(10)  # the log-probability of <s>, by custom
FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts give none, as kenlm's fallback


@dataclass(frozen=True)
class Estimate:
    """A model as it was estimated.

    Attributes:
        trie: its n-grams.
        history: for each order but the highest, (M,) natural log of how often each n-gram occurs,
            per word of the text: the weights of entropy pruning.
        discounts: D1, D2 and D3+ of each order.
    """

    trie: Trie
    history: tuple[npt.NDArray[np.float32], ...]
    discounts: tuple[tuple[float, float, float], ...]


def discounts(of_counts: npt.NDArray[np.int64], order: int) -> tuple[float, float, float]:
    """D1, D2 and D3+ from how many n-grams have the (adjusted) count 1, 2, 3 and 4.

    Where these are too few to give sensible discounts, as in very small or artificial texts,
    fixed ones are taken and the log says so.
    """
    n1, n2, n3, n4 = (float(n) for n in of_counts[1:5])
    if n1 > 0 and n2 > 0 and n3 > 0:
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 <= d <= i for i, d in enumerate(found, start=1)):
            return found
    log.warning(
        "%d-grams: counts of counts %d %d %d %d give no discounts; %s are used",
        order, n1, n2, n3, n4, FALLBACK,
    )  # fmt: skip
    return FALLBACK


def estimate(
    counts: Sequence[Counts],
    vocab: Sequence[str],
    *,
    cutoffs: Sequence[int],
    scratch: Scratch,
) -> Estimate:
    """Estimate a model.

    Args:
        counts: of each order.
        vocab: the words; ids 0, 1 and 2 are ``<unk>``, ``<s>`` and ``</s>``.
        cutoffs: for each order, n-grams that occur so often or less are left out; they must not
            fall with the order, and that of unigrams is 0.
        scratch: where large arrays go; the model lies there, too.
    """
    builder = _Builder(counts[0], vocab, scratch)
    for n, order in enumerate(counts[1:], start=2):
        builder.add(n, order, cutoffs[n - 1], top=n == len(counts))
    return builder.finish()


class _Builder:
    """Levels one after the other; each fills in the back-off weights of the one before."""

    def __init__(self, counts: Counts, vocab: Sequence[str], scratch: Scratch) -> None:
        assert counts.unigrams is not None
        adjusted, raw = counts.unigrams
        self.vocab = vocab
        self.scratch = scratch
        self.packing = Packing.of(len(vocab))
        self.finder = Finder(len(vocab))
        found = discounts(counts.of_counts, 1)
        self.discounts = [found]
        taken = _taken(adjusted, found)
        total = max(int(adjusted.sum()), 1)
        # an empty text leaves everything to the uniform distribution
        share = taken.sum() / total if adjusted.any() else 1.0
        self.probs = (adjusted - taken) / total + share / (len(vocab) - 1)
        self.probs[BOS_ID] = 0
        seen = np.maximum(raw, 1e-9) / max(int(raw.sum()), 1)
        seen[BOS_ID] = seen[EOS_ID]
        self.history = [np.log(seen).astype(np.float32)]
        self.levels = [
            Level(
                np.arange(len(vocab), dtype=np.uint32),
                _logs(self.probs, NEVER, scratch),
                np.zeros(len(vocab), np.float32),
                np.zeros(len(vocab) + 1, np.int64),
            )
        ]
        self.words = int(raw.sum())
        # the node of each n-gram without its first word, in the order below; that of words is none
        self.ends: Array | None = None

    def add(self, n: int, counts: Counts, cutoff: int, *, top: bool) -> None:
        """Estimate order ``n``, and the back-off weights of order ``n - 1``."""
        assert counts.runs is not None
        above = self.levels[-1]
        found = discounts(counts.of_counts, n)
        self.discounts.append(found)
        sums = _Sums(len(above), self.scratch)
        keys, adjusted, raws, ends = (
            self.scratch.pile(t) for t in (np.uint64, np.int64, np.int64, np.int64)
        )
        for part, (count, raw) in counts.runs.merge():
            words = np.stack(self.packing.unpack(part, n), axis=1).astype(np.int64)
            starts = np.flatnonzero(changes(list(words[:, :-1].T)))
            nodes = self.finder.find_rows(words[starts, :-1])
            parents = np.repeat(nodes, np.diff(starts, append=len(words)))
            kept = (raw > cutoff) & (parents >= 0)
            taken = np.where(kept, _taken(count, found), count)
            sums.add(nodes, starts, count, taken, kept)
            keys.append(self.finder.join(parents[kept], words[kept, -1]))
            adjusted.append(count[kept])
            raws.append(raw[kept])
            last = words[kept, -1]
            ends.append(
                last
                if self.ends is None
                else self.finder.find(n - 1, self.ends[parents[kept]], last)
            )
        self.finder.keys.append(keys.array())
        weights = sums.weights(self.scratch)
        self.levels[-1] = Level(above.words, above.probs, weights, sums.first(self.scratch))
        self.ends = ends.array()
        self._level(adjusted.array(), self.ends, sums, found)
        if not top:
            history = raws.array()
            self.history.append(
                _apply(lambda at: np.log(history[at] / self.words), len(history), self.scratch)
            )

    def _level(
        self, adjusted: Array, ends: Array, sums: _Sums, found: tuple[float, float, float]
    ) -> None:
        size, below = len(adjusted), self.probs
        keys, shift = self.finder.keys[-1], self.finder.shift
        self.probs = self.scratch.zeros(size, np.float64)
        words = self.scratch.zeros(size, np.uint32)
        for start in range(0, size, BLOCK):
            at = slice(start, start + BLOCK)
            parents = (keys[at] >> shift).astype(np.int64)
            words[at] = keys[at] & np.uint64((1 << int(shift)) - 1)
            count = adjusted[at]
            share = sums.taken[parents] * below[ends[at]]
            self.probs[at] = (count - _taken(count, found) + share) / sums.total[parents]
        probs = _logs(self.probs, NEVER, self.scratch)
        nothing = self.scratch.zeros(size, np.float32)
        self.levels.append(Level(words, probs, nothing, np.zeros(size + 1, np.int64)))

    def finish(self) -> Estimate:
        """The model."""
        top = self.levels[-1]
        none = np.zeros(0, dtype=np.float32)
        self.levels[-1] = Level(top.words, top.probs, none, np.zeros(0, np.int64))
        history = self.history[: len(self.levels) - 1]
        return Estimate(Trie(self.vocab, tuple(self.levels)), tuple(history), tuple(self.discounts))


class _Sums:
    """What the n-grams of each context sum to."""

    def __init__(self, contexts: int, scratch: Scratch) -> None:
        self.total = scratch.zeros(contexts, np.float64)
        self.taken = scratch.zeros(contexts, np.float64)
        self.children = scratch.zeros(contexts, np.int64)

    def add(self, nodes: Ints, starts: Ints, count: Array, taken: Array, kept: Array) -> None:
        """Add n-grams whose contexts ``nodes`` begin at ``starts``; -1 is no context."""
        there = nodes >= 0
        nodes = nodes[there]
        # a context may go on in the next part, but is there once in each
        self.total[nodes] += np.add.reduceat(count, starts)[there]
        self.taken[nodes] += np.add.reduceat(taken, starts)[there]
        self.children[nodes] += np.add.reduceat(kept.astype(np.int64), starts)[there]

    def weights(self, scratch: Scratch) -> npt.NDArray[np.float32]:
        """The log back-off weight of each context; 0 where nothing followed it."""

        def weight(at: slice) -> Array:
            total, taken = self.total[at], self.taken[at]
            share = np.divide(taken, total, out=np.ones_like(total), where=total > 0)
            logs: Array = np.log(np.maximum(share, np.exp(NEVER)))
            return logs

        return _apply(weight, len(self.total), scratch)

    def first(self, scratch: Scratch) -> Ints:
        """Where the children of each context begin."""
        first = scratch.zeros(len(self.children) + 1, np.int64)
        np.cumsum(self.children, out=first[1:])
        return first


def _taken(count: Array, found: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """The discount of each count."""
    return np.array([0.0, *found])[np.minimum(count, 3)]


def _logs(probs: Array, least: float, scratch: Scratch) -> npt.NDArray[np.float32]:
    smallest = np.exp(least)
    return _apply(lambda at: np.log(np.maximum(probs[at], smallest)), len(probs), scratch)


def _apply(
    function: Callable[[slice], Array], size: int, scratch: Scratch
) -> npt.NDArray[np.float32]:
    """``function`` of every slice of ``size`` rows, as one float32 array."""
    result = scratch.zeros(size, np.float32)
    for start in range(0, size, BLOCK):
        at = slice(start, min(start + BLOCK, size))
        result[at] = function(at)
    return result
