"""Utterances that say which unit sounds when: pieces of them, and silence around them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from mynah.data.config import CropConfig, SilenceConfig
from mynah.errors import InputError

Array = npt.NDArray[np.float32]
Run = tuple[str, int]  # a unit, or what is none (silence), and for how many frames it sounds

FRAME = 0.01  # seconds
SILENCE = "sil"


def parse_runs(alignment: str) -> tuple[Run, ...]:
    """The runs of an alignment such as ``sil 30 dh 5 ah 7``.

    Raises:
        InputError: it is no list of units and numbers of frames.
    """
    parts = alignment.split()
    names, lengths = parts[::2], parts[1::2]
    if len(names) != len(lengths) or not all(n.isdecimal() for n in lengths):
        raise InputError(f"has an alignment that is no list of units and frames: {alignment[:40]}")
    return tuple((name, int(n)) for name, n in zip(names, lengths, strict=True))


def crop(
    rng: np.random.Generator,
    samples: Array,
    runs: Sequence[Run],
    units: Collection[str],
    config: CropConfig,
    rate: int,
) -> tuple[Array, tuple[Run, ...]]:
    """A stretch of ``samples`` (S,) and its runs: from the start of one of the ``units`` to the end
    of the same or a later one, and a little of what is around.

    The length is drawn evenly in its logarithm, then the unit to begin with among those behind
    which there is so much; where the utterance is shorter, it is all of it.
    """
    ends = np.cumsum([length for _, length in runs])
    sounds = [number for number, (name, length) in enumerate(runs) if name in units and length]
    if not sounds:
        return samples, tuple(runs)
    low, high = np.log(config.seconds)
    wanted = np.exp(rng.uniform(low, high)) / FRAME
    starts = np.array([ends[number] - runs[number][1] for number in sounds])
    stops = np.array([ends[number] for number in sounds])
    first = int(rng.integers(max(int((stops[-1] - starts >= wanted).sum()), 1)))
    last = first + int((stops[first:] - starts[first] < wanted).sum())
    last = min(last, len(sounds) - 1)
    around = rng.uniform(0.0, config.margin, 2) / FRAME
    begin = max(int(starts[first] - around[0]), 0)
    end = min(int(np.ceil(stops[last] + around[1])), int(ends[-1]))
    inside = runs[sounds[first] : sounds[last] + 1]
    lead, tail = int(starts[first]) - begin, end - int(stops[last])
    step = FRAME * rate
    piece = samples[round(begin * step) : round(end * step)]
    return piece, ((SILENCE, lead), *inside, (SILENCE, tail))


def surround(
    rng: np.random.Generator, samples: Array, config: SilenceConfig, rate: int
) -> tuple[Array, int, int]:
    """``samples`` (S,) with silence before and after, and how many frames each is."""
    lead, tail = (round(s / FRAME) for s in rng.uniform(*config.seconds, 2))
    step = FRAME * rate
    before, after = round(lead * step), round(tail * step)
    padded = np.pad(samples, (before, after))
    if rng.random() < 0.75:  # the floor of a microphone, all the time
        power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
        level = np.sqrt(power) * 10.0 ** (rng.uniform(*config.level) / 20)
        noise = rng.standard_normal(len(padded), dtype=np.float32)
        padded = padded + noise * np.float32(level)
    return padded, lead, tail
