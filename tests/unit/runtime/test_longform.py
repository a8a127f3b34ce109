"""Windows of long recordings, and samples of every kind."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mynah.audio import Waveform
from mynah.errors import InputError
from mynah.runtime.longform import Window, is_silent, quietest, windows
from mynah.runtime.sound import as_samples, seconds_of, sound_blocks

RATE = 1000


def loud(seconds: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * RATE))
    return samples.astype(np.float32)


def joined(found: list[Window]) -> np.ndarray:
    for one, other in itertools.pairwise(found):
        assert other.start == one.start + len(one.samples)
    return np.concatenate([window.samples for window in found])


def test_windows_are_the_recording_whatever_the_blocks() -> None:
    sound = loud(95.3)
    sound[26_000:26_400] *= 0.01
    rng = np.random.default_rng(1)
    cuts = np.sort(rng.integers(0, len(sound), 40))
    ragged = list(windows(np.split(sound, cuts), RATE))
    whole = list(windows([sound], RATE))
    assert [w.start for w in ragged] == [w.start for w in whole]
    np.testing.assert_array_equal(joined(ragged), sound)
    assert all(len(w.samples) <= 30 * RATE for w in ragged)


def test_the_cut_is_in_the_quietest_place_of_the_last_seconds() -> None:
    sound = loud(50)
    sound[10_000:10_400] = 0  # too early
    sound[26_000:26_400] *= 0.01
    second = list(windows([sound], RATE))[1]
    assert 26_000 <= second.start <= 26_400


def test_memory_is_bounded() -> None:
    largest = 0

    def blocks() -> object:
        for _ in range(600):
            yield loud(1.0)

    for window in windows(blocks(), RATE):  # type: ignore[arg-type]
        base = window.samples.base
        largest = max(largest, window.samples.nbytes if base is None else base.nbytes)
    assert largest <= 4 * 32 * RATE


def test_one_window_when_it_fits() -> None:
    assert len(list(windows([loud(30.0)], RATE))) == 1
    assert len(list(windows([loud(30.001)], RATE))) == 2
    assert list(windows([], RATE)) == []
    assert list(windows([np.zeros(0, np.float32)], RATE)) == []


@pytest.mark.parametrize("count", [1, 5, 9, 11, 299])
def test_quietest_of_few_samples(count: int) -> None:
    assert 0 <= quietest(np.ones(count, np.float32), RATE) <= count


def test_silence() -> None:
    assert is_silent(np.zeros(10, np.float32))
    assert is_silent(np.full(10, -9e-5, np.float32))
    assert not is_silent(np.array([0, -2e-4], np.float32))
    assert is_silent(np.zeros(0, np.float32))


def test_integers_are_scaled_and_channels_mixed() -> None:
    np.testing.assert_allclose(as_samples(np.array([-32768, 16384], np.int16)), [-1, 0.5])
    np.testing.assert_allclose(as_samples(np.array([2**30], np.int32)), [0.5])
    assert as_samples(np.full(3, 1e9, np.float32)).max() == np.float32(1e9)  # of integers
    np.testing.assert_allclose(as_samples(np.array([[1.0, 0.0], [0.0, 0.5]])), [0.5, 0.25])
    assert as_samples([0.5, 0.25]).dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 1, 1)),
        np.array([np.nan]),
        np.array([np.inf]),
        np.full(3, 1e30, np.float32),  # its square is no float32
        np.array([1, 2]),
        np.array(["a"]),
        np.zeros((16000, 2), np.float32),  # channels last
    ],
)
def test_wrong_samples(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="samples: "):
        as_samples(wrong)


def test_arrays_are_resampled_and_a_channel_chosen() -> None:
    time = np.arange(2 * 8000) / 8000
    low, high = (np.sin(2 * np.pi * f * time).astype(np.float32) for f in (200, 1500))
    both = np.stack([low, high])
    first = np.concatenate(list(sound_blocks(both, 16000, samples_rate=8000, channel=1)))
    again = np.concatenate(list(sound_blocks(Waveform(high, 8000), 16000)))
    assert len(first) == 2 * 16000
    np.testing.assert_array_equal(first, again)
    spectrum = np.abs(np.fft.rfft(first))
    assert spectrum.argmax() * 16000 / len(first) == pytest.approx(1500, abs=2)
    assert seconds_of(both, 8000) == seconds_of(Waveform(high, 8000), 16000) == 2.0
    assert seconds_of("-", 8000) is None
    with pytest.raises(InputError, match="no channel 2"):
        list(sound_blocks(both, 16000, samples_rate=8000, channel=2))
