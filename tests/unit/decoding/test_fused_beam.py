"""Prefix beam search with scorers: against all texts, fed in pieces, at its borders."""

from __future__ import annotations

import math
from collections.abc import Hashable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.decoding import Hypothesis, PrefixBeamSearch, Scorer
from mynah.decoding.scorer import Sum, add_up, most, score_tokens


class Table:
    """A made-up model: the score of a token depends on the two before it."""

    def __init__(self, seed: int, scale: float = 3.0, *, bounded: bool = True) -> None:
        self.seed, self.scale = seed, scale
        if bounded:
            self.most = 2 * scale

    def start(self) -> tuple[int, ...]:
        return ()

    def extend(self, state: tuple[int, ...], token: int) -> tuple[Hashable, float]:
        after = (*state, token)
        return after[-2:], self._draw((1, *after))

    def finish(self, state: tuple[int, ...]) -> float:
        return self._draw((2, *state))

    def _draw(self, key: tuple[int, ...]) -> float:
        drawn = hash((self.seed, *key)) % 10_007 / 10_006  # of integers: the same in every run
        return self.scale * (4 * drawn - 2)


def random_log_probs(seed: int, frames: int, vocab: int, scale: float = 1.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, vocab)) * scale
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def run(search: PrefixBeamSearch, log_probs: np.ndarray) -> list[Hypothesis]:
    return search.nbest(search.advance(search.start(), log_probs))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("frames", [1, 3, 5])
def test_a_beam_wide_enough_is_all_texts(plain: ModuleType, seed: int, frames: int) -> None:
    log_probs = random_log_probs(seed, frames, 4)
    scorers = (Table(seed), Table(seed + 100, 1.0))
    every = {
        tokens: entry["score"] + sum(score_tokens(scorer, tokens) for scorer in scorers)
        for tokens, entry in plain.all_prefixes(log_probs).items()
    }
    found = run(PrefixBeamSearch(len(every), 4, scorers=scorers), log_probs)
    assert {h.tokens for h in found} == set(every)
    for hypothesis in found:
        assert hypothesis.score == pytest.approx(every[hypothesis.tokens], abs=1e-9)
        added = sum(score_tokens(scorer, hypothesis.tokens) for scorer in scorers)
        assert hypothesis.added == pytest.approx(added)
    assert found[0].tokens == max(every, key=every.__getitem__)
    scores = [h.score for h in found]
    assert scores == sorted(scores, reverse=True)


def plain_fused(
    plain: ModuleType, log_probs: np.ndarray, beam: int, top_units: int, scorer: Scorer
) -> list[tuple[tuple[int, ...], float, list[int]]]:
    """The rules written for the eye: as ``plain.prefix_beam``, ranked with the scorer."""

    def rank(tokens: tuple[int, ...], entry: Any) -> float:
        state, total = scorer.start(), entry.total
        for token in tokens:
            state, added = scorer.extend(state, token)
            total += added
        return float(total)

    kept = [((), plain.Entry(blank=0.0, best_blank=0.0))]
    for frame, row in enumerate(log_probs):
        table: dict[tuple[int, ...], Any] = {}
        for unit in np.argsort(-row, kind="stable")[:top_units].tolist():
            log = float(row[unit])
            for prefix, old in kept:
                best, times = old.best
                longer = (*prefix, unit)
                if unit == 0:
                    new = table.setdefault(prefix, plain.Entry())
                    new.blank = old.total + log
                    new.best_blank, new.blank_times = best + log, times
                elif prefix and unit == prefix[-1]:
                    same = table.setdefault(prefix, plain.Entry())
                    same.repeat(old.unit + log, old.best_unit + log, old.unit_times, frame)
                    new = table.setdefault(longer, plain.Entry())
                    new.reach(old.blank + log, old.best_blank + log, old.blank_times, frame)
                else:
                    new = table.setdefault(longer, plain.Entry())
                    new.reach(old.total + log, best + log, times, frame)
        ranked = sorted(table.items(), key=lambda item: rank(*item), reverse=True)[:beam]
        kept = [item for item in ranked if item[1].total > -math.inf]
    found = [
        (tokens, entry.total + score_tokens(scorer, tokens), entry.best[1])
        for tokens, entry in kept
    ]
    return sorted(found, key=lambda item: item[1], reverse=True)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_equals_the_plain_rules(plain: ModuleType, seed: int, bounded: bool) -> None:
    rng = np.random.default_rng(seed)
    vocab, beam = int(rng.integers(2, 9)), int(rng.integers(1, 9))
    top_units, frames = int(rng.integers(1, vocab + 1)), int(rng.integers(0, 25))
    log_probs = random_log_probs(seed, frames, vocab, float(rng.choice([0.5, 2, 6])))
    scorer = Table(seed, float(rng.choice([0.0, 0.5, 4.0])), bounded=bounded)
    found = run(PrefixBeamSearch(beam, top_units, scorers=(scorer,)), log_probs)
    expected = plain_fused(plain, log_probs, beam, top_units, scorer)
    assert [h.tokens for h in found] == [tokens for tokens, _, _ in expected]
    assert [list(h.times) for h in found] == [times for _, _, times in expected]
    np.testing.assert_allclose([h.score for h in found], [s for _, s, _ in expected], atol=1e-8)


@pytest.mark.parametrize("kind", ["speech", "hard", "flat"])
def test_a_scorer_of_nothing_changes_nothing(benchmark_search: ModuleType, kind: str) -> None:
    log_probs = benchmark_search.make_log_probs(kind, frames=150, vocab=500)
    scorer = Table(0, 0.0)
    assert most(scorer) == 0
    without, found = run(PrefixBeamSearch(), log_probs), None
    found = run(PrefixBeamSearch(scorers=(scorer,)), log_probs)
    assert [(h.tokens, h.times) for h in found] == [(h.tokens, h.times) for h in without]
    assert [h.score for h in found] == pytest.approx([h.score for h in without])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_streamed_equals_whole(data: st.DataObject) -> None:
    seed, frames = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 60))
    log_probs = random_log_probs(seed, frames, 12, 2.0)
    log_probs[::2, 0] += 5.0  # many frames sure of their blank
    search = PrefixBeamSearch(4, 5, scorers=(Table(seed), Table(seed + 1, 0.3)))
    whole = run(search, log_probs)
    state, at = search.start(), 0
    while at < frames:
        step = data.draw(st.integers(0, 9))
        state = search.advance(state, log_probs[at : at + step])
        search.nbest(state)  # a partial result changes nothing
        at += step
    assert search.nbest(state) == whole


def test_a_state_is_a_value() -> None:
    head, one, two = (random_log_probs(seed, 20, 9, 2.0) for seed in range(3))
    search = PrefixBeamSearch(scorers=(Table(4),))
    state = search.advance(search.start(), head)
    before = search.nbest(state)
    for tail in (one, two, one):
        whole = run(search, np.concatenate((head, tail)))
        assert search.nbest(search.advance(state, tail)) == whole
    assert search.nbest(state) == before
    assert search.nbest(state, 2) == before[:2]


def test_a_long_recording_stays_in_range() -> None:
    # What is added grows without end, and totals of prefixes in the beam lie far apart.
    log_probs = random_log_probs(5, 1500, 4, 0.3)
    search = PrefixBeamSearch(4, 4, scorers=(Table(5, 8.0),))
    for hypothesis in run(search, log_probs):
        assert math.isfinite(hypothesis.score)
        added = score_tokens(Table(5, 8.0), hypothesis.tokens)
        assert hypothesis.added == pytest.approx(added)
    without = run(PrefixBeamSearch(4, 4), log_probs)
    of_nothing = run(PrefixBeamSearch(4, 4, scorers=(Table(5, 0.0),)), log_probs)
    assert [h.tokens for h in of_nothing] == [h.tokens for h in without]
    assert [h.score for h in of_nothing] == pytest.approx([h.score for h in without])


def test_what_a_scorer_forbids_is_not_found() -> None:
    class Forbids(Table):
        def extend(self, state: tuple[int, ...], token: int) -> tuple[Hashable, float]:
            return (), -math.inf if token == 2 else 0.0

    log_probs = random_log_probs(0, 12, 5)
    found = run(PrefixBeamSearch(scorers=(Forbids(0),)), log_probs)
    assert found and all(2 not in h.tokens for h in found)


def test_several_scorers_are_one() -> None:
    one, two = Table(1), Table(2, bounded=False)
    both = add_up((one, two))
    assert isinstance(both, Sum) and most(both) == math.inf
    assert add_up((one,)) is one
    for tokens in ((), (3,), (1, 2, 3)):
        expected = score_tokens(one, tokens) + score_tokens(two, tokens)
        assert score_tokens(both, tokens) == pytest.approx(expected)
