"""One process at a time trains in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mynah.errors import ConfigError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` while the block runs.

    The lock is the operating system's, on a file beside the folder, so it goes with the process
    that holds it, however that ends.

    Raises:
        ConfigError: another process holds it, or the file cannot be made.
    """
    path = folder.with_name(f".{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):  # POSIX allows both
            raise ConfigError(f"{folder}: another process trains in it") from None
        except OSError:  # a file system without locks: nothing is lost but the check
            pass
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        # of the process alone: readers that outlive it for a moment do not hold it
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
