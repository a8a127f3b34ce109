"""What a voice activity detector says of the frames of the encoder.

A stretch of speech is closed only when it is over. A live session cannot wait for that: it begins
with a stretch that is still open, as soon as that is long enough not to be dropped, and goes on to
where it ends at the earliest. Of other frames it waits until it is known whether a stretch covers
them. So a frame is speech live where it is speech offline, for any options and however the samples
come. What is outside all stretches becomes blank, and attention does not see it, so that noise says
nothing, whatever the model makes of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.audio import Resampler
from mynah.audio.segments import Segmenter, SegmentOptions
from mynah.runtime.engine import Array

Span: TypeAlias = tuple[float, float]  # start and end, seconds

LATE = 0.3  # seconds that a model may take to mark a unit after it was said
# Seconds of sound before and behind speech that the model is given, too: one that has only heard
# whole recordings does not know what to make of a word with which the sound begins.
AROUND = 0.5
PART = 0.4  # seconds; a longer pause may lie between sentences
_TIE = 1e-6  # seconds, in which the sums of two ways to a moment may differ
_NEVER = -100.0  # log-probability of what cannot be


class DetectorStream(Protocol):
    """Probabilities of speech of one stream."""

    def feed(self, samples: Array, last: bool = False) -> Array: ...


class Detector(Protocol):
    """A voice activity detector; :func:`mynah.runtime.vad.load_vad` loads the bundled one."""

    @property
    def rate(self) -> int: ...
    @property
    def frame_seconds(self) -> float: ...
    def stream(self) -> DetectorStream: ...


class Voice:
    """Follows one stream at ``rate`` hertz."""

    def __init__(self, detector: Detector, options: SegmentOptions, rate: int) -> None:
        self._stream = detector.stream()
        self._resampler = Resampler(rate, detector.rate) if rate != detector.rate else None
        self._options = options
        unlimited = dataclasses.replace(options, longest=math.inf)  # the session has its own limit
        self._segmenter = Segmenter(unlimited, detector.frame_seconds)
        self._closed: list[Span] = []  # stretches, padded, that still matter
        self._ended = False

    @property
    def settled(self) -> float:
        """Seconds before which no stretch can begin that is not known."""
        return math.inf if self._ended else self._segmenter.settled

    def feed(self, samples: Array, last: bool = False) -> None:
        """Take samples (S,)."""
        if self._resampler is not None:
            samples = self._resampler.feed(samples, last=last)
        self._closed += self._segmenter.feed(self._stream.feed(samples, last=last), last=last)
        self._ended = last

    def begins(self, after: float) -> float | None:
        """Where the first stretch begins that is not over at ``after`` seconds, or ``after`` where
        it began before; ``None`` while there is none. What is over is forgotten."""
        self._closed = [span for span in self._closed if span[1] + LATE > after]
        pad = self._options.pad
        starts = [start for start, end in self._spans() if end - pad > after]
        return max(starts[0], after) if starts else None

    def decided(self, first: float, count: int, step: float) -> Array:
        """Which of ``count`` moments from ``first`` seconds, ``step`` apart, are speech: bool, for
        as many of them as can be decided."""
        speech = within(self._spans(), first, count, step)
        known = self.settled
        if not self._ended and self._segmenter.open_span is not None:
            known = self._segmenter.open_span[0]  # behind it, what is not speech yet may become it
        open_ = ~speech & (first + np.arange(count) * step >= known - _TIE)
        return speech[: int(open_.argmax()) if open_.any() else count]

    def _spans(self) -> list[Span]:
        open_ = self._segmenter.open_span
        return self._closed if open_ is None else [*self._closed, open_]


def within(spans: Sequence[Span], first: float, count: int, step: float) -> Array:
    """Which of ``count`` moments from ``first`` seconds, ``step`` apart, are within ``spans``, or
    so short a time behind that what was said may be marked there: bool (count,)."""
    moments = first + np.arange(count) * step
    found = np.zeros(count, bool)
    for start, end in spans:
        found |= (moments >= start - _TIE) & (moments <= end + LATE + _TIE)
    return found


def sentences(speech: npt.NDArray[np.bool_], step: float) -> list[tuple[int, int]]:
    """Frames parted in the middles of their pauses of ``PART`` seconds and more: first of each
    part, one past its last. ``speech`` (T,) are those of :func:`within`, ``step`` seconds apart."""
    edges = np.flatnonzero(np.diff(speech.astype(np.int8), prepend=0, append=0))
    gaps = zip(edges[1:-1:2].tolist(), edges[2::2].tolist(), strict=True)
    longer = [(a + b) // 2 for a, b in gaps if (b - a) * step + LATE >= PART - _TIE]
    return list(itertools.pairwise([0, *longer, len(speech)]))


def silenced(log_probs: Array, speech: Array, blank: int) -> Array:
    """Log-probabilities (T, V) in which what is not ``speech`` (T,) is surely blank; what comes of
    attention does not see those frames at all (:class:`mynah.runtime.decode.Heard`)."""
    if speech.all():
        return log_probs
    found = log_probs.copy()
    found[~speech] = _NEVER
    found[~speech, blank] = 0.0
    return found
