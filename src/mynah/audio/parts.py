"""The parts of a recording that was put together from whole files (``cat a.ogg b.ogg``), and what
is missing at the end of one: decoders stop after the first part, and tell of neither."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from mynah.audio.containers import short, sniff, what_is_missing

_CHUNK = 1 << 20
_NEXT_OGG = re.compile(rb"OggS\x00")
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # and the head of its first block
_MP3 = re.compile(rb"(?:Xing|Info)\x00\x00\x00[\x00-\x0f]")
_LONGEST_FRAME = 1441  # of an mp3, bytes


@dataclass(frozen=True)
class Parts:
    """Where each part begins (the first at 0), how the file shows that an end is missing, and what
    makes one doubt whether it is there: not every program marks the end of an ogg."""

    starts: tuple[int, ...] = (0,)
    missing: str = ""
    doubt: str = ""


def look_through(file: BinaryIO) -> Parts:
    """The parts of ``file``: links of a chained ogg, or flac or mp3 files in a row."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    container = sniff(head)
    name = "" if container is None else container.name
    if name == "ogg":
        found = _ogg(file, size)
    elif name == "mp3":
        found = _mp3(file, size)
    elif name == "flac":
        found = Parts((0, *(at for at, _ in _search(file, _FLAC, 1))))
    else:
        found = Parts(missing=what_is_missing(file))
    file.seek(0)
    return found


class Section(io.RawIOBase):
    """The bytes from ``start`` to ``end`` of a file as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size, self._at = file, start, end - start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._start + self._at)  # which other sections read, too
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _search(
    file: BinaryIO, pattern: re.Pattern[bytes], start: int, before: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Where ``pattern`` is found from ``start`` on, with the ``before`` bytes in front of it and
    what follows it (16 bytes are enough for each pattern here)."""
    at = max(0, start - before)
    skip = start - at
    while True:
        file.seek(at)
        data = file.read(_CHUNK)
        last = len(data) < _CHUNK
        for match in pattern.finditer(data, skip):
            if last or match.start() < _CHUNK - 64:
                yield at + match.start(), data[max(0, match.start() - before) : match.start() + 16]
        if last:
            return
        skip = before
        at += _CHUNK - 64 - before


@dataclass(frozen=True)
class _Page:
    start: int
    end: int  # beyond the file where it is cut
    first: bool  # of its stream
    last: bool
    serial: bytes
    torn: bool = False  # cut, with something else behind it


def _pages(file: BinaryIO, size: int) -> Iterator[_Page]:
    at, within, held = 0, 0, None
    while True:
        file.seek(at)
        head = file.read(27)
        if head[:5] != b"OggS\x00":  # behind them all, or behind one that was cut and joined
            found = next(_search(file, _NEXT_OGG, within), None)
            if found is None:
                break
            at, within = found[0], found[0] + 5
            if held is not None and at < held.end:
                held = replace(held, last=False, torn=True)  # what it says is not there
            continue
        if held is not None:
            yield held
        lacing = file.read(head[26]) if len(head) == 27 else b""
        whole = len(head) == 27 and len(lacing) == head[26]
        end = at + 27 + len(lacing) + sum(lacing) if whole else size + 1
        flags = head[5] if len(head) > 5 else 0
        held = _Page(at, end, bool(flags & 2), bool(flags & 4), head[14:18])
        at, within = end, at + 5
    if held is not None:
        yield held


def _ogg(file: BinaryIO, size: int) -> Parts:
    """A link begins with the first pages of all its streams, and each stream has a last page."""
    starts, open_streams, unended, cut = [0], set[bytes](), 0, False
    torn: list[int] = []  # parts that end within a page
    heading = True  # whether only first pages were seen of this link
    for page in _pages(file, size):
        if page.first and not heading:
            starts.append(page.start)
            unended += bool(open_streams)
            open_streams = set()
        heading = page.first
        open_streams.add(page.serial)
        if page.last:
            open_streams.discard(page.serial)
        cut = page.end > size
        if page.torn:
            torn.append(len(starts))
    if cut or torn:
        which = "it" if len(starts) == 1 else f"part {torn[0] if torn else len(starts)}"
        return Parts(tuple(starts), f"{which} ends within a page")
    doubt = "the last page is not marked as the end" if open_streams else ""
    if unended:
        doubt = f"{unended} of {len(starts)} parts lack the mark of their end"
    return Parts(tuple(starts), doubt=doubt)


def _mp3(file: BinaryIO, size: int) -> Parts:
    """A file begins with a frame that says how many bytes follow (Xing, Info); what goes on behind
    them is another, with such a frame or without."""
    found, front = list(_counts(file)), _after_tags(file, 0)
    starts, missing = [0], ""
    if not found or (found[0][0] > front and _frame_at(file, front)):
        found.insert(0, (0, 0))  # the first has no such frame
    ends = [start for start, _ in found[1:]] + [size]
    for number, ((start, length), end) in enumerate(zip(found, ends, strict=True)):
        if number:
            starts.append(start)
        if not length:
            continue
        missing = missing or short(start + length, end)
        beyond = _after_tags(file, start + length)
        # some programs do not count the first frame
        if end - beyond > 2 * _LONGEST_FRAME and _frame_at(file, beyond):
            starts.append(beyond)
    return Parts(tuple(starts), missing)


def _counts(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Each frame that counts what follows: its position and, where it says so, the bytes."""
    for at, around in _search(file, _MP3, _after_tags(file, 0), before=38):
        front, flags = around[:-16], around[-9]
        for offset in (13, 15, 21, 23, 36, 38):  # by version and channels, with a checksum or not
            if len(front) >= offset and _is_frame(front[-offset:][:2]):
                break
        else:
            continue
        length = 0
        if flags & 2:
            field = around[-8:] if not flags & 1 else around[-4:]
            length = struct.unpack(">I", field[:4])[0]
        yield at - offset, length


def _is_frame(head: bytes) -> bool:
    return len(head) == 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2  # layer III


def _frame_at(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return _is_frame(file.read(2))


def _after_tags(file: BinaryIO, at: int) -> int:
    """Behind the tags that are at ``at``: ID3v1 of the file before, ID3v2 of the next."""
    while True:
        file.seek(at)
        head = file.read(10)
        if head[:3] == b"TAG":
            at += 128
        elif head[:3] == b"ID3" and len(head) == 10:
            a, b, c, d = head[6:]
            at += 10 + (a << 21 | b << 14 | c << 7 | d)
        else:
            return at
