"""Which stretch of each recording of a batch is used, and the silence around it.

For recordings in the memory of a device (:mod:`mynah.data.resident`): the draws are made here, what
is drawn is gathered there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

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
        units: of those that are pieces, their units, by row.
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

    @property
    def lens(self) -> Ints:
        """Of each recording with its silence."""
        return self.lead + self.count + self.tail

    def repeated(self, times: int) -> Stretches:
        """Each so many times, one beside the other: views of a recording hear the same of it."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "units"}
        units = {r * times + i: ids for r, ids in self.units.items() for i in range(times)}
        return Stretches(**{n: a.repeat(times) for n, a in arrays.items()}, units=units)


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
