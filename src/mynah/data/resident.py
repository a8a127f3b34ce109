"""A training set in the memory of the device that trains, varied there a batch at a time.

The order of the batches is the loader's. What is drawn for a batch depends on (seed, epoch, round)
alone; the draws are others than those of :mod:`mynah.data.augment`, their distributions the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mynah.audio import augment
from mynah.audio.features import Frontend
from mynah.audio.frontend_config import FbankConfig
from mynah.audio.noises import made_noise
from mynah.data import device as on_device
from mynah.data.augment import Array, Augmenter, Recordings
from mynah.data.config import DataConfig
from mynah.data.items import Batch, Item, Request, Utterance
from mynah.data.loader import Loader
from mynah.data.stretches import Recorded, Stretches, draw_following, draw_stretches
from mynah.errors import ConfigError, InputError
from mynah.nn.mask import valid_mask

log = logging.getLogger(__name__)

_NOTHING = np.zeros(0, np.float32)
_MADE, _MADE_SECONDS = 256, 20.0  # noises that are made once, and how long each is


class Resident:
    """The batches of ``loader``, made on ``device``; its recordings are decoded when first asked.

    Raises:
        ConfigError: the front end, or data read in one pass, cannot be had this way.
    """

    def __init__(self, loader: Loader, frontend: Frontend, device: torch.device) -> None:
        if not isinstance(frontend.config, FbankConfig):
            raise ConfigError("data.resident: is there for the front end fbank alone")
        if not loader.indexed:
            raise ConfigError("data.resident: not for compressed tars, which are read in one pass; "
                              "`mynah data shard` makes shards with an index of them")  # fmt: skip
        self.loader, self.rate, self.device = loader, frontend.rate, device
        self._fbank = on_device.Fbank(frontend.config, device)
        self._store: _Store | None = None
        self._vary: _Variation | None = None

    def num_rounds(self, epoch: int) -> int:
        """Rounds of an epoch, the same on every rank."""
        return self.loader.num_rounds(epoch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        """The batches of this rank from round ``start`` on, one a round.

        Raises:
            InputError: nothing can be used.
        """
        store = self._filled()
        for number, request in enumerate(self.loader.requests(epoch, start), start):
            items = [] if request is None else [i for i in request.items if store.has(i)]
            # whatever precision the model runs in, features are made in float32
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                batch = self._batch(store, items, (epoch, number)) if items else None
            yield batch

    def _filled(self) -> _Store:
        if self._store is None:
            self._store = _fill(self.loader, self.rate, self.device)
            augmenter = self.loader.reader.augmenter
            if augmenter is not None:
                self._vary = _Variation(augmenter, self.loader, self.device)
        return self._store

    def _batch(self, store: _Store, items: Sequence[Item], place: tuple[int, int]) -> Batch:
        views = self.loader.reader.views
        rows = np.array([store.rows[i.source, i.position] for i in items])
        rng = np.random.default_rng([self.loader.reader.seed, *place])
        cut = store.stretches(rng, rows, self._vary, self.rate).repeated(views)
        rows, factors = rows.repeat(views), np.array([i.factor for i in items]).repeat(views)
        samples = store.samples(rows, cut)
        if self._vary is not None:
            samples = self._vary.floor(rng, samples, cut)
        samples, lens = _faster(samples, cut.lens, factors)
        sizes = self._to(lens)
        if self._vary is not None:
            samples = self._vary.samples(rng, samples, sizes)
        feats = self._fbank(samples)
        feat_lens = self._fbank.frames(sizes)
        places = None
        if self._vary is not None:
            frames = np.maximum((lens - self._fbank.length) // self._fbank.shift + 1, 0)
            places = self._vary.tempo(rng, frames, views)
            feats = feats if places is None else on_device.at_places(feats, places)
            feats = self._vary.feats(rng, feats, feat_lens, frames)
        feats = feats * valid_mask(feat_lens, feats.shape[1])[..., None]
        tokens, token_lens = store.tokens(rows, cut)
        return Batch(
            ids=tuple(store.ids[row] for row in rows),
            feats=feats,
            feat_lens=feat_lens,
            tokens=self._to(tokens),
            token_lens=self._to(token_lens),
            texts=tuple(store.texts[row] for row in rows),
            labels=store.labels(rows, cut, self._to(factors), feats.shape[1], places),
            views=views,
        )

    def _to(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)


@dataclass
class _Store:
    """Recordings one after another in one tensor, and what is to be learnt of each."""

    rows: dict[tuple[int, int], int]  # (source, position) to row
    ids: list[str]
    texts: list[str]
    units: list[npt.NDArray[np.int64]]
    starts: npt.NDArray[np.int64]
    sound: Tensor  # int16, of all
    label_lens: Tensor  # frames
    label_starts: Tensor
    known: Tensor | None  # int16, the labels of all frames
    recorded: Recorded  # lens, label_lens and more, on the host
    unit_ids: dict[str, int]  # by name
    blank: int

    def has(self, item: Item) -> bool:
        """Whether an utterance could be used."""
        return (item.source, item.position) in self.rows

    def stretches(
        self,
        rng: np.random.Generator,
        rows: npt.NDArray[np.int64],
        vary: _Variation | None,
        rate: int,
    ) -> Stretches:
        """What is used of the recordings; all of them where nothing is varied."""
        config, known = DataConfig() if vary is None else vary.config, self.recorded
        runs, ids = [known.runs[row] for row in rows], self.unit_ids
        cut = draw_stretches(rng, known.lens[rows], known.frames[rows], runs, ids, config, rate)
        return draw_following(rng, rows, cut, known, ids, config, rate)

    def samples(self, rows: npt.NDArray[np.int64], cut: Stretches) -> Tensor:
        """The stretches (B, S), zeros before and after them."""
        size = int(cut.lens.max())
        found = self._sound(rows, cut, size)
        if (more := cut.following) is not None:
            second = self._sound(more.rows, more.stretches, size)
            found.index_add_(0, self._moved(more.of), second)
        return found

    def _sound(self, rows: npt.NDArray[np.int64], cut: Stretches, size: int) -> Tensor:
        """Single stretches, (B, size)."""
        starts, lead, count = (
            self._column(x) for x in (self.starts[rows] + cut.begin, cut.lead, cut.count)
        )
        at = torch.arange(size, device=self.sound.device) - lead
        inside = (at >= 0) & (at < count)
        found = self.sound[(starts + at).clamp_(min=0, max=len(self.sound) - 1)]
        return found.float().mul_(1.0 / 32768.0).mul_(inside)

    def tokens(
        self, rows: npt.NDArray[np.int64], cut: Stretches
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokens (B, U), zeros after their ends, and their numbers."""
        units = [cut.units.get(number, self.units[row]) for number, row in enumerate(rows)]
        lens = np.array([len(x) for x in units], np.int64)
        padded = np.zeros((len(rows), int(lens.max())), np.int64)
        for of_row, target in zip(units, padded, strict=True):
            target[: len(of_row)] = of_row
        return padded, lens

    def labels(
        self,
        rows: npt.NDArray[np.int64],
        cut: Stretches,
        factors: Tensor,
        frames: int,
        places: Tensor | None = None,
    ) -> Tensor | None:
        """The unit of each frame (B, T) of stretches made faster by ``factors``, or of the frame
        at its place (B, T); -1: not known."""
        if self.known is None:
            return None
        at = torch.arange(frames, device=self.known.device)
        at = at if places is None else places.round()
        at = ((at + 0.5) * factors[:, None]).long()
        found = self._labels(self.known, rows, cut, at)
        if (more := cut.following) is not None:
            of = self._moved(more.of)
            second = self._labels(self.known, more.rows, more.stretches, at[of])
            begins = self._column(more.stretches.shift + more.stretches.first)
            found[of] = second.where(at[of] >= begins, found[of])
        return found

    def _labels(
        self, known: Tensor, rows: npt.NDArray[np.int64], cut: Stretches, at: Tensor
    ) -> Tensor:
        """Of single stretches, for frames ``at`` (B, T) of theirs."""
        index = self._moved(rows)
        sizes = self.label_lens[index][:, None]
        shift, first, stop, last = map(self._column, (cut.shift, cut.first, cut.stop, cut.last))
        at = at - shift
        inside = (at >= first) & (at < torch.minimum(stop, sizes))
        place = (self.label_starts[index][:, None] + at).clamp(min=0, max=len(known) - 1)
        found = known[place].long().masked_fill(~inside, self.blank)
        return found.masked_fill((at >= last) | (sizes == 0), -1)

    def _column(self, values: npt.NDArray[np.int64]) -> Tensor:
        return self._moved(values)[:, None]

    def _moved(self, values: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self.sound.device, non_blocking=True)


def _fill(loader: Loader, rate: int, device: torch.device) -> _Store:
    """Decode every recording of a loader's first epoch, in as many threads as there are cores."""
    places: dict[tuple[int, int], Item] = {}
    for request in loader.requests(0):
        for item in request.items if isinstance(request, Request) else ():
            places.setdefault((item.source, item.position), item)

    def read(item: Item) -> tuple[Utterance, npt.NDArray[np.int16]] | None:
        utterance, rejected = loader.reader.utterance(item)
        for name, reason in rejected:
            loader.reject(name, reason)
        if utterance is None:
            return None
        # half as large at once: all of them are here together
        return replace(utterance, samples=_NOTHING), to_int16(utterance.samples)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read, places.values()))
    kept = [(place, u) for place, u in zip(places, found, strict=True) if u is not None]
    if not kept:
        raise InputError(f"data: no recording can be used{loader.last_reason()}")
    utterances, sounds = [u for _, (u, _) in kept], [x for _, (_, x) in kept]
    lens = np.array([len(x) for x in sounds], np.int64)
    sound = np.concatenate(sounds)
    labels = [np.empty(0, np.int16) if u.labels is None else u.labels for u in utterances]
    label_lens = np.array([len(x) for x in labels], np.int64)
    speakers = [u.speaker for u in utterances]
    spoken_by: dict[str, list[int]] = {}
    for row, speaker in enumerate(speakers):
        spoken_by.setdefault(speaker, []).append(row)
    tokenizer = loader.reader.tokenizer
    log.info("%.2f h of speech are in the memory of %s", lens.sum() / rate / 3600, device)
    return _Store(
        rows={place: row for row, (place, _) in enumerate(kept)},
        ids=[u.id for u in utterances],
        texts=[u.text for u in utterances],
        units=[np.array(u.tokens, np.int64) for u in utterances],
        starts=np.cumsum(lens) - lens,
        sound=torch.from_numpy(sound).to(device),
        label_lens=torch.from_numpy(label_lens).to(device),
        label_starts=torch.from_numpy(np.cumsum(label_lens) - label_lens).to(device),
        known=torch.from_numpy(np.concatenate(labels).astype(np.int16)).to(device)
        if label_lens.any()
        else None,
        recorded=Recorded(lens, label_lens, [u.runs for u in utterances], speakers, spoken_by),
        unit_ids=loader.reader.ids,
        blank=0 if tokenizer is None else tokenizer.blank,
    )


def to_int16(samples: Array) -> npt.NDArray[np.int16]:
    """Samples in [-1, 1] as 16-bit integers, the nearest; beyond that they are clipped."""
    rounded: npt.NDArray[np.int16] = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(
        np.int16
    )
    return rounded


def _faster(
    samples: Tensor, lens: npt.NDArray[np.int64], factors: npt.NDArray[np.float64]
) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Each row at its own speed; rows of the same are made together."""
    if (factors == 1.0).all():
        return samples, lens
    lens = np.rint(lens / factors).astype(np.int64)
    varied = samples.new_zeros(len(samples), int(lens.max()))
    for factor in np.unique(factors):
        rows = torch.from_numpy(np.flatnonzero(factors == factor)).to(samples.device)
        part = on_device.speed(samples[rows], float(factor))[:, : varied.shape[1]]
        varied[rows, : part.shape[1]] = part
    return varied, lens


class _Variation:
    """Rooms, noise and what is done to features, with the recordings to mix in held as well."""

    def __init__(self, augmenter: Augmenter, loader: Loader, device: torch.device) -> None:
        self.config: DataConfig = augmenter.config
        config = self.config
        self.rate, self.device = augmenter.rate, device
        self.noise = self._sounds(augmenter.noise, loader)
        self._recorded = len(self.noise)
        if config.noise is not None and config.noise.made:
            self.noise += _made(self.rate, loader.reader.seed)
        rooms = self._sounds(augmenter.rooms, loader)
        self.rooms = None if not rooms else _circles(rooms).to(device)
        if self.noise:
            self._noise_starts = np.cumsum([0, *(len(n) for n in self.noise)])
            self._noise = torch.from_numpy(np.concatenate(self.noise)).to(device)

    def _sounds(self, recordings: Recordings | None, loader: Loader) -> list[Array]:
        if recordings is None:
            return []
        found = (recordings.read(int(p), self.rate, loader.reject) for p in recordings.positions)
        return [sound for sound in found if sound is not None]

    def floor(self, rng: np.random.Generator, samples: Tensor, cut: Stretches) -> Tensor:
        """The floor of a microphone under the stretches that were given one."""
        rows = np.flatnonzero(np.isfinite(cut.level))
        if not len(rows):
            return samples
        index, lens = self._to(rows), self._to(cut.lens[rows])
        noise = self._hiss(rng, len(rows), samples.shape[1])
        # decibels are of the speech alone, without the silence around it
        snr = cut.level[rows] + 10 * np.log10(np.maximum(cut.said[rows], 1) / cut.lens[rows])
        noisy = on_device.add_noise(samples[index], lens, noise, self._to(snr.astype(np.float32)))
        return samples.index_copy(0, index, noisy)

    def _hiss(self, rng: np.random.Generator, count: int, size: int) -> Tensor:
        """White noise (count, size)."""
        made = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        return torch.randn(count, size, generator=made, device=self.device)

    def samples(self, rng: np.random.Generator, samples: Tensor, lens: Tensor) -> Tensor:
        """A room for some of the rows (B, S), noise for some, then a channel for some."""
        reverb, noise = self.config.reverb, self.config.noise
        if reverb is not None and self.rooms is not None:
            rows = np.flatnonzero(rng.random(len(samples)) < reverb.probability)
            if len(rows):
                index = self._to(rows)
                rooms = self.rooms[self._to(rng.integers(len(self.rooms), size=len(rows)))]
                wet = on_device.reverberate(samples[index], lens[index], rooms)
                samples = samples.index_copy(0, index, wet)
        if noise is not None and self.noise:
            rows = np.flatnonzero(rng.random(len(samples)) < noise.probability)
            if len(rows):
                index = self._to(rows)
                drawn = self._stretches(rng, len(rows), samples.shape[1], noise.made)
                snr = self._to(rng.uniform(*noise.snr, size=len(rows)).astype(np.float32))
                noisy = on_device.add_noise(samples[index], lens[index], drawn, snr)
                samples = samples.index_copy(0, index, noisy)
        return self._through_channel(rng, samples, lens)

    def _through_channel(self, rng: np.random.Generator, samples: Tensor, lens: Tensor) -> Tensor:
        if (channel := self.config.channel) is None:
            return samples
        rows = np.flatnonzero(rng.random(len(samples)) < channel.clipped)
        if len(rows):
            index = self._to(rows)
            share = self._to(rng.uniform(0.2, 0.8, len(rows)).astype(np.float32))
            samples = samples.index_copy(0, index, on_device.clipped(samples[index], share))
        rows = np.flatnonzero(rng.random(len(samples)) < channel.narrow)
        if len(rows):
            index, bands = self._to(rows), [augment.draw_band(rng) for _ in rows]
            narrow = on_device.narrowed(
                samples[index],
                self._to(np.array([(band.low, band.high) for band in bands], np.float32)),
                self._to(np.array([band.coded for band in bands])),
                self.rate,
            )
            floor = self._to((rng.random(len(rows)) < 0.5).astype(np.float32) / 32768.0)
            hiss = self._hiss(rng, len(rows), samples.shape[1]) * floor[:, None]
            narrow = (narrow + hiss) * valid_mask(lens[index], samples.shape[1])
            samples = samples.index_copy(0, index, narrow)
        return samples

    def _stretches(
        self, rng: np.random.Generator, count: int, size: int, made: float = 0.0
    ) -> Tensor:
        """Noise from random places, repeated when too short, ``made`` of it what was made:
        (count, size)."""
        which = rng.integers(max(self._recorded, 1), size=count)
        if made:
            another = rng.integers(self._recorded, len(self.noise), size=count)
            which = np.where((rng.random(count) < made) | (not self._recorded), another, which)
        lens = np.diff(self._noise_starts)[which]
        places = np.where(lens > size, lens - size + 1, lens)
        first = (rng.random(count) * places).astype(np.int64)
        at = self._to(first)[:, None] + torch.arange(size, device=self.device)
        start = self._to(self._noise_starts[which])[:, None]
        return self._noise[start + at % self._to(lens)[:, None]]

    def tempo(
        self, rng: np.random.Generator, frames: npt.NDArray[np.int64], views: int
    ) -> Tensor | None:
        """Which of its ``frames`` (B,) each becomes (B, T), where rhythms are varied; the same for
        views of one another, whose frames are compared."""
        if (tempo := self.config.tempo) is None:
            return None
        lens = frames[::views]
        places = augment.draw_tempo(rng, lens.tolist(), tempo.width)
        places[rng.random(len(lens)) >= tempo.probability] = np.arange(
            places.shape[1], dtype=np.float32
        )
        return self._to(places.repeat(views, 0))

    def feats(
        self, rng: np.random.Generator, feats: Tensor, lens: Tensor, frames: npt.NDArray[np.int64]
    ) -> Tensor:
        """Vocal tracts, microphones and masks for feats (B, T, F) of ``frames`` (B,) frames."""
        config, count, bins = self.config, len(feats), feats.shape[2]
        if config.warp is not None:
            limit = np.log1p(config.warp.width)
            factors = np.exp(rng.uniform(-limit, limit, count)).astype(np.float32)
            moved = None
            if config.warp.bend:
                bent = augment.draw_bends(rng, count, config.warp.bend)
                moved = self._to(augment.bends(bent, bins))
            feats = on_device.warp_frequency(feats, self._to(factors), self.rate, moved)
        if config.color is not None:
            level, tilt = config.color.level, config.color.tilt
            heights = rng.standard_normal((count, 4)) * (level, tilt, tilt, tilt)
            feats = on_device.color(feats, self._to(heights.astype(np.float32)))
        if (s := config.spec_augment) is not None:
            longest = np.minimum(s.time_width, (frames * s.max_part).astype(np.int64))
            time = _stretches(rng, frames, longest, s.time_masks)
            widest = np.full(count, s.frequency_width)
            frequency = _stretches(rng, np.full(count, bins), widest, s.frequency_masks)
            feats = on_device.mask(
                feats,
                lens,
                self._to(time),
                self._to(frequency),
                fill=None if s.fill == "mean" else 0.0,
            )
        return feats

    def _to(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)


def _made(rate: int, seed: int) -> list[Array]:
    """A stock of noises that are made, from which a training on a device takes stretches."""

    def make(number: int) -> Array:
        return made_noise(np.random.default_rng([seed, number]), round(_MADE_SECONDS * rate), rate)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(make, range(_MADE)))


def _stretches(
    rng: np.random.Generator,
    sizes: npt.NDArray[np.int64],
    longest: npt.NDArray[np.int64],
    count: int,
) -> npt.NDArray[np.int64]:
    """Starts and lengths (B, count, 2) of stretches of 1 to ``longest`` within ``sizes``."""
    shape = (len(sizes), count)
    starts = (rng.random(shape) * sizes[:, None]).astype(np.int64)
    lengths = (rng.random(shape) * longest[:, None]).astype(np.int64) + (longest[:, None] >= 1)
    return np.stack((starts, lengths), 2)


def _circles(rooms: Sequence[Array]) -> Tensor:
    """Room responses (N, R) turned so that the direct sound is first; half of R lies before it."""
    size = 2 * max(len(room) for room in rooms)
    turned = np.zeros((len(rooms), size), np.float32)
    for room, target in zip(rooms, turned, strict=True):
        target[: len(room)] = room
        target[:] = np.roll(target, -int(np.abs(room).argmax()))
    return torch.from_numpy(turned)
