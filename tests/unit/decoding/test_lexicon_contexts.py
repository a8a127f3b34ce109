"""Contexts of an n-gram model, made for many words at once, are those of one word at a time."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from mynah.decoding import lexicon_contexts
from mynah.decoding.lexicon import Lexicon, make_lexicon
from mynah.decoding.lexicon_contexts import AnyContexts, NgramContexts, make_contexts
from mynah.decoding.lexicon_scores import WordScores
from mynah.decoding.lexicon_search import LexiconSearch
from mynah.decoding.ngram import NgramModel
from mynah.decoding.ngram.scratch import Scratch
from mynah.decoding.ngram.train import TrainOptions, train
from mynah.errors import ModelError

UNITS = ("<blank>", "x", "y", "z")
ENTRIES = [("a", (1,)), ("b", (1, 2)), ("c", (2, 2)), ("d", (1, 2)), ("d", (3,)), ("e", (2, 3)),
           ("nowhere", (3, 3))]  # fmt: skip


class OneByOne:
    """An n-gram model that shows no more than any model must."""

    def __init__(self, model: NgramModel) -> None:
        self.word_id, self.start, self.score, self.end = (
            model.word_id, model.start, model.score, model.end
        )  # fmt: skip


class Liking:
    """Scores a word by the word before it."""

    def start(self) -> str:
        return ""

    def extend(self, state: str, token: str) -> tuple[str, float]:
        return token, 2.0 if (state, token) == ("a", "e") else -0.5 * (token == "d")

    def finish(self, state: str) -> float:
        return 0.5 * (state == "b")


def make(order: int, seed: int = 0) -> tuple[Lexicon, NgramModel]:
    rng = random.Random(seed)
    lines = [" ".join(rng.choices("abcde", (5, 4, 3, 2, 1), k=rng.randrange(1, 7)))
             for _ in range(60)]  # fmt: skip
    with Scratch(1 << 30) as scratch:
        model = NgramModel(train(lines, TrainOptions(order=order, min_count=1), scratch).trie)
    lexicon = make_lexicon(ENTRIES, UNITS)
    return lexicon.with_costs(lambda word: model.score((), model.word_id(word))[1]), model


def random_log_probs(seed: int, frames: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 1.5, (frames, len(UNITS)))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("scorers", [(), (Liking(),), (Liking(), Liking())])
def test_a_search_finds_the_same(order: int, scorers: tuple[Any, ...]) -> None:
    settings: dict[str, Any] = {
        "beam": 30, "margin": 9.0, "lm_weight": 0.8, "word_bonus": 0.3, "lm_unknown": -1.0,
        "unknown": 2.0, "nbest_limit": 20,
    }  # fmt: skip
    for seed in range(3):
        lexicon, model = make(order, seed)
        many = LexiconSearch(lexicon, model, scorers, **settings)
        single = LexiconSearch(lexicon, OneByOne(model), scorers, **settings)
        assert isinstance(make_contexts(many.scores), NgramContexts)
        assert isinstance(make_contexts(single.scores), AnyContexts)
        log_probs = random_log_probs(seed, 40)
        found, other = (s.nbest(s.advance(s.start(), log_probs)) for s in (many, single))
        assert len(found) == len(other) > 5
        state = many.start()
        for first in range(0, 40, 7):
            state = many.advance(state, log_probs[first : first + 7])
        assert many.nbest(state) == found
        for ours, theirs in zip(found, other, strict=True):
            assert (ours.words, ours.times) == (theirs.words, theirs.times)
            assert ours.score == pytest.approx(theirs.score, abs=1e-9)


def test_only_what_reaches_the_floor_gets_a_number() -> None:
    lexicon, model = make(3)
    contexts = NgramContexts(WordScores(lexicon, model), model)
    words = np.arange(len(lexicon.words))
    start = np.zeros(len(words), np.int64)
    alone = [model.score(model.start(), model.word_id(word))[1] for word in lexicon.words]
    floor = sorted(alone)[-2]
    good, after, reached = contexts.reach(start, words, np.zeros(len(words)), floor)
    assert reached.tolist() == [alone[i] for i in good.tolist()] and len(good) == 2
    assert sorted(after.tolist()) == [1, 2]  # the start is 0
    again = contexts.reach(start, words, np.zeros(len(words)), floor)
    assert again[1].tolist() == after.tolist()
    states = [model.score(model.start(), model.word_id(lexicon.words[i]))[0] for i in good]
    ends = [contexts.finish(number) for number in after.tolist()]
    assert ends == pytest.approx([model.end(state) for state in states])


def test_there_is_room_for_many_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    lexicon, model = make(4)
    wide: dict[str, Any] = {"beam": 10**5, "margin": 1e9, "surprise": 1e9}
    for known in (model, OneByOne(model)):
        search = LexiconSearch(lexicon, known, (Liking(),), **wide)
        log_probs = random_log_probs(0, 6)
        search.advance(search.start(), log_probs)
        with monkeypatch.context() as patch:
            patch.setattr(lexicon_contexts, "MOST_CONTEXTS", 40)
            with pytest.raises(ModelError, match="more than 40 contexts"):
                search.advance(search.start(), log_probs)
