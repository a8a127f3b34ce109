"""Contexts of words as numbers, which the tokens of a lexicon search carry.

The states of an utterance's language model and scorers are numbered in the order in which they are
met. Of the words that may end in a frame few score well enough to go on: an n-gram model scores
them all at once, and only of those few are the states after them made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from mynah.decoding.lexicon_scores import WordScores
from mynah.decoding.lexicon_trace import FloatArray, IndexArray
from mynah.decoding.ngram import NgramModel
from mynah.errors import ModelError

MOST_CONTEXTS = 1 << 24  # their number is a part of a token's key
Reached = tuple[IndexArray, IndexArray, FloatArray]


class Contexts(Protocol):
    """Numbers for the states of one utterance; 0 is the start."""

    def reach(
        self, contexts: IndexArray, words: IndexArray, before: FloatArray, floor: float
    ) -> Reached:
        """Which of N words after contexts reach ``floor`` when what they add is added to
        ``before``: their places, the contexts after them, and what was reached."""
        ...

    def finish(self, context: int) -> float:
        """What the end of the utterance adds after a context."""
        ...


def make_contexts(scores: WordScores) -> Contexts:
    """The contexts of a new utterance."""
    if isinstance(scores.model, NgramModel):
        return NgramContexts(scores, scores.model)
    return AnyContexts(scores)


class AnyContexts:
    """Contexts of any scores; every pair is scored by itself, once."""

    def __init__(self, scores: WordScores) -> None:
        self.scores = scores
        self.states: list[tuple[Any, ...]] = [scores.start()]
        self._numbers: dict[tuple[Any, ...], int] = {self.states[0]: 0}
        self._after: dict[tuple[int, int], tuple[int, float]] = {}

    def reach(
        self, contexts: IndexArray, words: IndexArray, before: FloatArray, floor: float
    ) -> Reached:
        after, added = self.extend(contexts.tolist(), words.tolist())
        score = before + added
        good = np.flatnonzero(score >= floor)
        return good, after[good], score[good]

    def extend(self, contexts: list[int], words: list[int]) -> tuple[IndexArray, FloatArray]:
        """The contexts after words, and what they add: (N,) each, for N pairs."""
        known = self._after
        pairs = list(zip(contexts, words, strict=True))
        found = list(map(known.get, pairs))
        if None in found:
            for i, after in enumerate(found):
                if after is None:
                    found[i] = known.get(pairs[i]) or self._extend(pairs[i])
        after_all: Sequence[Any] = found
        numbers, scores = zip(*after_all, strict=True)
        return np.array(numbers, np.int64), np.array(scores, np.float64)

    def _extend(self, pair: tuple[int, int]) -> tuple[int, float]:
        context, word = pair
        states, score = self.scores.extend(self.states[context], word)
        number = self._numbers.get(states)
        if number is None:
            number = self._numbers[states] = _next(len(self.states))
            self.states.append(states)
        after = self._after[pair] = (number, score)
        return after

    def finish(self, context: int) -> float:
        return self.scores.finish(self.states[context])


class NgramContexts:
    """Contexts of an n-gram model, and of scorers beside it.

    A state is a column: the nodes of the model (see :class:`PairScores`), and below them the
    number of what the scorers know.
    """

    def __init__(self, scores: WordScores, model: NgramModel) -> None:
        self._scores, self._pairs = scores, model.pairs
        self._beside = AnyContexts(replace(scores, model=None, word_bonus=0.0))
        start = (*self._pairs.column(model.start()), 0)
        self._numbers: dict[tuple[int, ...], int] = {start: 0}
        self._columns = np.zeros((len(start), 256), np.int64)
        self._columns[:, 0] = start

    def reach(
        self, contexts: IndexArray, words: IndexArray, before: FloatArray, floor: float
    ) -> Reached:
        scores = self._scores
        columns = self._columns.take(contexts, axis=1)
        ids = scores.ids[words]
        natural, nodes = self._pairs.find(columns[:-1], ids)
        if scores.lm_unknown:
            natural += scores.lm_unknown * (ids == scores.ids[-1])
        added = scores.word_bonus + scores.lm_weight * natural
        if scores.scorers:
            columns[-1], more = self._beside.extend(columns[-1].tolist(), words.tolist())
            added += more
        score = before + added
        good = (score >= floor).nonzero()[0]
        after = np.concatenate([self._pairs.after(nodes[:, good]), columns[-1:, good]])
        return good, self._number(after), score[good]

    def _number(self, columns: IndexArray) -> IndexArray:
        """The numbers of states, new ones for those that were not met before."""
        numbers, keys = self._numbers, list(zip(*columns.tolist(), strict=True))
        found = list(map(numbers.get, keys))
        if None in found:
            new = [key for key in dict.fromkeys(keys) if key not in numbers]
            first, stop = len(numbers), len(numbers) + len(new)
            _next(stop - 1)
            if stop > self._columns.shape[1]:
                room = np.zeros((len(columns), max(stop, 2 * first) - first), np.int64)
                self._columns = np.concatenate([self._columns[:, :first], room], axis=1)
            self._columns[:, first:stop] = np.array(new).T
            numbers.update(zip(new, range(first, stop), strict=True))
            found = list(map(numbers.get, keys))
        return np.array(found, np.int64)

    def finish(self, context: int) -> float:
        *nodes, beside = self._columns[:, context].tolist()
        model_state = self._pairs.state(nodes)
        return self._scores.finish((model_state, *self._beside.states[beside][1:]))


def _next(number: int) -> int:
    """``number``, unless no key has room for it."""
    if number >= MOST_CONTEXTS:
        raise ModelError(f"lexicon: an utterance of more than {MOST_CONTEXTS} contexts")
    return number
