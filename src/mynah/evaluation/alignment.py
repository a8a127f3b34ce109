"""The alignment of two token sequences, and how many edits lie between many of them.

Of all alignments with the fewest edits, the one that matches the most tokens is meant, so that the
split into substitutions, deletions and insertions is well defined and the same when the two sides
are exchanged. (Fewest edits alone leave it open: ``a b`` against ``b c`` is two substitutions, or a
deletion, a match and an insertion.)

With W larger than any number of matches, the best alignment maximises W per substitution and
2 W + 1 per match. Deletions and insertions score nothing, so a row of the table is one running
maximum, and padding scores nothing either, so pairs of different lengths go in one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.text.characters import columns

_Ints = npt.NDArray[np.int64]

_MAX_CELLS = 4_000_000  # of a table kept for the way back; longer pairs are halved
_BATCH_CELLS = 200_000  # of one row over a batch of pairs


@dataclass(frozen=True)
class AlignedPair:
    """A token of the reference and what stands for it; ``None`` where there is nothing."""

    ref: str | None
    hyp: str | None

    @property
    def kind(self) -> str:
        """``"="`` match, ``"S"`` substitution, ``"D"`` deletion, ``"I"`` insertion."""
        if self.ref is None:
            return "I"
        if self.hyp is None:
            return "D"
        return "=" if self.ref == self.hyp else "S"


def align(ref: Sequence[str], hyp: Sequence[str]) -> tuple[AlignedPair, ...]:
    """Align ``hyp`` to ``ref`` with the fewest edits, among these with the most matches.

    Memory stays bounded for any length (Hirschberg, "A linear space algorithm for computing maximal
    common subsequences", CACM 1975).
    """
    ids: dict[str, int] = {}
    ref_ids, hyp_ids = _numbers(ref, ids), _numbers(hyp, ids)
    steps = _steps(ref_ids, hyp_ids, min(len(ref), len(hyp)) + 1)
    result: list[AlignedPair] = []
    i = j = 0
    for down, right in steps:
        result.append(AlignedPair(ref[i] if down else None, hyp[j] if right else None))
        i, j = i + down, j + right
    return tuple(result)


def count_edits(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> _Ints:
    """Substitutions, deletions and insertions of each pair of token sequences: (N, 3) int64."""
    ids: dict[str, int] = {}
    numbered = [(_numbers(ref, ids), _numbers(hyp, ids)) for ref, hyp in pairs]
    result = np.zeros((len(numbered), 3), np.int64)
    order = sorted(range(len(numbered)), key=lambda n: (len(numbered[n][1]), len(numbered[n][0])))
    for batch in _batches(order, numbered):
        result[batch] = _count_batch([numbered[n] for n in batch])
    return result


def format_alignment(pairs: Iterable[AlignedPair], width: int = 100) -> str:
    """Three lines ``REF``, ``HYP`` and ``EDIT`` with tokens in columns, for a terminal.

    Missing tokens are stars; under each edit stands its letter. Wide characters count two columns.
    Groups of three lines are at most ``width`` columns wide, unless one token is wider, and have an
    empty line between them.
    """
    groups: list[list[str]] = []
    used = width
    for pair in pairs:
        kind = "" if pair.kind == "=" else pair.kind
        size = max(columns(pair.ref or ""), columns(pair.hyp or ""), 1)
        cells = [pair.ref or "*" * size, pair.hyp or "*" * size, kind]
        if used + size + 1 > width:
            groups.append(["REF: ", "HYP: ", "EDIT:"])
            used = 5
        used += size + 1
        for row, cell in enumerate(cells):
            groups[-1][row] += " " + cell + " " * (size - columns(cell))
    return "\n\n".join("\n".join(line.rstrip() for line in group) for group in groups)


def _numbers(tokens: Sequence[str], ids: dict[str, int]) -> _Ints:
    return np.array([ids.setdefault(token, len(ids)) for token in tokens], np.int64)


def _batches(order: list[int], pairs: list[tuple[_Ints, _Ints]]) -> Iterator[list[int]]:
    """Runs of ``order`` (by length of hypothesis) whose rows together stay small."""
    batch: list[int] = []
    for n in order:
        if batch and (len(batch) + 1) * (len(pairs[n][1]) + 1) > _BATCH_CELLS:
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def _count_batch(pairs: list[tuple[_Ints, _Ints]]) -> _Ints:
    ref_lens = np.array([len(ref) for ref, _ in pairs])
    hyp_lens = np.array([len(hyp) for _, hyp in pairs])
    refs = np.full((len(pairs), ref_lens.max()), -1, np.int64)
    hyps = np.full((len(pairs), hyp_lens.max()), -1, np.int64)
    for n, (ref, hyp) in enumerate(pairs):
        refs[n, : len(ref)], hyps[n, : len(hyp)] = ref, hyp
    weight = int(np.minimum(ref_lens, hyp_lens).max()) + 1
    row = np.zeros((len(pairs), hyps.shape[1] + 1), np.int64)
    inside = np.where(hyps >= 0, weight, 0)
    for i in range(refs.shape[1]):
        token = refs[:, i, None]
        gain = np.where(token == hyps, 2 * weight + 1, inside)
        gain[(token < 0)[:, 0]] = 0
        row = _next_row(row, gain)
    best = row[:, -1]
    matches = best % weight
    substitutions = best // weight - 2 * matches
    kept = matches + substitutions
    return np.stack([substitutions, ref_lens - kept, hyp_lens - kept], axis=1)


def _next_row(row: _Ints, gain: _Ints) -> _Ints:
    """The row of the table after ``row``; ``gain`` is that of pairing its token with each other."""
    result = row.copy()
    np.maximum(row[..., 1:], row[..., :-1] + gain, out=result[..., 1:])
    np.maximum.accumulate(result, axis=-1, out=result)
    return result


def _gain(token: Any, hyp: _Ints, weight: int) -> _Ints:
    return np.where(hyp == token, 2 * weight + 1, weight)


def _steps(ref: _Ints, hyp: _Ints, weight: int) -> Iterator[tuple[bool, bool]]:
    """Steps (down, right) through the table of ``ref`` and ``hyp``."""
    start, end = _common(ref, hyp)
    yield from ((True, True) for _ in range(start))
    ref, hyp = ref[start : len(ref) - end], hyp[start : len(hyp) - end]
    if not len(ref) or not len(hyp):
        yield from ((True, False) for _ in ref)
        yield from ((False, True) for _ in hyp)
    elif len(ref) * len(hyp) <= _MAX_CELLS or len(ref) == 1:
        yield from _trace(ref, hyp, weight)
    else:
        half = len(ref) // 2
        first = _last_row(ref[:half], hyp, weight)
        second = _last_row(ref[: half - 1 : -1], hyp[::-1], weight)[::-1]
        split = int(np.argmax(first + second))
        yield from _steps(ref[:half], hyp[:split], weight)
        yield from _steps(ref[half:], hyp[split:], weight)
    yield from ((True, True) for _ in range(end))


def _common(ref: _Ints, hyp: _Ints) -> tuple[int, int]:
    """How many tokens at the start, and then at the end, are the same on both sides."""
    size = min(len(ref), len(hyp))
    differ = np.flatnonzero(ref[:size] != hyp[:size])
    start = int(differ[0]) if len(differ) else size
    size -= start
    differ = np.flatnonzero(ref[len(ref) - size :][::-1] != hyp[len(hyp) - size :][::-1])
    return start, int(differ[0]) if len(differ) else size


def _last_row(ref: _Ints, hyp: _Ints, weight: int) -> _Ints:
    row = np.zeros(len(hyp) + 1, np.int64)
    for token in ref:
        row = _next_row(row, _gain(token, hyp, weight))
    return row


def _trace(ref: _Ints, hyp: _Ints, weight: int) -> Iterator[tuple[bool, bool]]:
    rows = [np.zeros(len(hyp) + 1, np.int64)]
    for token in ref:
        rows.append(_next_row(rows[-1], _gain(token, hyp, weight)))
    steps: list[tuple[bool, bool]] = []
    i, j = len(ref), len(hyp)
    while i and j:
        gain = 2 * weight + 1 if ref[i - 1] == hyp[j - 1] else weight
        if rows[i][j] == rows[i - 1][j - 1] + gain:
            steps.append((True, True))
            i, j = i - 1, j - 1
        elif rows[i][j] == rows[i - 1][j]:
            steps.append((True, False))
            i -= 1
        else:
            steps.append((False, True))
            j -= 1
    yield from [(True, False)] * i + [(False, True)] * j
    yield from reversed(steps)
