"""Scores of many pairs of a state and a word at once, in numpy: what a search for words asks for.

A state is a column of nodes here, the shortest context first, -1 where there is none; the numbers
are those of :meth:`NgramModel.score`, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.levels import Finder, Level, Trie

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_FEW = 1 << 18  # n-grams
_BLOCK = 16  # n-grams: a line of a cache


class Found(NamedTuple):
    """What was found of P pairs.

    ``scores`` (P,) are natural logarithms; ``nodes`` (order - 1, P) what the words are after the
    states, the shortest n-gram first, -1 where there is none.
    """

    scores: Doubles
    nodes: Ints


class PairScores:
    """Looks up pairs in a trie, whose arrays it shares; its own take half a byte an n-gram."""

    def __init__(self, trie: Trie) -> None:
        self.order = trie.order
        finder = Finder(len(trie.vocab))
        # plain views: those of a mapped file are slow to index
        self._first = [np.asarray(level.first) for level in trie.levels]
        self._backoff_codes = [np.asarray(level.backoffs) for level in trie.levels]
        self._probs = [_Values(level.probs, level.prob_book) for level in trie.levels]
        self._backoffs = [
            _Values(codes, level.backoff_book)
            for codes, level in zip(self._backoff_codes, trie.levels, strict=True)
        ]
        self._children = [_Children(level, above, finder) for above, level in pairwise(trie.levels)]

    def column(self, state: Sequence[int]) -> tuple[int, ...]:
        """A state of the model as a column of nodes."""
        return *reversed(state), *[-1] * (self.order - 1 - len(state))

    def state(self, column: Sequence[int]) -> tuple[int, ...]:
        """The state of a column."""
        known = [at for at, node in enumerate(column, 1) if node >= 0]
        return tuple(column[: max(known, default=0)][::-1])

    def find(self, states: Ints, words: Ints) -> Found:
        """The pairs of ``states`` (order - 1, P) and ``words`` (P,)."""
        scores = self._probs[0](words)
        nodes = np.full(states.shape, -1)
        nodes[:1] = words
        for length, above in enumerate(states):  # contexts, the shortest first
            scores += self._backoffs[length].or_zero(above)
            at, places = self._children[length].find(above, words)
            scores[at] = self._probs[length + 1](places)
            if length + 1 < len(nodes):
                nodes[length + 1, at] = places
        return Found(scores, nodes)

    def after(self, nodes: Ints) -> Ints:
        """The states after words that are ``nodes`` (order - 1, P): contexts that change nothing,
        having no children and no back-off weight, are dropped from their ends."""
        states = nodes.copy()
        used = np.zeros(nodes.shape[1], bool)
        for at in reversed(range(len(nodes))):
            node, first = nodes[at], self._first[at]
            # code 0 of a book is the weight 0, too
            matters = (first[node] < first[node + 1]) | (self._backoff_codes[at][node] != 0)
            used |= matters & (node >= 0)
            states[at, ~used] = -1
        return states


class _Values:
    """Numbers of a level, decoded as they are read, or at once when they are few."""

    def __init__(self, values: Array, book: npt.NDArray[np.float32] | None) -> None:
        self._values: Array = np.asarray(values)
        self._book = None if book is None else book.astype(np.float64)
        self._few = len(values) <= _FEW
        if self._few:
            self._values = np.append(self(np.arange(len(values))), 0.0)  # 0 of node -1
            self._book = None

    def __call__(self, at: Ints) -> Doubles:
        values = self._values[at]
        if self._book is not None:
            return self._book.take(values)
        return values.astype(np.float64, copy=False)

    def or_zero(self, at: Ints) -> Doubles:
        """0 of node -1."""
        return self(at) if self._few else np.where(at >= 0, self(at), 0.0)


class _Children:
    """Where words stand among the children of nodes.

    The keys (node, word) of all would take more room than the model. Only those of the first of
    each block are kept, and the block that may hold what is wanted is looked through as a whole.
    """

    def __init__(self, level: Level, above: Level, finder: Finder) -> None:
        words, self._first = np.asarray(level.words), np.asarray(above.first)
        self._join = finder.join
        nodes = np.arange(0, len(words), _BLOCK)
        parents = np.searchsorted(self._first, nodes.astype(self._first.dtype), side="right") - 1
        self._keys = finder.join(parents, words[nodes])
        full = len(words) // _BLOCK * _BLOCK
        self._blocks = words[:full].reshape(-1, _BLOCK)
        self._tail = np.zeros(_BLOCK, words.dtype)  # no node has the places behind the last
        self._tail[: len(words) - full] = words[full:]
        if not full:
            self._blocks = self._tail[None]

    def find(self, parents: Ints, words: Ints) -> tuple[Ints, Ints]:
        """Which of ``words`` (P,) are children of ``parents`` (-1 has none), and these nodes."""
        there = (parents >= 0).nonzero()[0]
        if len(there) < len(parents):
            at, places = self._find(parents[there], words[there])
            return there[at], places
        return self._find(parents, words)

    def _find(self, parents: Ints, words: Ints) -> tuple[Ints, Ints]:
        block = self._keys.searchsorted(self._join(parents, words), side="right")
        block -= 1
        held = self._blocks.take(block, axis=0, mode="clip")
        late = (block == len(self._blocks)).nonzero()[0]
        if len(late):
            held[late] = self._tail
        same = (held == words.astype(held.dtype)[:, None]).ravel().nonzero()[0]
        at = same // _BLOCK
        places, above = block[at] * _BLOCK + same % _BLOCK, parents[at]
        own = (places >= self._first[above]) & (places < self._first[above + 1])
        own = own.nonzero()[0]
        return at[own], places[own]
