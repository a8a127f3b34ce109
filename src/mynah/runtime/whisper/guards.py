"""Text that was probably not said: found, reported and, where it is certain, taken out.

A model that continues text invents some where nobody speaks, and may say the same over and over.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeAlias

from mynah.runtime.result import Segment, Suspicion, Word
from mynah.runtime.whisper.options import WhisperOptions

Span: TypeAlias = tuple[float, float]  # seconds

# what models of subtitles say in silence, without case and punctuation
_PHRASES = """
    thank you|thank you very much|thanks for watching|thank you for watching|bye|you|bye bye
    thank you so much for watching|please subscribe|subscribe to my channel|see you next time
    like and subscribe|please subscribe to my channel|i'll see you in the next video
    subtitles by the amaraorg community|transcription by castingwords|the end|so
    untertitel der amaraorgcommunity|untertitelung des zdf 2020|vielen dank fürs zuschauen
    vielen dank|soustitrage société radiocanada
    soustitres réalisés par la communauté damaraorg|merci davoir regardé cette vidéo
    subtítulos realizados por la comunidad de amaraorg|gracias por ver el video
    gracias por ver|legendas pela comunidade amaraorg|obrigado por assistir
    sottotitoli creati dalla comunità amaraorg|sottotitoli a cura di qtss
    ondertiteld door de amaraorg gemeenschap|napisy stworzone przez społeczność amaraorg
    продолжение следует|субтитры сделал dimatorzok|спасибо за просмотр
    谢谢观看|謝謝觀看|谢谢大家|字幕由amaraorg社区提供|字幕由amaraorg社區提供
    请不吝点赞订阅转发打赏支持明镜与点点栏目|請不吝點贊訂閱轉發打賞支持明鏡與點點欄目
    ご視聴ありがとうございました|ご清聴ありがとうございました|시청해주셔서 감사합니다|구독과 좋아요
"""
SILENCE_PHRASES = frozenset(phrase.strip() for phrase in re.split(r"[|\n]", _PHRASES)) - {""}

_LONGEST = 16  # words of a phrase that may come over and over
_SEGMENTS = 4  # times that a segment, or some in turn, come in a row
_TOGETHER = 4  # segments that may come in turn
_LOOPED = 33  # characters of a loop within a word that nobody says; twice as many without letters
_NEAR = 0.3  # seconds around speech that may belong to it
_HASTY, _FASTEST = 4, 15  # words or characters that can be too many, and that a second can have
_UNITS = re.compile(
    "[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u0e00-\u0e7f]|"
    "[^\\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u0e00-\u0e7f]+"
)


@dataclass(frozen=True)
class Loop:
    """The same units over and over: of ``size`` units, ``count`` times, from unit ``first`` on."""

    first: int
    size: int
    count: int

    @property
    def is_certain(self) -> bool:
        """Whether nobody speaks so."""
        return self.count >= 8 and self.size * self.count >= 16


def normalised(text: str) -> str:
    """A text without case and punctuation, with single spaces."""
    kept = "".join(c for c in text.lower() if c.isalnum() or c.isspace() or c == "'")
    return " ".join(kept.split())


def guarded(
    segments: Sequence[Segment],
    options: WhisperOptions,
    speech: Sequence[Span] | None = None,
    seconds: float = math.inf,
) -> tuple[list[Segment], list[Suspicion]]:
    """The segments without what was surely not said, and all that was probably not.

    ``speech`` are the stretches that a voice activity detector took for speech, if one was asked;
    ``seconds`` are those of the recording.
    """
    if options.guards == "off":
        return list(segments), []
    removes = options.guards == "remove"
    suspected: list[Suspicion] = []

    def suspect(segment: Segment, text: str, reason: str, certain: bool) -> None:
        found = Suspicion(text, segment.start, segment.end, reason, certain and removes)
        suspected.append(found)

    kept: list[Segment] = []
    for segment in segments:
        reason, certain = _silence(segment, options, speech)
        if reason:
            suspect(segment, segment.text, reason, certain)
        if not (reason and certain and removes):
            kept.append(segment)
    collapsed: list[Segment] = []
    for segment in kept:
        shorter, gone, certain = _collapsed(segment, options)
        if gone:
            suspect(segment, gone, "repeated_phrase", certain)
        elif _is_hasty(segment):
            certain = _is_said_again(segment, collapsed[-1:], seconds)
            suspect(segment, segment.text, "too_fast", certain)
            if certain and removes:
                continue
        collapsed.append(shorter if gone and certain and removes else segment)
    result: list[Segment] = []
    place, texts = 0, [normalised(s.text) or s.text for s in collapsed]
    while place < len(collapsed):
        size, count = _repeated(texts, place)
        same = collapsed[place : place + size * count]
        place += len(same)
        if count < _SEGMENTS:
            result += same
            continue
        certain = _is_loop(same, count, options)
        for segment in same[size:]:
            suspect(segment, segment.text, "repeated_segment", certain)
        result += same[:size] if certain and removes else same
    return result, sorted(suspected, key=lambda one: one.start)


def _repeated(texts: Sequence[str], first: int) -> tuple[int, int]:
    """How many texts come over and over from the ``first``-th on, and how often, for the longest
    such stretch: (1, 1) where there is none."""
    best = 1, 1
    for size in range(1, _TOGETHER + 1):
        stop = first + size
        while stop < len(texts) and texts[stop] == texts[stop - size]:
            stop += 1
        count = (stop - first) // size
        if count >= _SEGMENTS and size * count > math.prod(best):
            best = size, count
    return best


def _silence(
    segment: Segment, options: WhisperOptions, speech: Sequence[Span] | None
) -> tuple[str, bool]:
    """Why a segment is taken for said by nobody, if it is, and whether that is certain."""
    if speech is not None and _heard(segment, speech) <= 0:
        return "no_speech", True
    decoded = segment.decoded
    if decoded is None or normalised(segment.text) not in SILENCE_PHRASES:
        return "", False
    nobody = 0.6 if options.no_speech_threshold is None else options.no_speech_threshold
    if decoded.no_speech_prob > nobody:
        return "silence_phrase", True
    weak = decoded.avg_logprob < -0.6 or decoded.no_speech_prob > nobody / 2
    return ("silence_phrase", False) if weak else ("", False)


def _is_hasty(segment: Segment) -> bool:
    """Whether nobody says so much in so little time."""
    size = len(_UNITS.findall(segment.text))
    return size >= _HASTY and size > _FASTEST * (segment.end - segment.start + _NEAR)


def _is_said_again(segment: Segment, before: Sequence[Segment], seconds: float) -> bool:
    """Whether a text is part of one before it, or begins where the recording ends."""
    again = any(normalised(segment.text) in normalised(one.text) for one in before)
    return again or segment.start >= seconds - _NEAR


def _heard(segment: Segment, speech: Sequence[Span]) -> float:
    """Seconds of a segment that are speech or near it."""
    start, end = segment.start, max(segment.end, segment.start + 0.02)
    first = bisect_right(speech, start - _NEAR, key=itemgetter(1))  # those before end too early
    seconds = 0.0
    for a, b in itertools.islice(speech, first, None):
        if a - _NEAR >= end:
            break
        seconds += min(end, b + _NEAR) - max(start, a - _NEAR)
    return seconds


def _is_loop(same: Sequence[Segment], count: int, options: WhisperOptions) -> bool:
    """Whether nobody says the same so often: many times, or where the decoder was unsure."""
    if count >= 2 * _SEGMENTS:
        return True
    limit = options.compression_ratio_threshold or 2.4
    least = -1.0 if options.logprob_threshold is None else options.logprob_threshold
    decoded = [segment.decoded for segment in same if segment.decoded is not None]
    return any(d.compression_ratio > limit or d.avg_logprob < least for d in decoded)


def find_loop(units: Sequence[str]) -> Loop | None:
    """The longest stretch of ``units`` in which the same units come four times or more."""
    best: Loop | None = None
    for size in range(1, min(_LONGEST, len(units) // 4) + 1):
        run = 0  # units that are equal to those ``size`` before
        for place in range(size, len(units) + 1):
            if place < len(units) and units[place] == units[place - size]:
                run += 1
                continue
            count = run // size + 1
            longer = best is None or size * count > best.size * best.count
            if count >= 4 and size * count >= 6 and longer:
                best = Loop(place - run - size, size, count)
            run = 0
    return best


def _places(text: str) -> list[tuple[int, int]]:
    """Where the units of a text are; the characters of a word are units where it holds a loop."""
    places: list[tuple[int, int]] = []
    for match in _UNITS.finditer(text):
        if _holds_loop(match[0].lower()):
            places += [(n, n + 1) for n in range(*match.span())]
        else:
            places.append(match.span())
    return places


def _holds_loop(word: str) -> bool:
    """Whether a word has the same characters over and over, as no laughter, cry or number has."""
    loop = find_loop(word) if len(word) >= _LOOPED else None
    if loop is None or loop.count < 8:
        return False
    letters = any(map(str.isalpha, word[loop.first : loop.first + loop.size]))
    return loop.size * loop.count >= _LOOPED * (1 if letters else 2)


def _collapsed(segment: Segment, options: WhisperOptions) -> tuple[Segment, str, bool]:
    """The segment with what comes over and over once, what is left out, and whether that is
    certain."""
    places = _places(segment.text)
    units = [normalised(segment.text[a:b]) or segment.text[a:b] for a, b in places]
    loop = find_loop(units)
    if loop is None:
        return segment, "", False
    first = places[loop.first + loop.size][0]
    last = loop.first + loop.size * loop.count
    stop = places[last - 1][1]
    gone = segment.text[first:stop]
    text = (segment.text[:first].rstrip() + segment.text[stop:]).strip()
    words = _words_without(segment, first, stop)
    limit = options.compression_ratio_threshold or 2.4
    repeats = segment.decoded is not None and segment.decoded.compression_ratio > limit
    end = words[-1].end if words else segment.end
    shorter = dataclasses.replace(segment, text=text, words=tuple(words), end=end)
    return shorter, gone, repeats or loop.is_certain


def _words_without(segment: Segment, first: int, stop: int) -> list[Word]:
    """The words of a segment without its characters ``first`` to ``stop``."""
    words: list[Word] = []
    place = 0
    for word in segment.words:
        at = segment.text.find(word.text, place)
        place = at + len(word.text) if at >= 0 else place
        if at < 0 or place <= first or at >= stop:
            words.append(word)
            continue
        before, after = segment.text[at : max(first, at)], segment.text[min(stop, place) : place]
        if any(map(str.isalnum, before + after)):
            words.append(_shortened(word, before, after))
        elif words:  # a mark at an edge of the loop
            words[-1] = dataclasses.replace(words[-1], text=words[-1].text + before + after)
    return words


def _shortened(word: Word, before: str, after: str) -> Word:
    """A word of which but its begin and end are left, at the time that they have of it."""
    share = (word.end - word.start) / len(word.text)
    start, end = word.start, word.end
    if not any(map(str.isalnum, after)):
        end = start + share * len(before)
    elif not any(map(str.isalnum, before)):
        start = end - share * len(after)
    return dataclasses.replace(word, text=before + after, start=start, end=end)
