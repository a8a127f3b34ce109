"""The index of a training set: arrays with a row for each utterance, and no objects.

An utterance costs 22 bytes: where its manifest line is, how long it is, which manifest, and a hash
of its id that seeds its augmentation.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.corpus import collect
from mynah.corpus.cut import Cut
from mynah.corpus.lines import LineManifest
from mynah.corpus.manifest import Manifest, StreamManifest, check_columns, open_manifest
from mynah.corpus.select import matcher
from mynah.data.config import DataConfig, SourceConfig
from mynah.errors import InputError

log = logging.getLogger(__name__)

Reject = Callable[[str, str], None]  # id, reason
Check = Callable[[Cut, SourceConfig], None]  # raises InputError: a column is wrong


@dataclass(frozen=True)
class Index:
    """Row ``i``: ``positions[i]`` in ``manifests[sources[i]]``, ``seconds[i]`` long."""

    manifests: tuple[LineManifest, ...]
    positions: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float32]
    keys: npt.NDArray[np.uint64]
    sources: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.positions)


def key_of(name: str) -> int:
    """A 64-bit hash of an utterance's id, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")


def open_sources(config: DataConfig, sources: Sequence[SourceConfig], reject: Reject
                 ) -> tuple[Manifest, ...]:  # fmt: skip
    """The manifests of ``sources``.

    Raises:
        InputError: one is missing or malformed.
    """
    manifests = []
    for source in sources:
        manifest = open_manifest(source.manifest, root=config.root or None, on_error=reject)
        check_columns(manifest, [*source.where, *source.exclude])
        manifests.append(manifest)
    return tuple(manifests)


def chosen(source: SourceConfig, cuts: Iterator[tuple[int, Cut]]) -> Iterator[tuple[int, Cut]]:
    """The cuts that a source takes: conditions, then fraction, then limit."""
    kept = cuts
    if source.where or source.exclude:
        matches = matcher(source.where, source.exclude)
        kept = ((position, cut) for position, cut in cuts if matches(cut))
    if source.fraction < 1.0:
        bound = int(source.fraction * (1 << 32))
        kept = ((p, c) for p, c in kept if key_of(c.id) >> 32 < bound)
    return islice(kept, source.limit or None)


def refusal(cut: Cut, seconds: float, config: DataConfig, frame_shift: float) -> str:
    """Why a cut of this length is not used; empty when it is."""
    if config.needs_text and not cut.text.strip():
        return "has no text"
    if seconds < config.min_seconds:
        return f"is {seconds:.2f} s long, shorter than min_seconds = {config.min_seconds:g}"
    if seconds > config.max_seconds:
        return f"is {seconds:.2f} s long, longer than max_seconds = {config.max_seconds:g}"
    if seconds > (config.max_frames - 2) * frame_shift * min((1.0, *config.speed)):
        return f"is {seconds:.2f} s long, more than max_frames = {config.max_frames} holds"
    return ""


def build_index(
    manifests: Sequence[LineManifest],
    sources: Sequence[SourceConfig],
    config: DataConfig,
    frame_shift: float,
    reject: Reject,
    check: Check | None = None,
) -> Index:
    """Scan the manifests once. What cannot be used is given to ``reject``.

    Raises:
        InputError: a source has no cut that meets its conditions, or ``check`` refuses one.
    """
    columns: list[npt.NDArray[np.void]] = []
    row_type = np.dtype([("position", "<i8"), ("key", "<u8"), ("seconds", "<f4")])
    counts = []
    for manifest, source in zip(manifests, sources, strict=True):
        seen = 0

        def rows(
            manifest: LineManifest = manifest, source: SourceConfig = source
        ) -> Iterator[tuple[int, int, float]]:
            nonlocal seen
            for position, cut, seconds in with_seconds(chosen(source, manifest.scan(reject))):
                seen += 1
                if seconds is None:
                    reject(cut.id, "cannot be decoded")
                    continue
                reason = refusal(cut, seconds, config, frame_shift)
                if reason:
                    reject(cut.id, reason)
                else:
                    if check is not None:
                        check(cut, source)
                    yield position, key_of(cut.id), seconds

        found = np.fromiter(rows(), dtype=row_type)
        if not seen:
            raise InputError(f"{manifest.name}: no utterance meets the conditions")
        columns.append(repeated(found, source.repeat))
        counts.append(len(columns[-1]))
    table = np.concatenate(columns) if columns else np.empty(0, row_type)
    return Index(
        tuple(manifests),
        np.ascontiguousarray(table["position"]),
        np.ascontiguousarray(table["seconds"]),
        np.ascontiguousarray(table["key"]),
        np.repeat(np.arange(len(counts), dtype=np.uint16), counts),
    )


def repeated(table: npt.NDArray[np.void], times: int) -> npt.NDArray[np.void]:
    """The rows ``times`` times; each copy gets keys, and so augmentation, of its own."""
    table = np.tile(table, times)
    copy = np.arange(len(table), dtype=np.uint64) // np.uint64(max(1, len(table) // times))
    table["key"] += copy * np.uint64(0x9E3779B97F4A7C15)
    return table


def with_seconds(
    cuts: Iterator[tuple[int, Cut]], block: int = 256
) -> Iterator[tuple[int, Cut, float | None]]:
    """Adds the length of each cut; recordings are opened, several at a time, where none is given.

    ``None``: it cannot be opened.
    """
    pool: ThreadPoolExecutor | None = None
    try:
        while group := list(islice(cuts, block)):
            missing = [cut for _, cut in group if cut.duration is None]
            found: dict[int, float | None] = {}
            if missing:
                if pool is None:
                    log.warning(
                        "%s has no duration: recordings are opened to find theirs; "
                        "'mynah data make' writes a manifest that has them",
                        missing[0].id,
                    )
                    pool = ThreadPoolExecutor(8)
                seconds = pool.map(measure, missing)
                found = {id(c): s for c, s in zip(missing, seconds, strict=True)}
            for position, cut in group:
                yield position, cut, found.get(id(cut), cut.duration)
    finally:
        if pool is not None:
            pool.shutdown()


def measure(cut: Cut) -> float | None:
    """The length of a cut in seconds, from the header or by decoding; ``None``: not decodable."""
    try:
        return collect.measure(cut, audio.read).duration
    except InputError:
        return None


def with_length(cut: Cut) -> Cut:
    """The cut with its duration filled in where it can be found."""
    if cut.duration is not None:
        return cut
    return replace(cut, duration=measure(cut))


def only_lines(manifests: Sequence[Manifest]) -> tuple[LineManifest, ...] | None:
    """The manifests if all can be read at any place, ``None`` if none can.

    Raises:
        InputError: both kinds are there.
    """
    lines = tuple(m for m in manifests if isinstance(m, LineManifest))
    streams = [m for m in manifests if isinstance(m, StreamManifest)]
    if lines and streams:
        raise InputError(
            f"{streams[0].name}: compressed tars, read in one pass, cannot be mixed with other "
            "manifests; 'mynah data shard' makes tars with an index of them"
        )
    return lines if lines or not streams else None
