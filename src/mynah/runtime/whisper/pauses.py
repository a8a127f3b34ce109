"""Words beside pauses: their times by attention, and what a detector takes for speech.

What a decoder attends to tells a word from the next, but not where the pause between them is: it
takes that for a part of one of the two, most often of the second. Where voice activity was looked
for, the end of one word and the beginning of the next move to the edges of the pause that they are
nearest to.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from mynah.audio.segments import SegmentOptions, Span
from mynah.runtime.result import Segment

FAR = 0.5  # seconds; words that end farther from a pause have nothing to do with it
LEAST = 0.02  # seconds that a word keeps

Times = npt.NDArray[np.float64]


def between_pauses(
    segments: Sequence[Segment], speech: Sequence[Span], options: SegmentOptions
) -> list[Segment]:
    """``segments`` whose words, in order of time, begin and end beside pauses, and they with them.

    ``speech`` are the stretches that were found by ``options``. A word that lies in a pause as a
    whole stays where it is.
    """
    words = [word for segment in segments for word in segment.words]
    if not words or not speech:
        return list(segments)
    starts = np.array([word.start for word in words])
    ends = np.array([word.end for word in words])
    _move(starts, ends, list(_pauses(speech, options)))
    times = iter(zip(starts.tolist(), ends.tolist(), strict=True))
    result = []
    for segment in segments:
        own = [(word, *next(times)) for word in segment.words]
        if own:
            # a segment that began or ended with its words still does
            (first, start, _), (last, _, end) = own[0], own[-1]
            start = start if segment.start == first.start else segment.start
            end = end if segment.end == last.end else segment.end
            moved = tuple(dataclasses.replace(w, start=a, end=b) for w, a, b in own)
            segment = dataclasses.replace(segment, start=start, end=end, words=moved)
        result.append(segment)
    return result


def _pauses(speech: Sequence[Span], options: SegmentOptions) -> Iterator[Span]:
    """Where nobody speaks, before and behind all speech, too, and in what was kept around it; where
    a recording begins with speech, that may be nothing."""
    behind = min(options.pad, options.min_silence)
    before = -math.inf
    for start, end in speech:
        if start > 0:
            yield before, start + options.pad
        before = end - behind
    yield before, math.inf


def _move(starts: Times, ends: Times, pauses: Sequence[Span]) -> None:
    """Move the words (N,) beside pauses; border k lies between word k - 1 and word k."""
    lows = np.concatenate([starts[:1], np.minimum(ends[:-1], starts[1:]), ends[-1:]])
    highs = np.concatenate([starts[:1], np.maximum(ends[:-1], starts[1:]), ends[-1:]])
    behind = np.append(ends, math.inf)  # the end of the word behind a border
    taken = set()
    for first, last in pauses:
        distances = np.maximum(np.maximum(first - highs, lows - last), 0.0)
        distances[behind < last + LEAST] = math.inf
        border = int(distances.argmin())
        if distances[border] > FAR:
            continue
        if border > 0 and border not in taken and first >= starts[border - 1] + LEAST:
            ends[border - 1] = round(first, 2)
        if border < len(starts):
            before = ends[border - 1] if border > 0 else -math.inf
            starts[border] = max(round(last, 2), min(before, starts[border]))
        taken.add(border)
