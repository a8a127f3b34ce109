"""Opening manifests of every kind.

========  ==========================================================================================
format    what
========  ==========================================================================================
tsv       a header and rows, tab-separated, no quoting; a column ``path``, and by choice ``id``,
          ``speaker``, ``duration``, ``text``, ``start``, ``end``, ``channel``, ``byte_start``,
          ``byte_size``; other columns are kept for conditions
jsonl     an object a line with the same keys (WeNet's ``key wav txt`` and NeMo's
          ``audio_filepath offset`` are understood)
kaldi     a directory with ``wav.scp``
lhotse    ``cuts.jsonl[.gz]``, a folder with ``recordings`` and ``supervisions``, or a Shar folder
tar       tars, a folder of tars, or a list of them, a path or URL a line (WeNet's shard list)
========  ==========================================================================================
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mynah.corpus.cut import Cut, row_from_cut
from mynah.corpus.kaldi import kaldi_rows
from mynah.corpus.lhotse import is_shar, lhotse_cuts, lhotse_pairs, shar_rows
from mynah.corpus.lines import LineFile, LineManifest, OnError, Spool, spool_rows, tsv_columns
from mynah.corpus.select import Conditions, matcher, pairs
from mynah.corpus.shards import index_path, is_packed, is_tar, tar_cuts, tar_rows
from mynah.corpus.storage import exists, is_folder, is_url, join, list_files, open_lines, parent
from mynah.errors import ConfigError, InputError, nearest

log = logging.getLogger(__name__)

Format = Literal["tsv", "jsonl", "kaldi", "lhotse", "tar"]
ROOT = "MYNAH_DATA"


@dataclass(frozen=True)
class StreamManifest:
    """Tars that can only be read in one pass; each cut holds its audio as bytes."""

    name: str
    tars: tuple[str, ...]

    def cuts(self, tar: str, on_error: OnError | None = None) -> Iterator[Cut]:
        """The cuts of one of the tars.

        Raises:
            InputError: it is missing, or damaged when there is no ``on_error``.
        """
        return tar_cuts(tar, on_error)


Manifest = LineManifest | StreamManifest


def locate(name: str, root: str | None = None) -> str:
    """Where a manifest is: itself when absolute or a URL, else under ``root`` or ``MYNAH_DATA``.

    Without a root it is taken from the working directory.

    Raises:
        InputError: there is nothing there; the line says how to name the place.
    """
    base = root or os.environ.get(ROOT, "")
    path = join(base, name)
    if not exists(path):
        if base and not is_url(name) and not os.path.isabs(name):
            here = f"; the one here is --root ., or {os.path.abspath(name)}" if exists(name) else ""
            raise InputError(
                f"the set {name!r} is not under {base} (set data.root= or {ROOT}){here}"
            )
        hint = "" if is_url(name) or os.path.isabs(name) else f" (set data.root= or {ROOT})"
        raise InputError(f"{name}: no such manifest{hint}")
    return path


def open_manifest(
    path: str | Path,
    *,
    format: Format | None = None,  # noqa: A002 - the word users know
    root: str | None = None,
    on_error: OnError | None = None,
) -> Manifest:
    """Open a manifest; see the table above for ``format``, found out from the name by default.

    With ``on_error``, lines that cannot be used are given to it and passed over, here and, for
    line manifests, not in later scans, which take their own.

    Raises:
        InputError: it is missing, of no known format, or malformed.
        ConfigError: ``format`` is not one of those above.
    """
    place = locate(os.fspath(path), root)
    if format is not None and format not in get_args(Format):
        known = get_args(Format)
        hint = nearest(format, known)
        raise ConfigError(f"format {format!r} is none of {', '.join(known)}{hint}")
    kind = format or detect(place)
    if kind == "kaldi":
        spool = Spool()
        file = spool_rows(place, kaldi_rows(place, on_error), spool.folder / "rows.jsonl")
        return LineManifest(place, (file,), spool)
    if kind == "lhotse":
        return _open_lhotse(place, on_error)
    if kind == "tar":
        return _open_tars(place, _tars(place), on_error)
    if kind == "tsv" and is_folder(place):
        place = join(place, "manifest.tsv")
    return _open_lines(place, kind)


def read_manifest(
    path: str | Path,
    *,
    format: Format | None = None,  # noqa: A002 - the word users know
    root: str | None = None,
    where: Conditions | None = None,
    exclude: Conditions | None = None,
    on_error: OnError | None = None,
) -> Iterator[Cut]:
    """The cuts of a manifest that meet the conditions (:func:`mynah.corpus.select.matcher`).

    Raises:
        InputError: as :func:`open_manifest`; or a condition names a column that is not there.
        ConfigError: a comparison with something that is not a number.
    """
    manifest = open_manifest(path, format=format, root=root, on_error=on_error)
    matches = matcher(where or {}, exclude or {})
    check_columns(manifest, [column for column, _ in (*pairs(where), *pairs(exclude))])
    if isinstance(manifest, StreamManifest):
        cuts: Iterator[Cut] = (c for tar in manifest.tars for c in manifest.cuts(tar, on_error))
    else:
        cuts = (cut for _, cut in manifest.scan(on_error))
    return (cut for cut in cuts if matches(cut))


def check_columns(manifest: Manifest, names: list[str]) -> None:
    """Refuse conditions on columns that a TSV does not have.

    Raises:
        InputError: the column and the nearest one are named.
    """
    known = manifest.columns() if isinstance(manifest, LineManifest) else ()
    for name in names:
        if known and name not in known:
            raise InputError(f"{manifest.name}: no column {name!r}{nearest(name, known)}")


def detect(path: str) -> Format:
    """The format of the manifest at ``path``, from its name, its first line, or what a folder has.

    Raises:
        InputError: it is none that is known.
    """
    if is_folder(path):
        files = [posixpath.basename(f.replace(os.sep, "/")) for f in list_files(path)]
        if "manifest.tsv" in files:
            return "tsv"
        if "wav.scp" in files:
            return "kaldi"
        if is_shar(files):
            return "lhotse"
        if any(is_tar(f) for f in files):
            return "tar"
        if any(f.startswith(("cuts.jsonl", "supervisions.jsonl")) for f in files):
            return "lhotse"
        raise InputError(f"{path}: no manifest in this folder (make one with: mynah data make)")
    if is_tar(path):
        return "tar"
    if path.removesuffix(".gz").endswith(".tsv"):
        return "tsv"
    if not path.removesuffix(".gz").endswith((".jsonl", ".json", ".list", ".txt", ".scp")):
        raise InputError(
            f"{path}: not a manifest that mynah knows (tsv, jsonl, kaldi, lhotse, tar)"
        )
    return _detect_lines(path)


def _detect_lines(path: str) -> Format:
    try:
        with open_lines(path) as stream:
            line = next((text for text in stream if text.strip()), b"").decode("utf-8").strip()
    except (UnicodeDecodeError, OSError):
        raise InputError(f"{path}: not a manifest (it is not text in UTF-8)") from None
    if line.startswith("{"):
        try:
            first = json.loads(line)
        except ValueError:
            raise InputError(f"{path}:1: is not JSON") from None
        return "lhotse" if "recording" in first or "recording_id" in first else "jsonl"
    if is_tar(line):
        return "tar"
    if "\t" in line:
        return "tsv"
    raise InputError(f"{path}: neither a list of JSON objects nor a list of tars")


def _open_lines(path: str, kind: str) -> LineManifest:
    spool = None
    local = path
    if is_url(path) or path.endswith(".gz"):  # copied once, so that lines are found by seeking
        spool = Spool()
        local = str(_copy(path, spool, "manifest"))
    columns = tsv_columns(local) if kind == "tsv" else ()
    return LineManifest(path, (LineFile(local, parent(path), columns, path),), spool)


def _copy(path: str, spool: Spool, name: str) -> Path:
    target = spool.folder / name
    with open_lines(path) as source, target.open("wb") as out:
        try:
            shutil.copyfileobj(source, out, 1 << 20)
        except (OSError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
    return target


def _open_lhotse(path: str, on_error: OnError | None) -> LineManifest:
    if is_folder(path):
        files = list_files(path)
        if is_shar(files):
            spool = Spool()
            file = spool_rows(path, shar_rows(files, on_error), spool.folder / "rows.jsonl")
            return LineManifest(path, (file,), spool)

        def find(stem: str) -> str | None:
            names = (f"{stem}.jsonl", f"{stem}.jsonl.gz")
            return next((f for f in files if posixpath.basename(f) in names), None)

        cuts = find("cuts")
        recordings, supervisions = find("recordings"), find("supervisions")
        if cuts is None and (recordings is None or supervisions is None):
            raise InputError(f"{path}: has neither cuts nor recordings and supervisions")
    else:
        cuts, base = path, posixpath.basename(path)
        recordings = supervisions = None
        if base.startswith("supervisions") or "supervisions" in base:
            other = join(parent(path), base.replace("supervisions", "recordings"))
            if not exists(other):
                raise InputError(f"{path}: needs its recordings beside it ({other} is missing)")
            cuts, recordings, supervisions = None, other, path
    if cuts is not None:
        found = lhotse_cuts(cuts, parent(cuts), on_error)
    else:
        assert recordings is not None and supervisions is not None
        found = lhotse_pairs(recordings, supervisions, parent(recordings), on_error)
    spool = Spool()
    rows = (_storable(cut, spool) for cut in found)
    return LineManifest(path, (spool_rows(path, rows, spool.folder / "rows.jsonl"),), spool)


def _storable(cut: Cut, spool: Spool) -> dict[str, Any]:
    """The row of a cut whose audio may be in memory: then it goes to a file of the spool."""
    data = cut.recording.data
    if data is not None:
        path = spool.folder / f"{len(list(spool.folder.iterdir()))}.audio"
        path.write_bytes(data)
        cut = replace(cut, recording=replace(cut.recording, source=str(path), data=None))
    return row_from_cut(cut)


def _tars(path: str) -> list[str]:
    if is_tar(path):
        return [path]
    if is_folder(path):
        return [f for f in list_files(path) if is_tar(f)]
    with open_lines(path) as stream:
        lines = [line.decode("utf-8").strip() for line in stream]
    names = [line for line in lines if line and not line.startswith("#")]
    bad = next((n for n in names if not is_tar(n)), None)
    if bad is not None:
        raise InputError(f"{path}: {bad!r} is not a tar")
    return [_beside(path, name) for name in names]


def _beside(path: str, name: str) -> str:
    """A tar of a list: beside the list if there is one, else from the working directory."""
    near = join(parent(path), name)
    return near if is_url(name) or exists(near) else name


def _open_tars(name: str, tars: list[str], on_error: OnError | None) -> Manifest:
    if not tars:
        raise InputError(f"{name}: lists no tars")
    if any(is_packed(tar) for tar in tars):
        log.warning(
            "%s: compressed tars are read in one pass; resuming replays what was read", name
        )
        return StreamManifest(name, tuple(tars))
    spool = Spool()
    files: list[LineFile] = []
    for number, tar in enumerate(tars):
        index = index_path(tar)
        if exists(index):
            local = str(_copy(index, spool, f"{number}.tsv")) if is_url(index) else index
            files.append(LineFile(local, parent(tar), tsv_columns(local), index))
        else:
            log.info("%s: no index beside it, reading the archive once", tar)
            rows = tar_rows(tar, on_error)
            files.append(spool_rows(tar, rows, spool.folder / f"{number}.jsonl"))
    return LineManifest(name, tuple(files), spool)
