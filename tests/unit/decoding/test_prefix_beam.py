"""CTC prefix beam search against plain searches, and at its borders."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.decoding import Hypothesis, PrefixBeamSearch
from mynah.errors import ConfigError, ModelError


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def random_log_probs(
    rng: np.random.Generator, frames: int, vocab: int, scale: float, blank: float = 0.0
) -> np.ndarray:
    logits = rng.normal(size=(frames, vocab)) * scale
    logits[:, 0] += blank
    return log_softmax(logits)


def run(search: PrefixBeamSearch, log_probs: np.ndarray) -> list[Hypothesis]:
    return search.nbest(search.advance(search.start(), log_probs))


def assert_same(found: list[Hypothesis], expected: list[tuple], atol: float = 1e-9) -> None:
    assert [h.tokens for h in found] == [tokens for tokens, _, _ in expected]
    assert [list(h.times) for h in found] == [times for _, _, times in expected]
    scores = [score for _, score, _ in expected]
    np.testing.assert_allclose([h.score for h in found], scores, rtol=1e-11, atol=atol)


@pytest.mark.parametrize("seed", range(300))
def test_equals_the_plain_search(plain: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocab = int(rng.integers(1, 12))
    beam, top_units = int(rng.integers(1, 12)), int(rng.integers(1, vocab + 2))
    log_probs = random_log_probs(
        rng, int(rng.integers(0, 40)), vocab, rng.choice([0.3, 1, 3, 8]), rng.choice([0, 2, 5])
    )
    blank = int(rng.integers(vocab)) if rng.random() < 0.3 else 0
    search = PrefixBeamSearch(beam, top_units, blank)
    assert_same(run(search, log_probs), plain.prefix_beam(log_probs, beam, top_units, blank))


@pytest.mark.parametrize("kind", ["speech", "hard", "flat"])
def test_equals_the_plain_search_on_the_data_of_the_benchmark(
    plain: ModuleType, benchmark_search: ModuleType, kind: str
) -> None:
    log_probs = benchmark_search.make_log_probs(kind)
    assert_same(run(PrefixBeamSearch(), log_probs), plain.prefix_beam(log_probs, 10, 10))


def test_a_dropped_prefix_that_returns_is_the_same_prefix(plain: ModuleType) -> None:
    # Repeated units and a small beam drop prefixes whose continuations stay, and bring them back.
    for seed in range(40):
        rng = np.random.default_rng(seed)
        log_probs = random_log_probs(rng, 60, 3, 1.5)
        for beam in (3, 4, 5):
            expected = plain.prefix_beam(log_probs, beam, 3)
            assert_same(run(PrefixBeamSearch(beam, 3), log_probs), expected)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_a_beam_wide_enough_sums_every_path(plain: ModuleType, frames: int) -> None:
    log_probs = random_log_probs(np.random.default_rng(frames), frames, 4, 1.0)
    every = plain.all_prefixes(log_probs)
    found = run(PrefixBeamSearch(beam=len(every), top_units=4), log_probs)
    assert len(found) == len(every)
    assert np.logaddexp.reduce([h.score for h in found]) == pytest.approx(0, abs=1e-12)
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(every[hypothesis.tokens]["score"], abs=1e-10)
    scores = [h.score for h in found]
    assert scores == sorted(scores, reverse=True)


def test_times_are_those_of_the_best_path(plain: ModuleType) -> None:
    for seed in range(20):
        log_probs = random_log_probs(np.random.default_rng(seed), 5, 3, 3.0)
        every = plain.all_prefixes(log_probs)
        best = run(PrefixBeamSearch(beam=len(every), top_units=3), log_probs)[0]
        assert list(best.times) == every[best.tokens]["times"]
        last = [math.exp(log_probs[t, u]) for u, t in zip(best.tokens, best.times, strict=True)]
        # The confidence is the largest probability within the run that ends at the time.
        for confidence, least in zip(best.token_confidences, last, strict=True):
            assert least - 1e-12 <= confidence <= 1


def test_a_run_gives_the_largest_confidence_and_the_last_frame() -> None:
    probs = np.array([[0.98, 0.01, 0.01], [0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.3, 0.6, 0.1]])
    best = run(PrefixBeamSearch(), np.log(probs))[0]
    assert best.tokens == (1,)
    assert best.times == (3,)
    assert best.token_confidences == pytest.approx((0.9,))


def test_the_same_unit_twice_needs_a_blank_between() -> None:
    apart = np.log([[0.01, 0.99], [0.99, 0.01], [0.01, 0.99]])
    together = np.log([[0.01, 0.99], [0.01, 0.99], [0.01, 0.99]])
    assert run(PrefixBeamSearch(), apart)[0].tokens == (1, 1)
    assert run(PrefixBeamSearch(), together)[0].tokens == (1,)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_the_plain_search_whatever_the_numbers(plain: ModuleType, data: st.DataObject):
    frames, vocab = data.draw(st.integers(0, 8)), data.draw(st.integers(2, 5))
    # Whole multiples keep draws readable; the small slope keeps two scores from being equal.
    logits = data.draw(
        st.lists(st.integers(-40, 40), min_size=frames * vocab, max_size=frames * vocab)
    )
    slope = np.sqrt(2 + np.arange(frames * vocab)) / 97
    log_probs = log_softmax((np.array(logits) + slope).reshape(frames, vocab))
    beam, top_units = data.draw(st.integers(1, 8)), data.draw(st.integers(1, vocab))
    search = PrefixBeamSearch(beam, top_units)
    found, expected = run(search, log_probs), plain.prefix_beam(log_probs, beam, top_units)
    scores = [score for _, score, _ in plain.prefix_beam(log_probs, beam + 1, top_units)]
    if np.all(np.diff(scores) < -1e-9):  # two equal scores may stand in either order
        assert_same(found, expected)
    cut = data.draw(st.integers(0, frames))
    state = search.advance(search.start(), log_probs[:cut])
    assert search.nbest(search.advance(state, log_probs[cut:])) == found


@pytest.mark.parametrize(("vocab", "scale"), [(4, 0.3), (30, 2.0)])
def test_a_long_recording_stays_in_range(plain: ModuleType, vocab: int, scale: float) -> None:
    # Few units, all alike: the paths of a prefix become so many that their sum, taken relative to
    # the best unit of each frame, would leave the range of a float.
    log_probs = random_log_probs(np.random.default_rng(5), 1500, vocab, scale)
    found = run(PrefixBeamSearch(beam=4, top_units=4), log_probs)
    assert_same(found, plain.prefix_beam(log_probs, 4, 4), atol=1e-6)


def test_improbable_units_do_not_underflow(plain: ModuleType) -> None:
    log_probs = random_log_probs(np.random.default_rng(6), 40, 12, 60.0)
    assert log_probs.min() < -150
    assert_same(run(PrefixBeamSearch(), log_probs), plain.prefix_beam(log_probs, 10, 10))


def test_numbers_above_one_do_not_overflow(plain: ModuleType) -> None:
    log_probs = random_log_probs(np.random.default_rng(7), 400, 6, 1.0) + 3.0
    assert_same(run(PrefixBeamSearch(), log_probs), plain.prefix_beam(log_probs, 10, 10))


def test_what_is_impossible_is_not_listed() -> None:
    log_probs = np.full((2, 4), -math.inf)
    log_probs[:, 2] = 0.0
    found = run(PrefixBeamSearch(), log_probs)
    assert [h.tokens for h in found] == [(2,)]
    assert found[0].score == pytest.approx(0)


def test_no_frame_gives_the_empty_prefix() -> None:
    search = PrefixBeamSearch()
    (empty,) = search.nbest(search.start())
    assert empty == Hypothesis((), pytest.approx(0.0), (), None, ())
    assert run(search, np.zeros((0, 7)))[0].tokens == ()


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("vocab", [6, 500])
def test_a_frame_without_numbers_is_refused(value: float, vocab: int) -> None:
    log_probs = random_log_probs(np.random.default_rng(0), 5, vocab, 1.0)
    log_probs[3] = value
    with pytest.raises(ModelError, match="log-probabilities"):
        run(PrefixBeamSearch(), log_probs)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(T, V\)"):
        run(PrefixBeamSearch(), np.zeros((2, 3, 4)))


def test_any_layout_and_precision_of_the_array(plain: ModuleType) -> None:
    log_probs = random_log_probs(np.random.default_rng(3), 30, 700, 2.0)
    whole = run(PrefixBeamSearch(), log_probs)
    assert run(PrefixBeamSearch(), np.asfortranarray(log_probs)) == whole
    assert run(PrefixBeamSearch(), np.repeat(log_probs, 2, axis=0)[::2]) == whole
    assert run(PrefixBeamSearch(), log_probs.astype(np.float32))[0].score == pytest.approx(
        whole[0].score, abs=1e-4
    )
    half = run(PrefixBeamSearch(), log_probs.astype(np.float16))
    assert half[0].score == pytest.approx(whole[0].score, abs=0.1)


@pytest.mark.parametrize("penalty", [2.0, -1.5, 12.0])
def test_blank_penalty_is_taken_from_the_logit(plain: ModuleType, penalty: float) -> None:
    logits = np.random.default_rng(4).normal(size=(30, 9)) * 3
    logits[:, 0] += np.linspace(-5, 25, 30)
    search = PrefixBeamSearch(blank_penalty=penalty, top_units=9)
    found = run(search, log_softmax(logits))
    logits[:, 0] -= penalty
    assert_same(found, plain.prefix_beam(log_softmax(logits), 10, 9), atol=1e-7)


def test_blank_skip_is_off_and_approximates(benchmark_search: ModuleType) -> None:
    log_probs = benchmark_search.make_log_probs("speech", frames=120, vocab=300)
    exact = run(PrefixBeamSearch(), log_probs)
    assert run(PrefixBeamSearch(blank_skip=1.0), log_probs) == exact
    skipped = run(PrefixBeamSearch(blank_skip=0.99), log_probs)
    assert skipped[0].tokens == exact[0].tokens
    assert skipped[0].times == exact[0].times
    assert exact[0].score - 0.5 < skipped[0].score < exact[0].score


def test_limit_of_the_list() -> None:
    search = PrefixBeamSearch()
    log_probs = random_log_probs(np.random.default_rng(0), 10, 20, 1.0)
    state = search.advance(search.start(), log_probs)
    assert search.nbest(state, 2) == search.nbest(state)[:2]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"beam": 0}, "beam"),
        ({"top_units": 0}, "top_units"),
        ({"blank_penalty": math.inf}, "blank_penalty"),
        ({"blank_skip": 0.0}, "blank_skip"),
        ({"blank_skip": 1.5}, "blank_skip"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        PrefixBeamSearch(**values)
