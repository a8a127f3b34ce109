"""Edges of words beside pauses, where the sound is known."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.runtime.edges import HOP, Loudness, refine
from mynah.runtime.result import Word

RATE = 8000


def sound(spans: list[tuple[float, float]], length: float, noise: float = 0.0) -> np.ndarray:
    """A tone in each span, noise everywhere."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, noise, int(length * RATE)) if noise else np.zeros(int(length * RATE))
    for start, end in spans:
        first, last = int(start * RATE), int(end * RATE)
        samples[first:last] += 0.3 * np.sin(0.5 * np.arange(last - first))
    return samples.astype(np.float32)


def loudness(samples: np.ndarray, size: int = 0) -> np.ndarray:
    measured = Loudness(RATE)
    for first in range(0, len(samples), size or len(samples)):
        measured.add(samples[first : first + (size or len(samples))])
    return measured.values()


def words(*cores: tuple[float, float], margin: float = 0.05) -> list[Word]:
    return [Word("w", a - margin, b + margin, 0.5, "aligned") for a, b in cores]


def test_loudness_does_not_depend_on_blocks() -> None:
    samples = sound([(0.1, 0.5)], 1.003, noise=0.01)
    whole = loudness(samples)
    assert len(whole) == 100
    for size in (1, 79, 80, 1000):
        assert loudness(samples, size) == pytest.approx(whole)


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_edges_are_those_of_the_sound(noise: float) -> None:
    spans = [(0.4, 0.9), (1.3, 1.7), (1.7, 2.2)]
    cores = [(0.55, 0.8), (1.35, 1.6), (1.75, 2.0)]
    found = refine(words(*cores), cores, loudness(sound(spans, 2.8, noise)))
    edges = [time for word in found for time in (word.start, word.end)]
    # nothing is known of the edge between two words without a pause
    assert edges == pytest.approx([0.4, 0.9, 1.3, 1.65, 1.7, 2.2], abs=0.011)


def test_what_is_not_clear_stays() -> None:
    cores = [(0.55, 0.8), (1.35, 1.6)]
    given = words(*cores)
    spans = [(0.4, 0.9), (1.3, 1.7)]
    loud = loudness(sound(spans, 2.0, noise=0.1))
    assert refine(given, cores, loud) == given
    # a word that was not heard lies in between
    quiet = loudness(sound(spans, 2.0))
    three = [given[0], Word("x", 1.0, 1.1, 0.0, "interpolated"), given[1]]
    found = refine(three, [cores[0], None, cores[1]], quiet)
    assert (found[0].end, found[2].start) == (given[0].end, given[1].start)
    assert refine([], [], quiet) == []
    assert refine(three[1:2], [None], quiet) == three[1:2]
    assert refine(given, cores, np.zeros(0, np.float32)) == given


def test_a_sound_too_far_away_is_not_of_the_word() -> None:
    cores = [(0.5, 0.6)]
    found = refine(words(*cores), cores, loudness(sound([(0.0, 1.4)], 3.0)))
    assert found[0].end == pytest.approx(0.65)


def test_characters_move_along() -> None:
    word = Word("hi", 0.5, 0.85, 0.5, "aligned", ((0.5, 0.7), (0.7, 0.85)))
    (found,) = refine([word], [(0.55, 0.8)], loudness(sound([(0.4, 0.95)], 1.5)))
    assert found.chars == ((found.start, 0.7), (0.7, found.end))
    assert (found.start, found.end) == pytest.approx((0.4, 0.95), abs=HOP)
