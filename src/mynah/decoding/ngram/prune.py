"""Entropy pruning (Stolcke 1998): n-grams go whose loss hardly changes the distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.levels import BOS, EOS, Finder, Floats, Ints, Level, Trie

Doubles = npt.NDArray[np.float64]

_BLOCK = 1 << 18  # n-grams of a step, a power of two
_SMALL = 1e-9  # of the mass outside a context's n-grams, below which it is rounding


def prune(
    trie: Trie, threshold: float, *, history: Sequence[Floats] | None = None, min_order: int = 2
) -> Trie:
    """A smaller model whose back-off weights are right for what is left.

    An n-gram goes when the relative change of the model's perplexity would be below
    ``threshold``, each taken by itself, contexts of kept n-grams stay. 1e-9 to 1e-6 are usual.

    Args:
        trie: the model.
        threshold: 0 keeps everything but what changes nothing.
        history: for each order but the highest, (M,) natural log of how probable each n-gram is
            as a context. Without it the model itself says so, by the chain rule, as SRILM does;
            the lower orders of a Kneser-Ney model are no such probabilities (Chelba et al. 2010),
            so counts are better where they are known.
        min_order: orders below it are kept whole.
    """
    finder = Finder.of(trie)
    joint = list(history) if history is not None else chain(trie)
    kept: list[npt.NDArray[np.bool_]] = []  # from the highest order downwards
    for n in range(trie.order, 1, -1):
        level = trie.levels[n - 1]
        needed = np.zeros(len(level), dtype=np.bool_)
        if kept:
            needed = _count(level.first, kept[-1]) > 0
        if n < max(min_order, 2):
            kept.append(np.ones(len(level), dtype=np.bool_))
            continue
        kept.append(needed | (_losses(trie, finder, n, joint[n - 2]) >= threshold))
    return _rebuild(trie, kept[::-1])


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


def _losses(trie: Trie, finder: Finder, n: int, joint: Floats) -> Doubles:
    """How much the perplexity would grow, relatively, without each n-gram of order ``n``."""
    above, level = trie.levels[n - 2], trie.levels[n - 1]
    lower = lower_log_probs(trie, finder, n)
    inside, outside = _sums(above.first, level.log_probs()), _sums(above.first, lower)
    losses = np.zeros(len(level))
    for start, stop in _blocks(len(level)):
        log_p = level.log_probs(slice(start, stop)).astype(np.float64)
        log_q = lower[start:stop]
        parents = level.parents(start, stop, above)
        left = np.maximum(1 - inside[parents], _SMALL)  # what backs off in the context now
        free = np.maximum(1 - outside[parents], _SMALL)
        p, q = np.exp(log_p), np.exp(log_q)
        now = np.log(left / free)
        then = np.log((left + p) / (free + q))
        change = p * (log_q + then - log_p) + left * (then - now)
        losses[start:stop] = np.expm1(-np.exp(joint[parents].astype(np.float64)) * change)
    return losses


def lower_log_probs(trie: Trie, finder: Finder, n: int) -> Doubles:
    """log P(w | h') of each n-gram (h, w) of order ``n``, h' being h without its first word."""
    result = np.empty(len(trie.levels[n - 1]))
    for start, stop in _blocks(len(result)):
        rows = trie.rows(n, start, stop)[:, 1:]
        result[start:stop] = score_rows(trie, finder, rows)
    return result


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


def _blocks(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]


def _sums(first: npt.NDArray[np.integer], log_probs: npt.NDArray[np.floating]) -> Doubles:
    """The sum of the probabilities of each context's children."""
    probs = np.exp(log_probs.astype(np.float64))
    result = np.zeros(len(first) - 1)
    some = np.flatnonzero(np.diff(first))
    if len(some):
        result[some] = np.add.reduceat(probs, np.asarray(first[some], dtype=np.intp))
    return result


def _count(first: npt.NDArray[np.integer], kept: npt.NDArray[np.bool_]) -> Ints:
    """How many children of each context are kept."""
    total = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum(kept, out=total[1:])
    counts: Ints = np.diff(total[first])
    return counts


def _rebuild(trie: Trie, kept: Sequence[npt.NDArray[np.bool_]]) -> Trie:
    """The model of the n-grams that are kept (orders 2 and up), weights computed anew."""
    masks = [np.ones(len(trie.levels[0]), dtype=np.bool_), *kept]
    top = trie.order - 1
    levels: list[Level] = []
    for i, (level, mask) in enumerate(zip(trie.levels, masks, strict=True)):
        first = np.zeros(0, dtype=np.int64)
        weights = np.zeros(0, dtype=np.float32)
        if i < top:
            first = np.zeros(int(mask.sum()) + 1, dtype=np.int64)
            np.cumsum(_count(level.first, masks[i + 1])[mask], out=first[1:])
            weights = level.log_backoffs()[mask]
        levels.append(Level(level.words[mask], level.log_probs()[mask], weights, first))
    return reweigh(Trie(trie.vocab, tuple(levels)))


def reweigh(trie: Trie) -> Trie:
    """The model with back-off weights that make the probabilities after every context sum to 1.

    A context whose n-grams leave nothing to back off to keeps the weight that it has.
    """
    for n in range(2, trie.order + 1):
        finder = Finder.of(Trie(trie.vocab, trie.levels[:n]))
        above, level = trie.levels[n - 2], trie.levels[n - 1]
        inside = 1 - _sums(above.first, level.log_probs())
        outside = 1 - _sums(above.first, lower_log_probs(trie, finder, n))
        weights = above.log_backoffs().astype(np.float64)
        sound = (inside > _SMALL) & (outside > _SMALL)
        weights[sound] = np.log(inside[sound] / outside[sound])
        weights[np.diff(above.first) == 0] = 0
        better = Level(above.words, above.log_probs(), weights.astype(np.float32), above.first)
        levels = (*trie.levels[: n - 2], better, *trie.levels[n - 1 :])
        trie = Trie(trie.vocab, levels)
    return trie
