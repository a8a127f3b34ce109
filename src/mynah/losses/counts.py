"""What a loss was summed over; the recipe says which count divides it."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """How much a sum covers."""

    utterances: int
    tokens: int
    frames: int
