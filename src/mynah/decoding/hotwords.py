"""Hotwords: phrases that the user expects, which a search is to prefer.

Phrases are matched in the *text* that the units write, not in the units: whatever way a model
spells a phrase, in pieces, letters or bytes, it is the same phrase. A phrase begins and ends where
words do, so that ``cat`` is found neither in ``category`` nor in ``bobcat``; scripts without spaces
have words that begin and end anywhere. Case and signs are those of the tokenizer.

What a phrase gives is its weight for each unit that the tokenizer cuts it into, as WeNet's context
score, but at most ``cap``, spread over its characters. A character is given the best that a phrase
over it offers, once (see ``phrase_graph``): nested, overlapping and repeated phrases of a list
cannot add up.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mynah.decoding.options import HOTWORD_CAP, check_cap
from mynah.decoding.phrase_graph import Given, PhraseGraph
from mynah.decoding.unit_text import (
    NO_TEXT,
    Spelling,
    UnitTexts,
    stands_alone,
    unit_texts,
    writes_no_words,
)
from mynah.errors import ConfigError, InputError

DEFAULT_WEIGHT = 1.5
LONGEST = 200  # characters of a phrase
_HEAVIEST = 100.0
_SETS = 8  # compiled sets that are kept for a tokenizer
_MEMO = 1 << 16  # answers that are kept

# Node, what was given to the last characters, whether a word may begin now, bytes of a character.
_State: TypeAlias = tuple[int, Given, bool, bytes]
_WordState: TypeAlias = tuple[int, Given]


@dataclass(frozen=True)
class Hotwords:
    """Phrases with weights: natural logarithms for each unit of the phrase.

    The order is of no importance; of a phrase with two weights, the larger counts.

    Raises:
        InputError: an empty phrase, one longer than 200 characters, or a weight that is not above
            0 and at most 100.
    """

    phrases: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for phrase, weight in self.phrases:
            _check(phrase, weight)

    def __len__(self) -> int:
        return len(self.phrases)

    @classmethod
    def parse(cls, entries: Iterable[str], weight: float = DEFAULT_WEIGHT) -> Hotwords:
        """Entries ``phrase`` or ``phrase=3.5``; ``weight`` is that of the former. A phrase that
        holds a ``=`` has to give its weight.

        Raises:
            InputError: as the class, or what follows ``=`` is no number.
        """
        found = []
        for entry in entries:
            phrase, equals, own = entry.rpartition("=")
            if equals:
                found.append((_clean(phrase), _number(own, f"hotwords: {entry!r}")))
            else:
                found.append((_clean(entry), weight))
        return cls(tuple(found))

    @classmethod
    def read(cls, path: str | Path, weight: float = DEFAULT_WEIGHT) -> Hotwords:
        """A UTF-8 file with a phrase a line, and its own weight behind a tab if it has one; empty
        lines and those that begin with ``#`` say nothing.

        Raises:
            InputError: the file cannot be read; a line is wrong, which is then named.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            phrase, tab, own = line.strip().partition("\t")
            if not tab and _ends_in_weight(phrase):
                raise InputError(f"{path}:{number}: {phrase!r}: a weight stands behind a tab")
            value = _number(own, f"{path}:{number}") if tab else weight
            try:
                _check(phrase, value)
            except InputError as error:
                raise InputError(f"{path}:{number}: {error}") from None
            found.append((_clean(phrase), value))
        return cls(tuple(found))

    def scorer(self, tokenizer: Spelling, cap: float = HOTWORD_CAP) -> HotwordScorer:
        """What a search over the units of ``tokenizer`` needs; made once for a set of phrases.

        Raises:
            ConfigError: the units are phones, which do not write words.
            InputError: the model cannot write a phrase.
        """
        with _lock:
            sets = _compiled.setdefault(tokenizer, OrderedDict())
            key = (self, cap)
            found = sets.get(key)
            if found is None:
                found = sets[key] = HotwordScorer(self, tokenizer, cap)
                while len(sets) > _SETS:
                    sets.popitem(last=False)
            sets.move_to_end(key)
            return found

    def word_scorer(
        self,
        tokenizer: Spelling | None = None,
        cap: float = HOTWORD_CAP,
        normalize: Callable[[str], str] = str.lower,
    ) -> HotwordWordScorer:
        """What a search that puts whole words together needs.

        A weight counts for each unit of ``tokenizer``, or, without one, for each word; phrases
        are brought into the form of the words by ``normalize``.

        Raises:
            InputError: a phrase without a word.
        """
        return HotwordWordScorer(self, tokenizer, cap, normalize)


class HotwordScorer:
    """Scores units by the phrases in the text that they write: a ``Scorer``."""

    def __init__(self, hotwords: Hotwords, tokenizer: Spelling, cap: float = HOTWORD_CAP) -> None:
        check_cap(cap)
        if writes_no_words(tokenizer):
            raise ConfigError(
                "hotwords: the units of this model are phones, which write no words; "
                "use a lexicon (method lexicon)"
            )
        self._texts = unit_texts(tokenizer)
        phrases = []
        for phrase, weight in hotwords.phrases:
            text, units = _written(phrase, tokenizer, self._texts)
            symbols, _ = _symbols(text, True)
            if not symbols:
                raise InputError(
                    f"hotwords: {phrase!r}: nothing of it can be written by this model"
                )
            phrases.append((symbols, min(weight * units, cap) / len(symbols)))
        self._graph = PhraseGraph(phrases)
        self._memo: dict[tuple[_State, int], tuple[_State, float]] = {}
        self.most = self._graph.heaviest * self._texts.longest

    def start(self) -> Hashable:
        """The state before the first unit."""
        return (0, (), True, b"")

    def extend(self, state: _State, token: int) -> tuple[Hashable, float]:
        """The state after a unit, and what it adds or takes back."""
        key = state, token
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            found = self._memo[key] = self._extend(state, token)
        return found

    def _extend(self, state: _State, token: int) -> tuple[_State, float]:
        node, given, apart, waiting = state
        text, waiting = self._texts.write(waiting, token)
        symbols, apart_after = _symbols(text, apart)
        if not symbols:
            return (node, given, apart_after, waiting), 0.0
        graph = self._graph
        score = -graph.lent(node, given)
        for symbol in symbols:
            if symbol & 1:  # a word begins: what ended before it was whole
                given, earned = graph.settle(node, given)
                score += earned
            node = graph.follow(node, symbol)
            given = graph.forget(node, given)
        score += graph.lent(node, given)
        return (node, given, apart_after, waiting), score

    def finish(self, state: _State) -> float:
        """What the end of the utterance adds: unfinished phrases give back what they had."""
        node, given, _, _ = state
        return self._graph.settle(node, given)[1] - self._graph.lent(node, given)


class HotwordWordScorer:
    """Scores words by the phrases that they make up: a ``Scorer`` whose tokens are texts.

    ``words`` are those of the phrases: a search with a lexicon can only find what it holds.
    """

    def __init__(
        self,
        hotwords: Hotwords,
        tokenizer: Spelling | None = None,
        cap: float = HOTWORD_CAP,
        normalize: Callable[[str], str] = str.lower,
    ) -> None:
        check_cap(cap)
        self._words: dict[str, int] = {}
        phrases = []
        for phrase, weight in hotwords.phrases:
            words = _split(normalize(phrase))
            if not words:
                raise InputError(f"hotwords: {phrase!r} holds no word")
            units = len(words) if tokenizer is None else len(tokenizer.encode(phrase))
            ids = [self._words.setdefault(word, len(self._words)) for word in words]
            phrases.append((ids, min(weight * max(units, 1), cap) / len(ids)))
        self._graph = PhraseGraph(phrases)
        self._other = len(self._words)  # no phrase has this symbol
        self.words = tuple(self._words)
        self.most = self._graph.heaviest

    def start(self) -> Hashable:
        """The state before the first word."""
        return (0, ())

    def extend(self, state: _WordState, token: str) -> tuple[Hashable, float]:
        """The state after a word, and what it adds or takes back."""
        graph, (node, given) = self._graph, state
        number = self._words.get(token)
        if number is None and not node and not given:
            return state, 0.0
        given_after, earned = graph.settle(node, given)
        node_after = graph.follow(node, self._other if number is None else number)
        given_after = graph.forget(node_after, given_after)
        score = earned + graph.lent(node_after, given_after) - graph.lent(node, given)
        return (node_after, given_after), score

    def finish(self, state: _WordState) -> float:
        """What the end of the utterance adds: unfinished phrases give back what they had."""
        node, given = state
        return self._graph.settle(node, given)[1] - self._graph.lent(node, given)


_compiled: weakref.WeakKeyDictionary[
    Spelling, OrderedDict[tuple[Hotwords, float], HotwordScorer]
] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _written(phrase: str, tokenizer: Spelling, texts: UnitTexts) -> tuple[str, int]:
    """``phrase`` as the model writes it, and into how many units the tokenizer cuts it."""
    units = tokenizer.encode(phrase)
    text = texts.write_all(units)
    missing = NO_TEXT in text
    if tokenizer.unk < 0:  # what has no unit is left out: it is only seen by looking for it
        missing = any(char.isalnum() and not tokenizer.encode(char) for char in set(phrase))
    if missing:
        raise InputError(f"hotwords: {phrase!r} has characters that this model cannot write")
    return text, len(units)


def _symbols(text: str, apart: bool) -> tuple[list[int], bool]:
    """The characters of ``text`` without spaces, each with a flag (its lowest bit): whether a word
    may begin there. ``apart``: whether it may at the first; returned: at what comes after."""
    symbols = []
    for char in text:
        if char == " ":
            apart = True
            continue
        alone = stands_alone(char)
        symbols.append(ord(char) << 1 | (apart or alone))
        apart = alone
    return symbols, apart


def _split(text: str) -> list[str]:
    """Words between spaces, and characters that stand alone."""
    spaced = "".join(
        f" {char} " if not char.isascii() and stands_alone(char) else char for char in text
    )
    return spaced.split()


def _clean(phrase: str) -> str:
    return " ".join(phrase.split())


def _check(phrase: str, weight: float) -> None:
    if not phrase.strip():
        raise InputError("hotwords: an empty phrase")
    if len(phrase) > LONGEST:
        raise InputError(
            f"hotwords: {phrase[:20]!r}… has {len(phrase)} characters; at most {LONGEST}"
        )
    if not 0 < weight <= _HEAVIEST:  # NaN, too
        raise InputError(f"hotwords: {phrase!r}: weight {weight} is not above 0 and at most 100")


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {text.strip()!r} is not a weight") from None
    if not math.isfinite(value):
        raise InputError(f"{where}: {text.strip()!r} is not a weight")
    return value


def _ends_in_weight(line: str) -> bool:
    _, equals, weight = line.rpartition("=")
    try:
        return bool(equals) and not math.isnan(float(weight))
    except ValueError:
        return False
