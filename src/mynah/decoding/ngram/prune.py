"""Entropy pruning (Stolcke 1998): n-grams go whose loss hardly changes the distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.levels import BLOCK, BOS, EOS, Finder, Floats, Ints, Level, Make, Trie

Doubles = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

_SMALL = 1e-9  # of the mass outside a context's n-grams, below which it is rounding


def prune(
    trie: Trie,
    threshold: float,
    *,
    history: Sequence[Floats] | None = None,
    make: Make = np.zeros,
) -> Trie:
    """A smaller model whose back-off weights are right for what is left.

    An n-gram goes when the model's perplexity would grow by a share below ``threshold``, each
    taken by itself; contexts of n-grams that are kept stay. 1e-9 to 1e-6 are usual.

    Args:
        trie: the model.
        threshold: 0 leaves out only what changes nothing, or for the better.
        history: for each order but the highest, (M,) natural log of how probable each n-gram is
            as a context. Without it the model itself says so, by the chain rule, as in SRILM;
            the lower orders of a Kneser-Ney model are no such probabilities (Chelba et al. 2010),
            so counts are better where they are known.
        make: gives the large arrays.
    """
    finder = Finder.of(trie, make)
    joint = list(history) if history is not None else chain(trie)
    kept: list[Array] = [make(count, np.bool_) for count in trie.counts]
    kept[0][:] = True
    for n in range(trie.order, 1, -1):  # from the top: a context of what is kept is kept
        level, mask = trie.levels[n - 1], kept[n - 1]
        if n < trie.order:
            for c, d, start, stop in context_blocks(level.first):
                mask[c:d] = _sums(level.first[c : d + 1], kept[n][start:stop]) > 0
        for c, d, start, stop in context_blocks(trie.levels[n - 2].first):
            losses = _losses(trie, finder, n, joint[n - 2], (c, d, start, stop))
            mask[start:stop] |= losses >= threshold
    return _rebuild(trie, kept, make)


def chain(trie: Trie) -> list[Floats]:
    """log P of the n-grams of each order but the highest as the model has them, word by word.

    ``<s>``, which no model predicts, counts as often as ``</s>``.
    """
    words = list(trie.vocab)
    log_probs = trie.levels[0].log_probs().copy()
    log_probs[words.index(BOS)] = log_probs[words.index(EOS)]
    joint = [log_probs]
    for above, level in zip(trie.levels[:-2], trie.levels[1:-1], strict=True):
        joint.append(np.repeat(joint[-1], np.diff(above.first)) + level.log_probs())
    return joint


def context_blocks(first: npt.NDArray[np.integer]) -> Iterator[tuple[int, int, int, int]]:
    """Contexts c..d - 1 with their children start..stop - 1, as many as make a step."""
    c = 0
    while c < len(first) - 1:
        start = int(first[c])
        most = first.dtype.type(min(start + BLOCK, int(first[-1])))
        d = max(int(np.searchsorted(first, most, side="right")) - 1, c + 1)
        d = min(d, c + BLOCK)  # there may be many without children
        yield c, d, start, int(first[d])
        c = d


def _losses(
    trie: Trie, finder: Finder, n: int, joint: Floats, block: tuple[int, int, int, int]
) -> Doubles:
    """How much the perplexity would grow, relatively, without each n-gram of a block."""
    c, d, start, stop = block
    first = trie.levels[n - 2].first[c : d + 1]
    log_p = trie.levels[n - 1].log_probs(slice(start, stop)).astype(np.float64)
    log_q = lower_log_probs(trie, finder, n, start, stop)
    p, q = np.exp(log_p), np.exp(log_q)
    of = np.repeat(np.arange(d - c), np.diff(first))  # the context of each
    left = np.maximum(1 - _sums(first, p), _SMALL)[of]  # what backs off in the context now
    free = np.maximum(1 - _sums(first, q), _SMALL)[of]
    now = np.log(left / free)
    then = np.log((left + p) / (free + q))
    change = p * (log_q + then - log_p) + left * (then - now)
    weight = np.exp(joint[c:d].astype(np.float64))[of]
    return np.asarray(np.expm1(-weight * change))


def lower_log_probs(trie: Trie, finder: Finder, n: int, start: int, stop: int) -> Doubles:
    """log P(w | h') of n-grams (h, w) of order ``n``, h' being h without its first word."""
    return score_rows(trie, finder, trie.rows(n, start, stop)[:, 1:])


def score_rows(trie: Trie, finder: Finder, rows: Ints) -> Doubles:
    """log P of the last word of each row (M, n) after the words before it."""
    last = rows[:, -1]
    scores = trie.levels[0].log_probs(last).astype(np.float64)
    for length in range(1, rows.shape[1]):
        context = finder.find_rows(rows[:, -1 - length : -1])
        there = np.flatnonzero(context >= 0)
        child = finder.find(length + 1, context[there], last[there])
        backed = there[child < 0]
        scores[backed] += trie.levels[length - 1].log_backoffs(context[backed])
        found = child >= 0
        scores[there[found]] = trie.levels[length].log_probs(child[found])
    return scores


def _sums(first: npt.NDArray[np.integer], values: Array) -> Doubles:
    """The sum of the values of each context's children; the first child is ``values[0]``."""
    total = np.zeros(len(first) - 1)
    some = np.flatnonzero(np.diff(first))
    if len(some):
        at = (first[some] - first[0]).astype(np.intp)
        total[some] = np.add.reduceat(values.astype(np.float64), at)
    return total


def _rebuild(trie: Trie, kept: Sequence[Array], make: Make) -> Trie:
    """The model of the n-grams that are kept, with weights computed anew."""
    levels: list[Level] = []
    for i, (level, mask) in enumerate(zip(trie.levels, kept, strict=True)):
        size = int(np.count_nonzero(mask))
        words, probs = make(size, np.uint32), make(size, np.float32)
        top = i == trie.order - 1
        first = make(0 if top else size + 1, np.int64)
        weights = make(0 if top else size, np.float32)
        at = 0
        for start in range(0, len(mask), BLOCK):
            some = start + np.flatnonzero(mask[start : start + BLOCK])
            to = slice(at, at + len(some))
            words[to], probs[to] = level.words[some], level.log_probs(some)
            if not top:
                weights[to] = level.log_backoffs(some)
                cut = level.first[start : start + BLOCK + 1]
                sums = _sums(cut, kept[i + 1][int(cut[0]) : int(cut[-1])])
                first[at + 1 : at + 1 + len(some)] = first[at] + np.cumsum(sums[some - start])
            at = to.stop
        levels.append(Level(words, probs, weights, first))
    return reweigh(Trie(trie.vocab, tuple(levels)), make)


def reweigh(trie: Trie, make: Make = np.zeros) -> Trie:
    """The model with back-off weights that make the probabilities after every context sum to 1.

    A context whose n-grams leave nothing to back off to keeps the weight that it has.
    """
    finder = Finder.of(trie, make)
    for n in range(2, trie.order + 1):
        above, level = trie.levels[n - 2], trie.levels[n - 1]
        weights = make(len(above), np.float32)
        for c, d, start, stop in context_blocks(above.first):
            first = above.first[c : d + 1]
            p = np.exp(level.log_probs(slice(start, stop)).astype(np.float64))
            left = 1 - _sums(first, p)
            free = 1 - _sums(first, np.exp(lower_log_probs(trie, finder, n, start, stop)))
            fresh = above.log_backoffs(slice(c, d)).astype(np.float64)
            sound = (left > _SMALL) & (free > _SMALL)
            fresh[sound] = np.log(left[sound] / free[sound])
            weights[c:d] = fresh
        better = Level(above.words, above.probs, weights, above.first, above.prob_book)
        trie = Trie(trie.vocab, (*trie.levels[: n - 2], better, *trie.levels[n - 1 :]))
    return trie
