"""Readings of Chinese texts by pypinyin: a dictionary of hanzi as they are read in given texts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from mynah.errors import InputError, MissingDependency
from mynah.text.characters import HANZI
from mynah.text.hanzi import syllable_units
from mynah.text.pronounce import Phones

_RUNS = re.compile(rf"(?:{HANZI.pattern})+|.", re.DOTALL)


def syllables(text: str, *, sandhi: bool = False) -> list[str]:
    """The syllables of hanzi as ``zhong1``, the neutral tone as 5; other characters as they are.

    ``sandhi``: with the tones that are spoken (ni2 hao3, bu2 shi4) in place of those of each word.

    Raises:
        MissingDependency: pypinyin is not installed.
    """
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError:
        raise MissingDependency("pypinyin", extra="text") from None
    found: list[str] = []
    for run in _RUNS.findall(text):
        if not HANZI.match(run):
            found.append(run)
            continue
        found += lazy_pinyin(
            run, style=Style.TONE3, neutral_tone_with_five=True, tone_sandhi=sandhi
        )
    return found


def readings_in(texts: Iterable[str], *, share: float = 0.03) -> list[tuple[str, list[Phones]]]:
    """A dictionary of the hanzi of ``texts``, and of words in which they are read otherwise.

    A hanzi has the readings that are at least ``share`` of its occurrences, the usual one first; a
    word of two hanzi or more is listed where it is read otherwise than by the first of each.

    Raises:
        InputError: no text has a hanzi.
        MissingDependency: pypinyin is not installed.
    """
    single: dict[str, Counter[Phones]] = defaultdict(Counter)
    words: dict[str, Counter[tuple[Phones, ...]]] = defaultdict(Counter)
    for text in texts:
        for word, units in _words(text):
            for char, reading in zip(word, units, strict=True):
                single[char][reading] += 1
            if len(word) > 1:
                words[word][units] += 1
    if not single:
        raise InputError("no text with hanzi to make a dictionary from")
    found: list[tuple[str, list[Phones]]] = []
    for char, counts in sorted(single.items()):
        least = share * counts.total()
        found.append((char, [units for units, n in counts.most_common() if n >= least]))
    usual = {char: readings[0] for char, readings in found}
    for word, ways in sorted(words.items()):
        best = ways.most_common(1)[0][0]
        if best != tuple(usual[char] for char in word):
            found.append((word, [tuple(unit for units in best for unit in units)]))
    return found


@lru_cache(maxsize=1 << 17)
def _units(word: str) -> tuple[Phones, ...]:
    return tuple(syllable_units(pinyin) for pinyin in syllables(word))


def _words(text: str) -> Iterator[tuple[str, tuple[Phones, ...]]]:
    """The words of a text, as pypinyin cuts it, with the units of each hanzi."""
    try:
        from pypinyin.seg.mmseg import seg
    except ImportError:
        raise MissingDependency("pypinyin", extra="text") from None
    runs = "".join(char if HANZI.match(char) else " " for char in text).split()
    for run in runs:
        for word in seg.cut(run):
            units = _units(word)
            if len(units) == len(word) and all(units):
                yield word, units
