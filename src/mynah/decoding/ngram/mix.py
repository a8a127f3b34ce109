"""Models mixed into one: a language of its own beside a general one.

What is to be small is better pruned while the parts are trained, by counts, than mixed and pruned
after, by probabilities (see :func:`mynah.decoding.ngram.prune.prune`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.arpa import UNKNOWN
from mynah.decoding.ngram.levels import BLOCK, Finder, Ints, Rows, Trie, build
from mynah.decoding.ngram.prune import Doubles, reweigh, score_rows
from mynah.errors import ConfigError

_ROUNDS = 50  # of shares that are made better
_STEP = 1e-5  # below which they are as good as they get


def mix(tries: Sequence[Trie], shares: Sequence[float]) -> Trie:
    """The model whose n-grams are those of all ``tries``, and whose probabilities are the means of
    theirs, weighted by ``shares``.

    Words that a model does not know have the probability 0 there. What is no n-gram in any of the
    models backs off in the mixture, which is then not exactly the mean (as in SRILM; Stolcke 2002).

    Args:
        tries: two or more models.
        shares: as many positive numbers; they are divided by their sum.

    Raises:
        ConfigError: there are not as many shares as models, or they are not above 0.
    """
    weights = np.asarray(shares, np.float64)
    if len(weights) != len(tries) or not (weights > 0).all() or not np.isfinite(weights).all():
        raise ConfigError(f"shares: {len(tries)} numbers above 0 are needed, got {list(shares)}")
    parts = [_Part(trie, share) for trie, share in zip(tries, weights / weights.sum(), strict=True)]
    vocab = list(dict.fromkeys(word for trie in tries for word in trie.vocab))
    ids = {word: i for i, word in enumerate(vocab)}
    for part in parts:
        part.name(ids)
    finder, tables = Finder(len(vocab)), []
    for order in range(1, max(trie.order for trie in tries) + 1):
        rows = np.concatenate([part.rows(order) for part in parts if part.trie.order >= order])
        rows = _different(rows, finder)
        scores = np.concatenate([_mean(parts, some) for some in _blocks(rows)] or [np.zeros(0)])
        tables.append(Rows(rows, scores.astype(np.float32), np.zeros(len(rows), np.float32)))
    return reweigh(build(vocab, tables))


def fitting_shares(log_probs: Sequence[npt.ArrayLike]) -> Doubles:
    """The shares with which the mean of some models makes a text most probable.

    Args:
        log_probs: for each model, (M,) natural log-probabilities of the same M words, -inf of
            those that it does not know. What none knows is passed over.

    Returns:
        shares (models,), by expectation maximisation from equal ones; they sum to 1.
    """
    scores = np.asarray(log_probs, np.float64)
    best = scores.max(axis=0)
    known = np.isfinite(best)
    chances = np.exp(scores[:, known] - best[known])
    shares = np.full(len(scores), 1 / len(scores))
    for _ in range(_ROUNDS):
        parts = shares[:, None] * chances
        better = (parts / parts.sum(axis=0)).mean(axis=1)
        done = np.abs(better - shares).max() < _STEP
        shares = better
        if done:
            break
    return np.asarray(shares)


class _Part:
    """One of the models, and its words in numbers of the mixture."""

    def __init__(self, trie: Trie, share: float) -> None:
        self.trie, self.share = trie, share
        self._finder = Finder.of(trie)
        self._outer: Ints = np.zeros(0, np.int64)  # of the model's words
        self._inner: Ints = np.zeros(0, np.int64)  # of the mixture's words, -1 where it has none

    def name(self, ids: dict[str, int]) -> None:
        self._outer = np.array([ids[word] for word in self.trie.vocab], np.int64)
        self._inner = np.full(len(ids), -1, np.int64)
        self._inner[self._outer] = np.arange(len(self._outer))

    def rows(self, order: int) -> Ints:
        """Its n-grams of an order (M, order)."""
        return self._outer[self.trie.rows(order, 0, self.trie.counts[order - 1])]

    def probabilities(self, rows: Ints) -> Doubles:
        """Of the last word of each row (M, n) after those before it."""
        found = np.zeros(len(rows))
        inner = self._inner[rows]
        known = np.flatnonzero(inner[:, -1] >= 0)
        found[known] = np.exp(score_rows(self.trie, self._finder, inner[known, -self.trie.order :]))
        return found


def _different(rows: Ints, finder: Finder) -> Ints:
    """Each of ``rows`` (M, n) once, by its words; the finder, which has those of the orders below,
    gets them, too."""
    if rows.shape[1] == 1:
        return np.arange(finder.size)[:, None]
    keys = finder.join(finder.find_rows(rows[:, :-1]), rows[:, -1])
    keys, places = np.unique(keys, return_index=True)
    finder.keys.append(keys)
    return rows[places]


def _blocks(rows: Ints) -> list[Ints]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def _mean(parts: Sequence[_Part], rows: Ints) -> Doubles:
    mean = sum((part.share * part.probabilities(rows) for part in parts), np.zeros(len(rows)))
    return np.log(np.maximum(mean, np.exp(UNKNOWN)))
