"""A back-off n-gram model that scores words."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.levels import BOS, EOS, UNK, Finder, Ints, Trie
from mynah.decoding.ngram.pairs import PairScores
from mynah.errors import ModelError

State = tuple[int, ...]  # nodes of the last words, the longest context first; () knows nothing


class Successors(NamedTuple):
    """What follows one state with an n-gram of its own; everything else backs off.

    ``words`` (M,) ascending ids and their natural ``log_probs`` (M,); any other word has
    ``backoff`` plus its score after ``shorter``, which is None when the state was the empty one.
    The arrays may be those of the model: they are not to be written into.
    """

    words: npt.NDArray[np.unsignedinteger]
    log_probs: npt.NDArray[np.float32]
    backoff: float
    shorter: State | None


class NgramModel:
    """A back-off n-gram model; scores are natural logarithms.

    A state is a small tuple of integers, equal whenever all that follows is equal: contexts that
    cannot be extended are dropped from it. A model may be used from several threads.
    """

    def __init__(self, trie: Trie, *, memo: int = 1 << 18) -> None:
        """``memo`` bounds how many scores are remembered (about 200 bytes each).

        Raises:
            ModelError: the vocabulary lacks ``<unk>``, ``<s>`` or ``</s>``.
        """
        self.trie = trie
        self.order = trie.order
        self.vocab: Mapping[str, int] = {word: i for i, word in enumerate(trie.vocab)}
        for name in (UNK, BOS, EOS):
            if name not in self.vocab:
                raise ModelError(f"the vocabulary has no {name}")
        self.unk, self.bos, self.eos = (self.vocab[name] for name in (UNK, BOS, EOS))
        # views give Python numbers faster than arrays do
        self._words = [_view(level.words) for level in trie.levels]
        self._first = [_view(level.first) for level in trie.levels]
        self._probs = [_view(level.probs) for level in trie.levels]
        self._backoffs = [_view(level.backoffs) for level in trie.levels]
        self._prob_books = [_book(level.prob_book) for level in trie.levels]
        self._backoff_books = [_book(level.backoff_book) for level in trie.levels]
        self._memo: dict[tuple[State, int], tuple[State, float]] = {}
        self._memo_limit = memo
        self._finder: Finder | None = None
        self._pairs: PairScores | None = None
        self._start = self._shorten([self.bos])

    def word_id(self, word: str) -> int:
        """The id of a word, that of ``<unk>`` when it is not in the vocabulary."""
        return self.vocab.get(word, self.unk)

    def start(self) -> State:
        """The state at the start of a sentence."""
        return self._start

    def null(self) -> State:
        """The state of which nothing is known: the next word has its unigram score."""
        return ()

    def score(self, state: State, word: int) -> tuple[State, float]:
        """The state after ``word``, and log P(word | state)."""
        memo = self._memo
        key = (state, word)
        found = memo.get(key)
        if found is None:
            found = self._score(state, word)
            if len(memo) >= self._memo_limit:
                memo.clear()
            memo[key] = found
        return found

    def end(self, state: State) -> float:
        """log P(``</s>`` | state)."""
        return self.score(state, self.eos)[1]

    def score_sentence(self, words: Iterable[str], *, bos: bool = True, eos: bool = True) -> float:
        """log P of a sentence, its end included; ``bos`` and ``eos`` as in kenlm."""
        state, total = self._start if bos else (), 0.0
        for word in words:
            state, score = self.score(state, self.vocab.get(word, self.unk))
            total += score
        return total + self.end(state) if eos else total

    @property
    def pairs(self) -> PairScores:
        """Scores of many pairs of a state and a word at once."""
        if self._pairs is None:
            self._pairs = PairScores(self.trie)
        return self._pairs

    def score_many(self, state: State, words: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """log P of each of ``words`` (M,) after ``state``: as ``score``, without the states."""
        ids = np.asarray(words).astype(np.int64)
        levels = self.trie.levels
        scores = levels[0].log_probs(ids)
        for length in range(1, len(state) + 1):
            node = state[-length]
            if node < 0:
                continue
            start, stop = self._first[length - 1][node], self._first[length - 1][node + 1]
            scores += self._backoff(length, node)
            children = levels[length].words[start:stop]
            if stop > start:
                at = np.minimum(np.searchsorted(children, ids), stop - start - 1)
                there = children[at] == ids
                scores[there] = levels[length].log_probs(start + at[there])
        return scores

    def successors(self, state: State) -> Successors:
        """The words that have an n-gram after exactly this state."""
        if not state:
            level = self.trie.levels[0]
            return Successors(level.words, level.log_probs(), 0.0, None)
        length, node = len(state), state[0]
        start, stop = self._first[length - 1][node], self._first[length - 1][node + 1]
        level = self.trie.levels[length]
        shorter = self._shorten(list(state[:0:-1]))
        return Successors(
            level.words[start:stop],
            level.log_probs(slice(start, stop)),
            self._backoff(length, node),
            shorter,
        )

    def _score(self, state: State, word: int) -> tuple[State, float]:
        book = self._prob_books[0]
        score = self._probs[0][word] if book is None else book[self._probs[0][word]]
        nodes = [word]
        for length, node in enumerate(reversed(state)):  # contexts, the shortest first
            child = -1
            if node >= 0:
                first, words = self._first[length], self._words[length + 1]
                start, stop = first[node], first[node + 1]
                child = bisect_left(words, word, start, stop) if start < stop else stop
                if child < stop and words[child] == word:
                    book = self._prob_books[length + 1]
                    value = self._probs[length + 1][child]
                    score = value if book is None else book[value]
                else:
                    child = -1
                    book = self._backoff_books[length]
                    value = self._backoffs[length][node]
                    score += value if book is None else book[value]
            nodes.append(child)
        return self._shorten(nodes), float(score)

    def _shorten(self, nodes: list[int]) -> State:
        """The state of the contexts ``nodes``, the shortest first, which are used up: the longest
        go that change nothing, having no children and no back-off weight."""
        del nodes[self.order - 1 :]
        while nodes:
            node, at = nodes[-1], len(nodes) - 1
            if node >= 0:
                first = self._first[at]
                # code 0 of a book is the weight 0, too
                if first[node] < first[node + 1] or self._backoffs[at][node]:
                    break
            nodes.pop()
        nodes.reverse()
        return tuple(nodes)

    def _backoff(self, order: int, node: int) -> float:
        book = self._backoff_books[order - 1]
        value = self._backoffs[order - 1][node]
        return float(value if book is None else book[value])

    def score_ids(self, words: Ints, lengths: Sequence[int] | Ints) -> npt.NDArray[np.float64]:
        """log P of every word of many sentences at once, in numpy.

        Args:
            words: (T,) ids of all sentences, each with its ``</s>`` and without ``<s>``.
            lengths: words of each sentence, ``</s>`` included; their sum is T.

        Returns:
            (T,) natural logarithms; memory is about 100 bytes a word.
        """
        if self._finder is None:
            self._finder = Finder.of(self.trie)
        finder, levels = self._finder, self.trie.levels
        lengths = np.asarray(lengths, dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        place = np.arange(len(words)) - np.repeat(starts, lengths)  # within the sentence
        scores = levels[0].log_probs(words).astype(np.float64)
        # the node of the n - 1 words before each position, <s> included; -1 where there is none
        context = np.where(place > 0, np.roll(words, 1), self.bos)
        for n in range(2, self.order + 1):
            there = context >= 0
            has = np.flatnonzero(there)
            scores[has] += levels[n - 2].log_backoffs(context[has])
            node = np.full(len(words), -1, dtype=np.int64)
            node[has] = finder.find(n, context[has], words[has])
            hit = np.flatnonzero(node >= 0)
            scores[hit] = levels[n - 1].log_probs(node[hit])
            if n < self.order:
                context = np.where(place > 0, np.roll(node, 1), -1)
        return scores


def _view(array: Any) -> Sequence[Any]:
    return memoryview(array)


def _book(book: npt.NDArray[np.float32] | None) -> list[float] | None:
    return None if book is None else book.tolist()
