"""Our binary format: a model in about three bytes an n-gram, loaded without a loop over n-grams.

    8 bytes   MAGIC
    8 bytes   length of the header and its CRC-32, little-endian uint32 each
    header    JSON: version, counts of each order, bits, compact, and for each section its place,
              length and CRC-32, and, if it is compressed by zlib, its length before
    sections  each at a multiple of 64 bytes from the start of the file

Sections: ``vocab``, the words by id, a line each, compressed by zlib; for every order n:
``n.words`` (not for unigrams, whose ids count up), ``n.probs`` with the codebook ``n.prob_book``,
and below the highest order ``n.first``, ``n.backoffs`` and ``n.backoff_book``. Codes take ``bits``
bits; with 32 bits there are no codebooks but float32. In a compact file, ``n.first`` is a bit a
node that says whether it has children or a weight, then the numbers of children of those that do;
``n.backoffs`` has their weights alone, and ``n.words`` are differences; sections that zlib makes
smaller are compressed. Else all three are plain arrays, which are mapped, not read: for models that
are large.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.coding import (
    codebook,
    pack_bits,
    pack_children,
    pack_numbers,
    unpack_bits,
    unpack_children,
    unpack_numbers,
)
from mynah.decoding.ngram.levels import MAX_ORDER, Level, Trie
from mynah.errors import ConfigError, ModelError

MAGIC = b"mynah-lm"
VERSIONS = (1, 2)  # 1: nothing but the words is compressed
_ALIGN = 64
_HEADER_LIMIT = 1 << 16
_VERIFY_ALL = 1 << 28  # bytes; of larger files only what is read is checked
_WORD_LIMIT = 256  # bytes a word, on average
_RATIO = 64  # a section that says it is compressed by more is not believed

Array = npt.NDArray[Any]


def check_bits(bits: int) -> None:
    """Refuse a number of bits that values are not written in.

    Raises:
        ConfigError: it is neither 2 to 8 nor 32.
    """
    if bits != 32 and not 2 <= bits <= 8:
        raise ConfigError(f"bits: must be 2 to 8, or 32, got {bits}")


def write_binary(trie: Trie, stream: IO[bytes], *, bits: int = 8, compact: bool = True) -> None:
    """Write a model.

    Args:
        trie: the model.
        stream: where to.
        bits: of a probability or back-off weight, 2 to 8; 32 keeps float32.
        compact: smaller, unpacked when it is loaded; else mapped into memory as it is.

    Raises:
        ConfigError: there is no such number of bits.
    """
    check_bits(bits)
    words = "\n".join(trie.vocab).encode()
    sections: dict[str, bytes] = {"vocab": zlib.compress(words, 9)}
    for n, level in enumerate(trie.levels, start=1):
        top = n == trie.order
        above = trie.levels[n - 2] if n > 1 else None
        _add_level(sections, n, level, above, bits=bits, compact=compact, top=top)
    header: dict[str, Any] = {
        "version": VERSIONS[-1],
        "counts": list(trie.counts),
        "bits": bits,
        "compact": compact,
        "vocab_bytes": len(words),
    }
    table: dict[str, list[int]] = {}
    at = 0
    for name, plain in sections.items():
        data = _smaller(plain) if compact and name != "vocab" else plain
        table[name] = [at, len(data), zlib.crc32(data)]
        if data is not plain:
            table[name].append(len(plain))
            sections[name] = data
        at += -(-len(data) // _ALIGN) * _ALIGN
    header["sections"] = table  # places count from the first section
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(16 + len(text)) % _ALIGN)
    stream.write(MAGIC + struct.pack("<II", len(text), zlib.crc32(text)) + text)
    for data in sections.values():
        stream.write(data)
        stream.write(b"\0" * (-len(data) % _ALIGN))


def _smaller(data: bytes) -> bytes:
    """``data`` compressed, where that is worth it; else itself."""
    packed = zlib.compress(data, 9)
    worth = len(packed) < 0.97 * len(data) and len(data) <= _RATIO * len(packed)
    return packed if worth else data


def _add_level(
    sections: dict[str, bytes],
    n: int,
    level: Level,
    above: Level | None,
    *,
    bits: int,
    compact: bool,
    top: bool,
) -> None:
    def add(name: str, values: Array) -> None:
        sections[f"{n}.{name}"] = values.tobytes()

    def add_coded(name: str, values: Array, *, zero: bool) -> None:
        if bits == 32:
            add(f"{name}s", values.astype("<f4"))
            return
        book, codes = codebook(values, bits, zero=zero)
        add(f"{name}s", pack_bits(codes, bits))
        add(f"{name}_book", book.astype("<f4"))

    if above is not None:
        small = len(level) == 0 or int(level.words.max()) < 1 << 16
        if compact:
            add("words", pack_children(level.words, np.diff(above.first)))
        else:
            add("words", level.words.astype("<u2" if small else "<u4"))
    add_coded("prob", level.log_probs(), zero=False)
    if top:
        return
    weights = level.log_backoffs()
    if compact:
        counts = np.diff(level.first)
        inner = (counts > 0) | (weights != 0)
        packed = pack_numbers(counts[inner])
        add("first", np.concatenate([np.packbits(inner), packed]))
        weights = weights[inner]
    else:
        add("first", np.asarray(level.first).astype("<u4" if level.first[-1] < 1 << 32 else "<u8"))
    add_coded("backoff", weights, zero=True)


def is_binary(path: str | Path) -> bool:
    """Whether a file begins as one of these.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def read_binary(path: str | Path) -> Trie:
    """The model in a file; plain arrays of it stay in the file.

    Raises:
        ModelError: the file is damaged or of another version; the line names it and the reason.
        OSError: it cannot be read.
    """
    return _Reader(Path(path)).read()


class _Reader:
    """Checks everything that the header says against the size of the file before it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size < 16:
            self.fail("is too short")
        self.bytes: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")

    def fail(self, reason: str) -> NoReturn:
        raise ModelError(f"{self.path}: damaged language model: {reason}")

    def read(self) -> Trie:
        header = self._header()
        counts, bits = header["counts"], header["bits"]
        if not isinstance(counts, list) or not 1 <= len(counts) <= MAX_ORDER:
            self.fail("no counts of the orders")
        if not all(type(c) is int and c >= 0 for c in counts):
            self.fail("counts must be whole numbers")
        if type(bits) is not int or (bits != 32 and not 2 <= bits <= 8):
            self.fail(f"{bits!r} bits")
        self.bits, self.compact = bits, header["compact"] is True
        for n, count in enumerate(counts, start=1):
            # what an n-gram takes at the least bounds every array that is made of it
            if self._length(f"{n}.probs") != -(-count * bits // 8):
                self.fail(f"{count} {n}-grams announced, another number is there")
        vocab = self._vocab(counts[0], header["vocab_bytes"])
        levels: list[Level] = []
        for n in range(1, len(counts) + 1):
            try:
                levels.append(self._level(n, counts, levels))
            except ValueError as error:
                self.fail(f"{n}-grams: {error}")
        return Trie(vocab, tuple(levels))

    def _header(self) -> Mapping[str, Any]:
        head = self.bytes[:16].tobytes()
        length, crc = struct.unpack("<II", head[8:])
        if head[:8] != MAGIC or length > min(_HEADER_LIMIT, len(self.bytes) - 16):
            self.fail("no header")
        text = self.bytes[16 : 16 + length].tobytes()
        if zlib.crc32(text) != crc:
            self.fail("the header's checksum is wrong")
        try:
            header = json.loads(text)
            version, self.table = header["version"], header["sections"]
            missing = {"counts", "bits", "compact", "vocab_bytes"} - set(header)
        except (ValueError, TypeError, KeyError, RecursionError):
            self.fail("no header")
        if version not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise ModelError(f"{self.path}: format {version!r}; this version reads {known}")
        if missing or not isinstance(self.table, dict):
            self.fail("no header")
        self.start = 16 + length
        found: Mapping[str, Any] = header
        return found

    def _section(self, name: str) -> npt.NDArray[np.uint8]:
        """What lies in the file."""
        entry = self.table.get(name)
        if not (
            isinstance(entry, list)
            and len(entry) in (3, 4)
            and all(type(e) is int and e >= 0 for e in entry)
        ):
            self.fail(f"no section {name}")
        at, length = entry[:2]
        begin = self.start + at
        if at % _ALIGN or begin + length > len(self.bytes):
            self.fail(f"section {name} lies outside the file")
        if len(entry) == 4 and entry[3] > _RATIO * length:
            self.fail(f"section {name} has an absurd length")
        return self.bytes[begin : begin + length]

    def _length(self, name: str) -> int:
        """How many bytes a section has when it is not compressed."""
        packed = self._section(name)
        entry = self.table[name]
        return entry[3] if len(entry) == 4 else len(packed)

    def _checked(self, name: str, *, mapped: bool = False) -> npt.NDArray[np.uint8]:
        data = self._section(name)
        entry = self.table[name]
        small = len(self.bytes) <= _VERIFY_ALL
        if (small or not mapped) and zlib.crc32(data.data) != entry[2]:
            self.fail(f"the checksum of {name} is wrong")
        if len(entry) == 3:
            return data
        plain = self._inflated(name, data, entry[3])
        return np.frombuffer(plain, np.uint8)

    def _inflated(self, name: str, data: npt.NDArray[np.uint8], size: int) -> bytes:
        try:
            plain = zlib.decompressobj().decompress(data.tobytes(), size + 1)
        except zlib.error as error:
            self.fail(f"{name}: {error}")
        if len(plain) != size:
            self.fail(f"{name} has another length than it says")
        return plain

    def _array(self, name: str, dtype: str, count: int) -> Array:
        data = self._checked(name, mapped=True)
        if len(data) != count * np.dtype(dtype).itemsize:
            self.fail(f"section {name} has the wrong length")
        return data.view(dtype)

    def _vocab(self, count: int, size: Any) -> list[str]:
        packed = self._checked("vocab")
        if type(size) is not int or not 0 <= size <= _WORD_LIMIT * count:
            self.fail("an absurd vocabulary")
        text = self._inflated("vocabulary", packed, size)
        try:
            words = text.decode().split("\n")
        except UnicodeDecodeError as error:
            self.fail(f"vocabulary: {error}")
        if len(words) != count or len(set(words)) != count:
            self.fail(f"the vocabulary is not {count} different words")
        return words

    def _coded(self, name: str, count: int) -> tuple[Array, Array | None]:
        if self.bits == 32:
            return self._array(f"{name}s", "<f4", count), None
        book = self._checked(f"{name}_book")
        data = self._checked(f"{name}s", mapped=self.bits == 8)
        if len(book) % 4 or len(book) > 1024 or len(data) != -(-count * self.bits // 8):
            raise ValueError(f"{name}s have the wrong length")
        codes = unpack_bits(data, self.bits, count)
        if count and int(codes.max()) >= len(book) // 4:
            raise ValueError(f"{name}s: a code outside its book")
        return codes, book.view("<f4")

    def _level(self, n: int, counts: list[int], above: list[Level]) -> Level:
        count, top = counts[n - 1], n == len(counts)
        words: npt.NDArray[np.unsignedinteger] = np.arange(count, dtype=np.uint32)
        if n > 1:
            words = self._words(n, count, above[-1], counts[0])
        probs, prob_book = self._coded(f"{n}.prob", count)
        none = np.zeros(0, dtype=np.float32)
        if top:
            return Level(words, probs, none, np.zeros(0, np.int64), prob_book)
        below = counts[n]
        if not self.compact:
            wide = self._length(f"{n}.first") == 8 * (count + 1)
            first = self._array(f"{n}.first", "<u8" if wide else "<u4", count + 1)
            if first[0] != 0 or first[-1] != below:
                raise ValueError("children that are not there")
            weights, book = self._coded(f"{n}.backoff", count)
            return Level(words, probs, weights, first, prob_book, book)
        data = self._checked(f"{n}.first")
        bitmap = -(-count // 8)
        if len(data) < bitmap:
            raise ValueError("numbers of children are missing")
        inner = np.unpackbits(data[:bitmap], count=count).astype(np.bool_)
        some = int(inner.sum())
        children = unpack_numbers(data[bitmap:], some)
        if int(children.sum()) != below:
            raise ValueError("children that are not there")
        first = np.zeros(count + 1, dtype=np.int64)
        first[1:][inner] = children
        np.cumsum(first, out=first)
        weights, book = self._coded(f"{n}.backoff", some)
        full = np.zeros(count, dtype=weights.dtype)  # code 0 is the weight 0
        full[inner] = weights
        return Level(words, probs, full, first, prob_book, book)

    def _words(
        self, n: int, count: int, above: Level, vocab_size: int
    ) -> npt.NDArray[np.unsignedinteger]:
        if self.compact:
            words = unpack_children(self._checked(f"{n}.words"), np.diff(above.first))
        else:
            wide = self._length(f"{n}.words") == 4 * count
            words = self._array(f"{n}.words", "<u4" if wide else "<u2", count)
        if count and self.compact and int(words.max()) >= vocab_size:
            raise ValueError("a word outside the vocabulary")
        return words
