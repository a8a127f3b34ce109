"""Where a live segment ends: the three classic rules, over blanks and what was heard so far.

A segment ends when nothing was said for long, when speech is followed by a silence, or when it has
become too long. The rules look at every frame, so how the frames come in pieces changes nothing,
and a whole recording falls into the segments of its stream. The rules are those of Kaldi's online
decoder; the longer wait after digits and letters is for people who read out numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mynah.decoding import Hypothesis
from mynah.errors import ConfigError
from mynah.runtime.decode import Search
from mynah.runtime.engine import Array
from mynah.text import Tokenizer

Reason = Literal["nothing", "after_speech", "longest"]

# A silence at the end of what was heard so far may be one within a word whose end is still to come,
# unless it is at least this long.
WORD_ENDED = 0.4  # seconds

_NUMBERS = """
zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
thousand million point double triple
零 〇 一 二 三 四 五 六 七 八 九 十 百 千 万 亿 两 幺 点 萬 億 兩
"""
NUMBERS = frozenset(_NUMBERS.split())


@dataclass(frozen=True)
class Endpointing:
    """When a segment ends, in seconds; ``inf`` switches a rule off.

    Attributes:
        nothing: so long without a unit since the segment began.
        after_speech: so long a silence after something was heard.
        after_digit: the same while the last word is a digit, a number or a single letter; never
            shorter than ``after_speech``.
        longest: the segment is so long. It is then cut at the longest silence between two words of
            its last ``search`` seconds, or, where there is none, at the most probable blank between
            two words; the rest begins the next segment.
        search: see ``longest``; half of ``longest`` at most.
        blank: a frame is silence when its blank is at least this probable.

    Raises:
        ConfigError: a time that is not above 0, a probability outside 0..1.
    """

    nothing: float = 5.0
    after_speech: float = 1.0
    after_digit: float = 2.0
    longest: float = 20.0
    search: float = 5.0
    blank: float = 0.8

    def __post_init__(self) -> None:
        for name in ("nothing", "after_speech", "after_digit", "longest", "search"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"endpointing.{name}: {getattr(self, name)} is not above 0")
        if not 0 < self.blank < 1:
            raise ConfigError(f"endpointing.blank: {self.blank} is not between 0 and 1")

    def wait(self, last_word: str) -> float:
        """The silence after ``last_word`` that ends a segment, in seconds."""
        if goes_on(last_word):
            return max(self.after_digit, self.after_speech)
        return self.after_speech


def goes_on(word: str) -> bool:
    """Whether ``word`` is of those that come in rows with pauses: digits, numbers, letters."""
    bare = "".join(character for character in word.casefold() if character.isalnum())
    if bare in NUMBERS or bare.isdecimal():
        return True
    return len(bare) == 1 and bare.isalpha() and ord(bare) < 0x2E80  # a hanzi is a word


@dataclass(frozen=True)
class Cut:
    """A segment ends after ``frames`` of its frames; those fed beyond belong to the next."""

    frames: int
    reason: Reason


@dataclass
class Endpointer:
    """The rules at work on one segment: frames in, its end out.

    Attributes:
        rules: when it ends.
        search: finds the words.
        tokenizer: joins them.
        step: seconds from one frame to the next.
        state: of the search, after ``frames`` frames.
        heard: whether there was any sound; without, nothing counts as said.
    """

    rules: Endpointing
    search: Search
    tokenizer: Tokenizer
    step: float
    state: Any = None
    frames: int = 0
    heard: bool = True
    silence: int = 0  # frames of silence at the end
    _blanks: list[Array] = field(default_factory=list)  # log-probabilities (T,)
    _quiet: list[Array] = field(default_factory=list)  # bool (T,)

    def __post_init__(self) -> None:
        self.state = self.search.start()
        waits = (self.rules.nothing, self.rules.after_speech, self.rules.wait("1"))
        self._looks = {_frames(wait, self.step) for wait in waits}
        self._limit = _frames(self.rules.longest, self.step)

    def feed(self, log_probs: Array) -> Cut | None:
        """Take frames (T, V), until the segment ends."""
        blanks = log_probs[:, self.tokenizer.blank]
        quiet = blanks >= math.log(self.rules.blank)
        done = 0
        for stop in [*self._places(quiet), len(quiet)]:
            if stop > done:
                self._advance(log_probs[done:stop], blanks[done:stop], quiet[done:stop])
                done = stop
                cut = self._cut() if self.silence in self._looks or self._full() else None
                if cut is not None:
                    return cut
        return None

    def best(self) -> Hypothesis:
        """The best hypothesis so far."""
        return self.search.nbest(self.state, 1)[0]

    def _full(self) -> bool:
        return self._limit is not None and self.frames >= self._limit

    def _places(self, quiet: Array) -> Iterator[int]:
        """After how many of the frames a rule may hold."""
        silence = self.silence
        for number, is_quiet in enumerate(quiet.tolist(), start=1):
            silence = silence + 1 if is_quiet else 0
            if silence in self._looks or self.frames + number == self._limit:
                yield number

    def _advance(self, log_probs: Array, blanks: Array, quiet: Array) -> None:
        self.state = self.search.advance(self.state, log_probs)
        self.frames += len(log_probs)
        self._blanks.append(blanks.copy())  # a view would keep all the units alive
        self._quiet.append(quiet)
        loud = np.flatnonzero(~quiet)
        self.silence = len(quiet) - 1 - int(loud[-1]) if len(loud) else self.silence + len(quiet)

    def _cut(self) -> Cut | None:
        best, silence = self.best(), self.silence * self.step + 1e-9
        if not best.tokens or not self.heard:
            if silence >= self.rules.nothing:
                return Cut(self.frames, "nothing")
            return Cut(self.frames, "longest") if self._full() else None
        words = best.words or self.tokenizer.words(list(best.tokens))
        if silence >= self.rules.wait(words[-1][0] if words else ""):
            return Cut(self.frames, "after_speech")
        if not self._full():
            return None
        gaps = [
            (best.times[stop - 1] + 1, best.times[first])
            for (_, _, stop), (_, first, _) in itertools.pairwise(words)
            if stop <= first and best.times  # a unit may hold several words
        ]
        if words and best.times and self.silence * self.step >= WORD_ENDED:
            gaps.append((best.times[words[-1][2] - 1] + 1, self.frames))
        return Cut(self._best_place(gaps), "longest")

    def _best_place(self, gaps: list[tuple[int, int]]) -> int:
        """Where to cut, given the frames between words: one past the last of the word before, the
        first of the word behind."""
        window = min(self.rules.search, self.rules.longest / 2)
        first = max(self.frames - math.ceil(window / self.step), 1)
        inside = [(max(low, first), high) for low, high in gaps if high >= first]
        blanks, quiet = np.concatenate(self._blanks), np.concatenate(self._quiet)
        runs = [run for low, high in inside for run in _runs(quiet, low, high)]
        if runs:
            low, high = max(runs, key=lambda run: (run[1] - run[0], run[0]))
            return (low + high + 1) // 2
        if not inside and gaps:  # one word fills the window: the end of the word before it
            low, high = gaps[-1]
            inside = [(max(low, 1), high)]
        places = [
            place for low, high in inside for place in range(low, max(high, low + 1))
            if place < self.frames
        ]  # fmt: skip
        places = places or list(range(first, self.frames))  # one word is all there is
        return max(places, key=lambda place: (float(blanks[place]), place), default=self.frames)


def split(
    log_probs: Array, rules: Endpointing, search: Search, tokenizer: Tokenizer, step: float
) -> list[tuple[int, int]]:
    """The segments of whole log-probabilities (T, V): first frame and one past the last of each."""
    segments, first = [], 0
    while first < len(log_probs):
        cut = Endpointer(rules, search, tokenizer, step).feed(log_probs[first:])
        stop = first + cut.frames if cut is not None else len(log_probs)
        segments.append((first, stop))
        first = stop
    return segments


def _frames(seconds: float, step: float) -> int | None:
    """The fewest frames that last so long; ``None`` for ever."""
    return max(math.ceil(seconds / step - 1e-9), 1) if math.isfinite(seconds) else None


def _runs(quiet: Array, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Runs of silence within the frames from ``low`` to before ``high``: first, one past last."""
    edges = np.flatnonzero(np.diff(quiet[low:high].astype(np.int8), prepend=0, append=0))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield low + begin, low + end
