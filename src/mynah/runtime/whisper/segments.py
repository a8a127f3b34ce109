"""From the tokens of a window to segments with times, and where the next window begins.

The rules are those of the original: a segment lies between two times; what was begun and not ended
is heard again from where it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mynah.runtime.result import Word
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.recording import FRAMES, WINDOW
from mynah.runtime.whisper.window import Found
from mynah.text.whisper_tokenizer import TIME_STEP, WhisperTokenizer

_STRIDE = 2  # frames of a timestamp
_PUNCTUATION = "\"'“¿([{-\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True)
class Piece:
    """A segment on its way: its tokens, times included, with their log-probabilities; seconds of
    the recording. ``words`` are there when they were asked for."""

    tokens: tuple[int, ...]
    logs: tuple[float, ...]
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()


def cut(
    found: Found, seek: int, size: int, tokenizer: WhisperTokenizer
) -> tuple[list[Piece], int, bool]:
    """The segments of a window of ``size`` frames from frame ``seek`` on, the frame where the next
    begins, and whether nothing is said after the last time."""
    begin, tokens, offset = tokenizer.special.timestamp_begin, found.tokens, seek / FRAMES
    is_time = [token >= begin for token in tokens]
    nothing_after = is_time[-2:] == [False, True]
    ends = [n for n in range(1, len(tokens)) if is_time[n] and is_time[n - 1]]

    def piece(first: int, last: int, start: float, end: float) -> Piece:
        part = tokens[first:last]
        text = tokenizer.decode(part)
        return Piece(part, found.logs[first:last], start, end, text)

    if not ends:
        times = [token for token, timed in zip(tokens, is_time, strict=True) if timed]
        end = size / FRAMES
        if times and times[-1] != begin:
            end = (times[-1] - begin) * TIME_STEP
        return [piece(0, len(tokens), offset, offset + end)], seek + size, nothing_after
    if nothing_after:
        ends.append(len(tokens))
    pieces = []
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        start, end = ((tokens[n] - begin) * TIME_STEP for n in (first, last - 1))
        pieces.append(piece(first, last, offset + start, offset + end))
    if nothing_after:
        return pieces, seek + size, True
    return pieces, seek + (tokens[ends[-1] - 1] - begin) * _STRIDE, False


@dataclass(frozen=True)
class Step:
    """What came of a window: its segments, where the next begins, and where the last word ended;
    ``dropped`` is what was taken for invented."""

    pieces: list[Piece]
    seek: int
    last_speech: float
    dropped: tuple[Piece, ...] = ()


def after_words(
    pieces: list[Piece],
    seek: int,
    *,
    window: tuple[int, int],
    content: int,
    nothing_after: bool,
    last_speech: float,
    options: WhisperOptions,
) -> Step:
    """Where the next window begins once the words of ``window`` (its first frame and its frames)
    have times, and what of it is left when silence around what may be invented is skipped.

    ``content`` are the frames of the recording, as far as they are known.
    """
    first, size = window
    offset, threshold = first / FRAMES, options.hallucination_silence_threshold
    spoken = _last_end(pieces)
    if not nothing_after and spoken is not None and spoken > offset:
        seek = round(spoken * FRAMES)
    if threshold is None:
        return Step(pieces, seek, last_speech if spoken is None else spoken)
    end = offset + WINDOW / FRAMES
    if not nothing_after and spoken is not None and spoken > offset:
        seek = round(spoken * FRAMES) if end - spoken > threshold else first + size
    with_words = [piece for piece in pieces if piece.words]
    if with_words and _is_odd(with_words[0]):  # the silence before it is skipped
        gap = with_words[0].start - offset
        if gap > threshold:
            return Step([], first + round(gap * FRAMES), last_speech, tuple(pieces))
    before = last_speech
    for number, piece in enumerate(pieces):
        if not piece.words:
            continue
        following = next((other for other in pieces[number + 1 :] if other.words), None)
        if _is_odd(piece) and _is_alone(
            piece, following, before, offset=offset, size=size, threshold=threshold
        ):
            seek = round(max(offset + 1, piece.start) * FRAMES)
            if content / FRAMES - piece.end < threshold:
                seek = content
            kept = pieces[:number]
            spoken = _last_end(kept)
            last = last_speech if spoken is None else spoken
            return Step(kept, seek, last, tuple(pieces[number:]))
        before = piece.end
    return Step(pieces, seek, last_speech if spoken is None else spoken)


def _is_alone(
    piece: Piece,
    following: Piece | None,
    before: float,
    *,
    offset: float,
    size: int,
    threshold: float,
) -> bool:
    """Whether there is silence, or what may be invented, on both sides."""
    next_start = offset + size / FRAMES if following is None else following.words[0].start
    silence_before = (
        piece.start - before > threshold or piece.start < threshold or piece.start - offset < 2.0
    )
    silence_after = (
        next_start - piece.end > threshold
        or (following is not None and _is_odd(following))
        or offset + WINDOW / FRAMES - piece.end < 2.0
    )
    return silence_before and silence_after


def _is_odd(piece: Piece) -> bool:
    """Whether the first words are improbable, or too short or too long to be said."""
    words = [word for word in piece.words if word.text.strip() not in _PUNCTUATION][:8]
    score = sum(_oddness(word) for word in words)
    return bool(piece.words) and (score >= 3 or score + 0.01 >= len(words))


def _oddness(word: Word) -> float:
    duration, score = word.end - word.start, 0.0
    if (word.confidence or 0.0) < 0.15:
        score += 1.0
    if duration < 0.133:
        score += (0.133 - duration) * 15
    return score + max(duration - 2.0, 0.0)


def _last_end(pieces: Sequence[Piece]) -> float | None:
    """Where the last word ends; the last segment where there are no words."""
    for piece in reversed(pieces):
        if piece.words:
            return piece.words[-1].end
    return pieces[-1].end if pieces else None


def without_empty(pieces: Sequence[Piece]) -> list[Piece]:
    """The segments, those that last no time or say nothing without their tokens."""
    return [
        replace(piece, tokens=(), logs=(), text="", words=())
        if piece.start == piece.end or not piece.text.strip()
        else piece
        for piece in pieces
    ]
