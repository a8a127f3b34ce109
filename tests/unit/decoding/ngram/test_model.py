"""Scores of a model: a given ARPA file against kenlm, states, and many words at a time."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mynah.decoding.ngram import NgramModel, load_ngram, save_ngram
from mynah.errors import ModelError

WORDS = ["a", "b", "c", "nowhere", "<unk>"]
TINY = Path(__file__).parents[3] / "data" / "ngram"


@pytest.fixture(scope="module")
def kenlm() -> ModuleType:
    reason = "kenlm is not installed (it needs a compiler); its scores of tiny.arpa are checked"
    return pytest.importorskip("kenlm", reason=reason)


def random_texts(seed: int, count: int, words: list[str]) -> list[list[str]]:
    rng = random.Random(seed)
    return [rng.choices(words, k=rng.randrange(15)) for _ in range(count)]


def compare(kenlm: ModuleType, path: Path, texts: list[list[str]]) -> None:
    model, peer = load_ngram(path), kenlm.Model(str(path))
    for text in texts:
        for bos in (True, False):
            for eos in (True, False):
                ours = model.score_sentence(text, bos=bos, eos=eos) / math.log(10)
                assert ours == pytest.approx(peer.score(" ".join(text), bos, eos), abs=1e-4)
        state, peer_state, after = model.start(), kenlm.State(), kenlm.State()
        peer.BeginSentenceWrite(peer_state)
        for word in text:  # word by word, so that errors do not cancel
            state, ours = model.score(state, model.word_id(word))
            theirs = peer.BaseScore(peer_state, word, after)
            assert ours / math.log(10) == pytest.approx(theirs, abs=1e-4)
            peer_state, after = after, peer_state


def written() -> list[dict[str, Any]]:
    sentences: list[dict[str, Any]] = json.loads((TINY / "tiny.kenlm.json").read_text())[
        "sentences"
    ]
    return sentences


def test_scores_are_those_that_kenlm_gave() -> None:
    """The same without kenlm: what it gave to a small model is kept (tests/data/ngram)."""
    model = load_ngram(TINY / "tiny.arpa")
    assert (model.order, len(written())) == (3, 40)
    for row in written():
        words, state = row["text"].split(), model.start()
        for word, theirs in zip([*words, "</s>"], row["words"], strict=True):
            state, ours = model.score(state, model.word_id(word))
            assert ours / math.log(10) == pytest.approx(theirs, abs=1e-4)
        for name, bos, eos in (("without_start", False, True), ("without_end", True, False)):
            ours = model.score_sentence(words, bos=bos, eos=eos) / math.log(10)
            assert ours == pytest.approx(row[name], abs=1e-4)


def test_what_kenlm_gave_is_what_it_gives(kenlm: ModuleType) -> None:
    peer = kenlm.Model(str(TINY / "tiny.arpa"))
    for row in written():
        scores = [score for score, _, _ in peer.full_scores(row["text"])]
        assert scores == pytest.approx(row["words"], abs=1e-5)


def test_toy_scores_are_those_of_kenlm(kenlm: ModuleType, toy: Path) -> None:
    compare(kenlm, toy, random_texts(1, 300, WORDS))


@pytest.mark.parametrize(("order", "prune"), [(2, 1e-4), (3, 1e-4), (5, 0)])
def test_estimated_scores_are_those_of_kenlm(
    kenlm: ModuleType, tmp_path: Path, trained: Callable[..., Any], order: int, prune: float
) -> None:
    """Long contexts, as words of a small set repeat. (kenlm does not load small models where the
    end of an n-gram was pruned and the n-gram not, so the longest is whole.)"""
    texts = random_texts(order, 400, ["a", "b", "c", "d"])
    path = tmp_path / "model.arpa"
    save_ngram(trained([t for t in texts if t], order=order, prune=prune).trie, path)
    compare(kenlm, path, random_texts(7, 200, ["a", "b", "c", "d", "nowhere"]))


def test_scores_of_the_toy_by_hand(toy: Path) -> None:
    model = load_ngram(toy)
    tens = math.log(10)
    a, b, c = (model.word_id(w) for w in "abc")
    state, score = model.score(model.start(), a)
    assert score == pytest.approx(-0.5 * tens)
    assert model.score(state, b)[1] == pytest.approx(-0.2 * tens)
    assert model.score(state, c)[1] == pytest.approx((-0.1 - 0.3 - 0.9) * tens)
    assert model.score(model.null(), c)[1] == pytest.approx(-0.9 * tens)
    assert model.score_sentence(["a", "b"]) == pytest.approx((-0.5 - 0.2 - 0.15) * tens)
    assert model.word_id("nowhere") == model.word_id("<unk>") == model.unk
    assert (model.order, len(model.vocab)) == (3, 6)


def test_states_are_equal_when_the_future_is(toy: Path) -> None:
    """``b c`` and ``<unk> b c`` go on alike; so do all contexts that end in ``<unk>``."""
    model = load_ngram(toy)
    a, b, c = (model.word_id(w) for w in "abc")

    def after(*words: int) -> Any:
        state = model.null()
        for word in words:
            state, _ = model.score(state, word)
        return state

    assert after(a, b, c) == after(b, c) == after(c, b, c)
    assert after(a, model.unk) == after(model.unk) == model.null()
    assert after(c, c) == after(c)  # no bigram c c
    assert len({after(a, b), after(b), model.start()}) == 3


def reachable(model: NgramModel) -> list[Any]:
    states = {model.start(), model.null()}
    fresh = list(states)
    while fresh:
        state = fresh.pop()
        for word in range(len(model.vocab)):
            then, _ = model.score(state, word)
            if then not in states:
                states.add(then)
                fresh.append(then)
    return sorted(states)


@pytest.fixture(params=["toy", "made", "quantised"])
def model(
    request: pytest.FixtureRequest, toy: Path, tmp_path: Path, trained: Callable[..., Any]
) -> NgramModel:
    if request.param == "toy":
        return load_ngram(toy)
    texts = [t for t in random_texts(5, 60, ["a", "b", "c"]) if t]
    trie = trained(texts, order=4, prune=1e-4).trie
    save_ngram(trie, tmp_path / "m.ngram", bits=4)
    return NgramModel(trie) if request.param == "made" else load_ngram(tmp_path / "m.ngram")


def test_many_words_at_a_time(model: NgramModel) -> None:
    words = np.arange(len(model.vocab))
    for state in reachable(model):
        expected = [model.score(state, word)[1] for word in words.tolist()]
        np.testing.assert_allclose(model.score_many(state, words), expected, atol=1e-5)
        np.testing.assert_allclose(model.score_many(state, words[::-2]), expected[::-2], atol=1e-5)
    assert model.score_many(model.start(), []).shape == (0,)


def test_successors(model: NgramModel) -> None:
    """What they and what they back off to give is the score of every word."""
    for state in reachable(model):
        scores = np.full(len(model.vocab), -np.inf)
        total, at = 0.0, state
        missing = np.ones(len(scores), dtype=bool)
        while at is not None:
            found = model.successors(at)
            assert (np.diff(found.words.astype(np.int64)) > 0).all()
            new = missing[found.words]
            scores[found.words[new]] = total + found.log_probs[new]
            missing[found.words] = False
            total, at = total + found.backoff, found.shorter
        expected = [model.score(state, word)[1] for word in range(len(scores))]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_whole_texts_at_a_time(model: NgramModel) -> None:
    texts = random_texts(9, 200, WORDS)
    ids = [[*map(model.word_id, text), model.eos] for text in texts]
    flat = np.array([i for row in ids for i in row])
    scores = model.score_ids(flat, [len(row) for row in ids])
    ends = np.cumsum([len(row) for row in ids])[:-1]
    found = [float(part.sum()) for part in np.split(scores, ends)]
    assert found == pytest.approx([model.score_sentence(text) for text in texts], abs=1e-4)


def test_a_bounded_memo_changes_nothing(toy: Path) -> None:
    trie = load_ngram(toy).trie
    small, large = NgramModel(trie, memo=2), NgramModel(trie)
    for text in random_texts(3, 100, WORDS):
        assert small.score_sentence(text) == large.score_sentence(text)
        assert len(small._memo) <= 2


def test_several_threads(toy: Path) -> None:
    model = NgramModel(load_ngram(toy).trie, memo=4)
    texts = random_texts(4, 400, WORDS)
    alone = [model.score_sentence(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(model.score_sentence, texts)) == alone


def test_vocabulary_without_the_marks(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "no.arpa"
    path.write_text(toy.read_text().replace("</s>", "end"))
    with pytest.raises(ModelError, match=r"no\.arpa: </s> is no unigram"):
        load_ngram(path)
