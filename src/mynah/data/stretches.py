"""Which stretch of each recording of a batch is used, and the silence around it.

For recordings in the memory of a device (:mod:`mynah.data.resident`): the draws are made here, what
is drawn is gathered there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.corpus.runs import FRAME, Run
from mynah.data.config import DataConfig
from mynah.data.pieces import draw_piece, draw_surroundings

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stretches:
    """Of B recordings; in samples where nothing else is said.

    Attributes:
        begin: of what is used, (B,).
        count: of what is used.
        lead: of silence before it.
        tail: of silence behind it.
        level: decibels of the speech above the noise of all that, infinite where there is none.
        first: the first 10 ms frame of the recording that keeps its label.
        stop: one past the last.
        last: the first frame, counted as those, of which nothing is known.
        shift: frames by which labels move.
        units: of those that are pieces, their units, by row; with those of what follows.
        following: what is said behind some of them.
    """

    begin: Ints
    count: Ints
    lead: Ints
    tail: Ints
    level: npt.NDArray[np.float64]
    first: Ints
    stop: Ints
    last: Ints
    shift: Ints
    units: Mapping[int, Ints]
    following: Following | None = None

    @property
    def lens(self) -> Ints:
        """Of each with its silence and what follows."""
        lens = self.lead + self.count + self.tail
        if self.following is not None:
            lens[self.following.of] = self.following.stretches.lens
        return lens

    @property
    def said(self) -> Ints:
        """Of each without the silence around it."""
        said = self.count.copy()
        if self.following is not None:
            said[self.following.of] += self.following.stretches.count
        return said

    def repeated(self, times: int) -> Stretches:
        """Each so many times, one beside the other: views of a recording hear the same of it."""
        arrays = {n: getattr(self, n).repeat(times) for n in _ARRAYS}
        units = {r * times + i: ids for r, ids in self.units.items() for i in range(times)}
        following = None if self.following is None else self.following.repeated(times)
        return Stretches(**arrays, units=units, following=following)


@dataclass(frozen=True)
class Following:
    """Second stretches: of the recordings ``rows`` (J,), behind the stretches ``of`` (J,) of a
    batch. Their ``lead`` and ``shift`` count from where the first begin."""

    of: Ints
    rows: Ints
    stretches: Stretches

    def repeated(self, times: int) -> Following:
        """As :meth:`Stretches.repeated`."""
        of = (self.of[:, None] * times + np.arange(times)).ravel()
        return Following(of, self.rows.repeat(times), self.stretches.repeated(times))


_ARRAYS = [f.name for f in fields(Stretches) if f.name not in ("units", "following")]


def draw_stretches(
    rng: np.random.Generator,
    lens: Ints,
    frames: Ints,
    runs: Sequence[tuple[Run, ...]],
    ids: Mapping[str, int],
    config: DataConfig,
    rate: int,
) -> Stretches:
    """Draw them for recordings of ``lens`` (B,) samples with labels for ``frames`` (B,) frames, and
    their ``runs``, empty where not known; ``ids`` are the units'. All of each where the recipe asks
    for no more."""
    rows = len(lens)
    begin, lead, tail, first, shift = np.zeros((5, rows), np.int64)
    count, level = lens.copy(), np.full(rows, np.inf)
    stop, last = frames.copy(), frames.copy()
    step, units = FRAME * rate, dict[int, Ints]()
    for row in range(rows):
        crop, silence = config.crop, config.silence
        if crop is not None and runs[row] and rng.random() < crop.probability:
            piece = draw_piece(rng, runs[row], ids, crop)
            if piece is not None:
                begin[row] = min(round(piece.begin * step), int(lens[row]))
                count[row] = min(round(piece.end * step), int(lens[row])) - begin[row]
                first[row], stop[row], last[row] = piece.first, piece.stop, piece.end
                shift[row] = -piece.begin
                inside = [ids[name] for name, _ in piece.runs(runs[row]) if name in ids]
                units[row] = np.array(inside, np.int64)
        if silence is not None and rng.random() < silence.probability:
            drawn = draw_surroundings(rng, silence)
            lead[row], tail[row] = round(drawn.lead * step), round(drawn.tail * step)
            level[row] = drawn.level
            shift[row] += drawn.lead
            last[row] += drawn.tail
    return Stretches(begin, count, lead, tail, level, first, stop, last, shift, units)


@dataclass(frozen=True)
class Recorded:
    """All recordings of a set: samples (N,), frames with labels (N,), runs, who speaks, and the
    rows of each speaker."""

    lens: Ints
    frames: Ints
    runs: Sequence[tuple[Run, ...]]
    speakers: Sequence[str]
    spoken_by: Mapping[str, Sequence[int]]


def draw_following(
    rng: np.random.Generator,
    rows: Ints,
    cut: Stretches,
    recorded: Recorded,
    ids: Mapping[str, int],
    config: DataConfig,
    rate: int,
) -> Stretches:
    """``cut``, stretches of the recordings ``rows`` (B,), some of its pieces followed by a piece of
    the same speaker, none of them becoming longer than the longest was. Where it is not known who
    speaks, nothing follows."""
    if config.join is None or config.crop is None:
        return cut
    step, room = FRAME * rate, int(cut.lens.max())
    tail, last, units = cut.tail.copy(), cut.last.copy(), dict(cut.units)
    of, others, seconds = list[int](), list[int](), list[tuple[int | float, ...]]()
    for row in cut.units:
        if rng.random() >= config.join.probability:
            continue
        if not (speaker := recorded.speakers[rows[row]]):
            continue
        group = recorded.spoken_by[speaker]
        other = group[int(rng.integers(len(group)))]
        piece = draw_piece(rng, recorded.runs[other], ids, config.crop)
        pause = round(rng.uniform(*config.join.pause) / FRAME)
        if piece is None:
            continue
        begin = min(round(piece.begin * step), int(recorded.lens[other]))
        count = min(round(piece.end * step), int(recorded.lens[other])) - begin
        lead = int(cut.lead[row] + cut.count[row]) + round(pause * step)
        if lead + count + tail[row] > room:
            continue
        inside = [ids[name] for name, _ in piece.runs(recorded.runs[other]) if name in ids]
        units[row] = np.concatenate((units[row], np.array(inside, np.int64)))
        shift, behind = round(lead / step) - piece.begin, round(int(tail[row]) / step)
        of.append(row)
        others.append(other)
        seconds.append((begin, count, lead, int(tail[row]), np.inf, piece.first, piece.stop,
                        piece.end + behind, shift))  # fmt: skip
        tail[row] = round(pause * step)
        last[row] += pause - behind + piece.first - piece.begin
    if not of:
        return cut
    columns: dict[str, Any] = dict(
        zip(_ARRAYS, map(np.array, zip(*seconds, strict=True)), strict=True)
    )
    second = Stretches(**columns, units={})
    following = Following(np.array(of), np.array(others), second)
    return replace(cut, tail=tail, last=last, units=units, following=following)
