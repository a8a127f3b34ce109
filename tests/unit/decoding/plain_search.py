"""Searches written for the eye: tables by prefix, logarithms, no pruning. Slow and plain.

``prefix_beam`` follows the rules of WeNet's search, the times of repeated units included;
``all_prefixes`` and ``best_alignment`` try every path there is.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = tuple[int, ...]


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@dataclass
class Entry:
    """Log-probabilities of a prefix: all paths and the best path, by how they end."""

    blank: float = -math.inf
    unit: float = -math.inf
    best_blank: float = -math.inf
    best_unit: float = -math.inf
    blank_times: list[int] = field(default_factory=list)
    unit_times: list[int] = field(default_factory=list)
    reached: bool = False  # in this frame, from the prefix before it

    @property
    def total(self) -> float:
        return log_add(self.blank, self.unit)

    @property
    def best(self) -> tuple[float, list[int]]:
        if self.best_blank > self.best_unit:
            return self.best_blank, self.blank_times
        return self.best_unit, self.unit_times

    def reach(self, log: float, best: float, times: list[int], frame: int) -> None:
        """A path arrives from the prefix before, ``times`` its times."""
        self.unit = log_add(self.unit, log)
        if best > self.best_unit:
            self.best_unit, self.unit_times = best, [*times, frame]
            self.reached = True

    def repeat(self, log: float, best: float, times: list[int], frame: int) -> None:
        """The last unit goes on: it stands at the last frame of its run."""
        self.unit = log_add(self.unit, log)
        if best > self.best_unit:
            self.best_unit = best
            if not self.reached:  # WeNet's rule: times once reached in this frame stay
                self.unit_times = [*times[:-1], frame]


def prefix_beam(
    log_probs: npt.ArrayLike, beam: int, top_units: int, blank: int = 0
) -> list[tuple[Tokens, float, list[int]]]:
    """Tokens, score and times of the best prefixes, best first."""
    kept: list[tuple[Tokens, Entry]] = [((), Entry(blank=0.0, best_blank=0.0))]
    for frame, row in enumerate(np.asarray(log_probs, dtype=np.float64)):
        table: dict[Tokens, Entry] = defaultdict(Entry)
        for unit in np.argsort(-row, kind="stable")[:top_units].tolist():
            log = float(row[unit])
            for prefix, old in kept:
                best, times = old.best
                if unit == blank:
                    new = table[prefix]
                    new.blank = old.total + log
                    new.best_blank, new.blank_times = best + log, times
                elif prefix and unit == prefix[-1]:
                    table[prefix].repeat(old.unit + log, old.best_unit + log, old.unit_times, frame)
                    table[(*prefix, unit)].reach(
                        old.blank + log, old.best_blank + log, old.blank_times, frame
                    )
                else:
                    table[(*prefix, unit)].reach(old.total + log, best + log, times, frame)
        kept = sorted(table.items(), key=lambda item: item[1].total, reverse=True)[:beam]
        kept = [item for item in kept if item[1].total > -math.inf]
    return [(prefix, entry.total, entry.best[1]) for prefix, entry in kept]


def merge(path: tuple[int, ...], blank: int = 0) -> tuple[Tokens, list[int]]:
    """The tokens of a path and the last frame of each."""
    tokens: list[int] = []
    times: list[int] = []
    last = blank
    for frame, unit in enumerate(path):
        if unit != blank and unit != last:
            tokens.append(unit)
            times.append(frame)
        elif unit != blank:
            times[-1] = frame
        last = unit
    return tuple(tokens), times


def all_paths(log_probs: npt.ArrayLike) -> list[tuple[tuple[int, ...], float]]:
    """Every path through (T, V) with its log-probability."""
    rows = np.asarray(log_probs, dtype=np.float64)
    paths = itertools.product(range(rows.shape[1]), repeat=len(rows))
    return [(path, float(sum(rows[t, u] for t, u in enumerate(path)))) for path in paths]


def all_prefixes(log_probs: npt.ArrayLike, blank: int = 0) -> dict[Tokens, dict[str, Any]]:
    """Of every token sequence: ``score`` over all its paths, ``best`` path and its ``times``."""
    table: dict[Tokens, dict[str, Any]] = {}
    for path, log in all_paths(log_probs):
        tokens, times = merge(path, blank)
        entry = table.setdefault(tokens, {"score": -math.inf, "best": -math.inf})
        entry["score"] = log_add(entry["score"], log)
        if log > entry["best"]:
            entry.update(best=log, times=times, path=path)
    return table
