"""CTC greedy search."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mynah.decoding import GreedySearch, ctc_greedy
from mynah.errors import ConfigError


def frames(path: list[int], probs: list[float], vocab: int = 5) -> np.ndarray:
    """Log-probabilities (T, V) whose best units are ``path``, as probable as ``probs``."""
    rows = np.empty((len(path), vocab))
    for row, unit, prob in zip(rows, path, probs, strict=True):
        row[:] = math.log((1 - prob) / (vocab - 1))
        row[unit] = math.log(prob)
    return rows


def test_repeats_merge_and_blanks_part() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 2, 0, 3]
    probs = [0.9, 0.5, 0.6, 0.9, 0.7, 0.6, 0.8, 0.7, 0.9, 0.95]
    found = ctc_greedy(frames(path, probs))
    assert found.tokens == (1, 1, 2, 3)
    assert found.times == (2, 4, 6, 9)
    assert found.token_confidences == pytest.approx((0.6, 0.7, 0.8, 0.95))
    assert found.score == pytest.approx(sum(math.log(p) for p in probs))


def test_another_blank() -> None:
    assert ctc_greedy(frames([4, 0, 4, 4, 0], [0.9] * 5), blank=4).tokens == (0, 0)


def test_no_frames_and_only_blanks() -> None:
    assert ctc_greedy(np.zeros((0, 4))).tokens == ()
    assert ctc_greedy(frames([0, 0], [0.9, 0.9])).tokens == ()


def test_blank_penalty_reveals_what_the_blank_hides() -> None:
    log_probs = np.log([[0.6, 0.3, 0.1], [0.9, 0.04, 0.06]])
    assert ctc_greedy(log_probs).tokens == ()
    found = ctc_greedy(log_probs, blank_penalty=1.0)
    assert found.tokens == (1,)
    # The probabilities are those of logits from which the penalty was taken.
    assert found.token_confidences[0] == pytest.approx(0.3 / (0.4 + 0.6 * math.exp(-1)))


def test_the_state_is_a_value() -> None:
    search = GreedySearch()
    state = search.advance(search.start(), frames([1], [0.5]))
    one = search.advance(state, frames([1], [0.7]))
    two = search.advance(state, frames([0, 1], [0.7, 0.6]))
    assert search.nbest(state)[0].tokens == (1,)
    assert search.nbest(one)[0].tokens == (1,)
    assert search.nbest(one)[0].times == (1,)
    assert search.nbest(two)[0].tokens == (1, 1)


def test_a_wrong_penalty_is_refused() -> None:
    with pytest.raises(ConfigError, match="blank_penalty"):
        GreedySearch(blank_penalty=math.nan)
