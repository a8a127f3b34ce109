"""Kneser-Ney estimates against counts worked out by hand and against a plain implementation."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.decoding.ngram import NgramModel
from mynah.decoding.ngram.counting import Packing, count
from mynah.decoding.ngram.kneser_ney import FALLBACK, discounts, estimate
from mynah.decoding.ngram.scratch import Scratch, sort_order
from mynah.decoding.ngram.train import TrainOptions, scratch_for, train
from mynah.decoding.ngram.vocabulary import Encoder
from mynah.errors import ConfigError, InputError

pytestmark = pytest.mark.usefixtures("quiet")


def probabilities(trained: Any, grams: Callable[..., Any]) -> dict[tuple[str, ...], float]:
    trie = trained.trie
    return {g: math.exp(p) for g, p in grams(trie, [x.log_probs() for x in trie.levels]).items()}


def test_worked_by_hand(trained: Callable[..., Any], grams: Callable[..., Any]) -> None:
    """The sentences ``a b``, ``a b`` and ``a c``, order 2.

    Bigrams occur: <s> a 3, a b 2, b </s> 2, a c 1, c </s> 1. So n1 = 2, n2 = 2, n3 = 1, n4 = 0,
    Y = 2 / (2 + 2 * 2) = 1/3, D1 = 1 - 2/3 * 2/2 = 1/3, D2 = 2 - 3/3 * 1/2 = 3/2, D3 = 3.

    Words before: a 1, b 1, c 1, </s> 2 (b and c), 5 in all; n3 = 0, so the discounts are 1/2, 1
    and 3/2, and 5/2 of 5 is taken: gamma = 1/2. Uniform: 1/5 (<unk> </s> a b c).

    | word  | (a - D) / 5 | + 1/2 * 1/5 |
    |-------|-------------|-------------|
    | a b c | 0.5 / 5     | 0.2         |
    | </s>  | 1 / 5       | 0.3         |
    | <unk> | 0           | 0.1         |

    | context | sum | taken          | gamma |
    |---------|-----|----------------|-------|
    | <s>     | 3   | 3              | 1     |
    | a       | 3   | 3/2 + 1/3      | 11/18 |
    | b       | 2   | 3/2            | 3/4   |
    | c       | 1   | 1/3            | 1/3   |
    """
    done = trained([["a", "b"], ["a", "b"], ["a", "c"]], order=2)
    found = probabilities(done, grams)
    expected = {
        ("a",): 0.2, ("b",): 0.2, ("c",): 0.2, ("</s>",): 0.3, ("<unk>",): 0.1,
        ("<s>", "a"): 0.2, ("a", "b"): 1 / 6 + 11 / 18 * 0.2, ("a", "c"): 2 / 9 + 11 / 18 * 0.2,
        ("b", "</s>"): 1 / 4 + 3 / 4 * 0.3, ("c", "</s>"): 2 / 3 + 1 / 3 * 0.3,
    }  # fmt: skip
    assert found.pop(("<s>",)) < 1e-40
    assert found == pytest.approx(expected, rel=1e-6)
    weights = grams(done.trie, [done.trie.levels[0].log_backoffs()])
    gamma = {g[0]: math.exp(w) for g, w in weights.items()}
    assert gamma == pytest.approx(
        {"<s>": 1, "a": 11 / 18, "b": 3 / 4, "c": 1 / 3, "</s>": 1, "<unk>": 1}, rel=1e-6
    )
    assert done.estimate.discounts == (FALLBACK, pytest.approx((1 / 3, 3 / 2, 3)))
    assert (done.sentences, done.tokens) == (3, 9)


def test_discounts_by_hand() -> None:
    """Y = 10 / (10 + 8) = 5/9."""
    found = discounts(np.array([0, 10, 4, 2, 1]), 2)
    assert found == pytest.approx((5 / 9, 2 - 5 / 9 * 3 / 2, 3 - 5 / 9 * 2))


@pytest.mark.parametrize("counts", [(0, 1, 1, 1), (5, 0, 1, 1), (5, 1, 0, 0), (3, 1, 9, 1)])
def test_discounts_that_cannot_be(counts: tuple[int, ...]) -> None:
    assert discounts(np.array([0, *counts]), 2) == FALLBACK


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.integers(1, 6), data=st.data())
def test_equals_plain(
    plain: ModuleType,
    sentences: Callable[..., Any],
    trained: Callable[..., Any],
    grams: Callable[..., Any],
    seed: int,
    order: int,
    data: st.DataObject,
) -> None:
    text = sentences(seed)
    cutoffs = tuple(sorted([0, *data.draw(st.lists(st.integers(0, 2), max_size=order - 1))]))
    words = data.draw(st.sampled_from([None, ["a", "b", "c", "zz"]]))
    every = [*cutoffs, *[cutoffs[-1]] * (order - len(cutoffs))]
    expected = plain.kneser_ney(text, order, words=words, cutoffs=every)
    done = trained(text, order=order, cutoffs=cutoffs, words=words)
    found = grams(done.trie, [level.log_probs() for level in done.trie.levels])
    del found[("<s>",)]
    assert found == pytest.approx(expected.log_probs, abs=3e-6)
    model = NgramModel(done.trie)
    for sentence in [*text[:5], ["a", "nowhere", "b"], []]:
        assert model.score_sentence(sentence) == pytest.approx(
            expected.sentence(sentence), abs=1e-4
        )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.integers(1, 5), cutoff=st.integers(0, 2))
def test_every_context_sums_to_one(
    plain: ModuleType,
    sentences: Callable[..., Any],
    trained: Callable[..., Any],
    seed: int,
    order: int,
    cutoff: int,
) -> None:
    done = trained(sentences(seed, "abcd"), order=order, cutoffs=(0, cutoff)[:order])
    model = NgramModel(done.trie)
    ids = [i for word, i in model.vocab.items() if word != "<s>"]
    for context in plain.contexts(done.trie.vocab, min(order, 3)):
        state = model.null()
        for word in context:
            state = model.start() if word == "<s>" else model.score(state, model.vocab[word])[0]
        assert np.exp(model.score_many(state, ids)).sum() == pytest.approx(1, abs=2e-6)


def build(text: list[list[str]], order: int, *, memory: int, kept: int) -> Any:
    with Scratch(kept) as scratch:
        encoder = Encoder(scratch)
        encoder.add(" ".join(s) for s in text)
        vocab = encoder.choose()
        found = count(
            encoder.blocks, order=order, vocab_size=len(vocab), scratch=scratch,
            memory=memory,
        )  # fmt: skip
        done = estimate(found, vocab, cutoffs=[0] * order, scratch=scratch)
        arrays = [
            np.array(a)
            for level in done.trie.levels
            for a in (level.words, level.probs, level.backoffs, level.first)
        ]
        return [*arrays, *map(np.array, done.history)], scratch.spilled


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_spilled_and_merged_is_what_memory_gives(
    sentences: Callable[..., Any], order: int, seed: int
) -> None:
    text = sentences(seed, "abcdefghijklm", 200)
    whole, spilled = build(text, order, memory=1 << 26, kept=1 << 26)
    assert spilled == 0
    pieces, spilled = build(text, order, memory=0, kept=0)  # 16 rows a step
    assert spilled > 0
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@given(
    columns=st.integers(1, 3),
    most=st.sampled_from([0, 1, 3, 1 << 30, (1 << 64) - 1]),
    rows=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_order_of_rows(columns: int, most: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = [rng.integers(0, most, rows, np.uint64, endpoint=True) for _ in range(columns)]
    order = sort_order(keys)
    assert sorted(order.tolist()) == list(range(rows))
    for column in keys:
        np.testing.assert_array_equal(column[order], column[np.lexsort(keys[::-1])])


def test_more_words_than_one_integer_holds(
    plain: ModuleType, trained: Callable[..., Any], grams: Callable[..., Any]
) -> None:
    rng = random.Random(3)
    text = [[f"w{int(rng.paretovariate(0.4)) % 5000}" for _ in range(12)] for _ in range(1200)]
    done = trained(text, order=6)
    assert Packing.of(len(done.trie.vocab)).columns(6) > 1
    found = grams(done.trie, [level.log_probs() for level in done.trie.levels])
    expected = plain.kneser_ney(text, 6).log_probs
    del found[("<s>",)]
    assert found.keys() == expected.keys()
    assert max(abs(found[g] - expected[g]) for g in found) < 3e-6


def test_memory_is_bounded() -> None:
    """A text whose counts would take many times as much."""

    def lines() -> Iterator[str]:
        rng = np.random.default_rng(1)
        for _ in range(25):
            ids = (rng.pareto(0.5, (1000, 20)) * 3).astype(np.int64) % 20_000
            yield from (" ".join(map(str, row)) for row in ids.tolist())

    options = TrainOptions(order=3, prune=1e-7, memory=16 << 20)
    with scratch_for(options) as scratch:
        tracemalloc.start()
        try:
            done = train(lines(), options, scratch)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert scratch.spilled > 2 * options.memory
        assert peak < options.memory
        assert done.tokens == 25 * 1000 * 21


def test_vocabulary_by_frequency(trained: Callable[..., Any]) -> None:
    text = [["b", "b", "a"], ["b", "c", "a"], ["d"]]
    assert trained(text, order=2).trie.vocab[3:] == ["b", "a", "c", "d"]
    assert trained(text, order=2, limit=1).trie.vocab[3:] == ["b"]
    assert trained(text, order=2, min_count=2).trie.vocab[3:] == ["b", "a"]
    assert trained(text, order=2, words=["d", "zz"]).trie.vocab[3:] == ["d", "zz"]


def test_table_of_words_is_bounded() -> None:
    lines = [f"often w{i} often" for i in range(8000)]
    with Scratch(1 << 20) as scratch:
        with pytest.raises(InputError, match="limit the vocabulary"):
            Encoder(scratch, memory=0).add(lines * 10)
        encoder = Encoder(scratch, memory=0, limit=1)
        encoder.add(lines * 10)
        assert len(encoder._ids) < 10_000
        assert encoder.choose() == ["<unk>", "<s>", "</s>", "often"]
        ids = np.concatenate(list(encoder.blocks(999)))
        assert np.bincount(ids).tolist() == [80_000, 0, 80_000, 160_000]


@pytest.mark.parametrize("text", [["a <s> b"], ["a </s> b"], ["</s>"]])
def test_marks_in_the_text(text: list[str]) -> None:
    with Scratch(1 << 20) as scratch, pytest.raises(InputError, match="the text holds <"):
        train(text, TrainOptions(), scratch)


def test_empty_text() -> None:
    with Scratch(1 << 20) as scratch, pytest.raises(InputError, match="the text is empty"):
        train(["", "  \t"], TrainOptions(), scratch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order: must be 1 to 16, got 0"),
        ({"cutoffs": (0, 2, 1)}, "do not fall, got 0 2 1"),
        ({"cutoffs": (1,)}, "begin with 0"),
        ({"prune": float("nan")}, "prune"),
        ({"memory": 1}, "memory: at least 16M, got 1 bytes"),
        ({"limit": 0}, "limit"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainOptions(**options)
