"""What of a recording is to be heard: clips, speech, or pieces that are cut where it is quiet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mynah.audio.segments import SegmentOptions
from mynah.runtime.engine import Array
from mynah.runtime.longform import SpeechFinder
from mynah.runtime.voice import Detector
from mynah.runtime.whisper.recording import FRAMES, Recording

JOIN = 2.0  # seconds; stretches of speech with a shorter pause between are heard together
LEAST = 10  # frames
PAD = 0.4  # seconds around speech, where they are free
_LONGEST = 600 * FRAMES  # frames of speech without a pause that are heard together
_SEARCH = 8 * FRAMES  # the last frames of a piece, in which the cut is sought
_QUIET = 30  # frames over which loudness is taken
_HOP = 160  # samples of a frame
# Regions of a recording before they get longer, and how much. What is begun and not ended at the
# end of a region is a window of its own, so the fewer the better; but the first are all there is of
# a short recording, and are heard side by side.
_FIRST, _LONGER = 8, 4

Stretch = tuple[int, int]  # frames
# the language of a stretch of a recording, or None where it is not to be told
Told = Callable[[Recording, Stretch], str | None]


def longest_of(number: int, longest: float) -> float:
    """Frames of the ``number``-th region at most, where those of the first are ``longest``."""
    return longest * (1 if number < _FIRST else _LONGER)


class Source(Protocol):
    """Finds stretches in samples, in order of time; ``settled`` is the frame before which no other
    can begin."""

    found: list[Stretch]
    settled: float

    def feed(self, samples: Array, last: bool) -> None: ...


class Everything:
    """All there is."""

    def __init__(self) -> None:
        self.found: list[Stretch] = []
        self.settled: float = 0
        self._samples = 0

    def feed(self, samples: Array, last: bool) -> None:
        """Take the next samples."""
        before, self._samples = self._samples // _HOP, self._samples + len(samples)
        after = self._samples // _HOP
        if after > before:
            self.found.append((before, after))
        self.settled = math.inf if last else after


class Pieces:
    """All there is, cut where it is quietest within the last seconds of the longest piece, which
    has ``longest`` frames, or later ones more, if they grow."""

    def __init__(self, longest: int, grows: bool = False) -> None:
        self.found: list[Stretch] = []
        self.settled: float = 0
        self._first, self._grows, self._count = longest, grows, 0
        self._rest = np.zeros(0, np.float32)
        self._loudness = np.zeros(0, np.float32)  # of frames from ``settled`` on

    def feed(self, samples: Array, last: bool) -> None:
        """Take the next samples."""
        samples = np.concatenate([self._rest, samples])
        count = len(samples) // _HOP
        self._rest = samples[count * _HOP :].copy()
        energy = np.square(samples[: count * _HOP]).reshape(count, _HOP).sum(axis=1)
        self._loudness = np.concatenate([self._loudness, energy])
        while len(self._loudness) > self._longest:
            self._cut(self._quietest())
        if last:
            if len(self._loudness):
                self._cut(len(self._loudness))
            self.settled = math.inf

    @property
    def _longest(self) -> int:
        return int(longest_of(self._count, self._first)) if self._grows else self._first

    def _cut(self, count: int) -> None:
        start = int(self.settled)
        self._count += 1
        self.found.append((start, start + count))
        self.settled, self._loudness = start + count, self._loudness[count:]

    def _quietest(self) -> int:
        """The middle of the quietest place; the latest where several are."""
        first = max(self._longest - _SEARCH, self._longest // 2)
        around = np.convolve(self._loudness[first : self._longest], np.ones(_QUIET), "valid")
        if len(around) == 0:
            return self._longest
        equal = np.flatnonzero(around <= around.min() * (1 + 1e-6))
        return first + int(equal[-1]) + _QUIET // 2


class Speech:
    """What a voice activity detector takes for speech."""

    def __init__(self, rate: int, detector: Detector, options: SegmentOptions) -> None:
        self.found: list[Stretch] = []
        self.settled: float = 0
        self._finder = SpeechFinder(rate, detector, options)
        self._end, self._stop = -1.0, 0  # of the last stretch, in seconds and in frames

    def feed(self, samples: Array, last: bool) -> None:
        """Take the next samples."""
        for start, end in self._finder.feed(samples, last):
            # one that was cut goes on where it was cut
            first = self._stop if start <= self._end else max(int(start * FRAMES), self._stop)
            self._end, self._stop = end, math.ceil(end * FRAMES)
            self.found.append((first, self._stop))
        self.settled = self._finder.settled * FRAMES


@dataclass
class Region:
    """Frames from ``start`` to ``stop`` that are heard together; ``stop`` may still grow until it
    is ``closed``. ``speech`` are the stretches in it; ``clip`` is where it must end; ``language``
    that of the first stretch that has one, where it is asked for."""

    number: int
    start: int
    stop: int
    clip: float
    speech: list[Stretch] = field(default_factory=list)
    closed: bool = False
    language: str | None = None

    @property
    def spoken(self) -> int:
        """Where the last stretch ends."""
        return self.speech[-1][1]


class Regions:
    """The regions of a recording, in order of time.

    Stretches with a pause below ``join`` frames between share a region of at most ``longest``
    frames, later ones of more where they grow (:func:`longest_of`); what is not divided by a pause
    at all stays together. ``clips`` are seconds of starts and ends; nothing else is heard, and no
    region goes beyond one. Where stretches are ``told`` their language, a region has one alone.

    Attributes:
        least: frames of the end of a region in which nothing new is heard, if they are all that is
            left of it: no word is so short.
        spoken: the stretches that the source found so far, in seconds.
    """

    def __init__(
        self,
        source: Source,
        clips: Sequence[float] = (),
        *,
        join: float = JOIN * FRAMES,
        longest: float = math.inf,
        pad: int = int(PAD * FRAMES),
        least: int = LEAST,
        grows: bool = False,
        told: Told | None = None,
    ) -> None:
        self.least, self._grows, self._told = least, grows, told
        points: list[float] = [round(seconds * FRAMES) for seconds in clips] or [0]
        points += [math.inf] * (len(points) % 2)
        self._clips = list(zip(points[::2], points[1::2], strict=True))
        self._source, self._join, self._longest, self._pad = source, join, longest, pad
        self._waiting: list[tuple[Stretch, tuple[float, float]]] = []
        self._last: Region | None = None
        self._count = 0
        self._known: tuple[Stretch, str | None] = (0, 0), None  # asked for last
        self.spoken: list[tuple[float, float]] = []

    def feed(self, samples: Array, last: bool) -> None:
        """Take the next samples, as they are read."""
        self._source.feed(samples, last)
        for start, stop in self._source.found:
            if self.spoken and self.spoken[-1][1] == start / FRAMES:
                self.spoken[-1] = (self.spoken[-1][0], stop / FRAMES)
            else:
                self.spoken.append((start / FRAMES, stop / FRAMES))
            for clip in self._clips:
                low, high = max(start, clip[0]), min(stop, clip[1])
                if low < high:
                    self._waiting.append(((int(low), int(high)), clip))
        self._source.found.clear()

    def speech_within(self, start: float, stop: float) -> float:
        """Frames from ``start`` to ``stop`` that a voice activity detector takes for speech; 0
        where none was asked."""
        if not isinstance(self._source, Speech):
            return 0.0
        spans = ((a * FRAMES, b * FRAMES) for a, b in reversed(self.spoken))
        after = itertools.takewhile(lambda span: span[1] > start, spans)
        return sum(max(min(stop, b) - max(start, a), 0.0) for a, b in after)

    def next(self, recording: Recording, keep: float = math.inf) -> Region | None:
        """The next region, once the one before it is closed; ``None`` at the end. Of what comes
        before it, only frames from ``keep`` on may still be asked for."""
        if self._last is not None:
            self.reach(self._last, math.inf, recording)
        while not self._waiting:
            if recording.ended or self._past():
                return None
            recording.read()
            first = self._waiting[0][0][0] if self._waiting else self._source.settled
            recording.forget(int(min(keep, first - self._pad, recording.frames)))
        (start, stop), clip = self._waiting.pop(0)
        before = 0 if self._last is None else self._last.stop
        first = max(start - self._pad, before, int(clip[0]))
        self._last = Region(self._count, first, stop, clip[1], [(start, stop)])
        self._count += 1
        self._last.language = self._language((start, stop), recording)
        return self._last

    def reach(self, region: Region, frame: float, recording: Recording) -> None:
        """Read until ``region`` goes to ``frame`` or is closed."""
        while not region.closed and region.stop < frame:
            if self._waiting:
                self._extend(region, recording)
            elif self._is_over(region) or recording.ended:
                self._close(region, region.spoken + self._pad, recording)
            else:
                recording.read()

    def _is_over(self, region: Region) -> bool:
        """Whether nothing that comes can belong to a region."""
        paused = self._source.settled - region.spoken >= self._join
        return paused or region.spoken >= region.clip

    def _past(self) -> bool:
        """Whether all clips are over."""
        return self._source.settled >= self._clips[-1][1]

    def _extend(self, region: Region, recording: Recording) -> None:
        (start, stop), clip = self._waiting[0]
        whole = start == region.spoken  # no pause between
        most = longest_of(region.number, self._longest) if self._grows else self._longest
        longest = max(most, _LONGEST) if whole else most
        fits = start - region.spoken < self._join and stop - region.start <= longest
        fits = fits and clip[1] == region.clip
        if fits and not whole:
            language = self._language((start, stop), recording)
            fits = region.language in (None, language) or language is None
            region.language = region.language or (language if fits else None)
        if not fits:
            self._close(region, min(region.spoken + self._pad, start), recording)
            return
        self._waiting.pop(0)
        region.speech.append((start, stop))
        region.stop = stop

    def _language(self, stretch: Stretch, recording: Recording) -> str | None:
        if self._told is None:
            return None
        if self._known[0] != stretch:
            self._known = stretch, self._told(recording, stretch)
        return self._known[1]

    def _close(self, region: Region, stop: float, recording: Recording) -> None:
        end = recording.samples // _HOP if recording.ended else math.inf
        region.stop = max(int(min(stop, region.clip, end)), region.spoken)
        region.closed = True
