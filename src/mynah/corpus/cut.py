"""The nouns of speech data, as lhotse has them: Recording, Supervision, Cut.

A Recording is audio somewhere: a file, a URL, or a range of bytes inside an archive. A Supervision
is what is known of a stretch of it: words, speaker, language. A Cut is the stretch that is used,
with its supervisions. Times are seconds.

A manifest line is a flat row of named values; :func:`cut_from_row` and :func:`row_from_cut` go
between the two.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mynah.corpus.storage import is_url, join
from mynah.errors import InputError


@dataclass(frozen=True, slots=True)
class Recording:
    """Audio in a file, at a URL, or in ``byte_size`` bytes from ``byte_start`` of an archive."""

    id: str
    source: str  # path or URL
    duration: float | None = None  # seconds; None: not known before decoding
    rate: int | None = None  # hertz
    byte_start: int = 0
    byte_size: int | None = None  # None: up to the end
    data: bytes | None = field(default=None, repr=False)  # the audio itself, from a stream

    @property
    def in_archive(self) -> bool:
        """Whether the audio is a range of bytes of ``source`` rather than all of it."""
        return self.byte_start > 0 or self.byte_size is not None


@dataclass(frozen=True, slots=True)
class Supervision:
    """What is known of a stretch of a cut; ``start`` is counted from the start of the cut."""

    text: str = ""
    speaker: str = ""
    language: str = ""
    start: float = 0.0
    duration: float | None = None  # seconds; None: up to the end of the cut


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch of a recording and what is known of it."""

    id: str
    recording: Recording
    start: float = 0.0  # seconds into the recording
    duration: float | None = None  # seconds; None: up to the end, and not known
    channel: int | None = None  # None: all channels mixed
    supervisions: tuple[Supervision, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)  # the manifest's other columns

    @property
    def text(self) -> str:
        """The words of all supervisions in their order."""
        if len(self.supervisions) == 1:
            return self.supervisions[0].text
        return " ".join(s.text for s in self.supervisions if s.text)

    @property
    def speaker(self) -> str:
        """The speakers of all supervisions, joined by ``+``."""
        return "+".join(dict.fromkeys(s.speaker for s in self.supervisions if s.speaker))

    @property
    def language(self) -> str:
        """The language of the first supervision that has one."""
        return next((s.language for s in self.supervisions if s.language), "")

    @property
    def whole(self) -> bool:
        """Whether the cut is the whole recording."""
        if self.start:
            return False
        known = self.recording.duration
        return self.duration is None or (known is not None and self.duration >= known - 5e-4)

    def value(self, column: str) -> str:
        """The value of a manifest column as a string; empty when there is none."""
        if column in ("text", "speaker", "language", "id"):
            return str(getattr(self, column))
        if column == "path":
            return self.recording.source
        if column == "duration":
            return "" if self.duration is None else repr(self.duration)
        return self.columns.get(column, "")


# Names of the same column in the manifests of others (WeNet, NeMo, Kaldi-like tables).
ALIASES = {
    "key": "id",
    "utt": "id",
    "wav": "path",
    "audio": "path",
    "audio_filepath": "path",
    "txt": "text",
    "spk": "speaker",
    "lang": "language",
    "offset": "start",
}
_NUMBERS = frozenset(
    ("start", "end", "duration", "channel", "rate", "byte_start", "byte_size", "recording_duration")
)
_WORDS = frozenset(("id", "path", "speaker", "text", "language", "supervisions"))
KNOWN = _NUMBERS | _WORDS  # columns that mean something


def cut_from_row(row: Mapping[str, Any], base: str = "") -> Cut:
    """The cut that a manifest row describes; relative paths are taken from the folder ``base``.

    Raises:
        InputError: no path, or a number that is not one; the line does not name the manifest.
    """
    values = row
    if ALIASES.keys() & row.keys():
        values = {ALIASES.get(k, k) if ALIASES.get(k) not in row else k: v for k, v in row.items()}
    path = values.get("path")
    if not isinstance(path, str) or not path:
        raise InputError("has no path")
    if path.endswith("|") or path.startswith("pipe:"):
        raise InputError(f"{path!r} is a command; mynah runs none: convert it to files")
    name = str(values.get("id") or "") or posixpath.splitext(posixpath.basename(path))[0]
    number = {k: _number(k, values[k]) for k in _NUMBERS & values.keys()}
    start, end, duration = number.get("start") or 0.0, number.get("end"), number.get("duration")
    if duration is None and end is not None:
        duration = end - start
    if start < 0 or (duration is not None and duration < 0):
        raise InputError("has a negative time")
    known = number.get("recording_duration")
    if known is None and not start and end is None:
        known = duration
    recording = Recording(
        id=name,
        source=join(base, path),
        duration=known,
        rate=_whole(number.get("rate")),
        byte_start=_whole(number.get("byte_start")) or 0,
        byte_size=_whole(number.get("byte_size")),
    )
    return Cut(
        id=name,
        recording=recording,
        start=start,
        duration=duration,
        channel=_whole(number.get("channel")),
        supervisions=_supervisions(values),
        columns={k: _text(values[k]) for k in values if k not in KNOWN and values[k] is not None},
    )


def _supervisions(values: Mapping[str, Any]) -> tuple[Supervision, ...]:
    several = values.get("supervisions")
    if not isinstance(several, (list, tuple)):
        return (
            Supervision(
                _text(values.get("text")), _text(values.get("speaker")),
                _text(values.get("language")),
            ),
        )  # fmt: skip
    return tuple(
        Supervision(
            text=_text(s.get("text")),
            speaker=_text(s.get("speaker")),
            language=_text(s.get("language")),
            start=_number("start", s.get("start")) or 0.0,
            duration=_number("duration", s.get("duration")),
        )
        for s in several
    )


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _number(key: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{key} is {value!r}, not a number") from None
    if not math.isfinite(number):
        raise InputError(f"{key} is {value!r}, not a number")
    return number


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def row_from_cut(cut: Cut, base: str = "") -> dict[str, Any]:
    """The manifest row of a cut; paths inside the folder ``base`` become relative to it."""
    source = cut.recording.source
    if base and not is_url(source) and source.startswith(base.rstrip("/") + "/"):
        source = source[len(base.rstrip("/")) + 1 :]
    row: dict[str, Any] = {"id": cut.id, "path": source, "speaker": cut.speaker}
    row["duration"] = None if cut.duration is None else round(cut.duration, 6)
    row["text"] = cut.text
    recording = cut.recording
    optional: dict[str, Any] = {
        "start": round(cut.start, 6) or None,
        "channel": cut.channel,
        "language": cut.language or None,
        "rate": recording.rate,
        "byte_start": recording.byte_start if recording.in_archive else None,
        "byte_size": recording.byte_size,
        "recording_duration": recording.duration if not cut.whole else None,
    }
    if len(cut.supervisions) > 1:
        optional["supervisions"] = [
            {k: getattr(s, k) for k in Supervision.__slots__ if getattr(s, k) not in ("", None)}
            for s in cut.supervisions
        ]
    row.update({k: v for k, v in optional.items() if v is not None})
    row.update(cut.columns)
    return row
