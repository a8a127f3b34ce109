"""From phones to letters: how a word is written that no lexicon has.

A beam search over graphones (letters with the phones that they stand for), scored by an n-gram
model of them; ``mynah data graphones`` and ``mynah lm train`` make it from a dictionary.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram import NgramModel, State
from mynah.errors import ModelError
from mynah.text.graphones import split_graphone
from mynah.text.pronounce import Phones

_MOST = 4096  # spellings remembered
Units = npt.NDArray[np.int64]


class Spelling(NamedTuple):
    """A way to write a word: its letters, and how probable it is among all ways found."""

    letters: str
    probability: float


class _Way(NamedTuple):
    score: float
    state: State
    letters: str


class Speller:
    """Writes words given by their phones. May be used from several threads.

    Raises:
        ModelError: the model is none of graphones.
    """

    def __init__(self, model: NgramModel, *, beam: int = 24, margin: float = 12.0) -> None:
        """``beam`` ways are kept after each phone, those within ``margin`` (nats) of the best."""
        self.model, self.beam, self.margin = model, beam, margin
        by_sound: dict[Phones, list[tuple[int, str]]] = {}
        for name, number in model.vocab.items():
            letters, phones = split_graphone(name)
            if phones:
                by_sound.setdefault(phones, []).append((number, letters))
        if not by_sound:
            raise ModelError("spelling: the model's words are no graphones such as igh:ay")
        self._longest = max(map(len, by_sound))
        self._by_sound = {
            phones: (np.array([n for n, _ in some], np.int64), [letters for _, letters in some])
            for phones, some in by_sound.items()
        }
        self._known: dict[Phones, tuple[Spelling, ...]] = {}
        self._lock = threading.Lock()

    def __call__(self, phones: Sequence[str]) -> tuple[Spelling, ...]:
        """The ways to write ``phones``, the most probable first; none where no graphone has one of
        them."""
        key = tuple(phones)
        with self._lock:
            if key not in self._known:
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[key] = self._search(key)
            return self._known[key]

    def _search(self, phones: Phones) -> tuple[Spelling, ...]:
        ways: list[list[_Way]] = [[] for _ in range(len(phones) + 1)]
        ways[0] = [_Way(0.0, self.model.start(), "")]
        for at in range(len(phones)):
            kept = self._prune(ways[at])
            for size in range(1, min(self._longest, len(phones) - at) + 1):
                graphones = self._by_sound.get(phones[at : at + size])
                if graphones is not None:
                    ways[at + size] += self._extend(kept, *graphones)
        ends: dict[str, float] = {}
        for way in self._prune(ways[-1]) if phones else []:
            total = way.score + self.model.end(way.state)
            before = ends.get(way.letters, -math.inf)
            ends[way.letters] = float(np.logaddexp(before, total))  # cut otherwise, written alike
        if not ends:
            return ()
        whole = float(np.logaddexp.reduce(list(ends.values())))
        best = sorted(ends.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Spelling(letters, math.exp(score - whole)) for letters, score in best)

    def _extend(self, ways: Sequence[_Way], numbers: Units, letters: Sequence[str]) -> list[_Way]:
        found: list[_Way] = []
        for way in ways:
            scores = way.score + self.model.score_many(way.state, numbers)
            likely = np.flatnonzero(scores >= scores.max() - self.margin)
            if len(likely) > self.beam:
                likely = likely[np.argsort(-scores[likely], kind="stable")[: self.beam]]
            for i in likely.tolist():
                state, score = self.model.score(way.state, int(numbers[i]))
                found.append(_Way(way.score + score, state, way.letters + letters[i]))
        return found

    def _prune(self, ways: list[_Way]) -> list[_Way]:
        ways = sorted(ways, key=lambda way: (-way.score, way.letters))[: self.beam]
        return [way for way in ways if way.score >= ways[0].score - self.margin]
