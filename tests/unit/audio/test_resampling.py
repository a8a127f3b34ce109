"""Sample-rate conversion, whole and in a stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.audio import Resampler, resample
from mynah.errors import InputError

RATES = [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000), (16_000, 11_025), (16_000, 16_000)]


@settings(max_examples=40, deadline=None)
@given(
    rates=st.sampled_from(RATES),
    cuts=st.lists(st.integers(0, 2_000), max_size=8),
    channels=st.sampled_from([None, 2]),
)
def test_stream_gives_the_whole(
    rates: tuple[int, int], cuts: list[int], channels: int | None
) -> None:
    size = sum(cuts)
    shape = (size,) if channels is None else (channels, size)
    samples = np.random.default_rng(size).standard_normal(shape).astype(np.float32)
    stream = Resampler(*rates, channels=channels)
    for _ in range(2):  # the end of one stream begins the next
        parts, start = [], 0
        for length in cuts:
            parts.append(stream.feed(samples[..., start : start + length]))
            start += length
        parts.append(stream.feed(samples[..., start:], last=True))
        whole = resample(samples, *rates)
        np.testing.assert_array_equal(np.concatenate(parts, axis=-1), whole)
    assert abs(whole.shape[-1] - size * rates[1] / rates[0]) <= 0.5


def test_a_tone_keeps_its_frequency_and_place() -> None:
    def tone(rate: int) -> np.ndarray:
        return np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate).astype(np.float32)

    out = resample(tone(44_100), 44_100, 16_000)
    assert np.abs(out[400:-400] - tone(16_000)[400:-400]).max() < 1e-3


def test_what_cannot_be_heard_is_gone() -> None:
    high = np.sin(2 * np.pi * 10_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resample(high, 48_000, 16_000)[400:-400]).max() < 1e-3


def test_refused() -> None:
    with pytest.raises(InputError, match="from_rate: 10 Hz"):
        resample(np.zeros(5), 10, 16_000)
    with pytest.raises(InputError, match="to_rate"):
        Resampler(16_000, 10**7)
    with pytest.raises(InputError, match=r"shape \(1, 2, 3\)"):
        resample(np.zeros((1, 2, 3)), 8_000, 16_000)
    with pytest.raises(InputError, match=r"is not \(2, S\)"):
        Resampler(8_000, 16_000, channels=2).feed(np.zeros(5))
