"""Arrays that may be larger than memory, and sorting them: in memory first, then in files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Scratch:
    """A place for arrays: ``memory`` bytes in memory, what is more in files of a folder.

    A context manager: the folder, made when it is first needed, goes at the end, and with it the
    arrays that lie there.
    """

    def __init__(self, memory: int, folder: str | Path | None = None) -> None:
        """``memory`` in bytes for all arrays kept here; files go into ``folder`` (the system's)."""
        self.left = memory
        self.spilled = 0
        self._parent = folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0
        self._piles: list[Pile] = []

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pile in self._piles:
            pile.close()
        if self._folder is not None:
            self._folder.cleanup()

    def path(self) -> Path:
        """A new file name.

        Raises:
            OSError: the folder cannot be made.
        """
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="mynah-lm-", dir=self._parent, ignore_cleanup_errors=True
            )
        self._files += 1
        return Path(self._folder.name) / str(self._files)

    def zeros(self, size: int, dtype: npt.DTypeLike) -> Array:
        """An array (size,) of zeros."""
        needed = size * np.dtype(dtype).itemsize
        if needed <= self.left or size == 0:
            self.left -= needed
            return np.zeros(size, dtype=dtype)
        self.spilled += needed
        return np.memmap(self.path(), dtype=dtype, mode="w+", shape=(size,))

    def pile(self, dtype: npt.DTypeLike) -> Pile:
        """An array that grows at its end."""
        self._piles.append(Pile(self, dtype))
        return self._piles[-1]


class Pile:
    """An array that grows at its end, in memory until the scratch's share is used up."""

    def __init__(self, scratch: Scratch, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.size = 0
        self._scratch = scratch
        self._blocks: list[Array] = []
        self._file: IO[bytes] | None = None
        self._path: Path | None = None

    def append(self, block: Array) -> None:
        """Add values at the end."""
        block = np.ascontiguousarray(block, dtype=self.dtype)
        self.size += len(block)
        if self._file is None and block.nbytes <= self._scratch.left:
            self._scratch.left -= block.nbytes
            self._blocks.append(block.copy())
            return
        if self._file is None:
            self._path = self._scratch.path()
            self._file = open(self._path, "wb")  # noqa: SIM115  closed in array() or at the end
            for earlier in self._blocks:
                self._scratch.left += earlier.nbytes
                self._write(earlier)
            self._blocks = []
        self._write(block)

    def _write(self, block: Array) -> None:
        assert self._file is not None
        self._scratch.spilled += block.nbytes
        self._file.write(block.data)

    def close(self) -> None:
        """Close the file, if there is one; nothing can be added after this."""
        if self._file is not None:
            self._file.close()

    def array(self) -> Array:
        """All values; nothing may be added after this."""
        if self._file is not None:
            self.close()
            return np.memmap(str(self._path), dtype=self.dtype, mode="r", shape=(self.size,))
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate([np.zeros(0, self.dtype), *self._blocks])]
        return self._blocks[0]


def sort_order(keys: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.intp]:
    """The order of rows by key columns, the most significant first.

    numpy sorts one column of integers several times faster than rows of several. So a further
    column (or as much of it as there is room for) is put behind the rank of what came before it.
    """
    key = keys[0]
    order = np.argsort(key)
    for column in keys[1:]:
        left = int(column.max()).bit_length() if len(column) else 0
        while left > 0:
            rank = np.empty(len(key), dtype=np.uint64)
            rank[order] = np.cumsum(changes([key[order]]), dtype=np.uint64) - np.uint64(1)
            if int(rank[order[-1]]) == len(key) - 1:
                return order  # no two are alike
            width = min(left, 64 - len(key).bit_length())
            left -= width
            part = (column >> np.uint64(left)) & np.uint64((1 << width) - 1)
            key = (rank << np.uint64(width)) | part
            order = np.argsort(key)
    return order


def changes(keys: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.bool_]:
    """Where a sorted row differs from the one before it; the first row does."""
    new = np.ones(len(keys[0]), dtype=np.bool_)
    if len(new):
        new[1:] = keys[0][1:] != keys[0][:-1]
        for column in keys[1:]:
            new[1:] |= column[1:] != column[:-1]
    return new


class Runs:
    """An external sort of rows: sorted runs, merged by cutting the range of keys into parts.

    A row has key columns (uint64, the most significant first) and columns of values (int64). Rows
    with the same key are one row when ``sum_values``. A part is as many of all runs' rows as fit
    into memory, so it is sorted there; no loop is over rows.
    """

    def __init__(
        self, scratch: Scratch, keys: int, values: int, *, rows: int, sum_values: bool = False
    ) -> None:
        """``rows`` of a part that fit into memory."""
        self._keys = [scratch.pile(np.uint64) for _ in range(keys)]
        self._values = [scratch.pile(np.int64) for _ in range(values)]
        self._ends: list[int] = []
        self._rows = rows
        self._sum = sum_values

    def add(self, keys: Sequence[Array], values: Sequence[Array] | None) -> None:
        """Add rows in any order, about ``rows`` of them at a time; ``None`` counts each as 1."""
        if values is None and len(keys) == 1:  # then nothing has to move with the keys
            column = np.sort(keys[0])
            at = np.flatnonzero(changes([column]))
            keys, values = [column[at]], [np.diff(at, append=len(column))]
        else:
            ones = np.ones(len(keys[0]), dtype=np.int64)
            keys, values = self._sorted(keys, [ones] if values is None else values)
        for pile, column in zip([*self._keys, *self._values], [*keys, *values], strict=True):
            pile.append(column)
        self._ends.append(self._keys[0].size)

    def merge(self) -> Iterator[tuple[list[Array], list[Array]]]:
        """All rows in order, a part at a time: key columns, value columns."""
        keys = [pile.array() for pile in self._keys]
        values = [pile.array() for pile in self._values]
        starts = [0, *self._ends][: len(self._ends)]
        at = list(starts)
        for pivot in self._pivots(keys[0], starts):
            stops = list(self._ends)
            if pivot is not None:
                stops = [
                    start + int(np.searchsorted(keys[0][start:end], pivot))
                    for start, end in zip(starts, self._ends, strict=True)
                ]
            pieces = [slice(a, b) for a, b in zip(at, stops, strict=True) if b > a]
            at = stops
            if not pieces:
                continue
            part = [np.concatenate([column[p] for p in pieces]) for column in keys]
            beside = [np.concatenate([column[p] for p in pieces]) for column in values]
            yield (part, beside) if len(pieces) == 1 else self._sorted(part, beside)

    def _pivots(self, first: Array, starts: Sequence[int]) -> list[np.uint64 | None]:
        """Keys that part all rows into parts that fit; None is the end."""
        total = len(first)
        parts = -(-total // self._rows)
        if parts <= 1:
            return [None]
        step = max(self._rows // 64, 1)
        sample = [first[a:b:step] for a, b in zip(starts, self._ends, strict=True)]
        sorted_sample = np.sort(np.concatenate(sample))
        at = np.linspace(0, len(sorted_sample), parts + 1)[1:-1].astype(np.int64)
        return [*np.unique(sorted_sample[at]), None]

    def _sorted(
        self, keys: Sequence[Array], values: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        order = sort_order(keys)
        sorted_keys = [column[order] for column in keys]
        sorted_values = [column[order] for column in values]
        if self._sum and len(order):
            at = np.flatnonzero(changes(sorted_keys))
            sorted_keys = [column[at] for column in sorted_keys]
            sorted_values = [np.add.reduceat(column, at) for column in sorted_values]
        return sorted_keys, sorted_values
