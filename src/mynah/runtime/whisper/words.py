"""When the words of a window are said, by what the decoder attends to while it says them.

Some heads of the cross-attention follow the speech. Their weights, made comparable and smoothed,
are the gain of hearing a token in a frame; dynamic time warping finds the path through all tokens
and frames that gains most (OpenAI's word timestamps; the idea is of Giorgino, "Computing and
visualizing dynamic time warping alignments in R", JSS 2009). What such times get wrong beside
pauses is mended by the rules of the original, with its limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mynah.runtime.engine import Array
from mynah.runtime.result import Word
from mynah.runtime.whisper.options import APPEND, PREPEND
from mynah.text.whisper_tokenizer import WhisperTokenizer

if TYPE_CHECKING:
    from mynah.runtime.whisper.engine import Heard, WhisperEngine

FRAME = 0.02  # seconds of an encoder frame
SMOOTH = 7  # frames of the median filter
_ENDS = ".。!！?？"  # of sentences
_LONGEST_MEDIAN = 0.7  # seconds of a word
_LOGITS = 1 << 24  # numbers that are in memory at once, at least those of a window

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Said:
    """The text tokens of a window, and what the window was decoded with.

    ``sot`` is the start sequence up to and with ``<|notimestamps|>``; ``frames`` the encoder frames
    that hold sound, ``language`` that of the text.
    """

    tokens: tuple[int, ...]
    sot: tuple[int, ...]
    frames: int
    language: str = ""


@dataclass(frozen=True)
class TimedWord:
    """A word, with the space before it, of so many tokens; seconds from the window's start."""

    text: str
    count: int
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class Stretch:
    """A segment of a window, its times in seconds of the recording; ``words`` are found here."""

    tokens: tuple[int, ...]
    start: float
    end: float
    words: tuple[Word, ...] = field(default=())


def time_words(
    engine: WhisperEngine,
    heard: Heard,
    rows: Sequence[int],
    said: Sequence[Said],
    *,
    tokenizer: WhisperTokenizer,
    heads: Sequence[tuple[int, int]],
) -> list[list[TimedWord]]:
    """The words of several windows, each of which is a row of ``heard``.

    The probability of a word is the mean of its tokens', each among all tokens of text.
    """
    found: list[list[TimedWord]] = [[] for _ in said]
    busy = [n for n, one in enumerate(said) if one.tokens]
    if not busy:
        return found
    eot = tokenizer.eos
    lines = [[*said[n].sot, *said[n].tokens, eot] for n in busy]
    longest = max(map(len, lines))
    tokens = np.array([[*line, *[eot] * (longest - len(line))] for line in lines], np.int64)
    step = max(_LOGITS // (longest * engine.dims.n_vocab), 1)
    for begin in range(0, len(busy), step):
        part = busy[begin : begin + step]
        decoder = engine.decoder(heard, [rows[n] for n in part], longest)
        weights, logits = decoder.align(tokens[begin : begin + step], heads)
        for place, n in enumerate(part):
            one = said[n]
            first, last = len(one.sot) - 1, len(one.sot) - 1 + len(one.tokens)
            probabilities = _probabilities(logits[place, first:last, :eot], one.tokens)
            size = len(one.sot) + len(one.tokens) + 1
            gains = attention_gains(weights[place, :, :size, : one.frames])
            words = tokenizer.words(list(one.tokens), one.language)
            found[n] = _timed(words, token_times(gains[first:-1]), probabilities)
    return found


def _probabilities(logits: Array, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """The probability of each token, from its row of ``logits`` (n, V)."""
    best = logits.max(axis=1, keepdims=True)
    picked = (logits[np.arange(len(tokens)), list(tokens)] - best[:, 0]).astype(np.float64)
    total = np.exp(logits - best).sum(axis=1, dtype=np.float64)
    found: npt.NDArray[np.float64] = np.exp(picked) / total
    return found


def attention_gains(weights: Array) -> Array:
    """What hearing a token in a frame gains, (n, T), from the weights of heads (heads, n, T)."""
    weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), np.float32(1e-30))
    mean, deviation = weights.mean(axis=1, keepdims=True), weights.std(axis=1, keepdims=True)
    weights = (weights - mean) / np.where(deviation > 0, deviation, 1)
    gains: Array = median_filter(weights, SMOOTH).mean(axis=0)
    return gains


def median_filter(values: Array, width: int) -> Array:
    """The median of ``width`` values (odd) around each of the last axis, which is reflected at its
    ends; too few values stay as they are."""
    half = width // 2
    if values.shape[-1] <= half:
        return values
    padding = [(0, 0)] * (values.ndim - 1) + [(half, half)]
    padded = np.pad(values, padding, mode="reflect")
    size = values.shape[-1]
    sorted_ = [padded[..., k : k + size] for k in range(width)]
    for done in range(half + 1):  # the smallest comes to the front, again and again
        for k in range(width - 1, done, -1):
            low, high = sorted_[k - 1], sorted_[k]
            sorted_[k - 1], sorted_[k] = np.minimum(low, high), np.maximum(low, high)
    return sorted_[half]


def token_times(gains: Array) -> Places:
    """The first frame of each token, and of the end, on the best path through (n, T)."""
    tokens, frames = dtw(-gains.astype(np.float64))
    return frames[np.flatnonzero(np.diff(tokens, prepend=-1))]


def dtw(cost: npt.NDArray[np.float64]) -> tuple[Places, Places]:
    """The cheapest path from one corner of ``cost`` (N, M) to the other: rows and columns.

    A step goes on by a row, a column, or both. All cells of an antidiagonal are computed together;
    sums are of single precision and equal choices are made as in the original, so that paths are
    the same.
    """
    rows, columns = cost.shape
    slanted = np.zeros((rows, rows + columns))
    slanted[:, :columns] = cost
    # slanted[d, i] is cost[i, d - i]
    slanted = np.ascontiguousarray(
        slanted.reshape(-1)[: rows * (rows + columns - 1)].reshape(rows, -1).T
    )
    both = np.zeros((rows + columns, rows), np.bool_)
    down = np.zeros_like(both)
    before, last = np.full(rows + 1, np.inf, np.float32), np.full(rows + 1, np.inf, np.float32)
    before[0] = 0.0  # sums of the diagonals before; index 0 is the border
    for number in range(rows + columns - 1):
        low, high = max(0, number - columns + 1), min(rows, number + 1)
        corner, above, left = before[low:high], last[low:high], last[low + 1 : high + 1]
        is_both, is_down = both[number, low:high], down[number, low:high]
        np.less(corner, np.minimum(above, left), out=is_both)
        np.less(above, np.minimum(corner, left), out=is_down)
        best = np.where(is_both, corner, np.where(is_down, above, left))
        before, last = last, before
        last.fill(np.inf)
        last[low + 1 : high + 1] = slanted[number, low:high] + best
    return _way_back(both.tobytes(), down.tobytes(), rows, columns)


def _way_back(both: bytes, down: bytes, rows: int, columns: int) -> tuple[Places, Places]:
    i, j = rows - 1, columns - 1
    path = [(i, j)]
    while i > 0 or j > 0:
        place = (i + j) * rows + i
        if i == 0:
            j -= 1
        elif j == 0 or (down[place] and not both[place]):
            i -= 1
        elif both[place]:
            i, j = i - 1, j - 1
        else:
            j -= 1
        path.append((i, j))
    found = np.array(path[::-1], np.int64)
    return found[:, 0], found[:, 1]


def _timed(
    words: Sequence[tuple[str, int, int]], times: Places, probabilities: npt.NDArray[np.float64]
) -> list[TimedWord]:
    return [
        TimedWord(
            text,
            last - first,
            float(times[first] * FRAME),
            float(times[last] * FRAME),
            float(probabilities[first:last].mean()),
        )
        for text, first, last in words
    ]


def place_words(
    stretches: Sequence[Stretch],
    words: Sequence[TimedWord],
    *,
    offset: float,
    last_speech: float,
    prepend: str = PREPEND,
    append: str = APPEND,
) -> list[Stretch]:
    """The segments of a window with their words, and with the times that follow from them.

    ``offset`` is where the window begins and ``last_speech`` where the last word before it ended,
    in seconds of the recording.
    """
    lengths = np.array([w.end - w.start for w in words if w.end != w.start])
    median = min(_LONGEST_MEDIAN, float(np.median(lengths))) if len(lengths) else 0.0
    merged = merge_punctuation(
        _shorter_sentences(words, 2 * median) if len(lengths) else list(words), prepend, append
    )
    found, number = [], 0
    for stretch in stretches:
        own, taken = [], 0
        while number < len(merged) and taken < len(stretch.tokens):
            word = merged[number]
            if word.text:
                start, end = round(offset + word.start, 2), round(offset + word.end, 2)
                own.append(replace(word, start=start, end=end))
            taken, number = taken + word.count, number + 1
        found.append(_placed(stretch, own, last_speech, median) if own else stretch)
        last_speech = found[-1].end if own else last_speech
    return found


def _shorter_sentences(words: Sequence[TimedWord], longest: float) -> list[TimedWord]:
    """Ends of sentences, and words after them, are not longer than ``longest`` seconds."""
    found = list(words)
    for n in range(1, len(found)):
        if found[n].end - found[n].start > longest:
            if found[n].text in _ENDS:
                found[n] = replace(found[n], end=found[n].start + longest)
            elif found[n - 1].text in _ENDS:
                found[n] = replace(found[n], start=found[n].end - longest)
    return found


def merge_punctuation(
    words: Sequence[TimedWord], prepend: str = PREPEND, append: str = APPEND
) -> list[TimedWord]:
    """Words with the punctuation before and behind them, whose own words become empty. The times
    of a word do not change by what it takes up."""
    found = list(words)
    behind = len(found) - 1
    for n in range(len(found) - 2, -1, -1):
        if found[n].text.startswith(" ") and found[n].text.strip() in prepend:
            found[behind] = _joined(found[n], found[behind], found[behind])
            found[n] = replace(found[n], text="", count=0)
        else:
            behind = n
    before = 0
    for n in range(1, len(found)):
        if not found[before].text.endswith(" ") and found[n].text in append:
            found[before] = _joined(found[before], found[n], found[before])
            found[n] = replace(found[n], text="", count=0)
        else:
            before = n
    return found


def _joined(first: TimedWord, second: TimedWord, kept: TimedWord) -> TimedWord:
    return replace(kept, text=first.text + second.text, count=first.count + second.count)


def _placed(stretch: Stretch, words: list[TimedWord], last_speech: float, median: float) -> Stretch:
    """The segment from first to last word, where its own times are not to be trusted more."""
    starts, ends = [word.start for word in words], [word.end for word in words]
    longest = 2 * median
    pair_is_long = len(words) > 1 and ends[1] - starts[0] > 2 * longest
    if ends[0] - last_speech > 4 * median and (ends[0] - starts[0] > longest or pair_is_long):
        # after a pause, the first two words are no longer than others
        if len(words) > 1 and ends[1] - starts[1] > longest:
            ends[0] = starts[1] = max(ends[1] / 2, ends[1] - longest)
        starts[0] = max(0.0, ends[0] - longest)
    start, end = stretch.start, stretch.end
    if start < ends[0] and start - 0.5 > starts[0]:
        starts[0] = max(0.0, min(ends[0] - median, start))
    else:
        start = starts[0]
    if end > starts[-1] and end + 0.5 < ends[-1]:
        ends[-1] = max(starts[-1] + median, end)
    else:
        end = ends[-1]
    timed = tuple(
        Word(word.text.strip(), a, max(a, b), min(max(word.probability, 0.0), 1.0), "attention")
        for word, a, b in zip(words, starts, ends, strict=True)
        if word.text.strip()
    )
    return replace(stretch, start=start, end=max(start, end), words=timed)
