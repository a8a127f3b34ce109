"""Words with times and confidences, from units aligned to the CTC log-probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mynah.decoding import force_align
from mynah.errors import InputError
from mynah.runtime.engine import Array
from mynah.runtime.model import FrameClock
from mynah.runtime.result import Segment, Source, Word
from mynah.text import Tokenizer

# CTC marks a unit by a spike, so a word reaches beyond its frames: half-way to the next, and at
# most this far.
MARGIN = 0.08  # seconds


@dataclass(frozen=True)
class TokenSpan:
    """Encoder frames of a unit, ``first`` to one past the last, and its probability there."""

    first: int
    stop: int
    confidence: float | None  # None where nothing was aligned
    source: Source


def align_tokens(log_probs: Array, tokens: Sequence[int], blank: int = 0) -> list[TokenSpan]:
    """Where each unit was heard in ``log_probs`` (T, V).

    A unit's confidence is its mean probability over its frames. Where there are more units
    than frames, or one is impossible, they are spread evenly, and say so.
    """
    if not tokens:
        return []
    try:
        found = force_align(log_probs, tokens, blank)
    except InputError:
        return _spread(len(log_probs), len(tokens))
    return [
        TokenSpan(first, stop, confidence, "aligned")
        for first, stop, confidence in zip(found.starts, found.ends, found.confidences, strict=True)
    ]


def _spread(frames: int, count: int) -> list[TokenSpan]:
    edges = [frames * n // count for n in range(count + 1)]
    return [
        TokenSpan(first, stop, None, "interpolated") for first, stop in itertools.pairwise(edges)
    ]


def make_words(
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    spans: Sequence[TokenSpan],
    *,
    clock: FrameClock,
    start: float,
    end: float,
) -> tuple[Word, ...]:
    """Words of ``tokens``; ``start`` and ``end`` are the seconds that the frames were taken from.

    A word's confidence is the geometric mean of its units' probabilities.
    """
    pieces = [(text, spans[first:stop]) for text, first, stop in tokenizer.words(list(tokens))]
    pieces = [(text, group) for text, group in pieces if group]
    words = []
    for number, (text, group) in enumerate(pieces):
        first = start + clock.seconds(group[0].first)
        last = start + clock.seconds(group[-1].stop)
        before, after = start, end
        if number:
            before = start + clock.seconds((pieces[number - 1][1][-1].stop + group[0].first) / 2)
        if number + 1 < len(pieces):
            after = start + clock.seconds((pieces[number + 1][1][0].first + group[-1].stop) / 2)
        words.append(
            Word(
                text=text,
                start=min(max(first - MARGIN, before, start), end),
                end=max(min(last + MARGIN, after, end), start),
                confidence=mean_confidence(group),
                source=group[0].source,
            )
        )
    return tuple(words)


def mean_confidence(spans: Sequence[TokenSpan]) -> float | None:
    """The geometric mean of the units' confidences; ``None`` when one has none."""
    total = 0.0
    for span in spans:
        if span.confidence is None:
            return None
        total += math.log(max(span.confidence, 1e-30))
    return min(math.exp(total / len(spans)), 1.0)


def make_segment(
    tokenizer: Tokenizer,
    tokens: Sequence[int],
    log_probs: Array,
    *,
    clock: FrameClock,
    start: float,
    end: float,
    words: bool = True,
) -> Segment:
    """The segment that ``tokens`` make, heard in ``log_probs`` (T, V) from ``start`` to ``end``.

    Without ``words`` nothing is aligned, and the segment has those times and no confidence.
    """
    text = tokenizer.decode(list(tokens))
    if not words or not text:
        return Segment(text, start, end, None)
    spans = align_tokens(log_probs, tokens, tokenizer.blank)
    timed = make_words(tokenizer, tokens, spans, clock=clock, start=start, end=end)
    if not timed:
        return Segment(text, start, end, None)
    return Segment(text, timed[0].start, timed[-1].end, mean_confidence(spans), timed)
