"""The prefix tree as a search walks it: what each step gains, and ways beside the words.

Beside the lexicon's nodes there may be one for the unit between words, which goes on as the root
does, and two a unit for words that the lexicon does not have: the first unit of such a word, and
any further one, after which the word may end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mynah.decoding.lexicon import MOST_NODES, Lexicon
from mynah.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SearchTree:
    """N nodes; the children of a node follow each other.

    Attributes:
        unit: (N,) the unit that leads to a node, -1 for the root.
        first, count: (N,) its children.
        word_first, word_count: (N,) its words in ``words``.
        words: (P,) the words of all nodes; W, one past the lexicon's last, is an unknown one.
        hope: (P,) what a word scores by itself, roughly: its part of the look-ahead.
        gain: (N,) what the step to a node adds: look-ahead, and the price of an unknown unit.
        ahead: (N,) the part of a node's score that is look-ahead, given back when a word ends.
        between: the node of the unit between words, -1 for none.
    """

    unit: IndexArray
    first: IndexArray
    count: IndexArray
    word_first: IndexArray
    word_count: IndexArray
    words: IndexArray
    hope: FloatArray
    gain: FloatArray
    ahead: FloatArray
    between: int


@lru_cache(maxsize=4)
def make_search_tree(
    lexicon: Lexicon,
    *,
    look_ahead: float,
    unknown: float | None,
    unknown_unit: float,
) -> SearchTree:
    """The tree of ``lexicon`` with the nodes beside it.

    Args:
        look_ahead: factor of the unigram log-probabilities.
        unknown: what an unknown word costs (0 or more); None: there are none.
        unknown_unit: what each of its units costs.

    Raises:
        ConfigError: the lexicon is too large.
    """
    tree, boundary = lexicon.tree, lexicon.boundary
    size, near = len(tree), 1 + int(tree.count[0])  # nodes, and those up to depth 1
    spelled = np.unique(tree.unit[1:]).astype(np.int64)
    free = spelled if unknown is not None else spelled[:0]
    middle = int(boundary is not None) + len(free)  # nodes put in behind those of depth 1
    total = size + middle + len(free)
    if total >= MOST_NODES:
        raise ConfigError(f"lexicon: {total} nodes, more than {MOST_NODES}")
    between = -1 if boundary is None else near
    moved = np.concatenate([np.arange(near), np.arange(near, size) + middle])
    once = slice(near + middle - len(free), near + middle)
    again = slice(size + middle, total)
    numbers = {
        name: np.zeros(total, np.int64)
        for name in ("unit", "first", "count", "word_first", "word_count")
    }
    ahead, price = np.zeros(total), np.zeros(total)
    numbers["unit"][moved], numbers["count"][moved] = tree.unit, tree.count
    numbers["first"][moved] = tree.first + np.where(tree.first >= near, middle, 0)
    numbers["word_first"][moved] = tree.word_first[:-1]
    numbers["word_count"][moved] = np.diff(tree.word_first)
    smeared = lexicon.look_ahead().astype(np.float64)
    ahead[moved] = look_ahead * (smeared - smeared[0])
    numbers["count"][0] += middle
    if boundary is not None:
        numbers["unit"][between] = boundary
        numbers["first"][between], numbers["count"][between] = 1, numbers["count"][0]
    for nodes, cost in ((once, (unknown or 0.0) + unknown_unit), (again, unknown_unit)):
        numbers["unit"][nodes], price[nodes] = free, cost
        numbers["first"][nodes], numbers["count"][nodes] = again.start, len(free)
    numbers["word_first"][again], numbers["word_count"][again] = len(tree.word_ids), 1
    words = np.append(tree.word_ids, len(lexicon.words)).astype(np.int64)
    alone = np.zeros(len(lexicon.words) + 1)
    if lexicon.costs is not None:
        alone[:-1] = -look_ahead * (lexicon.costs + smeared[0])
    gain = -price
    above = np.zeros(total, np.int64)
    above[moved] = moved[np.maximum(tree.parent, 0)]
    gain[moved] += ahead[moved] - ahead[above[moved]]
    return SearchTree(
        words=words, hope=alone[words], gain=gain, ahead=ahead, between=between, **numbers
    )


def members(
    first: IndexArray, count: IndexArray, owners: IndexArray
) -> tuple[IndexArray, IndexArray]:
    """``first`` and the ``count`` - 1 numbers after it, one list after the other; whose each is."""
    ends = count.cumsum()
    rows = owners.repeat(count)
    shift = first - ends
    shift += count
    numbers = shift.repeat(count)
    numbers += np.arange(len(rows))
    return rows, numbers
