"""Facts about single characters: hanzi, and columns taken in a terminal."""

from __future__ import annotations

import re
import unicodedata

SPACE = "▁"  # U+2581: how unit tables and sentencepiece write a space

# Unified ideographs with their extensions, compatibility ideographs, and the zero 〇.
_HANZI = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"

HANZI = re.compile(f"[{_HANZI}]")
# Characters of scripts written without spaces, each of which counts as a word of its own.
ALONE = re.compile(f"[{_HANZI}{_KANA}]")


def is_alone(char: str) -> bool:
    """Whether ``char`` is hanzi or kana: written without spaces, so a word of its own."""
    return ALONE.match(char) is not None


def columns(text: str) -> int:
    """Terminal columns of ``text``: wide and full-width characters take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
