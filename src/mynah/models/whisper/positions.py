"""The positions that a Whisper's encoder adds: fixed, and in no file of some checkpoints."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sinusoids(length: int, width: int) -> npt.NDArray[np.float32]:
    """(length, width): sines, then cosines, of the positions times
    ``10000 ** (-i / (width / 2 - 1))``."""
    half = width // 2
    rates = np.exp(-np.log(10_000.0) / max(half - 1, 1) * np.arange(half))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
