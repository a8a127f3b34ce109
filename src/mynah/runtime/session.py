"""Live recognition of one stream: samples in, of any number at a time; events out.

A session regroups the samples into chunks that depend only on how many samples there were, so the
events do not depend on how they came. A chunk goes through front end, engine (with the stream's
state) and search; after an endpoint, encoder and search start afresh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.audio import Resampler
from mynah.decoding import DecodingOptions, Hypothesis
from mynah.errors import ConfigError, InputError, ModelError
from mynah.runtime.batcher import Batcher, Row
from mynah.runtime.chunker import Chunker
from mynah.runtime.decode import Decoder, Heard
from mynah.runtime.engine import Array
from mynah.runtime.model import Model
from mynah.runtime.result import Segment, Transcript, Word, make_transcript
from mynah.runtime.sound import as_samples
from mynah.runtime.words import TokenSpan, make_segment, make_words, pieces_of, text_of

Reason = Literal["nothing", "after_speech", "longest"]


@dataclass(frozen=True)
class Endpointing:
    """When a segment ends, in seconds; ``inf`` switches a rule off.

    Attributes:
        nothing: so long without a unit since the segment began.
        after_speech: so long a silence after something was heard.
        longest: the segment is so long.
        blank: a frame is silence when its blank is at least this probable.

    Raises:
        ConfigError: a time that is not above 0, a probability outside 0..1.
    """

    nothing: float = 5.0
    after_speech: float = 1.0
    longest: float = 20.0
    blank: float = 0.8

    def __post_init__(self) -> None:
        for name in ("nothing", "after_speech", "longest"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"endpointing.{name}: {getattr(self, name)} is not above 0")
        if not 0 < self.blank < 1:
            raise ConfigError(f"endpointing.blank: {self.blank} is not between 0 and 1")

    def reason(self, *, spoken: bool, silence: float, length: float) -> Reason | None:
        """The rule that ends a segment of ``length`` seconds, ``silence`` of them at its end."""
        if not spoken and silence >= self.nothing:
            return "nothing"
        if spoken and silence >= self.after_speech:
            return "after_speech"
        return "longest" if length >= self.longest else None


@dataclass(frozen=True)
class Partial:
    """What the segment in progress says so far; it may still change."""

    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Final:
    """A segment that will not change any more."""

    segment: Segment

    @property
    def text(self) -> str:
        """Its text, never empty."""
        return self.segment.text

    @property
    def words(self) -> tuple[Word, ...]:
        """Its words."""
        return self.segment.words


@dataclass(frozen=True)
class Endpoint:
    """A segment ended at ``time`` seconds by the rule ``reason``; its Final, if any, came before.

    ``text`` and ``words`` are empty, as for all events that bring none.
    """

    time: float
    reason: Reason
    text: str = ""
    words: tuple[Word, ...] = ()


Event: TypeAlias = Partial | Final | Endpoint


@dataclass(frozen=True)
class Settings:
    """What a session was started with."""

    rate: int  # hertz, of the samples that are fed
    chunk: int  # encoder frames
    left: int  # chunks
    endpointing: Endpointing
    words: bool
    language: str | None


def make_session(
    model: Model,
    *,
    options: DecodingOptions,
    rate: int | None = None,
    chunk: int | None = None,
    left: int | None = None,
    endpointing: Endpointing | None = None,
    words: bool = True,
    language: str | None = None,
) -> Session:
    """A session of ``model``; see :meth:`mynah.Recognizer.stream`."""
    streaming = model.engine.info.streaming
    if not streaming.get("chunk"):
        reason = streaming.get("reason", "its model.toml gives no chunk to stream with")
        raise ModelError(f"{model.name} does not stream: {reason}")
    chunk = int(streaming["chunk"]) if chunk is None else chunk
    left = int(streaming.get("left", 4)) if left is None else left
    if chunk < 1:
        raise ConfigError(f"chunk: {chunk} is not a positive number of encoder frames")
    if left < 0:
        raise ConfigError(f"left: {left}; unlimited left context runs offline only")
    settings = Settings(
        rate=model.rate if rate is None else rate,
        chunk=chunk,
        left=left,
        endpointing=endpointing or Endpointing(),
        words=words,
        language=model.language(language),
    )
    return Session(model, Decoder(model, options), settings)


class Session:
    """One live stream. It belongs to one thread at a time; :meth:`Recognizer.stream` makes it."""

    def __init__(self, model: Model, decoder: Decoder, settings: Settings) -> None:
        self._model, self._decoder, self._settings = model, decoder, settings
        self._resampler = (
            Resampler(settings.rate, model.rate) if settings.rate != model.rate else None
        )
        self._chunker = Chunker(model, settings.chunk)
        self._search = decoder.search()
        self._segment = _OpenSegment(0, self._search.start())
        self._finals: list[Segment] = []
        self._fed = 0  # samples, at the rate of the caller
        self._closed = False
        self._own: Batcher | None = None
        self.row = Row(settings.chunk * settings.left)

    @property
    def rate(self) -> int:
        """Samples a second that :meth:`feed` expects."""
        return self._settings.rate

    @property
    def closed(self) -> bool:
        """Whether the stream has ended."""
        return self._closed

    def feed(self, samples: npt.ArrayLike, last: bool = False) -> list[Event]:
        """Take samples (S,) or (channels, S), float32 in [-1, 1], int16 or int32; any number.

        ``last`` ends the stream, and what it closes comes in the same list.

        Raises:
            InputError: the stream has ended, or the samples are not finite numbers.
        """
        if self._own is None:
            self._own = Batcher(self._model.engine)
        return self._own.feed_many([(self, samples)], last=last)[0]

    def finish(self) -> Transcript:
        """End the stream, if it has not, and return all that was heard."""
        if not self._closed:
            self.feed(np.zeros(0, np.float32), last=True)
        return self.transcript()

    def transcript(self) -> Transcript:
        """The final segments so far."""
        return make_transcript(
            self._finals,
            language=self._settings.language,
            duration=self._fed / self._settings.rate,
            model=self._model.name,
        )

    def push(self, samples: npt.ArrayLike, last: bool = False) -> None:
        """Take samples without computing; a :class:`Batcher` does that.

        Raises:
            InputError: as :meth:`feed`.
        """
        if self._closed:
            raise InputError("the session has ended; start another")
        array = as_samples(samples)
        self._fed += len(array)
        if self._resampler is not None:
            array = self._resampler.feed(array, last=last)
        self._chunker.push(array, last)
        self._closed = last

    def next_chunk(self) -> Array | None:
        """Features (T, F) of the next chunk, once; ``None`` when samples are missing."""
        return self._chunker.next_chunk()

    def absorb(self, log_probs: Array, encoded: Array) -> list[Event]:
        """Go on with what the engine gave for the last chunk: (T', V) and (T', D)."""
        segment, search = self._segment, self._search
        if self._chunker.loud:
            segment.loud = True
        segment.log_probs.append(log_probs)
        segment.encoded.append(encoded)
        segment.frames += len(log_probs)
        segment.search = search.advance(segment.search, log_probs)
        quiet = log_probs[:, self._model.tokenizer.blank] >= math.log(
            self._settings.endpointing.blank
        )
        heard = np.flatnonzero(~quiet)
        segment.silence = len(quiet) - 1 - int(heard[-1]) if len(heard) else (
            segment.silence + len(quiet)
        )  # fmt: skip
        best = search.nbest(segment.search, 1)[0]
        spoken = bool(best.tokens) and segment.loud
        step = self._model.clock.step
        reason = self._settings.endpointing.reason(
            spoken=spoken, silence=segment.silence * step, length=segment.frames * step
        )
        if reason is None:
            return self._partial(best) if spoken else []
        time = self._time(segment.frames)
        return [*self._end_segment(spoken), Endpoint(time, reason)]

    def close(self) -> list[Event]:
        """The events of a stream that has ended, once all its chunks were absorbed."""
        segment = self._segment
        return self._end_segment(segment.loud) if segment.frames else []

    def _time(self, frame: float) -> float:
        """Seconds of a frame of the segment in progress, within the stream."""
        shift = self._model.frontend.frame_shift
        return self._segment.start * shift + self._model.clock.seconds(frame)

    def _partial(self, best: Hypothesis) -> list[Event]:
        segment, tokenizer = self._segment, self._model.tokenizer
        if best.tokens == segment.tokens:
            return []
        segment.tokens = best.tokens
        text = text_of(tokenizer, best)
        if text == segment.shown:
            return []
        segment.shown = text
        if not self._settings.words:
            return [Partial(text, ())]
        confidences = best.token_confidences or (None,) * len(best.times)
        spans = [
            TokenSpan(time, time + 1, confidence, "aligned")
            for time, confidence in zip(best.times, confidences, strict=True)
        ]
        words = make_words(
            pieces_of(tokenizer, best),
            spans,
            clock=self._model.clock,
            start=segment.start * self._model.frontend.frame_shift,
            end=self._time(segment.frames),
            calibration=self._model.calibration,
        )
        return [Partial(text, words)]

    def _end_segment(self, spoken: bool) -> list[Event]:
        """Close the segment in progress and start another."""
        segment, events = self._segment, list[Event]()
        if spoken:
            heard = Heard(np.concatenate(segment.log_probs), np.concatenate(segment.encoded))
            nbest = self._search.nbest(segment.search)
            best = self._decoder.choose([heard], [nbest])[0]
            final = make_segment(
                self._model.tokenizer,
                best,
                heard.log_probs,
                clock=self._model.clock,
                start=segment.start * self._model.frontend.frame_shift,
                end=min(self._time(segment.frames), self._fed / self._settings.rate),
                words=self._settings.words,
                calibration=self._model.calibration,
            )
            if final.text:
                self._finals.append(final)
                events.append(Final(final))
        self._segment = _OpenSegment(self._chunker.restart(), self._search.start())
        self.row.fresh = True
        return events


@dataclass
class _OpenSegment:
    """The segment in progress."""

    start: int  # feature frame of the stream
    search: Any  # state of the search
    frames: int = 0  # encoder frames
    silence: int = 0  # of them, at the end, that are blank
    loud: bool = False  # whether there was anything to hear
    tokens: tuple[int, ...] = ()  # of the last partial
    shown: str = ""
    log_probs: list[Array] = field(default_factory=list)
    encoded: list[Array] = field(default_factory=list)
