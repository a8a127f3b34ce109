"""What a Whisper model may say next, row by row, and the searches by brute force."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from mynah.decoding.whisper_prediction import Helpers, HostPrediction
from mynah.decoding.whisper_rules import Rules, log_sums
from mynah.decoding.whisper_search import Text, beam_search, best_text, sample
from mynah.errors import ModelError

EOT, NO_TIMES, BEGIN, SIZE = 6, 8, 9, 15  # text 0..5, one mark, no times, times 9..14
RULES = Rules(eot=EOT, timestamp_begin=BEGIN, no_timestamps=NO_TIMES, latest_first=3)
Array = np.ndarray[Any, Any]


def plainly(rules: Rules, logits: Array, said: list[int], begun: int = 0) -> Array:
    """The rules of the original for one row, as the paper's program says them."""
    values = logits.copy()
    if rules.repetition_penalty != 1:
        for token in set(said):
            value = values[token]
            values[token] = (
                value * rules.repetition_penalty
                if value < 0
                else (value / rules.repetition_penalty)
            )
    size = rules.no_repeat_ngram
    for token in range(len(values)):
        grams = [tuple(said[i : i + size]) for i in range(len(said) - size + 1)]
        if size and tuple([*said, token][-size:]) in grams:
            values[token] = -math.inf
    if len(said) == begun:
        values[list(rules.first_suppressed)] = -math.inf
    values[list(rules.suppressed)] = -math.inf
    if not rules.timestamps:
        return values
    values[rules.no_timestamps] = -math.inf
    if not said:
        values[:BEGIN] = -math.inf
        if rules.latest_first is not None:
            values[BEGIN + rules.latest_first + 1 :] = -math.inf
        return values
    last, before = said[-1] >= BEGIN, len(said) < 2 or said[-2] >= BEGIN
    if last and before:
        values[BEGIN:] = -math.inf
    elif last:
        values[:EOT] = -math.inf
    times = [token for token in said if token >= BEGIN]
    if times:
        values[BEGIN : times[-1] + (0 if last and not before else 1)] = -math.inf
    together = np.logaddexp.reduce(values[BEGIN:].astype(np.float64))
    if together > values[:BEGIN].max():
        values[:BEGIN] = -math.inf
    return values


SAID = [
    [[9]], [[10, 1], [11, 2]], [[10, 1, 12], [10, 1, 2], [9, 1, 14]],
    [[10, 1, 12, 12], [10, 1, 12, 13], [10, 1, 2, 1], [9, 1, 14, 14]],
    [[10, 1, 2, 1, 2, 1], [10, 1, 12, 12, 3, 14], [1, 2, 3, 1, 2, 3]],
]  # fmt: skip
VARIANTS = [
    {},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 3},
    {"suppressed": (2, 7, 13), "latest_first": None},
    {"timestamps": False, "no_repeat_ngram": 2},
    {"first_suppressed": (0, EOT)},
]


@pytest.mark.parametrize("values", VARIANTS, ids=str)
@pytest.mark.parametrize("said", [[[], []], *SAID], ids=str)
def test_rules(values: dict[str, Any], said: list[list[int]]) -> None:
    rules = Rules(**{"eot": EOT, "timestamp_begin": BEGIN, "no_timestamps": NO_TIMES,
                     "latest_first": 3, **values})  # fmt: skip
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(0, 2, (len(said), SIZE)).astype(np.float32)
        wanted = [plainly(rules, row, one) for row, one in zip(logits, said, strict=True)]
        rules.apply(logits, np.array(said, np.int64).reshape(len(said), -1))
        np.testing.assert_allclose(logits, wanted, rtol=1e-6)


def test_what_was_given_counts_as_said() -> None:
    rules = Rules(eot=EOT, timestamp_begin=BEGIN, first_suppressed=(1,))
    logits = np.zeros((1, SIZE), np.float32)
    logits[0, :6] = 9.0
    rules.apply(logits, np.array([[9, 2]]), begun=2)
    assert logits[0, 1] == -np.inf
    assert logits[0, 2] == 9.0, "no time has to follow"
    rules.apply(logits, np.array([[9, 2, 3]]), begun=2)


class Table:
    """A decoder whose logits depend on all that was said."""

    def __init__(self, windows: int, size: int, seed: int = 0, scale: float = 2.0) -> None:
        self.said: list[tuple[int, ...]] = [(n,) for n in range(windows)]
        self.seed, self.size, self.scale = seed, size, scale
        self.rows: list[int] = []

    def logits(self, said: tuple[int, ...]) -> Array:
        rng = np.random.default_rng([self.seed, *said])
        return rng.normal(0, self.scale, self.size).astype(np.float32)

    def first(self) -> HostPrediction:
        return HostPrediction(np.stack([self.logits(one) for one in self.said]))

    def __call__(self, tokens: Array, parents: Array) -> HostPrediction:
        self.rows.append(len(tokens))
        self.said = [(*self.said[p], int(t)) for t, p in zip(tokens, parents, strict=True)]
        return self.first()


FREE = Rules(eot=0, timestamp_begin=99, timestamps=False)
NONE = np.zeros((1, 0), np.int64)


def exhaustive(table: Table, window: int, limit: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every text that ends within ``limit`` tokens, the end included."""
    found: dict[tuple[int, ...], float] = {}
    for length in range(limit):
        for tokens in itertools.product(range(1, table.size), repeat=length):
            total = 0.0
            for place, token in enumerate((*tokens, 0)):
                row = table.logits((window, *tokens[:place])).astype(np.float64)
                total += row[token] - np.logaddexp.reduce(row)
            found[tokens] = total
    return found


def test_a_wide_beam_finds_the_best() -> None:
    table = Table(1, 4, seed=5)
    every = exhaustive(table, 0, 5)
    best = max(every, key=lambda tokens: every[tokens])
    found = beam_search(table.first(), table, FREE, NONE, limit=5, beam=80, patience=8)[0]
    top = max((text for text in found if text.ended), key=lambda text: text.total)
    assert top.tokens == best
    assert top.total == pytest.approx(every[best], abs=1e-5)
    for text in found:
        if text.ended:
            assert text.total == pytest.approx(every[text.tokens], abs=1e-5)


@pytest.mark.parametrize("beam", [1, 2, 3])
@pytest.mark.parametrize("patience", [1.0, 2.0])
def test_windows_do_not_matter_to_each_other(beam: int, patience: float) -> None:
    given = np.zeros((5, 0), np.int64)
    table = Table(5, 12, seed=3, scale=1.0)
    together = beam_search(
        table.first(), table, FREE, given, limit=12, beam=beam, patience=patience
    )
    assert len({len(texts[0].tokens) for texts in together}) > 1
    if patience == 1:
        assert table.rows[0] > table.rows[-1], "what has ended takes no rows"
    for window in range(5):
        alone = Table(5, 12, seed=3, scale=1.0)
        alone.said = [(window,)]
        found = beam_search(alone.first(), alone, FREE, NONE, limit=12, beam=beam,
                            patience=patience)  # fmt: skip
        assert found[0] == together[window]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_samples_do_not_depend_on_the_others(temperature: float) -> None:
    given = np.zeros((4, 0), np.int64)
    seeds = [(7, window) for window in range(4)]
    how: dict[str, Any] = {"limit": 10, "temperature": temperature}
    how["count"] = 3 if temperature else 1
    table = Table(4, 9, seed=1)
    together = sample(table.first(), table, FREE, given, seeds=seeds, **how)
    for window in range(4):
        alone = Table(4, 9, seed=1)
        alone.said = [(window,)]
        assert sample(alone.first(), alone, FREE, NONE, seeds=[seeds[window]], **how) == [
            together[window]
        ]
    if temperature:
        assert len({text.tokens for text in together[0]}) > 1


def test_samples_follow_the_probabilities() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32))
    table = Table(1, 4)
    counts = np.zeros(4)
    for seed in range(20):
        first = HostPrediction(logits.copy())
        found = sample(first, table, FREE, NONE, limit=1, temperature=1.0, count=100,
                       seeds=[(seed,)])  # fmt: skip
        for text in found[0]:
            counts[text.tokens[0] if text.tokens else 0] += 1
    np.testing.assert_allclose(counts / 2000, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_scores() -> None:
    text = Text((1, 2, 3), (-0.5, -0.25, -0.25, -1.0), True)
    assert text.mean == -0.5
    assert text.score(None) == pytest.approx(-2 / 3)
    assert text.score(0.5) == pytest.approx(-2 / (8 / 6) ** 0.5)
    long = Text((1, 2, 3, 4, 5, 6), (-0.5,) * 7, True)
    assert best_text([text, long], None) is long
    assert best_text([text, long], 0.0) is text
    assert best_text([text, Text((4, 5, 6), text.logs, True)], None) is text


@pytest.mark.parametrize("size", [1, 2047, 2048, 5000])
def test_sums(size: int) -> None:
    values = np.random.default_rng(size).normal(0, 5, (4, size)).astype(np.float32)
    values[1, 1:] = -np.inf
    values[2] = -np.inf
    wanted = np.logaddexp.reduce(values.astype(np.float64), axis=1)
    np.testing.assert_allclose(log_sums(values), wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(log_sums(values, values.max(axis=1)), log_sums(values))


@pytest.mark.parametrize("rows", [1, 8, 23])
@pytest.mark.parametrize("count", [1, 4])
def test_helpers_change_nothing(rows: int, count: int) -> None:
    rng = np.random.default_rng(rows)
    logits = rng.normal(0, 3, (rows, 500)).astype(np.float32)
    said = rng.integers(0, 500, (rows, 3))
    rules = Rules(eot=300, timestamp_begin=400, no_timestamps=399, suppressed=(5, 7))
    alone = HostPrediction(logits.copy()).best(rules, said, 0, count)
    for threads in (1, 3, 30):  # more than rows, too
        shared = HostPrediction(logits.copy(), Helpers(threads)).best(rules, said, 0, count)
        for found, wanted in zip(shared, alone, strict=True):
            np.testing.assert_array_equal(found, wanted)
    logits[rows - 1] = np.nan
    with pytest.raises(ModelError, match=rf"(frame|hypothesis) {rows - 1} "):
        HostPrediction(logits, Helpers(2)).best(rules, said, 0, count)
