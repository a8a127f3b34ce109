"""Files where they are: local paths, and URLs through fsspec, which is imported only for them."""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from mynah.errors import InputError, MissingDependency

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(::[^:]+)*://")


def is_url(path: str) -> bool:
    """Whether ``path`` is a URL (``s3://``, ``https://``, ``memory://`` ...)."""
    return "://" in path and bool(_SCHEME.match(path))


def join(base: str, path: str) -> str:
    """``path`` as seen from the folder ``base``; absolute paths and URLs are left as they are."""
    if not base or is_url(path):
        return path
    if is_url(base):
        return path if os.path.isabs(path) else posixpath.join(base, path)
    return os.path.join(base, path)  # which leaves an absolute path alone


def parent(path: str) -> str:
    """The folder that holds ``path``."""
    return posixpath.dirname(path) if is_url(path) else os.path.dirname(path)


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of ``url``, and the path in it.

    Raises:
        MissingDependency: fsspec, or the library for this kind of URL, is not installed.
        InputError: fsspec does not know this kind of URL.
    """
    try:
        import fsspec
    except ImportError:
        raise MissingDependency("fsspec", extra="train") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: {error}") from None
    return system, path


@contextmanager
def open_binary(path: str) -> Iterator[BinaryIO]:
    """Open a local file or URL for reading.

    Raises:
        InputError: it is missing or cannot be read; the line names it.
    """
    try:
        stream = _open_url(path) if is_url(path) else open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    with stream:
        yield stream


def _open_url(url: str) -> BinaryIO:
    system, path = filesystem(url)
    return cast(BinaryIO, system.open(path, "rb"))


@contextmanager
def open_lines(path: str) -> Iterator[io.BufferedIOBase]:
    """Open a file of lines, unpacking ``.gz``.

    Raises:
        InputError: as :func:`open_binary`.
    """
    with open_binary(path) as stream:
        if path.endswith(".gz"):
            with gzip.open(stream) as unpacked:
                yield cast(io.BufferedIOBase, unpacked)
        else:
            yield cast(io.BufferedIOBase, stream)


def read_range(path: str, start: int, size: int | None) -> bytes:
    """``size`` bytes (``None``: all) from ``start`` on, without reading what comes before.

    Raises:
        InputError: it is missing, cannot be read, or ends before.
    """
    if is_url(path):
        system, inside = filesystem(path)
        try:
            stop = None if size is None else start + size
            data = bytes(system.cat_file(inside, start=start, end=stop))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
    else:
        with open_binary(path) as stream:
            stream.seek(start)
            data = stream.read() if size is None else stream.read(size)
    if size is not None and len(data) != size:
        raise InputError(f"{path}: ends inside the {size} bytes from byte {start}")
    return data


def exists(path: str) -> bool:
    """Whether there is a file or folder at ``path``."""
    if is_url(path):
        system, inside = filesystem(path)
        return bool(system.exists(inside))
    return os.path.exists(path)


def is_folder(path: str) -> bool:
    """Whether ``path`` is a folder."""
    if is_url(path):
        system, inside = filesystem(path)
        return bool(system.isdir(inside))
    return os.path.isdir(path)


def list_files(folder: str) -> list[str]:
    """The files directly in ``folder``, sorted, as paths or URLs."""
    if not is_url(folder):
        return sorted(e.path for e in os.scandir(folder) if e.is_file())
    system, inside = filesystem(folder)
    names = [e["name"] for e in system.ls(inside, detail=True) if e["type"] == "file"]
    return sorted(posixpath.join(folder, posixpath.basename(n)) for n in names)
