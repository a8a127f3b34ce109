"""What a search returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One sequence of units that a search found.

    Attributes:
        tokens: unit ids, without blanks, ``<sos>`` and ``<eos>``.
        score: natural-log score; what it sums is said by the search that made it.
        times: the encoder frame of each token, empty when the search knows none.
        confidence: of the whole, in 0..1; None when the search has none.
        token_confidences: of each token, in 0..1; empty when the search has none.
        words: text, index of the first token and one past the last of each word, from a search
            that knows words; empty when the tokenizer is to join the units.
        added: the part of the score that scorers (language models, hotwords) added.
        evidence: what tells whether each of ``words`` is right, where that was asked for:
            :func:`mynah.runtime.confidence.find_evidence`.
        spelled: of each of ``words``, how probable its letters are given its units: 1 for a word
            of the lexicon; empty when the search had them all in its lexicon.
    """

    tokens: tuple[int, ...]
    score: float
    times: tuple[int, ...] = ()
    confidence: float | None = None
    token_confidences: tuple[float, ...] = ()
    words: tuple[tuple[str, int, int], ...] = ()
    added: float = 0.0
    evidence: tuple[tuple[float, float | None], ...] = ()
    spelled: tuple[float, ...] = ()


def token_spans(
    times: Sequence[int],
    *,
    frame_seconds: float,
    duration: float,
    longest: float = 1.0,
) -> list[tuple[float, float]]:
    """Start and end in seconds of each token, given the encoder frames where the tokens peak.

    A token reaches half-way to its neighbours, and at most ``longest / 2`` seconds to either side
    of its own frame; ``duration`` (seconds) closes the last one.
    """
    centres = [time * frame_seconds for time in times]
    half = longest / 2
    spans = []
    for i, centre in enumerate(centres):
        start, end = centre - half, centre + half
        start = max(start, (centres[i - 1] + centre) / 2 if i else 0.0)
        last = i == len(centres) - 1
        end = min(end, duration if last else (centre + centres[i + 1]) / 2)
        spans.append((start, end))
    return spans
