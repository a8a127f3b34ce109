"""Where speech is in a *clean* recording, from its energy: the truth that detectors learn from.

In a recording without noise the loud frames are speech and the quiet ones are not. Two thresholds
between the two levels (hysteresis) find the stretches; pauses that are shorter than ``gap`` are
speech, as nobody wants a word cut at the closure of a plosive. It is no detector for noisy sound,
and says so by its ``contrast``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

HOP = 0.01  # seconds between energies
_WINDOW = 0.02  # seconds of each
_DEEPEST = 60.0  # dB below the loud level: what is quieter counts as this


@dataclass(frozen=True)
class Activity:
    """Speech in a recording."""

    segments: tuple[tuple[float, float], ...]  # start and end, seconds
    contrast: float  # dB from the quiet frames to the loud ones


def energy_activity(
    samples: Array,
    rate: int,
    *,
    gap: float = 0.25,
    shortest: float = 0.1,
    enter: float = 0.4,
    leave: float = 0.25,
) -> Activity:
    """The speech of a clean recording (S,).

    ``enter`` and ``leave`` are places between the quiet level (5th percentile of the energies, in
    dB) and the loud one (95th): a stretch has a frame above the first and none below the second.
    Gaps below ``gap`` seconds are closed, stretches below ``shortest`` seconds dropped first.
    """
    levels = frame_levels(samples, rate)
    if not len(levels):
        return Activity((), 0.0)
    loud = float(np.percentile(levels, 95))
    quiet = max(float(np.percentile(levels, 5)), loud - _DEEPEST)
    contrast = loud - quiet
    if contrast <= 0.0:
        return Activity((), 0.0)
    low = levels > quiet + max(leave * contrast, 6.0)
    high = levels > quiet + max(enter * contrast, 10.0)
    duration = len(samples) / rate
    kept: list[tuple[float, float]] = []
    for first, last in _runs(low):
        if not high[first:last].any() or (last - first) * HOP < shortest:
            continue
        start, end = first * HOP, min(last * HOP, duration)
        if kept and start - kept[-1][1] < gap:
            start = kept.pop()[0]
        kept.append((start, end))
    return Activity(tuple(kept), contrast)


def frame_levels(samples: Array, rate: int) -> npt.NDArray[np.float64]:
    """The level of each 10 ms in dB of full scale, over windows of 20 ms around their middle."""
    hop, half = max(round(HOP * rate), 1), max(round(_WINDOW * rate / 2), 1)
    count = -(-len(samples) // hop)
    wide = samples.astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum((wide - wide.mean() if len(wide) else wide) ** 2)])
    middle = np.arange(count) * hop + hop // 2
    first, last = np.maximum(middle - half, 0), np.minimum(middle + half, len(samples))
    power = (total[last] - total[first]) / np.maximum(last - first, 1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-12)))


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
