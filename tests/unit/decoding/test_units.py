"""The best units of each frame against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.decoding.units import best_units, penalise_blank
from mynah.errors import ModelError


@pytest.mark.parametrize("vocab", [1, 7, 128, 129, 333, 1000, 5003])
@pytest.mark.parametrize("count", [1, 10, 64])
@pytest.mark.parametrize("kind", ["normal", "ties", "impossible", "sorted"])
def test_equals_a_plain_sort(vocab: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(vocab + count)
    values = rng.normal(size=(7, vocab)).astype(np.float32)
    if kind == "ties":
        values = np.round(values * 2) / 2
    elif kind == "impossible":
        values[rng.random(values.shape) < 0.95] = -np.inf
    elif kind == "sorted":
        values.sort(axis=1)
    units, found = best_units(values, count)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(units, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(values, expected, axis=1))


def test_what_is_no_number_hides_nothing() -> None:
    """Beside one of the best, in its block, it is passed over; where it may be one, refused."""
    values = np.random.default_rng(3).normal(size=600).astype(np.float32)
    best = np.argsort(-values)[:3]
    found = 0
    for place in range(600):
        if place in best:
            continue
        row = values[None].copy()
        row[0, place] = np.nan
        try:
            units, _ = best_units(row, 3)
        except ModelError:
            continue
        np.testing.assert_array_equal(units[0], best)
        found += 1
    assert found


@pytest.mark.parametrize("vocab", [10007, 51865])
@pytest.mark.parametrize("kind", ["normal", "ties", "few"])
def test_a_large_vocabulary(vocab: int, kind: str) -> None:
    """Where the floor of the blocks' maxima is found by blocks, too."""
    rng = np.random.default_rng(vocab)
    values = rng.normal(size=(3, vocab)).astype(np.float32)
    if kind == "ties":
        values = np.round(values)
    elif kind == "few":  # fewer are possible than are asked for
        values[:, 3:-1] = -np.inf
    values[0, -6:] = 9.0  # in the last fold, which is not whole
    for count in (1, 6, 11):
        units, found = best_units(values, count)
        expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
        np.testing.assert_array_equal(units, expected)
        np.testing.assert_array_equal(found, np.take_along_axis(values, expected, axis=1))


@pytest.mark.parametrize("vocab", [20, 5000, 51865])
def test_frames_of_nan_are_refused(vocab: int) -> None:
    values = np.zeros((4, vocab), dtype=np.float32)
    values[2] = np.nan
    with pytest.raises(ModelError, match="frame 2"):
        best_units(values, 10)


def test_no_frames() -> None:
    units, values = best_units(np.zeros((0, 5000), dtype=np.float32), 10)
    assert units.shape == values.shape == (0, 10)


@pytest.mark.parametrize("penalty", [-3.0, 0.5, 4.0, 30.0])
def test_blank_penalty_keeps_a_distribution(penalty: float) -> None:
    logits = np.random.default_rng(0).normal(size=(40, 8))
    logits[:, 2] += np.linspace(0, 40, 40)
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    found = penalise_blank(log_probs, 2, penalty)
    logits[:, 2] -= penalty
    expected = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-9)
