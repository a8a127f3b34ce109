"""Forced alignment: the most probable frames of given units, and of a text with faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.decoding.trellis import FLOOR, Trellis, search
from mynah.decoding.units import Floats, as_frames
from mynah.errors import InputError

_NO_PLACES, _NO_SCORES = np.zeros(0, np.int64), np.zeros(0)


@dataclass(frozen=True, slots=True)
class Alignment:
    """The best CTC path through given tokens.

    Attributes:
        path: the unit of each frame, blanks included, (T,).
        starts: the first frame of each token.
        ends: one past its last frame; a token does not last into the blanks after it.
        score: natural-log probability of the path.
        confidences: the mean probability of each token over its frames.
    """

    path: npt.NDArray[np.int64]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    score: float
    confidences: tuple[float, ...]


def force_align(log_probs: npt.ArrayLike, tokens: Sequence[int], blank: int = 0) -> Alignment:
    """Align ``tokens`` (U,) to ``log_probs`` (T, V) by Viterbi search, exactly, in float64.

    The search goes through a band around the best path that is known to hold it
    (:mod:`mynah.decoding.trellis`).

    Raises:
        InputError: the tokens need more frames than there are, or no path is possible.
        ValueError: a token is the blank or outside the vocabulary.
    """
    frames = as_frames(log_probs)
    labels = _labels(tokens, frames.shape[1], blank)
    needed = len(labels) + int((labels[1:] == labels[:-1]).sum())
    if needed > len(frames):
        raise InputError(
            f"{len(labels)} units need {needed} encoder frames, the recording has {len(frames)}"
        )
    if labels.size == 0:
        score = float(frames[:, blank].sum(dtype=np.float64))
        return Alignment(np.full(len(frames), blank, dtype=np.int64), (), (), score, ())
    blanks = np.maximum(frames[:, blank].astype(np.float64), FLOOR)
    found = search(Trellis(frames, blanks, labels, _NO_PLACES, _NO_SCORES, _NO_SCORES))
    path = np.where(found.units >= 0, labels[found.units], blank) if len(found.units) else None
    picked = None if path is None else frames[np.arange(len(frames)), path]
    if path is None or picked is None or not picked.sum(dtype=np.float64) > -math.inf:
        raise InputError(f"the {len(labels)} units cannot be aligned: their probability is 0")
    starts, ends, means = _spans(found.units, np.arange(len(labels)), picked)
    return Alignment(
        path=path,
        starts=tuple(starts.tolist()),
        ends=tuple(ends.tolist()),
        score=float(picked.sum(dtype=np.float64)),
        confidences=tuple(means.tolist()),
    )


def _labels(tokens: Sequence[int], vocab: int, blank: int) -> npt.NDArray[np.int64]:
    labels = np.asarray(tokens, dtype=np.int64).reshape(-1)
    if labels.size and (labels.min() < 0 or labels.max() >= vocab):
        raise ValueError(f"tokens: outside the vocabulary of {vocab} units")
    if (labels == blank).any():
        raise ValueError(f"tokens: {blank} is the blank")
    return labels


def _spans(
    units: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], picked: Floats
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """First frame, one past the last, and mean probability of each unit of ``wanted``.

    ``units`` (T,) is the unit of each frame or -1, ``picked`` (T,) its log-probability; a unit of
    no frame has first and last -1.
    """
    spoken = np.flatnonzero(units >= 0)
    numbers = units[spoken]
    left = np.searchsorted(numbers, wanted)
    right = np.searchsorted(numbers, wanted, side="right")
    there = right > left
    starts, ends = np.full(len(wanted), -1), np.full(len(wanted), -1)
    starts[there] = spoken[left[there]]
    ends[there] = spoken[right[there] - 1] + 1
    total = np.append(0.0, np.cumsum(np.exp(picked[spoken].astype(np.float64))))
    means = (total[right] - total[left]) / np.maximum(right - left, 1)
    return starts, ends, np.clip(means, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class TextAlignment:
    """The best path through a text of which parts may be missing or foreign to the sound.

    Attributes:
        starts: the first frame of each unit of all words, -1 where its word was left out.
        ends: one past its last frame, -1 likewise.
        confidences: the mean probability of each unit over its frames, 0 where left out.
        foreign: frames, first and one past the last, of what was said and is not in the text.
        exact: whether no better path can have been lost.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    confidences: tuple[float, ...]
    foreign: tuple[tuple[int, int], ...]
    exact: bool


def align_text(
    log_probs: npt.ArrayLike,
    words: Sequence[Sequence[int]],
    blank: int = 0,
    *,
    foreign: float = 1.5,
    left_out: float = 2.0,
    leap: float = 10.0,
    beam: float = 2000.0,
    effort: float = 3e8,
) -> TextAlignment:
    """Align the units of ``words`` to ``log_probs`` (T, V), where either may have what the other
    has not.

    Between words anything may be said, at a cost of ``foreign`` for each frame that is not blank
    (a unit is worth its place while its share of what is not blank is above exp(-foreign) on
    average); words that follow each other may be left out at a cost of ``leap`` and ``left_out``
    for each of their units. The costs are those that damaged texts of development speakers ask for
    (``benchmarks/alignment_damaged.py``). Words without units have no part in it. Of ``log_probs``
    only the blank and the units of the text are used, so that the others may be missing.

    ``beam`` and ``effort``: as in :func:`mynah.decoding.trellis.search`. With more frames times
    units than ``effort``, ``exact`` says whether the best path was found for certain; a text that
    jumps by more than the beam allows is then followed less well.

    Raises:
        ValueError: a unit is the blank or outside the vocabulary.
    """
    frames = as_frames(log_probs)
    labels = _labels([unit for word in words for unit in word], frames.shape[1], blank)
    sizes = np.array([len(word) for word in words if len(word)], np.int64)
    blanks = np.maximum(frames[:, blank].astype(np.float64), FLOOR)
    with np.errstate(divide="ignore"):
        spoken = np.log(-np.expm1(np.minimum(blanks, 0.0)))
    star_logs = np.maximum(spoken - foreign - blanks, 0.0)
    if not labels.size or not len(frames):
        places = np.zeros(len(frames), np.int64)
        found_units, exact = np.full(len(frames), -1), True
    else:
        stars = np.append(0, np.cumsum(sizes))
        costs = np.append(0.0, np.cumsum(left_out * sizes))
        trellis = Trellis(frames, blanks, labels, stars, costs, star_logs, leap)
        found = search(trellis, beam=beam, effort=effort)
        found_units, places, exact = found.units, found.places, found.exact
    picked = frames[np.arange(len(frames)), labels[found_units]] if labels.size else blanks
    starts, ends, means = _spans(found_units, np.arange(len(labels)), picked)
    in_star = (found_units < 0) & (star_logs > 0) & np.isin(places, np.append(0, np.cumsum(sizes)))
    return TextAlignment(
        starts=tuple(starts.tolist()),
        ends=tuple(ends.tolist()),
        confidences=tuple(means.tolist()),
        foreign=_runs(in_star),
        exact=exact,
    )


def _runs(flags: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """First and one past the last of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
