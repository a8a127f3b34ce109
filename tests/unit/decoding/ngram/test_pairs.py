"""Scores of many pairs at once are those of one pair at a time, and so are the states after."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mynah.decoding.ngram import NgramModel, load_ngram, pairs, save_ngram
from mynah.decoding.ngram.train import Trained

TINY = Path(__file__).parents[3] / "data" / "ngram"


def compare(model: NgramModel, seed: int, count: int = 300) -> None:
    """Random words after states that random words lead to."""
    rng, scores = random.Random(seed), model.pairs
    states, words = [], []
    for _ in range(count):
        state = rng.choice([model.start(), model.null()])
        for _ in range(rng.randrange(4)):
            state, _ = model.score(state, rng.randrange(len(model.vocab)))
        states.append(state)
        words.append(rng.randrange(len(model.vocab)))
        assert scores.state(scores.column(state)) == state
    columns = np.array([scores.column(state) for state in states], np.int64).T
    columns = columns.reshape(model.order - 1, count)
    found = scores.find(columns, np.array(words))
    after = scores.after(found.nodes).T.tolist()
    for i, (state, word) in enumerate(zip(states, words, strict=True)):
        following, score = model.score(state, word)
        assert found.scores[i] == score
        assert tuple(after[i]) == scores.column(following)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("few", [0, 1 << 18])
def test_pairs_are_as_single_ones(
    order: int,
    seed: int,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
    sentences: Callable[..., list[list[str]]],
    trained: Callable[..., Trained],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(pairs, "_FEW", few)
    trie = trained(sentences(seed, most=400), order=order, min_count=1).trie
    compare(NgramModel(trie), seed)
    for name in ("coded.ngram", "compact.ngram"):
        save_ngram(trie, tmp_path / name, compact=name.startswith("compact"))
        compare(load_ngram(tmp_path / name), seed)


def test_a_given_model_has_them_too(toy: Path) -> None:
    compare(load_ngram(TINY / "tiny.arpa"), 1)
    compare(load_ngram(toy), 2)


def test_no_pairs_are_no_scores(toy: Path) -> None:
    model = load_ngram(toy)
    found = model.pairs.find(np.zeros((2, 0), np.int64), np.zeros(0, np.int64))
    assert found.scores.shape == (0,) and model.pairs.after(found.nodes).shape == (2, 0)
