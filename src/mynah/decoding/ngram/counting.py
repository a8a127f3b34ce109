"""Counting n-grams of a text in bounded memory, and the adjusted counts of Kneser-Ney.

A window of N words ends at every word of the text (``</s>`` included), padded with ``<s>`` at the
left. Windows are packed into integers with the last word first, so that in sorted order all
n-grams of all orders that end alike lie side by side: one pass gives, for each of them, how often
it occurs and how many different words stand before it (Heafield et al. 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.scratch import Array, Runs, Scratch

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2


@dataclass(frozen=True)
class Packing:
    """N-grams as columns of uint64: ``bits`` a word, as many words a column as fit."""

    bits: int

    @classmethod
    def of(cls, vocab_size: int) -> Packing:
        """For word ids below ``vocab_size``."""
        return cls(max(int(vocab_size - 1).bit_length(), 1))

    @property
    def per_column(self) -> int:
        """Words of a column."""
        return 64 // self.bits

    def columns(self, order: int) -> int:
        """Columns of an n-gram of ``order`` words."""
        return -(-order // self.per_column)

    def pack(self, words: Sequence[Array]) -> list[npt.NDArray[np.uint64]]:
        """The columns of n-grams, the word ``words[0]`` the most significant."""
        packed = []
        for start in range(0, len(words), self.per_column):
            column = np.zeros(len(words[0]), dtype=np.uint64)
            for word in words[start : start + self.per_column]:
                column <<= np.uint64(self.bits)
                column |= word.astype(np.uint64)
            packed.append(column)
        return packed

    def unpack(self, columns: Sequence[Array], order: int) -> list[npt.NDArray[np.uint64]]:
        """The words of n-grams, the most significant first."""
        words = []
        mask = np.uint64((1 << self.bits) - 1)
        for place in range(order):
            column, within = divmod(place, self.per_column)
            held = min(self.per_column, order - column * self.per_column)
            shift = np.uint64(self.bits * (held - 1 - within))
            words.append((columns[column] >> shift) & mask)
        return words


def windows(tokens: Array, before: Array, order: int) -> list[Array]:
    """The words of the windows that end at each of ``tokens`` (T,), the last word first.

    ``before`` are the ``order - 1`` tokens that stand before the first; sentences end with
    ``EOS_ID``, and what would lie before the start of a sentence is ``BOS_ID``.
    """
    joined = np.concatenate([before, tokens])
    words = [tokens]
    outside = np.zeros(len(tokens), dtype=np.bool_)
    for back in range(1, order):
        start = order - 1 - back
        word = joined[start : start + len(tokens)]
        outside = outside | (word == EOS_ID)
        words.append(np.where(outside, BOS_ID, word))
    return words


@dataclass
class Counts:
    """What was counted of one order.

    Attributes:
        runs: its n-grams with their (adjusted count, raw count), to be sorted by first word.
        of_counts: (5,) how many n-grams have the adjusted count 1, 2, 3, 4 (index 0 is unused).
        unigrams: for order 1, instead of runs: (V,) adjusted and raw counts.
    """

    runs: Runs | None
    of_counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(5, np.int64))
    unigrams: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None


def count(
    blocks: Callable[[int], Iterator[Array]],
    *,
    order: int,
    vocab_size: int,
    scratch: Scratch,
    memory: int,
) -> list[Counts]:
    """Count the n-grams of all orders up to ``order``.

    Args:
        blocks: gives the token ids, sentences ended by ``EOS_ID``, so many at a time.
        vocab_size: above all ids.
        scratch: where runs go.
        memory: bytes that one step of sorting may take.

    Returns:
        The counts of each order, unigrams first.
    """
    packing = Packing.of(vocab_size)
    columns = packing.columns(order)
    # a row of a step: the columns, unsorted and sorted, their order, counts, words and flags
    rows = max(memory // (24 * columns + 30 * order + 60), 16)
    runs = Runs(scratch, columns, 1, rows=rows, sum_values=True)
    before = np.full(order - 1, EOS_ID, dtype=np.uint32)
    for tokens in blocks(rows):
        runs.add(packing.pack(windows(tokens, before, order)), None)
        if order > 1:
            before = np.concatenate([before, tokens])[-(order - 1) :]
    adjust = _Adjust(packing, order, vocab_size, scratch, rows)
    for part, (values,) in runs.merge():
        adjust.add(part, values)
    return adjust.finish()


class _Adjust:
    """Adjusted counts from windows that come sorted by their last words, part by part."""

    def __init__(
        self, packing: Packing, order: int, vocab_size: int, scratch: Scratch, rows: int
    ) -> None:
        self.packing = packing
        self.order = order
        self.counts = [
            Counts(Runs(scratch, packing.columns(n), 2, rows=rows)) for n in range(1, order + 1)
        ]
        zeros = np.zeros(vocab_size, dtype=np.int64)
        self.counts[0] = Counts(None, unigrams=(zeros, zeros.copy()))
        self.last: list[Array] | None = None  # words of the last row, (1,) each
        # of each order below N, the n-gram that the next part may go on with
        self.open: list[tuple[list[Array], Array, Array] | None] = [None] * order

    def add(self, keys: list[Array], values: Array) -> None:
        words = self.packing.unpack(keys, self.order)
        new = self._new(words)
        for n in range(1, self.order + 1):
            self._groups(n, words, new, values)
        self.last = [word[-1:] for word in words]

    def _new(self, words: list[Array]) -> list[npt.NDArray[np.bool_]]:
        """For each order, where the last n words differ from those of the row before."""
        differs = np.zeros(len(words[0]), dtype=np.bool_)
        if self.last is None:
            differs[0] = True
        new = []
        for n, word in enumerate(words):
            differs = differs.copy()
            differs[1:] |= word[1:] != word[:-1]
            if self.last is not None:
                differs[0] |= word[0] != self.last[n][0]
            new.append(differs)
        return new

    def _groups(self, n: int, words: list[Array], new: list[Array], values: Array) -> None:
        starts = np.flatnonzero(new[n - 1])
        left = new[n].astype(np.int64) if n < self.order else values  # words before it
        if self.open[n - 1] is not None:
            self._continue(n, int(starts[0]) if len(starts) else len(values), left, values)
        if not len(starts):
            return
        self._close(n)
        adjusted = np.add.reduceat(left, starts)
        raw = np.add.reduceat(values, starts)
        gram = [word[starts] for word in words[:n]]
        adjusted = np.where(gram[-1] == BOS_ID, raw, adjusted)
        self._emit(n, [word[:-1] for word in gram], adjusted[:-1], raw[:-1])
        self.open[n - 1] = ([word[-1:] for word in gram], adjusted[-1:], raw[-1:])

    def _continue(self, n: int, stop: int, left: Array, values: Array) -> None:
        gram, adjusted, raw = self.open[n - 1]  # type: ignore[misc]
        raw = raw + values[:stop].sum()
        adjusted = adjusted + left[:stop].sum()
        self.open[n - 1] = (gram, np.where(gram[-1] == BOS_ID, raw, adjusted), raw)

    def _close(self, n: int) -> None:
        held = self.open[n - 1]
        if held is not None:
            self._emit(n, *held)
            self.open[n - 1] = None

    def _emit(self, n: int, gram: list[Array], adjusted: Array, raw: Array) -> None:
        """Take n-grams, given with the last word first, that will not change any more."""
        if n > 1:  # a second <s> is padding
            real = gram[-2] != BOS_ID
            gram = [word[real] for word in gram]
            adjusted, raw = adjusted[real], raw[real]
        counts = self.counts[n - 1]
        counts.of_counts += np.bincount(np.minimum(adjusted, 5), minlength=6)[:5]
        if counts.unigrams is not None:
            counts.unigrams[0][gram[0].astype(np.int64)] = adjusted
            counts.unigrams[1][gram[0].astype(np.int64)] = raw
        elif counts.runs is not None and len(raw):
            counts.runs.add(self.packing.pack(gram[::-1]), [adjusted, raw])

    def finish(self) -> list[Counts]:
        for n in range(1, self.order + 1):
            self._close(n)
        return self.counts
