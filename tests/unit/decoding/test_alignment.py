"""Forced alignment against every path, and at its borders."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest

from mynah.decoding import force_align, token_spans
from mynah.errors import InputError


def random_log_probs(seed: int, frames: int, vocab: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, vocab)) * 2
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("blank", [0, 2])
def test_equals_the_best_of_all_paths(plain: ModuleType, frames: int, blank: int) -> None:
    log_probs = random_log_probs(frames, frames, 3)
    for tokens, entry in plain.all_prefixes(log_probs, blank).items():
        found = force_align(log_probs, tokens, blank)
        assert found.score == pytest.approx(entry["best"])
        assert tuple(found.path) == entry["path"]
        assert [end - 1 for end in found.ends] == entry["times"]
        for token, start, end, confidence in zip(
            tokens, found.starts, found.ends, found.confidences, strict=True
        ):
            assert (found.path[start:end] == token).all()
            assert confidence == pytest.approx(np.exp(log_probs[start:end, token]).mean())


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 200])
def test_the_path_is_consistent_over_blocks(plain: ModuleType, count: int) -> None:
    # More frames than a block, and counts around whole bytes of moves.
    log_probs = random_log_probs(count, 700, 20)
    tokens = np.random.default_rng(count).integers(1, 20, count)
    found = force_align(log_probs, tokens)
    assert plain.merge(tuple(found.path))[0] == tuple(tokens)
    picked = log_probs[np.arange(700), found.path]
    assert found.score == pytest.approx(picked.sum())
    # Where speech is planted, it is found.
    planted = found.path.copy()
    log_probs[np.arange(700), planted] += 5
    assert (force_align(log_probs, tokens).path == planted).all()


def test_a_tight_fit_has_one_path() -> None:
    log_probs = random_log_probs(0, 5, 4)
    assert list(force_align(log_probs, [1, 2, 2, 3]).path) == [1, 2, 0, 2, 3]


def test_no_tokens_is_all_blank() -> None:
    log_probs = random_log_probs(0, 5, 4)
    found = force_align(log_probs, [])
    assert list(found.path) == [0] * 5
    assert found.score == pytest.approx(log_probs[:, 0].sum())
    assert force_align(np.zeros((0, 4)), []).score == 0


def test_half_and_single_precision() -> None:
    log_probs = random_log_probs(1, 50, 10)
    exact = force_align(log_probs, [1, 2, 3])
    single = force_align(log_probs.astype(np.float32), [1, 2, 3])
    assert single.score == pytest.approx(exact.score, abs=1e-4)
    assert (single.path == exact.path).all()


def test_what_cannot_be_aligned_is_refused() -> None:
    log_probs = random_log_probs(0, 3, 4)
    with pytest.raises(InputError, match="3 units need 4 encoder frames, the recording has 3"):
        force_align(log_probs, [1, 1, 2])
    with pytest.raises(ValueError, match="blank"):
        force_align(log_probs, [1, 0])
    with pytest.raises(ValueError, match="outside"):
        force_align(log_probs, [4])
    log_probs[:, 2] = -math.inf
    with pytest.raises(InputError, match="probability is 0"):
        force_align(log_probs, [1, 2])


def test_spans_reach_half_way() -> None:
    spans = token_spans([10, 20, 100], frame_seconds=0.04, duration=4.2)
    assert spans == [
        (0.0, pytest.approx(0.6)),
        (pytest.approx(0.6), pytest.approx(1.3)),
        (pytest.approx(3.5), pytest.approx(4.2)),
    ]
    assert token_spans([], frame_seconds=0.04, duration=1.0) == []
