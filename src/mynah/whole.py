"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from mynah.errors import InputError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends without an error.

    It is written beside ``path`` and then renamed, so that nobody reads half of it; folders are
    made. What is there and is no file, such as ``/dev/stdout`` or a pipe, is written to, and never
    replaced.

    Raises:
        InputError: it cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            part = None
            stream = target.open("wb")
        else:
            part = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
            stream = part.open("xb")
    except (OSError, ValueError) as error:
        raise _cannot(path, error) from None
    try:
        try:
            yield stream
            stream.close()
            if part is not None:
                os.replace(part, target)
        except BrokenPipeError:
            raise  # who reads it has had enough
        except OSError as error:
            if error.filename not in (None, str(part), str(target)):
                raise  # of another file, which the block reads
            raise _cannot(path, error) from None
    except BaseException:
        with contextlib.suppress(OSError):
            stream.close()
        if part is not None:
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """As :func:`whole_file`, for text in UTF-8; line breaks are written as they are.

    Raises:
        InputError: it cannot be written.
    """
    with whole_file(path) as binary:
        stream = io.TextIOWrapper(binary, "utf-8", newline="\n", write_through=True)
        try:
            yield stream
        finally:
            stream.detach()


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write all of a text file; see :func:`whole_text`.

    Raises:
        InputError: it cannot be written.
    """
    with whole_text(path) as stream:
        stream.write(text)


def _cannot(path: str | os.PathLike[str], error: OSError | ValueError) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"{os.fspath(path)}: cannot be written ({reason})")
