from __future__ import annotations

import functools
import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.evaluation import alignment, split_tokens
from mynah.evaluation.alignment import AlignedPair, align, count_edits, format_alignment

tokens = st.lists(st.sampled_from("abc"), max_size=6)


def best_by_trying_all(ref: Sequence[str], hyp: Sequence[str]) -> tuple[int, int]:
    """Fewest edits, and among these the most matches, over every alignment there is."""

    @functools.cache
    def best(i: int, j: int) -> tuple[int, int]:
        options = []
        if i < len(ref):
            edits, matches = best(i + 1, j)
            options.append((edits + 1, matches))
        if j < len(hyp):
            edits, matches = best(i, j + 1)
            options.append((edits + 1, matches))
        if i < len(ref) and j < len(hyp):
            edits, matches = best(i + 1, j + 1)
            same = ref[i] == hyp[j]
            options.append((edits + (not same), matches - same))
        return min(options, default=(0, 0))

    edits, matches = best(0, 0)
    return edits, -matches


def kinds(pairs: Sequence[AlignedPair]) -> dict[str, int]:
    return {kind: sum(p.kind == kind for p in pairs) for kind in "=SDI"}


@given(tokens, tokens)
@settings(max_examples=400, deadline=None)
def test_alignment_is_the_best_of_all(ref: list[str], hyp: list[str]) -> None:
    pairs = align(ref, hyp)
    assert [p.ref for p in pairs if p.ref is not None] == ref
    assert [p.hyp for p in pairs if p.hyp is not None] == hyp
    found = kinds(pairs)
    assert (found["S"] + found["D"] + found["I"], found["="]) == best_by_trying_all(ref, hyp)


@given(st.lists(st.tuples(tokens, tokens), max_size=6))
@settings(max_examples=200, deadline=None)
def test_counts_of_a_batch_are_those_of_the_alignments(
    pairs: list[tuple[list[str], list[str]]],
) -> None:
    counts = count_edits(pairs).tolist()
    expected = [kinds(align(ref, hyp)) for ref, hyp in pairs]
    assert counts == [[e["S"], e["D"], e["I"]] for e in expected]


@given(tokens, tokens)
@settings(max_examples=200, deadline=None)
def test_exchanging_the_sides_exchanges_deletions_and_insertions(
    ref: list[str], hyp: list[str]
) -> None:
    (there,), (back,) = count_edits([(ref, hyp)]).tolist(), count_edits([(hyp, ref)]).tolist()
    assert there == [back[0], back[2], back[1]]


def test_halving_long_pairs_finds_the_same_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    for _ in range(60):
        ref = [rng.choice("abcd") for _ in range(rng.randrange(40))]
        hyp = [rng.choice("abcd") for _ in range(rng.randrange(40))]
        whole = kinds(align(ref, hyp))
        with monkeypatch.context() as patch:
            patch.setattr(alignment, "_MAX_CELLS", 5)
            halved = align(ref, hyp)
        assert kinds(halved) == whole
        assert [p.ref for p in halved if p.ref is not None] == ref
        assert [p.hyp for p in halved if p.hyp is not None] == hyp


def test_edits_agree_with_rapidfuzz() -> None:
    distance = pytest.importorskip("rapidfuzz.distance").Levenshtein.distance
    rng = random.Random(1)
    words = [f"w{i}" for i in range(30)]
    pairs = []
    for _ in range(300):
        ref = rng.choices(words, k=rng.randrange(40))
        hyp = [rng.choice(words) if rng.random() < 0.2 else w for w in ref if rng.random() > 0.1]
        pairs.append((ref, hyp))
    assert count_edits(pairs).sum(axis=1).tolist() == [distance(r, h) for r, h in pairs]


def test_two_thousand_pairs_are_counted_quickly() -> None:
    rng = random.Random(2)
    words = [f"w{i}" for i in range(500)]
    refs = [rng.choices(words, k=20) for _ in range(2000)]
    pairs = [(ref, [w for w in ref if rng.random() > 0.1]) for ref in refs]
    best = 10.0
    for _ in range(3):
        start = time.process_time()
        count_edits(pairs)
        best = min(best, time.process_time() - start)
    assert best < 0.5  # about 0.03 s


def test_lines_are_aligned() -> None:
    pairs = align(split_tokens("the cat sat on the mat"), split_tokens("the cat sits on mat now"))
    assert format_alignment(pairs) == (
        "REF:  the cat sat  on the mat ***\n"
        "HYP:  the cat sits on *** mat now\n"
        "EDIT:         S       D       I"
    )


def test_wide_characters_take_two_columns() -> None:
    pairs = align(list("今天好"), list("今田好吗"))
    assert format_alignment(pairs) == ("REF:  今 天 好 **\nHYP:  今 田 好 吗\nEDIT:    S     I")


def test_long_lines_are_wrapped() -> None:
    words = [f"word{i:02d}" for i in range(30)]
    text = format_alignment(align(words, words[:-1]), width=40)
    lines = [line for line in text.split("\n") if line]
    assert len(lines) == 18
    assert max(map(len, lines)) <= 40
    assert lines[-1].endswith("D")


def test_nothing_against_nothing() -> None:
    assert align([], []) == ()
    assert format_alignment([]) == ""
    assert count_edits([]).shape == (0, 3)
    assert count_edits([([], [])]).tolist() == [[0, 0, 0]]
