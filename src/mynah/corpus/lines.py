"""Manifests of lines (TSV, JSON lines), read in order or at an offset.

A position in a manifest is one integer, from which the line is found with one seek. So a set of
millions of utterances costs its user eight bytes each for positions, and the rows stay on disk.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mynah.corpus.cut import ALIASES, Cut, cut_from_row
from mynah.corpus.storage import open_binary, open_lines
from mynah.errors import InputError

log = logging.getLogger(__name__)

# Called with the id (or place) and the reason when a line is passed over.
OnError = Callable[[str, str], None]

_FILE_SHIFT = 44  # 16 TiB a file, half a million files


class Spool:
    """A temporary folder that lives as long as this object."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mynah-"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy in another process reads the folder and leaves its removal to the owner.
        return (_borrowed, (self.folder,))


def _borrowed(folder: Path) -> Spool:
    spool = Spool.__new__(Spool)
    spool.folder = folder
    return spool


@dataclass(frozen=True)
class LineFile:
    """One local file of rows. ``columns`` is the header of a TSV, empty for JSON lines."""

    path: str
    base: str  # the folder that relative paths are taken from
    columns: tuple[str, ...] = ()
    name: str = ""  # what messages call it, where that is not ``path``

    def row(self, line: bytes) -> dict[str, Any]:
        """The values of one line.

        Raises:
            InputError: not UTF-8, not JSON, or the wrong number of columns.
        """
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError("is not UTF-8") from None
        if self.columns:
            cells = text.split("\t")
            if len(cells) > len(self.columns):
                raise InputError(f"has {len(cells)} columns, the header {len(self.columns)}")
            return dict(zip(self.columns, cells, strict=False))
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError("is not JSON") from None
        if not isinstance(value, dict):
            raise InputError("is not a JSON object")
        return value

    def cut(self, line: bytes) -> Cut:
        """The cut of one line.

        Raises:
            InputError: as :meth:`row`, or the row names no audio.
        """
        return cut_from_row(self.row(line), self.base)


@dataclass(frozen=True)
class LineManifest:
    """Files of rows that are read as one manifest."""

    name: str
    files: tuple[LineFile, ...]
    spool: Spool | None = None  # keeps converted files alive

    def scan(self, on_error: OnError | None = None) -> Iterator[tuple[int, Cut]]:
        """Every cut with its position, in the order of the lines.

        Raises:
            InputError: a bad line, when there is no ``on_error`` to take it.
        """
        for number, file in enumerate(self.files):
            offset, seen = 0, 0
            with open_binary(file.path) as stream:
                for line in stream:
                    start, offset, seen = offset, offset + len(line), seen + 1
                    if not line.strip() or (seen == 1 and file.columns):
                        continue
                    place = f"{file.name or file.path}:{seen}"
                    try:
                        cut = file.cut(line)
                    except InputError as error:
                        if on_error is None:
                            raise InputError(f"{place}: {error}") from None
                        on_error(place, str(error))
                        continue
                    yield (number << _FILE_SHIFT) | start, cut

    def at(self, position: int) -> Cut:
        """The cut at a position that :meth:`scan` gave.

        Raises:
            InputError: the file has gone, or was changed since.
        """
        file = self.files[position >> _FILE_SHIFT]
        with open_binary(file.path) as stream:
            stream.seek(position & ((1 << _FILE_SHIFT) - 1))
            try:
                return file.cut(stream.readline())
            except InputError as error:
                raise InputError(f"{file.name or file.path}: {error}") from None

    def columns(self) -> tuple[str, ...]:
        """The columns that the header names; empty for JSON lines."""
        return tuple(dict.fromkeys(c for f in self.files for c in f.columns))


def tsv_columns(path: str) -> tuple[str, ...]:
    """The header of a TSV manifest.

    Raises:
        InputError: the file cannot be read, or its first line names no column ``path``.
    """
    with open_lines(path) as stream:
        try:
            columns = tuple(stream.readline().decode("utf-8-sig").rstrip("\r\n").split("\t"))
        except UnicodeDecodeError:
            raise InputError(f"{path}: not a TSV manifest (it is not UTF-8)") from None
    if "path" not in {ALIASES.get(c, c) for c in columns}:
        raise InputError(f"{path}: not a TSV manifest (its first line names no column 'path')")
    return columns


def spool_rows(name: str, rows: Iterator[dict[str, Any]], path: Path) -> LineFile:
    """Write ``rows`` as JSON lines to ``path``; messages call the result ``name``."""
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return LineFile(str(path), "", name=name)
