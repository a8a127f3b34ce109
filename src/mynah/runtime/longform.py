"""Long recordings in windows that a model takes whole, cut where nobody speaks or it is quiet.

Windows are made from blocks as they are read, so memory does not grow with the recording.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mynah.audio import Resampler
from mynah.audio.segments import Segmenter, SegmentOptions
from mynah.errors import ConfigError
from mynah.runtime.engine import Array
from mynah.runtime.voice import AROUND, Detector, Span

LONGEST = 30.0  # seconds of a window
SEARCH = 8.0  # the last seconds of it, in which the cut is sought
JOIN = 1.5  # seconds; stretches of speech with a shorter pause between go into one window
QUIET = 0.3  # seconds over which loudness is taken
# A recording whose samples all stay below this (-80 dB) holds nothing to hear.
SILENCE = 1e-4


@dataclass(frozen=True)
class Window:
    """Consecutive samples (S,) of a recording, the first of them the recording's ``start``-th.

    ``speech`` are the stretches within that are speech, in seconds of the recording; ``None`` where
    that was not asked.
    """

    start: int
    samples: Array
    speech: tuple[Span, ...] | None = None

    @property
    def silent(self) -> bool:
        """Whether there is nothing to hear."""
        return is_silent(self.samples)


def is_silent(samples: Array) -> bool:
    """Whether no sample rises above -80 dB."""
    return len(samples) == 0 or max(float(samples.max()), -float(samples.min())) < SILENCE


def windows(
    blocks: Iterable[Array], rate: int, *, longest: float = LONGEST, search: float = SEARCH
) -> Iterator[Window]:
    """Cut ``blocks`` of samples into windows of at most ``longest`` seconds.

    A window ends at the quietest point of its last ``search`` seconds (of its second half at most),
    or with the recording; the windows together are the recording. How the blocks are cut changes
    nothing.
    """
    limit, start, held, pending = max(int(longest * rate), 1), 0, 0, []
    for block in blocks:
        pending.append(block)
        held += len(block)
        while held > limit:
            joined = np.concatenate(pending)
            first = max(limit - int(search * rate), limit // 2)
            cut = first + quietest(joined[first:limit], rate)
            yield Window(start, joined[:cut])
            start += cut
            pending = [joined[cut:].copy()]  # the window must not keep the rest alive
            held = len(pending[0])
    if held:
        yield Window(start, np.concatenate(pending))


def speech_windows(
    blocks: Iterable[Array],
    rate: int,
    detector: Detector,
    options: SegmentOptions,
    *,
    longest: float = LONGEST,
    join: float = JOIN,
    grid: int = 1,
) -> Iterator[Window]:
    """The stretches of speech that ``detector`` finds in ``blocks``, in windows.

    Stretches with pauses below ``join`` seconds between them share a window of at most ``longest``
    seconds, which begins at a multiple of ``grid`` samples and holds ``AROUND`` seconds more on
    both sides, where there is room for them; one that is longer is cut as :func:`windows` does.
    What lies between windows is not speech. How the blocks are cut changes nothing.
    """
    finder = SpeechFinder(rate, detector, options, longest - 2 * AROUND)
    most = longest - grid / rate
    wait = max(join, 2 * AROUND)  # after which no stretch that comes changes the window's end
    held: list[Array] = []
    first = 0  # sample with which ``held`` begins
    group: list[Span] = []  # stretches that are to share a window

    def window(until: float) -> Iterator[Window]:
        """The window of ``group``, which may reach half-way to the next stretch at ``until``."""
        nonlocal held, first
        samples = np.concatenate(held)
        begin, end = group[0][0], group[-1][1]
        more = min(AROUND, max(longest - (end - begin) - grid / rate, 0.0) / 2)
        end += min(more, (until - end) / 2)
        start = max(int(max((begin - more) * rate, 0.0) / grid + 1e-6) * grid - first, 0)
        stop = len(samples)
        if end * rate < first + stop:
            stop = int(end * rate / grid + 1e-6) * grid - first
        for part in windows([samples[start:stop].copy()], rate, longest=longest):
            yield Window(first + start + part.start, part.samples, tuple(group))
        held, first = [samples[stop:].copy()], first + stop

    for block, last in _with_last(blocks):
        held.append(block)
        for start, end in finder.feed(block, last):
            if group and (start - group[-1][1] >= join or end - group[0][0] > most):
                yield from window(start)
                group.clear()
            group.append((start, end))
        if group and (last or finder.settled - group[-1][1] >= wait):
            yield from window(max(finder.settled, group[-1][1] + wait))
            group.clear()
        keep = (group[0][0] if group else finder.settled) - AROUND
        while len(held) > 1 and first + len(held[0]) <= keep * rate:
            first += len(held.pop(0))


class SpeechFinder:
    """Stretches of speech in samples at ``rate`` hertz, of at most ``longest`` s where possible."""

    def __init__(
        self, rate: int, detector: Detector, options: SegmentOptions, longest: float = LONGEST
    ) -> None:
        # where it is too short for the other options, windows are cut again where it is quiet
        with contextlib.suppress(ConfigError):
            options = dataclasses.replace(options, longest=min(options.longest, longest))
        self._resampler = Resampler(rate, detector.rate) if rate != detector.rate else None
        self._stream = detector.stream()
        self._segmenter = Segmenter(options, detector.frame_seconds)
        self._ended = False

    @property
    def settled(self) -> float:
        """Seconds before which no stretch can begin that was not given out."""
        if self._ended:
            return math.inf
        open_ = self._segmenter.open_span
        return self._segmenter.settled if open_ is None else open_[0]

    def feed(self, samples: Array, last: bool) -> list[Span]:
        """The stretches (start, end), in seconds, that end with these samples."""
        if self._resampler is not None:
            samples = self._resampler.feed(samples, last=last)
        self._ended = last
        return self._segmenter.feed(self._stream.feed(samples, last=last), last=last)


def _with_last(blocks: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
    """Each block, and whether it is the last; an empty one if there is none."""
    before: Array | None = None
    for block in blocks:
        if before is not None:
            yield before, False
        before = block
    yield (np.zeros(0, np.float32) if before is None else before), True


def quietest(samples: Array, rate: int) -> int:
    """The sample in the middle of the quietest ``QUIET`` seconds; the latest where several are."""
    hop = max(rate // 100, 1)
    count = len(samples) // hop
    width = min(max(int(QUIET * rate) // hop, 1), max(count, 1))
    if count == 0:
        return len(samples)
    energy = np.square(samples[: count * hop], dtype=np.float32).reshape(count, hop).sum(axis=1)
    total = np.concatenate([[0.0], np.cumsum(energy, dtype=np.float64)])
    loudness = total[width:] - total[:-width]
    # differences of a running sum carry rounding: equal means equal within it
    found = np.flatnonzero(loudness <= loudness.min() + 1e-9 * total[-1])
    return int(found[-1] + width / 2) * hop
