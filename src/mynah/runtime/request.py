"""What a caller wants of one recording or stream, and what that means for a model."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from mynah.audio.segments import SegmentOptions
from mynah.decoding import DecodingOptions, Hotwords, Hypothesis
from mynah.decoding.fusion import Ngram
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import find_model, known_models, read_model_folder
from mynah.runtime.decode import Decoder, Heard, check_rescored
from mynah.runtime.endpoint import Endpointing, split
from mynah.runtime.engine import Array
from mynah.runtime.model import Model
from mynah.runtime.rescorer import Rescorer, load_rescorer
from mynah.runtime.result import Segment
from mynah.runtime.voice import Detector, Voice
from mynah.runtime.words import make_segment

if TYPE_CHECKING:
    from mynah.runtime.readable import Readable
    from mynah.runtime.whisper.options import WhisperOptions
    from mynah.text.script import Script


log = logging.getLogger(__name__)

_TYPES: dict[str, tuple[type, ...]] = {
    "method": (str, NoneType),
    "options": (DecodingOptions, NoneType),
    **dict.fromkeys(("words", "chars", "punctuate", "itn"), (bool,)),
    "language": (str, NoneType),
    "endpointing": (Endpointing, NoneType),
    "second_look": (bool, NoneType),
    "vad": (bool, SegmentOptions, NoneType),
    "script": (str, NoneType),
}


def wanted_by(request: Request | None) -> Request:
    """The request that a caller gave, or the usual one.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(request, (Request, NoneType)):
        raise ConfigError(f"request: {type(request).__name__} is not a Request")
    return request or Request()


@dataclass(frozen=True)
class Request:
    """How to hear one recording or stream; nothing of it is kept by the recogniser.

    Attributes:
        method: ``greedy``, ``prefix_beam``, ``rescoring``, ``attention``, ``lexicon`` or ``graph``,
            as far as the model has it, in place of that of ``options``.
        options: of the search, in place of the model's own, which :meth:`Recognizer.options`
            changes one by one.
        words: whether words with times are wanted, which cost an alignment.
        chars: whether words have the times of their characters, too.
        hotwords: phrases to prefer, ``Hotwords`` or entries ``phrase`` and ``phrase=3.5``.
        lm: an n-gram model that takes part in the search, or its file; its weight stands in
            ``options``.
        rescorer: a neural language model that ranks what a lexicon search found, a folder or a
            name; ``None``: the model's own, where it has one; ``False``: none.
        language: one of the model's, for a model of several.
        endpointing: when a live segment ends. Given to an offline call, it cuts what is decoded
            by the same rules.
        second_look: whether a live segment is encoded and searched once more when it has ended,
            as a whole, so that its final text is as good as an offline one; ``None``: where the
            model says so.
        vad: whether only what a voice activity detector takes for speech is decoded, or what it
            takes for speech; ``None``: where the model wants it and the detector is installed.
        punctuate: whether punctuation and capitals are restored.
        itn: whether numbers and the like are written as in print.
        script: whether Chinese is written in ``simplified`` or ``traditional`` characters, or in
            those of ``taiwan`` or ``hongkong``; ``None``: as the model writes it.
        whisper: how a Whisper model decodes, for such a model alone. Where it is given, its
            ``word_timestamps`` says where times of words come from; else they are taken from the
            attention where ``words`` asks for them.
        aligner: name or folder of the CTC model that gives a Whisper's words their times; without,
            the bundled recogniser, where ``word_timestamps`` is ``ctc``.

    Raises:
        ConfigError: a value of the wrong type.
    """

    method: str | None = None
    options: DecodingOptions | None = None
    hotwords: Hotwords | Sequence[str] | None = None
    lm: Ngram | str | os.PathLike[str] | None = None
    rescorer: Rescorer | str | os.PathLike[str] | bool | None = None
    words: bool = True
    chars: bool = False
    language: str | None = None
    endpointing: Endpointing | None = None
    second_look: bool | None = None
    vad: bool | SegmentOptions | None = None
    punctuate: bool = False
    itn: bool = False
    script: Script | None = None
    whisper: WhisperOptions | None = None
    aligner: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name, kinds in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kinds):
                known = " or ".join("None" if k is NoneType else k.__name__ for k in kinds)
                raise ConfigError(f"{name}: {value!r} is not {known}")
        if not (isinstance(self.lm, (str, os.PathLike, NoneType)) or hasattr(self.lm, "word_id")):
            raise ConfigError(f"lm: {self.lm!r} is neither a model nor its file")
        if not isinstance(self.hotwords, (Hotwords, str, NoneType)):
            several = isinstance(self.hotwords, Iterable)  # which may be had only once
            words = tuple(self.hotwords) if several else (self.hotwords,)
            if not all(isinstance(word, str) for word in words):
                raise ConfigError(f"hotwords: {self.hotwords!r} are not texts")
            object.__setattr__(self, "hotwords", words)

    def changed(
        self,
        *,
        method: str | None = None,
        options: DecodingOptions | None = None,
        words: bool | None = None,
        language: str | None = None,
        endpointing: Endpointing | None = None,
    ) -> Request:
        """This request with what is given in place of its own."""
        return dataclasses.replace(
            self,
            method=self.method if method is None else method,
            options=self.options if options is None else options,
            words=self.words if words is None else words,
            language=self.language if language is None else language,
            endpointing=self.endpointing if endpointing is None else endpointing,
        )

    def key(self) -> str:
        """What says whether two requests hear the same: two that do not have different keys.

        How the text is written afterwards is no part of it.

        Raises:
            ModelError: the file of the language model cannot be read.
        """
        lm = self.lm
        if isinstance(lm, (str, os.PathLike)):
            path, changed = _language_model_file(lm)
            lm = f"{path} {changed}"
        rescorer = self.rescorer
        if isinstance(rescorer, (str, os.PathLike)):
            rescorer = str(read_model_folder(find_model(Path(rescorer))).files)
        kept = dataclasses.replace(
            self, lm=lm, rescorer=rescorer, punctuate=False, itn=False, script=None
        )
        return repr(kept)


@dataclass(frozen=True)
class Plan:
    """A request made ready for a model; used by any number of recordings and streams."""

    model: Model
    decoder: Decoder
    words: bool
    chars: bool
    language: str | None
    endpointing: Endpointing | None
    detector: Detector | None = None  # of voice activity
    speech: SegmentOptions | None = None  # what it takes for speech
    readable: Readable | None = None  # rewrites the text
    second_look: bool = False  # at a live segment that has ended

    def voice(self) -> Voice | None:
        """Follows where one live stream speaks, where that is looked for."""
        if self.detector is None or self.speech is None:
            return None
        return Voice(self.detector, self.speech, self.model.rate)

    def segment(self, hypothesis: Hypothesis, heard: Heard, *, start: float, end: float) -> Segment:
        """The segment that ``hypothesis`` says, heard from ``start`` to ``end`` seconds."""
        return make_segment(
            self.model.tokenizer,
            hypothesis,
            heard.log_probs,
            clock=self.model.clock,
            start=start,
            end=end,
            words=self.words,
            calibration=self.model.calibration,
            chars=self.chars,
        )

    def split(self, log_probs: Array) -> list[tuple[int, int]]:
        """The segments of what an offline call heard (T, V): first frame, one past the last."""
        if self.endpointing is None:
            return [(0, len(log_probs))]
        return split(
            log_probs,
            self.endpointing,
            self.decoder.search(),
            self.model.tokenizer,
            self.model.clock.step,
        )


def plan(model: Model, request: Request) -> Plan:
    """Make ``request`` ready for ``model``.

    Raises:
        ConfigError: a wrong method, option or language, or what this model cannot do.
        MissingDependency: what is asked for needs a library that is not installed.
    """
    if not isinstance(request, Request):
        raise ConfigError(f"request: {type(request).__name__} is not a Request")
    if request.whisper is not None or request.aligner is not None:
        asked = "whisper" if request.whisper is not None else "aligner"
        raise ConfigError(f"{asked}: {model.name} is no Whisper model")
    options = model.decoding_options(request.options, request.method)
    detector, speech = find_detector(request.vad, model.engine.info.voice_activity)
    hotwords = _hotwords(request.hotwords)
    _warn_of_unknown(model, options, hotwords)
    return Plan(
        model=model,
        decoder=Decoder(
            model,
            options,
            hotwords=hotwords,
            lm=_language_model(request.lm),
            rescorer=_rescorer(model, options, request.rescorer),
        ),
        words=request.words,
        chars=request.chars,
        language=model.language(request.language),
        endpointing=request.endpointing,
        detector=detector,
        speech=speech,
        readable=find_readable(request, model.language(request.language), model.name),
        second_look=_second_look(model, request),
    )


def _second_look(model: Model, request: Request) -> bool:
    if request.second_look is None:
        return model.engine.info.streaming.get("second_look") is True
    return request.second_look


def find_readable(
    request: Request, language: str | None, name: str, *, detects: bool = False
) -> Readable | None:
    """What rewrites the texts of a request in ``language``, if anything is to; ``detects`` says
    that a transcript of the model ``name`` knows its language.

    Raises:
        ConfigError: the language does not have what is asked for, or it has to be given.
        MissingDependency: see :meth:`Readable.load`.
    """
    wanted = {"punctuate": request.punctuate, "itn": request.itn, "script": request.script}
    if not any(wanted.values()):
        return None
    from mynah.runtime.readable import Readable

    if language is None and (request.punctuate or request.itn or not detects):
        asked = ", ".join(key for key, value in wanted.items() if value)
        raise ConfigError(f"{asked}: {name} knows several languages; say which")
    return Readable.load(language, request.punctuate, request.itn, script=request.script)


def _hotwords(given: Hotwords | Sequence[str] | None) -> Hotwords | None:
    if given is None or isinstance(given, Hotwords):
        return given
    return Hotwords.parse([given] if isinstance(given, str) else given)


def _warn_of_unknown(model: Model, options: DecodingOptions, hotwords: Hotwords | None) -> None:
    """Say which words of the phrases a search for the words of a lexicon cannot find."""
    if not hotwords or options.method != "lexicon" or options.unknown_word is not None:
        return
    known = model.words.lexicon.numbers
    words = (word for phrase, _ in hotwords.phrases for word in phrase.lower().split())
    unknown = [word for word in dict.fromkeys(words) if word not in known]
    if unknown:
        names = ", ".join(unknown[:5])
        names += f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        _warn_once(f"hotwords: not in the lexicon of {model.name}: {names}")


@functools.cache
def _warn_once(line: str) -> None:
    log.warning("%s", line)


def _language_model(given: Ngram | str | os.PathLike[str] | None) -> Ngram | None:
    if not isinstance(given, (str, os.PathLike)):
        return given
    try:
        return _loaded(*_language_model_file(given))
    except OSError as error:
        raise ModelError(f"{given}: cannot be read ({error.strerror or error})") from None


def _rescorer(
    model: Model,
    options: DecodingOptions,
    given: Rescorer | str | os.PathLike[str] | bool | None,
) -> Rescorer | None:
    if given is False or isinstance(given, Rescorer):
        return given or None
    if given is None or given is True:
        own = model.parts.rescorer if model.parts and options.method == "lexicon" else None
        if own is None and given:
            raise ConfigError(f"rescorer: {model.name} has none; name a model")
        return own
    check_rescored(options.method)  # before it is read
    return load_rescorer(given)


def _language_model_file(given: str | os.PathLike[str]) -> tuple[str, int]:
    """The file and when it changed.

    Raises:
        ModelError: there is none.
    """
    try:
        return os.path.abspath(given), os.stat(given).st_mtime_ns
    except OSError as error:
        raise ModelError(f"{given}: cannot be read ({error.strerror or error})") from None


@functools.lru_cache(maxsize=2)
def _loaded(path: str, changed: int) -> Ngram:
    """The language model of a file, which requests share until it changes."""
    from mynah.decoding.ngram import load_ngram

    return load_ngram(path)


def find_detector(
    vad: bool | SegmentOptions | None, usual: bool
) -> tuple[Detector | None, SegmentOptions | None]:
    """The voice activity detector, if one is wanted, and what it is to take for speech; ``usual``
    says whether the model wants one where the request says nothing.

    Raises:
        ModelError: one is asked for, and it is not installed; or it is damaged.
    """
    if vad is False or (vad is None and not usual):
        return None, None
    from mynah.runtime.vad import BUNDLED, load_vad

    if vad is None and BUNDLED not in known_models():
        return None, None
    detector = load_vad()
    return detector, vad if isinstance(vad, SegmentOptions) else detector.options
