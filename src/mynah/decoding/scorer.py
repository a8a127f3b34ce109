"""What a search may add to the score of a hypothesis while it grows: language models, hotwords."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Scorer(Protocol):
    """Scores hypotheses token by token.

    A state is an immutable, hashable value that stands for all that the scorer must know of the
    tokens so far; equal states go on equally. Scores are natural logarithms, already weighted, and
    are added to those of the search. A scorer may be used from several threads.

    A scorer may have an attribute ``most``, a bound on what one token can add: a search then leaves
    out what cannot win, without which it must ask for every candidate. See :func:`most`.
    """

    def start(self) -> Hashable:
        """The state before the first token."""
        ...

    def extend(self, state: Any, token: int) -> tuple[Hashable, float]:
        """The state after ``token``, and what it adds."""
        ...

    def finish(self, state: Any) -> float:
        """What the end of the utterance adds."""
        ...


def most(scorer: Scorer) -> float:
    """The most that ``scorer`` adds for one token; infinity when it does not say."""
    bound: float = getattr(scorer, "most", math.inf)
    return bound


@dataclass(frozen=True)
class Sum:
    """Several scorers as one: states stand side by side, scores are added."""

    scorers: tuple[Scorer, ...]

    @property
    def most(self) -> float:
        """The sum of what each adds at most."""
        return sum(most(scorer) for scorer in self.scorers)

    def start(self) -> Hashable:
        """The states before the first token."""
        return tuple(scorer.start() for scorer in self.scorers)

    def extend(self, state: tuple[Any, ...], token: int) -> tuple[Hashable, float]:
        """The states after ``token``, and what it adds."""
        states, total = [], 0.0
        for scorer, own in zip(self.scorers, state, strict=True):
            after, score = scorer.extend(own, token)
            states.append(after)
            total += score
        return tuple(states), total

    def finish(self, state: tuple[Any, ...]) -> float:
        """What the end of the utterance adds."""
        pairs = zip(self.scorers, state, strict=True)
        return sum(scorer.finish(own) for scorer, own in pairs)


def add_up(scorers: Sequence[Scorer]) -> Scorer:
    """One scorer that adds what all of ``scorers`` do."""
    return scorers[0] if len(scorers) == 1 else Sum(tuple(scorers))


def score_tokens(scorer: Scorer, tokens: Sequence[int]) -> float:
    """What ``scorer`` adds to the whole of ``tokens``, the end included."""
    state, total = scorer.start(), 0.0
    for token in tokens:
        state, score = scorer.extend(state, token)
        total += score
    return total + scorer.finish(state)
