"""Phrases as one automaton over symbols, and what a text gains by holding them.

Aho and Corasick, "Efficient string matching: an aid to bibliographic search" (1975): a prefix tree
with failure arcs. A text is gone through once, whatever the number of phrases, and all occurrences
are found, also of phrases that overlap or begin one another.

What a text gains: each of its symbols is worth the largest weight among the phrases that cover it,
once. So a phrase is worth its weight times its symbols, a phrase inside another one adds nothing,
and nothing that is put into a list makes a text gain more than its length times the largest weight.

While a phrase is going on, what it would give is lent: the symbols of an unfinished match count as
if it will be finished, and are taken back when it fails. So a search does not lose a phrase before
its end, and the sum over a text does not depend on how far it got.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

# What each of the last symbols has been given, the last one first; zeros at the far end are left
# out, and so is what no phrase in progress can reach.
Given: TypeAlias = tuple[float, ...]

_SHIFT = 22  # symbols are below 2 ** 22: a character and a flag fit


class PhraseGraph:
    """The automaton of phrases, each a sequence of symbols with a weight for every symbol.

    A node stands for the longest end of the text that begins a phrase; 0 is the root, for none. The
    order of the phrases changes nothing but the numbers of the nodes.
    """

    def __init__(self, phrases: Iterable[tuple[Sequence[int], float]]) -> None:
        children: dict[int, int] = {}
        parents, symbols, depths = [0], [0], [0]
        lent, earned = [0.0], [0.0]  # weight of what goes through or ends here; of what ends here
        for phrase, weight in phrases:
            node = 0
            for symbol in phrase:
                key = node << _SHIFT | symbol
                after = children.get(key)
                if after is None:
                    after = children[key] = len(parents)
                    parents.append(node)
                    symbols.append(symbol)
                    depths.append(depths[node] + 1)
                    lent.append(weight)
                    earned.append(0.0)
                elif lent[after] < weight:
                    lent[after] = weight
                node = after
            earned[node] = max(earned[node], weight)
        self._children, self._parents, self._symbols = children, parents, symbols
        self.depths, self._lent, self._earned = depths, lent, earned
        # Made when a text first comes there: most phrases never do.
        self._fails: dict[int, int] = {0: 0}
        self._profiles: dict[int, tuple[Given, Given, float]] = {0: ((), (), 0.0)}

    def __len__(self) -> int:
        return len(self._parents)

    @property
    def heaviest(self) -> float:
        """The largest weight."""
        return max(self._earned)

    def follow(self, node: int, symbol: int) -> int:
        """The node after ``symbol``."""
        while True:
            after = self._children.get(node << _SHIFT | symbol)
            if after is not None:
                return after
            if node == 0:
                return 0
            node = self.fail(node)

    def fail(self, node: int) -> int:
        """The longest proper end of what ``node`` stands for that begins a phrase, too."""
        missing = []
        while node not in self._fails:
            missing.append(node)
            node = self._parents[node]
        found = self._fails[node]
        for at in reversed(missing):
            parent = self._parents[at]
            found = self.follow(found, self._symbols[at]) if parent else 0
            self._fails[at] = found
        return found

    def profile(self, node: int) -> tuple[Given, Given, float]:
        """What may be lent to the last symbols at ``node``, what they have earned if the phrases
        that end here count, and the sum of the first."""
        missing = []
        while node not in self._profiles:
            missing.append(node)
            node = self.fail(node)
        found = self._profiles[node]
        for at in reversed(missing):
            lent = _raised(found[0], self._lent[at], self.depths[at])
            earned = found[1]
            if self._earned[at] > 0.0:
                earned = _raised(earned, self._earned[at], self.depths[at])
            found = self._profiles[at] = (lent, earned, sum(lent))
        return found

    def lent(self, node: int, given: Given) -> float:
        """What is lent at ``node`` to the symbols that have been ``given`` less."""
        lent, _, total = self.profile(node)
        if not given:
            return total
        shared = zip(lent, given, strict=False)
        return sum(max(0.0, one - other) for one, other in shared) + sum(lent[len(given) :])

    def settle(self, node: int, given: Given) -> tuple[Given, float]:
        """``given`` after the phrases that end at ``node`` have counted, and what that adds."""
        earned = self.profile(node)[1]
        if not earned:
            return given, 0.0
        longer, shorter = (earned, given) if len(earned) >= len(given) else (given, earned)
        settled = tuple(map(max, longer, shorter)) + longer[len(shorter) :]
        return settled, sum(settled) - sum(given)

    def forget(self, node: int, given: Given) -> Given:
        """``given`` after one more symbol, which led to ``node``."""
        if not given:
            return given
        kept = (0.0, *given)[: self.depths[node]]
        return kept if any(kept) else ()


def _raised(profile: Given, weight: float, depth: int) -> Given:
    """``profile`` with at least ``weight`` at the last ``depth`` symbols, which is all of it."""
    return tuple([max(weight, other) for other in profile]) + (weight,) * (depth - len(profile))
