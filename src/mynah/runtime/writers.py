"""A transcript as text, JSON, subtitles (SubRip, WebVTT) or a table. All files are UTF-8.

SubRip has no escapes, so what its readers would take for structure is replaced; WebVTT has the
character references of https://www.w3.org/TR/webvtt1/.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mynah.errors import ConfigError, InputError, nearest
from mynah.runtime.result import Segment, Transcript, Word

LINE_LENGTH = 42  # characters, the usual limit of subtitles
LINES = 2
LONGEST_CUE = 6.0  # seconds
CUE_GAP = 1.0  # a silence of this many seconds ends a cue


@dataclass(frozen=True)
class Cue:
    """What is on the screen at once; ``start`` and ``end`` in milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


def render(transcript: Transcript, kind: str, *, words: bool = False) -> str:
    """The transcript in the format ``kind``, one of :data:`FORMATS`, with a final line break.

    ``words`` asks for a line a word, with its times, in ``txt`` and ``tsv``.

    Raises:
        ConfigError: an unknown format.
    """
    if kind not in FORMATS:
        raise ConfigError(f"unknown format {kind!r}{nearest(kind, FORMATS)}")
    return FORMATS[kind](transcript, words)


def save(transcript: Transcript, path: str | Path, kind: str, *, words: bool = False) -> None:
    """Write the transcript to ``path``, whole or not at all; missing directories are made.

    Raises:
        ConfigError: an unknown format.
        InputError: the file cannot be written.
    """
    write_atomic(Path(path), render(transcript, kind, words=words))


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and move it there, so that no reader sees half of it.

    Raises:
        InputError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(text, encoding="utf-8", newline="\n")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None


def cues(transcript: Transcript) -> Iterator[Cue]:
    """Cut the transcript into subtitles of at most two lines.

    A new one starts with a segment, after a silence, when the lines are full, or after six seconds.
    Cues do not overlap, and each lasts at least a millisecond.
    """
    last = 0
    for segment in transcript.segments:
        for text, start, end in _cue_spans(segment):
            first = max(_milliseconds(start), last)
            last = max(_milliseconds(end), first + 1)
            yield Cue(first, last, _wrap(text))


def _cue_spans(segment: Segment) -> Iterator[tuple[str, float, float]]:
    """Text, start and end of each cue of a segment."""
    if not segment.words:
        yield segment.text, segment.start, segment.end
        return
    spans = word_spans(segment.text, segment.words)
    group: list[int] = []
    for number in range(len(segment.words)):
        if group and not _fits(segment, spans, group, number):
            yield _group_text(segment, spans, group)
            group = []
        group.append(number)
    yield _group_text(segment, spans, group)


def _fits(segment: Segment, spans: Sequence[tuple[int, int]], group: list[int], new: int) -> bool:
    first, before, word = segment.words[group[0]], segment.words[group[-1]], segment.words[new]
    text = segment.text[spans[group[0]][0] : spans[new][1]]
    return (
        word.start - before.end < CUE_GAP
        and word.end - first.start <= LONGEST_CUE
        and len(_wrap(text)) <= LINES
    )


def _group_text(
    segment: Segment, spans: Sequence[tuple[int, int]], group: list[int]
) -> tuple[str, float, float]:
    first, last = group[0], group[-1]
    begin = 0 if first == 0 else spans[first][0]
    # what follows the last word and precedes the next (punctuation) stays with the last
    stop = len(segment.text) if last + 1 == len(spans) else spans[last + 1][0]
    text = segment.text[begin:stop].strip()
    return text, segment.words[first].start, segment.words[last].end


def word_spans(text: str, words: Sequence[Word]) -> list[tuple[int, int]]:
    """Where each word stands in ``text``: first and one-past-last character."""
    spans, position = [], 0
    for word in words:
        found = text.find(word.text, position)
        start = found if found >= 0 else position
        position = start + len(word.text) if found >= 0 else position
        spans.append((start, position))
    return spans


def _wrap(text: str) -> tuple[str, ...]:
    """Break a text into lines at spaces, or anywhere in a script without spaces."""
    lines: list[str] = []
    for piece in " ".join(text.split()).split(" "):
        while True:
            if lines and len(lines[-1]) + 1 + len(piece) <= LINE_LENGTH:
                lines[-1] += f" {piece}"
                break
            lines.append(piece[:LINE_LENGTH])
            piece = piece[LINE_LENGTH:]
            if not piece:
                break
    return tuple(lines)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def clock(milliseconds: int, separator: str = ".") -> str:
    """``hh:mm:ss.mmm``; hours have two digits or more."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{separator}{rest:03d}"


def _txt(transcript: Transcript, words: bool) -> str:
    if not words:
        return "".join(f"{' '.join(segment.text.split())}\n" for segment in transcript.segments)
    return "".join(
        f"{word.start:8.2f} {word.end:8.2f}  "
        f"{'    ' if word.confidence is None else f'{word.confidence:4.2f}'}  {word.text}\n"
        for word in transcript.words
    )


def _json(transcript: Transcript, words: bool) -> str:
    return transcript.to_json() + "\n"


def _srt(transcript: Transcript, words: bool) -> str:
    blocks = []
    for number, cue in enumerate(cues(transcript), start=1):
        times = f"{clock(cue.start, ',')} --> {clock(cue.end, ',')}"
        lines = "\n".join(line.replace("-->", "->") for line in cue.lines)
        blocks.append(f"{number}\n{times}\n{lines}\n")
    return "\n".join(blocks)


def _vtt(transcript: Transcript, words: bool) -> str:
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript):
        lines = "\n".join(cue.lines)
        for character, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            lines = lines.replace(character, reference)
        blocks.append(f"{clock(cue.start)} --> {clock(cue.end)}\n{lines}\n")
    return "\n".join(blocks)


def _tsv(transcript: Transcript, words: bool) -> str:
    rows: Sequence[Segment | Word] = transcript.words if words else transcript.segments
    lines = ["start\tend\tconfidence\ttext"]
    for row in rows:
        confidence = "" if row.confidence is None else f"{row.confidence:.3f}"
        text = " ".join(row.text.split())  # no tab or line break can be within
        lines.append(f"{row.start:.3f}\t{row.end:.3f}\t{confidence}\t{text}")
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Transcript, bool], str]] = {
    "txt": _txt,
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
}
