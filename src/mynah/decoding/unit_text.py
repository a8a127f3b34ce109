"""What the units of a tokenizer write: for what scores a hypothesis by its text, unit by unit."""

from __future__ import annotations

import re
import threading
import unicodedata
import weakref
from collections.abc import Sequence
from typing import Protocol

SPACE = "▁"  # U+2581: how unit tables write a space
NO_TEXT = "\ufffd"  # stands for a unit that is no text: unknown, a tag; part of no word
_TAG = re.compile(r"\[[^\[\]]+\]|<[^<>]+>|\{[^{}]+\}")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Hanzi and kana, each a word of its own: as ``text.characters`` has them, a room that searches do
# not know (a test compares the two).
ALONE = re.compile(
    "[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff]"
)
# Other scripts without spaces between words: Thai, Lao, Myanmar, Khmer.
_UNSPACED = re.compile("[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff]")


class Spelling(Protocol):
    """What is needed of a tokenizer: its units, and how it cuts a text."""

    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def blank(self) -> int: ...
    @property
    def unk(self) -> int: ...
    @property
    def sos(self) -> int: ...
    @property
    def eos(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...


class UnitTexts:
    """The text of each unit, spaces as spaces; bytes are put together to characters."""

    def __init__(self, tokenizer: Spelling) -> None:
        units = tokenizer.units
        config = getattr(tokenizer, "config", None)
        apart = bool(getattr(config, "split_with_space", False))  # each unit a word of its own
        joint = str(getattr(config, "connect_symbol", ""))
        found = {
            index: match for index, unit in enumerate(units) if (match := _BYTE.fullmatch(unit))
        }
        complete = len(found) >= 256  # fewer are units that happen to look like bytes
        self.bytes = {index: int(match[1], 16) for index, match in found.items() if complete}
        silent = {tokenizer.blank, tokenizer.sos, tokenizer.eos}
        self.texts: list[str] = []
        for index, unit in enumerate(units):
            if index in silent or not unit:
                text = ""
            elif index == tokenizer.unk or (len(unit) > 1 and _is_tag(unit)):
                text = NO_TEXT
            else:
                text = unit.replace("<space>", " ").replace(SPACE, " ")
                text = f" {text}" if apart else joint + text
            self.texts.append(text)
        self.longest = max(map(len, self.texts), default=0)

    def write(self, waiting: bytes, unit: int) -> tuple[str, bytes]:
        """The text that ``unit`` adds after the bytes of a character that is not complete."""
        value = self.bytes.get(unit)
        if value is None:
            text = self.texts[unit]
            return (NO_TEXT + text if waiting else text), b""
        waiting += bytes((value,))
        try:
            return waiting.decode("utf-8"), b""
        except UnicodeDecodeError:
            return (NO_TEXT, b"") if len(waiting) >= 4 else ("", waiting)

    def write_all(self, units: Sequence[int]) -> str:
        """The text of ``units``."""
        parts, waiting = [], b""
        for unit in units:
            text, waiting = self.write(waiting, unit)
            parts.append(text)
        return "".join(parts)


def _is_tag(unit: str) -> bool:
    return _TAG.fullmatch(unit) is not None and unit != "<space>"


_known: weakref.WeakKeyDictionary[Spelling, UnitTexts] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def unit_texts(tokenizer: Spelling) -> UnitTexts:
    """The texts of a tokenizer's units, made once."""
    with _lock:
        found = _known.get(tokenizer)
        if found is None:
            found = _known[tokenizer] = UnitTexts(tokenizer)
        return found


def writes_no_words(tokenizer: Spelling) -> bool:
    """Whether the units are phones: then no text is to be had from them alone."""
    return getattr(getattr(tokenizer, "config", None), "kind", "") == "phone"


def stands_alone(char: str) -> bool:
    """Whether words may begin and end at ``char`` without a space: scripts that have none, and
    all that is neither letter, digit nor mark."""
    if char.isascii():
        return not char.isalnum()
    return ALONE.match(char) is not None or _UNSPACED.match(char) is not None or not _in_word(char)


def _in_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"
