"""Variation of training data on the fly, each kind by its table in the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.audio import augment
from mynah.corpus.lines import LineManifest
from mynah.corpus.manifest import open_manifest
from mynah.corpus.samples import load
from mynah.corpus.select import matcher
from mynah.data.config import DataConfig
from mynah.errors import InputError

Array = npt.NDArray[np.float32]


class Recordings:
    """Recordings to mix in, read when drawn; the positions of their lines are held.

    Raises:
        InputError: the manifest is missing, or none of its rows meets the conditions.
    """

    def __init__(
        self, manifest: str, where: Mapping[str, Any], exclude: Mapping[str, Any], root: str
    ) -> None:
        opened = open_manifest(manifest, root=root or None)
        if not isinstance(opened, LineManifest):
            raise InputError(f"{manifest}: recordings to mix in cannot come from compressed tars")
        matches = matcher(where, exclude)
        self.manifest = opened
        self.positions = np.asarray([p for p, c in opened.scan() if matches(c)], np.int64)
        if not len(self.positions):
            raise InputError(f"{manifest}: no recording meets the conditions")

    def draw(self, rng: np.random.Generator, rate: int) -> Array:
        """One of them, at random, at ``rate`` hertz.

        Raises:
            InputError: it cannot be read.
        """
        return _read(self.manifest, int(rng.choice(self.positions)), rate)


@lru_cache(maxsize=64)
def _read(manifest: LineManifest, position: int, rate: int) -> Array:
    cut = manifest.at(position)
    try:
        return load(cut, audio.read, rate=rate)
    except InputError as error:
        raise InputError(f"{cut.id}, to be mixed in: {error}") from None


class Augmenter:
    """The augmentations of a configuration, applied with a generator of the utterance's own.

    Raises:
        InputError: the recordings to mix in cannot be found.
    """

    def __init__(self, config: DataConfig, rate: int) -> None:
        self.config = config
        self.rate = rate
        self.noise: Recordings | None = None
        self.rooms: Recordings | None = None
        if config.noise is not None:
            n = config.noise
            self.noise = Recordings(n.manifest, n.where, n.exclude, config.root)
        if config.reverb is not None:
            r = config.reverb
            self.rooms = Recordings(r.manifest, r.where, r.exclude, config.root)

    def samples(self, rng: np.random.Generator, samples: Array, factor: float) -> Array:
        """Speed by ``factor``, then a room, then noise."""
        if factor != 1.0:
            samples = augment.speed(samples, factor)
        reverb, noise = self.config.reverb, self.config.noise
        if reverb is not None and self.rooms is not None and rng.random() < reverb.probability:
            samples = augment.reverberate(samples, self.rooms.draw(rng, self.rate))
        if noise is not None and self.noise is not None and rng.random() < noise.probability:
            snr = rng.uniform(*noise.snr)
            samples = augment.add_noise(rng, samples, self.noise.draw(rng, self.rate), snr)
        return samples

    def feats(self, rng: np.random.Generator, feats: Array) -> Array:
        """Substitution and trimming, then masks."""
        config = self.config
        if config.spec_sub is not None:
            feats = augment.spec_sub(rng, feats, count=config.spec_sub.count,
                                     width=config.spec_sub.width)  # fmt: skip
        if config.spec_trim is not None:
            feats = augment.spec_trim(rng, feats, width=config.spec_trim.width)
        if config.spec_augment is not None:
            s = config.spec_augment
            feats = augment.spec_augment(
                rng,
                feats,
                time_masks=s.time_masks,
                time_width=s.time_width,
                frequency_masks=s.frequency_masks,
                frequency_width=s.frequency_width,
                max_part=s.max_part,
                fill=None if s.fill == "mean" else 0.0,
            )
        return feats
