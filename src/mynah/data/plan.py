"""Which utterances make which batch: a function of (seed, epoch) and the lengths alone.

The batches of an epoch are an order of the utterances and the bounds between batches, so any of
them is found at once, on any rank, without the ones before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Batch ``b`` is the rows ``order[bounds[sequence[b]] : bounds[sequence[b] + 1]]``."""

    order: Ints  # (N,) rows of the index
    bounds: Ints  # (M + 1,)
    sequence: Ints  # (M,) the order of the batches
    frames: Ints  # (N,) expected feature frames of each row
    factors: npt.NDArray[np.uint8]  # (N,) which of the speed factors each row has

    def __len__(self) -> int:
        return len(self.sequence)

    def rows(self, batch: int) -> Ints:
        """The rows of the index that make a batch."""
        place = self.sequence[batch]
        return self.order[self.bounds[place] : self.bounds[place + 1]]


def make_plan(
    seconds: npt.NDArray[np.float32],
    keys: npt.NDArray[np.uint64],
    *,
    speed: Sequence[float],
    frame_shift: float,
    max_frames: int,
    max_items: int,
    buckets: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    margin: float = 0.0,
    window: float = 0.0,
) -> Plan:
    """The batches of an epoch over utterances of the given lengths.

    With ``shuffle`` utterances meet at random within buckets of similar length (each bucket holds
    about the same time), and batches come in random order; without, they are sorted by length, and
    batches come in an order that is the same for every epoch.
    No batch has more than ``max_frames`` frames, padding counted, unless a single utterance has.
    ``margin`` seconds come after each utterance, or each is filled up to ``window`` seconds.
    """
    factors = draw(keys, seed, epoch, max(1, len(speed))).astype(np.uint8)
    slowed = seconds.astype(np.float64)
    if len(speed) > 0:
        slowed = slowed / np.asarray(speed, np.float64)[factors]
    # one frame more than the hops: no front end gives more, whatever it does at the ends
    frames = np.ceil((slowed + margin) / frame_shift).astype(np.int64) + 1
    if window:
        frames = np.full(len(slowed), round(window / frame_shift))
    if not shuffle:
        order = np.argsort(frames, kind="stable")
        bounds = pack(frames[order], max_frames, max_items)
        # so that the first of them, where no more are wanted, are of all lengths
        batches = np.random.default_rng(seed).permutation(len(bounds) - 1)
        return Plan(order, bounds, batches, frames, factors)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(frames))
    bucket = np.searchsorted(_edges(frames, buckets), frames[order])
    order = order[np.argsort(bucket, kind="stable")]
    bounds = pack(frames[order], max_frames, max_items)
    return Plan(order, bounds, rng.permutation(len(bounds) - 1), frames, factors)


def _edges(frames: Ints, buckets: int) -> Ints:
    """The longest length of each bucket but the last, so that each holds about the same time."""
    if len(frames) == 0:
        return np.empty(0, np.int64)
    sorted_frames = np.sort(frames)
    total = np.cumsum(sorted_frames)
    targets = total[-1] * np.arange(1, buckets) / buckets
    return np.unique(sorted_frames[np.searchsorted(total, targets)])


def pack(lengths: Ints, max_frames: int, max_items: int) -> Ints:
    """Bounds of batches, filled in order while (longest x number) stays within ``max_frames``."""
    bounds, start = [0], 0
    while start < len(lengths):
        most = max(1, min(max_items, max_frames // max(1, int(lengths[start]))))
        window = lengths[start : start + most]
        padded = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
        start += max(1, int(np.searchsorted(padded, max_frames, side="right")))
        bounds.append(start)
    return np.asarray(bounds, np.int64)


def draw(keys: npt.NDArray[np.uint64], seed: int, epoch: int, choices: int) -> Ints:
    """For each key one of ``choices``, from a hash of (seed, epoch, key): splitmix64."""
    with np.errstate(over="ignore"):
        value = keys + np.uint64(_mix(seed * 0x9E3779B97F4A7C15 + epoch))
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    return (value >> np.uint64(32)).astype(np.int64) * choices >> 32


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & (1 << 64) - 1
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    return value ^ (value >> 31)
