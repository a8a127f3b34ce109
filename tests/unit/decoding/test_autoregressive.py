"""Attention beam search over small decoders made up from tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mynah.decoding import attention_beam_search
from mynah.errors import ConfigError

VOCAB, EOS = 4, 3


class TableDecoder:
    """Log-probabilities drawn per history; keeps the histories of its rows as a cache would."""

    def __init__(self, seed: int, vocab: int = VOCAB, eos_bias: float = 0.0) -> None:
        self.seed, self.vocab, self.eos_bias = seed, vocab, eos_bias
        self.rows: list[tuple[int, ...]] = [()]
        self.calls: list[int] = []

    def log_probs(self, history: tuple[int, ...]) -> np.ndarray:
        logits = np.random.default_rng((self.seed, *history)).normal(size=self.vocab) * 2
        logits[-1] += self.eos_bias
        return logits - np.logaddexp.reduce(logits)

    def __call__(self, tokens: np.ndarray, parents: np.ndarray) -> np.ndarray:
        assert tokens.shape == parents.shape
        self.rows = [(*self.rows[p], int(t)) for t, p in zip(tokens, parents, strict=True)]
        self.calls.append(len(self.rows))
        return np.stack([self.log_probs(row) for row in self.rows])


def exhaustive(decoder: TableDecoder, max_len: int) -> dict[tuple[int, ...], float]:
    """The score of every sequence that ends in <eos> or holds ``max_len`` tokens."""
    eos = decoder.vocab - 1
    scores = {}
    for length in range(max_len + 1):
        for tokens in itertools.product(range(eos), repeat=length):
            history, score = (eos,), 0.0
            # <eos> is one of the max_len steps.
            for token in (*tokens, eos)[:max_len]:
                score += float(decoder.log_probs(history)[token])
                history = (*history, token)
            scores[tokens] = score
    return scores


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_a_beam_wide_enough_is_exhaustive(seed: int, penalty: float) -> None:
    max_len = 4
    scores = exhaustive(TableDecoder(seed), max_len)
    found = attention_beam_search(
        TableDecoder(seed),
        sos=EOS,
        eos=EOS,
        max_len=max_len,
        beam=VOCAB**max_len,
        length_penalty=penalty,
    )
    assert {h.tokens for h in found} == set(scores)
    for hypothesis in found:
        length = len(hypothesis.tokens)
        expected = scores[hypothesis.tokens]
        if penalty:
            expected = expected / length**penalty if length else -math.inf
        assert hypothesis.score == pytest.approx(expected)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_a_beam_of_one_is_greedy() -> None:
    decoder = TableDecoder(3, vocab=9, eos_bias=1.0)
    (found,) = attention_beam_search(decoder, sos=8, eos=8, max_len=20, beam=1)
    history, tokens, logs = (8,), [], []
    for _ in range(20):
        row = decoder.log_probs(history)
        unit = int(row.argmax())
        logs.append(row[unit])
        if unit == 8:
            break
        tokens.append(unit)
        history = (*history, unit)
    assert list(found.tokens) == tokens
    assert found.score == pytest.approx(sum(logs))
    assert found.confidence == pytest.approx(math.exp(sum(logs) / len(logs)))
    assert found.token_confidences == pytest.approx(np.exp(logs[: len(tokens)]))


def test_ended_sequences_are_not_stepped() -> None:
    decoder = TableDecoder(1, vocab=6, eos_bias=1.5)
    attention_beam_search(decoder, sos=5, eos=5, max_len=30, beam=5)
    assert decoder.calls[0] == 1
    assert max(decoder.calls) <= 5
    assert len(decoder.calls) < 30  # it stopped when all had ended
    assert decoder.calls[-1] < 5


def test_the_search_stops_at_the_greatest_length() -> None:
    decoder = TableDecoder(2, vocab=6, eos_bias=-100.0)
    found = attention_beam_search(decoder, sos=5, eos=5, max_len=7, beam=3)
    assert len(decoder.calls) == 7
    assert all(len(h.tokens) == 7 for h in found)
    (nothing,) = attention_beam_search(decoder, sos=5, eos=5, max_len=0, beam=3)
    assert nothing.tokens == ()


def test_length_penalty_prefers_the_longer() -> None:
    def step(tokens: np.ndarray, parents: np.ndarray) -> np.ndarray:
        # One unit, and at each step an even chance to go on or to end.
        return np.log(np.full((len(tokens), 2), 0.5))

    plain = attention_beam_search(step, sos=1, eos=1, max_len=6, beam=8)
    assert plain[0].tokens == ()
    longest = attention_beam_search(step, sos=1, eos=1, max_len=6, beam=8, length_penalty=1.5)
    assert longest[0].tokens == (0,) * 6
    assert longest[-1].score == -math.inf  # the empty one


def test_an_impossible_sequence_is_none() -> None:
    def step(tokens: np.ndarray, parents: np.ndarray) -> np.ndarray:
        return np.where(np.arange(5) == 4, 0.0, -np.inf)[None].repeat(len(tokens), 0)

    (found,) = attention_beam_search(step, sos=4, eos=4, max_len=3, beam=4)
    assert found.tokens == () and found.score == 0


def test_a_wrong_beam_is_refused() -> None:
    with pytest.raises(ConfigError, match="beam"):
        attention_beam_search(TableDecoder(0), sos=3, eos=3, max_len=3, beam=0)
