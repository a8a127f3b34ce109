"""Recordings in and out: every source, channels, rates, limits, and each kind of bad input."""

from __future__ import annotations

import io
import logging
import os
import struct
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from mynah.audio import blocks, read, write
from mynah.audio.files import announced
from mynah.errors import InputError, MynahError

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> npt.NDArray[np.float32]:
    """(S,), or (channels, S) with a frequency of its own in each channel."""
    times = np.arange(int(seconds * rate)) / rate
    frequencies = 200.0 * (1 + np.arange(channels))
    waves = 0.4 * np.sin(2 * np.pi * frequencies[:, None] * times)
    return (waves[0] if channels == 1 else waves).astype(np.float32)


def encoded(
    samples: npt.NDArray[np.float32], kind: str = "wav", rate: int = RATE, **how: str
) -> bytes:
    file = io.BytesIO()
    write(file, samples, rate, format=kind, **how)
    return file.getvalue()


def complaint(source: object, **how: object) -> str:
    with pytest.raises(InputError) as caught:
        read(source, **how)  # type: ignore[arg-type]
    line = str(caught.value)
    assert line and "\n" not in line
    return line


@pytest.mark.parametrize(
    ("kind", "error"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.1), ("opus", 0.2), ("mp3", 0.1)]
)
def test_what_is_written_is_read(tmp_path: Path, kind: str, error: float) -> None:
    path = tmp_path / f"tone.{kind}"
    write(path, tone(), RATE)
    wave = read(path)
    assert wave.rate == RATE and wave.samples.dtype == np.float32
    assert wave.samples.shape == (RATE,) and wave.seconds == 1.0
    inner = slice(2000, -2000)
    assert np.abs(wave.samples[inner] - tone()[inner]).max() < error
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_every_source_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(tone(), "flac")
    path = tmp_path / "tone with no suffix"
    path.write_bytes(data)
    expected = read(path).samples
    behind = io.BytesIO(b"something before it" + data)
    behind.seek(19)
    with path.open("rb") as file:
        for source in (str(path), data, bytearray(data), io.BytesIO(data), file, behind):
            np.testing.assert_array_equal(read(source).samples, expected)  # type: ignore[arg-type]
    into, out = os.pipe()
    feeder = threading.Thread(target=lambda: (os.write(out, data), os.close(out)))
    feeder.start()
    with os.fdopen(into, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        np.testing.assert_array_equal(read("-").samples, expected)
    feeder.join()


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input: is closed"):
        read("-")


def test_nothing_is_read_of_a_pipe_to_know_its_length(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with a name")
    data, pipe = encoded(tone(), "wav"), tmp_path / "pipe"
    os.mkfifo(pipe)
    # looking would wait for a writer, and leave nothing of what it gives
    assert announced(pipe) is None
    feeder = threading.Thread(target=pipe.write_bytes, args=(data,))
    feeder.start()
    np.testing.assert_array_equal(read(pipe).samples, read(data).samples)
    feeder.join(10)


@pytest.mark.parametrize("size", [1e30, 3e38])
def test_samples_too_large_to_be_sound(size: float) -> None:
    data = encoded(np.float32(size) * tone(), subtype="FLOAT")
    with pytest.raises(InputError, match=r"samples as large as .* at 0\.0"):
        read(data)
    assert read(encoded(np.float32(32768) * tone(), subtype="FLOAT")).seconds == 1.0


def test_format_is_found_by_content(tmp_path: Path) -> None:
    path = tmp_path / "liar.wav"
    path.write_bytes(encoded(tone(), "mp3"))
    assert read(path).seconds == 1.0


def test_channels() -> None:
    samples = tone(channels=7)
    data = encoded(samples, subtype="FLOAT")
    np.testing.assert_allclose(read(data).samples, samples.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(read(data, channel=6).samples, samples[6])
    np.testing.assert_array_equal(read(data, channel="all").samples, samples)
    assert read(encoded(tone()), channel="all").samples.shape == (1, RATE)
    assert complaint(data, channel=7) == "recording: no channel 7; the last one is 6"
    assert "no channel -1" in complaint(data, channel=-1)
    assert "'left'" in complaint(data, channel="left")


def test_rates() -> None:
    wave = read(encoded(tone(rate=44_100), rate=44_100), rate=RATE)
    assert wave.samples.shape == (RATE,) and wave.rate == RATE
    assert np.abs(wave.samples[500:-500] - tone()[500:-500]).max() < 1e-3
    wave = read(encoded(tone(rate=8_000, channels=2), rate=8_000), rate=RATE, channel="all")
    assert wave.samples.shape == (2, RATE)
    assert "rate: 10 Hz" in complaint(encoded(tone()), rate=10)


@pytest.mark.parametrize("seconds", [0.1, 0.37, 1.0, 60.0])
def test_blocks_are_the_whole_cut(seconds: float) -> None:
    data = encoded(tone(2.5, channels=2), "flac")
    for channel in ("mix", "all"):
        whole = read(data, rate=8_000, channel=channel).samples
        parts = list(blocks(data, rate=8_000, channel=channel, block_seconds=seconds))
        assert all(part.shape[-1] == round(seconds * 8_000) for part in parts[:-1])
        assert 0 < parts[-1].shape[-1] <= round(seconds * 8_000)
        np.testing.assert_array_equal(np.concatenate(parts, axis=-1), whole)


def test_blocks_take_memory_that_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    write(path, np.zeros(240 * RATE, dtype=np.float32), RATE)
    tracemalloc.start()
    try:
        total = sum(part.shape[-1] for part in blocks(path, rate=8_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 240 * 8_000
    assert peak < 6e6  # the whole takes 15 MB


def test_limits_hold_while_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.opus"
    write(path, np.zeros(60 * RATE, dtype=np.float32), RATE)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        line = complaint(path, max_bytes=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert line == f"{path}: more than the limit of 1000000 bytes of samples"
    assert peak < 6e6
    assert complaint(path, max_seconds=30) == f"{path}: longer than the limit of 30 s"
    assert read(path, max_seconds=60).seconds == 60
    with pytest.raises(InputError, match="longer than the limit"):  # its header says so
        next(blocks(path, max_seconds=30))
    part = blocks(path, max_seconds=30, partial=True)  # which takes what is there
    assert next(part).shape == (RATE,)
    with pytest.raises(InputError, match="longer than the limit"):
        list(part)
    # What comes from a pipe is limited before it is decoded.
    assert "limit of 1000 bytes" in complaint(Unseekable(path.read_bytes()), max_bytes=1000)


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_blocks_are_limited_in_seconds_alone() -> None:
    data = encoded(tone(4.0), "flac")
    assert "limit of 1000 bytes" in complaint(data, max_bytes=1000)
    assert sum(map(len, blocks(data, max_bytes=1000))) == 4 * RATE
    assert sum(map(len, blocks(data, rate=48_000, max_bytes=1000))) == 4 * 48_000
    with pytest.raises(InputError, match="limit of 3 s"):
        list(blocks(data, max_seconds=3, max_bytes=1000))
    with pytest.raises(InputError, match="limit of 1000 bytes"):  # these are kept
        list(blocks(Unseekable(data), max_bytes=1000))


def test_forged_rate_does_not_pass_the_limit_on_bytes() -> None:
    data = bytearray(encoded(tone(4.0)))
    data[24:28] = struct.pack("<I", 768_000)  # 4 s now look like 0.08 s
    assert "limit of 200000 bytes" in complaint(bytes(data), max_seconds=1.0, max_bytes=200_000)
    for rate in (1, 2**31 - 1):
        data[24:28] = struct.pack("<I", rate)
        assert f"sample rate: {rate} Hz is not between" in complaint(bytes(data))


def test_all_channels_and_the_samples_after_resampling_count() -> None:
    data = encoded(tone(channels=7), "flac")  # 448 kB as float32, 64 kB of them one channel
    assert "limit of 400000 bytes" in complaint(data, channel=0, max_bytes=400_000)
    data = encoded(tone(rate=1_000), rate=1_000)
    assert "limit of 400000 bytes" in complaint(data, rate=768_000, max_bytes=400_000)


def test_missing_empty_directory_text(tmp_path: Path) -> None:
    missing, empty, text = tmp_path / "none.wav", tmp_path / "empty.wav", tmp_path / "text.wav"
    empty.touch()
    text.write_text("This is a letter, not a recording.\n" * 40)
    assert complaint(missing) == f"{missing}: no such file"
    assert complaint(empty) == f"{empty}: empty (0 bytes)"
    assert complaint(text) == f"{text}: not a recording (it holds text)"
    assert complaint(tmp_path) == f"{tmp_path}: is a directory"
    assert "not a recording" in complaint(bytes(range(256)) * 4)
    with text.open(encoding="utf-8") as file:
        assert "binary" in complaint(file)
    assert "no samples" in complaint(no_samples())


def no_samples() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(0), RATE, format="WAV")
    return file.getvalue()


def ten_hours(kind: str) -> bytes:
    """A file of about 1 kB whose header announces ten hours."""
    data = bytearray(encoded(0.01 * tone(0.03), kind))
    if kind == "wav":
        data[40:44] = struct.pack("<I", 36_000 * 2 * RATE)
    else:
        layout = int.from_bytes(data[18:26], "big") >> 36 << 36
        data[18:26] = (layout | 36_000 * RATE).to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_ten_hour_header_on_a_short_file(kind: str) -> None:
    data = ten_hours(kind)
    assert len(data) < 10_000
    line = complaint(data, max_seconds=1e9)
    assert "truncated: the header announces 36000.00 s" in line and "0.03 s" in line
    if kind == "flac":  # the length of a WAV's data is compared with the file's first
        line = complaint(data, max_seconds=3600.0)
        assert line == "recording: longer than the limit of 3600 s"


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.999])
def test_truncated_is_refused(
    kind: str, part: float, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    data = encoded(0.1 * noise, kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * part)])
    line = complaint(path)
    assert line.startswith(f"{path}: ") and ("truncated" in line or "damaged" in line)
    if part < 0.5:
        return
    with caplog.at_level(logging.WARNING):
        wave = read(path, partial=True)
    assert str(path) in caplog.text
    assert (part - 0.3) * 8 < wave.seconds <= part * 8 + 0.1


def test_sizes_written_into_a_pipe_are_no_truncation() -> None:
    data = bytearray(encoded(tone()))
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        data[40:44] = struct.pack("<I", size)
        assert read(bytes(data)).seconds == 1.0
    data[40:44] = bytes(4)
    assert "the header says 0 samples, though 32000 bytes follow" in complaint(bytes(data))


def test_lossy_lengths_may_be_a_little_off() -> None:
    """Cut and joined vorbis files say some samples more than they hold."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    data, start, pages = bytearray(encoded(noise, "ogg")), 0, 0
    while (start := data.find(b"OggS\0", start)) >= 0:
        lacing = data[start + 27 : start + 27 + data[start + 26]]
        end = start + 27 + len(lacing) + sum(lacing)
        granule = int.from_bytes(data[start + 6 : start + 14], "little")
        pages += granule > 0
        if pages > 1:  # all later pages say 200 samples more
            data[start + 6 : start + 14] = (granule + 200).to_bytes(8, "little")
            data[start + 22 : start + 26] = bytes(4)
            checksum = ogg_checksum(data[start:end])
            data[start + 22 : start + 26] = checksum.to_bytes(4, "little")
        start = end
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert file.frames == 5 * RATE + 200
    assert read(bytes(data)).seconds == 5.0


def ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def test_damaged_in_the_middle() -> None:
    data = bytearray(encoded(tone(8.0), "flac"))
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    assert "damaged or truncated: the decoder lost its way" in complaint(bytes(data))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number(value: float) -> None:
    samples = tone(2.0)
    samples[RATE] = value
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    line = complaint(file.getvalue(), channel=0)
    assert line.endswith("samples that are not numbers (NaN or infinite), the first at 1.000 s")


def test_noise_after_every_magic_is_refused_in_one_line() -> None:
    rng = np.random.default_rng(5)
    heads = [b"RIFF\x24\0\0\0WAVEfmt ", b"fLaC\0\0\0\x22", b"OggS\0\2", b"ID3\4\0", b"FORM", b""]
    for head in heads:
        for size in (0, 3, 40, 3000):
            data = head + rng.bytes(size)
            if not data:
                continue
            with pytest.raises(MynahError) as caught:
                read(data)
            assert "\n" not in str(caught.value)


def test_write_refuses(tmp_path: Path) -> None:
    bad: list[tuple[str, object, str]] = [
        ("a.xyz", tone(), "cannot write xyz"),
        ("a", tone(), "cannot write no format"),
        ("a.wav", tone()[:0], "no samples"),
        ("a.wav", np.full(3, np.nan), "not numbers"),
        ("a.wav", np.zeros(3, dtype=np.int16), "int16"),
        ("a.wav", np.zeros((1, 2, 3)), r"shape \(1, 2, 3\)"),
        (f"{__file__}/a.wav", tone(), "cannot be written"),
    ]
    for name, samples, reason in bad:
        with pytest.raises(InputError, match=reason):
            write(tmp_path / name, samples, RATE)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="opus .* cannot hold 1 channel"):
        write(tmp_path / "a.opus", tone(), 11_025)
    assert list(tmp_path.iterdir()) == []


def test_write_leaves_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.wav"
    path.write_bytes(b"old")

    def refuse(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=r"kept.wav: cannot be written \(No space left on device"):
        write(path, tone(), RATE)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.wav"]


def test_loud_samples_are_clipped() -> None:
    wave = read(encoded(3 * tone()))
    assert 0.99 < wave.samples.max() <= 1.0 and -1.0 <= wave.samples.min() < -0.99
