"""Recordings to transcripts: one or many, short or long."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from mynah.audio.files import MAX_SECONDS, Channel
from mynah.config import as_dict, build
from mynah.decoding import DecodingOptions
from mynah.errors import ConfigError, ModelError, MynahError
from mynah.model_folder import ModelFolder, ModelInfo, find_model, read_model_folder
from mynah.runtime.batcher import Batcher
from mynah.runtime.engine import Array
from mynah.runtime.journal import Journal
from mynah.runtime.longform import JOIN, LONGEST, Window, speech_windows, windows
from mynah.runtime.model import Model, load_model
from mynah.runtime.offline import Cancelled, Job, Progress, Run, Stop, asked, total_seconds
from mynah.runtime.request import Plan, Request, plan, wanted_by
from mynah.runtime.result import Transcript
from mynah.runtime.session import Endpointing, Event, Session, make_session
from mynah.runtime.sound import Audio, seconds_of, sound_blocks
from mynah.runtime.voice import PART

if TYPE_CHECKING:
    from mynah.runtime.whisper.model import WhisperModel

__all__ = ["Cancelled", "Recognizer", "Request", "load"]

OnError = Literal["raise", "return"]


class Recognizer:
    """Speech to text by one model; may be used from several threads.

    Attributes:
        whisper: the model, where it is a Whisper; those hear whole windows, and neither stream nor
            align.
    """

    def __init__(self, model: Model | WhisperModel) -> None:
        self._model = model if isinstance(model, Model) else None
        self.whisper = None if isinstance(model, Model) else model

    @classmethod
    def load(
        cls,
        model: str | Path | ModelFolder | None = None,
        *,
        engine: str = "auto",
        precision: str = "auto",
        threads: int = 1,
        device: str = "auto",
    ) -> Recognizer:
        """Load a model folder, a known name, or, for ``None``, the bundled recogniser.

        ``engine`` is ``"onnx"``, ``"torch"`` or ``"auto"``; ``precision`` ``"int8"``, ``"fp32"`` or
        ``"auto"``; ``threads`` are those of one computation.

        Raises:
            ModelError: no such model, or a part of it is missing or altered.
            ConfigError: a wrong engine, precision, device or number of threads.
            MissingDependency: the engine needs a library that is not installed.
        """
        folder = model if isinstance(model, ModelFolder) else read_model_folder(find_model(model))
        if folder.info.family == "whisper":
            from mynah.runtime.whisper.model import load_whisper_model

            return cls(
                load_whisper_model(
                    folder, engine=engine, precision=precision, threads=threads, device=device
                )
            )
        return cls(
            load_model(folder, engine=engine, precision=precision, threads=threads, device=device)
        )

    @property
    def model(self) -> Model:
        """The engine, tokenizer and front end.

        Raises:
            ModelError: the model is a Whisper, which has no output that can be streamed or aligned.
        """
        if self._model is None:
            raise ModelError(
                f"{self.info.name}: a Whisper model hears whole windows; it can transcribe, "
                "but not stream or align"
            )
        return self._model

    @property
    def info(self) -> ModelInfo:
        """What the model's ``model.toml`` says."""
        return self.model.engine.info if self.whisper is None else self.whisper.info

    @property
    def engine_name(self) -> str:
        """What runs the model."""
        return self.model.engine.name if self.whisper is None else self.whisper.engine.name

    @property
    def sample_rate(self) -> int:
        """Samples a second that the model takes, in hertz."""
        return self.model.rate if self.whisper is None else self.whisper.frontend.rate

    def options(self, **changes: Any) -> DecodingOptions:
        """The model's own options of the search, with some of them changed: ``recogniser.options(
        blank_penalty=1.0)`` is what ``Request(options=...)`` takes.

        Raises:
            ConfigError: no such option, or a value out of its range.
            ModelError: a Whisper has none; its options are ``WhisperOptions``.
        """
        return build(DecodingOptions, {**as_dict(self.model.decoding_options()), **changes})

    def language(self, wanted: str | None = None) -> str | None:
        """The code of the language asked for, or the only one of the model.

        Raises:
            ConfigError: the model does not know ``wanted``.
        """
        model = self.model if self.whisper is None else self.whisper
        return model.language(wanted)

    @overload  # a string is a sequence of strings, but comes first
    def transcribe(  # type: ignore[overload-overlap]
        self,
        audio: Audio,
        request: Request | None = ...,
        *,
        method: str | None = ...,
        options: DecodingOptions | None = ...,
        words: bool | None = ...,
        language: str | None = ...,
        rate: int | None = ...,
        channel: Channel = ...,
        longest: float = ...,
        batch_seconds: float = ...,
        max_seconds: float = ...,
        partial: bool = ...,
        progress: Progress | None = ...,
        stop: Stop | None = ...,
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        audio: Sequence[Audio],
        request: Request | None = ...,
        *,
        method: str | None = ...,
        options: DecodingOptions | None = ...,
        words: bool | None = ...,
        language: str | None = ...,
        rate: int | None = ...,
        channel: Channel = ...,
        longest: float = ...,
        batch_seconds: float = ...,
        max_seconds: float = ...,
        partial: bool = ...,
        progress: Progress | None = ...,
        stop: Stop | None = ...,
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        audio: Audio | Sequence[Audio],
        request: Request | None = None,
        *,
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool | None = None,
        language: str | None = None,
        rate: int | None = None,
        channel: Channel = "mix",
        longest: float = LONGEST,
        batch_seconds: float = LONGEST,
        max_seconds: float = MAX_SECONDS,
        partial: bool = False,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> Transcript | list[Transcript]:
        """Transcribe a recording, or each of a list or tuple of them.

        A recording is a path, ``"-"`` (standard input), the bytes of a file, an open file, a
        ``Waveform``, or an array of samples (S,) or (channels, S) at ``rate`` hertz (the model's
        when not given). It is cut into windows of at most ``longest`` seconds where nobody speaks,
        or, without voice activity detection, where it is quiet; memory does not grow with it.

        ``request`` says how to hear it; ``method``, ``options``, ``words`` and ``language``
        replace what it says. ``channel`` is a number or ``"mix"``. At most ``batch_seconds`` of
        audio, padding included, are computed at once. A file of more than ``max_seconds`` is
        refused, and so is a damaged one, unless ``partial`` takes what can be decoded. ``progress``
        is called with the seconds of audio that are done and the seconds that there are (``None``
        where a header does not say). ``stop``, an event or a function, is asked between windows.
        What stands beside a recording does not change its text.

        Raises:
            InputError: a recording cannot be read; the line names it and says why.
            ConfigError: a wrong method, option or language.
            Cancelled: ``stop`` said so; it has what was heard until then.
        """
        many = isinstance(audio, (list, tuple))
        results = self.transcribe_all(
            audio if many else [audio],  # type: ignore[arg-type,list-item]
            request,
            method=method,
            options=options,
            words=words,
            language=language,
            rate=rate,
            channel=channel,
            longest=longest,
            batch_seconds=batch_seconds,
            max_seconds=max_seconds,
            partial=partial,
            progress=progress,
            stop=stop,
        )
        for result in results:
            if isinstance(result, MynahError):
                raise result
        transcripts = [result for result in results if isinstance(result, Transcript)]
        return transcripts if many else transcripts[0]

    def transcribe_all(
        self,
        audios: Sequence[Audio],
        request: Request | None = None,
        *,
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool | None = None,
        language: str | None = None,
        rate: int | None = None,
        channel: Channel = "mix",
        longest: float = LONGEST,
        batch_seconds: float = LONGEST,
        max_seconds: float = MAX_SECONDS,
        partial: bool = False,
        progress: Progress | None = None,
        stop: Stop | None = None,
        journals: Sequence[Journal | None] | None = None,
    ) -> list[Transcript | MynahError]:
        """As :meth:`transcribe` of a list, with the error in place of a transcript that failed.

        A recording's journal, where it has one, keeps what was decoded and is asked before
        anything is decoded. A Whisper model, which decodes ``batch_size`` windows of its options at
        once, has neither journals nor ``longest`` and ``batch_seconds``.

        Raises:
            ConfigError: a wrong method, option or language, or one that the model does not have.
            Cancelled: ``stop`` said so; it has what was heard until then.
        """
        if not (0 < longest < math.inf and 0 < batch_seconds < math.inf):
            raise ConfigError("longest, batch_seconds: no numbers of seconds above 0")
        wanted = wanted_by(request).changed(
            method=method, options=options, words=words, language=language
        )
        read = functools.partial(
            sound_blocks, rate=self.sample_rate, samples_rate=rate, channel=channel,
            max_seconds=max_seconds, partial=partial,
        )  # fmt: skip
        total = None
        if progress is not None:
            total = total_seconds(
                seconds_of(audio, self.sample_rate if rate is None else rate) for audio in audios
            )
        if self.whisper is not None:
            from mynah.runtime.whisper.plan import whisper_plan
            from mynah.runtime.whisper.recognize import transcribe_recordings

            _no_batches(longest, batch_seconds, journals)
            heard = whisper_plan(self.whisper, wanted)
            return transcribe_recordings(heard, audios, read, total, progress, stop)
        planned = plan(self.model, wanted)
        run = Run(planned, batch_seconds, progress, total, stop)
        jobs = [Job(journal) for journal in journals or [None] * len(audios)]
        try:
            for job, audio in zip(jobs, audios, strict=True):
                run.take(job, _windows(planned, job.count(read(audio)), longest))
            run.flush()
        except Cancelled:
            raise Cancelled(tuple(run.transcript(job) for job in jobs)) from None
        return [job.error or run.transcript(job) for job in jobs]

    def stream(
        self,
        request: Request | None = None,
        *,
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool | None = None,
        language: str | None = None,
        endpointing: Endpointing | None = None,
        rate: int | None = None,
        chunk: int | None = None,
        left: int | None = None,
        keep: bool = True,
    ) -> Session:
        """Start a live session for one stream of samples at ``rate`` hertz (the model's if None).

        ``request`` says how to hear it; the other names of its attributes replace what it says.
        ``chunk`` (encoder frames) and ``left`` (chunks of left context) replace the model's own.
        With ``keep`` the session keeps all segments for :meth:`Session.finish`; without, a stream
        of days takes no more memory than one of a minute.

        Raises:
            ModelError: the model cannot stream; the line says why.
            ConfigError: a wrong method, option, chunk or language.
        """
        wanted = wanted_by(request).changed(
            method=method, options=options, words=words, language=language, endpointing=endpointing
        )
        return make_session(plan(self.model, wanted), rate=rate, chunk=chunk, left=left, keep=keep)

    def transcribe_live(
        self,
        audio: Audio,
        request: Request | None = None,
        *,
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool | None = None,
        language: str | None = None,
        rate: int | None = None,
        channel: Channel = "mix",
        block: float = 0.1,
        max_seconds: float = MAX_SECONDS,
        partial: bool = False,
        on_event: Callable[[Event], None] | None = None,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> Transcript:
        """Transcribe a recording as a live stream, ``block`` seconds at a time, without waiting.

        Raises:
            InputError, ConfigError, ModelError, Cancelled: as :meth:`transcribe` and
                :meth:`stream`.
        """
        if not 0 < block < math.inf:
            raise ConfigError(f"block: {block} is no number of seconds above 0")
        session = self.stream(
            request, method=method, options=options, words=words, language=language
        )
        sound = sound_blocks(
            audio,
            self.sample_rate,
            samples_rate=rate,
            channel=channel,
            max_seconds=max_seconds,
            partial=partial,
        )
        known = progress is not None
        total = seconds_of(audio, self.sample_rate if rate is None else rate) if known else None
        tell = on_event or (lambda event: None)
        step = max(int(block * self.sample_rate), 1)
        done = 0
        for samples in sound:
            for first in range(0, len(samples), step):
                if asked(stop):
                    raise Cancelled((session.transcript(),))
                for event in session.feed(samples[first : first + step]):
                    tell(event)
            done += len(samples)
            if progress is not None:
                progress(done / self.sample_rate, total)
        for event in session.feed(np.zeros(0, np.float32), last=True):
            tell(event)
        return session.transcript()

    def batcher(self, max_rows: int = 32) -> Batcher:
        """Steps several sessions of this recogniser as one batch.

        What a segment says in the end is searched when it ends, session by session, within the call
        that ends it: where many end at once (the same sound in all, segments cut for their length)
        that call takes as long as all of them together, up to a second each.
        """
        return Batcher(self.model.engine, max_rows)


def load(
    model: str | Path | ModelFolder | None = None,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    device: str = "auto",
) -> Recognizer:
    """Load a recogniser; without a name the bundled one. See :meth:`Recognizer.load`."""
    return Recognizer.load(
        model, engine=engine, precision=precision, threads=threads, device=device
    )


def _no_batches(
    longest: float, batch_seconds: float, journals: Sequence[Journal | None] | None
) -> None:
    if longest != LONGEST or batch_seconds != LONGEST or any(journals or ()):
        raise ConfigError(
            "longest, batch_seconds, journals: not with a Whisper model, whose windows are "
            "chunk_length, batched and batch_size, and are not kept"
        )


def _windows(planned: Plan, blocks: Iterator[Array], longest: float) -> Iterator[Window]:
    """What there is to decode of a recording, a window at a time."""
    rate = planned.model.rate
    if planned.detector is None or planned.speech is None:
        return windows(blocks, rate, longest=longest)
    shift = max(round(planned.model.frontend.frame_shift * rate), 1)
    join = PART if planned.decoder.takes_sentences else JOIN
    if planned.endpointing is not None:  # what its rules would not cut stays together
        join = max(join, min(planned.endpointing.wait("1"), longest))
    return speech_windows(
        blocks, rate, planned.detector, planned.speech, longest=longest, join=join, grid=shift
    )
