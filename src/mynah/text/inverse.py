"""Inverse text normalisation: spoken numbers to written ones, in English and Chinese.

The grammars are those of wetext (extra ``text``). They see only the neighbourhood of words that
are numbers: what is far from one cannot change, nothing is read from the network or written to
disk, and a text of any length costs what its numbers cost. What they give is mapped back to the
words that it came from, and taken with these exceptions:

- English: ordinals of one word stay (``wait a second``), so do pairs that may be a time or not
  (``nine eleven``) unless a word before says so (``at nine fifteen``); ``a hundred and two`` counts
  as ``one hundred and two``; hours have no leading zero, ``%`` has no space, and five digits and
  more have commas.
- Chinese: dates, times and what has a unit keep their characters and get digits: ``2026年11月26日``
  and ``20公里``, not ``2026/11/26`` and ``20km``; so nothing around them is lost, spaces included.
  A few idioms stay.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mynah.errors import ConfigError, MissingDependency
from mynah.text.characters import is_alone

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Span:
    """Words ``first`` to one past the last, and how they are written."""

    first: int
    stop: int
    text: str


@dataclass(frozen=True)
class _Found:
    """What the grammar says of characters ``start`` to ``stop`` of a snippet."""

    kind: str
    start: int
    stop: int
    text: str


_LOCK = threading.Lock()
_GAP = 4  # words that may lie between numbers read together, and are read around them
_LONGEST = 20  # words read together
_LONGEST_WORD = 32  # characters; a longer one is no number, and nothing reaches across it


def _words(text: str) -> list[str]:
    return text.split()


_SMALL = _words("one two three four five six seven eight nine ten eleven twelve")
_TEENS = _words("thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_LARGE = _words("hundred thousand million billion trillion")
_ORDINALS = _words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth "
    "fiftieth sixtieth seventieth eightieth ninetieth hundredth thousandth millionth"
)
_DECADES = _words("twenties thirties forties fifties sixties seventies eighties nineties")
_CARDINALS = frozenset(["zero", *_SMALL, *_TEENS, *_TENS, *_LARGE])
_NUMBERS = _CARDINALS | frozenset([*_ORDINALS, *_DECADES])
_BEFORE_TIMES = frozenset(_words("at by until till before after around about from since"))
_TIME_WORDS = frozenset(_words("o'clock oclock a p am pm past to half quarter"))
_MINUTES = frozenset([*_SMALL[9:], *_TEENS, *_TENS, "oh", "o"])
_WANTED = frozenset(
    _words("money date time measure cardinal ordinal decimal telephone fraction math")
)

_DIGITS = {c: str(n) for n, c in enumerate("零一二三四五六七八九")} | {
    "〇": "0", "幺": "1", "两": "2"
}  # fmt: skip
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
_HAN_NUMBER = frozenset([*_DIGITS, *_UNITS])
_HAN_RUN = re.compile(f"[{''.join(_HAN_NUMBER)}]+(?:点[{''.join(_DIGITS)}]+)?")
_HAN_PLAIN_RUN = re.compile(f"[{''.join(_HAN_NUMBER)}]+")
_IDIOMS = re.compile(
    "三三两两|一五一十|七七八八|千千万万|乱七八糟|三长两短|五湖四海|四面八方|九牛一毛|百分百|"
    "七上八下|三言两语|接二连三|颠三倒四|丢三落四|不三不四|千方百计|千言万语|一一|三五成群"
)
_HAN = re.compile("[\u4e00-\u9fff]")


def check_language(language: str) -> str:
    """``"en"`` or ``"zh"``, from a code such as ``zh-CN``.

    Raises:
        ConfigError: there are no grammars for it.
    """
    base = language.lower().replace("_", "-").split("-")[0]
    base = {"cmn": "zh"}.get(base, base)
    if base not in LANGUAGES:
        raise ConfigError(
            f"itn: there is none for {language!r}, only for {' and '.join(LANGUAGES)}"
        )
    return base


class InverseNormalizer:
    """Finds spoken numbers among words.

    Raises:
        ConfigError: a language without grammars.
        MissingDependency: wetext is not installed.
    """

    def __init__(self, language: str) -> None:
        self.language = check_language(language)
        _load(self.language)

    def __call__(self, words: Sequence[str], borders: Sequence[bool] = ()) -> list[Span]:
        """What to write otherwise, in order and without overlap.

        ``words`` are lower-case and without punctuation; ``borders[i]`` says that nothing reaches
        across the end of word i.
        """
        spans: list[Span] = []
        for first, stop in self._runs(words, borders):
            for span in self._read(words, first, stop):
                if not spans or span.first >= spans[-1].stop:
                    spans.append(span)
        return spans

    def _runs(self, words: Sequence[str], borders: Sequence[bool]) -> Iterator[tuple[int, int]]:
        """Neighbourhoods of numbers: words ``first`` to one past the last."""
        edge = 0  # nothing before it can be reached
        for place, word in enumerate(words):
            if len(word) > _LONGEST_WORD:
                yield from self._within(words, edge, place)
                edge = place + 1
            elif place < len(borders) and borders[place]:
                yield from self._within(words, edge, place + 1)
                edge = place + 1
        yield from self._within(words, edge, len(words))

    def _within(self, words: Sequence[str], edge: int, end: int) -> Iterator[tuple[int, int]]:
        test = _is_number if self.language == "en" else _has_han_number
        gap, first, last = _GAP, -1, -1
        for place in range(edge, end):
            if not test(words[place]):
                continue
            if first >= 0 and (place - last > gap or place - first >= _LONGEST):
                stop = min(last + gap + 1, place)
                yield first, stop
                first, edge = -1, stop
            if first < 0:
                first = max(place - gap, edge)
            last = place
        if first >= 0:
            yield first, min(last + gap + 1, end)

    def _read(self, words: Sequence[str], first: int, stop: int) -> Iterator[Span]:
        group = list(words[first:stop])
        if self.language == "en":
            group = [word.replace("-", " ") for word in _with_ones(group)]
        snippet, owner = _joined(group)
        found = [p for f in _found(snippet, self.language) for p in self._written(snippet, f)]
        while found:
            begin, end = owner[found[0].start], owner[found[0].stop - 1] + 1
            text, at, taken = "", owner.index(begin), 0
            for piece in found:  # those that share words are written together
                if taken and owner[piece.start] >= end:
                    break
                text += snippet[at : piece.start] + piece.text
                at, end, taken = piece.stop, owner[piece.stop - 1] + 1, taken + 1
            rest = snippet[at : len(owner) - owner[::-1].index(end - 1)]
            yield Span(first + begin, first + end, text + rest.rstrip(" "))
            found = found[taken:]

    def _written(self, snippet: str, found: _Found) -> Iterator[_Found]:
        if self.language == "en":
            text = _english(snippet, found)
            if text:
                yield _Found(found.kind, found.start, found.stop, text)
            return
        source = snippet[found.start : found.stop]
        if _IDIOMS.search(source):
            return
        # a unit that became Latin letters is put back
        lost = len(_HAN.findall(found.text)) < len(_HAN.findall(_HAN_RUN.sub("", source)))
        if found.kind in ("date", "time") or (found.kind == "measure" and lost and "分之" not in
                                              source):  # fmt: skip
            pattern = _HAN_RUN if found.kind == "measure" else _HAN_PLAIN_RUN
            for run in pattern.finditer(source):
                at = found.start + run.start()
                yield _Found(found.kind, at, found.start + run.end(), han_digits(run[0]))
            return
        yield found


def _joined(words: Sequence[str]) -> tuple[str, list[int]]:
    """The words as one text, and which of them each character belongs to."""
    text, owner = "", []
    for number, word in enumerate(words):
        if text and word and not (is_alone(text[-1]) or is_alone(word[0])):
            text += " "
            owner.append(number - 1)
        text += word
        owner += [number] * len(word)
    return text, owner


def _load(language: str) -> Any:
    try:
        import wetext
    except ImportError as error:
        raise MissingDependency(error.name or "wetext", extra="text") from None
    return _normalizer(wetext, language)


@lru_cache(maxsize=len(LANGUAGES))
def _normalizer(wetext: Any, language: str) -> Any:
    return wetext.Normalizer(lang=language, operator="itn")


@lru_cache(maxsize=1024)
def _found(snippet: str, language: str) -> tuple[_Found, ...]:
    """What the grammars of wetext find; nothing where they fail."""
    import wetext

    with _LOCK:
        try:
            result = _load(language).normalize_with_mapping(snippet)
        except (wetext.AlignmentError, ValueError, IndexError, RuntimeError):
            return ()
    return tuple(
        _Found(m.token_type, m.input_start, m.input_end, m.output_text)
        for m in result.mappings
        if m.token_type in _WANTED
        and m.input_start < m.input_end
        and snippet[m.input_start : m.input_end] == m.input_text
    )


# -- English -------------------------------------------------------------------------------------


def _is_number(word: str) -> bool:
    return word in _NUMBERS or ("-" in word and all(p in _NUMBERS for p in word.split("-")))


def _with_ones(words: Sequence[str]) -> list[str]:
    """``a hundred and two`` as ``one hundred and two``; ``a hundred`` alone stays."""
    result = list(words)
    for place in range(len(words) - 2):
        following = words[place + 2]
        if following == "and" and place + 3 < len(words):
            following = words[place + 3]
        if words[place] == "a" and words[place + 1] in _LARGE and following in _CARDINALS:
            result[place] = "one"
    return result


def _english(snippet: str, found: _Found) -> str:
    """How it is written; empty where the words stay."""
    words = snippet[found.start : found.stop].split()
    before = snippet[: found.start].split()[-1:]
    if not any(word in _NUMBERS for word in words):
        return ""
    if found.kind == "ordinal" and len(words) == 1:
        return ""
    if found.kind == "telephone" and not re.fullmatch(r"[\d +-]+", found.text):
        return ""
    if found.kind in ("date", "time", "telephone") and _is_hour_and_minute(words):
        minute = _minutes(words[1:])
        if minute is not None and before and before[0] in _BEFORE_TIMES:
            return f"{_SMALL.index(words[0]) + 1}:{minute:02d}"
        if found.kind != "telephone":
            return ""
    if found.kind == "time":
        return re.sub(r"^0(?=\d:)", "", found.text)
    text = found.text.replace(" %", "%")
    if found.kind in ("cardinal", "money", "measure"):
        text = re.sub(r"(?<![\d.,-])[1-9]\d{4,}(?![\d-])", lambda m: f"{int(m[0]):,}", text)
    return text


def _is_hour_and_minute(words: Sequence[str]) -> bool:
    if len(words) < 2 or words[0] not in _SMALL or _TIME_WORDS.intersection(words):
        return False
    return words[1] in _MINUTES and all(w in _CARDINALS or w in ("oh", "o") for w in words)


def _minutes(words: Sequence[str]) -> int | None:
    """``fifteen``, ``forty five``, ``oh five``; None where it is no minute."""
    total = 0
    for word in words:
        if word in _TENS[:4]:
            total += 10 * (_TENS.index(word) + 2)
        elif word in _SMALL:
            total += _SMALL.index(word) + 1
        elif word in _TEENS:
            total += _TEENS.index(word) + 13
        elif word not in ("oh", "o"):
            return None
    return total if 0 < total < 60 else None


# -- Chinese -------------------------------------------------------------------------------------


def _has_han_number(word: str) -> bool:
    return not _HAN_NUMBER.isdisjoint(word)


def han_digits(numeral: str) -> str:
    """A Chinese numeral in digits: a number, a decimal, or a row of digits."""
    whole, point, part = numeral.partition("点")
    if point:
        return f"{han_digits(whole)}.{''.join(_DIGITS[c] for c in part)}"
    if not any(c in _UNITS for c in whole):
        return "".join(_DIGITS[c] for c in whole)
    total = section = digit = 0
    scale = 0  # of the last unit: 两万五 is 25000
    for char in whole:
        if char in _DIGITS:
            digit = int(_DIGITS[char])
            scale = 0 if char in "零〇" else scale
            continue
        unit = _UNITS[char]
        if unit >= 10**4:
            total, section, digit = (total + section + digit) * unit, 0, 0
        else:
            section, digit = section + max(digit, 1) * unit, 0
        scale = unit
    if digit and scale >= 100:
        digit *= scale // 10
    return str(total + section + digit)


__all__ = ["LANGUAGES", "InverseNormalizer", "Span", "check_language", "han_digits"]
