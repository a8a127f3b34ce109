"""Readable text: what a recogniser wrote, with punctuation, casing, written numbers, one script.

Two things look at the spoken words, and neither sees what the other does: a punctuation model says
which mark follows each word and how the word is cased, and the grammars of inverse normalisation
say which words are a number. Numbers do not reach across a full stop, question or exclamation
mark; a mark inside a number is dropped, and the one after its last word stays. So there is no
order of the two to get wrong, and either may be off. Where numbers are as in print, so are ``Mr.``
and ``Mrs.`` before a name.

Times stay: a mark belongs to the word before it, casing changes the word, and a number takes the
start of its first word and the end of its last; its confidence is the geometric mean of theirs
(``None`` where one has none), and its times are ``aligned`` if all of theirs are. Text that has
marks already is left as it is, numbers aside, and a word with capitals keeps them, unless all words
are in capitals.

Chinese comes in the script that is wanted: simplified before all else, since model and grammars
know that best, and traditional after it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mynah.errors import ConfigError
from mynah.runtime.punctuator import Punctuator, load_punctuator
from mynah.runtime.result import Segment, Transcript, Word, join_texts
from mynah.text.characters import ALONE
from mynah.text.inverse import InverseNormalizer
from mynah.text.punctuation import (
    CHINESE,
    LOWER,
    SENTENCE_ENDS,
    WESTERN,
    to_units,
    with_case,
)
from mynah.text.script import Script, ScriptConverter, is_chinese
from mynah.text.titles import PRINTED, is_english

CONTEXT = 64  # words before a text that are looked at

_MARKS = frozenset([*WESTERN, *CHINESE]) - {""}
_ENDS = tuple(marks[n] for marks in (WESTERN, CHINESE) for n in SENTENCE_ENDS)
_SPLIT = re.compile(r"^(\W*)(.*?)(\W*)$", re.S)
_PLAIN_WORD = re.compile(rf"{ALONE.pattern}|(?:(?!{ALONE.pattern})\S)+")
_CLOSING = "\"'”’」』)】》"


@dataclass(frozen=True)
class _Group:
    """Words ``first`` to one past the last, written as ``text``."""

    first: int
    stop: int
    text: str


@dataclass(frozen=True)
class _Label:
    """What the model says of a word: class of the mark after it, casing of each of its units."""

    mark: int = 0
    cases: tuple[int, ...] = ()


class Readable:
    """Rewrites segments, transcripts and plain texts; may be used from several threads.

    Attributes:
        language: the code that it was made for; empty where each text says its own.
        punctuator: the model, None where punctuation and casing are off.
        inverse: the grammars, None where numbers stay as they were spoken.
        script: rewrites Chinese characters, None where they stay; other languages keep theirs.
    """

    def __init__(
        self,
        language: str,
        punctuator: Punctuator | None = None,
        inverse: InverseNormalizer | None = None,
        script: ScriptConverter | None = None,
    ) -> None:
        self.language, self.punctuator, self.inverse = language, punctuator, inverse
        self.script = script
        first = script is not None and script.script == "simplified"
        self._first: ScriptConverter | None = script if first else None
        self._last: ScriptConverter | None = None if first else script

    @classmethod
    def load(
        cls,
        language: str | None,
        punctuation: bool | None = True,
        itn: bool | None = True,
        *,
        model: str | Path | None = None,
        script: Script | None = None,
    ) -> Readable:
        """What a request asks for; ``None`` is "where there is something for the language".

        ``model`` is the folder of a punctuation model, in place of the bundled one. Without a
        ``language`` nothing but a ``script`` can be asked for.

        Raises:
            ConfigError: something was asked for that the language does not have.
            ModelError: the model cannot be used.
            MissingDependency: numbers or a script were asked for, and wetext or OpenCC is not
                installed.
        """
        if script is not None and language is not None and not is_chinese(language):
            raise ConfigError(f"script: {language!r} is not written in Chinese characters")
        converter = None if script is None else ScriptConverter(script)
        punctuator: Punctuator | None = None
        inverse: InverseNormalizer | None = None
        if language is None:
            if punctuation or itn:
                raise ConfigError("punctuate, itn: of which language is not said")
            return cls("", script=converter)
        if punctuation or punctuation is None:
            try:
                punctuator = load_punctuator(language, model=model)
            except ConfigError:
                if punctuation:
                    raise
        if itn or itn is None:
            try:
                inverse = InverseNormalizer(language)
            except ConfigError:
                if itn:
                    raise
        return cls(language, punctuator, inverse, converter)

    def __call__(self, segment: Segment, before: str = "") -> Segment:
        """The segment, rewritten; ``before`` is the text before it, as it was written.

        Without it the segment is taken to begin a sentence.
        """
        return self._segments([segment], before, self.language)[0]

    def transcript(self, transcript: Transcript) -> Transcript:
        """The transcript, rewritten: sentences may go on from one segment to the next."""
        language = transcript.language or self.language
        segments = tuple(self._segments(transcript.segments, "", language))
        text = join_texts(segment.text for segment in segments)
        return dataclasses.replace(transcript, segments=segments, text=text)

    def text(self, text: str) -> str:
        """A plain text, line by line; each line is taken to begin a sentence."""
        text = text if self._first is None else self._first(text)
        if self._rewrites:
            text = "".join(self._line(line) for line in text.splitlines(keepends=True))
        return text if self._last is None else self._last(text)

    def partial(self, text: str, words: tuple[Word, ...]) -> tuple[str, tuple[Word, ...]]:
        """What is shown of a segment that goes on: in its script, and no more than that."""
        if self.script is None:
            return text, words
        return self.script(text), _words_in_script(words, self.script)

    @property
    def _rewrites(self) -> bool:
        return self.punctuator is not None or self.inverse is not None

    def _line(self, line: str) -> str:
        places = [(m.start(), m.end()) for m in _PLAIN_WORD.finditer(line)]
        words = [line[start:stop] for start, stop in places]
        written, at = "", 0
        for group in self._rewrite(words, [False] * len(words), ""):
            start, stop = places[group.first][0], places[group.stop - 1][1]
            written += line[at:start] + group.text
            at = stop
        return written + line[at:]

    # -- segments --------------------------------------------------------------------------------

    def _segments(self, segments: Sequence[Segment], before: str, language: str) -> list[Segment]:
        """Segments whose language is ``language``, where they do not say another."""
        segments = _in_script(segments, language, self._first)
        if self._rewrites:
            segments = self._rewritten(segments, before)
        return _in_script(segments, language, self._last)

    def _rewritten(self, segments: Sequence[Segment], before: str) -> list[Segment]:
        texts = [_words_of(segment) for segment in segments]
        words = [word for group in texts for word in group]
        last = [place == len(group) - 1 for group in texts for place in range(len(group))]
        groups = self._rewrite(words, last, before)
        result, first, rest = [], 0, deque(groups)
        for segment, spoken in zip(segments, texts, strict=True):
            stop = first + len(spoken)
            mine = []
            while rest and rest[0].first < stop:
                group = rest.popleft()
                mine.append(_Group(group.first - first, group.stop - first, group.text))
            result.append(_rewritten(segment, spoken, mine))
            first = stop
        return result

    # -- words -----------------------------------------------------------------------------------

    def _rewrite(self, words: Sequence[str], last: Sequence[bool], before: str) -> list[_Group]:
        """Every word once, in order; numbers do not reach across a word that is ``last``."""
        parts = [_parts(word) for word in words]
        marked = any(not _MARKS.isdisjoint(lead + tail) for lead, _, tail in parts)
        labels = [_Label()] * len(words)
        cores = [core for _, core, _ in parts]
        marks: tuple[str, ...] = WESTERN
        if self.punctuator is not None and not marked:
            marks = self.punctuator.marks
            if _is_shouted(cores):
                cores = [core.lower() for core in cores]
            labels = self._labels(cores, before)
        spans = []
        if self.inverse is not None:
            borders = [
                end or label.mark in SENTENCE_ENDS or not _MARKS.isdisjoint(tail)
                for end, label, (_, _, tail) in zip(last, labels, parts, strict=True)
            ]
            spans = self.inverse([core.lower() for core in cores], borders)
        inside = {place: span for span in spans for place in range(span.first, span.stop)}
        groups = []
        for place, (lead, _, tail) in enumerate(parts):
            span = inside.get(place)
            first = place if span is None else span.first
            if span is not None and place < span.stop - 1:
                continue
            if span is None:
                text = _cased(cores[place], labels[place].cases)
            else:
                text = _number(span.text, cores[first : span.stop], labels[first : span.stop])
                lead = parts[first][0]
            mark = marks[labels[place].mark]
            if not mark and not tail and place + 1 < len(parts) and not last[place]:
                text = self._title(text, _cased(cores[place + 1], labels[place + 1].cases))
            if mark and not (mark == "." and text.endswith(".")):
                tail += mark
            groups.append(_Group(first, place + 1, lead + text + tail))
        return groups

    def _title(self, word: str, following: str) -> str:
        """``Mister`` before a name as in print, where numbers are."""
        if self.inverse is None or not is_english(self.language) or not following[:1].isupper():
            return word
        return PRINTED.get(word.lower(), word)

    def _labels(self, cores: Sequence[str], before: str) -> list[_Label]:
        assert self.punctuator is not None
        pieces = [to_units(core, self.language) for core in cores]
        past = to_units(" ".join(before.split()[-CONTEXT:]), self.language)[-CONTEXT:]
        units = past + [unit for piece in pieces for unit in piece]
        begins = not past or before.rstrip().rstrip(_CLOSING).endswith(_ENDS)
        marks, cases = self.punctuator.labels(units, past=len(past), begins=begins)
        labels, at = [], 0
        for piece in pieces:
            found = tuple(cases[at : at + len(piece)])
            at += len(piece)
            labels.append(_Label(marks[at - 1], found) if piece else _Label())
        return labels


def _in_script(
    segments: Sequence[Segment], language: str, script: ScriptConverter | None
) -> list[Segment]:
    if script is None:
        return list(segments)
    return [
        dataclasses.replace(
            segment, text=script(segment.text), words=_words_in_script(segment.words, script)
        )
        if is_chinese(segment.language or language)
        else segment
        for segment in segments
    ]


def _words_in_script(words: Sequence[Word], script: ScriptConverter) -> tuple[Word, ...]:
    texts = script.words([word.text for word in words])
    return tuple(
        dataclasses.replace(
            word, text=text, chars=word.chars if len(text) == len(word.text) else ()
        )
        for word, text in zip(words, texts, strict=True)
    )


def _parts(word: str) -> tuple[str, str, str]:
    """What stands before the first letter or digit of a word, from there to the last, and after."""
    match = _SPLIT.match(word)
    assert match is not None
    return match[1], match[2], match[3]


def _is_shouted(cores: Sequence[str]) -> bool:
    """Whether there are several words with letters and all are in capitals."""
    text = [core for core in cores if core.lower() != core.upper()]
    return len(text) > 1 and all(core == core.upper() for core in text)


def _cased(core: str, cases: Sequence[int]) -> str:
    if not cases:
        return core
    pieces = re.split(r"([-‐–])", core)
    if len(pieces) == 2 * len(cases) - 1:  # well-known: each of its own
        for place, case in enumerate(cases):
            pieces[2 * place] = with_case(pieces[2 * place], case)
        return "".join(pieces)
    return with_case(core, cases[0])


def _number(text: str, cores: Sequence[str], labels: Sequence[_Label]) -> str:
    """A written number, words that stayed in it (``march 3``) cased as the model says."""
    cases = {
        core.lower(): label.cases[0]
        for core, label in zip(cores, labels, strict=True)
        if label.cases
    }
    return " ".join(with_case(word, cases.get(word, LOWER)) for word in text.split(" "))


def _words_of(segment: Segment) -> list[str]:
    """The words of a segment; those of its text, where its timed words do not spell it."""
    timed = [word.text for word in segment.words]
    if timed and "".join("".join(timed).split()) == "".join(segment.text.split()):
        return timed
    return _PLAIN_WORD.findall(segment.text)


def _rewritten(segment: Segment, spoken: Sequence[str], groups: Sequence[_Group]) -> Segment:
    """The segment with its words grouped; its times and confidence stay."""
    text, end = "", ""
    for group in groups:
        start = spoken[group.first]
        text += (" " if text and " " in join_texts([end, start]) else "") + group.text
        end = spoken[group.stop - 1]
    if len(spoken) != len(segment.words) or any(
        word.text != said for word, said in zip(segment.words, spoken, strict=True)
    ):
        return dataclasses.replace(segment, text=text)
    words = tuple(_merged(segment.words[g.first : g.stop], g.text) for g in groups)
    return dataclasses.replace(segment, text=text, words=words)


def _merged(words: Sequence[Word], text: str) -> Word:
    if len(words) == 1:
        return dataclasses.replace(words[0], text=text)
    known = [word.confidence for word in words if word.confidence is not None]
    confidence = None
    if len(known) == len(words):
        confidence = math.exp(sum(math.log(max(c, 1e-30)) for c in known) / len(known))
    same = len({word.source for word in words}) == 1
    return Word(
        text=text,
        start=words[0].start,
        end=words[-1].end,
        confidence=None if confidence is None else min(confidence, 1.0),
        source=words[0].source if same else "interpolated",
        speaker=words[0].speaker if len({word.speaker for word in words}) == 1 else None,
    )
