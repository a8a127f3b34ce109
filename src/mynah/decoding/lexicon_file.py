"""``lexicon.bin``: a lexicon in about five bytes a word.

magic "mynahlex", then little endian: version (u16), number of sections (u16), CRC-32 of all
that follows (u32), the number of units (u32) and their check (u32), the number of words (u32)
and of spellings (u32), and for each section its size, packed and unpacked (u32 each); then the
sections, each deflated:

0 words: of each, how many bytes it shares with the word before (u8)
1 words: how many bytes follow (u8); 2 words: these bytes, UTF-8
3 how many spellings each word has, less one (u8)
4 to 6 spellings: as 0 to 2, in characters; a unit is the character of its code
7 the cost of each word in steps of 0.1 nats (u8), or nothing
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import AnyStr

import numpy as np

from mynah.decoding.lexicon import MOST_NODES, MOST_UNITS, STEP, Lexicon
from mynah.errors import InputError, ModelError

MAGIC, VERSION, SECTIONS = b"mynahlex", 1, 8
_HEAD, _COUNTS, _SIZES = struct.Struct("<8sHHI"), struct.Struct("<IIIII"), struct.Struct("<16I")
_MOST_BYTES = 1 << 28
_NONE = (1 << 32) - 1


def save_lexicon(lexicon: Lexicon, path: str | Path) -> None:
    """Write ``lexicon`` to a file.

    Raises:
        InputError: a word has more than 256 spellings, or the file cannot be written.
    """
    counts = np.bincount(lexicon.owners, minlength=len(lexicon.words)) - 1
    if int(counts.max()) > 255:
        word = lexicon.words[int(counts.argmax())]
        raise InputError(f"lexicon: {word!r} has more than 256 spellings")
    shared, added, tails = _fold([word.encode() for word in lexicon.words])
    sections = [shared, added, b"".join(tails), counts.astype(np.uint8).tobytes()]
    shared, added, rests = _fold(lexicon.spellings)
    sections += [shared, added, "".join(rests).encode("utf-8", "surrogatepass")]
    costs = lexicon.costs
    steps = b"" if costs is None else np.round(costs / STEP).astype(np.uint8).tobytes()
    sections.append(steps)
    packed = [zlib.compress(section, 9) for section in sections]
    sizes = itertools.chain.from_iterable(zip(map(len, packed), map(len, sections), strict=True))
    boundary = _NONE if lexicon.boundary is None else lexicon.boundary
    counted = (len(lexicon.words), len(lexicon.spellings))
    numbers = (lexicon.vocab_size, lexicon.vocab_check, boundary, *counted)
    body = _COUNTS.pack(*numbers) + _SIZES.pack(*sizes) + b"".join(packed)
    try:
        Path(path).write_bytes(_HEAD.pack(MAGIC, VERSION, SECTIONS, zlib.crc32(body)) + body)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def load_lexicon(path: str | Path) -> Lexicon:
    """Read what :func:`save_lexicon` wrote.

    Raises:
        ModelError: no such file, or it is no lexicon, of a newer version, or damaged.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return _read(data)
    except (ValueError, struct.error, zlib.error, IndexError) as error:
        raise ModelError(f"{path}: not a lexicon of mynah, or damaged ({error})") from None


def _read(data: bytes) -> Lexicon:
    magic, version, count, check = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("it begins otherwise")
    if (version, count) != (VERSION, SECTIONS):
        raise ValueError(f"version {version}, this reads {VERSION}")
    body = memoryview(data)[_HEAD.size :]
    if zlib.crc32(body) != check:
        raise ValueError("its checksum is wrong")
    vocab_size, vocab_check, boundary, words, spellings = _COUNTS.unpack_from(body)
    sizes = _SIZES.unpack_from(body, _COUNTS.size)
    if not 0 < vocab_size <= MOST_UNITS or not 0 < words <= spellings or sum(sizes) > _MOST_BYTES:
        raise ValueError("absurd sizes")
    if boundary != _NONE and boundary >= vocab_size:
        raise ValueError("an impossible boundary")
    parts, at = [], _COUNTS.size + _SIZES.size
    for packed, whole in zip(sizes[::2], sizes[1::2], strict=True):
        parts.append(_inflate(body[at : at + packed], whole))
        at += packed
    texts = [text.decode() for text in _unfold(parts[0], parts[1], parts[2], words)]
    units = parts[6].decode("utf-8", "surrogatepass")
    folded = _unfold(parts[4], parts[5], units, spellings)
    counts = np.frombuffer(parts[3], np.uint8).astype(np.int64) + 1
    if len(counts) != words or int(counts.sum()) != spellings:
        raise ValueError("numbers of spellings")
    if not all(folded) or sum(map(len, folded)) >= MOST_NODES or ord(max(units)) >= vocab_size:
        raise ValueError("impossible spellings")
    costs = None
    if parts[7]:
        costs = np.frombuffer(parts[7], np.uint8).astype(np.float32) * np.float32(STEP)
        if len(costs) != words:
            raise ValueError("numbers of costs")
    owners = np.repeat(np.arange(words, dtype=np.int32), counts)
    between = None if boundary == _NONE else boundary
    return Lexicon(tuple(texts), tuple(folded), owners, vocab_size, vocab_check, between, costs)


def _fold(items: Sequence[AnyStr]) -> tuple[bytes, bytes, list[AnyStr]]:
    """Each item by what it shares with the one before: how much, how much more, and what."""
    shared, added, tails = bytearray(), bytearray(), list[AnyStr]()
    before = items[0][:0]
    for item in items:
        same = 0
        for one, other in zip(item, before, strict=False):
            if one != other:
                break
            same += 1
        shared.append(same)
        added.append(len(item) - same)
        tails.append(item[same:])
        before = item
    return bytes(shared), bytes(added), tails


def _unfold(shared: bytes, added: bytes, tail: AnyStr, count: int) -> list[AnyStr]:
    if not len(shared) == len(added) == count or sum(added) != len(tail):
        raise ValueError("sizes that do not fit")
    items = []
    item, at = tail[:0], 0
    for same, more in zip(shared, added, strict=True):
        if same > len(item):
            raise ValueError("a beginning that is not there")
        item = item[:same] + tail[at : at + more]
        at += more
        items.append(item)
    return items


def _inflate(packed: memoryview, size: int) -> bytes:
    """``size`` bytes: a file that lies about them is not followed."""
    stream = zlib.decompressobj()
    data = stream.decompress(packed, size + 1)
    if len(data) != size or not stream.eof:
        raise ValueError("sizes that do not fit")
    return data
