"""What a caller wants of one recording, and what that means for a Whisper model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mynah.audio.segments import SegmentOptions
from mynah.decoding import Hotwords
from mynah.errors import ConfigError
from mynah.runtime.request import Request, find_detector, find_readable
from mynah.runtime.voice import Detector
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.transcribe import prepare

if TYPE_CHECKING:
    from mynah.runtime.aligner import Aligner
    from mynah.runtime.readable import Readable
    from mynah.runtime.whisper.model import WhisperModel

_WEIGHT = re.compile(r"\S\s*=\s*\d+(?:\.\d+)?\s*$")  # of a phrase, as other models take it
# what of a request a Whisper cannot do, and why
_CANNOT = {
    "method": "its search is beam_size, best_of and temperature of WhisperOptions",
    "options": "its options are WhisperOptions (Request.whisper)",
    "lm": "its decoder is its language model",
    "rescorer": "its decoder is its language model",
    "endpointing": "it hears whole windows, and cannot stream",
    "second_look": "it hears whole windows, and cannot stream",
    "chars": "it has no times of characters",
}


@dataclass(frozen=True)
class WhisperPlan:
    """A request made ready for a Whisper model; used by any number of recordings.

    Attributes:
        options: how it decodes; ``word_timestamps`` and ``hotwords`` are settled.
        language: the code of the language that is spoken; ``None``: it is detected.
        detector: of voice activity, where only speech is to be heard, and ``speech`` what it takes
            for speech.
        readable: rewrites the text afterwards.
        aligner: gives words other times afterwards.
    """

    model: WhisperModel
    options: WhisperOptions
    language: str | None = None
    detector: Detector | None = None
    speech: SegmentOptions | None = None
    readable: Readable | None = None
    aligner: Aligner | None = None


def whisper_plan(model: WhisperModel, request: Request) -> WhisperPlan:
    """Make ``request`` ready for ``model``.

    Raises:
        ConfigError: what is asked for cannot be done with a Whisper model, or not with this one.
        ModelError: the voice activity detector or the aligner cannot be read.
    """
    name = model.info.name
    for field, reason in _CANNOT.items():
        if getattr(request, field):
            raise ConfigError(f"{field}: not with {name}, a Whisper model: {reason}")
    options = request.whisper or WhisperOptions()
    if not isinstance(options, WhisperOptions):
        raise ConfigError(f"whisper: {options!r} is not WhisperOptions")
    options = _with_words(options, request)
    options = _with_hotwords(options, request.hotwords, name)
    language = model.language(request.language)
    prepare(model, options, language)
    detector, speech = find_detector(request.vad, model.info.voice_activity)
    return WhisperPlan(
        model=model,
        options=options,
        language=language,
        detector=detector,
        speech=speech,
        readable=find_readable(request, options.written(language), name, detects=True),
        aligner=_aligner(request, options, language),
    )


def _with_words(options: WhisperOptions, request: Request) -> WhisperOptions:
    """Without options of Whisper, words have times where a request asks for words at all.

    Raises:
        ConfigError: the request and its options contradict each other.
    """
    if not request.words and options.word_timestamps != "none":
        raise ConfigError(f"words: not wanted, but word_timestamps is {options.word_timestamps!r}")
    if request.words and request.whisper is None:
        return options.replace(word_timestamps="ctc" if request.aligner else "attention")
    if request.aligner is not None and options.word_timestamps != "ctc":
        raise ConfigError("aligner: word_timestamps is not 'ctc'")
    return options


def _with_hotwords(
    options: WhisperOptions, hotwords: Hotwords | Sequence[str] | None, name: str
) -> WhisperOptions:
    """Hotwords are a prompt: a text without weights."""
    if not hotwords:
        return options
    if options.hotwords is not None:
        raise ConfigError("hotwords: both in the request and in its WhisperOptions")
    if isinstance(hotwords, Hotwords):
        if len({weight for _, weight in hotwords.phrases}) > 1:
            raise ConfigError(f"hotwords: {name} takes them as a prompt, which has no weights")
        text = ", ".join(phrase for phrase, _ in hotwords.phrases)
    else:
        text = hotwords if isinstance(hotwords, str) else ", ".join(hotwords)
        weighted = next((one for one in text.split(",") if _WEIGHT.search(one)), None)
        if weighted is not None:
            raise ConfigError(f"hotwords: {weighted.strip()!r}: {name} takes them as a prompt, "
                              "which has no weights")  # fmt: skip
    return options.replace(hotwords=text)


def _aligner(request: Request, options: WhisperOptions, language: str | None) -> Aligner | None:
    if options.word_timestamps != "ctc":
        return None
    if options.written(language) != language:
        raise ConfigError("word_timestamps: 'ctc' aligns what is said, and a translation is not")
    from mynah.runtime.aligner import load_aligner

    aligner = load_aligner(request.aligner)
    aligner.check(language)
    return aligner
