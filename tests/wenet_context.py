"""WeNet's context graph, written for the eye as a scorer for the prefix beam search of mynah.

A context score for every unit of a phrase, given back when it fails, and the whole phrase's once
more at its end, until the next unit. At the end of the utterance WeNet puts what is to be given
back in the place of all that was accumulated.
"""

from __future__ import annotations

from collections.abc import Sequence

from mynah.decoding import Hypothesis


class WenetContext:
    """The prefix of a phrase in progress as the state; everything by looking through phrases."""

    def __init__(self, phrases: Sequence[Sequence[int]], score: float) -> None:
        self.phrases = {tuple(phrase) for phrase in phrases}
        self.prefixes = {p[:n] for p in self.phrases for n in range(len(p) + 1)}
        self.score = score

    def start(self) -> tuple[int, ...]:
        return ()

    def extend(self, state: tuple[int, ...], token: int) -> tuple[tuple[int, ...], float]:
        tail = (*state, token)
        while tail not in self.prefixes:
            tail = tail[1:]
        ends = [n for n in range(1, len(tail) + 1) if tail[-n:] in self.phrases]
        given = len(tail) - len(state) + sum(ends)
        return tail, self.score * given

    def finish(self, state: tuple[int, ...]) -> float:
        return 0.0  # the rank stays that of the accumulated score

    def last(self, tokens: Sequence[int]) -> float:
        """What WeNet puts in the place of the accumulated score."""
        state: tuple[int, ...] = ()
        for token in tokens:
            state, _ = self.extend(state, token)
        return -self.score * len(state)

    def replaced(self, hypothesis: Hypothesis) -> float:
        """The score that WeNet shows for a hypothesis of a search with this scorer."""
        return hypothesis.score - hypothesis.added + self.last(hypothesis.tokens)
