"""Long recordings in windows that a model takes whole, cut where it is quiet.

Windows are made from blocks as they are read, so memory does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mynah.runtime.engine import Array

LONGEST = 30.0  # seconds of a window
SEARCH = 8.0  # the last seconds of it, in which the cut is sought
QUIET = 0.3  # seconds over which loudness is taken
# A recording whose samples all stay below this (-80 dB) holds nothing to hear.
SILENCE = 1e-4


@dataclass(frozen=True)
class Window:
    """Consecutive samples (S,) of a recording, the first of them the recording's ``start``-th."""

    start: int
    samples: Array

    @property
    def silent(self) -> bool:
        """Whether there is nothing to hear."""
        return is_silent(self.samples)


def is_silent(samples: Array) -> bool:
    """Whether no sample rises above -80 dB."""
    return len(samples) == 0 or max(float(samples.max()), -float(samples.min())) < SILENCE


def windows(
    blocks: Iterable[Array], rate: int, *, longest: float = LONGEST, search: float = SEARCH
) -> Iterator[Window]:
    """Cut ``blocks`` of samples into windows of at most ``longest`` seconds.

    A window ends at the quietest point of its last ``search`` seconds (of its second half at most),
    or with the recording; the windows together are the recording. How the blocks are cut changes
    nothing.
    """
    limit, start, held, pending = max(int(longest * rate), 1), 0, 0, []
    for block in blocks:
        pending.append(block)
        held += len(block)
        while held > limit:
            joined = np.concatenate(pending)
            first = max(limit - int(search * rate), limit // 2)
            cut = first + quietest(joined[first:limit], rate)
            yield Window(start, joined[:cut])
            start += cut
            pending = [joined[cut:].copy()]  # the window must not keep the rest alive
            held = len(pending[0])
    if held:
        yield Window(start, np.concatenate(pending))


def quietest(samples: Array, rate: int) -> int:
    """The sample in the middle of the quietest ``QUIET`` seconds; the latest where several are."""
    hop = max(rate // 100, 1)
    count = len(samples) // hop
    width = min(max(int(QUIET * rate) // hop, 1), max(count, 1))
    if count == 0:
        return len(samples)
    energy = np.square(samples[: count * hop], dtype=np.float32).reshape(count, hop).sum(axis=1)
    total = np.concatenate([[0.0], np.cumsum(energy, dtype=np.float64)])
    loudness = total[width:] - total[:-width]
    # differences of a running sum carry rounding: equal means equal within it
    found = np.flatnonzero(loudness <= loudness.min() + 1e-9 * total[-1])
    return int(found[-1] + width / 2) * hop
