"""What the first and last bytes of a recording say about it: its container, and whether the end
is missing, which decoders do not tell."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_UNKNOWN = 0x7FFF0000
"""Sizes from here on are what programs write into a pipe, where they cannot know the size."""


@dataclass(frozen=True)
class Container:
    """``name`` for the reader; ``demuxer`` is FFmpeg's name, ``native`` whether libsndfile reads
    it."""

    name: str
    demuxer: str
    native: bool


def sniff(head: bytes) -> Container | None:
    """The container that begins with ``head`` (16 bytes are enough), if it is a known one."""
    for offset, magic, container in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return container
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _AAC if head[1] & 0xF6 == 0xF0 else _MP3
    return None


_MP3 = Container("mp3", "mp3", True)
_AAC = Container("aac", "aac", False)
_WAV = Container("wav", "wav", True)
_AIFF = Container("aiff", "aiff", True)
_MAGIC: tuple[tuple[int, bytes, Container], ...] = (
    (0, b"RIFF", _WAV),
    (0, b"RF64", _WAV),
    (0, b"RIFX", _WAV),
    (0, b"fLaC", Container("flac", "flac", True)),
    (0, b"OggS", Container("ogg", "ogg", True)),
    (0, b"ID3", _MP3),
    (0, b"FORM", _AIFF),
    (0, b".snd", Container("au", "au", True)),
    (0, b"caff", Container("caf", "caf", True)),
    (0, b"riff", Container("w64", "w64", True)),
    (4, b"ftyp", Container("m4a", "mov", False)),
    (4, b"moov", Container("m4a", "mov", False)),
    (0, b"\x1a\x45\xdf\xa3", Container("webm", "matroska", False)),
    (0, b"#!AMR", Container("amr", "amr", False)),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Container("wma", "asf", False)),
    (0, b"ADIF", _AAC),
)


def what_is_missing(file: BinaryIO) -> str:
    """How the container shows that the end of ``file`` is missing, or an empty string.

    Sees wav and aiff; ogg and mp3 may have several ends (:mod:`mynah.audio.parts`). A size that was
    written into a pipe is not taken for one.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    container = sniff(head)
    if container is _WAV and head[:4] == b"RIFF":
        return _wav(file, size)
    if container is _AIFF:
        announced = 8 + struct.unpack(">I", head[4:8])[0] if len(head) >= 8 else 0
        return short(announced, size)
    return ""


def short(announced: int, size: int) -> str:
    """What is missing of ``announced`` bytes where ``size`` are there, or an empty string."""
    if size < announced < _UNKNOWN:
        return f"{size} of {announced} bytes are there"
    return ""


def _wav(file: BinaryIO, size: int) -> str:
    position, bytes_a_second = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"fmt ":
            layout = file.read(12)
            bytes_a_second = struct.unpack("<I", layout[8:12])[0] if len(layout) == 12 else 0
        elif name == b"data":
            there = size - position - 8
            if length == 0 and there > 8:
                return f"the header says 0 samples, though {there} bytes follow it"
            if length <= there or length >= _UNKNOWN:
                return ""
            if not bytes_a_second:
                return short(position + 8 + length, size)
            return (
                f"the header announces {length / bytes_a_second:.2f} s ({length} bytes), "
                f"{there / bytes_a_second:.2f} s ({there}) are there"
            )
        position += 8 + length + length % 2
    return ""
