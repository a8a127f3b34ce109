"""What is asked of the readers, round by round: from an index, or from tars read in one pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from mynah.corpus.cut import Cut
from mynah.corpus.manifest import StreamManifest
from mynah.data.config import DataConfig, SourceConfig
from mynah.data.index import Check, Index, Reject, chosen, key_of, refusal, with_length
from mynah.data.items import Item, Request
from mynah.data.plan import Plan, make_plan

log = logging.getLogger(__name__)

_WINDOW_ITEMS = 4096  # of a stream that are planned together
_WINDOW_BYTES = 128 << 20


class Feed(Protocol):
    """Rounds of requests for one rank."""

    def rounds(self, epoch: int) -> int:
        """The number of rounds, the same on every rank."""

    def requests(self, epoch: int, start: int) -> Iterator[Request | None]:
        """The requests from round ``start`` on; ``None`` where this rank has no batch."""


@dataclass(frozen=True)
class Order:
    """How utterances are put into an order and into batches."""

    config: DataConfig
    frame_shift: float
    seed: int
    shuffle: bool
    augment: bool
    rank: int
    world: int
    margin: float = 0.0  # seconds of silence after each utterance
    window: float = 0.0  # seconds that each is filled up to; 0: none
    check: Check | None = None

    @property
    def speed(self) -> tuple[float, ...]:
        """The speed factors in use."""
        return self.config.speed if self.augment else ()

    @property
    def views(self) -> int:
        """How many variations of an utterance a batch holds."""
        return self.config.views if self.augment else 1

    def plan(self, seconds: Sequence[float], keys: Sequence[int], epoch: int) -> Plan:
        """The batches over utterances of these lengths."""
        return make_plan(
            np.asarray(seconds, np.float32),
            np.asarray(keys, np.uint64),
            speed=self.speed,
            frame_shift=self.frame_shift,
            max_frames=self.config.max_frames // self.views,
            max_items=self.config.max_items // self.views,
            buckets=self.config.buckets,
            seed=self.seed,
            epoch=epoch,
            shuffle=self.shuffle,
            margin=self.margin,
            window=self.window,
        )

    def factor(self, plan: Plan, row: int) -> float:
        """The speed factor of a row."""
        return self.speed[plan.factors[row]] if self.speed else 1.0


@dataclass
class LineFeed:
    """Requests from an index: any round is found at once."""

    index: Index
    order: Order
    _plans: dict[int, Plan] = field(default_factory=dict)

    def _plan(self, epoch: int) -> Plan:
        if epoch not in self._plans:
            index = self.index
            self._plans = {epoch: self.order.plan(index.seconds, index.keys, epoch)}  # type: ignore[arg-type]
        return self._plans[epoch]

    def rounds(self, epoch: int) -> int:
        """The number of rounds."""
        return -(-len(self._plan(epoch)) // self.order.world)

    def requests(self, epoch: int, start: int) -> Iterator[Request | None]:
        """The requests from round ``start`` on."""
        plan = self._plan(epoch)
        for number in range(start, self.rounds(epoch)):
            batch = number * self.order.world + self.order.rank
            if batch >= len(plan):
                yield None
                continue
            yield Request(epoch, tuple(self._item(plan, int(row)) for row in plan.rows(batch)))

    def _item(self, plan: Plan, row: int) -> Item:
        index = self.index
        return Item(
            source=int(index.sources[row]),
            position=int(index.positions[row]),
            key=int(index.keys[row]),
            factor=self.order.factor(plan, row),
            frames=int(plan.frames[row]),
        )


@dataclass
class StreamFeed:
    """Requests from tars that are read in one pass, in an order drawn for each epoch.

    Utterances meet within windows of a few thousand. Every rank reads all the tars and takes its
    own batches, so that all agree on the rounds without talking; a later start reads what comes
    before it again, without decoding.
    """

    manifests: Sequence[StreamManifest]
    sources: Sequence[SourceConfig]
    order: Order
    reject: Reject
    _rounds: dict[int, int] = field(default_factory=dict)

    def rounds(self, epoch: int) -> int:
        """The number of rounds; it takes a pass over the tars to know it."""
        if epoch not in self._rounds:
            log.warning("compressed tars are read once to count the rounds of epoch %d", epoch)
            batches = sum(1 for _ in self._batches(epoch))
            self._rounds[epoch] = -(-batches // self.order.world)
        return self._rounds[epoch]

    def requests(self, epoch: int, start: int) -> Iterator[Request | None]:
        """The requests from round ``start`` on."""
        batches = self._batches(epoch)
        number = 0
        while group := list(islice(batches, self.order.world)):
            if number >= start:
                mine = self.order.rank
                yield group[mine] if mine < len(group) else None
            number += 1
        self._rounds[epoch] = number

    def _batches(self, epoch: int) -> Iterator[Request]:
        for window in self._windows(epoch):
            plan = self.order.plan([i[1] for i in window], [i[2] for i in window], epoch)
            for batch in range(len(plan)):
                yield Request(
                    epoch, tuple(self._item(plan, int(row), window) for row in plan.rows(batch))
                )

    def _item(self, plan: Plan, row: int, window: list[tuple[Cut, float, int, int]]) -> Item:
        cut, _, key, source = window[row]
        factor = self.order.factor(plan, row)
        return Item(source, row, key, factor, int(plan.frames[row]), cut)

    def _windows(self, epoch: int) -> Iterator[list[tuple[Cut, float, int, int]]]:
        window: list[tuple[Cut, float, int, int]] = []
        size = 0
        for cut, seconds, key, source in self._cuts(epoch):
            window.append((cut, seconds, key, source))
            size += len(cut.recording.data or b"")
            if len(window) >= _WINDOW_ITEMS or size >= _WINDOW_BYTES:
                yield window
                window, size = [], 0
        if window:
            yield window

    def _cuts(self, epoch: int) -> Iterator[tuple[Cut, float, int, int]]:
        tars = [
            (number, tar, copy)
            for number, (manifest, source) in enumerate(
                zip(self.manifests, self.sources, strict=True)
            )
            for copy in range(source.repeat)
            for tar in manifest.tars
        ]
        order = np.arange(len(tars))
        if self.order.shuffle:
            order = np.random.default_rng([self.order.seed, epoch, 1]).permutation(len(tars))
        used = [0] * len(self.sources)
        for place in order:
            number, tar, copy = tars[place]
            source = self.sources[number]
            cuts = enumerate(self.manifests[number].cuts(tar, self.reject))
            for _, found in chosen(source, cuts):
                if source.limit and used[number] >= source.limit * source.repeat:
                    break
                used[number] += 1
                cut = with_length(found)
                seconds = cut.duration
                if seconds is None:
                    self.reject(cut.id, "cannot be decoded")
                    continue
                reason = refusal(cut, seconds, self.order.config, self.order.frame_shift)
                if reason:
                    self.reject(cut.id, reason)
                    continue
                if self.order.check is not None:
                    self.order.check(cut, source)
                key = (key_of(cut.id) + copy * 0x9E3779B97F4A7C15) & (1 << 64) - 1
                yield cut, seconds, key, number
