"""Words with times from units and log-probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.decoding import Hypothesis
from mynah.runtime.model import FrameClock
from mynah.runtime.words import TokenSpan, align_tokens, make_segment, make_words, mean_confidence
from mynah.text import UnitTokenizer

UNITS = ("<blank>", "<unk>", "▁hel", "lo", "▁you", "好", "<sos/eos>")
TOKENIZER = UnitTokenizer(UNITS)
CLOCK = FrameClock(step=0.04, lead=0.015)


def said(*tokens: int) -> Hypothesis:
    return Hypothesis(tokens, 0.0)


def log_probs(path: list[int], sure: float = 0.9) -> np.ndarray:
    probs = np.full((len(path), len(UNITS)), (1 - sure) / (len(UNITS) - 1))
    probs[np.arange(len(path)), path] = sure
    return np.log(probs).astype(np.float32)


def test_spans_and_confidence() -> None:
    spans = align_tokens(log_probs([0, 2, 2, 0, 3, 0, 0, 4, 0]), [2, 3, 4])
    assert [(span.first, span.stop) for span in spans] == [(1, 3), (4, 5), (7, 8)]
    assert mean_confidence(spans) == pytest.approx(0.9)


def test_words_reach_half_way_to_their_neighbours() -> None:
    heard = log_probs([0] * 5 + [2, 3, 0, 4] + [0] * 5)
    segment = make_segment(TOKENIZER, said(2, 3, 4), heard, clock=CLOCK, start=10.0, end=10.56)
    assert segment.text == "hello you"
    one, two = segment.words
    assert one.end <= two.start == pytest.approx(10.0 + 0.015 + 7.5 * 0.04)
    assert one.start == pytest.approx(10.0 + 0.015 + 5 * 0.04 - 0.08)
    assert (segment.start, segment.end) == (one.start, two.end)
    assert two.end <= 10.56


def test_more_units_than_frames_are_interpolated() -> None:
    segment = make_segment(
        TOKENIZER, said(2, 3, 4, 4), log_probs([2, 3]), clock=CLOCK, start=0.0, end=0.1
    )
    assert {word.source for word in segment.words} == {"interpolated"}
    assert all(word.confidence is None for word in segment.words)
    assert segment.confidence is None
    times = [t for word in segment.words for t in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] <= 0.1


def test_hanzi_are_words() -> None:
    heard = log_probs([0, 5, 0, 5, 0])
    segment = make_segment(TOKENIZER, said(5, 5), heard, clock=CLOCK, start=0.0, end=0.2)
    assert [word.text for word in segment.words] == ["好", "好"]


def test_nothing() -> None:
    segment = make_segment(TOKENIZER, said(), log_probs([0, 0]), clock=CLOCK, start=1.0, end=1.1)
    assert (segment.text, segment.words) == ("", ())
    assert align_tokens(log_probs([0]), []) == []


def test_an_impossible_probability() -> None:
    spans = [TokenSpan(0, 1, 0.0, "aligned"), TokenSpan(1, 2, 1.0, "aligned")]
    words = make_words(TOKENIZER.words([2, 3]), spans, clock=CLOCK, start=0.0, end=1.0)
    assert words[0].confidence == pytest.approx(0, abs=1e-9)
