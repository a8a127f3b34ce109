"""Shards: tars of ``key.wav`` (or flac, opus ...) and ``key.txt`` or ``key.json``, and their index.

The layout is that of WeNet and webdataset. Beside ``name.tar`` an index ``name.index.tsv`` says
where in the archive each recording lies, how long it is, and its text: a TSV manifest whose rows
are ranges of bytes. So any utterance is read with one range read, local or remote, and any order
and position costs the same. A compressed tar has no such places: it is read in one pass.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mynah.corpus.cut import Cut, cut_from_row, row_from_cut
from mynah.corpus.lines import OnError
from mynah.corpus.parallel import ordered_map
from mynah.corpus.samples import audio_bytes, probe
from mynah.corpus.storage import open_binary
from mynah.corpus.table import write_tsv
from mynah.errors import InputError

log = logging.getLogger(__name__)

AUDIO = ("wav", "flac", "ogg", "opus", "mp3", "m4a", "aac", "wma", "webm")
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# What only the tar itself can say, not a json in it.
_PLACES = frozenset(("byte_start", "byte_size", "start", "end", "offset", "recording_duration"))
MAX_MEMBER = 1 << 30  # bytes; a larger member is damage, not an utterance


def is_tar(path: str) -> bool:
    """Whether the name is that of a tar, compressed or not."""
    return path.endswith((".tar", *PACKED))


def is_packed(path: str) -> bool:
    """Whether the name is that of a compressed tar, which has to be read from its start."""
    return path.endswith(PACKED)


def index_path(tar: str) -> str:
    """Where the index of a tar is."""
    return tar.removesuffix(".tar") + ".index.tsv"


@dataclass(slots=True)
class _Parts:
    """The members of one key, as they come."""

    key: str
    audio: bytes | None = None
    byte_start: int = 0
    byte_size: int = 0
    row: dict[str, Any] | None = None


def tar_cuts(path: str, on_error: OnError | None = None) -> Iterator[Cut]:
    """The cuts of a tar in one pass from its start, each holding its audio as bytes.

    Raises:
        InputError: the tar is missing; or damaged, without ``on_error``.
    """
    for parts in _groups(path, on_error):
        if parts.audio is None:
            _refuse(f"{path}:{parts.key}", "has no audio", on_error)
            continue
        try:
            row = {"id": parts.key, **(parts.row or {}), **_described(parts.audio), "path": path}
            cut = cut_from_row({k: v for k, v in row.items() if k not in _PLACES})
        except InputError as error:
            _refuse(f"{path}:{parts.key}", str(error), on_error)
            continue
        yield _with_data(cut, parts.audio)


def tar_rows(
    path: str, on_error: OnError | None = None, *, texts: bool = True
) -> Iterator[dict[str, Any]]:
    """Index rows of an uncompressed tar: the columns of a manifest, ``path`` the tar's name.

    Without ``texts``, what the tar says of its recordings is left out, and ids are its keys.

    Raises:
        InputError: as :func:`tar_cuts`.
    """
    for parts in _groups(path, on_error):
        if parts.audio is None:
            _refuse(f"{path}:{parts.key}", "has no audio", on_error)
            continue
        try:
            described = _described(parts.audio)
        except InputError as error:
            _refuse(f"{path}:{parts.key}", str(error), on_error)
            continue
        said = {k: v for k, v in (parts.row or {}).items() if k not in _PLACES}
        yield {
            **({"id": parts.key} | said if texts else {"id": parts.key}),
            **described,
            "path": path,
            "byte_start": parts.byte_start,
            "byte_size": parts.byte_size,
        }


def _described(audio: bytes) -> dict[str, Any]:
    rate, duration = probe(audio)
    found = {"duration": None if duration is None else round(duration, 6), "rate": rate}
    return {k: v for k, v in found.items() if v is not None}


def _with_data(cut: Cut, data: bytes) -> Cut:
    return dataclasses.replace(cut, recording=dataclasses.replace(cut.recording, data=data))


def _refuse(place: str, reason: str, on_error: OnError | None) -> None:
    if on_error is None:
        raise InputError(f"{place}: {reason}")
    on_error(place, reason)


def _groups(path: str, on_error: OnError | None) -> Iterator[_Parts]:
    """Members grouped by key; those of one key stand together."""
    current: _Parts | None = None
    for member, data in _members(path, on_error):
        key, _, extension = member.name.rpartition(".")
        extension = extension.lower()
        if not key or extension not in (*AUDIO, "txt", "json"):
            continue
        if current is None or current.key != key:
            if current is not None:
                yield current
            current = _Parts(key)
        if extension in AUDIO:
            current.audio = data
            current.byte_start, current.byte_size = member.offset_data, member.size
        else:
            try:
                current.row = (current.row or {}) | _row(extension, data)
            except ValueError:
                _refuse(f"{path}:{member.name}", f"is not {extension} in UTF-8", on_error)
    if current is not None:
        yield current


def _row(extension: str, data: bytes) -> dict[str, Any]:
    text = data.decode("utf-8")
    if extension == "txt":
        return {"text": text.strip()}
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError
    return {k: v for k, v in values.items() if isinstance(v, (str, int, float))}


def _members(path: str, on_error: OnError | None) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    place = path
    with open_binary(path) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as archive:
                for member in archive:
                    place = f"{path}:{member.name}"
                    if not member.isfile():
                        continue
                    if member.size > MAX_MEMBER:
                        _refuse(place, f"{member.size} bytes are too many", on_error)
                        continue
                    file = archive.extractfile(member)
                    assert file is not None
                    yield member, file.read()
        except (tarfile.TarError, EOFError, OSError) as error:  # what follows cannot be found
            _refuse(place, f"the archive is damaged here ({error})", on_error)


# What to store of a cut: its ending and bytes. It may raise InputError.
Encode = Callable[[Cut], tuple[str, bytes]]


def keep(cut: Cut) -> tuple[str, bytes]:
    """The recording as it is.

    Raises:
        InputError: it cannot be read, or the cut is only a part of it.
    """
    if not cut.whole or cut.channel is not None:
        raise InputError("is part of a recording; choose an audio format to cut it out")
    data = audio_bytes(cut.recording)
    return _extension(cut.recording.source, data), data


def write_shards(
    cuts: Iterable[Cut],
    folder: str | Path,
    *,
    size: int = 1000,
    name: str = "shard",
    encode: Encode | None = None,
    on_error: OnError | None = None,
    jobs: int = 1,
) -> dict[Path, int]:
    """Write tars of ``size`` utterances with their indexes into ``folder``.

    Returns the tars with the number of utterances in each.

    ``encode`` is called from ``jobs`` threads; without it recordings are stored as they are. Each
    tar and index appears under its name only when it is whole, the index last.

    Raises:
        InputError: the folder cannot be written; an unreadable recording, without ``on_error``.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    written: dict[Path, int] = {}
    writer: _ShardWriter | None = None
    store = encode or keep

    def stored(cut: Cut) -> tuple[Cut, str, bytes, float | None, str]:
        try:
            extension, data = store(cut)
            return cut, extension, data, probe(data)[1] or cut.duration, ""
        except InputError as error:
            return cut, "", b"", None, str(error)

    try:
        for cut, extension, data, duration, reason in ordered_map(stored, cuts, jobs):
            if reason:
                _refuse(cut.id, reason, on_error)
                continue
            if writer is None:
                writer = _ShardWriter(target / f"{name}-{len(written):06d}.tar")
            writer.add(cut, extension, data, duration)
            if len(writer.rows) == size:
                written[writer.close()] = len(writer.rows)
                writer = None
        if writer is not None:
            written[writer.close()] = len(writer.rows)
            writer = None
    finally:
        if writer is not None:
            writer.abandon()
    return written


class _ShardWriter:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.tmp")
        self.stream: BinaryIO = self.part.open("wb")
        self.archive = tarfile.TarFile(fileobj=self.stream, mode="w", format=tarfile.PAX_FORMAT)
        self.rows: list[dict[str, Any]] = []

    def add(self, cut: Cut, extension: str, data: bytes, duration: float | None) -> None:
        key = cut.id.replace("/", "_")
        row = row_from_cut(cut)
        row = {
            k: v
            for k, v in row.items()
            if k not in ("start", "channel", "rate", "recording_duration")
        }
        member = tarfile.TarInfo(f"{key}.{extension}")
        member.size = len(data)
        self.archive.addfile(member, io.BytesIO(data))
        # the archive is written in blocks, so where it stands now says where the data lie
        start = self.archive.offset - (len(data) + 511) // 512 * 512
        text = cut.text.encode("utf-8")
        member = tarfile.TarInfo(f"{key}.txt")
        member.size = len(text)
        self.archive.addfile(member, io.BytesIO(text))
        self.rows.append(
            {
                **row,
                "path": self.path.name,
                "duration": None if duration is None else round(duration, 6),
                "byte_start": start,
                "byte_size": len(data),
            }
        )

    def close(self) -> Path:
        self.archive.close()
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        os.replace(self.part, self.path)
        write_tsv(index_path(str(self.path)), self.rows)
        return self.path

    def abandon(self) -> None:
        self.stream.close()
        self.part.unlink(missing_ok=True)


def _extension(source: str, data: bytes) -> str:
    known = source.rsplit(".", 1)[-1].lower()
    if known in AUDIO:
        return known
    for magic, extension in ((b"RIFF", "wav"), (b"fLaC", "flac"), (b"OggS", "ogg")):
        if data.startswith(magic):
            return extension
    return "mp3"
