"""Samples, of any number at a time, to the features of aligned chunks."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from mynah.runtime.engine import Array
from mynah.runtime.longform import is_silent
from mynah.runtime.model import Model
from mynah.runtime.voice import AROUND, Voice


class Chunker:
    """Cuts one stream into chunks that depend on the number of samples alone.

    The first chunk of a segment is longer than the others, by the frames that the subsampling sees
    beyond those it advances by. A segment may end anywhere in what was given out: the next begins
    with the frames behind, given out again. With a ``voice``, a segment begins ``AROUND`` seconds
    before it speaks, where there are so many, and what comes before is given to no chunk.

    Attributes:
        start: the first frame of the segment, counted from the start of the stream.
        quiet: the frame up to which it is known that nobody speaks, while speech is waited for.
        loud: whether the samples of the last chunk rise above silence.
    """

    def __init__(self, model: Model, chunk: int, voice: Voice | None = None) -> None:
        engine = model.engine
        self._frontend, self._stream = model.frontend, model.frontend.stream()
        self._voice = voice
        self._subsampling = engine.subsampling
        self._step = chunk * engine.subsampling
        self._extra = max(engine.overlap + 1 - engine.subsampling, 0)
        self._least = engine.overlap + 1, engine.subsampling  # frames that give one: first, later
        self._shift = max(round(model.frontend.frame_shift * model.rate), 1)
        self._samples = Pieces()
        self._feats, self._louds = Pieces(), Pieces()  # to give out: (T, F), and whether loud (T,)
        self._given, self._given_louds = Pieces(), Pieces()  # given out in this segment
        self._taken = 0  # samples given to the front end
        self._made = 0  # frames that it gave
        self._waiting = voice is not None  # for speech, to begin a segment
        self._goal = self._step  # frames made until speech is looked for again
        self._last = False  # whether all samples have come
        self._flushed = False  # and the front end knows
        self.start = self.quiet = 0
        self.loud = self._loud = False

    def push(self, samples: Array, last: bool) -> None:
        """Take samples (S,)."""
        self._samples.add(samples)
        self._last = last

    def restart(self, frames: int) -> None:
        """The segment ends after ``frames`` of its encoder frames; the next chunk begins one."""
        used = frames * self._subsampling
        for given, waiting in ((self._given, self._feats), (self._given_louds, self._louds)):
            given.take(used)
            waiting.add_front(given.take(len(given)))
        self.start += used
        self.quiet = self.start
        self._waiting = self._voice is not None
        self._goal = self.start + self._step

    def given(self, frames: int) -> Array:
        """The features (T, F) that give the first ``frames`` encoder frames of the segment, of
        those that were given out."""
        return self._given.first(frames * self._subsampling + self._least[0] - self._subsampling)

    def next_chunk(self) -> Array | None:
        """Features (T, F) of the next chunk or of what is left at the end; ``None`` when samples
        are missing, or nothing is left that gives an encoder frame."""
        while self._waiting:
            if not self._fill(self._goal):
                return None
            self._waiting = not self._begin()
            if self._waiting and self._flushed:
                return None
            self._goal = self._made + self._step
        first = len(self._given) == 0
        wanted = self._step + (self._extra if first else 0)
        if not self._fill(self.start + len(self._given) + wanted):
            return None
        count = min(wanted, len(self._feats))
        if count < self._least[0 if first else 1]:
            return None
        chunk, louds = self._feats.take(count), self._louds.take(count)
        self._given.add(chunk)
        self._given_louds.add(louds)
        self.loud = bool(louds.any())
        return chunk

    def _fill(self, until: int) -> bool:
        """Make the stream's first ``until`` frames, or all; false when samples are missing."""
        while self._made < until and not self._flushed:
            count = max(self._samples_for(until) - self._taken, 0)
            count = count or self._shift  # a front end that looks ahead takes more
            if self._last and len(self._samples) <= count:
                self._feed(len(self._samples))
            elif len(self._samples) >= count:
                self._feed(count)
            else:
                return False
        return True

    def _begin(self) -> bool:
        """Begin the segment before speech, if there is any, and let go of what lies before."""
        assert self._voice is not None
        shift = self._frontend.frame_shift
        begins = self._voice.begins(self.start * shift)
        until = min(self._voice.settled if begins is None else begins, self._made * shift)
        count = min(max(int((until - AROUND) / shift + 1e-6) - self.start, 0), len(self._feats))
        self._feats.take(count)
        self._louds.take(count)
        self.start += count
        self.quiet = max(int(until / shift + 1e-6), self.start)
        return begins is not None

    def _feed(self, count: int) -> None:
        samples = self._samples.take(count)
        self._taken += count
        self._flushed = self._last and len(self._samples) == 0
        self._loud |= not is_silent(samples)
        if self._voice is not None:
            self._voice.feed(samples, last=self._flushed)
        feats = self._stream.feed(samples, last=self._flushed)
        self._made += len(feats)
        self._feats.add(feats)
        self._louds.add(np.full(len(feats), self._loud))
        if len(feats):
            self._loud = False

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

    def first(self, count: int) -> Array:
        """The first ``count`` rows, or all."""
        some = self._arrays or [np.zeros(0, np.float32)]
        return np.concatenate(some)[:count]

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
