"""What is asked of a Whisper model, by the names that its other programs have for it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, TypeAlias

from mynah.errors import ConfigError
from mynah.text.whisper_languages import language_code
from mynah.text.whisper_tokenizer import WhisperTokenizer

Task: TypeAlias = Literal["transcribe", "translate"]

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
PREPEND = "\"'“¿([{-"
APPEND = "\"'.。,，!！?？:：”)]}、"
CHUNK = 30.0  # seconds that the model hears at once


@dataclass(frozen=True)
class WhisperOptions:
    """How a Whisper model decodes. Times are seconds, thresholds ``None`` where there is none.

    Attributes:
        task: text in the language that is spoken, or its translation into English.
        languages: those that may be detected; empty: all of the model.
        language_threshold: a language that is less probable than this is not taken as detected.
        language_segments: windows looked at until one is.
        multilingual: whether the language is detected anew for every window; one that is not
            probable enough leaves that of the window before. Where speech is detected, windows
            end where it changes.
        beam_size: hypotheses at temperature 0; 1 is greedy search.
        best_of: samples at temperatures above 0, of which the best is taken.
        patience: the beam ends with ``round(beam_size * patience)`` finished hypotheses.
        length_penalty: hypotheses compete by log-probability over ``((5 + n) / 6) ** this`` of
            their n tokens, or over n where it is ``None``; 0 to 1.
        repetition_penalty: logits of tokens that came before are divided by it (negative ones
            multiplied).
        no_repeat_ngram_size: no n-gram of this many tokens comes twice in a window; 0: any may.
        temperature: of the first try and the others, each where the one before failed.
        compression_ratio_threshold: text that zlib makes smaller by more than this is repetitive,
            and the try failed.
        logprob_threshold: a try failed whose tokens have a lower mean log-probability.
        no_speech_threshold: of the probability that nobody speaks, above which a window is empty
            and no failure, unless its text is more probable than ``logprob_threshold``.
        condition_on_previous_text: whether a window's prompt is what was said before. ``None``:
            where it can be, which is not with ``batched``, where all windows are heard at once.
        prompt_reset_on_temperature: text found at a higher temperature is no prompt.
        initial_prompt: text (or tokens) that stands before the first window; with ``batched``
            before every one.
        carry_initial_prompt: whether it stands before every window.
        prefix: how the text of the first window begins, which is not given out again.
        hotwords: text that stands before every window. It, the carried prompt and the previous
            text share half the text context: the previous text gives way, then the prompt.
        suppress_tokens: tokens that are never chosen, as numbers; -1 stands for all symbols that
            are not said, and the marks of a prompt are never chosen either. A text is such numbers
            with commas between. Empty: all may be chosen.
        suppress_blank: whether a window may not begin with a space or end at once.
        without_timestamps: whether the model gives no times; a window is one segment then.
        max_initial_timestamp: the latest time at which a window's first segment may begin.
        clip_timestamps: starts and ends of what is to be heard, in turn; the last end may be
            missing. Empty: everything.
        max_new_tokens: of a window; ``None``: half the text context.
        hallucination_silence_threshold: silences longer than this around what may be invented are
            skipped; needs word times.
        word_timestamps: where times of words come from, if they are wanted.
        prepend_punctuations: written with the word after them.
        append_punctuations: written with the word before them.
        batched: whether stretches of speech are heard ``batch_size`` at once, each for itself,
            instead of one after the other.
        batch_size: windows that are decoded at once: of several recordings, and with ``batched``
            of each.
        chunk_length: of a window.
        short_context: whether a short window is encoded with a margin instead of 30 seconds, and
            in 30 seconds where its text is not to be trusted. Faster, and not what the model was
            trained for.
        seed: of the sampling, with the window's place: a window's samples are always the same.
        guards: what is done with text that was probably not said (loops, phrases of silence): taken
            out where it is certain and reported, only reported, or not looked for.
        loudness: what the features of a window are relative to. ``"recording"``, as other programs
            have it, reads the whole recording first, at 115 MB an hour.

    Raises:
        ConfigError: a value out of its range, or options that exclude each other.
    """

    task: Task = "transcribe"
    languages: tuple[str, ...] = ()
    language_threshold: float | None = 0.5
    language_segments: int = 1
    multilingual: bool = False
    beam_size: int = 5
    best_of: int = 5
    patience: float = 1.0
    length_penalty: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    temperature: float | tuple[float, ...] = TEMPERATURES
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    condition_on_previous_text: bool | None = None
    prompt_reset_on_temperature: float = 0.5
    initial_prompt: str | tuple[int, ...] | None = None
    carry_initial_prompt: bool = False
    prefix: str | None = None
    hotwords: str | None = None
    suppress_tokens: str | tuple[int, ...] = "-1"
    suppress_blank: bool = True
    without_timestamps: bool = False
    max_initial_timestamp: float | None = 1.0
    clip_timestamps: tuple[float, ...] = ()
    max_new_tokens: int | None = None
    hallucination_silence_threshold: float | None = None
    word_timestamps: Literal["none", "attention", "ctc"] = "none"
    prepend_punctuations: str = PREPEND
    append_punctuations: str = APPEND
    batched: bool = False
    batch_size: int = 8
    chunk_length: float = CHUNK
    short_context: bool = False
    seed: int = 0
    guards: Literal["remove", "report", "off"] = "remove"
    loudness: Literal["window", "recording"] = "window"

    def __post_init__(self) -> None:
        self._settle_types()
        self._check_choices()
        self._check_numbers()
        for language in self.languages:
            language_code(language)
        clips = self.clip_timestamps
        if any(not (math.isfinite(c) and c >= 0) for c in clips):
            raise ConfigError(f"clip_timestamps: {clips} are not all times of 0 or more")
        if any(end <= start for start, end in zip(clips[::2], clips[1::2], strict=False)):
            raise ConfigError(f"clip_timestamps: {clips}: an end is not after its start")
        if list(clips) != sorted(clips):
            raise ConfigError(f"clip_timestamps: {clips} are not in order of time")
        temperatures = self.temperatures
        if not temperatures or any(not 0 <= t <= 10 for t in temperatures):
            raise ConfigError(f"temperature: {self.temperature} is not in 0..10")
        _ = self.suppressed_numbers
        if self.batched and self.condition_on_previous_text:
            raise ConfigError(
                "condition_on_previous_text: batched hears all windows at once, "
                "so there is no previous text"
            )
        if self.hallucination_silence_threshold is not None and self.word_timestamps == "none":
            raise ConfigError("hallucination_silence_threshold: needs word_timestamps")
        if self.carry_initial_prompt and not self.initial_prompt:
            raise ConfigError("carry_initial_prompt: there is no initial_prompt")
        if self.prefix is not None and not self.prefix.strip():
            raise ConfigError("prefix: empty")

    def _settle_types(self) -> None:
        """Lists become tuples, and word times may be asked for by a truth value, as elsewhere."""
        if isinstance(self.word_timestamps, bool):
            times = "attention" if self.word_timestamps else "none"
            object.__setattr__(self, "word_timestamps", times)
        for name, (alone, members, what) in _TYPES.items():
            value = getattr(self, name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, name, value)
            if members and isinstance(value, tuple):
                fits = all(_is(one, members) for one in value)
            else:
                fits = _is(value, alone)
            if not fits:
                raise ConfigError(f"{name}: {value!r} is not {what}")

    def _check_choices(self) -> None:
        choices = {
            "task": ("transcribe", "translate"),
            "word_timestamps": ("none", "attention", "ctc"),
            "guards": ("remove", "report", "off"),
            "loudness": ("window", "recording"),
        }
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"{name}: {value!r} is none of {', '.join(known)}")

    def _check_numbers(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name}: {value} is not in {low:g}..{high:g}")
        if round(self.beam_size * self.patience) < 1:
            raise ConfigError(f"patience: {self.patience} leaves no hypothesis of {self.beam_size}")
        if self.beam_size == 1 and self.patience != 1:
            raise ConfigError("patience: there is no beam")

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures that are tried, in turn."""
        given = self.temperature
        return given if isinstance(given, tuple) else (float(given),)

    @property
    def conditions(self) -> bool:
        """Whether a window's prompt is what was said before."""
        wanted = self.condition_on_previous_text
        return not self.batched if wanted is None else wanted

    def written(self, spoken: str | None) -> str | None:
        """The language of the text, where one is ``spoken``: translations are English."""
        return "en" if self.task == "translate" else spoken

    @property
    def suppressed_numbers(self) -> tuple[int, ...]:
        """``suppress_tokens`` as numbers."""
        given = self.suppress_tokens
        if not isinstance(given, str):
            return given
        try:
            return tuple(int(part) for part in given.split(",") if part.strip())
        except ValueError:
            raise ConfigError(
                f"suppress_tokens: {given!r} is not numbers with commas between"
            ) from None

    def suppressed(self, tokenizer: WhisperTokenizer) -> tuple[int, ...]:
        """The tokens that are never chosen: those asked for, and the marks of a prompt.

        Raises:
            ConfigError: a number that the model does not have.
        """
        if not self.suppressed_numbers:
            return ()
        special = tokenizer.special
        found = {special.transcribe, special.translate, special.sot, special.sot_prev}
        found |= {special.sot_lm, special.no_speech}
        for number in self.suppressed_numbers:
            if not -1 <= number < tokenizer.vocab_size:
                raise ConfigError(
                    f"suppress_tokens: {number} is not in -1..{tokenizer.vocab_size - 1}"
                )
            found |= {number} if number >= 0 else set(tokenizer.non_speech_tokens)
        return tuple(sorted(found))

    def replace(self, **changes: object) -> WhisperOptions:
        """These options with some changed.

        Raises:
            ConfigError: as when they are made.
        """
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of one of ``kinds``; truth values are no numbers."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


_Types: TypeAlias = tuple[tuple[type, ...], tuple[type, ...], str]
_NONE = type(None)
# of a value alone, of each of several, and what it should be
_TYPES: dict[str, _Types] = {
    **dict.fromkeys(
        ("multilingual", "carry_initial_prompt", "suppress_blank", "without_timestamps", "batched",
         "short_context"), ((bool,), (), "True or False")),
    "condition_on_previous_text": ((bool, _NONE), (), "True, False or None"),
    **dict.fromkeys(
        ("language_segments", "beam_size", "best_of", "no_repeat_ngram_size", "batch_size", "seed"),
        ((Integral,), (), "a whole number")),
    "max_new_tokens": ((Integral, _NONE), (), "a whole number or None"),
    **dict.fromkeys(
        ("patience", "repetition_penalty", "prompt_reset_on_temperature", "chunk_length"),
        ((Real,), (), "a number")),
    **dict.fromkeys(
        ("language_threshold", "length_penalty", "compression_ratio_threshold", "logprob_threshold",
         "no_speech_threshold", "max_initial_timestamp", "hallucination_silence_threshold"),
        ((Real, _NONE), (), "a number or None")),
    "temperature": ((Real,), (Real,), "a number or several"),
    "clip_timestamps": ((), (Real,), "several numbers"),
    "initial_prompt": ((str, _NONE), (Integral,), "a text, tokens or None"),
    "suppress_tokens": ((str,), (Integral,), "a text or tokens"),
    "languages": ((), (str,), "several names"),
    **dict.fromkeys(("prefix", "hotwords"), ((str, _NONE), (), "a text or None")),
    **dict.fromkeys(("prepend_punctuations", "append_punctuations"), ((str,), (), "a text")),
}  # fmt: skip
_RANGES: dict[str, tuple[float, float]] = {
    "language_threshold": (0, 1),
    "language_segments": (1, 10_000),
    "beam_size": (1, 100),
    "best_of": (1, 100),
    "patience": (0.01, 100),
    "length_penalty": (0, 1),
    "repetition_penalty": (0.01, 100),
    "no_repeat_ngram_size": (0, 1000),
    "compression_ratio_threshold": (0, math.inf),
    "logprob_threshold": (-math.inf, 0),
    "no_speech_threshold": (0, 1),
    "prompt_reset_on_temperature": (0, 10),
    "max_initial_timestamp": (0, CHUNK),
    "max_new_tokens": (1, 100_000),
    "hallucination_silence_threshold": (0, math.inf),
    "batch_size": (1, 256),
    "chunk_length": (1, CHUNK),
    "seed": (0, 2**63 - 1),
}
