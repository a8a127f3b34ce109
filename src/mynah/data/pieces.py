"""Utterances that say which unit sounds when: pieces of them, and silence around them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.corpus.runs import FRAME, SILENCE, Run
from mynah.data.config import CropConfig, SilenceConfig

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """A stretch of an utterance: its frames from ``begin`` to ``end``, of which those from
    ``first`` to ``stop`` are of its own units; those are in the runs from ``run`` to ``last``."""

    begin: int
    first: int
    stop: int
    end: int
    run: int
    last: int  # one past the last

    def runs(self, runs: Sequence[Run]) -> tuple[Run, ...]:
        """Those of the piece, what is around being silence."""
        lead, tail = self.first - self.begin, self.end - self.stop
        return (SILENCE, lead), *runs[self.run : self.last], (SILENCE, tail)


def draw_piece(
    rng: np.random.Generator, runs: Sequence[Run], units: Collection[str], config: CropConfig
) -> Piece | None:
    """A stretch from the start of one of the ``units`` to the end of the same or a later one, and a
    little of what is around; ``None`` where none sounds.

    The length is drawn evenly in its logarithm, then the unit to begin with among those behind
    which there is so much; where the utterance is shorter, it is all of it.
    """
    ends = np.cumsum([length for _, length in runs])
    sounds = [number for number, (name, length) in enumerate(runs) if name in units and length]
    if not sounds:
        return None
    low, high = np.log(config.seconds)
    wanted = np.exp(rng.uniform(low, high)) / FRAME
    stops = ends[sounds]
    starts = stops - np.array([runs[number][1] for number in sounds])
    first = int(rng.integers(max(int((stops[-1] - starts >= wanted).sum()), 1)))
    last = first + int((stops[first:] - starts[first] < wanted).sum())
    last = min(last, len(sounds) - 1)
    before, after = rng.uniform(0.0, config.margin, 2) / FRAME
    return Piece(
        begin=max(int(starts[first] - before), 0),
        first=int(starts[first]),
        stop=int(stops[last]),
        end=min(int(np.ceil(stops[last] + after)), int(ends[-1])),
        run=sounds[first],
        last=sounds[last] + 1,
    )


@dataclass(frozen=True)
class Surroundings:
    """Frames of silence before and after, and how far above it the speech is: decibels, infinite
    where there is no sound in it."""

    lead: int
    tail: int
    level: float


def draw_surroundings(rng: np.random.Generator, config: SilenceConfig) -> Surroundings:
    """Silence for both sides; three of four are not without any sound."""
    lead, tail = (round(seconds / FRAME) for seconds in rng.uniform(*config.seconds, 2))
    level = -rng.uniform(*config.level)
    return Surroundings(lead, tail, level if rng.random() < 0.75 else math.inf)


def crop(
    rng: np.random.Generator,
    samples: Array,
    runs: Sequence[Run],
    units: Collection[str],
    config: CropConfig,
    rate: int,
) -> tuple[Array, tuple[Run, ...]]:
    """A piece of ``samples`` (S,), as :func:`draw_piece` draws it, and its runs."""
    piece = draw_piece(rng, runs, units, config)
    if piece is None:
        return samples, tuple(runs)
    step = FRAME * rate
    return samples[round(piece.begin * step) : round(piece.end * step)], piece.runs(runs)


def surround(
    rng: np.random.Generator, samples: Array, config: SilenceConfig, rate: int
) -> tuple[Array, int, int]:
    """``samples`` (S,) with silence before and after, and how many frames each is; the floor of a
    microphone, where it has one, is there all the time."""
    drawn, step = draw_surroundings(rng, config), FRAME * rate
    padded = np.pad(samples, (round(drawn.lead * step), round(drawn.tail * step)))
    if math.isfinite(drawn.level) and len(samples):
        noise = rng.standard_normal(len(padded), dtype=np.float32)
        power = float(np.mean(np.square(samples, dtype=np.float64)))
        padded = padded + noise * np.float32(np.sqrt(power) * 10.0 ** (-drawn.level / 20))
    return padded, drawn.lead, drawn.tail
