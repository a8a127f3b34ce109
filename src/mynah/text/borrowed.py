"""Mandarin in the phones of English: near enough for a model of English to hear when it is said.

An initial or a final is written as the English phones that it resembles most; tones are left out.
How far the times are off is in ``benchmarks/mandarin_times.py``; which of several similar phones
stands for a sound hardly matters to them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from mynah.text.characters import HANZI
from mynah.text.hanzi import TONES, syllable_units
from mynah.text.phones import PhoneTokenizer
from mynah.text.pinyin import syllables
from mynah.text.pronounce import Phones
from mynah.text.scoring import normalize_for_scoring, without_spaces
from mynah.text.tokenizer import Tokenizer

MANDARIN = "zh"

_SOUNDS = {
    "b": "b", "p": "p", "m": "m", "f": "f", "d": "d", "t": "t", "n": "n", "l": "l", "g": "g",
    "k": "k", "h": "hh", "j": "jh", "q": "ch", "x": "sh", "zh": "jh", "ch": "ch", "sh": "sh",
    "r": "r", "z": "z", "c": "t s", "s": "s",
    "a": "aa", "e": "ah", "ai": "ay", "ei": "ey", "ao": "aw", "ou": "ow", "an": "ae n",
    "en": "ah n", "ang": "aa ng", "eng": "ah ng", "ong": "ow ng", "er": "aa r", "i": "iy",
    "iz": "ih", "ir": "er", "ia": "y aa", "ie": "y eh", "iao": "y aw", "iou": "y ow",
    "ian": "y eh n", "in": "ih n", "iang": "y aa ng", "ing": "ih ng", "iong": "y ow ng",
    "u": "uw", "ua": "w aa", "uo": "w ao", "uai": "w ay", "uei": "w ey", "uan": "w aa n",
    "uen": "w ah n", "uang": "w aa ng", "v": "y uw", "ve": "y uw eh", "van": "y uw eh n",
    "vn": "y uw n",
}  # fmt: skip


def english_phones(units: Sequence[str]) -> Phones:
    """The English phones for initials and finals (:data:`mynah.text.hanzi.MANDARIN_UNITS`)."""
    return tuple(phone for unit in units if unit not in TONES for phone in _SOUNDS[unit].split())


def borrows(tokenizer: Tokenizer, language: str | None) -> bool:
    """Whether a text in ``language`` can be written in the units of a tokenizer of another one."""
    english = isinstance(tokenizer, PhoneTokenizer) and not without_spaces(
        tokenizer.config.language
    )
    return language == MANDARIN and english


def can_borrow() -> bool:
    """Whether the readings of hanzi are installed."""
    return importlib.util.find_spec("pypinyin") is not None


def borrowed_units(tokenizer: Tokenizer, words: Sequence[str]) -> list[tuple[int, ...]]:
    """The units of each word of a Mandarin text: of its hanzi as they are read in the whole text,
    and of English words in it; none where there are neither.

    Raises:
        MissingDependency: pypinyin is not installed.
    """
    read = iter(_readings("".join(words)))
    number = {unit: index for index, unit in enumerate(tokenizer.units)}
    found = []
    for word in words:
        units: list[int] = []
        rest = ""
        for char in word:
            if not HANZI.match(char):
                rest += char
                continue
            units += _english(tokenizer, rest)
            rest = ""
            units += [number[phone] for phone in english_phones(next(read))]
        found.append((*units, *_english(tokenizer, rest)))
    return found


def _english(tokenizer: Tokenizer, text: str) -> list[int]:
    plain = normalize_for_scoring(text, "en")
    return tokenizer.encode(plain) if plain.strip() else []


def _readings(text: str) -> list[Phones]:
    """The initial, final and tone of each hanzi of ``text``, none where it has no reading."""
    found: list[Phones] = []
    runs = "".join(char if HANZI.match(char) else " " for char in text).split()
    for run in runs:
        said = syllables(run)
        if len(said) != len(run):  # some have no reading, and stand together
            said = [syllable for char in run for syllable in syllables(char)[:1]]
        found += map(syllable_units, said)
    return found
