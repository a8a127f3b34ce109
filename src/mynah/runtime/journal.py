"""What was decoded of a recording, kept on disk as it comes, so that a run can go on after it died.

A journal is a file of JSON lines: a head that says of what recording, by what model and with what
settings, then a line a window. A line that was not written to its end is as good as not written.
Numbers are kept exactly. A run that goes on gives the text and the times of one that was not
disturbed; confidences of what it decodes may differ a little, as windows have other neighbours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from mynah.errors import InputError
from mynah.runtime.result import Decoded, Segment, Word

FORMAT = "mynah.part"
VERSION = 1


class Journal:
    """The journal ``path``, of work that ``key`` describes; what is there of other work is dropped.

    Raises:
        InputError: the file cannot be read or written.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        self._known: dict[tuple[int, int], tuple[Segment, ...]] = {}
        self._head = json.dumps({"format": FORMAT, "version": VERSION, **key}, sort_keys=True)
        self._file: BinaryIO | None = None  # opened with the first line: no work, no file
        try:
            self._whole = self._read(self._head.encode())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None

    def __len__(self) -> int:
        """Windows that are known."""
        return len(self._known)

    def get(self, start: int, stop: int) -> tuple[Segment, ...] | None:
        """What was decoded of the samples from ``start`` to ``stop``, if it was."""
        return self._known.get((start, stop))

    def add(self, start: int, stop: int, segments: tuple[Segment, ...]) -> None:
        """Keep what was decoded.

        Raises:
            InputError: it cannot be written.
        """
        self._known[start, stop] = segments
        values = [dataclasses.asdict(segment) for segment in segments]
        try:
            if self._file is None:
                self._open()
            self._write(json.dumps([start, stop, values], ensure_ascii=False, default=_number))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from None

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written is tried once more
                self._file.close()
            self._file = None

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("r+b" if self._whole else "wb")
        self._file.truncate(self._whole)
        self._file.seek(self._whole)
        if not self._whole:
            self._write(self._head)

    def _write(self, line: str) -> None:
        assert self._file is not None
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._whole = self._file.tell()

    def _read(self, head: bytes) -> int:
        """Read what is there of the same work; how many bytes of it are whole."""
        if not self.path.is_file():
            return 0
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n") or (number == 0 and line[:-1] != head):
                    break
                if number:
                    try:
                        start, stop, values = json.loads(line)
                        self._known[start, stop] = tuple(_segment(value) for value in values)
                    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                        break
                whole += len(line)
        return whole


def _segment(values: dict[str, Any]) -> Segment:
    decoded = values.get("decoded")
    return Segment(
        **values
        | {
            "words": tuple(_word(word) for word in values["words"]),
            "decoded": None if decoded is None else Decoded(**decoded),
        }
    )


def _word(values: dict[str, Any]) -> Word:
    return Word(**values | {"chars": tuple((start, end) for start, end in values["chars"])})


def _number(value: Any) -> float:
    return float(value)  # numpy's own are not known to json


def journal_path(target: Path) -> Path:
    """The journal beside the file ``target``."""
    return target.with_name(f".{target.name}.part.jsonl")


def recording_key(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What says whether a recording is still the same: size, time of change, hash of both ends.

    Raises:
        InputError: the file cannot be read, or is none: what a pipe gave is gone.
    """
    import hashlib

    ends = 1 << 20
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise InputError(f"{path}: cannot be read twice")
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            digest.update(file.read(ends))
            file.seek(max(state.st_size - ends, 0))
            digest.update(file.read(ends))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return {
        "recording": os.path.abspath(path),
        "size": state.st_size,
        "changed": state.st_mtime_ns,
        "ends": digest.hexdigest(),
    }
