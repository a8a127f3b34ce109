"""Small tables of units with a way to cut a text: what scorers need of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))


class Pieces:
    """Units 0 blank, 1 unknown, the given ones, and last the end; cuts off the longest first."""

    def __init__(self, units: Sequence[str], kind: str = "bpe", *, unknown: bool = True) -> None:
        self.units = ("<blank>", "<unk>", *units, "<sos/eos>")
        self.blank, self.unk = 0, 1 if unknown else -1
        self.sos = self.eos = len(self.units) - 1
        self.config = SimpleNamespace(kind=kind)
        self.ids = {unit: index for index, unit in enumerate(self.units)}
        self.marked = any(unit.startswith("▁") and len(unit) > 1 for unit in units)

    def encode(self, text: str) -> list[int]:
        text = "▁".join(text.lower().split())
        if self.marked and text:
            text = "▁" + text
        found = []
        while text:
            longest = next((n for n in range(len(text), 0, -1) if text[:n] in self.ids), 0)
            if longest:
                found.append(self.ids[text[:longest]])
            elif BYTES[0] in self.ids:
                found += [self.ids[BYTES[value]] for value in text[0].encode()]
            elif self.unk >= 0:
                found.append(self.unk)
            text = text[longest or 1 :]
        return found

    def spell(self, *units: str) -> list[int]:
        """The ids of ``units``."""
        return [self.ids[unit] for unit in units]

    def all_cuts(self, text: str) -> Iterator[list[int]]:
        """Every way to write ``text``, spaces as they stand in the units."""
        if not text:
            yield []
        for n in range(1, len(text) + 1):
            if text[:n] in self.ids:
                for rest in self.all_cuts(text[n:]):
                    yield [self.ids[text[:n]], *rest]


def letters(**changes: bool) -> Pieces:
    """A table of letters, and a space as a unit of its own."""
    return Pieces([*LETTERS, "▁"], "char", **changes)


def pieces() -> Pieces:
    """Pieces of words as BPE makes them, letters and hanzi beside them."""
    words = ["▁new", "▁york", "▁n", "ew", "▁y", "or", "▁ca", "▁c", "at", "cat", "eg", "ory", "▁the"]
    return Pieces([*words, *LETTERS, "▁", *"北京上海人民", *BYTES])
