"""Word search as the definition says: every word sequence, every alignment."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Score = Callable[[tuple[str, ...]], float]


def best_path(log_probs: np.ndarray, units: Sequence[int], blank: int = 0) -> float:
    """The log-probability of the best alignment of ``units`` to all frames (T, V)."""
    states = [blank]
    for unit in units:
        states += [unit, blank]
    score = np.full(len(states), -math.inf)
    for time, frame in enumerate(log_probs):
        after = np.full(len(states), -math.inf)
        for i, unit in enumerate(states):
            if time == 0:
                came = 0.0 if i <= 1 else -math.inf
            else:
                came = max(score[max(i - 1, 0) : i + 1])
                if i >= 2 and unit != blank and unit != states[i - 2]:
                    came = max(came, score[i - 2])
            after[i] = came + frame[unit]
        score = after
    return float(max(score[-2:])) if len(log_probs) else (0.0 if not units else -math.inf)


def joined(
    parts: Sequence[Sequence[int]], boundary: int | None, longest: int
) -> Iterator[tuple[int, ...]]:
    """All ways to join spellings with any number of boundaries around each, up to a length."""
    spare = longest - sum(map(len, parts))
    for marks in itertools.product(range(spare + 1), repeat=len(parts) + 1):
        if sum(marks) <= spare and (boundary is not None or not any(marks)):
            units: list[int] = []
            for mark, part in itertools.zip_longest(marks, parts, fillvalue=()):
                units += [boundary or 0] * mark
                units += part
            yield tuple(units)


def all_words(
    log_probs: np.ndarray,
    entries: Sequence[tuple[str, Sequence[int]]],
    score: Score,
    *,
    boundary: int | None = None,
) -> dict[tuple[str, ...], float]:
    """The score of each word sequence that fits: acoustics plus ``score``."""
    found: dict[tuple[str, ...], float] = {}
    frames = len(log_probs)
    for count in range(frames + 1):
        for chosen in itertools.product(entries, repeat=count):
            words = tuple(word for word, _ in chosen)
            ways = joined([units for _, units in chosen], boundary, frames)
            heard = max((best_path(log_probs, units) for units in ways), default=-math.inf)
            if heard > -math.inf:
                found[words] = max(found.get(words, -math.inf), heard + score(words))
    return found
