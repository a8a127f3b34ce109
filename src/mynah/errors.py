"""Errors whose text is the one line that a user reads."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs more to import than all of this package's start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class MynahError(Exception):
    """Base of all errors that mynah raises on purpose; ``str(error)`` is the line for the user."""


class InputError(MynahError):
    """A recording, text or manifest cannot be used; the line names the file and the reason."""


class ModelError(MynahError):
    """A model folder or checkpoint cannot be used."""


class ConfigError(MynahError):
    """A key or value of a configuration is wrong."""


class MissingDependency(MynahError):
    """An optional library is not installed; the line gives the command that installs it."""

    def __init__(self, library: str, *, extra: str) -> None:
        super().__init__(f"{library} is not installed; add it with: {install_command(extra)}")
        self.library = library
        self.extra = extra

    def __reduce__(self) -> tuple[Callable[[str, str], MissingDependency], tuple[str, str]]:
        return _missing, (self.library, self.extra)  # it travels between processes


def install_command(extra: str = "") -> str:
    """The command that adds an extra to this installation, or renews it."""
    import shlex
    import sys
    from pathlib import Path

    here, bootstrap = Path(sys.prefix), Path(sys.prefix).parent / "bootstrap.py"
    if here.name == ".venv" and (here / "installed").is_file() and bootstrap.is_file():
        # which has made it, without pip
        return f"python3 {shlex.quote(str(bootstrap))} {f'add {extra}' if extra else 'hear'}"
    return f"pip install 'mynah-speech[{extra}]'" if extra else "pip install mynah-speech"


def _missing(library: str, extra: str) -> MissingDependency:
    return MissingDependency(library, extra=extra)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint `` (did you mean 'x'?)`` for the known name closest to ``name``, or ``''``."""
    import difflib  # only when something is wrong

    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""
