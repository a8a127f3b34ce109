"""Many recordings, of any length, through the model: read in windows, decoded in batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from mynah.errors import MynahError
from mynah.runtime.decode import Heard, pad
from mynah.runtime.engine import Array
from mynah.runtime.journal import Journal
from mynah.runtime.longform import Window
from mynah.runtime.request import Plan
from mynah.runtime.result import Segment, Transcript, make_transcript
from mynah.runtime.voice import Span, silenced, within

# is told the seconds of audio that are done, and how many there are, None when that is not known
Progress: TypeAlias = Callable[[float, float | None], None]
Stop: TypeAlias = threading.Event | Callable[[], bool]


class Cancelled(MynahError):
    """The caller asked to stop.

    Attributes:
        transcripts: what was heard until then of each recording, in their order, up to the first
            part of it that was not; ``duration`` says how far that is.
    """

    def __init__(self, transcripts: tuple[Transcript, ...] = ()) -> None:
        super().__init__("cancelled")
        self.transcripts = transcripts


POOL = 300.0  # seconds of audio held at once, to be sorted by length


@dataclass
class Part:
    """A window of a recording: where it is, what is to be decoded, what came of it."""

    start: int  # samples
    stop: int
    speech: tuple[Span, ...] | None = None  # seconds; None: that was not asked
    feats: Array | None = None  # (T, F), until it is decoded
    segments: tuple[Segment, ...] | None = None


@dataclass
class Job:
    """One recording on its way."""

    journal: Journal | None = None
    samples: int = 0  # read so far
    parts: list[Part] = field(default_factory=list)  # in order of time
    error: MynahError | None = None

    def count(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """The blocks of the recording, counted as they pass."""
        for block in blocks:
            self.samples += len(block)
            yield block

    def segments(self) -> list[Segment]:
        """What was decoded, up to the first window that was not."""
        found: list[Segment] = []
        for part in self.parts:
            if part.segments is None:
                break
            found += part.segments
        return found

    def covered(self) -> int:
        """Samples up to the first window that was not decoded."""
        return next((part.start for part in self.parts if part.segments is None), self.samples)


@dataclass
class Run:
    """Decodes windows of several recordings in batches of like length.

    ``batch_seconds`` of audio, padding included, are computed at once; ``total`` are the seconds of
    all recordings, where they are known.
    """

    plan: Plan
    batch_seconds: float
    progress: Progress | None = None
    total: float | None = None
    stop: Stop | None = None
    pool: list[tuple[Job, Part]] = field(default_factory=list)
    pooled: int = 0  # samples
    passed: int = 0  # samples of recordings that were read to their end
    seen: int = 0  # samples of the recording that is being read

    def take(self, job: Job, found: Iterator[Window]) -> None:
        """Read a recording; what is left of it waits in the pool.

        Raises:
            Cancelled: ``stop`` says so.
        """
        rate = self.plan.model.rate
        try:
            for window in found:
                part = self._part(job, window)  # so that it is known what was not heard
                self._check()
                self.seen = part.stop
                if part.segments is None:
                    self.pool.append((job, part))
                    self.pooled += part.stop - part.start
                self._tell()
                if self.pooled >= POOL * rate:
                    self.flush()
                if job.error is not None:
                    break
        except Cancelled:
            raise
        except MynahError as error:
            job.error = error
        self.passed, self.seen = self.passed + job.samples, 0

    def flush(self) -> None:
        """Decode what waits.

        Raises:
            Cancelled: ``stop`` says so; what was decoded before is kept.
        """
        waiting = [(job, part) for job, part in self.pool if job.error is None]
        waiting.sort(key=lambda item: _frames(item[1]), reverse=True)
        self.pool, self.pooled = [], sum(part.stop - part.start for _, part in waiting)
        shift = self.plan.model.frontend.frame_shift
        frames = max(int(self.batch_seconds / shift), 1)
        first = 0
        while first < len(waiting):
            self._check()
            rows = max(frames // max(_frames(waiting[first][1]), 1), 1)
            batch = waiting[first : first + rows]
            self._decode_or_blame(batch)
            self.pooled -= sum(part.stop - part.start for _, part in batch)
            self._tell()
            first += rows

    def transcript(self, job: Job) -> Transcript:
        """What was decoded of a recording; as long as what was decoded where it was cut short."""
        model = self.plan.model
        transcript = make_transcript(
            job.segments(),
            language=self.plan.language,
            duration=job.covered() / model.rate,
            model=model.name,
        )
        readable = self.plan.readable
        return transcript if readable is None else readable.transcript(transcript)

    def _part(self, job: Job, window: Window) -> Part:
        model = self.plan.model
        part = Part(window.start, window.start + len(window.samples), window.speech)
        job.parts.append(part)
        if job.journal is not None:
            part.segments = job.journal.get(part.start, part.stop)
        if part.segments is None:
            feats = None if window.silent else model.frontend(window.samples)
            # too short for one encoder frame is as good as silent
            if feats is None or len(feats) <= model.engine.overlap:
                part.segments = ()
            else:
                part.feats = feats
        return part

    def _decode_or_blame(self, batch: list[tuple[Job, Part]]) -> None:
        """Decode a batch; where it fails, one by one, so that one spoils no other."""
        try:
            self._decode(batch)
        except MynahError as error:
            if len(batch) == 1:
                batch[0][0].error = batch[0][0].error or error
                return
            for item in batch:
                self._decode_or_blame([item])

    def _decode(self, batch: list[tuple[Job, Part]]) -> None:
        model = self.plan.model
        feats, feat_lens = pad([part.feats for _, part in batch if part.feats is not None])
        out = model.engine.encode(feats, feat_lens)
        pieces: list[tuple[Heard, float, float]] = []  # with start and end in seconds
        counts = []
        for (_, part), row, length in zip(batch, range(len(batch)), out.lens.tolist(), strict=True):
            log_probs, encoded = out.log_probs[row, :length], out.encoded[row, :length]
            speech = self._speech(part, length)
            log_probs = silenced(log_probs, speech, model.tokenizer.blank)
            spans = self.plan.split(log_probs)
            counts.append(len(spans))
            for first, stop in spans:
                start = part.start / model.rate + first * model.clock.step
                end = part.stop / model.rate
                if stop < length:
                    # where the next one begins
                    end = min(part.start / model.rate + stop * model.clock.step, end)
                kept = encoded[first:stop][speech[first:stop]]
                pieces.append((Heard(log_probs[first:stop], kept), start, end))
        best = self.plan.decoder.best([heard for heard, _, _ in pieces])
        segments = [
            self.plan.segment(hypothesis, heard, start=start, end=end)
            for hypothesis, (heard, start, end) in zip(best, pieces, strict=True)
        ]
        done = 0
        for (job, part), count in zip(batch, counts, strict=True):  # all or none of a batch
            part.segments, part.feats = tuple(segments[done : done + count]), None
            done += count
            _note(job, part)

    def _speech(self, part: Part, frames: int) -> Array:
        """Which of the frames of a window are speech, as far as that is known: bool (T,)."""
        if part.speech is None:
            return np.ones(frames, bool)
        model = self.plan.model
        first = part.start / model.rate + model.clock.seconds(0.5)
        return within(part.speech, first, frames, model.clock.step)

    def _check(self) -> None:
        if asked(self.stop):
            raise Cancelled

    def _tell(self) -> None:
        if self.progress is not None:
            done = self.passed + self.seen - self.pooled
            self.progress(max(done, 0) / self.plan.model.rate, self.total)


def _note(job: Job, part: Part) -> None:
    """Keep what was decoded in the journal; one that cannot be written ends its recording alone."""
    if job.journal is None or job.error is not None or part.segments is None:
        return
    try:
        job.journal.add(part.start, part.stop, part.segments)
    except MynahError as error:
        job.error = error


def asked(stop: Stop | None) -> bool:
    """Whether the caller asks to stop."""
    return stop is not None and (stop() if callable(stop) else stop.is_set())


def _frames(part: Part) -> int:
    return 0 if part.feats is None else len(part.feats)


def total_seconds(lengths: Iterable[float | None]) -> float | None:
    """The sum, where all are known."""
    known = list(lengths)
    return float(np.sum([x for x in known if x is not None])) if None not in known else None
