"""Words beside a pause end and begin where the sound does.

CTC says in which frames a unit is heard, not how long it sounds. Where there is a pause between two
words, the loudness shows its edges to ten milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mynah.runtime.engine import Array
from mynah.runtime.result import Word

HOP = 0.01  # seconds of a value of loudness
REACH = 0.3  # seconds; a sound that lasts longer beyond the frames of a word is not of it
PAUSE = 8  # values that are quiet in a row
RISE = 6.0  # decibels above the pause: sound
DEPTH = 35.0  # decibels below the loudest of the words: quiet
CLEAR = 20.0  # decibels between words and pause, below which nothing is changed

Core = tuple[float, float]  # start and end, in seconds, of the frames of a word


class Loudness:
    """Decibels of a recording, a value for each ``HOP`` seconds, from blocks of samples."""

    def __init__(self, rate: int) -> None:
        self._size = max(round(rate * HOP), 1)
        self._rest = np.zeros(0, np.float32)
        self._values: list[Array] = []

    def add(self, samples: Array) -> None:
        """Take the next samples (S,)."""
        samples = np.concatenate([self._rest, samples])
        count = len(samples) // self._size
        frames = samples[: count * self._size].reshape(count, self._size)
        power = np.square(frames, dtype=np.float32).mean(axis=1)
        self._values.append(10 * np.log10(power + np.float32(1e-10)))
        self._rest = samples[count * self._size :]

    def values(self) -> Array:
        """All of them, (N,)."""
        return np.concatenate(self._values) if self._values else np.zeros(0, np.float32)


def refine(words: Sequence[Word], cores: Sequence[Core | None], loudness: Array) -> list[Word]:
    """The words, their edges beside pauses moved to where the sound ends and begins.

    ``cores`` are the frames of each word, ``None`` where it was not heard; words between which some
    were not heard stay as they are.
    """
    starts, ends = [word.start for word in words], [word.end for word in words]
    length = len(loudness) * HOP
    for number in range(len(words) + 1):
        left = cores[number - 1] if number else None
        right = cores[number] if number < len(words) else None
        inside = 0 < number < len(words)
        if (left is None and right is None) or (inside and (left is None or right is None)):
            continue
        first = max(right[0] - 1.0, 0.0) if left is None and right is not None else 0.0
        first = left[1] if left is not None else first
        last = right[0] if right is not None else min(first + 1.0, length)
        heard = [loudness[_at(core[0]) : _at(core[1]) + 1] for core in (left, right) if core]
        pause = _pause(loudness[_at(first) : _at(last)], np.concatenate(heard))
        if pause is None:
            continue
        begin, stop = (_at(first) + place for place in pause)
        if left is not None and begin * HOP - left[1] <= REACH:
            ends[number - 1] = max(begin * HOP, starts[number - 1])
        if right is not None and right[0] - stop * HOP <= REACH:
            starts[number] = min(stop * HOP, ends[number])
    return [_moved(*item) for item in zip(words, starts, ends, strict=True)]


def _at(seconds: float) -> int:
    return max(round(seconds / HOP), 0)


def _pause(between: Array, heard: Array) -> tuple[int, int] | None:
    """First and one past the last of the longest quiet stretch of ``between``, if it is clear."""
    if len(between) < PAUSE or not len(heard):
        return None
    peak, floor = float(heard.max()), float(np.quantile(between, 0.1))
    if peak - floor < CLEAR:
        return None
    quiet = between <= max(floor + RISE, peak - DEPTH)
    edges: npt.NDArray[np.intp] = np.flatnonzero(np.diff(np.concatenate([[0], quiet, [0]])))
    sizes = edges[1::2] - edges[::2]
    longest = int(sizes.argmax())
    if sizes[longest] < PAUSE:
        return None
    return int(edges[2 * longest]), int(edges[2 * longest + 1])


def _moved(word: Word, start: float, end: float) -> Word:
    """The word with other edges; the outermost characters move along."""
    if (start, end) == (word.start, word.end):
        return word
    moved = {word.end: end, word.start: start}
    chars = tuple(
        (min(max(moved.get(a, a), start), end), min(max(moved.get(b, b), start), end))
        for a, b in word.chars
    )
    return replace(word, start=start, end=end, chars=chars)
