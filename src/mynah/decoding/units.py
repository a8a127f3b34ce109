"""The best units of each frame, found without sorting the vocabulary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.errors import ModelError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

_SMALL = 128  # below this many units a plain sort is as fast


def as_frames(log_probs: npt.ArrayLike) -> Floats:
    """``log_probs`` as a floating (T, V) array; half precision becomes single.

    Raises:
        ValueError: not two-dimensional, or no unit at all.
    """
    frames = np.asarray(log_probs)
    if frames.ndim != 2 or frames.shape[1] == 0:
        raise ValueError(f"log_probs: expected shape (T, V), got {frames.shape}")
    if frames.dtype not in (np.float32, np.float64):
        frames = frames.astype(np.float32)
    return frames


def best_units(log_probs: Floats, count: int) -> tuple[Ints, Floats]:
    """The ``count`` best units of each frame, best first; ties go to the smaller id.

    Takes (T, V), gives units (T, K) and their values (T, K) with K = min(count, V).

    The columns are folded into blocks and only the maximum of each block is kept: the K-th
    largest maximum is at most the K-th largest value, and hardly less. What reaches it, some K
    units a frame, is all that must be sorted.

    Raises:
        ModelError: a frame holds NaN where its best units should be.
    """
    size, vocab = log_probs.shape
    count = min(count, vocab)
    folds = min(20, vocab // (4 * count), math.isqrt(vocab))
    if vocab <= _SMALL or folds < 2:
        order: Ints = np.argsort(-log_probs, axis=1, kind="stable")[:, :count]
        values = np.take_along_axis(log_probs, order, axis=1)
        _refuse_nan(np.isnan(values[:, -1]))  # NaN sorts last, and so shows where K meets it
        return order, values
    width = vocab // folds
    maxima = log_probs[:, : folds * width].reshape(size, folds, width).max(axis=1)
    rest = vocab - folds * width
    if rest:
        np.maximum(maxima[:, :rest], log_probs[:, folds * width :], out=maxima[:, :rest])
    floor = np.partition(maxima, width - count, axis=1)[:, width - count]
    flat = np.flatnonzero(log_probs >= floor[:, None])
    rows, units = np.divmod(flat, vocab)
    found = np.bincount(rows, minlength=size)
    _refuse_nan(found < count)
    values = log_probs[rows, units]
    first = np.cumsum(found) - found
    order = np.lexsort((-values, rows))[first[:, None] + np.arange(count)]
    return units[order], values[order]


def _refuse_nan(broken: npt.NDArray[np.bool_]) -> None:
    if broken.any():
        raise ModelError(f"log-probabilities of frame {int(broken.argmax())} are not numbers")


def penalise_blank(log_probs: Floats, blank: int, penalty: float) -> Floats:
    """Log-probabilities (T, V) with ``penalty`` taken from the blank's logit, sums again 1."""
    if penalty == 0:
        return log_probs
    penalised = log_probs.copy()
    penalised[:, blank] -= penalty
    # The rest keeps its logits, so that the sum changes by the blank's share alone.
    share = np.exp(log_probs[:, blank].astype(np.float64)) * np.expm1(-penalty)
    # A sum of 1 - share cannot be trusted near 0: there the units are summed again.
    change = np.log1p(np.maximum(share, -1 + 1e-6))
    doubtful = np.flatnonzero(share < -1 + 1e-3)
    if doubtful.size:
        rows = penalised[doubtful].astype(np.float64)
        peak = rows.max(axis=1)
        change[doubtful] = peak + np.log(np.exp(rows - peak[:, None]).sum(axis=1))
    penalised -= change[:, None].astype(penalised.dtype)
    return penalised
