"""Samples, of any number at a time, to the features of aligned chunks."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from mynah.runtime.engine import Array
from mynah.runtime.longform import is_silent
from mynah.runtime.model import Model


class Chunker:
    """Cuts one stream into chunks that depend on the number of samples alone.

    The first chunk of a segment is longer than the others, by the frames that the subsampling sees
    beyond those it advances by; a segment begins with the frames that the last chunk of the one
    before it ended with, so that nothing between them is lost.

    Attributes:
        loud: whether the samples of the last chunk rise above silence.
    """

    def __init__(self, model: Model, chunk: int) -> None:
        engine = model.engine
        self._frontend, self._stream = model.frontend, model.frontend.stream()
        self._step = chunk * engine.subsampling
        self._extra = max(engine.overlap + 1 - engine.subsampling, 0)
        self._least = engine.overlap + 1, engine.subsampling  # frames that give one: first, later
        self._shift = max(round(model.frontend.frame_shift * model.rate), 1)
        self._samples = Pieces()
        self._feats = Pieces()
        self._tail = Pieces()  # the last frames given out
        self._taken = 0  # samples given to the front end
        self._made = 0  # frames that it gave
        self._first = True  # whether the next chunk begins a segment
        self._last = False  # whether all samples have come
        self._flushed = False  # and the front end knows
        self.loud = self._loud = False

    def push(self, samples: Array, last: bool) -> None:
        """Take samples (S,)."""
        self._samples.add(samples)
        self._last = last

    def restart(self) -> int:
        """The next chunk begins a segment; returns its first frame's number in the stream."""
        self._feats.add_front(self._tail.take(len(self._tail)))
        self._first = True
        return self._made - len(self._feats)

    def next_chunk(self) -> Array | None:
        """Features (T, F) of the next chunk or of what is left at the end; ``None`` when samples
        are missing, or nothing is left that gives an encoder frame."""
        wanted = self._step + (self._extra if self._first else 0)
        while len(self._feats) < wanted and not self._flushed:
            count = max(self._samples_for(self._made + wanted - len(self._feats)) - self._taken, 0)
            count = count or self._shift  # a front end that looks ahead takes more
            if self._last and len(self._samples) <= count:
                self._feed(len(self._samples))
            elif len(self._samples) >= count:
                self._feed(count)
            else:
                return None
        count = min(wanted, len(self._feats))
        if count < self._least[0 if self._first else 1]:
            return None
        chunk = self._feats.take(count)
        self._tail.add(chunk)
        self._tail.take(max(len(self._tail) - self._extra, 0))
        self._first = False
        self.loud, self._loud = self._loud, False
        return chunk

    def _feed(self, count: int) -> None:
        samples = self._samples.take(count)
        self._taken += count
        self._flushed = self._last and len(self._samples) == 0
        self._loud |= not is_silent(samples)
        feats = self._stream.feed(samples, last=self._flushed)
        self._made += len(feats)
        self._feats.add(feats)

    def _samples_for(self, frames: int) -> int:
        """The fewest samples that give ``frames`` frames."""
        most = (frames + 2) * self._shift + self._frontend.rate
        return bisect_left(range(most), frames, key=self._frontend.num_frames)


class Pieces:
    """Arrays joined along their first axis, taken off the front."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, array: Array) -> None:
        """Put ``array`` behind."""
        if len(array):
            self._arrays.append(array)
            self._length += len(array)

    def add_front(self, array: Array) -> None:
        """Put ``array`` before."""
        if len(array):
            self._arrays.insert(0, array)
            self._length += len(array)

    def take(self, count: int) -> Array:
        """The first ``count`` rows, which are then gone."""
        taken, missing = [], count
        while missing:
            array = self._arrays[0]
            if len(array) <= missing:
                taken.append(self._arrays.pop(0))
                missing -= len(array)
            else:
                taken.append(array[:missing])
                self._arrays[0] = array[missing:]
                missing = 0
        self._length -= count
        if not taken:
            return np.zeros(0, np.float32)
        return taken[0] if len(taken) == 1 else np.concatenate(taken)
