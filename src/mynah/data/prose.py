"""Prose to batches for a punctuation model: what is said goes in, marks and casing are the targets.

A source is a UTF-8 text, ``.xz`` and ``.gz`` too, of a line a sentence; a line ``# title`` begins a
book, and ``where = { title = ... }`` and ``exclude`` choose books. The words of all lines lie in
arrays, a type number each. An epoch is cut into slots of equal length at an offset drawn for it;
what becomes of a slot is a function of (seed, epoch, slot), so a place is two numbers, found at
once. Inputs are as a recogniser leaves them: without marks and capitals, with wrong, missing and
added words, beginning and ending anywhere.

Legend: B batch, T units, K features of a unit.
"""

from __future__ import annotations

import gzip
import lzma
import math
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mynah.corpus.manifest import locate
from mynah.corpus.select import matcher
from mynah.data.config import DataConfig, SourceConfig
from mynah.data.items import Batch
from mynah.errors import ConfigError, InputError
from mynah.text.prose import UNKNOWN, Line, books, is_heading, pieces
from mynah.text.punctuation import SENTENCE_ENDS, feature_rows, hash_units

Ints = npt.NDArray[np.int64]

# Columns of the targets (B, T, 3): class of the mark, class of the casing, sentence begins here.
MARK, CASE, BEGINS = range(3)
_BLOCK = 64  # lines that a fraction takes together


@dataclass(frozen=True)
class Errors:
    """How often a recogniser is taken to be wrong, a word; and how inputs begin and end."""

    substitute: float = 0.03
    delete: float = 0.02
    insert: float = 0.01
    whole: float = 0.6  # share of the inputs that end with a sentence
    from_start: float = 0.5  # and that begin with one

    def __post_init__(self) -> None:
        for name in ("substitute", "delete", "insert", "whole", "from_start"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"errors.{name}: must be from 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Prose:
    """A text: ``types[i]`` is a row of ``hashes``; marks and casings may be unknown."""

    hashes: npt.NDArray[np.uint32]  # (V, 3)
    types: npt.NDArray[np.int32]  # (N,)
    marks: npt.NDArray[np.int8]  # (N,)
    cases: npt.NDArray[np.int8]  # (N,)
    lines: npt.NDArray[np.bool_]  # (N,) a line begins here

    def __len__(self) -> int:
        return len(self.types)


def read_prose(config: DataConfig, sources: Sequence[SourceConfig], language: str) -> Prose:
    """The text of ``sources``, in their order.

    Raises:
        InputError: one is missing, cannot be read, or all give no word.
        ConfigError: a condition on something other than the title.
    """
    types, marks, cases, lines = array("i"), array("b"), array("b"), array("b")
    numbers: dict[str, int] = {}
    for source in sources:
        for line in text_lines(source, config.root):
            found = pieces(line, source.language or language)
            if not found.units:
                continue
            types.extend([numbers.setdefault(unit, len(numbers)) for unit in found.units])
            marks.extend(found.marks)
            cases.extend([UNKNOWN] * len(found.cases) if is_heading(found) else found.cases)
            lines.append(1)
            lines.extend(bytes(len(found.units) - 1))
    if not types:
        names = ", ".join(source.manifest for source in sources)
        raise InputError(f"{names}: no word in what is chosen of it")
    return Prose(
        hash_units(list(numbers)),
        np.frombuffer(types, np.int32),
        np.frombuffer(marks, np.int8),
        np.frombuffer(cases, np.int8),
        np.frombuffer(lines, np.bool_),
    )


def text_lines(source: SourceConfig, root: str) -> Iterator[str]:
    """The lines of a text that ``source`` chooses, in their order, as often as it says.

    Raises:
        InputError: it is missing or cannot be read.
        ConfigError: a condition on something other than title and line.
    """
    path = locate(source.manifest, root or None)
    for name in (*source.where, *source.exclude):
        if name not in ("title", "line"):
            raise ConfigError(f"{source.manifest}: a text has title and line, no column {name!r}")
    matches = matcher(source.where, source.exclude)
    opener: Any = {"xz": lzma.open, "gz": gzip.open}.get(path.rpartition(".")[2], open)
    try:
        for _ in range(source.repeat):
            with opener(path, "rt", encoding="utf-8") as file:
                kept = (line for line in books(file) if matches(line) and _is_drawn(line, source))
                yield from islice((line.text for line in kept), source.limit or None)
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _is_drawn(line: Line, source: SourceConfig) -> bool:
    """Whether the block of lines that it is in is among the ``fraction`` that is used."""
    if source.fraction >= 1.0:
        return True
    drawn = zlib.crc32(f"{line.title}/{line.number // _BLOCK}".encode())
    return drawn < source.fraction * 2**32


class ProseLoader:
    """Batches of a text, epoch by epoch; the loop's ``Batches``.

    A batch's ``feats`` (B, T, K) are rows of the model's table and ``feat_lens`` the units of each
    row; its ``tokens`` (B, T, 3) the targets. Padded targets are unknown. ``length`` is the longest
    input; the batches of an epoch are of it, a half, a quarter and an eighth of it.
    """

    def __init__(
        self,
        prose: Prose,
        features: Mapping[str, int],
        config: DataConfig,
        *,
        length: int,
        seed: int,
        errors: Errors | None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if length < 8 or length > config.max_frames:
            raise ConfigError(f"task.length: must be from 8 to data.max_frames, got {length}")
        self.prose, self.features, self.errors = prose, dict(features), errors
        self.length, self.seed, self.rank, self.world = length, seed, rank, world
        self.slots = min(config.max_frames // length, config.max_items)  # of a batch
        frequency = np.bincount(prose.types, minlength=len(prose.hashes)).astype(np.float64)
        self._cumulated = np.cumsum(np.sqrt(frequency))  # rare words are misheard more often

    def num_rounds(self, epoch: int) -> int:
        """Rounds of an epoch, the same on every rank."""
        return math.ceil(self._batches() / self.world)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        """The batches of this rank from round ``start`` on; None where it has none."""
        slots = math.ceil(len(self.prose) / self.length)
        offset, order = 0, np.arange(slots)
        if self.errors is not None:
            dice = np.random.default_rng([self.seed, epoch])
            offset, order = int(dice.integers(self.length)), dice.permutation(slots)
        for number in range(start, self.num_rounds(epoch)):
            batch = number * self.world + self.rank
            if batch >= self._batches():
                yield None
                continue
            chosen = order[batch * self.slots : (batch + 1) * self.slots]
            yield self._batch(chosen * self.length - offset, [self.seed, epoch, batch])

    def _batches(self) -> int:
        return math.ceil(math.ceil(len(self.prose) / self.length) / self.slots)

    def _batch(self, begins: Ints, seeds: list[int]) -> Batch | None:
        dice = np.random.default_rng([*seeds, 1])
        parts = 1 if self.errors is None else 2 ** int(dice.integers(4))
        size = max(self.length // parts, 4)
        rows = []
        for begin in begins:
            for part in range(parts):
                first = int(begin) + part * size
                span = self._span(max(first, 0), min(first + size, len(self.prose)), dice)
                if span.size:
                    rows.append(self._row(span, dice))
        return self._pad(rows)

    def _span(self, first: int, stop: int, dice: np.random.Generator) -> Ints:
        """Places in the text; with errors, cut to begin and end as inputs do, words left out."""
        errors = self.errors
        if errors is None or stop - first < 2:
            return np.arange(first, stop)
        middle = (first + stop) // 2
        if dice.random() < errors.from_start:
            lines = np.flatnonzero(self.prose.lines[first:middle])
            first += int(lines[0]) if lines.size else 0
        if dice.random() < errors.whole:
            lines = np.flatnonzero(self.prose.lines[middle : stop + 1])
            stop = middle + int(lines[-1]) if lines.size else stop
        else:
            stop -= int(dice.integers((stop - middle) // 2 + 1))
        return np.arange(first, max(stop, first + 1))

    def _row(self, span: Ints, dice: np.random.Generator) -> tuple[Ints, Ints]:
        """Features (T, K) and targets (T, 3) of the words at ``span``."""
        prose = self.prose
        types, marks, cases = prose.types[span], prose.marks[span], prose.cases[span]
        begins = prose.lines[span].copy()
        begins[0] |= span[0] == 0 or prose.marks[span[0] - 1] in SENTENCE_ENDS
        begins[1:] |= np.isin(marks[:-1], SENTENCE_ENDS)
        targets = np.stack([marks, cases, begins], 1).astype(np.int64)
        if self.errors is not None:
            types, targets = self._noise(types, targets, self.errors, dice)
        return feature_rows(prose.hashes[types], self.features), targets

    def _noise(
        self,
        types: npt.NDArray[np.int32],
        targets: Ints,
        errors: Errors,
        dice: np.random.Generator,
    ) -> tuple[npt.NDArray[np.int32], Ints]:
        """Words as a recogniser might have heard them; the marks of lost words go to those before.

        The casing of a word that was not said is unknown.
        """
        count = len(types)
        fate = dice.random(count)
        wrong, lost = fate < errors.substitute, fate > 1 - errors.delete
        lost[0] = False
        added = dice.random(count) < errors.insert
        types, targets = types.copy(), targets.copy()
        types[wrong] = self._draw(int(wrong.sum()), dice)
        targets[wrong, CASE] = UNKNOWN
        for place in np.flatnonzero(lost):
            if targets[place - 1, MARK] == 0:
                targets[place - 1, MARK] = targets[place, MARK]
            if place + 1 < count:
                targets[place + 1, BEGINS] |= targets[place, BEGINS]
                targets[place + 1, CASE] = UNKNOWN if targets[place, BEGINS] else targets[
                    place + 1, CASE
                ]  # fmt: skip
        kept = ~lost
        types, targets, added = types[kept], targets[kept], added[kept]
        places = np.flatnonzero(added)
        types = np.insert(types, places, self._draw(len(places), dice))
        extra = np.tile(np.array([0, UNKNOWN, 0], np.int64), (len(places), 1))
        if places.size and places[0] == 0:
            extra[0, BEGINS] = 1
        return types.astype(np.int32), np.insert(targets, places, extra, axis=0)

    def _draw(self, count: int, dice: np.random.Generator) -> Ints:
        """Words that were not said."""
        points = dice.random(count) * self._cumulated[-1]
        drawn: Ints = np.searchsorted(self._cumulated[:-1], points)
        return drawn

    def _pad(self, rows: Sequence[tuple[Ints, Ints]]) -> Batch | None:
        if not rows:
            return None
        lens = [len(targets) for _, targets in rows]
        feats = np.zeros((len(rows), max(lens), len(self.features)), np.int64)
        tokens = np.full((len(rows), max(lens), 3), UNKNOWN, np.int64)
        for row, (features, targets) in enumerate(rows):
            feats[row, : lens[row]] = features
            tokens[row, : lens[row]] = targets
        tokens[..., BEGINS] = tokens[..., BEGINS].clip(0)
        return Batch(
            ids=tuple("" for _ in rows),
            feats=torch.from_numpy(feats),
            feat_lens=torch.tensor(lens, dtype=torch.int64),
            tokens=torch.from_numpy(tokens),
            token_lens=torch.tensor(lens, dtype=torch.int64),
            texts=tuple("" for _ in rows),
        )
