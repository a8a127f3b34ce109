"""Our own reader and encoder of sentencepiece ``.model`` files, unigram and BPE.

The pieces are those of the sentencepiece library (0.2.3), without the library. Unigram:
Kudo, "Subword Regularization", ACL 2018; BPE: Sennrich et al., "Neural Machine Translation of Rare
Words with Subword Units", ACL 2016; file format: ``sentencepiece_model.proto`` of the library.
"""

from __future__ import annotations

import heapq
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mynah.errors import ModelError
from mynah.text.characters import SPACE
from mynah.text.charsmap import CharsMap

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_UNIGRAM, _BPE = 1, 2
_UNKNOWN_PENALTY = 10.0
_FLOAT = struct.Struct("<f")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CACHE_SIZE = 100_000

Piece = tuple[str, int]  # surface, id in the model


@dataclass(frozen=True)
class _Spec:
    """The parts of a model file that encoding depends on."""

    pieces: list[tuple[str, float, int]]  # piece, score, type
    model_type: int = _UNIGRAM
    byte_fallback: bool = False
    whitespace_suffix: bool = False
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_whitespace: bool = True
    escape_whitespace: bool = True


class SentencePieceModel:
    """A ``.model`` file as an encoder.

    Raises:
        ModelError: not a sentencepiece model, or of type word or char.
    """

    def __init__(self, data: bytes) -> None:
        spec = _read_spec(data)
        self._spec = spec
        self.pieces = tuple(piece for piece, _, _ in spec.pieces)
        self.types = tuple(kind for _, _, kind in spec.pieces)
        self.scores = tuple(score for _, score, _ in spec.pieces)
        if self.types.count(UNKNOWN) != 1:
            raise ModelError("sentencepiece model: needs exactly one unknown piece")
        self.unknown = self.types.index(UNKNOWN)
        searched = (NORMAL, USER_DEFINED, UNUSED)
        self._ids = {p: i for i, p in enumerate(self.pieces) if self.types[i] in searched}
        self._bytes = {p: i for i, p in enumerate(self.pieces) if self.types[i] == BYTE}
        self._charsmap = CharsMap(spec.charsmap) if spec.charsmap else None
        users = [p for i, p in enumerate(self.pieces) if self.types[i] == USER_DEFINED]
        users.sort(key=len, reverse=True)
        self._user = re.compile("|".join(map(re.escape, users))) if users else None
        self._quick_text = (
            spec.dummy_prefix
            and spec.remove_extra_whitespace
            and spec.escape_whitespace
            and not spec.whitespace_suffix
            and not any(" " in symbol for symbol in users)
        )
        # Words do not interact when no piece reaches over a word's start.
        self._by_word = not spec.whitespace_suffix and not any(SPACE in p[1:] for p in self._ids)
        self._cache: dict[str, list[Piece]] = {}
        self._trie: dict[str, Any] = {}
        if spec.model_type == _UNIGRAM:
            self._build_trie()

    def encode(self, text: str) -> list[Piece]:
        """The pieces of ``text``: surface as normalised, and id in the model.

        A run of characters without a piece is one piece with the id ``unknown``; with byte fallback
        each of its bytes is a piece.
        """
        pieces = self._segment(self.normalize(text))
        result: list[Piece] = []
        unknown_before = False
        for surface, index in pieces:
            unknown = index == self.unknown
            if unknown and self._spec.byte_fallback:
                names = (f"<0x{byte:02X}>" for byte in surface.encode("utf-8"))
                result.extend((name, self._bytes.get(name, self.unknown)) for name in names)
            elif unknown and unknown_before:
                result[-1] = (result[-1][0] + surface, index)
            else:
                result.append((surface, index))
            unknown_before = unknown
        return result

    def normalize(self, text: str) -> str:
        """``text`` as it is cut into pieces: rules applied, spaces collapsed and written as ▁."""
        rules = self._charsmap
        plain = self._quick_text and text.isascii() and text.isprintable()
        if plain and (rules is None or rules.leaves_ascii_alone):
            words = text.split()
            return SPACE + SPACE.join(words) if words else ""
        spec = self._spec
        text = _SURROGATES.sub("\ufffd", text)
        parts = list(self._replaced(text))
        if not parts or (spec.remove_extra_whitespace and all(part == " " for part in parts)):
            return ""
        if spec.remove_extra_whitespace:
            parts = _without_extra_spaces(parts)
        space = SPACE if spec.escape_whitespace else " "
        body = "".join(parts).replace(" ", space)
        if spec.dummy_prefix and not spec.whitespace_suffix:
            body = space + body
        if spec.remove_extra_whitespace:
            body = body.rstrip(space)
        if spec.dummy_prefix and spec.whitespace_suffix:
            body += space
        return body

    def _replaced(self, text: str) -> Iterator[str]:
        """Pieces of ``text`` after the rules; user-defined symbols are left as they are."""
        start, rules, user = 0, self._charsmap, self._user
        while start < len(text):
            match = user.match(text, start) if user else None
            if match:
                yield match.group()
                start = match.end()
                continue
            end, replacement = rules.longest(text, start) if rules else (start + 1, None)
            yield text[start:end] if replacement is None else replacement
            start = end

    def _segment(self, text: str) -> list[Piece]:
        if self._spec.model_type == _UNIGRAM:
            return self._best_path(text)
        if not self._by_word:
            return self._merge(text)
        result: list[Piece] = []
        for word in re.findall(f"{SPACE}?[^{SPACE}]+|{SPACE}", text):
            pieces = self._cache.get(word)
            if pieces is None:
                if len(self._cache) >= _CACHE_SIZE:
                    self._cache.clear()
                pieces = self._cache[word] = self._merge(word)
            result.extend(pieces)
        return result

    def _build_trie(self) -> None:
        normal = [s for s, kind in zip(self.scores, self.types, strict=True) if kind == NORMAL]
        self._unknown_score = _round(min(normal, default=0.0) - _UNKNOWN_PENALTY)
        for piece, index in self._ids.items():
            if self.types[index] == UNUSED:
                continue
            score = self.scores[index]
            if self.types[index] == USER_DEFINED:  # wins against any way of cutting it
                score = _round(0.1 * len(piece.encode("utf-8")) - 0.1)
            node = self._trie
            for char in piece:
                node = node.setdefault(char, {})
            node[""] = (score, index)

    def _best_path(self, text: str) -> list[Piece]:
        """Viterbi over all ways of cutting ``text``.

        Cuts into the same pieces in another order tie, so the rounding to 32 bits decides which is
        taken; it is repeated here as in sentencepiece 0.2.3 (0.2.1 rounded such ties otherwise).
        """
        size = len(text)
        scores = [0.0] * (size + 1)
        starts = [-1] * (size + 1)
        ids = [self.unknown] * (size + 1)
        for start in range(size):
            so_far, alone = scores[start], False
            node: Any = self._trie
            for end in range(start + 1, size + 1):
                node = node.get(text[end - 1])
                if node is None:
                    break
                leaf = node.get("")
                if leaf is None:
                    continue
                alone = alone or end == start + 1
                score = _round(leaf[0] + so_far)
                if starts[end] < 0 or score > scores[end]:
                    scores[end], starts[end], ids[end] = score, start, leaf[1]
            if not alone:
                score, end = _round(self._unknown_score + so_far), start + 1
                if starts[end] < 0 or score > scores[end]:
                    scores[end], starts[end], ids[end] = score, start, self.unknown
        pieces: list[Piece] = []
        end = size
        while end > 0:
            pieces.append((text[starts[end] : end], ids[end]))
            end = starts[end]
        pieces.reverse()
        return pieces

    def _merge(self, text: str) -> list[Piece]:
        """Merge the neighbours whose union scores best, the leftmost of equals first."""
        surfaces, frozen = self._symbols(text)
        size = len(surfaces)
        before, after = list(range(-1, size - 1)), [*range(1, size), -1]
        queue: list[tuple[float, int, int, int]] = []
        halves: dict[str, tuple[str, str]] = {}

        def propose(left: int, right: int) -> None:
            if left < 0 or right < 0 or frozen[left] or frozen[right]:
                return
            union = surfaces[left] + surfaces[right]
            index = self._ids.get(union)
            if index is not None:
                heapq.heappush(queue, (-self.scores[index], left, right, len(union)))
                if self.types[index] == UNUSED:
                    halves[union] = (surfaces[left], surfaces[right])

        for i in range(1, size):
            propose(i - 1, i)
        while queue:
            _, left, right, length = heapq.heappop(queue)
            if not surfaces[left] or not surfaces[right]:
                continue
            if len(surfaces[left]) + len(surfaces[right]) != length:
                continue
            surfaces[left] += surfaces[right]
            surfaces[right] = ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            propose(before[left], left)
            propose(left, after[left])
        return [piece for s in surfaces if s for piece in self._used(s, halves)]

    def _symbols(self, text: str) -> tuple[list[str], list[bool]]:
        """Characters and whole user-defined symbols, and which of them are never merged."""
        if self._user is None:
            return list(text), [False] * len(text)
        surfaces: list[str] = []
        frozen: list[bool] = []
        start = 0
        while start < len(text):
            match = self._user.match(text, start)
            surfaces.append(match.group() if match else text[start])
            frozen.append(match is not None)
            start += len(surfaces[-1])
        return surfaces, frozen

    def _used(self, surface: str, halves: dict[str, tuple[str, str]]) -> list[Piece]:
        """A merged piece, or its halves where the piece itself is marked as unused."""
        index = self._ids.get(surface, self.unknown)
        if self.types[index] != UNUSED or surface not in halves:
            return [(surface, index)]
        left, right = halves[surface]
        return self._used(left, halves) + self._used(right, halves)


def read_sentencepiece(path: str | Path) -> SentencePieceModel:
    """Read a ``.model`` file.

    Raises:
        ModelError: missing, or as :class:`SentencePieceModel`.
    """
    try:
        return SentencePieceModel(Path(path).read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _without_extra_spaces(parts: list[str]) -> list[str]:
    result: list[str] = []
    space_before = True
    for part in parts:
        kept = part.lstrip(" ") if space_before else part
        if kept:
            result.append(kept)
            space_before = kept.endswith(" ")
    return result


def _round(value: float) -> float:
    """``value`` as a 32-bit float."""
    return float(_FLOAT.unpack(_FLOAT.pack(value))[0])


def _read_spec(data: bytes) -> _Spec:
    try:
        return _parse_spec(data)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, AttributeError):
        raise ModelError("not a sentencepiece model, or cut short") from None


def _parse_spec(data: bytes) -> _Spec:
    pieces: list[tuple[str, float, int]] = []
    values: dict[str, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            fields = dict(_fields(value))
            score = _FLOAT.unpack(fields[2])[0] if 2 in fields else 0.0
            pieces.append((fields.get(1, b"").decode("utf-8"), score, fields.get(3, NORMAL)))
        elif number == 2:
            trainer = dict(_fields(value))
            values["model_type"] = trainer.get(3, _UNIGRAM)
            values["whitespace_suffix"] = bool(trainer.get(24, 0))
            values["byte_fallback"] = bool(trainer.get(35, 0))
        elif number == 3:
            rules = dict(_fields(value))
            values["charsmap"] = rules.get(2, b"")
            values["dummy_prefix"] = bool(rules.get(3, 1))
            values["remove_extra_whitespace"] = bool(rules.get(4, 1))
            values["escape_whitespace"] = bool(rules.get(5, 1))
    spec = _Spec(pieces, **values)
    if spec.model_type not in (_UNIGRAM, _BPE):
        raise ModelError("sentencepiece models of type word and char are not supported")
    return spec


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of a protocol buffer message; 32-bit values stay as bytes."""
    start = 0
    while start < len(data):
        key, start = _varint(data, start)
        kind = key & 7
        if kind == 0:
            value, start = _varint(data, start)
            yield key >> 3, value
            continue
        if kind == 2:
            length, start = _varint(data, start)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise IndexError("unknown wire type")
        if start + length > len(data):
            raise IndexError("cut short")
        yield key >> 3, data[start : start + length]
        start += length


def _varint(data: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
