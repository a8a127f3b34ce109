"""Arrays in few bytes: codebooks, bit fields, and numbers of variable length, all in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.levels import Floats

Bytes = npt.NDArray[np.uint8]

_SAMPLE = 1 << 20  # values that a codebook is made from
_LONGEST = 5  # bytes of a number
_UNHEARD = -100.0  # log-probabilities below it are marks (of <s>, of <unk>), not estimates


def codebook(values: Floats, bits: int, *, zero: bool = False) -> tuple[Floats, Bytes]:
    """At most ``2 ** bits`` values that stand for all of ``values`` (M,), and the codes (M,).

    Values are chosen for the least squared error (Lloyd's algorithm from quantiles); where there
    are no more than fit they are exact. With ``zero``, 0.0 is one of them and only stands for
    itself. Marks far below any estimate get one of their own.
    """
    values = np.asarray(values, dtype=np.float32)
    size = 1 << bits
    marked = values == 0 if zero else values < _UNHEARD
    fixed = np.zeros(1, np.float32) if zero else values[marked][:1]
    rest = values[~marked]
    if len(rest) > _SAMPLE:
        rest = rest[:: -(-len(rest) // _SAMPLE)]
    distinct = np.unique(rest)
    if len(distinct) > size - len(fixed):
        distinct = _lloyd(np.sort(rest).astype(np.float64), size - len(fixed))
    book = np.concatenate([fixed, distinct.astype(np.float32)])
    codes = np.zeros(len(values), dtype=np.uint8)
    if len(distinct):
        borders = (distinct[1:] + distinct[:-1]) / 2
        codes[:] = len(fixed) + np.searchsorted(borders.astype(np.float32), values)
        codes[marked] = 0
    return book, codes


def _lloyd(values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Centres of least squared error for sorted values."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    # half from quantiles, half evenly: the tails are long and must not be far off
    centres = np.unique(
        np.concatenate([
            np.quantile(values, (np.arange(size - size // 2) + 0.5) / (size - size // 2)),
            np.linspace(values[0], values[-1], size // 2),
        ])
    )  # fmt: skip
    for _ in range(30):
        edges = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(values)]])
        counts = np.diff(edges)
        filled = counts > 0
        centres = np.diff(sums[edges])[filled] / counts[filled]
    return np.unique(centres)


def pack_bits(codes: Bytes, bits: int) -> Bytes:
    """Codes (M,) below ``2 ** bits`` one after the other, without gaps."""
    if bits == 8:
        return codes
    fields = np.unpackbits(codes[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(fields.reshape(-1))


def unpack_bits(packed: Bytes, bits: int, count: int) -> Bytes:
    """What :func:`pack_bits` packed; ``packed`` must be as long as ``count`` needs."""
    if bits == 8:
        return packed
    fields = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    full = np.zeros((count, 8), dtype=np.uint8)
    full[:, 8 - bits :] = fields
    return np.packbits(full, axis=1)[:, 0]


def pack_numbers(values: npt.NDArray[Any]) -> Bytes:
    """Numbers of 7 bits a byte, the low ones first; the high bit says that more follow."""
    values = values.astype(np.uint64)
    lengths = np.ones(len(values), dtype=np.int64)
    for more in range(1, _LONGEST):
        lengths += values >= np.uint64(1 << (7 * more))
    at = np.cumsum(lengths) - lengths
    packed = np.zeros(int(lengths.sum()), dtype=np.uint8)
    for place in range(_LONGEST):
        some = np.flatnonzero(lengths > place)
        part = (values[some] >> np.uint64(7 * place)) & np.uint64(127)
        go_on = (lengths[some] > place + 1).astype(np.uint64) << np.uint64(7)
        packed[at[some] + place] = part | go_on
    return packed


def unpack_numbers(packed: Bytes, count: int) -> npt.NDArray[np.int64]:
    """What :func:`pack_numbers` packed.

    Raises:
        ValueError: there are not ``count`` numbers, or one is too long.
    """
    ends = np.flatnonzero(packed < 128)
    if len(ends) != count or (count and ends[-1] != len(packed) - 1) or (packed.size and not count):
        raise ValueError(f"{len(ends)} numbers instead of {count}")
    values = (packed[ends] & 127).astype(np.int64)
    lengths = np.diff(ends, prepend=-1)
    if count and lengths.max() > _LONGEST:
        raise ValueError("a number is too long")
    for back in range(1, _LONGEST):
        some = np.flatnonzero(lengths > back)
        if not len(some):
            break
        # from the last byte to the first, each lower by 7 bits
        values[some] = (values[some] << 7) | (packed[ends[some] - back] & 127)
    return values


def pack_children(words: npt.NDArray[Any], counts: npt.NDArray[Any]) -> Bytes:
    """Word ids that ascend within groups of ``counts`` as their differences."""
    words = words.astype(np.int64)
    steps = np.diff(words, prepend=0) - 1
    starts = (np.cumsum(counts) - counts)[counts > 0]
    steps[starts] = words[starts]
    return pack_numbers(steps)


def unpack_children(packed: Bytes, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """What :func:`pack_children` packed.

    Raises:
        ValueError: it is not that.
    """
    steps = unpack_numbers(packed, int(counts.sum()))
    sums = np.cumsum(steps + 1)
    some = counts[counts > 0]
    starts = np.cumsum(some) - some
    base = np.where(starts > 0, sums[starts - 1], 0) if len(some) else some
    words: npt.NDArray[np.uint32] = (sums - np.repeat(base, some) - 1).astype(np.uint32)
    return words
