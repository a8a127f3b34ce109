"""Reliability, and the map that makes confidences probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mynah.errors import ConfigError, InputError, ModelError
from mynah.evaluation.calibration import (
    calibration_error,
    fit_logistic,
    normalized_cross_entropy,
    reliability,
    right_words,
)
from mynah.runtime.confidence import Calibration, read_calibration, word_facts


def test_right_words() -> None:
    assert right_words(["the", "cat", "sat"], "The cat sat.") == [True] * 3
    assert right_words(["a", "cat", "sad", "up"], "the cat sat") == [False, True, False, False]
    assert right_words(["cat,", "sat"], "the cat sat") == [True, True]
    assert right_words([], "the cat") == []
    assert right_words(["x"], "") == [False]
    # a word of two tokens is right when both are; one of none never is
    assert right_words(["well-known", "–"], "well known") == [True, False]
    assert right_words(["well-known"], "well now") == [False]
    assert right_words(["你", "好"], "你号", "zh") == [True, False]


def test_reliability_by_hand() -> None:
    confidences = [0.05, 0.15, 0.15, 0.95, 1.0]
    right = [False, False, True, True, False]
    table = reliability(confidences, right)
    assert [(b.count, b.right) for b in table] == [(1, 0.0), (2, 0.5), (2, 0.5)]
    assert [b.confidence for b in table] == pytest.approx([0.05, 0.15, 0.975])
    expected = (1 * 0.05 + 2 * 0.35 + 2 * 0.475) / 5
    assert calibration_error(confidences, right) == pytest.approx(expected)
    assert calibration_error([], []) == 0


def test_cross_entropy() -> None:
    right = [True, True, False, True]
    assert normalized_cross_entropy([0.75] * 4, right) == pytest.approx(0)
    assert normalized_cross_entropy([1, 1, 0, 1], right) == pytest.approx(1, abs=1e-4)
    assert normalized_cross_entropy([0, 0, 1, 0], right) < -1


def made(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Facts, and right words by a known map of them."""
    rng = np.random.default_rng(seed)
    facts = np.column_stack([rng.normal(-1, 0.5, count), rng.normal(2, 3.0, count)])
    chance = 1 / (1 + np.exp(-(2.0 * facts[:, 0] - 0.5 * facts[:, 1] + 3.0)))
    return facts, rng.random(count) < chance


def test_a_known_map_is_found() -> None:
    facts, right = made(20000)
    weights, bias = fit_logistic(facts, right)
    assert [*weights, bias] == pytest.approx([2.0, -0.5, 3.0], abs=0.2)
    others, truth = made(5000, seed=1)
    values = 1 / (1 + np.exp(-(others @ np.array(weights) + bias)))
    assert calibration_error(values, truth) < 0.03


def test_the_fit_is_where_nothing_gets_better() -> None:
    facts, right = made(300)
    weights, bias = fit_logistic(facts, right, penalty=0.0)

    def loss(w: list[float], b: float) -> float:
        total = facts @ np.array(w) + b
        return float(np.logaddexp(0, np.where(right, -total, total)).sum())

    best = loss(weights, bias)
    for change in (0.01, -0.01):
        assert loss([weights[0] + change, weights[1]], bias) > best
        assert loss([weights[0], weights[1] + change], bias) > best
        assert loss(weights, bias + change) > best


def test_rising_facts_never_fall() -> None:
    facts, right = made(3000)
    weights, _ = fit_logistic(facts, right, rising=(0, 1))
    assert weights[0] > 0
    assert weights[1] == 0


def test_nothing_to_fit() -> None:
    with pytest.raises(InputError, match="of 0 words 0 are right"):
        fit_logistic(np.zeros((0, 2)), [])
    with pytest.raises(InputError, match="of 3 words 3 are right"):
        fit_logistic(np.zeros((3, 2)), [True] * 3)
    # what can be told apart completely has a finite map all the same
    weights, bias = fit_logistic([[0.0], [0.0], [1.0], [1.0]], [False, False, True, True])
    assert all(map(math.isfinite, [*weights, bias]))


def test_facts_of_a_word() -> None:
    mean, least, units, frames = word_facts([0.5, 0.25], 8)
    assert mean == pytest.approx(math.log(0.5 * 0.25) / 2)
    assert least == pytest.approx(math.log(0.25))
    assert units == pytest.approx(math.log(2))
    assert frames == pytest.approx(math.log(4))
    assert all(map(math.isfinite, word_facts([0.0], 0)))


def test_the_table_of_a_model() -> None:
    assert read_calibration({}, "m") is None
    found = read_calibration({"weights": [1, 0, 0, 0], "bias": 0.0, "words": 3}, "m")
    assert found == Calibration((1.0, 0.0, 0.0, 0.0), 0.0, 3)
    assert found((0.0, 0.0, 0.0, 0.0)) == 0.5
    assert found((-1e9, 0.0, 0.0, 0.0)) == 0.0
    assert found((1e9, 0.0, 0.0, 0.0)) == 1.0
    with pytest.raises(ModelError, match=r"m: confidence\.bais: unknown key \(did you mean"):
        read_calibration({"weights": [1, 0, 0, 0], "bais": 0.0}, "m")
    with pytest.raises(ConfigError, match="not finite"):
        Calibration((math.inf, 0.0, 0.0, 0.0), 0.0)
