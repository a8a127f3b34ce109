"""What a lexicon search remembers of the way: which unit when, which word ended with it.

The store of an utterance only grows, so that the states that look into it stay values. Where two
ways of different words meet in one token, the better goes on through an entry that leads to the
other too and says how much it falls behind: so an n-best list is found without keeping more tokens.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IndexArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Histories: TypeAlias = npt.NDArray[np.uint64]

NO_WORD, BETWEEN = -1, -2  # in place of a word: none ends here; the unit between words

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_FIELDS = {"before": np.int32, "time": np.int32, "unit": np.int32, "word": np.int32,
           "log_prob": np.float32, "history": np.uint64, "other": np.int32,
           "behind": np.float64}  # fmt: skip

# Where a way may turn off: what is paid then, how far from the end of the way (of equal ones the
# first), the entry that it leads to, and how many entries of the way are kept.
_Turn: TypeAlias = tuple[float, int, int, int]
_Way: TypeAlias = tuple[list[int], list[_Turn]]  # its entries, last to first; its turns, best first
_Waiting: TypeAlias = tuple[float, int, int, int]  # cost, the way, how far, the turn's number


class Trace:
    """Entries: a unit, its frame, the word that ends with it, and the entry before.

    Entry 0 is the beginning. An entry with unit -1 is a place where ways met: ``other`` leads to
    that which is not ``before``. ``history`` stands for the words up to an entry.
    """

    def __init__(self) -> None:
        self.size = 1
        self._arrays = {name: np.zeros(1024, kind) for name, kind in _FIELDS.items()}

    def histories(self, entries: IndexArray) -> Histories:
        """What stands for the words up to each entry."""
        found: Histories = self._arrays["history"][entries]
        return found

    def after(self, entries: IndexArray, words: IndexArray) -> Histories:
        """What will stand for the words up to entries that follow and end ``words``."""
        histories = self.histories(entries)
        ended = (words >= 0).nonzero()[0]
        if len(ended):
            mixed = (histories[ended] ^ (words[ended].astype(np.uint64) + np.uint64(1))) * _PRIME
            mixed ^= mixed >> np.uint64(29)
            histories[ended] = mixed
        return histories

    def add(
        self,
        before: IndexArray,
        time: int,
        units: IndexArray,
        words: IndexArray,
        log_probs: FloatArray,
        histories: Histories,
    ) -> IndexArray:
        """New entries; their numbers."""
        place, arrays = self._more(len(before)), self._arrays
        arrays["before"][place], arrays["time"][place] = before, time
        arrays["unit"][place], arrays["word"][place] = units, words
        arrays["log_prob"][place], arrays["history"][place] = log_probs, histories
        return np.arange(place.start, place.stop)

    def meet(
        self,
        winners: IndexArray,
        again: npt.NDArray[np.bool_],
        losers: IndexArray,
        behind: FloatArray,
    ) -> IndexArray:
        """Entries in place of ``winners`` that lead to ``losers`` too, ``behind`` them.

        Where a winner has met another loser just before, ``again``, that entry takes its place.
        """
        place, arrays = self._more(len(winners)), self._arrays
        numbers = np.arange(place.start, place.stop)
        arrays["before"][place], arrays["unit"][place] = np.where(again, numbers - 1, winners), -1
        arrays["history"][place] = arrays["history"][winners]
        arrays["other"][place], arrays["behind"][place] = losers, behind
        return numbers

    def _more(self, count: int) -> slice:
        first, stop = self.size, self.size + count
        length = len(self._arrays["before"])
        if stop > length:
            for name, array in self._arrays.items():
                room = np.zeros(max(stop, 2 * length) - length, array.dtype)
                self._arrays[name] = np.concatenate([array, room])
        self.size = stop
        return slice(first, stop)

    def paths(self, ends: Sequence[tuple[float, int]]) -> Iterator[tuple[float, list[int]]]:
        """Scores and entries, first to last, of the ways to ``ends`` (score, entry), best first.

        Where a way might have turned off waits behind its best such place, so that the heap is
        small and a way costs no more than its length.
        """
        arrays = self._arrays
        before, units, others, behind = (  # views give numbers of Python's, and faster than arrays
            arrays[name].data for name in ("before", "unit", "other", "behind")
        )
        first = sorted((-score, n, entry, 0) for n, (score, entry) in enumerate(ends))
        ways: list[_Way] = [([], first)]
        heap: list[_Waiting] = []
        _wait(heap, 0, first, 0)
        while heap:
            cost, number, _, rank = heapq.heappop(heap)
            later, turns = ways[number]
            _, _, entry, kept = turns[rank]
            _wait(heap, number, turns, rank + 1)
            path, turns = later[:kept], []
            while entry > 0:
                if units[entry] >= 0:
                    path.append(entry)
                else:
                    turns.append((cost + behind[entry], len(turns), others[entry], len(path)))
                entry = before[entry]
            turns.sort()
            _wait(heap, len(ways), turns, 0)
            ways.append((path, turns))
            yield -cost, path[::-1]

    def read(
        self, paths: Sequence[list[int]]
    ) -> list[tuple[list[int], list[int], list[int], list[float]]]:
        """Units, frames, words and probabilities of the entries of each of ``paths``."""
        arrays, entries = self._arrays, np.array(list(itertools.chain(*paths)), np.int64)
        units, times, words = (arrays[n][entries].tolist() for n in ("unit", "time", "word"))
        probs = np.exp(arrays["log_prob"][entries].astype(np.float64))
        sure = np.minimum(probs, 1.0).tolist()
        edges = itertools.accumulate(map(len, paths), initial=0)
        return [
            (units[a:b], times[a:b], words[a:b], sure[a:b]) for a, b in itertools.pairwise(edges)
        ]


def _wait(heap: list[_Waiting], way: int, turns: list[_Turn], number: int) -> None:
    """Put the turn ``number`` of a way in line, if there is one."""
    if number < len(turns):
        cost, place, _, _ = turns[number]
        heapq.heappush(heap, (cost, way, place, number))
