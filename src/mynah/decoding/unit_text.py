"""What the units of a tokenizer write: for what scores a hypothesis by its text, unit by unit."""

from __future__ import annotations

import re
import threading
import unicodedata
import weakref
from collections.abc import Sequence

from mynah.text import Tokenizer
from mynah.text.characters import SPACE, is_alone

NO_TEXT = "\ufffd"  # stands for a unit that is no text: unknown, a tag; part of no word
_TAG = re.compile(r"\[[^\[\]]+\]|<[^<>]+>|\{[^{}]+\}")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Scripts without spaces between words, beside hanzi and kana: Thai, Lao, Myanmar, Khmer.
_UNSPACED = re.compile("[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff]")


class UnitTexts:
    """The text of each unit, spaces as spaces; bytes are put together to characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
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


_known: weakref.WeakKeyDictionary[Tokenizer, UnitTexts] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def unit_texts(tokenizer: Tokenizer) -> UnitTexts:
    """The texts of a tokenizer's units, made once."""
    with _lock:
        found = _known.get(tokenizer)
        if found is None:
            found = _known[tokenizer] = UnitTexts(tokenizer)
        return found


def stands_alone(char: str) -> bool:
    """Whether words may begin and end at ``char`` without a space: scripts that have none, and
    all that is neither letter, digit nor mark."""
    if char.isascii():
        return not char.isalnum()
    return is_alone(char) or _UNSPACED.match(char) is not None or not _in_word(char)


def _in_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"
