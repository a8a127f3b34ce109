"""Searches fed in ragged chunks, interleaved, split and restarted give the result of one shot."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.decoding import GreedySearch, Hotwords, PrefixBeamSearch
from spelling import letters

Search = GreedySearch | PrefixBeamSearch

TABLE = letters()

SEARCHES: list[Search] = [
    GreedySearch(),
    GreedySearch(blank=3, blank_penalty=1.5),
    PrefixBeamSearch(),
    PrefixBeamSearch(beam=3, top_units=5, blank_penalty=1.5),
    PrefixBeamSearch(beam=5, top_units=4, blank=2, blank_skip=0.8),
    PrefixBeamSearch(beam=5, scorers=(Hotwords.parse(["ba", "a cab=5"]).scorer(TABLE),)),
]


def random_log_probs(rng: np.random.Generator, frames: int, blank: int = 0) -> np.ndarray:
    """Log-probabilities (T, 30) with runs of blanks, and runs of one unit over several frames."""
    logits = rng.normal(size=(frames, 30)) * 1.5
    logits[:, blank] += np.where(rng.random(frames) < 0.6, 6.0, 0.0)
    logits[np.arange(frames), np.repeat(rng.integers(0, 30, frames), 3)[:frames]] += 3.0
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def ragged(rng: np.random.Generator, frames: np.ndarray) -> list[np.ndarray]:
    """Chunks of 0 to 9 frames that make up ``frames``."""
    cuts = np.cumsum(rng.integers(0, 10, len(frames)))
    return np.split(frames, cuts[cuts < len(frames)])


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_any_chunks_equal_one_shot(search: Search) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        log_probs = random_log_probs(rng, int(rng.integers(0, 150)), search.blank)
        whole = search.nbest(search.advance(search.start(), log_probs))
        state = search.start()
        for chunk in ragged(rng, log_probs):
            state = search.advance(state, chunk)
        # Not only close: the same steps in the same order.
        assert search.nbest(state) == whole


def test_longer_than_a_block_of_frames() -> None:
    log_probs = random_log_probs(np.random.default_rng(1), 1300)
    search = PrefixBeamSearch()
    whole = search.nbest(search.advance(search.start(), log_probs))
    state = search.start()
    for first in range(0, 1300, 100):
        state = search.advance(state, log_probs[first : first + 100])
    assert search.nbest(state) == whole


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_sessions_do_not_touch_each_other(search: Search) -> None:
    rng = np.random.default_rng(2)
    streams = [random_log_probs(rng, frames) for frames in (90, 40, 70)]
    alone = [search.nbest(search.advance(search.start(), stream)) for stream in streams]
    states = [search.start() for _ in streams]
    for first in range(0, 90, 7):
        for i, stream in enumerate(streams):
            states[i] = search.advance(states[i], stream[first : first + 7])
    assert [search.nbest(state) for state in states] == alone


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_state_may_be_continued_twice(search: Search) -> None:
    rng = np.random.default_rng(3)
    head, one, two = (random_log_probs(rng, frames) for frames in (50, 30, 20))
    state = search.advance(search.start(), head)
    before = search.nbest(state)
    for tail in (one, two, one):
        whole = search.nbest(search.advance(search.start(), np.concatenate((head, tail))))
        assert search.nbest(search.advance(state, tail)) == whole
    assert search.nbest(state) == before


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_no_frames_change_nothing(search: Search) -> None:
    state = search.advance(search.start(), random_log_probs(np.random.default_rng(4), 20))
    assert search.advance(state, np.zeros((0, 30), dtype=np.float32)) == state
