"""Recordings that were put together from whole files, and ends that are missing."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from mynah.audio import blocks, read, write
from mynah.audio.files import announced
from mynah.audio.parts import Section, look_through
from mynah.errors import InputError

RATE = 16_000
KINDS = ["ogg", "opus", "mp3", "flac"]
TAG = b"TAG" + bytes(125)
LABEL = b"ID3\4\0\0\0\0\0\x14" + bytes(20)


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> npt.NDArray[np.float32]:
    made = np.random.default_rng(seed).standard_normal(int(seconds * rate))
    return (0.1 * made).astype(np.float32)


def encoded(seconds: float, kind: str, seed: int = 0, rate: int = RATE, channels: int = 1) -> bytes:
    file = io.BytesIO()
    samples = noise(seconds, seed, rate)
    write(file, samples if channels == 1 else np.stack([samples] * channels), rate, format=kind)
    return file.getvalue()


def refused(data: bytes, reason: str, seconds: float) -> None:
    """Refused with ``reason``; asked for what is there, about ``seconds`` are."""
    with pytest.raises(InputError, match=reason) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    assert abs(read(data, partial=True).seconds - seconds) < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_joined_recordings_are_read_to_their_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [encoded(seconds, kind, seed) for seed, seconds in enumerate((3.0, 2.0, 2.5))]
    data = b"".join(files)
    expected = np.concatenate([read(file).samples for file in files])
    path = tmp_path / "joined"
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path).samples, expected)
    np.testing.assert_array_equal(read(path, partial=True).samples, expected)
    np.testing.assert_array_equal(np.concatenate(list(blocks(data))), expected)
    assert announced(path) == 7.5
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    np.testing.assert_array_equal(read("-").samples, expected)
    with pytest.raises(InputError, match="longer than the limit of 7 s"):
        read(path, max_seconds=7)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_differ_end_the_recording(kind: str) -> None:
    first = encoded(2.0, kind)
    for other in (encoded(2.0, kind, rate=48_000), encoded(2.0, kind, channels=2)):
        refused(first + other, "the sample rate or the channels change on the way after 2.00", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_was_cut_is_damage(kind: str) -> None:
    whole, other = encoded(6.0, kind, 1), encoded(3.0, kind)
    half = whole[: len(whole) // 2]
    refused(other + half, "truncated", 3.0 + read(half, partial=True).seconds)
    joined = io.BytesIO(half + other)
    if look_through(joined).doubt:
        assert "1 of 2 parts lack the mark of their end" in look_through(joined).doubt
        return
    with pytest.raises(InputError, match="truncated"):
        read(half + other)


def test_a_part_that_is_nothing() -> None:
    first, second = encoded(2.0, "ogg"), bytearray(encoded(2.0, "ogg"))
    second[28:35] = b"nothing"  # where the codec has its name
    refused(first + bytes(second), "the next of the joined recordings cannot be read after 2", 2)


def test_mp3_with_tags_and_without_counts() -> None:
    first, file = encoded(3.0, "mp3"), io.BytesIO()
    soundfile.write(file, noise(2.0, 1), RATE, format="MP3", bitrate_mode="CONSTANT")
    second = file.getvalue()
    assert look_through(io.BytesIO(LABEL + first + TAG)).starts == (0,)
    assert read(LABEL + first + TAG + LABEL + second + TAG).seconds == 5.0
    bare = second.replace(b"Info", b"none", 1)  # the frame that counts is one of silence now
    found = look_through(io.BytesIO(first + TAG + LABEL + bare)).starts
    assert found == (0, len(first) + len(TAG) + len(LABEL))
    assert abs(read(first + TAG + LABEL + bare).seconds - 5.0) < 0.2
    assert abs(read(bare + first).seconds - 5.0) < 0.2
    refused(first[:-4000] + second, f"truncated: {len(first) - 4000} of {len(first)} bytes", 4.0)


def pages(data: bytes) -> list[bytes]:
    found, start = [], 0
    while start < len(data):
        lacing = data[start + 27 : start + 27 + data[start + 26]]
        end = start + 27 + len(lacing) + sum(lacing)
        found.append(data[start:end])
        start = end
    return found


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_ogg_that_was_cut(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    data = encoded(8.0, kind)
    parts = pages(data)
    cut = b"".join(parts[:-1])  # the page that says that it is the last one is missing
    with caplog.at_level(logging.WARNING):
        assert abs(read(cut).seconds - 7.5) < 0.6  # some programs mark none
    assert "recording: may be cut short: the last page is not marked as the end" in caplog.text
    for short in (1, len(parts[-1]) - 10, len(parts[-1]) - 30):
        refused(data[:-short], "^recording: truncated: it ends within a page$", 7.5)
    assert abs(read(cut + data).seconds - 15.5) < 0.6
    assert "1 of 2 parts lack the mark of their end" in caplog.text
    # cut within a page, which seems to go on in the next file
    torn = data[: -len(parts[-1]) // 2] + data + data
    assert len(look_through(io.BytesIO(torn)).starts) == 3
    refused(torn, "truncated: part 1 ends within a page", 23.5)
    assert read(data + b"something else behind it").seconds == 8.0


def test_streams_of_one_link_begin_together() -> None:
    one, other = pages(encoded(2.0, "ogg")), pages(encoded(2.0, "opus"))
    link = b"".join([one[0], other[0], *one[1:], *other[1:]])
    assert look_through(io.BytesIO(link)).starts == (0,)
    assert look_through(io.BytesIO(link + link)).starts == (0, len(link))
    without = b"".join([one[0], other[0], *one[1:], *other[1:-1]])
    assert "not marked" in look_through(io.BytesIO(without)).doubt


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_parts_are_found_wherever_a_chunk_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(1.0, kind) + encoded(1.0, kind)
    expected = look_through(io.BytesIO(data))
    assert len(expected.starts) == 2
    for size in (300, 301, 337, 1000, 4096, 6000):
        monkeypatch.setattr("mynah.audio.parts._CHUNK", size)
        assert look_through(io.BytesIO(data)) == expected


def test_section() -> None:
    file = io.BytesIO(b"0123456789")
    section = Section(file, 2, 6)
    assert section.read() == b"2345" and section.read() == b""
    assert section.seek(-1, 2) == 3 and section.read(5) == b"5"
    assert section.seek(1) == 1 and section.seek(1, 1) == section.tell() == 2
    file.seek(0)
    assert section.read(1) == b"4"
