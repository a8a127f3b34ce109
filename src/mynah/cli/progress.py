"""How far recordings have come, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any


class Bar:
    """Progress over recordings; this one shows nothing."""

    def advance(self) -> None:
        """One more recording is done."""

    def heard(self, done: float, total: float | None) -> None:
        """So many seconds of audio, of so many, are done of the recordings at work."""

    def aside(self) -> AbstractContextManager[None]:
        """Lines are printed within."""
        return nullcontext()


class RichBar(Bar):
    """Progress over recordings in the terminal, ``at_once`` of which are at work together."""

    def __init__(self, bar: Any, task: Any, at_once: int) -> None:
        self._bar, self._task, self._at_once = bar, task, at_once
        self._recordings, self._before, self._now = 0, 0.0, 0.0

    def advance(self) -> None:
        self._recordings += 1
        self._before, self._now = self._before + self._now, 0.0
        self._bar.update(self._task, completed=self._recordings)

    def heard(self, done: float, total: float | None) -> None:
        self._now = done
        part = self._at_once * min(done / total, 1.0) if total else 0.0
        description = f"{(self._before + done) / 60:.1f} min of audio"
        completed = self._recordings + part
        self._bar.update(self._task, completed=completed, description=description)

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._bar.stop()  # rich would break long lines if they went through it
        try:
            yield
        finally:
            self._bar.start()


@contextmanager
def _shown(total: int, at_once: int) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    with bar:
        yield RichBar(bar, bar.add_task("transcribing", total=total), at_once)


def progress_over(total: int, at_once: int, *, shown: bool) -> AbstractContextManager[Bar]:
    """Progress over ``total`` recordings on standard error, where it is to be shown and can be."""
    if not shown or not sys.stderr.isatty():
        return nullcontext(Bar())
    return _shown(total, min(at_once, total))
