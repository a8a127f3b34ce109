"""What was heard: segments and words with times, and the JSON that they are kept in.

Times are seconds from the start of the recording. The format is described in
``docs/transcript.md``; reading it back is strict: a key that is not known is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mynah.errors import InputError, nearest

FORMAT = "mynah.transcript"
VERSION = 3  # 2 knew of no languages, speakers and decoding, 1 of no times of characters

Source = Literal["aligned", "interpolated", "attention"]
Status = Literal["ok", "no_speech"]


@dataclass(frozen=True)
class Word:
    """A word and where it was heard.

    ``source`` says where the times come from: ``"aligned"`` to the sound by the model,
    ``"attention"``, what a decoder attended to, or ``"interpolated"`` between neighbours.
    ``confidence`` is a probability, or ``None`` where there is nothing to take it from. ``chars``
    are the start and end of each character of ``text``, empty where they were not asked for or are
    not known. ``speaker`` is who says it, where that is known.
    """

    text: str
    start: float  # seconds
    end: float
    confidence: float | None
    source: Source
    chars: tuple[tuple[float, float], ...] = ()
    speaker: str | None = None


@dataclass(frozen=True)
class Decoded:
    """How a decoder that predicts a token at a time came by a text.

    ``temperature`` is 0 where the best tokens were taken, above where they were sampled;
    ``avg_logprob`` the mean log-probability of the tokens, the end included; ``compression_ratio``
    how much smaller zlib makes the text; ``no_speech_prob`` the probability that nobody speaks.
    They are those of the window, which several segments may share. ``seek`` is where that begins,
    in frames of 10 ms, ``tokens`` what was said, times included: whisper's own JSON alone has them.
    """

    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    seek: int = field(default=0, compare=False)
    tokens: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Suspicion:
    """Text that was probably not said; ``removed`` where it is not part of the transcript.

    ``reason`` is ``"no_speech"``, ``"silence_phrase"``, ``"too_fast"``, ``"repeated_phrase"`` or
    ``"repeated_segment"``.
    """

    text: str
    start: float  # seconds
    end: float
    reason: str
    removed: bool


@dataclass(frozen=True)
class Segment:
    """A stretch of the recording that was decoded at once; only stretches with text are kept.

    ``language`` is given where it may change within the recording; ``speaker`` where it is known.
    """

    text: str
    start: float  # seconds
    end: float
    confidence: float | None
    words: tuple[Word, ...] = ()
    language: str | None = None
    speaker: str | None = None
    decoded: Decoded | None = None


@dataclass(frozen=True)
class Transcript:
    """The text of a recording, in order of time.

    ``duration`` is the length of the recording in seconds; ``language`` a code such as ``"en"``, or
    ``None`` when the model has several and none was asked for, or it changes; ``status`` is
    ``"no_speech"`` when nothing was heard, and ``text`` is then empty. ``suspected`` is text that
    was probably not said; ``notes`` say what was done that may cost accuracy, such as
    ``"short_context"``.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str | None
    status: Status
    duration: float
    model: str = ""
    suspected: tuple[Suspicion, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON object; times and confidences are rounded to four decimals."""
        values = {
            "format": FORMAT,
            "version": self._version(),
            "model": self.model,
            "language": self.language,
            "status": self.status,
            "duration": _rounded(self.duration),
            "text": self.text,
            "segments": [_segment_dict(segment) for segment in self.segments],
        }
        if self.suspected:
            values["suspected"] = [
                dataclasses.asdict(one) | {"start": _rounded(one.start), "end": _rounded(one.end)}
                for one in self.suspected
            ]
        if self.notes:
            values["notes"] = list(self.notes)
        return values

    def _version(self) -> int:
        """The first version of the format that has what is there."""
        newest = bool(self.suspected or self.notes)
        newest |= any(s.language or s.speaker or s.decoded for s in self.segments)
        if newest or any(w.speaker or w.source == "attention" for w in self.words):
            return 3
        return 2 if any(word.chars for word in self.words) else 1

    def to_json(self, *, indent: int | None = 2) -> str:
        """The documented JSON text; :meth:`from_json` reads it."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transcript:
        """Read what :meth:`to_dict` wrote.

        Raises:
            InputError: another format or version, an unknown or missing key, a wrong type.
        """
        if not isinstance(values, Mapping):
            raise InputError("transcript: not a table")
        more = ("suspected", "notes") if values.get("version") == 3 else ()
        _check_keys(values, _TRANSCRIPT_KEYS, "", more)
        whole = type(values["version"]) is int  # neither 2.0 nor True
        if values["format"] != FORMAT or not (whole and 1 <= values["version"] <= VERSION):
            found = f"{values['format']!r} version {values['version']!r}"
            raise InputError(f"transcript: {found}, this reads {FORMAT!r} up to version {VERSION}")
        language, status = values["language"], values["status"]
        if language is not None and not isinstance(language, str):
            raise InputError("transcript: language is neither a string nor null")
        if status not in ("ok", "no_speech"):
            raise InputError(f"transcript: status is {status!r}, not 'ok' or 'no_speech'")
        segments = tuple(
            _read_segment(item, f"segments[{number}]", values["version"])
            for number, item in enumerate(_list(values["segments"], "segments"))
        )
        return cls(
            text=_text(values["text"], "text"),
            segments=segments,
            language=language,
            status=status,
            duration=_seconds(values["duration"], "duration"),
            model=_text(values["model"], "model"),
            suspected=tuple(
                _read_suspicion(item, f"suspected[{number}]")
                for number, item in enumerate(_list(values.get("suspected", []), "suspected"))
            ),
            notes=tuple(
                _text(item, f"notes[{number}]")
                for number, item in enumerate(_list(values.get("notes", []), "notes"))
            ),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Transcript:
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: not JSON, or as :meth:`from_dict`.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"transcript: not JSON ({error})") from None
        if not isinstance(values, dict):
            raise InputError("transcript: not a JSON object")
        return cls.from_dict(values)


def make_transcript(
    segments: Iterable[Segment],
    *,
    language: str | None,
    duration: float,
    model: str = "",
    suspected: Iterable[Suspicion] = (),
    notes: Iterable[str] = (),
) -> Transcript:
    """A transcript of ``segments``, those without text left out."""
    kept = tuple(segment for segment in segments if segment.text)
    return Transcript(
        text=join_texts(segment.text for segment in kept),
        segments=kept,
        language=language,
        status="ok" if kept else "no_speech",
        duration=duration,
        model=model,
        suspected=tuple(suspected),
        notes=tuple(notes),
    )


def join_texts(texts: Iterable[str]) -> str:
    """Join pieces of text with spaces, or with nothing beside characters that take none: those of a
    script written without spaces, digits and signs next to them included (``我今年25岁``)."""
    joined = ""
    for text in texts:
        if joined and text and _spaced(joined[-1], text[0]):
            joined += " "
        joined += text
    return joined


def _spaced(before: str, after: str) -> bool:
    for one, other in ((before, after), (after, before)):
        if _unspaced(one) and (_unspaced(other) or not other.isalpha()):
            return False
    return True


def _unspaced(character: str) -> bool:
    """Whether a character belongs to a script written without spaces: han, kana, full width."""
    code = ord(character)
    return 0x2E80 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0x3FFFF


_TRANSCRIPT_KEYS = (
    "format", "version", "model", "language", "status", "duration", "text", "segments",
)  # fmt: skip
_SEGMENT_KEYS = ("text", "start", "end", "confidence", "words")
_WORD_KEYS = ("text", "start", "end", "confidence", "source")
_SUSPICION_KEYS = ("text", "start", "end", "reason", "removed")
_DECODED_KEYS = ("temperature", "avg_logprob", "compression_ratio", "no_speech_prob")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _segment_dict(segment: Segment) -> dict[str, Any]:
    values: dict[str, Any] = {
        "text": segment.text,
        "start": _rounded(segment.start),
        "end": _rounded(segment.end),
        "confidence": _rounded(segment.confidence),
        "words": [_word_dict(word) for word in segment.words],
    }
    if segment.language is not None:
        values["language"] = segment.language
    if segment.speaker is not None:
        values["speaker"] = segment.speaker
    if segment.decoded is not None:
        values["decoded"] = {k: _rounded(getattr(segment.decoded, k)) for k in _DECODED_KEYS}
    return values


def _word_dict(word: Word) -> dict[str, Any]:
    values: dict[str, Any] = {
        "text": word.text,
        "start": _rounded(word.start),
        "end": _rounded(word.end),
        "confidence": _rounded(word.confidence),
        "source": word.source,
    }
    if word.chars:
        values["chars"] = [[_rounded(start), _rounded(end)] for start, end in word.chars]
    if word.speaker is not None:
        values["speaker"] = word.speaker
    return values


def _check_keys(values: Any, keys: tuple[str, ...], where: str, more: tuple[str, ...] = ()) -> None:
    """Refuse all but an object with ``keys``, of which some of ``more`` may be missing."""
    place = f"transcript: {where + ': ' if where else ''}"
    if not isinstance(values, Mapping):
        raise InputError(f"{place}not a JSON object")
    for key in values:
        if key not in (*keys, *more):
            raise InputError(f"{place}unknown key {key!r}{nearest(str(key), (*keys, *more))}")
    for key in keys:
        if key not in values:
            raise InputError(f"{place}{key!r} is missing")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"transcript: {where} is not a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"transcript: {where} is not a string")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InputError(f"transcript: {where} has half of a character")
    return value


def _number(value: Any, where: str) -> float:
    with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
    raise InputError(f"transcript: {where} is not a number")


def _seconds(value: Any, where: str) -> float:
    number = _number(value, where)
    if number < 0:
        raise InputError(f"transcript: {where} is negative")
    return number


def _confidence(value: Any, where: str) -> float | None:
    number = None if value is None else _number(value, where)
    if number is not None and not 0 <= number <= 1:
        raise InputError(f"transcript: {where} is not between 0 and 1")
    return number


def _span(values: Mapping[str, Any], where: str) -> tuple[float, float]:
    start = _seconds(values["start"], f"{where}.start")
    end = _seconds(values["end"], f"{where}.end")
    if end < start:
        raise InputError(f"transcript: {where} ends before it starts")
    return start, end


def _read_segment(values: Any, where: str, version: int) -> Segment:
    more = ("language", "speaker", "decoded") if version > 2 else ()
    _check_keys(values, _SEGMENT_KEYS, where, more)
    start, end = _span(values, where)
    words = _list(values["words"], f"{where}.words")
    return Segment(
        text=_text(values["text"], f"{where}.text"),
        start=start,
        end=end,
        confidence=_confidence(values["confidence"], f"{where}.confidence"),
        words=tuple(
            _read_word(item, f"{where}.words[{n}]", version) for n, item in enumerate(words)
        ),
        language=_text(values["language"], f"{where}.language") if "language" in values else None,
        speaker=_text(values["speaker"], f"{where}.speaker") if "speaker" in values else None,
        decoded=_read_decoded(values["decoded"], f"{where}.decoded")
        if "decoded" in values
        else None,
    )


def _read_decoded(values: Any, where: str) -> Decoded:
    _check_keys(values, _DECODED_KEYS, where)
    temperature, logprob, ratio, silence = (
        _number(values[key], f"{where}.{key}") for key in _DECODED_KEYS
    )
    return Decoded(temperature, logprob, ratio, silence)


def _read_suspicion(values: Any, where: str) -> Suspicion:
    _check_keys(values, _SUSPICION_KEYS, where)
    start, end = _span(values, where)
    if not isinstance(values["removed"], bool):
        raise InputError(f"transcript: {where}.removed is neither true nor false")
    return Suspicion(
        text=_text(values["text"], f"{where}.text"),
        start=start,
        end=end,
        reason=_text(values["reason"], f"{where}.reason"),
        removed=values["removed"],
    )


def _read_word(values: Any, where: str, version: int) -> Word:
    _check_keys(values, _WORD_KEYS, where, ("chars", "speaker")[: version - 1])
    start, end = _span(values, where)
    source = values["source"]
    if source not in ("aligned", "interpolated", "attention")[: 3 if version > 2 else 2]:
        raise InputError(f"transcript: {where}.source is {source!r}")
    text = _text(values["text"], f"{where}.text")
    return Word(
        text=text,
        start=start,
        end=end,
        confidence=_confidence(values["confidence"], f"{where}.confidence"),
        source=source,
        chars=_read_chars(values["chars"], f"{where}.chars", text) if "chars" in values else (),
        speaker=_text(values["speaker"], f"{where}.speaker") if "speaker" in values else None,
    )


def _read_chars(values: Any, where: str, text: str) -> tuple[tuple[float, float], ...]:
    pairs = _list(values, where)
    if len(pairs) != len(text):
        raise InputError(f"transcript: {where} has {len(pairs)} times for {len(text)} characters")
    chars = []
    for number, pair in enumerate(pairs):
        if len(_list(pair, f"{where}[{number}]")) != 2:
            raise InputError(f"transcript: {where}[{number}] is not a start and an end")
        chars.append(_span({"start": pair[0], "end": pair[1]}, f"{where}[{number}]"))
    return tuple(chars)
