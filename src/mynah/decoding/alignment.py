"""Forced alignment: the most probable frames of given units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.decoding.units import Floats, as_frames
from mynah.errors import InputError

_BLOCK = 256  # frames whose moves are held unpacked


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
    """Align ``tokens`` (U,) to ``log_probs`` (T, V) by Viterbi search, exactly.

    All tokens advance together, a frame at a time, in float64; of each frame only the moves are
    kept, three bits a token (600 s of speech and 2400 tokens: 14 MB).

    Raises:
        InputError: the tokens need more frames than there are, or no path is possible.
        ValueError: a token is the blank or outside the vocabulary.
    """
    frames = as_frames(log_probs)
    labels = np.asarray(tokens, dtype=np.int64).reshape(-1)
    if labels.size and (labels.min() < 0 or labels.max() >= frames.shape[1]):
        raise ValueError(f"tokens: outside the vocabulary of {frames.shape[1]} units")
    if (labels == blank).any():
        raise ValueError(f"tokens: {blank} is the blank")
    needed = len(labels) + int((labels[1:] == labels[:-1]).sum())
    if needed > len(frames):
        raise InputError(
            f"{len(labels)} units need {needed} encoder frames, the recording has {len(frames)}"
        )
    if labels.size == 0:
        score = float(frames[:, blank].sum(dtype=np.float64))
        return Alignment(np.full(len(frames), blank, dtype=np.int64), (), (), score, ())
    moves, score, ends_in_blank = _forward(frames, labels, blank)
    if not score > -math.inf:
        raise InputError(f"the {len(labels)} units cannot be aligned: their probability is 0")
    places = _trace(moves, len(labels), ends_in_blank)
    path = np.where(places >= 0, labels[places], blank)
    spoken = np.flatnonzero(places >= 0)
    starts = spoken[np.searchsorted(places[spoken], np.arange(len(labels)))]
    ends = spoken[np.searchsorted(places[spoken], np.arange(len(labels)), side="right") - 1] + 1
    probs = np.exp(frames[spoken, path[spoken]].astype(np.float64))
    means = np.bincount(places[spoken], weights=probs) / (ends - starts)
    return Alignment(
        path=path,
        starts=tuple(starts.tolist()),
        ends=tuple(ends.tolist()),
        score=score,
        confidences=tuple(np.minimum(means, 1.0).tolist()),
    )


def _forward(
    frames: Floats, labels: npt.NDArray[np.int64], blank: int
) -> tuple[npt.NDArray[np.uint8], float, bool]:
    """Moves (3, T, U / 8) as bits, the best score, and whether it ends in a blank.

    Token u is preceded by blank u; the blank after the last token is kept apart. The bits of a
    token: its blank was entered from the token before (else from itself), it was entered from its
    blank (else from itself), it was entered from the token before without a blank (overrules).
    """
    size, count = len(frames), len(labels)
    # Blank u and token u; u runs to U for blanks, and token U stands for no token.
    in_blank = np.full(count + 1, -math.inf)
    in_token = np.full(count + 1, -math.inf)
    in_blank[0] = 0.0  # before the first frame; a token is entered from it as from a blank
    skip = np.zeros(count)
    skip[0] = -math.inf
    skip[1:][labels[1:] == labels[:-1]] = -math.inf
    packed = np.empty((3, size, (count + 8) // 8), dtype=np.uint8)
    direct, stay = np.empty(count), np.empty(count)
    for first in range(0, size, _BLOCK):
        block = frames[first : first + _BLOCK]
        token_logs = block[:, labels].astype(np.float64)
        blank_logs = block[:, blank].astype(np.float64).tolist()
        moves = np.zeros((3, len(block), count + 1), dtype=np.bool_)
        for t in range(len(block)):
            np.add(in_token[: count - 1], skip[1:], out=direct[1:])
            direct[0] = -math.inf
            before = in_token[:count].copy()
            np.greater(in_blank[:count], before, out=moves[1, t, :count])
            np.maximum(in_blank[:count], before, out=stay)
            np.greater(direct, stay, out=moves[2, t, :count])
            np.maximum(direct, stay, out=stay)
            np.add(stay, token_logs[t], out=in_token[:count])
            np.greater(before, in_blank[1:], out=moves[0, t, 1:])
            np.maximum(before, in_blank[1:], out=in_blank[1:])
            in_blank += blank_logs[t]
        packed[:, first : first + len(block)] = np.packbits(moves, axis=2)
    blank_score, token_score = float(in_blank[count]), float(in_token[count - 1])
    return packed, max(blank_score, token_score), blank_score > token_score


def _trace(moves: npt.NDArray[np.uint8], count: int, ends_in_blank: bool) -> npt.NDArray[np.int64]:
    """The token of each frame, -1 where it is blank, walked from the last frame."""
    size = moves.shape[1]
    places = np.full(size, -1, dtype=np.int64)
    blank, place = ends_in_blank, count if ends_in_blank else count - 1
    for t in range(size - 1, -1, -1):
        byte, bit = place >> 3, 128 >> (place & 7)
        if blank:
            if moves[0, t, byte] & bit:
                blank, place = False, place - 1
            continue
        places[t] = place
        if moves[2, t, byte] & bit:
            place -= 1
        elif moves[1, t, byte] & bit:
            blank = True
    return places
