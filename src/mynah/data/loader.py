"""The loader: manifests in, padded batches out.

Order: a permutation computed from (seed, epoch) over an index; there is no shuffle buffer.
Round ``r`` of an epoch is batches ``r * world ... r * world + world - 1``, one for each rank, so
every utterance is seen once an epoch, and a place in the data is two numbers, (epoch, round).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.utils.data import DataLoader

from mynah.audio.features import Frontend
from mynah.corpus.cut import Cut
from mynah.corpus.manifest import StreamManifest
from mynah.data.augment import Augmenter
from mynah.data.config import (
    DataConfig,
    NoiseConfig,
    ReverbConfig,
    SourceConfig,
    SpecAugmentConfig,
    SpecSubConfig,
    SpecTrimConfig,
)
from mynah.data.feed import Feed, LineFeed, Order, StreamFeed
from mynah.data.index import build_index, only_lines, open_sources
from mynah.data.items import Batch, Examples, ItemReader, Loaded, Request, Targets
from mynah.data.quarantine import QuarantineFile
from mynah.errors import ConfigError, InputError

if TYPE_CHECKING:
    from mynah.text import Tokenizer

__all__ = [
    "Batch",
    "DataConfig",
    "Loader",
    "NoiseConfig",
    "ReverbConfig",
    "SourceConfig",
    "SpecAugmentConfig",
    "SpecSubConfig",
    "SpecTrimConfig",
]

log = logging.getLogger(__name__)

_HOPELESS = 50  # rounds in a row without one good utterance


class Loader:
    """Batches of a configured set, epoch by epoch.

    What cannot be used is passed over and listed in :attr:`quarantine`, with the reason; the file
    ``quarantine``, where one is given, gets a JSON line of it, once for all ranks and runs.

    Raises:
        ConfigError: ``which`` has no sources.
        InputError: a manifest is missing or malformed, or nothing in it can be used.
    """

    def __init__(
        self,
        config: DataConfig,
        which: Literal["train", "dev"] | str,
        tokenizer: Tokenizer | None,
        frontend: Frontend,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        augment: bool = True,
        quarantine: str | Path | None = None,
        examples: Examples | None = None,
        targets: Targets | None = None,
    ) -> None:
        if which not in ("train", "dev"):
            raise ConfigError(f"data: {which!r} is neither train nor dev")
        if not 0 <= rank < world:
            raise ConfigError(f"rank {rank} is not below world {world}")
        sources = config.train if which == "train" else config.dev
        if not sources:
            raise ConfigError(f"data.{which}: lists no manifest")
        for name in ("tempo", "crop", "silence") if targets is not None else ():
            if getattr(config, name) is not None:
                raise ConfigError(f"{name}: moves the times that this task learns; leave it out")
        self.config = config
        self.workers = config.workers if workers is None else workers
        self.quarantine: list[tuple[str, str]] = []
        self._listed: set[tuple[str, str]] = set()
        self._file = None if quarantine is None else QuarantineFile(Path(quarantine))
        self._first, self._alone = rank == 0, world == 1
        manifests = open_sources(config, sources, self._reject_on_all)
        lines = only_lines(manifests)
        order = Order(
            config, float(frontend.frame_shift), seed, which == "train", augment, rank, world,
            margin=0.0 if targets is None else targets.margin, window=frontend.window,
            check=None if targets is None else partial(_check, targets),
        )  # fmt: skip
        self._feed: Feed
        if lines is not None:
            index = build_index(
                lines, sources, config, order.frame_shift, self._reject_on_all, order.check
            )
            if not len(index):
                raise InputError(f"data.{which}: no utterance can be used{self.last_reason()}")
            self._feed = LineFeed(index, order)
        else:
            streams = [m for m in manifests if isinstance(m, StreamManifest)]
            self._feed = StreamFeed(streams, sources, order, self._reject_on_all)
        plain = not augment or examples is not None  # examples are varied as they are made
        augmenter = None if plain else Augmenter(config, frontend.rate)
        self.reader = ItemReader(
            config, sources, lines or (), tokenizer, frontend, augmenter, seed, examples, targets,
            order.views,
        )  # fmt: skip
        self._asked = _Asked()
        self._processes: DataLoader[Loaded] | None = None

    def num_rounds(self, epoch: int) -> int:
        """Rounds of an epoch, the same on every rank."""
        return self._feed.rounds(epoch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        """The batches of this rank from round ``start`` on, one a round.

        ``None`` where the rank has nothing: in the last round of uneven data, or when nothing in
        the batch could be used. Only one epoch at a time may be under way.

        Raises:
            InputError: nothing could be read in many rounds in a row.
        """
        empty, good, asked = 0, 0, 0
        for loaded in self._loaded(self._feed.requests(epoch, start)):
            for name, reason in loaded.rejected:
                self.reject(name, reason)
            empty = 0 if loaded.batch is not None or not loaded.rejected else empty + 1
            good, asked = good + (loaded.batch is not None), asked + bool(loaded.rejected)
            if empty >= _HOPELESS:
                raise InputError(
                    f"nothing could be read in {empty} batches in a row{self.last_reason()}"
                )
            yield loaded.batch
        # of a part of an epoch, or of the batches of one rank, that may well be so
        if asked and not good and not start and self._alone:
            raise InputError(f"nothing could be read in a whole epoch{self.last_reason()}")

    def requests(self, epoch: int, start: int = 0) -> Iterator[Request | None]:
        """What :meth:`epoch` would read, without reading it: the utterances of each batch."""
        return self._feed.requests(epoch, start)

    def unknown(self, most: int = 1000) -> float:
        """The share of units that the tokenizer does not know in ``most`` of the texts; 0 where the
        data are read in one pass."""
        reader = self.reader
        if not self.indexed or reader.tokenizer is None or reader.tokenizer.unk < 0:
            return 0.0
        requests = (request for request in self.requests(0) if request is not None)
        asked = (item for request in requests for item in request.items)
        units = [reader.units(item) for item in islice(asked, most)]
        count = sum(map(len, units))
        return sum(found.count(reader.tokenizer.unk) for found in units) / max(count, 1)

    @property
    def indexed(self) -> bool:
        """Whether an utterance has a place of its own, the same in every epoch."""
        return isinstance(self._feed, LineFeed)

    def close(self) -> None:
        """End the reading processes; the next epoch starts new ones."""
        self._processes = None

    def _loaded(self, requests: Iterator[Request | None]) -> Iterator[Loaded]:
        if self.workers == 0:
            for request in requests:
                yield self.reader[request]
            return
        self._asked.requests = requests
        if self._processes is None:
            self._processes = self._start()
            with _one_thread_each(), _deaf_to_interrupts():
                loaded = iter(self._processes)
        else:
            loaded = iter(self._processes)
        yield from loaded

    def _start(self) -> DataLoader[Loaded]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # more processes than cores are the user's choice
            return DataLoader(
                self.reader,  # type: ignore[arg-type]
                sampler=self._asked,
                batch_size=None,
                num_workers=self.workers,
                collate_fn=_as_it_is,
                prefetch_factor=self.config.prefetch,
                persistent_workers=True,
                worker_init_fn=_ignore_interrupts,
                # started afresh: a fork copies locks that other threads may hold
                multiprocessing_context=multiprocessing.get_context("spawn"),
                # of its own, so that the model's random numbers do not depend on reading ahead
                generator=torch.Generator(),
            )

    def reject(self, name: str, reason: str, *, write: bool = True) -> None:
        """Note, once, that an utterance is left out and why."""
        if (name, reason) in self._listed:
            return
        self._listed.add((name, reason))
        self.quarantine.append((name, reason))
        log.info("left out: %s %s", name, reason)
        if self._file is not None and write:
            self._file.add(name, reason)

    def _reject_on_all(self, name: str, reason: str) -> None:
        """Note what every rank finds; one of them writes it."""
        self.reject(name, reason, write=self._first)

    def last_reason(self) -> str:
        """The last that was left out, in parentheses, or nothing."""
        return f" (the last: {' '.join(self.quarantine[-1])})" if self.quarantine else ""


class _Asked:
    """The requests of the epoch under way; the processes outlive it."""

    requests: Iterator[Request | None] = iter(())

    def __iter__(self) -> Iterator[Request | None]:
        return self.requests


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started in this block do linear algebra in one thread: they are many already."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal: the main one, which asks, decides when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started in this block inherit that SIGINT is blocked, until they ignore it; here
    it comes when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check(targets: Targets, cut: Cut, source: SourceConfig) -> None:
    try:
        targets.check(cut, cut.language or source.language)
    except InputError as error:
        raise InputError(f"{source.manifest}: {cut.id} {error}") from None


def _as_it_is(loaded: Any) -> Any:
    return loaded
