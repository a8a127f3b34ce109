"""Times of the words of a transcript, by a CTC model that hears the recording once more.

A word is spelt in the model's units; a number by what it is said as. What the model cannot spell (a
numeral in another language, a sign) has the frames between its neighbours in which something was
heard, divided at the longest pauses. A word that is not heard keeps the times that it had.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from mynah.audio import resample
from mynah.decoding import TextAlignment, align_text
from mynah.errors import ConfigError, MissingDependency
from mynah.model_folder import find_model, read_model_folder
from mynah.runtime.align import Spelt, encode_feats, spell, split_words, timed_words
from mynah.runtime.edges import Loudness
from mynah.runtime.engine import Array
from mynah.runtime.result import Segment, Transcript, Word
from mynah.text.borrowed import borrows, can_borrow
from mynah.text.spoken_numbers import readings

if TYPE_CHECKING:
    from mynah.runtime.model import Model

MARGIN = 0.4  # seconds around a segment in which its words are looked for
MEMORY = 64_000_000  # bytes of samples; what is more is kept in a file
_PAUSE = 0.3  # seconds without a unit, which no word has inside
_POOR = 0.2  # confidence below which another reading of a number is tried
_READINGS = 4  # of a number that are tried
# The text was heard by another model: words are left out only where nothing sounds like them.
_LEAP, _LEFT_OUT = 50.0, 5.0


class Keep:
    """The samples of a recording, kept for a second hearing; in a file where they are many."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.samples = 0
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY)  # noqa: SIM115 (close)

    def pass_on(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """The blocks (S,), kept as they pass."""
        for block in blocks:
            self._file.write(np.ascontiguousarray(block, np.float32).tobytes())
            self.samples += len(block)
            yield block

    def read(self, start: float, end: float) -> Array:
        """The samples from ``start`` to ``end`` seconds."""
        first = min(max(int(start * self.rate), 0), self.samples)
        count = max(min(int(end * self.rate), self.samples) - first, 0)
        self._file.seek(4 * first)
        return np.frombuffer(self._file.read(4 * count), np.float32)

    def close(self) -> None:
        """Forget them."""
        self._file.close()


@dataclass(frozen=True)
class Aligner:
    """Aligns the words of segments by a CTC model."""

    model: Model

    def knows(self, language: str | None) -> bool:
        """Whether the model was made for a language, or has phones for it."""
        if language in self.model.engine.info.languages:
            return True
        return borrows(self.model.tokenizer, language) and can_borrow()

    def check(self, language: str | None) -> None:
        """Refuse a language that is asked for and that the model does not know.

        Raises:
            ConfigError: it does not.
            MissingDependency: it would, if what reads hanzi were installed.
        """
        if language is not None and not self.knows(language):
            if borrows(self.model.tokenizer, language):
                raise MissingDependency("pypinyin", extra="text")
            known = ", ".join(self.model.engine.info.languages)
            name = self.model.name
            raise ConfigError(f"word_timestamps: the aligner {name} knows {known}, not {language}")

    def transcript(self, transcript: Transcript, kept: Keep) -> Transcript:
        """The transcript with aligned words; segments in other languages stay as they are."""
        found: list[Segment] = []
        floor = 0.0
        for number, segment in enumerate(transcript.segments):
            if self.knows(segment.language or transcript.language):
                following = transcript.segments[number + 1 : number + 2]
                ceiling = following[0].end if following else transcript.duration
                start = max(segment.start - MARGIN, floor, 0.0)
                end = max(min(segment.end + MARGIN, ceiling, transcript.duration), start)
                samples = kept.read(start, end)
                segment = self.segment(
                    segment, samples, kept.rate, start, segment.language or transcript.language
                )
            found.append(segment)
            floor = max(floor, *(word.end for word in segment.words), 0.0)
        return replace(transcript, segments=tuple(found))

    def segment(
        self, segment: Segment, samples: Array, rate: int, start: float, language: str | None
    ) -> Segment:
        """The segment with aligned words; ``samples`` begin at ``start`` seconds."""
        words = list(segment.words) or _spread(segment)
        if rate != self.model.rate:
            samples = resample(samples, rate, self.model.rate)
        feats = self.model.frontend(samples)
        if not words or len(feats) <= self.model.engine.overlap:
            return segment
        log_probs = encode_feats(self.model, feats)
        items, found = self._best(log_probs, [word.text for word in words], language or "en")
        found = _together(items, found, self.model.clock.step)
        loudness = Loudness(self.model.rate)
        loudness.add(samples)
        length = len(samples) / self.model.rate
        timed = timed_words(self.model, items, found, length, loudness.values(), False)
        timed = _unspelt(timed, items, found, log_probs, self.model)
        placed = _in_order(words, timed, start)
        if not any(word.source == "aligned" for word in placed):
            return segment
        first, last = placed[0].start, max(word.end for word in placed)
        return replace(segment, start=first, end=last, words=tuple(placed))

    def _best(
        self, log_probs: Array, texts: Sequence[str], language: str
    ) -> tuple[list[Spelt], TextAlignment]:
        """The words as they are best heard, where some can be said in several ways."""
        ways = [readings(text, language)[:_READINGS] for text in texts]
        numeral = [any(map(str.isdigit, text)) for text in texts]
        blank = self.model.tokenizer.blank

        def attempt(which: Sequence[int]) -> tuple[list[Spelt], TextAlignment, list[float]]:
            said = [
                way[n] if way else ("" if odd else text)
                for text, way, n, odd in zip(texts, ways, which, numeral, strict=True)
            ]
            spelt = spell(self.model.tokenizer, said, language)
            items = [replace(one, text=text) for one, text in zip(spelt, texts, strict=True)]
            units = [[*item.gap, *item.units] for item in items]
            found = align_text(log_probs, units, blank, leap=_LEAP, left_out=_LEFT_OUT)
            return items, found, _means(items, found)

        chosen = [0] * len(texts)
        items, found, means = attempt(chosen)
        for rank in range(1, max(map(len, ways), default=0)):
            poor = [n for n, way in enumerate(ways) if rank < len(way) and means[n] < _POOR]
            if not poor:
                break
            tried = [rank if n in poor else which for n, which in enumerate(chosen)]
            better = attempt(tried)[2]
            kept = [n for n in poor if better[n] > means[n]]
            if kept:
                chosen = [rank if n in kept else which for n, which in enumerate(chosen)]
                items, found, means = attempt(chosen)
        return items, found


def _together(items: Sequence[Spelt], found: TextAlignment, step: float) -> TextAlignment:
    """The alignment without units that were placed a pause away from the rest of their word: they
    are moved to where the surest of it is."""
    starts, ends, at = list(found.starts), list(found.ends), 0
    for item in items:
        first, at = at + len(item.gap), at + len(item.gap) + len(item.units)
        if at - first < 2 or starts[first] < 0:
            continue
        cuts = [n for n in range(first + 1, at) if (starts[n] - ends[n - 1]) * step > _PAUSE]
        if not cuts:
            continue
        parts = list(itertools.pairwise([first, *cuts, at]))
        low, high = max(parts, key=lambda part: sum(found.confidences[part[0] : part[1]]))
        for n in (*range(first, low), *range(high, at)):
            starts[n] = ends[n] = starts[low] if n < low else ends[high - 1]
    return replace(found, starts=tuple(starts), ends=tuple(ends))


def _means(items: Sequence[Spelt], found: TextAlignment) -> list[float]:
    """The mean probability of each word's units, 1 where it has none."""
    means, at = [], 0
    for item in items:
        count = len(item.gap) + len(item.units)
        own = found.confidences[at + len(item.gap) : at + count]
        means.append(sum(own) / len(own) if own else 1.0)
        at += count
    return means


def _spread(segment: Segment) -> list[Word]:
    """The words of a segment without times of words."""
    texts = split_words(segment.text)
    step = (segment.end - segment.start) / max(len(texts), 1)
    return [
        Word(text, segment.start + n * step, segment.start + (n + 1) * step, None, "interpolated")
        for n, text in enumerate(texts)
    ]


def _unspelt(
    words: list[Word], items: Sequence[Spelt], found: TextAlignment, log_probs: Array, model: Model
) -> list[Word]:
    """Times for words without units: of what is heard between the words around them."""
    clock, words = model.clock, list(words)
    decode = model.tokenizer.decode
    silent = [unit for unit in range(log_probs.shape[1]) if not decode([unit]).strip()]
    heard = np.flatnonzero(~np.isin(log_probs.argmax(axis=1), silent))
    firsts, lasts, at = [], [], 0
    for item in items:
        at += len(item.gap)
        firsts.append(found.starts[at] if item.units else -1)
        at += len(item.units)
        lasts.append(found.ends[at - 1] if item.units else -1)
    number = 0
    while number < len(items):
        if items[number].units:
            number += 1
            continue
        stop = number
        while stop < len(items) and not items[stop].units:
            stop += 1
        low = max((last for last in lasts[:number] if last >= 0), default=0)
        high = next((first for first in firsts[stop:] if first >= 0), len(log_probs))
        own = heard[(heard >= low) & (heard < high)]
        sounds = [n for n in range(number, stop) if any(map(str.isalnum, words[n].text))]
        for n, (first, last) in zip(sounds, _parted(own, len(sounds)), strict=False):
            begin = clock.spoken(max(first - 0.5, low)) if first > low else clock.spoken(first)
            end = clock.spoken(min(last + 1.5, high))
            begin = max(begin, clock.spoken(low), 0.0)
            words[n] = replace(words[n], start=begin, end=max(end, begin), source="aligned")
        number = stop
    return words


def _parted(frames: Sequence[int] | Array, count: int) -> list[tuple[int, int]]:
    """``frames`` in ``count`` groups, parted where the gaps are longest; none where there are too
    few. First and last frame of each."""
    if not count or len(frames) < count:
        return []
    gaps = np.diff(np.asarray(frames))
    cuts = np.sort(np.argsort(-gaps, kind="stable")[: count - 1]) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(np.asarray(frames), cuts)]


def _in_order(before: Sequence[Word], timed: Sequence[Word], start: float) -> list[Word]:
    """The words at their new times where they were heard, else at their old ones, none before the
    end of the last."""
    placed: list[Word] = []
    for number, (old, new) in enumerate(zip(before, timed, strict=True)):
        floor = placed[-1].end if placed else 0.0
        if new.source == "aligned":
            sure = new.confidence if old.confidence is None else old.confidence
            begin = max(start + new.start, floor)
            end = max(start + new.end, begin)
            placed.append(replace(old, start=begin, end=end, confidence=sure, source="aligned"))
            continue
        following = (start + word.start for word in timed[number + 1 :] if word.source == "aligned")
        ceiling = next(following, max(old.end, floor))
        begin = min(max(old.start, floor), max(ceiling, floor))
        end = min(max(old.end, begin), max(ceiling, begin))
        placed.append(replace(old, start=begin, end=end))
    return placed


def load_aligner(model: str | os.PathLike[str] | None = None, *, threads: int = 1) -> Aligner:
    """The aligner of a model folder or known name (``None``: the bundled recogniser), which all
    that ask for it share.

    Raises:
        ModelError: no such model.
        ConfigError: it is no CTC model.
    """
    path = find_model(None if model is None else os.fspath(model)).resolve()
    read_model_folder(path)  # refuses what is none
    return _load(path, (path / "model.toml").stat().st_mtime_ns, threads)


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, threads: int) -> Aligner:
    from mynah.runtime.model import load_model

    return Aligner(load_model(path, threads=threads))
