"""Words as a punctuation model sees them: units, their hashed features, marks and casing.

A unit is a word in the scoring form (lower case, no punctuation); each hanzi or kana is a unit of
its own. There are no unknown units: a unit is a few rows of tables, found by hashing it and its
ends ("Bloom" or hash embeddings, https://arxiv.org/abs/1706.03993,
https://arxiv.org/abs/1709.03933).
Digits are all the same digit.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from mynah.text.characters import ALONE
from mynah.text.scoring import normalize_for_scoring

Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint32]

# What may follow a unit, by the number of its class; both tuples mean the same things.
WESTERN = ("", ",", ".", "?", "!", ";", ":")
CHINESE = ("", "，", "。", "？", "！", "；", "：", "、")
SENTENCE_ENDS = (2, 3, 4)  # full stop, question and exclamation mark
LOWER, CAPITAL, UPPER = range(3)  # classes of casing
CASES = 3

# A feature's multiplier; one hash of a unit gives independent rows under two of them.
FEATURES: dict[str, int] = {
    "word": 0x9E3779B1,
    "again": 0x85EBCA6B,
    "prefix": 0xC2B2AE35,
    "suffix": 0x27D4EB2F,
    "pair": 0x165667B1,
    "again_pair": 0xD3A2646D,
}
Feature = Literal["word", "again", "prefix", "suffix", "pair", "again_pair"]

_UNIT = re.compile(rf"{ALONE.pattern}|(?:(?!{ALONE.pattern})\S)+")
_DIGIT = re.compile(r"\d")
_ENDS = 3  # characters of a prefix or suffix
# Longer pieces of text are cut before they become units: nobody says them.
_LONGEST = 64


def to_units(text: str, language: str) -> list[str]:
    """The units of a text: words in the scoring form, hanzi and kana each alone."""
    units = _UNIT.findall(normalize_for_scoring(text, language))
    return [unit[:_LONGEST] for unit in units]


@lru_cache(maxsize=1 << 16)
def unit_hash(unit: str) -> tuple[int, int, int]:
    """32-bit hashes of a unit, of its beginning and of its end."""
    plain = _DIGIT.sub("0", unit)
    parts = (plain, f"<{plain[:_ENDS]}", f"{plain[-_ENDS:]}>")
    whole, first, last = (zlib.crc32(part.encode("utf-8", "surrogatepass")) for part in parts)
    return whole, first, last


def hash_units(units: Sequence[str]) -> Hashes:
    """Hashes (T, 3) of units."""
    return np.array([unit_hash(unit) for unit in units], np.uint32).reshape(-1, 3)


def feature_rows(hashes: Hashes, features: Mapping[str, int]) -> Ids:
    """Rows (T, K) of one table that has ``features[name]`` rows for each feature, in their order.

    A ``pair`` is a unit and the one before it; nothing comes before the first.
    """
    word = hashes[:, 0].astype(np.uint64)
    before = np.concatenate([np.zeros(1, np.uint64), word[:-1]])[: len(word)]
    mask = np.uint64(0xFFFFFFFF)
    pair = (before * np.uint64(0x9E3779B1) & mask) ^ (word * np.uint64(0xC2B2AE3D) & mask)
    pair ^= pair >> np.uint64(15)
    sources = {"prefix": hashes[:, 1].astype(np.uint64), "suffix": hashes[:, 2].astype(np.uint64)}
    sources |= {"word": word, "again": word, "pair": pair, "again_pair": pair}
    rows = np.empty((len(word), len(features)), np.int64)
    offset = 0
    for column, (name, size) in enumerate(features.items()):
        mixed = sources[name] * np.uint64(FEATURES[name]) & mask
        rows[:, column] = (mixed * np.uint64(size) >> np.uint64(32)).astype(np.int64) + offset
        offset += size
    return rows


def with_case(word: str, case: int) -> str:
    """A lower-case word in the casing of a class; what has capitals already stays as it is.

    ``o'brien`` and ``mcdonald`` are capitalised as names are; ``tv's`` in capitals is ``TV's``.
    """
    if case == LOWER or word != word.lower():
        return word
    if case == UPPER:
        stem, mark, end = word.rpartition("'")
        return f"{stem.upper()}'{end}" if mark and end in _ENDINGS else word.upper()
    pieces = word.split("'")
    if len(pieces) == 2 and len(pieces[0]) == 1 and len(pieces[1]) > 2:  # o'brien, not i'll
        return "'".join(map(_capital, pieces))
    return _capital(word)


_ENDINGS = ("s", "ll", "d", "m", "ve", "re", "t")
_MC = re.compile(r"mc[a-z]{3,}$")


def _capital(word: str) -> str:
    if _MC.match(word):
        return f"Mc{word[2].upper()}{word[3:]}"
    for place, char in enumerate(word):
        if char.isalnum():
            return word[:place] + char.upper() + word[place + 1 :]
    return word


def case_of(word: str) -> int:
    """The class of casing of a written word; -1 where none gives it back (``iPhone``)."""
    low = word.lower()
    if low == word:
        return LOWER
    for case in (CAPITAL, UPPER):
        if with_case(low, case) == word:
            return case
    return -1
