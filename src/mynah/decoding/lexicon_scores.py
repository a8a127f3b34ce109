"""What the words of a hypothesis score: the language model, the bonus of a word, and scorers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.lexicon import Lexicon

UNKNOWN = "<unk>"

_Word = TypeVar("_Word", int, str)


class WordModel(Protocol):
    """What the search needs of a language model; :class:`mynah.decoding.ngram.NgramModel` has it.

    States are hashable values; scores are natural logarithms.
    """

    def word_id(self, word: str) -> int: ...
    def start(self) -> Any: ...
    def score(self, state: Any, word: int) -> tuple[Any, float]: ...
    def end(self, state: Any) -> float: ...


class WordScorer(Protocol):
    """What else adds to a hypothesis word by word, such as hotwords: see ``decoding.scorer``."""

    def start(self) -> Hashable: ...
    def extend(self, state: Any, token: str) -> tuple[Hashable, float]: ...
    def finish(self, state: Any) -> float: ...


@dataclass(frozen=True)
class WordScores:
    """The sum of all that scores words; word W, one past the lexicon's last, is an unknown one.

    Attributes:
        lexicon: whose words are meant by their numbers.
        model: the language model, if there is one.
        lm_weight: factor of its natural logarithms.
        word_bonus: added for each word.
        lm_unknown: added, before the weight, to the logarithm of a word that the model does not
            know; 0 or less.
        scorers: what else scores words; already weighted.
        ids: the language model's ids of the lexicon's words, and of an unknown one.
    """

    lexicon: Lexicon
    model: WordModel | None = None
    lm_weight: float = 1.0
    word_bonus: float = 0.0
    lm_unknown: float = 0.0
    scorers: tuple[WordScorer, ...] = ()
    ids: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _ids: Sequence[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        table = np.zeros(0, np.int64), tuple[int, ...]()
        if self.model is not None:
            table = _word_ids(self.lexicon, cast(Hashable, self.model))
        object.__setattr__(self, "ids", table[0])
        object.__setattr__(self, "_ids", table[1])

    def start(self) -> tuple[Any, ...]:
        """The states before the first word."""
        first = None if self.model is None else self.model.start()
        return first, *[scorer.start() for scorer in self.scorers]

    def extend(self, states: tuple[Any, ...], word: int) -> tuple[tuple[Any, ...], float]:
        """The states after ``word``, and what it adds."""
        score = self.word_bonus
        state = states[0]
        if self.model is not None:
            number = self._ids[word]
            state, natural = self.model.score(state, number)
            if number == self._ids[-1]:
                natural += self.lm_unknown
            score += self.lm_weight * natural
        if not self.scorers:
            return (state,), score
        text = self.lexicon.words[word] if word < len(self.lexicon.words) else UNKNOWN
        after = [state]
        for scorer, before in zip(self.scorers, states[1:], strict=True):
            state, more = scorer.extend(before, text)
            after.append(state)
            score += more
        return tuple(after), score

    def whole(self, sequences: Sequence[Sequence[int]], *, end: bool) -> list[float]:
        """What sequences of words score from the start, with the end or without."""
        ways = _walk(sequences, self.start(), self.extend)
        return [total + self.finish(states) if end else total for states, total in ways]

    def finish(self, states: tuple[Any, ...]) -> float:
        """What the end of the utterance adds."""
        score = 0.0
        if self.model is not None:
            score = self.lm_weight * self.model.end(states[0])
        for scorer, state in zip(self.scorers, states[1:], strict=True):
            score += scorer.finish(state)
        return score


def rescore_words(
    nbest: Sequence[Hypothesis],
    model: WordModel,
    weight: float,
    *,
    used: WordModel | None = None,
    used_weight: float | None = None,
) -> list[Hypothesis]:
    """Hypotheses by the score that ``model``, a larger one perhaps, gives their words.

    The score of the language model ``used`` in the search, times ``used_weight`` (``weight`` when
    left out), is taken from them first.
    """
    sentences = [[text for text, _, _ in hypothesis.words] for hypothesis in nbest]
    news = _sentences(model, sentences)
    olds = _sentences(used, sentences) if used is not None else [0.0] * len(nbest)
    before = weight if used_weight is None else used_weight
    scored = []
    for hypothesis, new, old in zip(nbest, news, olds, strict=True):
        more = weight * new - before * old
        score, added = hypothesis.score + more, hypothesis.added + more
        scored.append(replace(hypothesis, score=score, added=added))
    return sorted(scored, key=lambda hypothesis: hypothesis.score, reverse=True)


def rescore_sentences(
    nbest: Sequence[Hypothesis],
    log_probs: Sequence[float],
    *,
    weight: float,
    share: float = 1.0,
    bonus: float = 0.0,
    used: WordModel | None = None,
) -> list[Hypothesis]:
    """Hypotheses by the natural logarithms ``log_probs`` that a model of whole sentences gives
    their words, and what the language model ``used`` in the search gave them, together.

    Of ``weight``, the weight of ``used`` in the search, the sentence model gets ``share`` and
    ``used`` the rest; ``bonus`` is added for each word.
    """
    sentences = [[text for text, _, _ in hypothesis.words] for hypothesis in nbest]
    logs = _sentences(used, sentences) if used is not None else [0.0] * len(nbest)
    scored = []
    for hypothesis, log_prob, before in zip(nbest, log_probs, logs, strict=True):
        more = weight * share * (log_prob - before) + bonus * len(hypothesis.words)
        score, added = hypothesis.score + more, hypothesis.added + more
        scored.append(replace(hypothesis, score=score, added=added))
    return sorted(scored, key=lambda hypothesis: hypothesis.score, reverse=True)


def _sentences(model: WordModel, sentences: Sequence[Sequence[str]]) -> list[float]:
    """The natural logarithms that a model gives sentences, their ends included."""

    def extend(state: Any, word: str) -> tuple[Any, float]:
        after: tuple[Any, float] = model.score(state, model.word_id(word))
        return after

    ways = _walk(sentences, model.start(), extend)
    return [total + model.end(state) for state, total in ways]


def _walk(
    sequences: Sequence[Sequence[_Word]],
    start: Any,
    extend: Callable[[Any, _Word], tuple[Any, float]],
) -> Iterator[tuple[Any, float]]:
    """The states after sequences of words and their scores; a beginning that several have is
    scored once."""
    known: dict[tuple[int, _Word], tuple[int, Any, float]] = {}
    for sequence in sequences:
        number, state, total = 0, start, 0.0
        for word in sequence:
            after = known.get((number, word))
            if after is None:
                state, score = extend(state, word)
                after = known[number, word] = len(known) + 1, state, total + score
            number, state, total = after
        yield state, total


@lru_cache(maxsize=4)
def _word_ids(lexicon: Lexicon, model: Any) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    """The model's ids of the lexicon's words, and of an unknown one: for many and for single."""
    ids = (*map(model.word_id, lexicon.words), model.word_id(UNKNOWN))
    return np.array(ids, np.int64), ids
