"""m4a, aac and webm through PyAV, and what is said where it is not installed."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest

from mynah.audio import blocks, read
from mynah.errors import InputError, MissingDependency

RATE = 48_000


def encoded(container: str, codec: str, seconds: float = 2.0, clicks: bool = False) -> bytes:
    av: Any = pytest.importorskip("av")
    samples = np.zeros(int(RATE * seconds), dtype=np.float32)
    if clicks:
        samples[RATE] = 0.9
    else:
        samples += 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / RATE)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=RATE)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        convert = av.AudioResampler(stream.format.name, "mono", RATE)
        for part in convert.resample(frame):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


KINDS = [("mp4", "aac"), ("adts", "aac"), ("webm", "libopus")]


@pytest.mark.parametrize(("container", "codec"), KINDS)
def test_read(container: str, codec: str) -> None:
    wave = read(encoded(container, codec), rate=16_000)
    assert wave.rate == 16_000 and abs(wave.seconds - 2.0) < 0.1
    middle = wave.samples[8_000:24_000]
    peak = np.abs(np.fft.rfft(middle)).argmax()
    assert peak == 440
    assert abs(np.abs(middle).max() - 0.3) < 0.05


def test_m4a_is_not_delayed() -> None:
    samples = read(encoded("mp4", "aac", clicks=True)).samples
    assert abs(int(np.abs(samples).argmax()) - RATE) < 50


@pytest.mark.parametrize(("container", "codec"), KINDS)
def test_truncated(container: str, codec: str) -> None:
    data = encoded(container, codec, seconds=4.0)
    with pytest.raises(InputError, match="truncated"):
        read(data[: len(data) // 2])


def test_limits() -> None:
    data = encoded("webm", "libopus", seconds=20.0)
    with pytest.raises(InputError, match="longer than the limit of 5 s"):
        read(data, max_seconds=5)
    with pytest.raises(InputError, match="limit of 100000 bytes"):
        read(data, max_bytes=100_000)
    parts = list(blocks(data, rate=16_000, block_seconds=1.0))
    assert len(parts) in (20, 21) and all(len(part) == 16_000 for part in parts[:19])


def test_no_audio_stream() -> None:
    av: Any = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8))
        out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    with pytest.raises(InputError, match="^recording: no audio stream$"):
        read(file.getvalue())


def test_playlists_are_not_followed() -> None:
    for text in (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", b"ffconcat version 1.0\nfile a\n"):
        with pytest.raises(InputError, match="not a recording"):
            read(text)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypM4A ", "m4a"),
        (b"\x1a\x45\xdf\xa3", "webm"),
        (b"\xff\xf1\x50\x80", "aac"),
    ],
)
def test_without_the_extra(head: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependency) as caught:
        read(head + bytes(100))
    assert caught.value.extra == "media"
    assert str(caught.value) == (
        f"recording: av, which reads {name} files, is not installed; "
        f"add it with: pip install 'mynah-speech[media]'"
    )
