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
_AGAIN = 16  # blocks for each unit that is wanted, among which the floor is looked for


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
    largest maximum is at most the K-th largest value, and hardly less. The blocks that reach it,
    some K a frame, are all that must be looked into.

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
    maxima = _folded(log_probs, folds)
    width = maxima.shape[1]
    again = width // (_AGAIN * count)  # the floor of the maxima, in the same way
    coarse = _folded(maxima, again) if again > 1 else maxima
    place = coarse.shape[1] - count
    floor = np.partition(coarse, place, axis=1)[:, place]
    # a block with NaN may hide what reaches the floor
    rows, blocks = np.divmod(np.flatnonzero(~(maxima < floor[:, None])), width)
    units = blocks[:, None] + width * np.arange(-(-vocab // width))
    known = np.minimum(units, vocab - 1)  # most blocks have no unit in the last fold
    reached = log_probs[rows[:, None], known]
    at, fold = np.nonzero((reached >= floor[rows, None]) & (units == known))
    rows, units, values = rows[at], units[at, fold], reached[at, fold]
    found = np.bincount(rows, minlength=size)
    _refuse_nan(found < count)
    first = np.cumsum(found) - found
    order = np.lexsort((units, -values, rows))[first[:, None] + np.arange(count)]
    return units[order], values[order]


def _folded(values: Floats, folds: int) -> Floats:
    """The maxima (T, V // folds) of blocks of ``values`` (T, V): i and what is a multiple of
    V // folds after it."""
    size, count = values.shape
    width = count // folds
    maxima: Floats = values[:, : folds * width].reshape(size, folds, width).max(axis=1)
    for start in range(folds * width, count, width):
        rest = values[:, start : start + width]
        part = maxima[:, : rest.shape[1]]
        np.maximum(part, rest, out=part)
    return maxima


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
