"""Entropy pruning against the formula one n-gram at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mynah.decoding.ngram.prune as module
from mynah.decoding.ngram import NgramModel, load_trie, save_ngram
from mynah.decoding.ngram.prune import chain, context_blocks, prune, reweigh

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize("block", [3, 1 << 16])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    order=st.integers(2, 5),
    threshold=st.floats(-6, -1.5).map(lambda x: 10**x),
    counted=st.booleans(),
)
@example(seed=22320, order=5, threshold=0.01, counted=False)  # nothing to back off to
def test_equals_plain(
    plain: ModuleType,
    sentences: Callable[..., Any],
    trained: Callable[..., Any],
    grams: Callable[..., Any],
    as_plain: Callable[..., Any],
    block: int,
    seed: int,
    order: int,
    threshold: float,
    counted: bool,
) -> None:
    done = trained(sentences(seed, "abcdefghijkl"), order=order)
    history = done.estimate.history if counted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        smaller = prune(done.trie, threshold, history=history)
    joint = grams(done.trie, history or chain(done.trie))
    expected = plain.prune(as_plain(done.trie), threshold, joint)
    found = as_plain(smaller)
    assert found.log_probs.keys() == expected.log_probs.keys()
    for context, weight in expected.backoffs.items():
        assert found.backoffs[context] == pytest.approx(weight, abs=1e-5)
    for context in plain.contexts(found.words[:5], min(order, 3)):
        assert found.total(context) == pytest.approx(1, abs=3e-5)


def test_history_is_how_often(trained: Callable[..., Any], grams: Callable[..., Any]) -> None:
    """``a b`` twice and ``a``: eight tokens, ends included; <s> counts as often as </s>."""
    done = trained([["a", "b"], ["a", "b"], ["a"]], order=3)
    found = {g: math.exp(p) * 8 for g, p in grams(done.trie, done.estimate.history).items()}
    expected = {("a",): 3, ("b",): 2, ("</s>",): 3, ("<s>",): 3, ("<unk>",): 0,
                ("<s>", "a"): 3, ("a", "b"): 2, ("b", "</s>"): 2, ("a", "</s>"): 1}  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_higher_threshold_keeps_less(
    trained: Callable[..., Any], sentences: Callable[..., Any]
) -> None:
    trie = trained([s for i in range(10) for s in sentences(i)], order=3).trie
    sizes = [sum(prune(trie, t).counts) for t in (0, 1e-6, 1e-4, 1e-2, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    assert prune(trie, 1e9).counts[1:] == (0, 0)


def test_pruned_to_nothing_still_scores(trained: Callable[..., Any]) -> None:
    trie = trained([["a", "b"], ["b", "a"]], order=3).trie
    model = NgramModel(prune(trie, 1e9))
    assert model.start() == ()
    one = model.score((), model.word_id("a"))[1]
    assert model.score_sentence(["a"]) == pytest.approx(one + model.end(()))


def test_a_mapped_model_is_pruned_alike(
    trained: Callable[..., Any], sentences: Callable[..., Any], tmp_path: Path
) -> None:
    trie = trained([s for i in range(10) for s in sentences(i)], order=3).trie
    save_ngram(trie, tmp_path / "m.ngram", bits=32, compact=False)
    mapped = prune(load_trie(tmp_path / "m.ngram"), 1e-4)
    for a, b in zip(prune(trie, 1e-4).levels, mapped.levels, strict=True):
        np.testing.assert_array_equal(a.words, b.words)
        np.testing.assert_array_equal(a.log_backoffs(), b.log_backoffs())


def test_right_weights_stay(trained: Callable[..., Any], sentences: Callable[..., Any]) -> None:
    trie = trained([s for i in range(10) for s in sentences(i)], order=4).trie
    for a, b in zip(trie.levels, reweigh(trie).levels, strict=True):
        np.testing.assert_allclose(a.log_backoffs(), b.log_backoffs(), atol=2e-4)


def test_blocks_are_all_contexts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    first = np.array([0, 0, 3, 3, 13, 14, 14, 14, 14, 14, 14, 15])
    blocks = list(context_blocks(first))
    assert [b[0] for b in blocks] == [0, *[b[1] for b in blocks[:-1]]]
    assert blocks[-1][1] == 11
    assert all(first[c] == start and first[d] == stop for c, d, start, stop in blocks)
    assert all(stop - start <= 4 or d - c == 1 for c, d, start, stop in blocks)
