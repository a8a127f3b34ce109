"""What is in a corpus: hours, speakers, lengths, and the cuts that stand out."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mynah.corpus.cut import Cut


@dataclass(frozen=True)
class Outlier:
    """A cut at an end of the range, with the value that put it there."""

    id: str
    value: float
    text: str


@dataclass
class Summary:
    """Counts over a manifest. Lengths are seconds, rates are characters a second of text."""

    cuts: int = 0
    without_text: int = 0
    without_duration: int = 0
    seconds: float = 0.0
    words: int = 0
    speakers: Counter[str] = field(default_factory=Counter)  # seconds of each
    languages: Counter[str] = field(default_factory=Counter)  # cuts of each
    vocabulary: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    durations: list[float] = field(default_factory=list)
    longest: list[Outlier] = field(default_factory=list)
    shortest: list[Outlier] = field(default_factory=list)
    fastest: list[Outlier] = field(default_factory=list)
    slowest: list[Outlier] = field(default_factory=list)

    def quantile(self, part: float) -> float:
        """The length that ``part`` (0..1) of the cuts do not exceed."""
        return float(np.quantile(self.durations, part)) if self.durations else 0.0

    def histogram(self, bins: int = 16) -> list[tuple[float, float, int]]:
        """Rows (from, to, cuts) over the lengths; the last holds the longest two in a hundred."""
        if not self.durations:
            return []
        top = float(np.quantile(self.durations, 0.98))
        edges = np.linspace(0.0, max(top, 1e-3), bins)
        counts, _ = np.histogram(self.durations, np.append(edges, max(self.durations) + 1e-6))
        ends = [*edges[1:], max(self.durations)]
        return [(float(a), float(b), int(c)) for a, b, c in zip(edges, ends, counts, strict=True)]


def summarize(cuts: Iterable[Cut], outliers: int = 5) -> Summary:
    """Go through the cuts once; recordings are not opened."""
    summary = Summary()
    ends: dict[str, list[tuple[float, int, Outlier]]] = {
        name: [] for name in ("longest", "shortest", "fastest", "slowest")
    }

    def offer(name: str, value: float, cut: Cut, sign: float) -> None:
        entry = (sign * value, summary.cuts, Outlier(cut.id, value, cut.text))
        push = heapq.heappush if len(ends[name]) < outliers else heapq.heappushpop
        push(ends[name], entry)

    for cut in cuts:
        summary.cuts += 1
        text = cut.text
        words = text.split()
        summary.words += len(words)
        summary.vocabulary.update(words)
        summary.characters.update(text)
        summary.without_text += not words
        summary.languages[cut.language] += 1
        if cut.duration is None:
            summary.without_duration += 1
            continue
        summary.seconds += cut.duration
        summary.durations.append(cut.duration)
        summary.speakers[cut.speaker] += cut.duration  # type: ignore[assignment]
        offer("longest", cut.duration, cut, 1.0)
        offer("shortest", cut.duration, cut, -1.0)
        if words and cut.duration > 0:
            rate = len(text) / cut.duration
            offer("fastest", rate, cut, 1.0)
            offer("slowest", rate, cut, -1.0)
    for name, entries in ends.items():
        setattr(summary, name, [o for _, _, o in sorted(entries, reverse=True)])
    return summary


def bars(counts: Sequence[int], width: int) -> list[str]:
    """A horizontal bar for each count, the greatest ``width`` characters long."""
    most = max(counts, default=0)
    parts = " ▏▎▍▌▋▊▉"
    rows = []
    for count in counts:
        eighths = round(8 * width * count / most) if most else 0
        rows.append("█" * (eighths // 8) + parts[eighths % 8].strip())
    return rows
