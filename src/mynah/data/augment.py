"""Variation of training data on the fly, each kind by its table in the recipe."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.audio import augment
from mynah.audio.noises import made_noise
from mynah.corpus.lines import LineManifest
from mynah.corpus.manifest import open_manifest
from mynah.corpus.samples import load
from mynah.corpus.select import matcher
from mynah.data.config import DataConfig
from mynah.errors import InputError, MissingDependency

Array = npt.NDArray[np.float32]
Reject = Callable[[str, str], None]  # id, reason

MEMORY = 256_000_000  # bytes of recordings to mix in that a process keeps


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
        self._broken: set[int] = set()
        self.positions = np.asarray([p for p, c in opened.scan() if matches(c)], np.int64)
        if not len(self.positions):
            raise InputError(f"{manifest}: no recording meets the conditions")

    def draw(self, rng: np.random.Generator, rate: int, reject: Reject) -> Array | None:
        """One of them, at random, at ``rate`` hertz; ``None`` where it cannot be used.

        The first time, ``reject`` is told. No other is drawn instead: what an utterance gets does
        not depend on what was read before it.
        """
        return self.read(int(rng.choice(self.positions)), rate, reject)

    def read(self, position: int, rate: int, reject: Reject) -> Array | None:
        """The recording at ``position``, as :meth:`draw`."""
        if position in self._broken:
            return None
        try:
            return _read(self.manifest, position, rate)
        except (MissingDependency, ImportError):  # of the installation, not of the recording
            raise
        except Exception as error:  # a decoder may fail in its own way
            self._broken.add(position)
            cause = str(error) if isinstance(error, InputError) else repr(error)
            name = f"{self.manifest.name}@{position}"
            with contextlib.suppress(InputError):
                name = self.manifest.at(position).id
            reject(name, f"cannot be mixed in: {cause}")
            return None


_Place: TypeAlias = tuple[LineManifest, int, int]
_kept: OrderedDict[_Place, Array] = OrderedDict()  # of this process; the last used at the end


def _read(manifest: LineManifest, position: int, rate: int) -> Array:
    place = manifest, position, rate
    if place in _kept:
        _kept.move_to_end(place)
        return _kept[place]
    samples = load(manifest.at(position), audio.read, rate=rate)
    if not len(samples) or not np.isfinite(samples).all() or not np.any(samples):
        raise InputError("no sound in it")
    _kept[place] = samples
    while len(_kept) > 1 and sum(one.nbytes for one in _kept.values()) > MEMORY:
        _kept.popitem(last=False)
    return samples


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

    def samples(
        self, rng: np.random.Generator, samples: Array, factor: float, reject: Reject
    ) -> Array:
        """Speed by ``factor``, a room, noise, then a channel; ``reject`` is told which recordings
        cannot be read."""
        if factor != 1.0:
            samples = augment.speed(samples, factor)
        reverb, noise = self.config.reverb, self.config.noise
        if reverb is not None and self.rooms is not None and rng.random() < reverb.probability:
            room = self.rooms.draw(rng, self.rate, reject)
            samples = samples if room is None else augment.reverberate(samples, room)
        if noise is not None and self.noise is not None and rng.random() < noise.probability:
            snr = rng.uniform(*noise.snr)
            if noise.made and rng.random() < noise.made:
                drawn: Array | None = made_noise(rng, len(samples), self.rate)
            else:
                drawn = self.noise.draw(rng, self.rate, reject)
            samples = samples if drawn is None else augment.add_noise(rng, samples, drawn, snr)
        return self._through_channel(rng, samples)

    def _through_channel(self, rng: np.random.Generator, samples: Array) -> Array:
        channel = self.config.channel
        if channel is None or not len(samples):
            return samples
        if rng.random() < channel.clipped:
            samples = augment.clipped(rng, samples)
        if rng.random() < channel.narrow:
            samples = augment.narrowed(rng, samples, self.rate)
            if rng.random() < 0.5:  # what was kept at a higher rate has a floor above the band
                samples = augment.dither(rng, samples)
        return samples

    def tempo(self, rng: np.random.Generator, frames: int) -> Array | None:
        """Which frame each of so many becomes (T,), where the rhythm is to be another."""
        tempo = self.config.tempo
        if tempo is None or rng.random() >= tempo.probability:
            return None
        places: Array = augment.draw_tempo(rng, [frames], tempo.width)[0]
        return places

    def feats(self, rng: np.random.Generator, feats: Array) -> Array:
        """Vocal tract and microphone, substitution and trimming, then masks."""
        config = self.config
        if config.warp is not None:
            feats = augment.warp_frequency(rng, feats, width=config.warp.width,
                                           bend=config.warp.bend, rate=self.rate)  # fmt: skip
        if config.color is not None:
            feats = augment.color(rng, feats, level=config.color.level, tilt=config.color.tilt)
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
