"""A recording to a transcript, by a Whisper model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mynah.audio.segments import SegmentOptions
from mynah.errors import ConfigError, MynahError
from mynah.runtime.engine import Array
from mynah.runtime.offline import Cancelled, Progress, Stop, asked
from mynah.runtime.result import Decoded, Segment, Suspicion, Transcript, Word, make_transcript
from mynah.runtime.voice import Detector
from mynah.runtime.whisper.engine import Heard
from mynah.runtime.whisper.guards import guarded
from mynah.runtime.whisper.language import stretch_language
from mynah.runtime.whisper.longform import LongForm, Window, WordTimes
from mynah.runtime.whisper.model import WhisperModel
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.pauses import between_pauses
from mynah.runtime.whisper.prompts import Fixed, fixed_prompts
from mynah.runtime.whisper.recording import FRAMES, WINDOW, Recording
from mynah.runtime.whisper.regions import JOIN, Everything, Pieces, Regions, Speech
from mynah.runtime.whisper.segments import Piece
from mynah.runtime.whisper.together import Together
from mynah.runtime.whisper.window import WindowDecoder


class Planned(Protocol):
    """What is asked of a model: ``language`` is a code, or ``None`` where it is detected; only what
    ``detector`` takes for ``speech`` is heard, where there is one."""

    @property
    def options(self) -> WhisperOptions: ...
    @property
    def language(self) -> str | None: ...
    @property
    def detector(self) -> Detector | None: ...
    @property
    def speech(self) -> SegmentOptions | None: ...


@dataclass(frozen=True)
class Prepared:
    """Options made ready for a model: those of them that it has other names for are changed."""

    options: WhisperOptions
    decoder: WindowDecoder
    fixed: Fixed


def prepare(model: WhisperModel, options: WhisperOptions, language: str | None) -> Prepared:
    """Make ``options`` ready for ``model``; ``language`` is one of the model's, or ``None``.

    Raises:
        ConfigError: what this model cannot do.
    """
    found = model.language(language)
    codes = tuple(dict.fromkeys(code for one in options.languages if (code := model.language(one))))
    options = options.replace(languages=codes)
    for name in ("languages", "multilingual"):
        if getattr(options, name) and language is not None:
            raise ConfigError(f"{name}: {language!r} is asked for, so none is detected")
    tokenizer, dims = model.tokenizer, model.config.dims
    # a task that an English-only model does not have is refused
    tokenizer.sot_sequence(found or model.languages[0], options.task)
    if options.max_new_tokens is not None and options.max_new_tokens > dims.n_text_ctx:
        raise ConfigError(f"max_new_tokens: {options.max_new_tokens}, at most {dims.n_text_ctx}")
    if dims.n_audio_ctx * 2 != WINDOW:
        raise ConfigError(f"{model.name}: hears {dims.n_audio_ctx / 50:g} s at once, not 30")
    if options.word_timestamps == "attention" and not model.config.alignment_heads:
        raise ConfigError(f"word_timestamps: {model.name} has no alignment heads")
    first = model.config.begin_suppress_tokens or (*tokenizer.encode(" "), tokenizer.eos)
    decoder = WindowDecoder(model.engine, tokenizer, options, first)
    return Prepared(options, decoder, fixed_prompts(options, tokenizer, dims))


def transcribe(
    model: WhisperModel,
    planned: Planned,
    blocks: Iterator[Array],
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    total: float | None = None,
) -> Transcript:
    """Transcribe one recording of blocks of samples (S,) at 16 kHz, which is read as it goes.

    ``progress`` is called with the seconds of audio that are done and ``total``; ``stop`` is asked
    between windows.

    Raises:
        ConfigError: what this model cannot do.
        InputError: the recording cannot be read.
        Cancelled: ``stop`` said so; it has what was heard until then.
    """
    (found,) = transcribe_together(
        model, planned, iter([blocks]), progress=progress, stop=stop, total=total
    )
    if isinstance(found, MynahError):
        raise found
    return found


def transcribe_together(
    model: WhisperModel,
    planned: Planned,
    recordings: Iterator[Iterator[Array]],
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    total: float | None = None,
    finish: Callable[[int, Transcript], Transcript] = lambda _, transcript: transcript,
) -> list[Transcript | MynahError]:
    """The transcript of each recording, or the error in its place; ``batch_size`` windows of all of
    them are decoded at once, whose texts are those that they would have alone.

    ``finish`` makes of a recording's number and transcript what is given back, as soon as it is
    over. The other arguments are those of :func:`transcribe`.

    Raises:
        ConfigError: what this model cannot do.
        Cancelled: ``stop`` said so; it has what was heard until then of those that were begun.
    """
    runs: list[LongForm] = []
    open_: dict[int, int] = {}  # numbers of those that go on, by identity
    results: dict[int, Transcript | MynahError] = {}

    def begun() -> Iterator[LongForm]:
        for blocks in recordings:
            runs.append(make_run(model, planned, blocks))
            open_[id(runs[-1])] = len(runs) - 1
            yield runs[-1]

    def heard(number: int) -> Transcript:
        """Of one that was not heard to its end."""
        before = results.get(number)
        if isinstance(before, Transcript):
            return before
        run = runs[number]
        part = _transcript(model, run, run.position / FRAMES, planned)
        return part if before is not None else _tried(finish, number, part)

    together, closed, told = Together(begun(), planned.options.batch_size), 0.0, 0.0
    over: list[LongForm] | None = []
    while over is not None:
        if asked(stop):
            raise Cancelled(tuple(map(heard, range(len(runs)))))
        over = together.step()
        for run in over or ():
            number, closed = open_.pop(id(run)), closed + run.done
            try:
                if run.error is not None:
                    raise run.error
                results[number] = finish(number, _transcript(model, run, run.seconds, planned))
            except MynahError as error:
                results[number] = error
        done = closed + sum(runs[number].done for number in open_.values())
        if progress is not None and done != told:
            progress(done, total)
        told = done
    return [results[number] for number in range(len(runs))]


def _tried(
    finish: Callable[[int, Transcript], Transcript], number: int, part: Transcript
) -> Transcript:
    """A part of a recording, finished where that can be done."""
    try:
        return finish(number, part)
    except MynahError:
        return part


def make_run(model: WhisperModel, planned: Planned, blocks: Iterator[Array]) -> LongForm:
    """The windows of a recording of ``blocks``.

    Raises:
        ConfigError: what this model cannot do.
    """
    ready = prepare(model, planned.options, planned.language)
    regions = _regions(model, planned, ready.options)
    whole = ready.options.loudness == "recording"
    return LongForm(
        model,
        ready.options,
        ready.decoder,
        ready.fixed,
        Recording(model.frontend, blocks, regions, whole=whole),
        regions,
        language=model.language(planned.language),
        word_times=_word_times(model, ready.options),
    )


def _regions(model: WhisperModel, planned: Planned, options: WhisperOptions) -> Regions:
    """What of a recording is heard, in what pieces."""
    clips, chunk = options.clip_timestamps, round(options.chunk_length * FRAMES)
    grows = not options.without_timestamps  # where times say how far a window was heard
    if planned.detector is not None:
        speech = planned.speech or SegmentOptions()
        source = Speech(model.rate, planned.detector, speech)
        longest = float(chunk) if options.batched else math.inf
        told = stretch_language(model, options) if options.multilingual else None
        return Regions(source, clips, join=JOIN * FRAMES, longest=longest, grows=grows, told=told)
    if options.batched:
        return Regions(Pieces(chunk, grows), clips, join=0, pad=0)
    return Regions(Everything(), clips, pad=0, least=0)  # as the original does


def _word_times(model: WhisperModel, options: WhisperOptions) -> WordTimes | None:
    """What finds the words by attention. A CTC aligner, which sees the transcript when it is whole,
    begins with these, too: words that it does not hear keep them."""
    heads = model.config.alignment_heads
    if options.word_timestamps == "none" or not heads:
        return None

    def find(heard: Heard, rows: Sequence[int], windows: Sequence[Window]) -> list[list[Piece]]:
        from mynah.runtime.whisper.words import Said, Stretch, place_words, time_words

        def text(piece: Piece) -> tuple[int, ...]:
            return tuple(token for token in piece.tokens if token < model.tokenizer.eos)

        said = [
            Said(
                tuple(token for piece in window.pieces for token in text(piece)),
                model.tokenizer.sot_sequence(window.language, options.task, timestamps=False),
                window.size // 2,
                options.written(window.language) or "",
            )
            for window in windows
        ]
        found = time_words(model.engine, heard, rows, said, tokenizer=model.tokenizer, heads=heads)
        placed = []
        for window, words in zip(windows, found, strict=True):
            stretches = place_words(
                [Stretch(text(piece), piece.start, piece.end) for piece in window.pieces],
                words,
                offset=window.seek / FRAMES,
                last_speech=window.last_speech,
                prepend=options.prepend_punctuations,
                append=options.append_punctuations,
            )
            placed.append(
                [
                    dataclasses.replace(piece, start=one.start, end=one.end, words=one.words)
                    for piece, one in zip(window.pieces, stretches, strict=True)
                ]
            )
        return placed

    return find


def _transcript(model: WhisperModel, run: LongForm, seconds: float, planned: Planned) -> Transcript:
    speech = run.regions.spoken if planned.detector is not None else None
    detected = run.language is None
    segments = [
        _segment(window, piece, window.language if detected else None, seconds)
        for window in run.windows
        for piece in window.pieces
        if piece.text.strip()
    ]
    kept, suspected = guarded(segments, run.options, speech, seconds)
    if speech is not None:
        kept = between_pauses(kept, speech, planned.speech or SegmentOptions())
    for window, pieces in run.dropped:  # the model, or the silence around them, said so
        texts = (_segment(window, piece, None, seconds) for piece in pieces if piece.text.strip())
        suspected += [Suspicion(s.text, s.start, s.end, "no_speech", True) for s in texts]
    languages = {segment.language for segment in kept} if detected else {run.language}
    notes = {
        "short_context": run.options.short_context,
        "hotwords_cut": run.fixed.cut,
        "prompt_cut": run.fixed.initial_cut,
    }
    return make_transcript(
        kept,
        language=languages.pop() if len(languages) == 1 else None,
        duration=seconds,
        model=model.name,
        suspected=sorted(suspected, key=lambda one: one.start),
        notes=[name for name, is_so in notes.items() if is_so],
    )


def _segment(window: Window, piece: Piece, language: str | None, seconds: float) -> Segment:
    found = window.found
    confidence = float(np.exp(np.mean(piece.logs))) if piece.logs else None
    # times may lie in what the window was filled up with
    start = min(piece.start, seconds)
    end = max(min(piece.end, seconds), start)
    return Segment(
        text=piece.text.strip(),
        start=start,
        end=end,
        confidence=confidence,
        words=tuple(_clipped(word, seconds) for word in piece.words),
        language=language,
        decoded=Decoded(
            temperature=found.temperature,
            avg_logprob=found.avg_logprob,
            compression_ratio=found.compression_ratio,
            no_speech_prob=found.no_speech_prob,
            seek=window.seek,
            tokens=piece.tokens,
        ),
    )


def _clipped(word: Word, seconds: float) -> Word:
    """A word that does not end behind the recording."""
    start = min(word.start, seconds)
    return dataclasses.replace(word, start=start, end=max(min(word.end, seconds), start))
