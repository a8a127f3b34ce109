"""Augmentation: what it does, that it leaves its input alone, that the generator decides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.audio import augment
from mynah.errors import InputError

Array = npt.NDArray[np.float32]


def noise(size: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def power_db(samples: Array) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1, 2.0])
def test_speed(factor: float) -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000).astype(np.float32)
    faster = augment.speed(tone, factor)
    assert abs(len(faster) - 16_000 / factor) <= 1
    spectrum = np.abs(np.fft.rfft(faster[: len(faster) // 2] * np.hanning(len(faster) // 2)))
    frequency = spectrum.argmax() * 16_000 / (len(faster) // 2)
    assert abs(frequency - 500 * factor) < 3
    with pytest.raises(InputError, match="factor 0"):
        augment.speed(tone, 0.0)


@pytest.mark.parametrize("length", [100, 5_000, 40_000])
@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_comes_at_the_ratio(length: int, snr: float) -> None:
    speech, before = 0.1 * noise(16_000), 0.1 * noise(16_000)
    mixed = augment.add_noise(np.random.default_rng(3), speech, noise(length, 1), snr)
    np.testing.assert_array_equal(speech, before)
    assert abs(power_db(speech) - power_db(mixed - speech) - snr) < 0.01


def test_noise_comes_from_anywhere() -> None:
    ramp = np.arange(1, 2_001, dtype=np.float32)
    firsts = {
        float((augment.add_noise(np.random.default_rng(seed), np.ones(10, "f4"), ramp, 0.0) - 1)[0])
        for seed in range(20)
    }
    assert len(firsts) > 10


def test_noise_and_silence() -> None:
    rng, silence = np.random.default_rng(0), np.zeros(100, dtype=np.float32)
    np.testing.assert_array_equal(augment.add_noise(rng, silence, noise(50), 5.0), silence)
    np.testing.assert_array_equal(augment.add_noise(rng, noise(50), silence, 5.0), noise(50))
    with pytest.raises(InputError, match="no samples"):
        augment.add_noise(rng, silence, silence[:0], 5.0)


def test_reverberation() -> None:
    speech = noise(4_000)
    response = np.zeros(800, dtype=np.float32)
    response[30], response[130] = 0.5, 0.25
    wet = augment.reverberate(speech, response)
    assert wet.shape == speech.shape and wet.dtype == np.float32
    assert abs(power_db(wet) - power_db(speech)) < 1e-3
    expected = speech.copy()
    expected[100:] += 0.5 * speech[:-100]  # the echo comes 100 samples after the direct sound
    np.testing.assert_allclose(
        wet, expected * np.sqrt(np.mean(speech**2) / np.mean(expected**2)), atol=1e-4
    )
    with pytest.raises(InputError, match="impulse response"):
        augment.reverberate(speech, np.zeros(5, dtype=np.float32))


def test_volume_and_dither() -> None:
    speech = noise(50_000)
    assert abs(power_db(augment.volume(speech, -6.0)) - power_db(speech) + 6.0) < 1e-4
    added = augment.dither(np.random.default_rng(0), np.zeros(50_000, dtype=np.float32), 2.0)
    assert abs(added.std() * 32_768 - 2.0) < 0.05 and added.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(0, 200), bins=st.sampled_from([1, 80]))
def test_masks_are_within_their_bounds(seed: int, frames: int, bins: int) -> None:
    feats = 1 + np.abs(noise(frames * bins, seed)).reshape(frames, bins)
    before = feats.copy()
    masked = augment.spec_augment(
        np.random.default_rng(seed), feats, time_masks=2, time_width=40, frequency_masks=0,
        max_part=0.25,
    )  # fmt: skip
    np.testing.assert_array_equal(feats, before)
    hidden = (masked == 0).all(axis=1)
    assert hidden.sum() <= 2 * min(40, frames // 4)
    np.testing.assert_array_equal(masked[~hidden], feats[~hidden])
    masked = augment.spec_augment(
        np.random.default_rng(seed), feats, time_masks=0, frequency_masks=3, frequency_width=10
    )
    columns = (masked == 0).all(axis=0)
    assert frames == 0 or 1 <= columns.sum() <= 30
    again = augment.spec_augment(
        np.random.default_rng(seed), feats, time_masks=0, frequency_masks=3, frequency_width=10
    )
    np.testing.assert_array_equal(masked, again)


def test_masks_reach_every_place_and_take_the_mean() -> None:
    feats = np.ones((50, 20), dtype=np.float32)
    frames, bins = np.zeros(50, dtype=bool), np.zeros(20, dtype=bool)
    for seed in range(300):
        masked = augment.spec_augment(np.random.default_rng(seed), feats, time_width=5)
        frames |= (masked == 0).all(axis=1)
        bins |= (masked == 0).all(axis=0)
    assert frames.all() and bins.all()
    ramp = np.arange(1000, dtype=np.float32).reshape(50, 20)
    masked = augment.spec_augment(np.random.default_rng(0), ramp, fill=None)
    assert set(masked[masked != ramp]) <= {np.float32(ramp.mean())}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(0, 100))
def test_substituted_frames_come_from_before(seed: int, frames: int) -> None:
    feats = np.repeat(np.arange(frames, dtype=np.float32)[:, None], 4, axis=1)
    varied = augment.spec_sub(np.random.default_rng(seed), feats, count=3, width=10)
    assert varied.shape == feats.shape
    assert (varied[:, 0] <= np.arange(frames)).all()
    assert (varied != feats).any(axis=1).sum() <= 30


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(0, 100))
def test_trimmed_end(seed: int, frames: int) -> None:
    feats = np.arange(frames * 3, dtype=np.float32).reshape(frames, 3)
    varied = augment.spec_trim(np.random.default_rng(seed), feats, width=20)
    assert frames - 20 <= len(varied) <= frames and 2 * len(varied) >= frames
    np.testing.assert_array_equal(varied, feats[: len(varied)])
    if frames > 40:
        assert len(varied) < frames


def test_a_microphone_is_a_curve_that_does_not_change_in_time() -> None:
    feats = np.random.default_rng(0).standard_normal((50, 80)).astype(np.float32)
    heard = augment.color(np.random.default_rng(1), feats, level=1.0, tilt=0.5)
    curve = heard - feats
    assert heard.dtype == np.float32
    np.testing.assert_allclose(curve, np.broadcast_to(curve[0], curve.shape), atol=1e-5)
    assert np.abs(curve[0]).max() > 0.1 and np.abs(np.diff(curve[0])).max() < 0.3
    flat = augment.color(np.random.default_rng(1), feats, level=1.0, tilt=0.0)[0] - feats[0]
    assert np.ptp(flat) < 1e-5


def test_a_vocal_tract_moves_what_is_at_a_frequency() -> None:
    mels = 1127.0 * np.log1p(8000 / 700.0) * (np.arange(80) + 1) / 81
    hertz = 700.0 * np.expm1(mels / 1127.0)
    feats = np.exp(-(((hertz - 1500.0) / 300.0) ** 2)).astype(np.float32)[None].repeat(3, 0)
    seen = []
    for seed in range(40):
        warped = augment.warp_frequency(np.random.default_rng(seed), feats, width=0.2)
        assert warped.shape == feats.shape and warped.dtype == np.float32
        seen.append(1500.0 / hertz[int(warped[0].argmax())])
    assert 0.8 < min(seen) < 0.9 and 1.1 < max(seen) < 1.25
    same = augment.warp_frequency(np.random.default_rng(0), feats, width=0.0)
    np.testing.assert_allclose(same, feats, atol=1e-6)
    assert augment.warp_frequency(np.random.default_rng(0), feats[:, :1]).shape == (3, 1)


def test_a_bent_axis_moves_formants_apart() -> None:
    at = np.arange(80)
    feats = np.stack([np.exp(-(((at - place) / 2.0) ** 2)) for place in (15, 40, 65)]).astype("f4")
    moved = np.array([
        augment.warp_frequency(np.random.default_rng(seed), feats, width=0.0, bend=1.5).argmax(1)
        for seed in range(200)
    ]) - (15, 40, 65)  # fmt: skip
    assert np.abs(moved.mean(0)).max() < 0.4  # neither way
    assert moved.std(0).min() > 0.6 and moved.std(0).max() < 2.5
    assert np.abs(np.diff(moved, axis=1)).max() >= 2  # not all by the same
    heights = augment.draw_bends(np.random.default_rng(0), 20_000, 2.0)
    assert np.linalg.norm(heights.std(0)) == pytest.approx(2.0, rel=0.03)


def test_another_rhythm_has_the_same_ends() -> None:
    lens = [400, 1, 0, 250, 2]
    places = augment.draw_tempo(np.random.default_rng(3), lens, 0.3)
    assert places.shape == (5, 400) and places.dtype == np.float32
    for row, size in zip(places, lens, strict=True):
        np.testing.assert_array_equal(row[size:], np.arange(size, 400))
        if size:
            assert row[0] == 0 and row[size - 1] == pytest.approx(size - 1, abs=1e-3)
            assert (np.diff(row[:size]) > 0).all()
    pace = np.diff(places[0])
    assert pace.min() < 0.85 and pace.max() > 1.15 and np.abs(np.diff(pace)).max() < 0.1
    np.testing.assert_allclose(
        augment.draw_tempo(np.random.default_rng(3), lens, 0.0)[0], np.arange(400), atol=1e-3
    )
    assert augment.draw_tempo(np.random.default_rng(3), [], 0.3).shape == (0, 0)


def test_frames_between_others_are_their_means() -> None:
    feats = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = augment.at_places(feats, np.array([0.0, 0.5, 2.25, 3.0], np.float32))
    np.testing.assert_allclose(found[:, 0], [0.0, 1.5, 6.75, 9.0])
    assert found.shape == (4, 3) and found.dtype == np.float32
    assert augment.at_places(feats[:1], np.zeros(1, np.float32)).tolist() == feats[:1].tolist()


def test_fast_sizes() -> None:
    def smooth(size: int) -> bool:
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        return size == 1

    for least in [*range(1, 300), 144_001]:
        expected = next(size for size in range(least, 2 * least) if smooth(size))
        assert augment.fast_size(least) == expected, least
