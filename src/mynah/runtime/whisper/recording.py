"""A recording as Whisper hears it: features of windows, made as the samples are read.

Memory does not grow with the recording: what was decoded is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from mynah.audio.features import Frontend, compress
from mynah.runtime.engine import Array

FRAMES = 100  # a second
WINDOW = 3000  # frames that the model hears at once
_MARGIN = 100  # frames behind what is heard, with a short context
_ROUND = 100  # frames that a short context is a multiple of
_HOP = 160  # samples of a frame


def short_context(size: int) -> int:
    """Frames that a window of ``size`` is encoded in where that is not to be the whole."""
    return min(math.ceil((size + _MARGIN) / _ROUND) * _ROUND, WINDOW)


class Listener(Protocol):
    """Something that hears the samples as they are read."""

    def feed(self, samples: Array, last: bool) -> None: ...


class Recording:
    """The features of a recording of blocks of samples at 16 kHz, read as they are asked for.

    A window is relative to its own loudest feature, as the windows were that the model learned
    from. With ``whole`` it is relative to the recording's loudest, as the original has it: that
    reads the recording to its end first.

    Attributes:
        frames: so many are known.
        ended: whether the recording was read to its end.
        samples: so many were read.
    """

    def __init__(
        self,
        frontend: Frontend,
        blocks: Iterator[Array],
        listener: Listener | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self._stream, self._blocks, self._listener = frontend.stream(), blocks, listener
        self._parts: list[Array] = []  # (T, F) each, before the clamp
        self._first = 0  # frame with which they begin
        self._whole, self._loudest = whole, -np.inf
        self._dim = frontend.dim
        self.frames, self.samples, self.ended = 0, 0, False

    def read(self) -> None:
        """Read the next block; at the end, nothing."""
        if self.ended:
            return
        block = next(self._blocks, None)
        if block is None:
            self.ended = True
            # what follows the end is silence
            feats = self._stream.feed(np.zeros(4 * _HOP, np.float32), last=True)
            feats = feats[: self.samples // _HOP - self.frames]
            block = np.zeros(0, np.float32)
        else:
            feats = self._stream.feed(block)
            self.samples += len(block)
        if self._listener is not None:
            self._listener.feed(block, self.ended)
        if len(feats):
            self._parts.append(feats)
            self.frames += len(feats)
            if self._whole:
                self._loudest = max(self._loudest, float(feats.max()))

    def reach(self, frame: int) -> None:
        """Read until ``frame`` frames are known, or the recording ends."""
        while not self.ended and (self._whole or self.frames < frame):
            self.read()

    def window(self, start: int, size: int, context: int = WINDOW) -> Array:
        """The features (F, context) of ``size`` frames from ``start`` on, and zeros behind."""
        self.reach(start + size)
        feats = self._between(start, start + size)
        if self._whole and len(feats):
            feats = np.maximum(feats, np.float32(self._loudest) - np.float32(8.0))
            feats = (feats + np.float32(4.0)) / np.float32(4.0)
        else:
            feats = compress(feats)
        found = np.zeros((self._dim, context), np.float32)
        found[:, : len(feats)] = feats.T
        return found

    def forget(self, frame: int) -> None:
        """Let go of what was before ``frame``."""
        while self._parts and self._first + len(self._parts[0]) <= frame:
            self._first += len(self._parts.pop(0))

    def _between(self, start: int, stop: int) -> Array:
        first, found = self._first, []
        for part in self._parts:
            if first + len(part) > start and first < stop:
                found.append(part[max(start - first, 0) : stop - first])
            first += len(part)
        return np.concatenate(found) if found else np.zeros((0, self._dim), np.float32)
