"""From probabilities of speech, one a frame, to stretches of speech.

    segmenter = Segmenter(SegmentOptions(), frame_seconds=0.016)
    for probs in stream:
        closed = segmenter.feed(probs)            # [(start, end), ...] in seconds
    closed = segmenter.feed([], last=True)

A stretch begins where the probability reaches ``onset`` and ends where it stays below ``offset``
for ``min_silence`` (hysteresis). What is given out is never taken back, stretches do not overlap,
and any division of the frames into calls gives the same ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.errors import ConfigError, InputError

Span = tuple[float, float]  # start and end, seconds


@dataclass(frozen=True)
class SegmentOptions:
    """How probabilities become stretches. Times are seconds.

    Attributes:
        onset: probability at which speech begins.
        offset: probability below which it may end.
        min_speech: shorter stretches are dropped.
        min_silence: pauses below are part of the speech around them.
        pad: kept before and after a stretch (after it, at most ``min_silence``).
        longest: no stretch, padding included, is longer: one that would be is cut at its least
            probable frame within the last third of this. ``inf``: no limit.

    Raises:
        ConfigError: a value out of its range.
    """

    onset: float = 0.5
    offset: float = 0.35
    min_speech: float = 0.1
    min_silence: float = 0.3
    pad: float = 0.1
    longest: float = 30.0

    def __post_init__(self) -> None:
        if not 0.0 < self.onset <= 1.0:
            raise ConfigError(f"onset: {self.onset} is not a probability above 0")
        if not 0.0 <= self.offset <= self.onset:
            raise ConfigError(f"offset: {self.offset} is not from 0 to onset ({self.onset})")
        for name in ("min_speech", "min_silence", "pad"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{name}: {value} is not a number of 0 or more")
        least = max(1.0, 3 * (self.min_speech + self.min_silence + self.pad))
        if not self.longest >= least:
            raise ConfigError(f"longest: {self.longest} is below {least:g} s, what the other "
                              "options need")  # fmt: skip


class Segmenter:
    """The stretches of speech in frames that arrive in any number; belongs to one stream."""

    def __init__(self, options: SegmentOptions, frame_seconds: float) -> None:
        """``frame_seconds`` is the time from one frame to the next.

        Raises:
            ConfigError: it is not a time that the options could be counted in.
        """
        if not 0.0 < frame_seconds <= options.longest / 3:
            raise ConfigError(f"frame_seconds: {frame_seconds} is not above 0 and short")
        self.options, self.frame_seconds = options, frame_seconds
        self._min_speech = _frames(options.min_speech, frame_seconds)
        self._min_silence = max(_frames(options.min_silence, frame_seconds), 1)
        self._pad = _frames(options.pad, frame_seconds)
        self._tail = min(self._pad, self._min_silence)
        # one frame fewer where the length is no multiple of the frame: never longer
        self._longest = (
            None
            if math.isinf(options.longest)
            else max(int(options.longest / frame_seconds + 1e-9), 3)
        )
        self._begin()

    def _begin(self) -> None:
        self._seen = 0  # frames
        self._ended = 0  # where the last stretch that was given out ended
        self._start: int | None = None  # first frame of the open stretch
        self._quiet: int | None = None  # first frame below offset since speech was last heard
        self._cut = False  # whether the open stretch goes on after a cut
        self._recent: list[float] = []  # probabilities of the frames where a cut may come

    @property
    def open_since(self) -> float | None:
        """Where the stretch that is not yet closed begins (seconds, padding aside), if one is."""
        return None if self._start is None else self._start * self.frame_seconds

    @property
    def open_span(self) -> Span | None:
        """Of the stretch that is not yet closed: where it begins, padding included, and where it
        ends at the earliest, in seconds; ``None`` while it may still be dropped."""
        if self._start is None:
            return None
        end = self._seen if self._quiet is None else self._quiet
        if not self._cut and end - self._start < max(self._min_speech, 1):
            return None
        step = self.frame_seconds
        return self._padded_start() * step, (end + self._tail) * step

    @property
    def settled(self) -> float:
        """Seconds before which no stretch, padding included, can begin that is not open or was
        not given out; where the open one begins while it may still be dropped."""
        frame = self._seen - self._pad
        if self._start is not None and self.open_span is None:
            frame = self._padded_start()
        return max(frame, self._ended, 0) * self.frame_seconds

    def feed(self, probs: npt.ArrayLike, last: bool = False) -> list[Span]:
        """The stretches that the next probabilities (T,) close; ``last`` ends the stream, and the
        next call begins a new one.

        Raises:
            InputError: probabilities that are not one row of numbers.
        """
        values = np.asarray(probs, dtype=np.float64)
        if values.ndim != 1 or not np.isfinite(values).all():
            raise InputError(f"probabilities: {values.shape} is not one row of finite numbers")
        closed: list[tuple[int, int]] = []
        for value in values.tolist():
            self._step(value, closed)
        if last:
            if self._start is not None:
                end = self._seen if self._quiet is None else self._quiet
                self._close(end, min(end + self._tail, self._seen), closed)
            self._begin()
        return [(a * self.frame_seconds, b * self.frame_seconds) for a, b in closed]

    def _step(self, value: float, closed: list[tuple[int, int]]) -> None:
        frame = self._seen
        self._seen += 1
        if self._start is None:
            if value < self.options.onset:
                return
            self._start, self._quiet, self._recent = frame, None, []
        elif value >= self.options.offset:
            self._quiet = None
        elif self._quiet is None:
            self._quiet = frame
        if self._quiet is not None and self._seen - self._quiet >= self._min_silence:
            self._close(self._quiet, self._quiet + self._tail, closed)
        elif self._longest is not None:
            self._recent.append(value)
            room = max(self._longest // 3, 1)
            if len(self._recent) > 2 * room:
                del self._recent[:-room]
            if self._seen - self._padded_start() >= self._longest:
                self._divide(room, closed)

    def _padded_start(self) -> int:
        assert self._start is not None
        return self._start if self._cut else max(self._start - self._pad, self._ended)

    def _close(self, end: int, padded: int, closed: list[tuple[int, int]]) -> None:
        assert self._start is not None
        if self._cut or end - self._start >= max(self._min_speech, 1):
            closed.append((self._padded_start(), padded))
            self._ended = padded
        self._start, self._quiet, self._cut = None, None, False

    def _divide(self, room: int, closed: list[tuple[int, int]]) -> None:
        """Cut the open stretch, which has the greatest length, at its best pause."""
        assert self._start is not None
        recent = self._recent[: -room - 1 : -1]  # the newest first: of equal ones the last
        back = recent.index(min(recent))
        place = max(self._seen - 1 - back, self._start + 1)
        if self._quiet is not None and place >= self._quiet:
            self._close(self._quiet, min(self._quiet + self._tail, self._seen), closed)
            return
        closed.append((self._padded_start(), place))
        self._ended = self._start = place
        self._cut = True


def speech_segments(
    probs: npt.ArrayLike,
    frame_seconds: float,
    options: SegmentOptions | None = None,
    duration: float | None = None,
) -> list[Span]:
    """The stretches of speech (start, end) of a whole recording, none beyond ``duration``.

    Raises:
        ConfigError, InputError: as :class:`Segmenter`.
    """
    segmenter = Segmenter(options or SegmentOptions(), frame_seconds)
    spans = segmenter.feed(probs, last=True)
    if duration is None:
        return spans
    return [(start, min(end, duration)) for start, end in spans if start < duration]


def _frames(seconds: float, frame_seconds: float) -> int:
    """The fewest frames that last ``seconds``."""
    return math.ceil(seconds / frame_seconds - 1e-9)
