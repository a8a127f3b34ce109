"""What a search may add to the score of a hypothesis while it grows: language models, hotwords."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol


class Scorer(Protocol):
    """Scores hypotheses token by token.

    A state is an immutable, hashable value that stands for all that the scorer must know of the
    tokens so far; equal states go on equally. Scores are natural logarithms, already weighted, and
    are added to those of the search. A scorer may be used from several threads.
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
