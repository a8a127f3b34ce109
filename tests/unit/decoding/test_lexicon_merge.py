"""Old and new tokens are merged as a plain program would: by key, the best of each, none lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mynah.decoding.lexicon_merge import Stay, merge
from mynah.decoding.lexicon_tokens import NEVER, New, Tokens, make_keys, read_keys
from mynah.decoding.lexicon_trace import NO_WORD, Trace

Way = tuple[float, tuple[int, ...]]  # how far behind the best, and the words


def some_tokens(rng: np.random.Generator) -> tuple[Tokens, Stay, New, Trace]:
    """Tokens of few nodes, contexts and units, so that many are equal."""
    trace, zero = Trace(), np.zeros(1, np.int64)
    entries = zero
    for word in range(6):  # entries 1 to 6 end a word each, after one of those before
        before = rng.choice(entries, 1)
        history = trace.after(before, np.full(1, word))
        made = trace.add(before, word, zero + 1, zero + word, np.zeros(1), history)
        entries = np.concatenate([entries, made])

    def fields(count: int) -> tuple[np.ndarray, ...]:
        return tuple(rng.integers(0, 2, count) for _ in range(3))

    def scores(count: int) -> np.ndarray:
        return np.where(rng.random(count) < 0.1, NEVER, rng.normal(0, 4, count))

    more = int(rng.integers(0, 20))
    node, context, last = fields(more)
    before = rng.choice(entries, more)
    word = rng.choice([NO_WORD, 7, 8], more)
    new = New(node, context, last, rng.normal(0, 4, more), before, word, np.zeros(more))
    old = New(*fields(int(rng.integers(1, 15))), *[np.zeros(0, np.int64)] * 4)
    key = np.unique(make_keys(old))
    size = len(key)
    tokens = Tokens(
        key, *read_keys(key), np.zeros(size), np.zeros(size), rng.choice(entries, size),
        rng.choice(entries, size),
    )  # fmt: skip
    return tokens, Stay(scores(size), scores(size), rng.choice(entries, size)), new, trace


def words_of(trace: Trace, entry: int) -> tuple[int, ...]:
    _, path = next(trace.paths([(0.0, entry)]))
    return tuple(word for word in trace.read([path])[0][2] if word >= 0)


def ways_of(trace: Trace, entry: int) -> Iterator[Way]:
    for score, path in trace.paths([(0.0, entry)]):
        yield round(-score, 9), tuple(word for word in trace.read([path])[0][2] if word >= 0)


def expected(
    tokens: Tokens, stay: Stay, new: New, trace: Trace, beam: int, margin: float
) -> dict[int, tuple[float, float, list[Way]]]:
    """Of each key that is kept: the scores of both ways, and all ways that end in the unit."""
    blanks = dict(zip(tokens.key.tolist(), stay.blank.tolist(), strict=True))
    ways: dict[int, list[tuple[float, tuple[int, ...]]]] = {}
    for key, score, entry in zip(tokens.key, stay.unit, tokens.unit_entry, strict=True):
        ways.setdefault(int(key), []).append((float(score), words_of(trace, int(entry))))
    for key, score, before, word in zip(make_keys(new), new.score, new.before, new.word):  # noqa: B905
        words = words_of(trace, int(before)) + ((int(word),) if word >= 0 else ())
        ways.setdefault(int(key), []).append((float(score), words))
    total = {key: max(blanks.get(key, NEVER), max(ways[key])[0]) for key in ways}
    floor = max(total.values()) - margin
    kept = sorted((key for key in total if total[key] >= floor), key=lambda key: -total[key])
    result = {}
    for key in sorted(kept[:beam]):
        (best, lead), *others = sorted(ways[key], key=lambda way: -way[0])
        found = [(0.0, lead)]
        found += [(round(best - score, 9), words) for score, words in others
                  if words != lead and best - score < margin]  # fmt: skip
        result[key] = blanks.get(key, NEVER), best, sorted(found)
    return result


@pytest.mark.parametrize("beam", [3, 100])
@pytest.mark.parametrize("margin", [5.0, 1e9])
def test_merging_equals_a_plain_program(beam: int, margin: float) -> None:
    met = 0
    for seed in range(150):
        tokens, stay, new, trace = some_tokens(np.random.default_rng(seed))
        if np.maximum(stay.blank, stay.unit).max() == NEVER and not len(new.node):
            assert merge(tokens, stay, new, trace, 9, beam=beam, margin=margin) is None
            continue
        wanted = expected(tokens, stay, new, trace, beam, margin)
        after = merge(tokens, stay, new, trace, 9, beam=beam, margin=margin)
        assert after is not None
        assert after.key.tolist() == list(wanted)
        assert make_keys(New(*after[1:4], *after[4:8])).tolist() == after.key.tolist()
        for i, (blank, unit, ways) in enumerate(wanted.values()):
            assert (after.blank[i], after.unit[i]) == (blank, unit)
            if unit > NEVER:
                assert sorted(ways_of(trace, int(after.unit_entry[i]))) == ways
            if blank > NEVER:
                old = tokens.key.tolist().index(after.key[i])
                assert after.blank_entry[i] == stay.entry[old]
            met += len(ways) > 2
    assert met > 10


def test_keys_are_read_as_they_were_made() -> None:
    some = (
        np.array([0, 1, (1 << 23) - 1]),
        np.array([0, 7, (1 << 24) - 1]),
        np.array([-1, 0, 49_999]),
    )
    keys = make_keys(New(*some, *[np.zeros(0, np.int64)] * 4))
    for given, read in zip(some, read_keys(keys), strict=True):
        assert read.tolist() == given.tolist()


@pytest.mark.parametrize("seed", range(8))
def test_ways_come_in_order_and_of_equal_ones_the_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trace, zero = Trace(), np.zeros(1, np.int64)
    for time in range(9):  # entries, and places where two ways meet, at whole distances: many ties
        before, other = rng.integers(0, trace.size, (2, 1))
        trace.add(before, time, zero + 1, zero + NO_WORD, np.zeros(1), trace.histories(before))
        lead = np.array([trace.size - 1])
        trace.meet(lead, zero > 0, other, rng.integers(0, 3, 1).astype(np.float64))
    ends = [(-float(rng.integers(0, 3)), int(entry)) for entry in rng.integers(1, trace.size, 4)]
    arrays = trace._arrays
    waiting = [(-score, n, entry, list[int]()) for n, (score, entry) in enumerate(ends)]
    met, expected = len(ends), []
    while waiting:  # the plain program: every turn waits by itself
        cost, _, entry, path = waiting.pop(waiting.index(min(waiting)))
        path = list(path)
        while entry > 0:
            if arrays["unit"][entry] >= 0:
                path.append(entry)
            else:
                turn = cost + float(arrays["behind"][entry]), met, int(arrays["other"][entry])
                waiting.append((*turn, list(path)))
                met += 1
            entry = int(arrays["before"][entry])
        expected.append((-cost, path[::-1]))
    assert len(expected) > len(ends)
    assert list(trace.paths(ends)) == expected
