"""The n-grams of a model as a forward trie in arrays: what every part of this package works on.

An n-gram is the child of its first n - 1 words. Level n holds all n-grams of order n sorted by
(parent, last word), so the children of one node lie side by side, and a node is its index in its
level. The parent of a unigram is the root, and a unigram's index is its word id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.errors import ModelError

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
MAX_ORDER = 16
BLOCK = 1 << 16  # n-grams of one step where not all are needed at once

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Make = Callable[[int, npt.DTypeLike], npt.NDArray[Any]]  # zeros of a size and type


@dataclass(frozen=True)
class Level:
    """All n-grams of one order; logarithms are natural.

    Attributes:
        words: (M,) the last word of each n-gram, an unsigned integer.
        probs: (M,) log-probabilities, or codes when there is a ``prob_book``.
        backoffs: (M,) back-off weights (0 where a node has no children), or codes; empty at the
            highest order.
        first: (M + 1,) where the children of each node begin in the next level; empty at the
            highest order.
        prob_book: (<= 256,) log-probabilities that the codes stand for; None when plain.
        backoff_book: the same for the back-off weights.
    """

    words: npt.NDArray[np.unsignedinteger]
    probs: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    backoffs: npt.NDArray[np.float32] | npt.NDArray[np.uint8]
    first: npt.NDArray[np.integer]
    prob_book: Floats | None = None
    backoff_book: Floats | None = None

    def __len__(self) -> int:
        return len(self.words)

    def log_probs(self, at: slice | Ints = slice(None)) -> Floats:
        """The log-probabilities at these indices, decoded."""
        values = self.probs[at]
        return _decode(values, self.prob_book)

    def log_backoffs(self, at: slice | Ints = slice(None)) -> Floats:
        """The back-off weights at these indices, decoded."""
        return _decode(self.backoffs[at], self.backoff_book)

    def parents(self, start: int, stop: int, above: Level | None) -> Ints:
        """The parents (in the level ``above``, None for the root) of the nodes start..stop - 1."""
        if above is None:
            return np.zeros(stop - start, dtype=np.int64)
        return _holders(above.first, np.arange(start, stop))


def _decode(values: npt.NDArray[np.float32] | npt.NDArray[np.uint8], book: Floats | None) -> Floats:
    if book is None:
        return np.asarray(values, dtype=np.float32)
    return book[values]


def _holders(first: npt.NDArray[np.integer], nodes: Ints) -> Ints:
    """The nodes whose children ``nodes`` are."""
    # of another type, all of first would be converted
    return np.searchsorted(first, nodes.astype(first.dtype), side="right") - 1


@dataclass(frozen=True)
class Trie:
    """The vocabulary and the levels of a model, orders 1 to ``len(levels)``."""

    vocab: Sequence[str]
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """The longest n-grams."""
        return len(self.levels)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many n-grams there are of each order."""
        return tuple(map(len, self.levels))

    def rows(self, order: int, start: int, stop: int) -> Ints:
        """The word ids (stop - start, order) of the n-grams start..stop - 1 of one order."""
        columns: list[Ints] = []
        nodes = np.arange(start, stop, dtype=np.int64)
        for n in range(order, 1, -1):
            columns.append(self.levels[n - 1].words[nodes].astype(np.int64))
            nodes = _holders(self.levels[n - 2].first, nodes)
        columns.append(nodes)  # a unigram's index is its word
        return np.stack(columns[::-1], axis=1)


class Finder:
    """Finds nodes of a trie for many n-grams at a time: a key (parent, word) a node, sorted."""

    def __init__(self, vocab_size: int) -> None:
        self.shift = np.uint64(max(int(vocab_size - 1).bit_length(), 1))
        self.size = vocab_size
        self.keys: list[npt.NDArray[np.uint64]] = []

    @classmethod
    def of(cls, trie: Trie, make: Make = np.zeros) -> Finder:
        """The finder of a trie, 8 bytes an n-gram from ``make``."""
        finder = cls(len(trie.vocab))
        for above, level in pairwise(trie.levels):
            keys = make(len(level), np.uint64)
            for start in range(0, len(level), BLOCK):
                stop = min(start + BLOCK, len(level))
                words = level.words[start:stop].astype(np.int64)
                keys[start:stop] = finder.join(level.parents(start, stop, above), words)
            finder.keys.append(keys)
        return finder

    def join(self, parents: Ints, words: Ints) -> npt.NDArray[np.uint64]:
        """The keys of children ``words`` of ``parents``."""
        return (parents.astype(np.uint64) << self.shift) | words.astype(np.uint64)

    def find(self, order: int, parents: Ints, words: Ints) -> Ints:
        """The nodes of order ``order`` below ``parents``; -1 where there is none."""
        if order == 1:
            return words.astype(np.int64)
        keys = self.keys[order - 2]
        if len(keys) == 0:
            return np.full(len(words), -1, dtype=np.int64)
        wanted = self.join(np.maximum(parents, 0), words)
        at = np.searchsorted(keys, wanted)
        at[at == len(keys)] = 0
        return np.where((keys[at] == wanted) & (parents >= 0), at, -1)

    def find_rows(self, rows: Ints) -> Ints:
        """The nodes of the n-grams ``rows`` (M, n); -1 where there is none."""
        nodes = rows[:, 0]
        for n in range(2, rows.shape[1] + 1):
            nodes = self.find(n, nodes, rows[:, n - 1])
        return nodes


@dataclass(frozen=True)
class Rows:
    """N-grams of one order in any order: words (M, n), natural logs (M,) of both kinds."""

    words: Ints
    log_probs: Floats
    backoffs: Floats


def build(vocab: Sequence[str], tables: Sequence[Rows]) -> Trie:
    """The trie of n-grams; the unigrams are those of the vocabulary, in its order.

    Raises:
        ModelError: an n-gram is there twice, or its first n - 1 words are not there.
    """
    finder = Finder(len(vocab))
    levels: list[Level] = []
    for n, table in enumerate(tables, start=1):
        top = n == len(tables)
        words, probs, backoffs = table.words[:, -1], table.log_probs, table.backoffs
        if n > 1:
            parents = finder.find_rows(table.words[:, :-1])
            if (parents < 0).any():
                row = table.words[int(np.argmax(parents < 0))]
                text = " ".join(vocab[i] for i in row)
                raise ModelError(f"{n}-gram '{text}': its first {n - 1} words are no n-gram")
            keys = finder.join(parents, words)
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            if (twice := keys[1:] == keys[:-1]).any():
                row = table.words[order[int(np.argmax(twice))]]
                raise ModelError(f"{n}-gram '{' '.join(vocab[i] for i in row)}' is there twice")
            words, probs, backoffs = words[order], probs[order], backoffs[order]
            finder.keys.append(keys)
            counts = np.bincount(parents, minlength=len(levels[-1]))
            levels[-1] = _with_children(levels[-1], counts)
        levels.append(
            Level(
                words.astype(np.uint32),
                probs.astype(np.float32),
                np.zeros(0, np.float32) if top else backoffs.astype(np.float32),
                np.zeros(0, np.int64),
            )
        )
    return Trie(list(vocab), tuple(levels))


def _with_children(level: Level, counts: npt.NDArray[np.intp]) -> Level:
    first = np.zeros(len(level) + 1, dtype=np.int64)
    np.cumsum(counts, out=first[1:])
    return Level(level.words, level.probs, level.backoffs, first)
