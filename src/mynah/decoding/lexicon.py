"""A lexicon: words and the units that they are made of, as a prefix tree in flat arrays.

The nodes are numbered by depth and, within a depth, in the order of the spellings: the children of
a node stand side by side, sorted by unit, and all children of many nodes are gathered by a few
array operations. Node 0 is the root. A node may hold several words (homophones), a word may have
several spellings.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.errors import InputError

IntArray: TypeAlias = npt.NDArray[np.int32]
Entry: TypeAlias = tuple[str, tuple[int, ...]]

LONGEST = 255  # units of a word, and bytes of its text
MOST_UNITS = 50_000  # unit ids; a spelling is kept as a string of one character a unit
MOST_NODES = 1 << 23
STEP = 0.1  # nats: the precision of the unigram costs


@dataclass(frozen=True)
class PrefixTree:
    """The prefix tree of a lexicon: N nodes, numbered as the module says.

    Attributes:
        unit: (N,) the unit that leads to a node, -1 for the root.
        parent: (N,) the node before it, -1 for the root.
        first: (N,) the first child; the others follow it.
        count: (N,) how many children.
        word_first: (N + 1,) where a node's words begin in ``word_ids``.
        word_ids: (P,) the words of all nodes.
    """

    unit: IntArray
    parent: IntArray
    first: IntArray
    count: IntArray
    word_first: IntArray
    word_ids: IntArray

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Words, their spellings in units, and what a language model says of each word alone.

    Attributes:
        words: in order, each once.
        spellings: one string a spelling, a character of code ``unit`` for each unit.
        owners: (P,) the word of each spelling, ascending.
        vocab_size: number of units of the model; ids are below it.
        vocab_check: :func:`check_units` of these units.
        boundary: the unit that may stand between words (a space, silence) and belongs to none.
        costs: (W,) negative natural log of each word's unigram probability, rounded to ``STEP``,
            for the look-ahead; None where no language model was there.
    """

    words: tuple[str, ...]
    spellings: tuple[str, ...]
    owners: IntArray
    vocab_size: int
    vocab_check: int
    boundary: int | None = None
    costs: npt.NDArray[np.float32] | None = None

    @cached_property
    def tree(self) -> PrefixTree:
        """The prefix tree of all spellings."""
        return _grow(self.spellings, self.owners)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def units_of(self, word: str) -> list[tuple[int, ...]]:
        """The spellings of ``word``; empty when it is not there."""
        number = self.numbers.get(word)
        if number is None:
            return []
        first, stop = np.searchsorted(self.owners, [number, number + 1])
        return [tuple(map(ord, self.spellings[i])) for i in range(first, stop)]

    def entries(self) -> list[Entry]:
        """All words with their spellings, one by one."""
        owners = self.owners.tolist()
        return [
            (self.words[owner], tuple(map(ord, spelling)))
            for owner, spelling in zip(owners, self.spellings, strict=True)
        ]

    def with_costs(self, unigram: Callable[[str], float]) -> Lexicon:
        """This lexicon with ``-unigram(word)`` (natural log) as the cost of each word."""
        raw = np.array([-unigram(word) for word in self.words], np.float32)
        steps = np.clip(np.nan_to_num(np.round(raw / STEP), nan=255, posinf=255), 0, 255)
        return replace(self, costs=(steps * STEP).astype(np.float32))

    def look_ahead(self) -> npt.NDArray[np.float32]:
        """(N,) the largest unigram log-probability of the words at or under each node.

        Zeros where the words have no costs.
        """
        tree = self.tree
        if self.costs is None:
            return np.zeros(len(tree), np.float32)
        best = np.full(len(tree), -np.inf, np.float32)
        owners = np.repeat(np.arange(len(tree)), np.diff(tree.word_first))
        np.maximum.at(best, owners, -self.costs[tree.word_ids])
        # A parent's number is below those of its children, and depths follow each other.
        edges = [0, 1]
        while edges[-1] < len(tree):
            level = slice(edges[-2], edges[-1])
            edges.append(edges[-1] + int(tree.count[level].sum()))
        for first, stop in zip(reversed(edges[:-1]), reversed(edges[1:]), strict=True):
            if first:
                np.maximum.at(best, tree.parent[first:stop], best[first:stop])
        return best


def check_units(units: Sequence[str]) -> int:
    """A number that stands for a table of units, so that a lexicon is not used with another."""
    return zlib.crc32("\n".join(units).encode())


def make_lexicon(
    entries: Iterable[tuple[str, Sequence[int]]],
    units: Sequence[str],
    *,
    boundary: int | None = None,
) -> Lexicon:
    """A lexicon of ``entries`` (word, unit ids) over the model's ``units``.

    An entry that comes again is taken once; a word's spellings may stand anywhere.

    Raises:
        InputError: no words, an empty, too long or impossible spelling, or too many of them.
    """
    if len(units) > MOST_UNITS:
        raise InputError(f"lexicon: {len(units)} units, more than {MOST_UNITS}")
    if boundary is not None and not 0 <= boundary < len(units):
        raise InputError(f"lexicon: boundary {boundary} is not in 0..{len(units) - 1}")
    found: dict[str, dict[str, None]] = {}
    for word, spelling in entries:
        if not word or len(word.encode()) > LONGEST or "\n" in word or "\0" in word:
            raise InputError(f"lexicon: {word!r} cannot be a word")
        if not 0 < len(spelling) <= LONGEST:
            raise InputError(f"lexicon: {word!r} has {len(spelling)} units, not 1 to {LONGEST}")
        if min(spelling) < 0 or max(spelling) >= len(units):
            raise InputError(f"lexicon: {word!r} has a unit that is not in 0..{len(units) - 1}")
        found.setdefault(word, {})["".join(map(chr, spelling))] = None
    if not found:
        raise InputError("lexicon: no words")
    words = sorted(found)
    spellings = [spelling for word in words for spelling in found[word]]
    counts = [len(found[word]) for word in words]
    if sum(map(len, spellings)) >= MOST_NODES:
        raise InputError("lexicon: too large")
    owners = np.repeat(np.arange(len(words), dtype=np.int32), counts)
    check = check_units(units)
    return Lexicon(tuple(words), tuple(spellings), owners, len(units), check, boundary)


def _grow(spellings: Sequence[str], owners: IntArray) -> PrefixTree:
    """The tree, one depth after the other."""
    order = np.array(sorted(range(len(spellings)), key=spellings.__getitem__), np.int64)
    lengths = np.array([len(spellings[i]) for i in order.tolist()], np.int64)
    text = "".join(map(spellings.__getitem__, order.tolist()))
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int32)
    begins = np.cumsum(lengths) - lengths
    node = np.zeros(len(order), np.int32)  # of each spelling, as far as it was read
    units, parents = [np.array([-1], np.int32)], [np.array([-1], np.int32)]
    size = 1
    rows = np.arange(len(order))
    for depth in range(int(lengths.max())):
        rows = rows[lengths[rows] > depth]
        unit, above = codes[begins[rows] + depth], node[rows]
        new = np.ones(len(rows), bool)
        new[1:] = (unit[1:] != unit[:-1]) | (above[1:] != above[:-1])
        node[rows] = size - 1 + np.cumsum(new, dtype=np.int32)
        units.append(unit[new])
        parents.append(above[new])
        size += int(new.sum())
    parent = np.concatenate(parents)
    count = np.bincount(parent[1:], minlength=size).astype(np.int32)
    first = (1 + np.cumsum(count) - count).astype(np.int32)
    by_node = np.argsort(node, kind="stable")
    ends = np.bincount(node, minlength=size)
    word_first = np.concatenate([[0], np.cumsum(ends)]).astype(np.int32)
    word_ids = owners[order[by_node]]
    return PrefixTree(np.concatenate(units), parent, first, count, word_first, word_ids)


def read_table(path: str | Path, units: Sequence[str]) -> list[Entry]:
    """The entries of a text file, a line each: word, tab (or space), its units between spaces.

    This is Kaldi's and WeNet's ``lexicon.txt`` too. Empty lines are passed over.

    Raises:
        InputError: the file cannot be read, a line has no units, or one that the model has not.
    """
    ids = {unit: index for index, unit in enumerate(units) if unit}
    entries: list[Entry] = []
    for number, line in read_lines(path):
        word, _, rest = line.partition("\t") if "\t" in line else line.partition(" ")
        names = rest.split()
        if not names:
            raise InputError(f"{path}:{number}: no units after {word!r}")
        try:
            entries.append((word.strip(), tuple([ids[name] for name in names])))
        except KeyError as error:
            raise InputError(f"{path}:{number}: the model has no unit {error.args[0]!r}") from None
    return entries


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """The numbered lines of a text file that are not empty.

    Raises:
        InputError: missing, or not text in UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line]
