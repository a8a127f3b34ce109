"""Recordings to transcripts: one or many, short or long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, overload

import numpy as np

from mynah.audio.files import MAX_SECONDS, Channel
from mynah.decoding import DecodingOptions
from mynah.errors import ConfigError, MynahError
from mynah.model_folder import ModelFolder, ModelInfo
from mynah.runtime.batcher import Batcher
from mynah.runtime.decode import Decoder, Heard, pad
from mynah.runtime.longform import LONGEST, Window, windows
from mynah.runtime.model import Model, load_model
from mynah.runtime.result import Segment, Transcript, make_transcript
from mynah.runtime.session import Endpointing, Event, Session, make_session
from mynah.runtime.sound import Audio, sound_blocks
from mynah.runtime.words import make_segment

Progress = Callable[[float], None]  # is told the seconds of audio that are done since the last call
OnError = Literal["raise", "return"]

POOL = 300.0  # seconds of audio held at once, to be sorted by length


@dataclass
class _Job:
    """One recording on its way."""

    duration: float = 0.0
    segments: list[tuple[int, Segment]] = field(default_factory=list)
    error: MynahError | None = None


@dataclass(frozen=True)
class _Piece:
    """A window of a recording, waiting to be decoded."""

    job: _Job
    window: Window
    feats: np.ndarray  # (T, F)


class Recognizer:
    """Speech to text by one model; may be used from several threads.

    Attributes:
        model: the engine, tokenizer and front end.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

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
        return cls(
            load_model(model, engine=engine, precision=precision, threads=threads, device=device)
        )

    @property
    def info(self) -> ModelInfo:
        """What the model's ``model.toml`` says."""
        return self.model.engine.info

    @property
    def sample_rate(self) -> int:
        """Samples a second that the model takes, in hertz."""
        return self.model.rate

    @overload  # a string is a sequence of strings, but comes first
    def transcribe(  # type: ignore[overload-overlap]
        self,
        audio: Audio,
        *,
        rate: int | None = ...,
        channel: Channel = ...,
        method: str | None = ...,
        options: DecodingOptions | None = ...,
        words: bool = ...,
        language: str | None = ...,
        longest: float = ...,
        batch_seconds: float = ...,
        max_seconds: float = ...,
        partial: bool = ...,
        progress: Progress | None = ...,
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        audio: Sequence[Audio],
        *,
        rate: int | None = ...,
        channel: Channel = ...,
        method: str | None = ...,
        options: DecodingOptions | None = ...,
        words: bool = ...,
        language: str | None = ...,
        longest: float = ...,
        batch_seconds: float = ...,
        max_seconds: float = ...,
        partial: bool = ...,
        progress: Progress | None = ...,
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        audio: Audio | Sequence[Audio],
        *,
        rate: int | None = None,
        channel: Channel = "mix",
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool = True,
        language: str | None = None,
        longest: float = LONGEST,
        batch_seconds: float = LONGEST,
        max_seconds: float = MAX_SECONDS,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> Transcript | list[Transcript]:
        """Transcribe a recording, or each of a list or tuple of them.

        A recording is a path, ``"-"`` (standard input), the bytes of a file, an open file, a
        ``Waveform``, or an array of samples (S,) or (channels, S) at ``rate`` hertz (the model's
        when not given). One longer than ``longest`` seconds is cut where it is quiet.

        ``method`` (``greedy``, ``prefix_beam``, ``rescoring``, ``attention``) replaces that of
        ``options``, which replace the model's; ``words`` asks for words with times, which costs an
        alignment; ``channel`` is a number or ``"mix"``. At most ``batch_seconds`` of audio, padding
        included, are computed at once. A file of more than ``max_seconds`` is refused, and so is a
        damaged one, unless ``partial`` takes what can be decoded. ``progress`` is called with
        seconds of audio as they are done. What stands beside a recording does not change its text.

        Raises:
            InputError: a recording cannot be read; the line names it and says why.
            ConfigError: a wrong method, option or language.
        """
        many = isinstance(audio, (list, tuple))
        results = self.transcribe_all(
            audio if many else [audio],  # type: ignore[arg-type,list-item]
            rate=rate,
            channel=channel,
            method=method,
            options=options,
            words=words,
            language=language,
            longest=longest,
            batch_seconds=batch_seconds,
            max_seconds=max_seconds,
            partial=partial,
            progress=progress,
        )
        for result in results:
            if isinstance(result, MynahError):
                raise result
        transcripts = [result for result in results if isinstance(result, Transcript)]
        return transcripts if many else transcripts[0]

    def transcribe_all(
        self,
        audios: Sequence[Audio],
        *,
        rate: int | None = None,
        channel: Channel = "mix",
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool = True,
        language: str | None = None,
        longest: float = LONGEST,
        batch_seconds: float = LONGEST,
        max_seconds: float = MAX_SECONDS,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> list[Transcript | MynahError]:
        """As :meth:`transcribe` of a list, with the error in place of a transcript that failed.

        Raises:
            ConfigError: a wrong method, option or language.
        """
        if longest <= 0 or batch_seconds <= 0:
            raise ConfigError("longest, batch_seconds: not above 0")
        language = self.model.language(language)
        decoder = Decoder(self.model, self.model.decoding_options(options, method))
        run = _Run(decoder, words, batch_seconds, progress)
        jobs = [_Job() for _ in audios]
        for job, audio in zip(jobs, audios, strict=True):
            blocks = sound_blocks(
                audio,
                self.model.rate,
                samples_rate=rate,
                channel=channel,
                max_seconds=max_seconds,
                partial=partial,
            )
            run.take(job, windows(blocks, self.model.rate, longest=longest))
        run.flush()
        return [
            job.error
            or make_transcript(
                (segment for _, segment in sorted(job.segments, key=lambda item: item[0])),
                language=language,
                duration=job.duration,
                model=self.model.name,
            )
            for job in jobs
        ]

    def stream(
        self,
        *,
        rate: int | None = None,
        method: str | None = None,
        options: DecodingOptions | None = None,
        chunk: int | None = None,
        left: int | None = None,
        endpointing: Endpointing | None = None,
        words: bool = True,
        language: str | None = None,
    ) -> Session:
        """Start a live session for one stream of samples at ``rate`` hertz (the model's if None).

        ``chunk`` (encoder frames) and ``left`` (chunks of left context) replace the model's own.

        Raises:
            ModelError: the model cannot stream; the line says why.
            ConfigError: a wrong method, option, chunk or language.
        """
        return make_session(
            self.model,
            rate=rate,
            options=self.model.decoding_options(options, method),
            chunk=chunk,
            left=left,
            endpointing=endpointing,
            words=words,
            language=language,
        )

    def transcribe_live(
        self,
        audio: Audio,
        *,
        rate: int | None = None,
        channel: Channel = "mix",
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool = True,
        language: str | None = None,
        block: float = 0.1,
        max_seconds: float = MAX_SECONDS,
        partial: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> Transcript:
        """Transcribe a recording as a live stream, ``block`` seconds at a time, without waiting.

        Raises:
            InputError, ConfigError, ModelError: as :meth:`transcribe` and :meth:`stream`.
        """
        session = self.stream(method=method, options=options, words=words, language=language)
        step = max(int(block * self.sample_rate), 1)
        sound = sound_blocks(
            audio,
            self.sample_rate,
            samples_rate=rate,
            channel=channel,
            max_seconds=max_seconds,
            partial=partial,
        )
        for samples in sound:
            for first in range(0, len(samples), step):
                for event in session.feed(samples[first : first + step]):
                    if on_event is not None:
                        on_event(event)
        for event in session.feed(np.zeros(0, np.float32), last=True):
            if on_event is not None:
                on_event(event)
        return session.transcript()

    def batcher(self, max_rows: int = 32) -> Batcher:
        """Steps several sessions of this recogniser as one batch."""
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


@dataclass
class _Run:
    """Decodes windows of several recordings in batches of like length."""

    decoder: Decoder
    words: bool
    batch_seconds: float
    progress: Progress | None
    pool: list[_Piece] = field(default_factory=list)
    pooled: float = 0.0  # seconds

    def take(self, job: _Job, found: Iterator[Window]) -> None:
        """Read a recording; what is left of it waits in the pool."""
        for piece in self._pieces(job, found):
            self.pool.append(piece)
            self.pooled += len(piece.window.samples) / self.decoder.model.rate
            if self.pooled >= POOL:
                self.flush()
            if job.error is not None:
                break

    def _pieces(self, job: _Job, found: Iterator[Window]) -> Iterator[_Piece]:
        """What there is to decode of a recording; what cannot be read is its error."""
        model = self.decoder.model
        try:
            for window in found:
                seconds = len(window.samples) / model.rate
                job.duration += seconds
                feats = None if window.silent else model.frontend(window.samples)
                # too short for one encoder frame is as good as silent
                if feats is None or len(feats) <= model.engine.overlap:
                    self._done(seconds)
                    continue
                yield _Piece(job, window, feats)
        except MynahError as error:
            job.error = error

    def flush(self) -> None:
        """Decode what waits."""
        pieces = [piece for piece in self.pool if piece.job.error is None]
        pieces.sort(key=lambda piece: len(piece.feats), reverse=True)
        self.pool, self.pooled = [], 0.0
        frames = max(int(self.batch_seconds / self.decoder.model.frontend.frame_shift), 1)
        first = 0
        while first < len(pieces):
            rows = max(frames // max(len(pieces[first].feats), 1), 1)
            self._decode_or_blame(pieces[first : first + rows])
            first += rows

    def _decode_or_blame(self, pieces: list[_Piece]) -> None:
        """Decode a batch; where it fails, piece by piece, so that one spoils no other."""
        try:
            self._decode(pieces)
        except MynahError as error:
            if len(pieces) == 1:
                pieces[0].job.error = pieces[0].job.error or error
                return
            for piece in pieces:
                self._decode_or_blame([piece])

    def _decode(self, pieces: list[_Piece]) -> None:
        model = self.decoder.model
        feats, feat_lens = pad([piece.feats for piece in pieces])
        encoded = model.engine.encode(feats, feat_lens)
        heard = [
            Heard(encoded.log_probs[row, :length], encoded.encoded[row, :length])
            for row, length in enumerate(encoded.lens.tolist())
        ]
        best = self.decoder.best(heard)
        segments = []
        for piece, item, hypothesis in zip(pieces, heard, best, strict=True):
            start = piece.window.start / model.rate
            segment = make_segment(
                model.tokenizer,
                hypothesis,
                item.log_probs,
                clock=model.clock,
                start=start,
                end=start + len(piece.window.samples) / model.rate,
                words=self.words,
                calibration=model.calibration,
            )
            segments.append(segment)
        for piece, segment in zip(pieces, segments, strict=True):  # all or none of a batch
            piece.job.segments.append((piece.window.start, segment))
            self._done(len(piece.window.samples) / model.rate)

    def _done(self, seconds: float) -> None:
        if self.progress is not None:
            self.progress(seconds)
