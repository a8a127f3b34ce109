"""Words with times and confidences, from units aligned to the CTC log-probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mynah.decoding import Hypothesis, force_align
from mynah.errors import InputError
from mynah.runtime.confidence import Calibration, Evidence, Facts, mean_log, word_facts
from mynah.runtime.engine import Array
from mynah.runtime.model import FrameClock
from mynah.runtime.result import Segment, Source, Word, join_texts
from mynah.text import Tokenizer

Piece = tuple[str, int, int]  # a word: its text, index of its first unit and one past the last


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


def pieces_of(tokenizer: Tokenizer, hypothesis: Hypothesis) -> tuple[Piece, ...]:
    """The words of a hypothesis: those that its search knew, or those that its units spell."""
    return hypothesis.words or tuple(tokenizer.words(list(hypothesis.tokens)))


def text_of(tokenizer: Tokenizer, hypothesis: Hypothesis) -> str:
    """The text of a hypothesis: the words that its search knew, or what its units spell."""
    if hypothesis.words:
        return join_texts(text for text, _, _ in hypothesis.words)
    return tokenizer.decode(list(hypothesis.tokens))


def make_words(
    pieces: Sequence[Piece],
    spans: Sequence[TokenSpan],
    *,
    clock: FrameClock,
    start: float,
    end: float,
    calibration: Calibration | None = None,
    units: Sequence[str] = (),
    evidence: Sequence[Evidence] = (),
    spelled: Sequence[float] = (),
) -> tuple[Word, ...]:
    """Words of ``pieces``; ``start`` and ``end`` are the seconds that the frames were taken from.

    CTC marks a unit by a spike, so a word reaches beyond its frames: half-way to its neighbours,
    and at most as far as the clock says. Its confidence is what ``calibration`` makes of its units'
    probabilities and of the ``evidence`` for each of the pieces, or the geometric mean of the
    probabilities, times that of its letters where ``spelled`` says that it was spelled. With
    ``units``, the text of each unit, words whose units spell them have times for their characters.
    """
    sure = spelled or [1.0] * len(pieces)
    both = zip(pieces, sure, strict=True)
    kept = [(*piece, known) for piece, known in both if spans[piece[1] : piece[2]]]
    confidences = word_confidences(pieces, spans, calibration, evidence)
    words = []
    for number, (text, first, stop, known) in enumerate(kept):
        group = spans[first:stop]
        before, after = start, end
        if number:
            gap = spans[kept[number - 1][2] - 1].stop + group[0].first
            before = start + clock.spoken(gap / 2)
        if number + 1 < len(kept):
            gap = spans[kept[number + 1][1]].first + group[-1].stop
            after = start + clock.spoken(gap / 2)
        begins = start + clock.spoken(group[0].first) - clock.before
        ends = start + clock.spoken(group[-1].stop) + clock.after
        begins = min(max(begins, before, start), end)
        ends = max(min(ends, after, end), begins)
        chars: tuple[tuple[float, float], ...] = ()
        if units:
            edges = [start + clock.spoken((a.stop + b.first) / 2) for a, b in _pairs(group)]
            chars = char_times(text, units[first:stop], [begins, *edges, ends])
        confidence = confidences[number]
        if confidence is not None:
            confidence *= known
        words.append(Word(text, begins, ends, confidence, group[0].source, chars))
    return tuple(words)


def _pairs(spans: Sequence[TokenSpan]) -> list[tuple[TokenSpan, TokenSpan]]:
    return list(itertools.pairwise(spans))


def char_times(
    text: str, units: Sequence[str], edges: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """Start and end of each character of ``text``, which ``units`` spell between ``edges``.

    A unit of several characters is divided evenly. Empty where the units do not spell the text.
    """
    if "".join(units) != text:
        return ()
    times = []
    for unit, (first, last) in zip(units, itertools.pairwise(edges), strict=True):
        first, last = min(max(first, edges[0]), edges[-1]), min(max(last, edges[0]), edges[-1])
        cuts = [first + (last - first) * n / len(unit) for n in range(len(unit))] + [last]
        times += list(itertools.pairwise(cuts)) if unit else []
    return tuple(times)


def word_confidences(
    pieces: Sequence[Piece],
    spans: Sequence[TokenSpan],
    calibration: Calibration | None,
    evidence: Sequence[Evidence] = (),
) -> list[float | None]:
    """The probability that each word that has units is right; ``None`` when a unit has none."""
    if calibration is None:
        groups = (spans[first:stop] for _, first, stop in pieces)
        return [mean_confidence(group) for group in groups if group]
    facts = facts_of(pieces, spans, evidence)
    return [None if known is None else calibration(known) for known in facts]


def facts_of(
    pieces: Sequence[Piece], spans: Sequence[TokenSpan], evidence: Sequence[Evidence] = ()
) -> list[Facts | None]:
    """What is known of each word that has units; ``None`` when one has no probability."""
    known = evidence if len(evidence) == len(pieces) else [None] * len(pieces)
    groups = [(spans[a:b], more) for (_, a, b), more in zip(pieces, known, strict=True)]
    utterance = mean_log([span.confidence for group, _ in groups for span in group])
    found: list[Facts | None] = []
    for group, more in groups:
        probabilities = [span.confidence for span in group if span.confidence is not None]
        if group:
            frames = group[-1].stop - group[0].first
            whole = len(probabilities) == len(group)
            found.append(word_facts(probabilities, frames, utterance, more) if whole else None)
    return found


def mean_confidence(spans: Sequence[TokenSpan]) -> float | None:
    """The geometric mean of the units' confidences; ``None`` when one has none."""
    total = 0.0
    for span in spans:
        if span.confidence is None:
            return None
        total += math.log(max(span.confidence, 1e-30))
    return min(math.exp(total / len(spans)), 1.0)


def segment_confidence(
    words: Sequence[Word], spans: Sequence[TokenSpan], calibration: Calibration | None
) -> float | None:
    """The share of the words that should be right, or the geometric mean of all units."""
    if calibration is None:
        return mean_confidence(spans)
    known = [word.confidence for word in words if word.confidence is not None]
    return sum(known) / len(known) if len(known) == len(words) else None


def make_segment(
    tokenizer: Tokenizer,
    hypothesis: Hypothesis,
    log_probs: Array,
    *,
    clock: FrameClock,
    start: float,
    end: float,
    words: bool = True,
    calibration: Calibration | None = None,
    chars: bool = False,
) -> Segment:
    """The segment that ``hypothesis`` makes, heard in ``log_probs`` (T, V) from ``start`` to
    ``end``.

    Without ``words`` nothing is aligned, and the segment has those times and no confidence.
    ``chars`` asks for the times of characters too.
    """
    text, tokens = text_of(tokenizer, hypothesis), hypothesis.tokens
    if not words or not text:
        return Segment(text, start, end, None)
    spans = align_tokens(log_probs, tokens, tokenizer.blank)
    timed = make_words(
        pieces_of(tokenizer, hypothesis),
        spans,
        clock=clock,
        start=start,
        end=end,
        calibration=calibration,
        units=[tokenizer.decode([token]) for token in tokens] if chars else (),
        evidence=hypothesis.evidence,
        spelled=hypothesis.spelled,
    )
    if not timed:
        return Segment(text, start, end, None)
    confidence = segment_confidence(timed, spans, calibration)
    return Segment(text, timed[0].start, timed[-1].end, confidence, timed)
