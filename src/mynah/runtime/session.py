"""Live recognition of one stream: samples in, of any number at a time; events out.

A session regroups the samples into chunks that depend only on how many samples there were, so the
events do not depend on how they came. A chunk goes through front end, engine (with the stream's
state) and search. A segment ends at the frame where a rule of :mod:`mynah.runtime.endpoint` says
so; encoder and search start afresh there, and what had been computed beyond it is computed again,
so that a segment is what a stream that began with it would give. With a second look, what a segment
says in the end is found from its features as a whole, as offline. With voice activity detection a
segment begins with speech, and nothing is computed before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.audio import Resampler
from mynah.decoding import Hypothesis
from mynah.errors import ConfigError, InputError, ModelError
from mynah.runtime.batcher import Batcher, Row
from mynah.runtime.chunker import Chunker
from mynah.runtime.decode import Heard
from mynah.runtime.endpoint import Cut, Endpointer, Endpointing, Reason
from mynah.runtime.engine import Array
from mynah.runtime.model import Model
from mynah.runtime.request import Plan
from mynah.runtime.result import Segment, Transcript, Word, join_texts, make_transcript
from mynah.runtime.sound import as_samples
from mynah.runtime.voice import sentences, silenced
from mynah.runtime.words import TokenSpan, make_words, pieces_of, text_of

__all__ = ["Endpoint", "Endpointing", "Event", "Final", "Partial", "Session", "make_session"]

LONGEST_LEFT = 15_000  # encoder frames
LONGEST_CHUNK = 1500  # encoder frames, a minute of most models; memory grows with them
BEFORE = 4  # segments that what makes a text readable is told of


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


def make_session(
    plan: Plan,
    *,
    rate: int | None = None,
    chunk: int | None = None,
    left: int | None = None,
    keep: bool = True,
) -> Session:
    """A session of a model; see :meth:`mynah.Recognizer.stream`."""
    model = plan.model
    streaming = model.engine.info.streaming
    if not streaming.get("chunk"):
        reason = streaming.get("reason", "its model.toml gives no chunk to stream with")
        raise ModelError(f"{model.name} does not stream: {reason}")
    chunk = _whole(model, "chunk", 0) if chunk is None else chunk
    left = _whole(model, "left", 4) if left is None else left
    if not 1 <= chunk <= LONGEST_CHUNK:
        raise ConfigError(f"chunk: {chunk} encoder frames are not in 1..{LONGEST_CHUNK}")
    if left < 0:
        raise ConfigError(f"left: {left}; unlimited left context runs offline only")
    if chunk * left > LONGEST_LEFT:
        raise ConfigError(f"left: {left} chunks of {chunk}: more than {LONGEST_LEFT} frames")
    return Session(plan, model.rate if rate is None else rate, chunk, left, keep)


def _whole(model: Model, key: str, default: int) -> int:
    value = model.engine.info.streaming.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelError(f"{model.name}: streaming.{key}: {value!r} is no whole number")
    return value


class Session:
    """One live stream. It belongs to one thread at a time; :meth:`Recognizer.stream` makes it.

    It hears what ``plan`` says, in samples at ``rate`` hertz, ``chunk`` encoder frames at a time
    with ``left`` chunks of left context, and ``keep``s what it heard or not.
    """

    def __init__(self, plan: Plan, rate: int, chunk: int, left: int, keep: bool = True) -> None:
        self._plan, self._model, self._rate = plan, plan.model, rate
        self._rules = plan.endpointing or Endpointing()
        self._resampler = Resampler(rate, self._model.rate) if rate != self._model.rate else None
        self._voice = plan.voice()
        self._chunker = Chunker(self._model, chunk, self._voice)
        self._search = plan.decoder.search()
        # what is final is searched for again, so what is shown meanwhile need not cost as much
        self._first = plan.decoder.quick_search() if plan.second_look else self._search
        self._segment = self._open()
        self._quiet_since = 0  # feature frame from which speech is waited for
        self._waited: list[Event] = []  # what happened meanwhile
        self._finals: list[Segment] = []
        self._keep = keep
        self._fed = 0  # samples, at the rate of the caller
        self._closed = False
        self._own: Batcher | None = None
        self.row = Row(chunk * left)

    @property
    def rate(self) -> int:
        """Samples a second that :meth:`feed` expects."""
        return self._rate

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
        """The final segments so far; the last few where they are not kept."""
        return make_transcript(
            self._finals,
            language=self._plan.language,
            duration=self._fed / self._rate,
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
        chunk = self._chunker.next_chunk()
        while chunk is None and self._closed and self._segment.held:  # all is decided now
            self._waited += self._advance()
            chunk = self._chunker.next_chunk()
        shift, nothing = self._model.frontend.frame_shift, self._rules.nothing
        while not self._segment.encoded and (
            (self._chunker.quiet - self._quiet_since) * shift >= nothing - 1e-9
        ):
            self._quiet_since += max(round(nothing / shift), 1)
            self._waited.append(Endpoint(self._quiet_since * shift, "nothing"))
        return chunk

    def absorb(self, log_probs: Array, encoded: Array) -> list[Event]:
        """Go on with what the engine gave for the last chunk: (T', V) and (T', D)."""
        segment = self._segment
        segment.loud = segment.loud or self._chunker.loud
        segment.held.append(log_probs)
        segment.encoded.append(encoded)
        return self.waited() + self._advance()

    def _advance(self) -> list[Event]:
        """Go on with the frames of which it is known whether they are speech."""
        segment, rules = self._segment, self._segment.rules
        held = np.concatenate(segment.held)
        if self._voice is not None:
            first, step = self._time(segment.frames + 0.5), self._model.clock.step
            speech = self._voice.decided(first, len(held), step)
            segment.held = [held[len(speech) :]] if len(speech) < len(held) else []
            held = held[: len(speech)]
            held = silenced(held, speech, self._model.tokenizer.blank)
            if speech.any():
                segment.spoken = segment.frames + int(speech.nonzero()[0][-1]) + 1
        else:
            speech = np.ones(len(held), bool)
            segment.held, segment.spoken = [], segment.frames + len(held)
        segment.speech.append(speech)
        segment.log_probs.append(held)
        segment.frames += len(held)
        rules.heard = segment.loud
        cut = rules.feed(held)
        if cut is not None:
            time = self._time(cut.frames)
            return [*self._end_segment(cut), Endpoint(time, cut.reason)]
        best = rules.partial()
        return self._partial(best) if best.tokens and segment.loud else []

    def waited(self) -> list[Event]:
        """What happened while no chunk was computed."""
        events, self._waited = self._waited, []
        return events

    def close(self) -> list[Event]:
        """The events of a stream that has ended, once all its chunks were absorbed."""
        return self._end_segment(None) if self._segment.encoded else []

    def _open(self) -> _OpenSegment:
        step = self._model.clock.step
        return _OpenSegment(Endpointer(self._rules, self._first, self._model.tokenizer, step))

    def _time(self, frame: float) -> float:
        """Seconds of a frame of the segment in progress, within the stream."""
        return self._start() + self._model.clock.seconds(frame)

    def _start(self) -> float:
        return self._chunker.start * self._model.frontend.frame_shift

    def _partial(self, best: Hypothesis) -> list[Event]:
        segment, tokenizer = self._segment, self._model.tokenizer
        if best.tokens == segment.tokens:
            return []
        segment.tokens = best.tokens
        text = text_of(tokenizer, best)
        if text == segment.shown:
            return []
        segment.shown = text
        readable = self._plan.readable
        if not self._plan.words:
            return [Partial(text if readable is None else readable.partial(text, ())[0], ())]
        confidences = best.token_confidences or (None,) * len(best.times)
        spans = [
            TokenSpan(time, time + 1, confidence, "aligned")
            for time, confidence in zip(best.times, confidences, strict=True)
        ]
        words = make_words(
            pieces_of(tokenizer, best),
            spans,
            clock=self._model.clock,
            start=self._start(),
            end=self._time(segment.frames),
            calibration=self._model.calibration,
            spelled=best.spelled,
        )
        if readable is not None:
            text, words = readable.partial(text, words)
        return [Partial(text, words)]

    def _end_segment(self, cut: Cut | None) -> list[Event]:
        """Close the segment in progress, at ``cut`` or with the stream, and start another."""
        segment = self._segment
        frames = segment.frames if cut is None else cut.frames
        said = segment.loud and (cut is None or bool(segment.rules.best().tokens))
        finals = self._said(cut, frames) if said else []
        self._segment = self._open()
        self._chunker.restart(frames)
        self._quiet_since = self._chunker.start
        self.row.fresh = True
        events: list[Event] = []
        for final in finals:
            if not final.text:
                continue
            if self._plan.readable is not None:
                before = join_texts(said.text for said in self._finals[-BEFORE:])
                final = self._plan.readable(final, before)
            self._finals.append(final)
            events.append(Final(final))
        if not self._keep:
            del self._finals[:-BEFORE]
        return events

    def _said(self, cut: Cut | None, frames: int) -> list[Segment]:
        """What the first ``frames`` of the segment in progress say, up to ``cut`` or the end."""
        segment, rules = self._segment, self._segment.rules
        kept = min(frames, segment.spoken)  # noise behind the speech says nothing
        speech = np.concatenate(segment.speech)[:kept]
        decoder, parts = self._plan.decoder, [(0, kept)]
        if self._plan.second_look:
            if decoder.takes_sentences:
                parts = sentences(speech, self._model.clock.step)
            outs = [self._whole(first, stop, frames, speech) for first, stop in parts]
        else:
            outs = [(np.concatenate(segment.log_probs), np.concatenate(segment.encoded)[:kept])]
        heard = [
            Heard(log_probs[:kept], encoded[speech[first:stop]])
            for (log_probs, encoded), (first, stop) in zip(outs, parts, strict=True)
        ]
        if rules.frames == frames and not self._plan.second_look:
            best = decoder.choose(heard, [self._search.nbest(rules.state)])
        else:
            best = decoder.best(heard)
        start, step = self._start(), self._model.clock.step
        end = self._time(frames)
        if cut is not None:  # where the next segment begins
            end = start + frames * step
        end = min(end, self._fed / self._rate)
        return [
            self._plan.segment(
                hypothesis,
                one,
                start=start + first * step,
                end=end if stop == kept else min(start + stop * step, end),
            )
            for hypothesis, one, (first, stop) in zip(best, heard, parts, strict=True)
        ]

    def _whole(
        self, first: int, stop: int, frames: int, speech: npt.NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """Frames ``first`` to ``stop`` of the segment's ``frames``, encoded all at once: (T', V)
        and (T', D)."""
        engine, until = self._model.engine, frames if stop == len(speech) else stop
        feats = self._chunker.given(until)[first * engine.subsampling :]
        out = engine.encode(feats[None], np.array([len(feats)]))
        log_probs, encoded = out.log_probs[0, : stop - first], out.encoded[0, : stop - first]
        return silenced(log_probs, speech[first:stop], self._model.tokenizer.blank), encoded


@dataclass
class _OpenSegment:
    """The segment in progress."""

    rules: Endpointer
    frames: int = 0  # encoder frames that the rules were given
    spoken: int = 0  # of them, up to the last that is speech
    loud: bool = False  # whether there was anything to hear
    tokens: tuple[int, ...] = ()  # of the last partial
    shown: str = ""
    log_probs: list[Array] = field(default_factory=list)  # of these frames
    speech: list[Array] = field(default_factory=list)  # which of them are speech
    held: list[Array] = field(default_factory=list)  # of those behind, which may yet be speech
    encoded: list[Array] = field(default_factory=list)
