"""Subtitles from a transcript: what is on the screen, when, and in which lines.

SubRip has no escapes, so what its readers would take for structure is replaced; WebVTT has the
character references of https://www.w3.org/TR/webvtt1/.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mynah.errors import ConfigError
from mynah.runtime.result import Segment, Transcript, Word

LINE_WIDTH = 42  # characters, the usual limit of subtitles
LINES = 2  # at once

_NO_TEXT = ("Cc", "Cs")  # control characters, halves of characters

Mark = tuple[int, int]  # first and one past the last character of a line that is highlighted


@dataclass(frozen=True)
class Layout:
    """How subtitles are laid out; the first four as the options of whisper of these names.

    Attributes:
        max_line_width: characters of a line; by default 42, or without limit where
            ``max_words_per_line`` is given.
        max_line_count: lines at once, by default two.
        max_words_per_line: words at once, in one line; no effect with ``max_line_width``.
        highlight_words: underline each word while it is spoken.
        longest: seconds at once.
        pause: a silence of so many seconds starts another subtitle.

    Raises:
        ConfigError: a limit that is not above 0.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False
    longest: float = 6.0
    pause: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "max_line_width", "max_line_count", "max_words_per_line", "longest", "pause",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: {value} is not above 0")

    @property
    def width(self) -> int | None:
        """Characters of a line; ``None``: any number."""
        if self.max_line_width is None and self.max_words_per_line is None:
            return LINE_WIDTH
        return self.max_line_width

    @property
    def lines(self) -> int:
        """Lines at once."""
        return LINES if self.max_line_count is None else self.max_line_count

    @property
    def words(self) -> int | None:
        """Words at once; ``None``: any number."""
        return self.max_words_per_line if self.max_line_width is None else None


@dataclass(frozen=True)
class Cue:
    """What is on the screen at once; ``start`` and ``end`` in milliseconds, a mark a line."""

    start: int
    end: int
    lines: tuple[str, ...]
    marks: tuple[Mark, ...] = ()  # empty: nothing is highlighted


@dataclass(frozen=True)
class _Piece:
    """The text of a subtitle, and its words: start, end (seconds), where in the text."""

    text: str
    start: float
    end: float
    words: tuple[tuple[float, float, int, int], ...] = ()


def cues(transcript: Transcript, layout: Layout | None = None) -> Iterator[Cue]:
    """Cut the transcript into subtitles.

    A new one starts with a segment, after a silence, when the lines are full, or after six seconds.
    Cues do not overlap, and each lasts at least a millisecond.
    """
    layout = layout or Layout()
    last = 0
    for segment in transcript.segments:
        for piece in _pieces(segment, layout):
            if not piece.text:
                continue
            for start, end, mark in _moments(piece, layout):
                first = max(start, last)
                last = max(end, first + 1)
                spans = wrap(piece.text, layout.width)
                lines = tuple(piece.text[a:b] for a, b in spans)
                marks = () if mark is None else tuple(_within(mark, span) for span in spans)
                yield Cue(first, last, lines, marks)


def _moments(piece: _Piece, layout: Layout) -> Iterator[tuple[int, int, Mark | None]]:
    """Start, end and what is highlighted, one after another, while the text stays."""
    at, close = _milliseconds(piece.start), _milliseconds(piece.end)
    if layout.highlight_words:
        for start, end, first, stop in piece.words:
            begin = max(_milliseconds(start), at)
            if begin > at:
                yield at, begin, None
            at = max(_milliseconds(end), begin + 1)
            yield begin, at, (first, stop)
    if at < close or not layout.highlight_words or not piece.words:
        yield at, close, None


def _within(mark: Mark, span: tuple[int, int]) -> Mark:
    first, stop = max(mark[0], span[0]) - span[0], min(mark[1], span[1]) - span[0]
    return (first, stop) if first < stop else (0, 0)


def _pieces(segment: Segment, layout: Layout) -> Iterator[_Piece]:
    """What of a segment is shown at once."""
    if not segment.words:
        text = labelled(segment.speaker, plain(segment.text)) if segment.text else ""
        yield _Piece(text, segment.start, segment.end)
        return
    spans, speakers = word_spans(segment.text, segment.words), shown_speakers(segment)
    group: list[int] = []
    for number in range(len(segment.words)):
        same = not group or speakers[number] == speakers[group[-1]]
        speaker = speakers[group[0]] if group else None
        if group and not (same and _fits(segment, spans, group, number, layout, speaker)):
            yield _piece(segment, spans, group, speaker)
            group = []
        group.append(number)
    yield _piece(segment, spans, group, speakers[group[0]])


def _fits(
    segment: Segment, spans: Sequence[tuple[int, int]], group: list[int], new: int,
    layout: Layout, speaker: str | None,
) -> bool:  # fmt: skip
    first, before, word = segment.words[group[0]], segment.words[group[-1]], segment.words[new]
    text = plain(segment.text[spans[group[0]][0] : _stop(segment, spans, new)])
    text = labelled(speaker, text)
    return (
        word.start - before.end < layout.pause
        and word.end - first.start <= layout.longest
        and (layout.words is None or len(group) < layout.words)
        and len(wrap(text, layout.width)) <= layout.lines
    )


def _stop(segment: Segment, spans: Sequence[tuple[int, int]], word: int) -> int:
    """Where a word ends in the text; what follows it up to the next (punctuation) is its own."""
    return len(segment.text) if word + 1 == len(spans) else spans[word + 1][0]


def _piece(
    segment: Segment, spans: Sequence[tuple[int, int]], group: list[int], speaker: str | None
) -> _Piece:
    first, last = group[0], group[-1]
    begin, stop = 0 if first == 0 else spans[first][0], _stop(segment, spans, last)
    label = labelled(speaker, "")
    text = label + plain(segment.text[begin:stop])
    shown = [plain(segment.words[n].text) for n in group]
    words, position = [], len(label)
    for number, spoken in zip(group, shown, strict=True):
        found = text.find(spoken, position) if spoken else -1
        if found >= 0:
            position = found + len(spoken)
            word = segment.words[number]
            words.append((word.start, word.end, found, position))
    return _Piece(text, segment.words[first].start, segment.words[last].end, tuple(words))


def word_spans(text: str, words: Sequence[Word]) -> list[tuple[int, int]]:
    """Where each word stands in ``text``: first and one-past-last character."""
    spans, position = [], 0
    for word in words:
        found = text.find(word.text, position)
        start = found if found >= 0 else position
        position = start + len(word.text) if found >= 0 else position
        spans.append((start, position))
    return spans


def labelled(speaker: str | None, text: str) -> str:
    """``[SPEAKER_00]: text``, as WhisperX writes it."""
    return text if speaker is None else f"[{speaker}]: {text}"


def has_speakers(transcript: Transcript) -> bool:
    """Whether anything in the transcript has a speaker."""
    segments = transcript.segments
    return any(s.speaker is not None or any(w.speaker for w in s.words) for s in segments)


def shown_speakers(segment: Segment) -> list[str | None]:
    """Under whose name each word of a segment is shown: words of nobody stand with those before
    them, at the start with those behind."""
    own = [word.speaker for word in segment.words]
    now = next((speaker for speaker in own if speaker is not None), None)
    shown = []
    for speaker in own:
        now = now if speaker is None else speaker
        shown.append(now)
    return shown


def stretches(segment: Segment) -> Iterator[tuple[float, float, str, str | None]]:
    """Start, end, text and speaker of each stretch of a segment in which one speaker speaks."""
    shown = shown_speakers(segment)
    if len(set(shown)) < 2:
        speaker = shown[0] if shown and shown[0] is not None else segment.speaker
        yield segment.start, segment.end, segment.text, speaker
        return
    spans = word_spans(segment.text, segment.words)
    first = 0
    for stop in range(1, len(shown) + 1):
        if stop < len(shown) and shown[stop] == shown[first]:
            continue
        begin = spans[first][0] if first else 0
        end = spans[stop][0] if stop < len(shown) else len(segment.text)
        words = segment.words[first:stop]
        yield words[0].start, words[-1].end, segment.text[begin:end].strip(), shown[first]
        first = stop


def plain(text: str) -> str:
    """``text`` in one line: white space of all kinds is a space, control characters go."""
    kept = (char for char in text if char.isspace() or unicodedata.category(char) not in _NO_TEXT)
    return " ".join("".join(kept).split())


def wrap(text: str, width: int | None = LINE_WIDTH) -> list[tuple[int, int]]:
    """Where a text breaks into lines: at spaces, or anywhere in a script without spaces.

    Gives first and one-past-last character of each line.
    """
    if width is None:
        return [(0, len(text))]
    lines: list[tuple[int, int]] = []
    start = 0
    for piece in text.split(" "):
        stop = start + len(piece)
        if lines and stop - lines[-1][0] <= width:
            lines[-1] = lines[-1][0], stop
        else:
            lines += [(at, min(at + width, stop)) for at in range(start, stop, width)]
        start = stop + 1
    return lines


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def clock(milliseconds: int, separator: str = ".") -> str:
    """``hh:mm:ss.mmm``; hours have two digits or more."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{separator}{rest:03d}"


def _shown(cue: Cue, escape: Callable[[str], str]) -> str:
    """The lines of a cue; what is marked is underlined."""
    lines = []
    for line, (first, stop) in zip(cue.lines, cue.marks or ((0, 0),) * len(cue.lines), strict=True):
        marked = f"<u>{escape(line[first:stop])}</u>" if first < stop else ""
        lines.append(escape(line[:first]) + marked + escape(line[stop:]))
    return "\n".join(lines)


def srt(transcript: Transcript, layout: Layout | None = None) -> str:
    """The transcript in SubRip."""
    blocks = []
    for number, cue in enumerate(cues(transcript, layout), start=1):
        times = f"{clock(cue.start, ',')} --> {clock(cue.end, ',')}"
        lines = _shown(cue, lambda text: re.sub("-+->", "->", text))
        blocks.append(f"{number}\n{times}\n{lines}\n")
    return "\n".join(blocks)


def vtt(transcript: Transcript, layout: Layout | None = None) -> str:
    """The transcript in WebVTT."""
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript, layout):
        times = f"{clock(cue.start)} --> {clock(cue.end)}"
        blocks.append(f"{times}\n{_shown(cue, _escape)}\n")
    return "\n".join(blocks)


def _escape(text: str) -> str:
    for character, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, reference)
    return text
