"""The normalisation rules inside a sentencepiece model (``precompiled_charsmap``).

The blob is a length (32 bits, little endian), a double-array trie of UTF-8 byte strings as
darts-clone lays it out, and the replacement strings, each ended by a zero byte. The value of a key
is the offset of its replacement.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from mynah.errors import ModelError

_PRINTABLE = [chr(code) for code in range(0x20, 0x7F)]


class CharsMap:
    """Longest-match replacement rules, read from the blob as they are needed."""

    def __init__(self, blob: bytes) -> None:
        size = int.from_bytes(blob[:4], "little")
        if len(blob) < 4 or size % 4 or size == 0 or 4 + size > len(blob):
            raise ModelError("sentencepiece model: the normalisation rules are damaged")
        self._cells = np.frombuffer(blob, "<u4", size // 4, 4).astype(np.uint32).data
        self._strings = blob[4 + size :]
        self._root = _offset(self._cells[0])
        self._steps: dict[tuple[int, str], tuple[int, str | None]] = {}

    def longest(self, text: str, start: int) -> tuple[int, str | None]:
        """Where the longest rule that matches at ``start`` ends, and its replacement.

        Without a rule: ``(start + 1, None)``.
        """
        node, end = self._root, start
        found: tuple[int, str | None] = (start + 1, None)
        steps = self._steps
        size = len(text)
        while end < size:
            key = (node, text[end])
            step = steps.get(key)
            if step is None:
                step = steps[key] = self._step(*key)
            node = step[0]
            if node < 0:
                break
            end += 1
            if step[1] is not None:
                found = (end, step[1])
        return found

    @cached_property
    def leaves_ascii_alone(self) -> bool:
        """Whether no rule applies within printable ASCII."""
        for first in _PRINTABLE:
            node, replacement = self._step(self._root, first)
            if replacement is not None:
                return False
            if node >= 0 and any(self._step(node, second)[0] >= 0 for second in _PRINTABLE):
                return False
        return True

    def _step(self, node: int, char: str) -> tuple[int, str | None]:
        cells, value = self._cells, None
        try:
            for byte in char.encode("utf-8"):
                node ^= byte
                cell = cells[node]
                if cell & 0x800000FF != byte:
                    return -1, None
                node ^= _offset(cell)
                value = self._string(cells[node] & 0x7FFFFFFF) if cell & 0x100 else None
        except IndexError:
            raise ModelError("sentencepiece model: the normalisation rules are damaged") from None
        return node, value

    def _string(self, start: int) -> str:
        end = self._strings.find(b"\0", start)
        return self._strings[start : None if end < 0 else end].decode("utf-8", "replace")


def _offset(cell: int) -> int:
    return (cell >> 10) << ((cell & 0x200) >> 6)
