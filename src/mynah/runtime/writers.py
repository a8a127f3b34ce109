"""A transcript as text, JSON, subtitles, tables or annotations. All files are UTF-8.

``txt`` and ``tsv`` are for people and spreadsheets, ``json`` is all there is, ``srt`` and ``vtt``
are subtitles (:mod:`mynah.runtime.subtitles`), ``textgrid`` is what Praat opens
(https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html), ``ctm`` what NIST's scoring
tools read: recording, channel, start, duration, word, confidence, and, where there are speakers,
``lex`` and the speaker. In whisper's style, ``txt``, ``tsv``, ``srt``, ``vtt`` and ``json`` are
what openai-whisper writes (:mod:`mynah.runtime.whisper_style`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mynah.errors import ConfigError, InputError, nearest
from mynah.runtime import whisper_style
from mynah.runtime.result import Transcript
from mynah.runtime.subtitles import (
    Layout,
    has_speakers,
    labelled,
    plain,
    srt,
    stretches,
    vtt,
)
from mynah.whole import write_whole

Style = Literal["mynah", "whisper"]

# format -> what the name of its file ends in
SUFFIXES = {
    "txt": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "tsv": ".tsv",
    "textgrid": ".TextGrid", "ctm": ".ctm",
}  # fmt: skip
_TICKS = 10000  # a second in a TextGrid, of which no interval is empty


@dataclass(frozen=True)
class _How:
    """How to write."""

    words: bool
    layout: Layout
    recording: str
    indent: int | None = 2  # of json; none: on one line


def render(
    transcript: Transcript,
    kind: str,
    *,
    words: bool = False,
    layout: Layout | None = None,
    recording: str = "recording",
    style: Style = "mynah",
    indent: int | None = 2,
) -> str:
    """The transcript in the format ``kind``, one of :data:`FORMATS`, with a final line break.

    ``words`` asks for a line a word, with its times, in ``txt`` and ``tsv``; ``layout`` is that of
    subtitles; ``recording`` is the name that stands in a ``ctm``; ``indent`` is that of ``json``,
    which without is one line. The ``style`` of whisper has no
    such lines of words, and its own layout.

    Raises:
        ConfigError: an unknown format.
        InputError: a ``ctm`` of a transcript whose words have no times.
    """
    if kind not in FORMATS:
        raise ConfigError(f"unknown format {kind!r}{nearest(kind, FORMATS)}")
    formats = FORMATS if style == "mynah" else FORMATS | WHISPER_FORMATS
    return formats[kind](transcript, _How(words, layout or Layout(), recording, indent))


def save(
    transcript: Transcript,
    path: str | Path,
    kind: str,
    *,
    words: bool = False,
    layout: Layout | None = None,
    recording: str | None = None,
    style: Style = "mynah",
    indent: int | None = 2,
) -> None:
    """Write the transcript to ``path``, whole or not at all; missing directories are made.

    The name in a ``ctm`` is that of the file, unless ``recording`` gives another.

    Raises:
        ConfigError, InputError: as :func:`render`, or the file cannot be written.
    """
    path = Path(path)
    name = path.stem if recording is None else recording
    text = render(
        transcript, kind, words=words, layout=layout, recording=name, style=style, indent=indent
    )
    write_whole(path, text)


def _txt(transcript: Transcript, how: _How) -> str:
    if not how.words:
        return "".join(
            f"{labelled(speaker, plain(text))}\n"
            for segment in transcript.segments
            for _, _, text, speaker in stretches(segment)
        )
    width = max((len(word.speaker or "") for word in transcript.words), default=0)
    return "".join(
        f"{word.start:8.2f} {word.end:8.2f}  "
        f"{'    ' if word.confidence is None else f'{word.confidence:4.2f}'}  "
        f"{(word.speaker or '').ljust(width) + '  ' if width else ''}{plain(word.text)}\n"
        for word in transcript.words
    )


def _json(transcript: Transcript, how: _How) -> str:
    return transcript.to_json(indent=how.indent) + "\n"


def _tsv(transcript: Transcript, how: _How) -> str:
    known = has_speakers(transcript)
    lines = ["start\tend\tconfidence\t" + ("speaker\t" if known else "") + "text"]
    for segment in transcript.segments:
        rows = [(w.start, w.end, w.text, w.speaker, w.confidence) for w in segment.words]
        if not how.words:
            rows = [(*row, segment.confidence) for row in stretches(segment)]
        for start, end, text, speaker, confidence in rows:
            sure = "" if confidence is None else f"{confidence:.3f}"
            name = f"{speaker or ''}\t" if known else ""
            lines.append(f"{start:.3f}\t{end:.3f}\t{sure}\t{name}{plain(text)}")
    return "\n".join(lines) + "\n"


def _textgrid(transcript: Transcript, how: _How) -> str:
    words = transcript.words
    tiers = {
        "segments": _intervals((s.start, s.end, s.text) for s in transcript.segments),
        "words": _intervals((word.start, word.end, word.text) for word in words),
    }
    if any(word.chars for word in words):
        tiers["chars"] = _intervals(
            (start, end, char)
            for word in words
            for char, (start, end) in zip(word.text, word.chars, strict=False)
        )
    for name in sorted({word.speaker for word in words if word.speaker is not None}):
        own = [word for word in words if word.speaker == name]
        tiers[plain(name)] = _intervals((word.start, word.end, word.text) for word in own)
    ends = [tier[-1][1] for tier in tiers.values() if tier]
    length = max([round(transcript.duration * _TICKS), 1, *ends])
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0",
        f"xmax = {_praat(length)}", "tiers? <exists>", f"size = {len(tiers)}", "item []:",
    ]  # fmt: skip
    for number, (name, tier) in enumerate(tiers.items(), start=1):
        filled = _fill(tier, length)
        lines += [
            f"    item [{number}]:", '        class = "IntervalTier"',
            f'        name = "{_quote(name)}"',
            "        xmin = 0", f"        xmax = {_praat(length)}",
            f"        intervals: size = {len(filled)}",
        ]  # fmt: skip
        for place, (start, end, text) in enumerate(filled, start=1):
            lines += [
                f"        intervals [{place}]:", f"            xmin = {_praat(start)}",
                f"            xmax = {_praat(end)}", f'            text = "{_quote(text)}"',
            ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """Within the quotes of a TextGrid."""
    return text.replace('"', '""')


def _intervals(rows: Iterable[tuple[float, float, str]]) -> list[tuple[int, int, str]]:
    """Intervals one after another, none empty and none overlapping, in ticks."""
    found: list[tuple[int, int, str]] = []
    at = 0
    for start, end, text in rows:
        first = max(round(start * _TICKS), at)
        at = max(round(end * _TICKS), first + 1)
        found.append((first, at, plain(text)))
    return found


def _fill(tier: list[tuple[int, int, str]], length: int) -> list[tuple[int, int, str]]:
    """The tier without gaps, from 0 to ``length``."""
    filled, at = [], 0
    for start, end, text in tier:
        if start > at:
            filled.append((at, start, ""))
        filled.append((start, end, text))
        at = end
    return filled + [(at, length, "")] if at < length else filled


def _praat(ticks: int) -> str:
    return f"{ticks / _TICKS:.4f}".rstrip("0").rstrip(".")


def _ctm(transcript: Transcript, how: _How) -> str:
    if transcript.segments and not transcript.words:
        raise InputError("ctm: the transcript has no times of words")
    name = _token(how.recording).lstrip(";") or "recording"  # ;; begins a comment
    known = has_speakers(transcript)
    lines = []
    for word in sorted(transcript.words, key=lambda word: word.start):
        text = _token(word.text)
        if text:
            confidence = "" if word.confidence is None else f" {word.confidence:.4f}"
            if known:
                confidence = f"{confidence or ' NA'} lex {_token(word.speaker or '<NA>')}"
            length = max(word.end - word.start, 0.0)
            lines.append(f"{name} 1 {word.start:.3f} {length:.3f} {text}{confidence}\n")
    return "".join(lines)


def _token(text: str) -> str:
    """``text`` without white space, which would be the end of it."""
    return re.sub(r"\s+", "_", plain(text))


FORMATS: dict[str, Callable[[Transcript, _How], str]] = {
    "txt": _txt,
    "json": _json,
    "srt": lambda transcript, how: srt(transcript, how.layout),
    "vtt": lambda transcript, how: vtt(transcript, how.layout),
    "tsv": _tsv,
    "textgrid": _textgrid,
    "ctm": _ctm,
}
WHISPER_FORMATS: dict[str, Callable[[Transcript, _How], str]] = {
    "txt": lambda transcript, how: whisper_style.txt(transcript),
    "json": lambda transcript, how: whisper_style.as_json(transcript, how.indent),
    "srt": lambda transcript, how: whisper_style.srt(transcript, how.layout),
    "vtt": lambda transcript, how: whisper_style.vtt(transcript, how.layout),
    "tsv": lambda transcript, how: whisper_style.tsv(transcript),
}
