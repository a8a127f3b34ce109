"""Segments of speech from probabilities: rules, and streamed as whole."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.audio.segments import Segmenter, SegmentOptions, Span, speech_segments
from mynah.errors import ConfigError, InputError

FRAME = 0.1  # seconds: numbers that can be counted by hand
PLAIN = SegmentOptions(
    onset=0.5, offset=0.4, min_speech=0.2, min_silence=0.3, pad=0.0, longest=math.inf
)


def probs(text: str) -> list[float]:
    """A digit a frame: tenths."""
    return [int(digit) / 10 for digit in text.replace(" ", "")]


def found(text: str, **changes: float) -> list[Span]:
    options = dataclasses.replace(PLAIN, **changes)
    return [(round(a, 6), round(b, 6)) for a, b in speech_segments(probs(text), FRAME, options)]


def test_hysteresis_and_short_pauses() -> None:
    assert found("000 4 5 4 4 4 6 000 00") == [(0.4, 0.9)], "4 neither begins speech nor ends it"
    assert found("099 00 99 000") == [(0.1, 0.7)], "two frames are no pause"
    assert found("099 000 99") == [(0.1, 0.3), (0.6, 0.8)]
    assert found("099 00 49 0") == [(0.1, 0.7)], "speech that goes on was not silence"
    assert found("0 9 000") == [], "shorter than min_speech"
    assert found("0 9 00 9 000") == [(0.1, 0.5)]
    assert found("") == found("0000") == []


def test_the_end_of_the_stream() -> None:
    assert found("0999") == [(0.1, 0.4)]
    assert found("0999 00") == [(0.1, 0.4)], "an unfinished pause is not speech"
    assert found("0999 00", pad=0.1) == [(0.0, 0.5)]
    assert speech_segments(probs("0999"), FRAME, PLAIN, 0.37) == [(0.1, 0.37)]
    assert speech_segments(probs("00099"), FRAME, PLAIN, 0.3) == []


def test_padding_stays_between_the_neighbours() -> None:
    assert found("000 99 00000 99 000", pad=0.1) == [(0.2, 0.6), (0.9, 1.3)]
    assert found("000 99 000 99 000", pad=0.2) == [(0.1, 0.7), (0.7, 1.2)]
    assert found("9 9 0000", pad=5.0) == [(0.0, 0.5)], "after speech at most min_silence"


def test_too_long_is_cut_at_the_best_pause() -> None:
    text = "0 9 1 9999 8999 3 9 2 999 99999999 000"
    assert found(text, longest=3.0) == [(0.1, 2.5)], "short enough"
    cut = found("0" + "9" * 24 + "7" + "9" * 3 + "4" + "9" * 6 + "000", longest=3.0)
    assert cut == [(0.1, 2.9), (2.9, 3.6)]
    even = found("9" * 90, longest=3.0)
    assert even == [(0.0, 2.9), (2.9, 5.8), (5.8, 8.7), (8.7, 9.0)]


def test_a_cut_in_a_pause_leaves_nothing_of_it() -> None:
    options = {"min_silence": 0.5, "longest": 3.0}
    assert found("9" * 27 + "0000" + "9" * 5, **options) == [(0.0, 2.7), (3.1, 3.6)]


def test_open_since() -> None:
    segmenter = Segmenter(PLAIN, FRAME)
    assert segmenter.open_since is None
    segmenter.feed(probs("0099"))
    assert segmenter.open_since == pytest.approx(0.2)
    segmenter.feed(probs("000"))
    assert segmenter.open_since is None


@st.composite
def any_options(draw: st.DrawFn) -> SegmentOptions:
    onset = draw(st.sampled_from([0.2, 0.5, 0.8]))
    return SegmentOptions(
        onset=onset,
        offset=onset * draw(st.sampled_from([0.0, 0.5, 1.0])),
        min_speech=draw(st.sampled_from([0.0, 0.1, 0.25])),
        min_silence=draw(st.sampled_from([0.0, 0.2, 0.5])),
        pad=draw(st.sampled_from([0.0, 0.15, 0.6])),
        longest=draw(st.sampled_from([4.1, 5.0, math.inf])),
    )


# levels that last, so that there are pauses and long stretches
curves = st.lists(
    st.tuples(st.integers(0, 10), st.integers(1, 30)), max_size=12
).map(lambda runs: [level / 10 for level, length in runs for _ in range(length)])  # fmt: skip


@given(curves, any_options(), st.lists(st.integers(0, 40), max_size=20))
def test_streamed_as_whole(values: list[float], options: SegmentOptions, sizes: list[int]) -> None:
    segmenter = Segmenter(options, FRAME)
    for _ in range(2):  # the second stream finds nothing of the first
        spans, at = [], 0
        for size in sizes:
            spans += segmenter.feed(values[at : at + size])
            at += size
        spans += segmenter.feed(values[at:], last=True)
        assert spans == speech_segments(values, FRAME, options)


@given(curves, any_options())
def test_what_always_holds(values: list[float], options: SegmentOptions) -> None:
    spans = speech_segments(values, FRAME, options)
    ends = [0.0, *(t for span in spans for t in span), len(values) * FRAME]
    assert ends == sorted(ends), "in order, apart, within the recording"
    assert all(end - start <= options.longest + 1e-9 for start, end in spans)
    assert all(end > start for start, end in spans)
    said = np.zeros(len(values), bool)
    for start, end in spans:
        said[round(start / FRAME) : round(end / FRAME)] = True
        inside = values[round(start / FRAME) : round(end / FRAME)]
        assert max(inside) >= min(options.onset, options.offset)
    loud = np.array(values, float) >= options.onset
    if options.min_speech == 0.0:
        assert said[loud].all(), "no frame above onset is lost"


@given(curves, st.sampled_from([0.0, 0.2, 0.5]))
def test_as_plain_array_code(values: list[float], silence: float) -> None:
    """Without hysteresis, padding and limit: runs of frames, near ones joined, by numpy."""
    options = SegmentOptions(0.5, 0.5, 0.0, silence, 0.0, math.inf)
    frames = np.flatnonzero(np.array(values, float) >= 0.5)
    gap = max(round(silence / FRAME), 1)
    groups = np.split(frames, np.flatnonzero(np.diff(frames) > gap) + 1) if len(frames) else []
    expected = [(g[0] * FRAME, (g[-1] + 1) * FRAME) for g in groups]
    spans = speech_segments(values, FRAME, options)
    assert np.array(spans) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"onset": 0.0}, "onset: 0.0"),
        ({"onset": 1.5}, "onset: 1.5"),
        ({"onset": math.nan}, "onset: nan"),
        ({"offset": 0.6}, "offset: 0.6 is not from 0 to onset"),
        ({"pad": -1.0}, "pad: -1.0"),
        ({"min_silence": math.inf}, "min_silence: inf"),
        ({"longest": 0.5}, "longest: 0.5 is below"),
        ({"longest": math.nan}, "longest: nan"),
    ],
)
def test_wrong_options(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SegmentOptions(**values)


def test_wrong_input() -> None:
    with pytest.raises(InputError, match="finite"):
        speech_segments([0.1, math.nan], FRAME)
    with pytest.raises(InputError, match="row"):
        speech_segments([[0.1]], FRAME)
    with pytest.raises(ConfigError, match="frame_seconds"):
        Segmenter(PLAIN, 0.0)
