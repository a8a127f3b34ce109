"""Which unit sounds when: cells such as ``sil 30 dh 5 ah 7``, units and frames of 10 ms."""

from __future__ import annotations

from collections.abc import Iterable

from mynah.errors import InputError

Run = tuple[str, int]  # a unit, or what is none (silence), and for how many frames it sounds

FRAME = 0.01  # seconds
SILENCE = "sil"


def parse_runs(cell: str) -> tuple[Run, ...]:
    """The runs of a cell.

    Raises:
        InputError: it is no list of units and numbers of frames.
    """
    parts = cell.split()
    names, lengths = parts[::2], parts[1::2]
    if len(names) != len(lengths) or not all(n.isdecimal() and len(n) < 8 for n in lengths):
        raise InputError(f"has an alignment that is no list of units and frames: {cell[:40]}")
    return tuple((name, int(n)) for name, n in zip(names, lengths, strict=True))


def format_runs(runs: Iterable[Run]) -> str:
    """The cell of runs."""
    return " ".join(f"{name} {frames}" for name, frames in runs)
