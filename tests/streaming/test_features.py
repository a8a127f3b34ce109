"""Features of a stream, cut anywhere, are those of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mynah.audio import Frontend, make_frontend, read

KINDS: list[dict[str, Any]] = [
    {"kind": "fbank"},
    {"kind": "fbank", "window": "hamming", "snip_edges": False, "use_energy": True},
    {"kind": "fbank", "rate": 8_000, "window": "rectangular", "remove_dc": False},
    {"kind": "mfcc", "use_energy": True},
    {"kind": "whisper", "num_mels": 80},
    {"kind": "whisper", "num_mels": 128},
    {"kind": "mel", "log": "ln"},
    {"kind": "mel", "pad": 0, "win_length": 800},
    {"kind": "mel", "pad": 384, "power": 1, "log": "log10"},
    {"kind": "mel", "pad": 900, "pad_mode": "constant"},
]
FRONTENDS = [make_frontend(values) for values in KINDS]


def speech_like(size: int) -> np.ndarray:
    """Bursts with silences between them: weak bins, where rounding would show."""
    rng = np.random.default_rng(7)
    samples = 0.1 * rng.standard_normal(size).cumsum() / 30 + 0.01
    samples[(np.arange(size) // 1_500) % 3 == 2] = 0.0
    return np.clip(samples, -1, 1).astype(np.float32)


SAMPLES = speech_like(12_000)


def streamed(frontend: Frontend, samples: np.ndarray, cuts: list[int]) -> np.ndarray:
    stream = frontend.stream()
    parts, start = [], 0
    for length in cuts:
        parts.append(stream.feed(samples[start : start + length]))
        start += length
    parts.append(stream.feed(samples[start:], last=True))
    return np.concatenate(parts)


@settings(max_examples=150, deadline=None)
@given(
    which=st.integers(0, len(FRONTENDS) - 1),
    size=st.one_of(st.integers(0, 2_000), st.integers(0, len(SAMPLES))),
    cuts=st.lists(st.one_of(st.integers(0, 300), st.integers(0, 4_000)), max_size=12),
)
@example(which=0, size=0, cuts=[])
@example(which=4, size=161, cuts=[160])
@example(which=1, size=121, cuts=[121])
@example(which=9, size=1_000, cuts=[901])
@example(which=3, size=12_000, cuts=[500] * 12)
def test_ragged_chunks_give_the_whole(which: int, size: int, cuts: list[int]) -> None:
    frontend = FRONTENDS[which]
    samples = SAMPLES[:size]
    whole = frontend.stream().feed(samples, last=True)
    assert whole.shape == (frontend.num_frames(size), frontend.dim)
    got = streamed(frontend, samples, cuts)
    assert got.shape == whole.shape
    np.testing.assert_allclose(got, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("values", KINDS[:5], ids=lambda v: "-".join(map(str, v.values())))
def test_one_sample_at_a_time(values: dict[str, Any]) -> None:
    frontend, samples = make_frontend(values), SAMPLES[:1_200]
    whole = frontend.stream().feed(samples, last=True)
    got = streamed(frontend, samples, [1] * len(samples))
    np.testing.assert_allclose(got, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("values", KINDS, ids=lambda v: "-".join(map(str, v.values())))
def test_frames_come_as_soon_as_their_samples(values: dict[str, Any]) -> None:
    frontend = make_frontend(values)
    stream, seen, frames = frontend.stream(), 0, 0
    shift = round(frontend.frame_shift * frontend.rate)
    while seen + shift <= len(SAMPLES):
        frames += len(stream.feed(SAMPLES[seen : seen + shift]))
        seen += shift
        # At most a window behind what the samples so far would give as a whole.
        behind = 0 if values["kind"] == "fbank" and values.get("snip_edges", True) else 8
        assert frontend.num_frames(seen) - behind <= frames <= frontend.num_frames(seen)


def test_a_stream_starts_anew_after_the_last() -> None:
    for frontend in FRONTENDS:
        stream = frontend.stream()
        first = stream.feed(SAMPLES[:5_000], last=True)
        stream.feed(SAMPLES[100:3_000])
        stream.feed([], last=True)
        np.testing.assert_array_equal(stream.feed(SAMPLES[:5_000], last=True), first)


def test_streams_do_not_disturb_each_other() -> None:
    frontend = FRONTENDS[0]
    one, two = frontend.stream(), frontend.stream()
    halves = [one.feed(SAMPLES[:5_000]), one.feed(SAMPLES[5_000:], last=True)]
    two.feed(SAMPLES[2_000:6_000])
    again = [one.feed(SAMPLES[:5_000]), two.feed(SAMPLES[:7])]
    np.testing.assert_array_equal(np.concatenate(halves), frontend(SAMPLES))
    np.testing.assert_array_equal(again[0], halves[0])


def test_the_caller_may_use_its_array_again() -> None:
    for frontend in FRONTENDS:
        stream, chunk, parts = frontend.stream(), np.zeros(90, dtype=np.float32), []
        for start in range(0, 9_000, 90):
            chunk[:] = SAMPLES[start : start + 90]
            parts.append(stream.feed(chunk))
            chunk[:] = 9.0
        parts.append(stream.feed([], last=True))
        whole = frontend.stream().feed(SAMPLES[:9_000], last=True)
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-5)


def test_a_stream_keeps_little() -> None:
    """Ten minutes leave no more behind than a second does."""
    stream = FRONTENDS[0].stream()
    sizes = set()
    for _ in range(600):
        stream.feed(SAMPLES)
        sizes.add(len(stream._buffer))
    assert max(sizes) < 1_000


def test_real_speech(speech: Path) -> None:
    samples = read(speech / "awb_1.flac").samples
    rng = np.random.default_rng(0)
    for values in KINDS[:2] + KINDS[3:6]:
        frontend = make_frontend(values)
        whole = frontend.stream().feed(samples, last=True)
        cuts = [int(n) for n in rng.integers(0, 3_000, size=40)]
        got = streamed(frontend, samples, cuts)
        np.testing.assert_allclose(got, whole, rtol=0, atol=1e-5)
