"""Where speech is in a clean recording, and noise that is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mynah import audio
from mynah.audio.activity import energy_activity, frame_levels
from mynah.audio.noises import KINDS, made_noise, varied

RATE = 16_000


def burst(seconds: float, level: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    noise = level * rng.standard_normal(round(seconds * RATE))
    return (noise - noise.mean()).astype(np.float32)


def test_bursts_in_near_silence() -> None:
    parts = [(0.5, 1e-4), (1.0, 0.1), (0.1, 1e-4), (0.5, 0.1), (0.6, 1e-4), (0.4, 0.05), (1, 1e-4)]
    found = energy_activity(np.concatenate([burst(*part) for part in parts]), RATE)
    assert np.array(found.segments) == pytest.approx(np.array([(0.5, 2.1), (2.7, 3.1)]), abs=0.025)
    assert found.contrast > 40


def test_gaps_closed_later_are_gaps_closed_at_once(speech: Path) -> None:
    samples = audio.read(speech / "awb_1.flac", rate=RATE).samples
    small, closed = energy_activity(samples, RATE, gap=0.06).segments, []
    for start, end in small:
        if closed and start - closed[-1][1] < 0.25:
            start = closed.pop()[0]
        closed.append((start, end))
    assert tuple(closed) == energy_activity(samples, RATE).segments
    assert len(closed) < len(small)


def test_a_weak_edge_belongs_to_the_burst_and_a_click_does_not() -> None:
    parts = [(0.5, 1e-4), (0.03, 0.1), (0.5, 1e-4), (0.2, 2e-3), (0.5, 0.1), (0.5, 1e-4)]
    found = energy_activity(np.concatenate([burst(*part) for part in parts]), RATE)
    assert np.array(found.segments) == pytest.approx(np.array([(1.03, 1.73)]), abs=0.025)


def test_nothing_and_noise() -> None:
    assert energy_activity(np.zeros(0, np.float32), RATE).segments == ()
    assert energy_activity(np.zeros(RATE, np.float32), RATE).segments == ()
    assert energy_activity(burst(2, 0.1), RATE).contrast < 6, "no levels to tell apart"


def test_levels() -> None:
    levels = frame_levels(burst(1, 0.1), RATE)
    assert len(levels) == 100
    assert levels == pytest.approx(-20, abs=3)


def test_synthetic_speech(speech: Path) -> None:
    samples = audio.read(speech / "awb_1.flac", rate=RATE).samples
    found = energy_activity(samples, RATE)
    spoken = sum(end - start for start, end in found.segments)
    assert found.contrast > 30
    assert 0.5 < spoken / (len(samples) / RATE) <= 1.0


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_made_noise(kind: str) -> None:
    a, b = (KINDS[kind](np.random.default_rng(5), 12_345, RATE) for _ in range(2))
    assert a.dtype == np.float32 and a.shape == (12_345,)
    assert np.isfinite(a).all() and np.mean(a**2) == pytest.approx(1.0, rel=1e-3)
    assert np.array_equal(a, b), "the generator alone decides"


def test_given_kinds_are_drawn() -> None:
    one = made_noise(np.random.default_rng(3), RATE, RATE, ["saw", "cries"])
    rng = np.random.default_rng(3)
    assert np.array_equal(one, KINDS[("saw", "cries")[int(rng.integers(2))]](rng, RATE, RATE))


def test_a_kind_is_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = [made_noise(rng, 2 * RATE, RATE) for _ in range(20)]
    assert len({a.tobytes() for a in drawn}) == 20


@pytest.mark.parametrize("length", [3, 5_000, 80_000])
def test_a_recorded_noise_varied(length: int) -> None:
    noise = np.random.default_rng(1).standard_normal(length).astype(np.float32)
    before, room = noise.copy(), np.array([0.0, 1.0, 0.5], np.float32)
    found = []
    for seed in range(12):
        a, b = (
            varied(np.random.default_rng(seed), noise, 32_000, RATE, room if seed % 2 else None)
            for _ in range(2)
        )
        assert a.dtype == np.float32 and a.shape == (32_000,) and np.isfinite(a).all()
        assert np.array_equal(a, b) and a.any()
        found.append(a.tobytes())
    assert len(set(found)) == 12 and np.array_equal(noise, before)
