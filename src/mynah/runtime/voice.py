"""What a voice activity detector says of the frames of the encoder.

A stretch of speech is closed only when it is over. A live session cannot wait for that: it begins
with a stretch that is still open, as soon as that is long enough not to be dropped. Of other frames
it waits until no stretch can begin at them any more. What is outside all stretches becomes blank,
so that noise says nothing, whatever the model makes of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np

from mynah.audio import Resampler
from mynah.audio.segments import Segmenter, SegmentOptions
from mynah.runtime.engine import Array

Span: TypeAlias = tuple[float, float]  # start and end, seconds

LATE = 0.3  # seconds that a model may take to mark a unit after it was said
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
        self._stream, self._frame = detector.stream(), detector.frame_seconds
        self._resampler = Resampler(rate, detector.rate) if rate != detector.rate else None
        self._options = options
        unlimited = dataclasses.replace(options, longest=math.inf)  # the session has its own limit
        self._segmenter = Segmenter(unlimited, self._frame)
        self._closed: list[Span] = []  # stretches, padded, that still matter
        self._open: float | None = None  # where a stretch that goes on began
        self._ended = False
        self._frames = 0
        self._spoken = 0  # frames of the open stretch that are speech

    @property
    def settled(self) -> float:
        """Seconds before which no stretch can begin any more."""
        if self._ended:
            return math.inf
        now = self._frames * self._frame if self._open is None else self._open
        return max(now - self._options.pad, 0.0)

    def feed(self, samples: Array, last: bool = False) -> None:
        """Take samples (S,)."""
        if self._resampler is not None:
            samples = self._resampler.feed(samples, last=last)
        for probability in self._stream.feed(samples, last=last).tolist():
            self._closed += self._segmenter.feed([probability])
            opened = self._segmenter.open_since
            self._spoken = self._spoken if opened == self._open else 0
            self._spoken += probability >= self._options.offset
            self._open = opened
            self._frames += 1
        if last:
            self._closed += self._segmenter.feed([], last=True)
            self._open = None
            self._ended = True

    def begins(self, after: float) -> float | None:
        """Where the first stretch begins that is not over at ``after`` seconds, or ``after`` where
        it began before; ``None`` while there is none. What is over is forgotten."""
        pad = self._options.pad
        self._closed = [span for span in self._closed if span[1] - pad > after]
        spans = self._spans()
        return max(spans[0][0], after) if spans else None

    def decided(self, first: float, count: int, step: float) -> Array:
        """Which of ``count`` moments from ``first`` seconds, ``step`` apart, are speech: bool, for
        as many of them as can be decided."""
        speech = within(self._spans(), first, count, step)
        open_ = ~speech & (first + np.arange(count) * step >= self.settled)
        return speech[: int(open_.argmax()) if open_.any() else count]

    def _spans(self) -> list[Span]:
        enough = self._spoken * self._frame >= self._options.min_speech - 1e-9
        if self._open is None or not enough:
            return self._closed
        return [*self._closed, (self._open - self._options.pad, math.inf)]


def within(spans: Sequence[Span], first: float, count: int, step: float) -> Array:
    """Which of ``count`` moments from ``first`` seconds, ``step`` apart, are within ``spans``, or
    so short a time behind that what was said may be marked there: bool (count,)."""
    moments = first + np.arange(count) * step
    found = np.zeros(count, bool)
    for start, end in spans:
        found |= (moments >= start) & (moments <= end + LATE)
    return found


def silenced(log_probs: Array, speech: Array, blank: int) -> Array:
    """Log-probabilities (T, V) in which what is not ``speech`` (T,) is surely blank."""
    if speech.all():
        return log_probs
    found = log_probs.copy()
    found[~speech] = _NEVER
    found[~speech, blank] = 0.0
    return found
