"""Words beside pauses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.audio.segments import SegmentOptions, Span
from mynah.runtime.result import Segment, Word
from mynah.runtime.whisper.pauses import between_pauses

OPTIONS = SegmentOptions(pad=0.1, min_silence=0.3)


def segment(*spans: Span, start: float | None = None, end: float | None = None) -> Segment:
    words = tuple(Word(f"w{a}", a, b, 0.5, "attention") for a, b in spans)
    first = spans[0][0] if start is None else start
    return Segment("text", first, spans[-1][1] if end is None else end, 0.5, words)


def moved(speech: Sequence[Span], *segments: Segment) -> list[list[Span]]:
    found = between_pauses(segments, speech, OPTIONS)
    return [[(w.start, w.end) for w in one.words] for one in found]


SPEECH = ((1.0, 3.0), (4.0, 6.0))  # said from 1.1 to 2.9, from 4.1 to 5.9


@pytest.mark.parametrize("border", [2.5, 2.9, 3.4, 4.1, 4.5])
def test_a_pause_is_between_the_words_that_part_nearest_to_it(border: float) -> None:
    words = segment((1.1, 2.0), (2.0, border), (border, 5.2), (5.2, 5.9))
    assert moved(SPEECH, words) == [[(1.1, 2.0), (2.0, 2.9), (4.1, 5.2), (5.2, 5.9)]]


def test_no_more_than_a_pause_is_kept_behind_speech() -> None:
    found = between_pauses([segment((1.1, 3.4), (3.4, 5.9))], SPEECH, SegmentOptions(pad=0.5))
    assert [(w.start, w.end) for w in found[0].words] == [(1.5, 2.7), (4.5, 5.7)]


def test_a_pause_far_from_all_ends_of_words() -> None:
    words = segment((1.1, 2.3), (2.3, 4.7), (4.7, 5.9))
    assert moved(SPEECH, words) == [[(1.1, 2.3), (2.3, 4.7), (4.7, 5.9)]]


def test_before_the_first_and_behind_the_last_word() -> None:
    assert moved(SPEECH[:1], segment((0.2, 2.0), (2.0, 3.3))) == [[(1.1, 2.0), (2.0, 2.9)]]
    # 0.1 s before a recording there was nothing to keep
    assert moved([(0.0, 3.0)], segment((0.0, 2.0), (2.0, 2.6))) == [[(0.0, 2.0), (2.0, 2.9)]]
    # what is heard far before or behind them is not their sound
    assert moved([(0.5, 4.0)], segment((1.2, 2.0), (2.0, 3.0))) == [[(1.2, 2.0), (2.0, 3.0)]]
    assert moved(SPEECH[:1], segment((0.2, 0.9), (0.9, 1.0))) == [[(0.2, 0.9), (0.9, 1.0)]]


def test_words_in_a_pause_stay() -> None:
    words = segment((1.1, 2.8), (3.1, 3.3), (3.3, 5.9))
    assert moved(SPEECH, words) == [[(1.1, 2.8), (3.1, 3.3), (4.1, 5.9)]]


def test_no_word_gets_shorter_than_nothing() -> None:
    for words in (segment((2.89, 2.95), (2.95, 4.0)), segment((2.0, 4.11), (4.11, 4.12))):
        for start, end in moved(SPEECH, words)[0]:
            assert end > start


def test_two_pauses_between_the_same_words() -> None:
    speech = ((1.0, 3.0), (3.2, 3.5), (4.0, 6.0))  # a cough
    assert moved(speech, segment((1.1, 3.0), (3.0, 5.9))) == [[(1.1, 2.9), (4.1, 5.9)]]


def test_segments_follow_their_words() -> None:
    first, second = segment((1.1, 2.0), (2.0, 3.4)), segment((3.4, 5.0), (5.0, 5.7), end=6.2)
    one, other = between_pauses([first, second], SPEECH, OPTIONS)
    assert (one.start, one.end) == (1.1, 2.9)
    assert (other.start, other.end) == (4.1, 6.2), "it did not end with its words"
    assert other.words[-1].end == 5.9
    assert one.words[0] == first.words[0]


def apart(draw: list[int]) -> list[Span]:
    """Spans in order, from numbers of hundredths of seconds."""
    edges = [n / 100 for n in itertools.accumulate(draw)]
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(
    st.lists(st.integers(3, 60), min_size=2, max_size=30),
    st.lists(st.integers(31, 150), min_size=2, max_size=12),
)
def test_words_stay_words_in_order(words: list[int], speech: list[int]) -> None:
    spans = apart([n if place % 2 else max(n - 40, 0) for place, n in enumerate(words)])
    found = moved(apart(speech), *[segment(span) for span in spans])
    flat = [span for one in found for span in one]
    assert len(flat) == len(spans)
    assert all(end - start >= 0.019 for start, end in flat)
    assert all(one[1] <= other[0] + 1e-9 for one, other in itertools.pairwise(flat))


def test_nothing_to_move() -> None:
    plain = Segment("text", 0.0, 9.0, 0.5)
    assert between_pauses([plain], SPEECH, OPTIONS) == [plain]
    assert between_pauses([segment((1.1, 2.0))], (), OPTIONS) == [segment((1.1, 2.0))]
