"""Text, tables and subtitles byte for byte as openai-whisper writes them, from any transcript, and
JSON with the same names.

Subtitles are cut where whisper's ``--max_line_width``, ``--max_line_count`` and
``--max_words_per_line`` cut them. Two things differ, where whisper's file would be broken: line
breaks and control characters within a text become spaces, and ``-->`` becomes ``->`` also where
words have times. Speakers stand before the text as WhisperX writes them, and a change of speaker
begins a line or subtitle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mynah.runtime.result import Segment, Transcript, Word, join_texts
from mynah.runtime.subtitles import (
    Layout,
    clock,
    labelled,
    plain,
    shown_speakers,
    stretches,
    word_spans,
)

_PAUSE = 3.0  # seconds from a word to the next that start another subtitle
_ENDLESS = 1000  # characters of a line, words of a subtitle


@dataclass(frozen=True)
class _Piece:
    """A word with the white space before it."""

    text: str
    start: float  # seconds
    end: float
    speaker: str | None


Shown = tuple[float, float, str]  # start and end in seconds, text


@dataclass
class _Filling:
    """The subtitle that is being filled."""

    pieces: list[_Piece] = field(default_factory=list)
    length: int = 0  # characters of its last line
    lines: int = 1


def txt(transcript: Transcript) -> str:
    """A line a segment."""
    return "".join(
        f"{labelled(speaker, plain(text))}\n"
        for segment in transcript.segments
        for _, _, text, speaker in stretches(segment)
    )


def listing(transcript: Transcript) -> str:
    """Each segment with its times, as whisper prints it while it listens."""
    return "".join(
        f"[{_short(start)} --> {_short(end)}]  {labelled(speaker, plain(text))}\n"
        for segment in transcript.segments
        for start, end, text, speaker in stretches(segment)
    )


def tsv(transcript: Transcript) -> str:
    """Start and end of each segment in milliseconds, and its text."""
    lines = ["start\tend\ttext"]
    for segment in transcript.segments:
        for start, end, text, speaker in stretches(segment):
            shown = labelled(speaker, plain(text))
            lines.append(f"{round(1000 * start)}\t{round(1000 * end)}\t{shown}")
    return "\n".join(lines) + "\n"


def srt(transcript: Transcript, layout: Layout) -> str:
    """SubRip; an empty line ends each subtitle, the last one too."""
    return "".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(subtitles(transcript, layout), start=1)
    )


def vtt(transcript: Transcript, layout: Layout) -> str:
    """WebVTT, hours only where there are any."""
    return "WEBVTT\n\n" + "".join(
        f"{_short(start)} --> {_short(end)}\n{text}\n\n"
        for start, end, text in subtitles(transcript, layout)
    )


def as_json(transcript: Transcript, indent: int | None) -> str:
    """What whisper's ``transcribe`` gives; besides, ``suspected`` and ``notes``, where there are
    any, a ``speaker`` as WhisperX has it, the ``language`` of a segment where it may change, and
    the ``source`` of a word's times. Of a model that is no Whisper, segments lack what
    only a Whisper has."""
    segments, before = [], "1"  # a space before letters, none before hanzi
    known = transcript.to_dict()
    for number, (segment, pieces) in enumerate(
        zip(transcript.segments, _pieces(transcript.segments), strict=True)
    ):
        values: dict[str, Any] = {
            "id": number, "start": round(segment.start, 3), "end": round(segment.end, 3),
            "text": join_texts([before[-1:], segment.text])[1:],
        }  # fmt: skip
        if (decoded := segment.decoded) is not None:
            values |= {
                "seek": decoded.seek, "tokens": list(decoded.tokens),
                **known["segments"][number]["decoded"],
            }  # fmt: skip
        if segment.words:
            shown = [piece.text for piece in pieces]
            if values["text"][:1] != " ":
                shown[0] = shown[0].lstrip()
            values["words"] = [
                _word_json(word, text) for word, text in zip(segment.words, shown, strict=True)
            ]
        if segment.speaker is not None:
            values["speaker"] = segment.speaker
        if segment.language is not None:
            values["language"] = segment.language
        segments.append(values)
        before = segment.text or before
    found: dict[str, Any] = {
        "text": "".join(values["text"] for values in segments),
        "segments": segments,
        "language": transcript.language,
    }
    found |= {key: known[key] for key in ("suspected", "notes") if key in known}
    return json.dumps(found, ensure_ascii=False, indent=indent, allow_nan=False) + "\n"


def _word_json(word: Word, text: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "word": text, "start": round(word.start, 3), "end": round(word.end, 3),
    }  # fmt: skip
    if word.confidence is not None:
        values["probability"] = round(word.confidence, 4)
    if word.speaker is not None:
        values["speaker"] = word.speaker
    values["source"] = word.source
    return values


def subtitles(transcript: Transcript, layout: Layout) -> Iterator[Shown]:
    """Start, end and lines of each subtitle."""
    if not any(segment.words for segment in transcript.segments):
        for segment in transcript.segments:
            yield segment.start, segment.end, labelled(segment.speaker, _clean(segment.text))
        return
    for pieces in _filled(transcript, layout):
        yield from _moments(pieces, layout)


def _filled(transcript: Transcript, layout: Layout) -> Iterator[list[_Piece]]:
    """The words of each subtitle."""
    kept = layout.max_line_count is None or layout.max_line_width is None  # whole segments
    width = layout.max_line_width or _ENDLESS
    at_once = layout.max_words_per_line or _ENDLESS
    now = _Filling()
    before = next((word.start for word in transcript.words), 0.0)
    for pieces in _pieces(transcript.segments):
        for number, piece in enumerate(pieces):
            first = now.pieces and number % at_once == 0 and kept
            turned = now.pieces and piece.speaker != now.pieces[-1].speaker
            paused = not kept and piece.start - before > _PAUSE
            fits = 0 < now.length <= width - len(piece.text)
            if fits and not (first or turned or paused):
                now.length += len(piece.text)
                now.pieces.append(piece)
            else:
                full = layout.max_line_count is not None and (
                    paused or now.lines >= layout.max_line_count
                )
                mark = ""
                if now.pieces and (full or first or turned):
                    yield now.pieces
                    now = _Filling()
                elif now.length > 0:
                    now.lines += 1
                    mark = "\n"
                text = piece.text.strip()
                now.length = len(text)
                now.pieces.append(_Piece(mark + text, piece.start, piece.end, piece.speaker))
            before = piece.start
    if now.pieces:
        yield now.pieces


def _pieces(segments: Sequence[Segment]) -> Iterator[list[_Piece]]:
    """The words of each segment, with what stands between them in its text."""
    last = ""
    for segment in segments:
        spans, speakers = word_spans(segment.text, segment.words), shown_speakers(segment)
        found: list[_Piece] = []
        for number, word in enumerate(segment.words):
            begin = spans[number][0] if number else 0
            stop = spans[number + 1][0] if number + 1 < len(spans) else len(segment.text)
            space = begin > 0 and segment.text[begin - 1].isspace()
            if not number:
                space = not last or " " in join_texts([last[-1], segment.text[:1]])
            shown = segment.text[begin:stop]
            if not shown.startswith(word.text) and number:  # spelt otherwise in the text
                before, shown = segment.words[number - 1].text, word.text
                space = " " in join_texts([before[-1:], shown[:1]])
            text = (" " if space else "") + _clean(shown)
            found.append(_Piece(text, word.start, word.end, speakers[number]))
        if not segment.words and segment.text:
            text = " " + _clean(segment.text)
            found.append(_Piece(text, segment.start, segment.end, segment.speaker))
        last = segment.text or last
        yield found


def _moments(pieces: list[_Piece], layout: Layout) -> Iterator[Shown]:
    """A subtitle, or one for each word that is highlighted and each gap between two."""
    texts, speaker = [piece.text for piece in pieces], pieces[0].speaker
    if not layout.highlight_words:
        yield pieces[0].start, pieces[-1].end, labelled(speaker, "".join(texts))
        return
    before = pieces[0].start
    for number, piece in enumerate(pieces):
        if _clock(piece.start) != _clock(before):
            yield before, piece.start, labelled(speaker, "".join(texts))
        word = texts[number]
        space = word[: len(word) - len(word.lstrip())]
        marked = [*texts]
        marked[number] = f"{space}<u>{word.lstrip()}</u>"
        yield piece.start, piece.end, labelled(speaker, "".join(marked))
        before = piece.end


def _clean(text: str) -> str:
    """``text`` in one line without what would end it, or a subtitle."""
    return re.sub("-+->", "->", plain(text))


def _clock(seconds: float, separator: str = ".") -> str:
    return clock(max(round(seconds * 1000.0), 0), separator)


def _short(seconds: float) -> str:
    """Without the hours where there are none."""
    return _clock(seconds).removeprefix("00:")
