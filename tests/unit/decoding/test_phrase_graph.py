"""Phrases in a text: the automaton against looking for every phrase at every place."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.decoding.phrase_graph import PhraseGraph

Phrases = Sequence[tuple[Sequence[int], float]]


def by_hand(phrases: Phrases, text: Sequence[int]) -> float:
    """Each symbol is worth the largest weight among the phrases that cover it."""
    worth = [0.0] * len(text)
    for phrase, weight in phrases:
        for start in range(len(text) - len(phrase) + 1):
            if list(text[start : start + len(phrase)]) == list(phrase):
                for i in range(start, start + len(phrase)):
                    worth[i] = max(worth[i], weight)
    return sum(worth)


def run(graph: PhraseGraph, text: Sequence[int]) -> tuple[float, list[float]]:
    """The sum over the text at its end, and what it was with what was lent, symbol by symbol."""
    node, given, earned, sums = 0, (), 0.0, []
    for symbol in text:
        node = graph.follow(node, symbol)
        given = graph.forget(node, given)
        sums.append(earned + graph.lent(node, given))
        given, more = graph.settle(node, given)
        earned += more
    return earned, sums


weights = st.sampled_from([0.5, 1.0, 2.0, 3.5])
phrase_lists = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=5), weights), min_size=1, max_size=6
)


@settings(max_examples=400, deadline=None)
@given(phrases=phrase_lists, text=st.lists(st.integers(0, 3), max_size=14), seed=st.integers(0, 9))
def test_a_text_gains_what_its_phrases_cover(phrases: Phrases, text: list[int], seed: int) -> None:
    earned, sums = run(PhraseGraph(phrases), text)
    assert earned == pytest.approx(by_hand(phrases, text))
    shuffled = random.Random(seed).sample(list(phrases), len(phrases))
    again, sums_again = run(PhraseGraph(shuffled), text)
    assert again == earned
    assert sums_again == sums


@settings(max_examples=300, deadline=None)
@given(phrases=phrase_lists, text=st.lists(st.integers(0, 3), max_size=14))
def test_what_is_lent_is_the_most_that_what_has_begun_can_give(
    phrases: Phrases, text: list[int]
) -> None:
    _, sums = run(PhraseGraph(phrases), text)
    for n in range(1, len(text) + 1):
        # each way in which a phrase can be going on: as if it were whole, over what it covers yet
        worth = [0.0] * n
        for phrase, weight in phrases:
            for start in range(n):
                shared = min(len(phrase), n - start)
                if list(text[start : start + shared]) == list(phrase[:shared]):
                    for i in range(start, start + shared):
                        worth[i] = max(worth[i], weight)
        assert sums[n - 1] == pytest.approx(sum(worth))


def test_failure_arcs() -> None:
    graph = PhraseGraph([([1, 2, 3, 4], 1.0), ([2, 3, 5], 1.0), ([3], 1.0)])
    node = 0
    for symbol in (1, 2, 3):
        node = graph.follow(node, symbol)
    assert graph.depths[node] == 3
    assert graph.depths[graph.fail(node)] == 2  # 2 3
    assert graph.depths[graph.fail(graph.fail(node))] == 1
    assert graph.depths[graph.follow(node, 5)] == 3  # 2 3 5
    assert graph.follow(node, 9) == 0
    assert len(graph) == 1 + 4 + 3 + 1


def test_a_long_phrase_of_one_symbol() -> None:
    graph = PhraseGraph([([7] * 200, 1.0), ([7] * 150, 2.0)])
    assert run(graph, [7] * 199)[0] == 199 * 2.0
    assert run(graph, [7] * 149)[0] == 0
    assert run(graph, [7] * 400)[0] == 400 * 2.0
