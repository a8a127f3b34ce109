"""Scores of many pairs of a state and a word at once, in numpy: what a search for words asks for.

A state is a column of nodes here, the shortest context first, -1 where there is none; the numbers
are those of :meth:`NgramModel.score`, to the last bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.levels import Level, Trie

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


class Found(NamedTuple):
    """What was found of P pairs.

    ``scores`` (P,) are natural logarithms; ``nodes`` (order - 1, P) what the words are after the
    states, the shortest n-gram first, -1 where there is none.
    """

    scores: Doubles
    nodes: Ints


class PairScores:
    """Looks up pairs in a trie; it holds views of the trie's arrays and nothing else."""

    def __init__(self, trie: Trie) -> None:
        self.order = trie.order
        self._levels = trie.levels
        self._probs = [_Values(level.probs, level.prob_book) for level in trie.levels]
        self._backoffs = [_Values(level.backoffs, level.backoff_book) for level in trie.levels]

    def column(self, state: tuple[int, ...]) -> tuple[int, ...]:
        """A state of the model as a column of nodes."""
        return *reversed(state), *[-1] * (self.order - 1 - len(state))

    def state(self, column: list[int]) -> tuple[int, ...]:
        """The state of a column."""
        known = [at for at, node in enumerate(column, 1) if node >= 0]
        return tuple(column[: max(known, default=0)][::-1])

    def find(self, states: Ints, words: Ints) -> Found:
        """The pairs of ``states`` (order - 1, P) and ``words`` (P,)."""
        scores = self._probs[0](words)
        nodes = np.full(states.shape, -1)
        nodes[:1] = words
        for length, above in enumerate(states):  # contexts, the shortest first
            pairs = (above >= 0).nonzero()[0]
            if not len(pairs):
                continue  # a longer one may be there
            parents = above[pairs]
            level = self._levels[length + 1]
            places, there = _search(level, self._levels[length].first, parents, words[pairs])
            scores[pairs] += self._backoffs[length](parents)
            hits = pairs[there]
            scores[hits] = self._probs[length + 1](places)
            if length + 1 < len(nodes):
                nodes[length + 1, hits] = places
        return Found(scores, nodes)

    def after(self, nodes: Ints) -> Ints:
        """The states after words that are ``nodes`` (order - 1, P): contexts that change nothing,
        having no children and no back-off weight, are dropped from their ends."""
        states = np.full(nodes.shape, -1)
        used = np.zeros(nodes.shape[1], bool)
        for at in reversed(range(len(nodes))):
            row, level = nodes[at], self._levels[at]
            there = (row >= 0).nonzero()[0]
            node = row[there]
            # code 0 of a book is the weight 0, too
            matters = (level.first[node] < level.first[node + 1]) | (level.backoffs[node] != 0)
            used[there] |= matters
            states[at, used] = row[used]
        return states


class _Values:
    """Numbers of a level, decoded as they are read."""

    def __init__(self, values: Array, book: npt.NDArray[np.float32] | None) -> None:
        self._values = values
        self._book = None if book is None else book.astype(np.float64)

    def __call__(self, at: Ints) -> Doubles:
        values = self._values[at]
        found: Doubles = (
            values.astype(np.float64) if self._book is None else self._book.take(values)
        )
        return found


def _search(level: Level, first: Array, parents: Ints, words: Ints) -> tuple[Ints, Ints]:
    """Where ``words`` (P,) stand among the children of ``parents``, and which of them do.

    All are searched for at once, by steps that are halved: twenty passes at most over a few
    numbers, where a table of keys would be as large as the model.
    """
    begin = first[parents].astype(np.int64, copy=False)
    last = first[parents + 1].astype(np.int64, copy=False) - 1
    some = (begin <= last).nonzero()[0]
    place, last = begin[some], last[some]
    if not len(some):
        return place, some
    held = level.words
    wanted = words[some].astype(held.dtype)
    place -= 1  # before the first child: no word yet that is not above the wanted
    probe = np.empty_like(place)
    seen = np.empty_like(wanted)
    step = 1 << int((last - place).max()).bit_length() - 1
    while step:
        np.add(place, step, out=probe)
        np.minimum(probe, last, out=probe)
        held.take(probe, out=seen, mode="clip")
        np.copyto(place, probe, where=seen <= wanted)
        step >>= 1
    there = (place >= begin[some]) & (held.take(place, mode="clip") == wanted)
    return place[there], some[there]
