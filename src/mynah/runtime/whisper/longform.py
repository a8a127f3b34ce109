"""Long recordings window by window: one after the other, or many stretches of speech at once.

A lane goes through a region of the recording as the original goes through a file: a window begins
where the last finished segment of the one before ended, so no word is cut or heard twice. One after
the other, there is one lane at a time, and what was said before is the prompt of the next window;
batched, many lanes are decoded together, each for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from mynah.errors import MynahError
from mynah.runtime.engine import Array
from mynah.runtime.whisper.engine import Heard
from mynah.runtime.whisper.language import (
    Probabilities,
    elected,
    is_sure,
    language_probabilities,
    most_probable,
)
from mynah.runtime.whisper.model import WhisperModel
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.prompts import Fixed, History
from mynah.runtime.whisper.recording import FRAMES, WINDOW, Recording, short_context
from mynah.runtime.whisper.regions import Region, Regions
from mynah.runtime.whisper.segments import Piece, Step, after_words, cut, without_empty
from mynah.runtime.whisper.window import Asked, Found, WindowDecoder

_OTHER = 100  # frames of speech behind a text, which may be in another language
_REST = 100  # frames behind what was heard that have no short context


@dataclass(frozen=True)
class Window:
    """A window that was decoded: where it is, in frames, and what was found in it."""

    seek: int
    size: int
    found: Found
    pieces: list[Piece]
    language: str
    last_speech: float  # seconds; where the last word before the window ended


class WordTimes(Protocol):
    """Finds the words of windows, each of which is a row of what was heard: the windows' pieces
    with their words, and with the times that follow from them."""

    def __call__(
        self, heard: Heard, rows: Sequence[int], windows: Sequence[Window]
    ) -> list[list[Piece]]: ...


@dataclass
class Lane:
    """The way through one region. What is found waits in ``done`` until its turn comes; what is
    left in the end is not heard where it has less than ``least`` frames."""

    region: Region
    seek: int
    least: int = 0
    language: str | None = None
    last_speech: float = 0.0
    first: bool = True
    done: list[Window] = field(default_factory=list)
    dropped: list[tuple[Window, tuple[Piece, ...]]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to decode, or too little to say anything in."""
        left = self.region.stop - self.seek
        return self.region.closed and (left <= 0 or (left < self.least and not self.first))


@dataclass(frozen=True)
class Job:
    """The next window of a lane of ``run``, of ``size`` frames."""

    run: LongForm
    lane: Lane
    size: int

    @property
    def context(self) -> int:
        """Frames that it is encoded in first: what is left at an end is no recording of its own."""
        is_rest = not self.lane.first and self.size < _REST
        return WINDOW if is_rest else self.run.context(self.size)


@dataclass(eq=False)
class LongForm:
    """The windows of one recording, by one model; :mod:`mynah.runtime.whisper.together` decodes
    them.

    Attributes:
        language: that asked for, or the only one; ``None``: it is detected.
        position: the frame before which everything was decoded.
        windows: that were decoded, in order of time, as far as none before them is missing.
        over: whether there is nothing left to decode, or nothing can be.
        error: why nothing can be.
        dropped: windows, and what was taken out of them as invented, which is all of it where the
            model says that nobody speaks.
    """

    model: WhisperModel
    options: WhisperOptions
    decoder: WindowDecoder
    fixed: Fixed
    recording: Recording
    regions: Regions
    language: str | None = None
    word_times: WordTimes | None = None
    position: int = 0
    windows: list[Window] = field(default_factory=list)
    over: bool = False
    error: MynahError | None = None
    dropped: list[tuple[Window, tuple[Piece, ...]]] = field(default_factory=list)
    _detected: str | None = None
    _lanes: list[Lane] = field(default_factory=list)
    _history: History = field(init=False)
    _last_speech: float = 0.0

    def __post_init__(self) -> None:
        self._history = History(self.fixed)

    @property
    def seconds(self) -> float:
        """How long the recording is, as far as it was read."""
        return self.recording.samples / self.model.rate

    @property
    def done(self) -> float:
        """Seconds of it that are done with."""
        return self.seconds if self.over else min(self.position / FRAMES, self.seconds)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """What fails within is the end of this recording, and of no other."""
        try:
            yield
        except MynahError as error:
            self.error, self.over = error, True

    @property
    def open(self) -> int:
        """Lanes that are not over."""
        return sum(not lane.over for lane in self._lanes)

    def jobs(self, most: int) -> list[Job]:
        """The next window of each lane, of at most ``most`` lanes where there are not more already;
        the recording is :attr:`over` where there is no lane left.

        Raises:
            InputError: the recording cannot be read.
        """
        self._fill(most if self.options.batched else min(most, 1))
        chunk, jobs = round(self.options.chunk_length * FRAMES), []
        for lane in self._lanes:
            self.regions.reach(lane.region, lane.seek + chunk, self.recording)
            size = min(chunk, lane.region.stop - lane.seek)
            if size > 0:
                jobs.append(Job(self, lane, size))
        if most > 0 and not self._lanes:
            while not self.recording.ended:  # what is behind the last clip is part of it
                self.recording.read()
                self.recording.forget(self.recording.frames)
            self.over = True
        return jobs

    def mels(self, job: Job, context: int) -> Array:
        """What the model hears of a window, (n_mels, context)."""
        return self.recording.window(job.lane.seek, job.size, context)

    def _fill(self, width: int) -> None:
        while self.open < width:
            seeks = (lane.seek for lane in self._lanes if not lane.over)
            region = self.regions.next(self.recording, min(seeks, default=math.inf))
            if region is None:
                return
            least, last = self.regions.least, self._last_speech
            self._lanes.append(Lane(region, region.start, least, last_speech=last))

    def settle(self) -> None:
        """Take the windows whose turn has come."""
        while self._lanes:
            lane = self._lanes[0]
            self.windows += lane.done
            self.dropped += lane.dropped
            lane.done, lane.dropped = [], []
            self.position = lane.region.stop if lane.over else lane.seek
            if not lane.over:
                break
            if not self.options.batched:
                self._last_speech = lane.last_speech
            self._lanes.pop(0)
        open_ = [lane.seek for lane in self._lanes if not lane.over]
        self.recording.forget(min([*open_, self.position]))

    def context(self, size: int) -> int:
        """Frames that a window of ``size`` is encoded in."""
        return short_context(size) if self.options.short_context else WINDOW

    def take(
        self, jobs: Sequence[Job], rows: Sequence[int], heard: Heard, results: Sequence[Found]
    ) -> None:
        """Go on after windows, which are ``rows`` of what was heard and gave ``results``.

        Raises:
            InputError: the recording cannot be read on.
        """
        spoken: list[tuple[int, Job, Window, int, bool]] = []
        for row, job, found in zip(rows, jobs, results, strict=True):
            lane, size = job.lane, job.size
            lane.first = False
            pieces, seek, nothing_after = cut(found, lane.seek, size, self.model.tokenizer)
            language = lane.language or ""
            window = Window(lane.seek, size, found, pieces, language, lane.last_speech)
            if self.decoder.is_silent(found):
                lane.dropped.append((window, tuple(pieces)))
                lane.seek += size
                continue
            if nothing_after and self.options.multilingual and pieces:
                said = round(pieces[-1].end * FRAMES)
                if self.regions.speech_within(said, lane.seek + size) >= _OTHER:
                    seek, nothing_after = said, False
            spoken.append((row, job, window, seek, nothing_after))
        windows = [window for _, _, window, _, _ in spoken]
        timed = [window.pieces for window in windows]
        if self.word_times is not None and spoken:
            timed = self.word_times(heard, [row for row, *_ in spoken], windows)
        for (_, job, window, seek, nothing_after), pieces in zip(spoken, timed, strict=True):
            step = self._stepped(window, pieces, seek, nothing_after)
            self._take(job.lane, window, step)

    def _stepped(self, window: Window, pieces: list[Piece], seek: int, nothing_after: bool) -> Step:
        if self.word_times is None:
            return Step(pieces, seek, window.last_speech)
        silence = self.options.hallucination_silence_threshold or 0.0
        self.recording.reach(window.seek + window.size + math.ceil(silence * FRAMES))
        return after_words(
            pieces,
            seek,
            window=(window.seek, window.size),
            content=self.recording.frames,
            nothing_after=nothing_after,
            last_speech=window.last_speech,
            options=self.options,
        )

    def _take(self, lane: Lane, window: Window, step: Step) -> None:
        """Go on after a window."""
        lane.last_speech = step.last_speech
        # a window from which nothing follows is over
        lane.seek = step.seek if step.seek > window.seek else window.seek + window.size
        pieces = without_empty(step.pieces)
        done = replace(window, pieces=pieces)
        lane.done.append(done)
        if step.dropped:
            lane.dropped.append((done, step.dropped))
            if not step.pieces:
                return
        if not self.options.batched:
            hot = window.found.tried > self.options.prompt_reset_on_temperature
            tokens = [token for piece in pieces for token in piece.tokens]
            self._history.add(tokens, forget=hot or not self.options.conditions)

    def asked(self, lane: Lane) -> Asked:
        """What is asked of the next window of a lane."""
        tokenizer, options = self.model.tokenizer, self.options
        given = self.fixed.prefix if lane.first and lane.region.number == 0 else ()
        prompt = self._history.prompt(len(given))
        return Asked(
            start=tokenizer.sot_sequence(
                lane.language, options.task, timestamps=not options.without_timestamps
            ),
            before=(tokenizer.special.sot_prev, *prompt) if prompt else (),
            given=given,
            seed=(options.seed, lane.seek),
        )

    def undetected(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of the next windows by which a language is to be detected."""
        if self.language is not None or not jobs:
            return []
        if self.options.multilingual:
            return list(jobs)
        if self._detected is not None:
            return []
        return [min(jobs, key=lambda job: job.lane.region.number)]

    def find_languages(
        self, jobs: Sequence[Job], found: Sequence[tuple[Lane, Probabilities]]
    ) -> None:
        """Say for the lane of each job which language its next window is in; ``found`` is what the
        windows gave that :meth:`undetected` asked for.

        Raises:
            InputError: the recording cannot be read on.
        """
        if self.options.multilingual and self.language is None:
            for lane, probabilities in sorted(found, key=lambda item: item[0].region.number):
                before = lane.language or self._detected
                sure = is_sure(probabilities, self.options.language_threshold)
                best = most_probable(probabilities)[0]
                lane.language = best if sure or before is None else before
                if lane.first or not self.options.batched:
                    self._detected = lane.language
            return
        for lane, probabilities in found:  # of one window, or none
            self._detected = self._decided(probabilities, lane.seek)
        for job in jobs:
            job.lane.language = self.language or self._detected

    def _decided(self, found: Probabilities, seek: int) -> str:
        """The language of the recording, looking at more windows while none is sure."""
        looked_at = [found]
        while not is_sure(looked_at[-1], self.options.language_threshold):
            start = seek + len(looked_at) * WINDOW
            if len(looked_at) >= self.options.language_segments:
                break
            self.recording.reach(start + WINDOW)
            size = min(WINDOW, self.recording.frames - start)
            if size <= 0:
                break
            heard = self.model.engine.encode(self.recording.window(start, size)[None])
            looked_at += language_probabilities(self.model, heard, [0], self.options.languages)
        sure = is_sure(looked_at[-1], self.options.language_threshold)
        return most_probable(looked_at[-1])[0] if sure else elected(looked_at)
