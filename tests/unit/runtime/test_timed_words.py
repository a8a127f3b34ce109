"""Words with times from units and log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.decoding import Hypothesis
from mynah.errors import ModelError
from mynah.model_folder import update_calibration
from mynah.runtime.confidence import Calibration
from mynah.runtime.model import FrameClock, load_model
from mynah.runtime.words import TokenSpan, align_tokens, make_segment, make_words, mean_confidence
from mynah.text import UnitTokenizer
from tone_model import write_tone_model

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


def test_words_that_the_search_knew() -> None:
    """Units that spell nothing, such as phones: the hypothesis says what they make."""
    hypothesis = Hypothesis((2, 3, 4), 0.0, words=(("Hi", 0, 2), ("there", 2, 3)))
    heard = log_probs([0, 2, 2, 3, 0, 4, 0])
    segment = make_segment(TOKENIZER, hypothesis, heard, clock=CLOCK, start=0.0, end=0.28)
    assert segment.text == "Hi there"
    assert [word.text for word in segment.words] == ["Hi", "there"]
    plain = make_segment(TOKENIZER, said(2, 3, 4), heard, clock=CLOCK, start=0.0, end=0.28)
    assert [(w.start, w.end) for w in segment.words] == [(w.start, w.end) for w in plain.words]
    silent = make_segment(
        TOKENIZER, hypothesis, heard, clock=CLOCK, start=0.0, end=0.28, words=False
    )
    assert (silent.text, silent.words) == ("Hi there", ())


def test_times_of_characters() -> None:
    heard = log_probs([0] * 5 + [2, 0, 3, 0, 0, 4] + [0] * 5)
    segment = make_segment(
        TOKENIZER, said(2, 3, 4), heard, clock=CLOCK, start=0.0, end=0.64, chars=True
    )
    word = segment.words[0]
    assert len(word.chars) == 5
    assert (word.chars[0][0], word.chars[-1][1]) == (word.start, word.end)
    middle = 0.015 + (6 + 7) / 2 * 0.04  # between the frames of "hel" and "lo"
    assert word.chars[2][1] == word.chars[3][0] == pytest.approx(middle)
    assert word.chars[0][1] == pytest.approx(word.start + (middle - word.start) / 3)
    known = Hypothesis((2, 3, 4), 0.0, words=(("Hi", 0, 2), ("there", 2, 3)))
    segment = make_segment(TOKENIZER, known, heard, clock=CLOCK, start=0.0, end=0.64, chars=True)
    assert [word.chars for word in segment.words] == [(), ()]


def test_a_model_that_marks_late() -> None:
    heard = log_probs([0] * 5 + [2, 3] + [0] * 5)
    late = FrameClock(step=0.04, lead=0.015, before=0.01, after=0.02, late=0.1)
    (word,) = make_segment(TOKENIZER, said(2, 3), heard, clock=late, start=0.0, end=1.0).words
    assert word.start == pytest.approx(0.015 + 5 * 0.04 - 0.1 - 0.01)
    assert word.end == pytest.approx(0.015 + 7 * 0.04 - 0.1 + 0.02)


def test_calibrated_words_make_the_segment() -> None:
    half = Calibration((1.0, 0.0, 0.0, 0.0), -np.log(9.0))
    heard = log_probs([0, 2, 3, 0, 4, 0])
    segment = make_segment(
        TOKENIZER, said(2, 3, 4), heard, clock=CLOCK, start=0.0, end=0.3, calibration=half
    )
    expected = 1 / (1 + 9 / 0.9)
    assert [word.confidence for word in segment.words] == pytest.approx([expected] * 2, rel=1e-3)
    assert segment.confidence == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"times": {"before": 0.1, "atfer": 0.0}}, r"times\.atfer: unknown key \(did you mean"),
        ({"confidence": {"weights": [1, 2], "bias": 0.0}}, r"confidence\.weights: expected 4"),
    ],
)
def test_wrong_tables_of_a_model(tmp_path: Path, table: dict[str, Any], line: str) -> None:
    folder = write_tone_model(tmp_path / "tones", **table)
    with pytest.raises(ModelError, match=line):
        load_model(folder)


def test_a_model_says_where_its_words_lie(tmp_path: Path) -> None:
    folder = write_tone_model(tmp_path / "tones", times={"late": 0.05})
    clock = load_model(folder).clock
    assert (clock.before, clock.after, clock.late) == (0.08, 0.08, 0.05)
    weights = (1.0, 0.0, 0.0, 0.0)
    update_calibration(folder, {"weights": list(weights), "bias": 0.5})
    model = load_model(folder)
    assert model.calibration == Calibration(weights, 0.5)
    assert model.clock == clock
