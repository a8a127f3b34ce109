"""n-gram language models as scorers of a search (shallow fusion), by words or by units.

Gulcehre et al., "On using monolingual corpora in neural machine translation" (2015). A model of
words is asked when a word ends, be it spelled in letters, pieces or bytes; hanzi and kana are words
of their own, as in a text cut into characters. A model of units is asked for every unit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol, TypeAlias

from mynah.decoding.options import LmLevel
from mynah.decoding.scorer import Scorer
from mynah.decoding.unit_text import ALONE, NO_TEXT, Spelling, unit_texts, writes_no_words
from mynah.errors import ConfigError

_MEMO = 1 << 16  # answers that are kept
_LOOKED_AT = 20_000  # words of a vocabulary from which its case is told
_SPECIAL = ("<s>", "</s>", "<unk>")

# State of the model, letters of the word in progress, bytes of a character in progress.
_State: TypeAlias = tuple[Hashable, str, bytes]


class Ngram(Protocol):
    """What fusion needs of an n-gram model; scores are natural logarithms."""

    @property
    def vocab(self) -> Mapping[str, int]: ...
    def word_id(self, word: str) -> int: ...
    def start(self) -> Any: ...
    def score(self, state: Any, word: int) -> tuple[Any, float]: ...
    def end(self, state: Any) -> float: ...


class WordFusion:
    """Scores units by the words that they write: a ``Scorer``.

    A word adds ``weight`` * log P(word | words before) + ``bonus``, at its end: when a space, a
    word's first piece or a character that is a word of its own follows, or the utterance ends,
    which adds ``weight`` * log P(</s>). A word that the model does not know is <unk> to it, with
    ``unknown`` (a logarithm, at most 0) on top of what <unk> scores, before the weight.

    Words are asked for in the case of the model's vocabulary when the tokenizer knows one alone.
    """

    def __init__(
        self,
        model: Ngram,
        tokenizer: Spelling,
        *,
        weight: float,
        bonus: float = 0.0,
        unknown: float = 0.0,
    ) -> None:
        self._model = model
        self._weight, self._bonus, self._unknown = weight, bonus, unknown
        self._texts = unit_texts(tokenizer)
        self._case = _case(tokenizer.units, model.vocab)
        self._memo: dict[tuple[_State, int], tuple[_State, float]] = {}
        # A unit ends at most one word more than it holds letters and spaces.
        self.most = max(bonus, 0.0) * (self._texts.longest + 1)

    def start(self) -> Hashable:
        """The state before the first unit."""
        return (self._model.start(), "", b"")

    def extend(self, state: _State, token: int) -> tuple[Hashable, float]:
        """The state after a unit, and what the words that ended add."""
        key = state, token
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            found = self._memo[key] = self._extend(state, token)
        return found

    def _extend(self, state: _State, token: int) -> tuple[_State, float]:
        before, word, waiting = state
        text, waiting = self._texts.write(waiting, token)
        added = 0.0
        for char in text:
            alone = char == NO_TEXT or ALONE.match(char) is not None
            if word and (alone or char == " "):
                before, score = self._score(before, word)
                word, added = "", added + score
            if alone:
                before, score = self._score(before, char)
                added += score
            elif char != " ":
                word += char
        return (before, word, waiting), added

    def finish(self, state: _State) -> float:
        """What the end of the utterance adds: the last word, and the end of the sentence."""
        before, word, _ = state
        added = 0.0
        if word:
            before, added = self._score(before, word)
        return added + self._weight * self._model.end(before)

    def _score(self, before: Any, word: str) -> tuple[Hashable, float]:
        word = self._case(word)
        after, log = self._model.score(before, self._model.word_id(word))
        if word not in self._model.vocab:
            log += self._unknown
        return after, self._weight * log + self._bonus


class UnitFusion:
    """Scores units by a model whose words are the units, as they stand in the table: a ``Scorer``.

    A unit adds ``weight`` * log P(unit | units before) + ``bonus``, the end of the utterance
    ``weight`` * log P(</s>).
    """

    def __init__(
        self, model: Ngram, tokenizer: Spelling, *, weight: float, bonus: float = 0.0
    ) -> None:
        self._model, self._weight, self._bonus = model, weight, bonus
        self._ids = [model.word_id(unit) for unit in tokenizer.units]
        self.most = max(bonus, 0.0)

    def start(self) -> Hashable:
        """The state before the first unit."""
        state: Hashable = self._model.start()
        return state

    def extend(self, state: Any, token: int) -> tuple[Hashable, float]:
        """The state after a unit, and what it adds."""
        after, log = self._model.score(state, self._ids[token])
        return after, self._weight * log + self._bonus

    def finish(self, state: Any) -> float:
        """What the end of the utterance adds."""
        return self._weight * self._model.end(state)


def fuse(
    model: Ngram,
    tokenizer: Spelling,
    *,
    weight: float,
    bonus: float = 0.0,
    unknown: float = 0.0,
    level: LmLevel = "auto",
) -> Scorer:
    """The scorer by which ``model`` takes part in a search over the units of ``tokenizer``.

    ``auto`` takes a model for one of units when all its words are units.

    Raises:
        ConfigError: a model of units that shares none of the tokenizer's, or one of words for a
            tokenizer of phones.
    """
    units = {unit for unit in tokenizer.units if unit}
    if level == "auto":
        level = "unit" if all(word in units for word in _words(model.vocab)) else "word"
    if level == "unit":
        if not any(word in units for word in _words(model.vocab)):
            raise ConfigError("lm: none of its words is a unit of the model; lm_level: use word")
        return UnitFusion(model, tokenizer, weight=weight, bonus=bonus)
    if writes_no_words(tokenizer):
        raise ConfigError(
            "lm: the units of this model are phones, which write no words; "
            "use a lexicon (method lexicon)"
        )
    return WordFusion(model, tokenizer, weight=weight, bonus=bonus, unknown=unknown)


def _words(vocab: Mapping[str, int]) -> Iterator[str]:
    return (word for word in vocab if word not in _SPECIAL)


def _case(units: tuple[str, ...], vocab: Mapping[str, int]) -> Callable[[str], str]:
    """How a word is written to be asked for: units of one case and a vocabulary of the other."""
    of_units = _cased(unit for unit in units if not (unit.startswith("<") and unit.endswith(">")))
    of_words = _cased(islice(_words(vocab), _LOOKED_AT))
    if of_units == "upper" and of_words == "lower":
        return str.lower
    if of_units == "lower" and of_words == "upper":
        return str.upper
    return str


def _cased(texts: Iterator[str]) -> str:
    lower = upper = 0
    for text in texts:
        lower += text != text.upper()
        upper += text != text.lower()
    if min(lower, upper) > 0.01 * max(lower, upper):
        return "both"
    return "lower" if lower > upper else "upper"
