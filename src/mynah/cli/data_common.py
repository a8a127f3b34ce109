"""What the actions of ``mynah data`` share."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from mynah.errors import InputError

if TYPE_CHECKING:
    from mynah.corpus import Cut
    from mynah.corpus.lines import OnError

T = TypeVar("T")


class Refused:
    """Takes what cannot be used; says so on standard error, the first few one by one."""

    def __init__(self, shown: int = 10) -> None:
        self.shown = shown
        self.count = 0

    def __call__(self, name: str, reason: str) -> None:
        self.count += 1
        if self.count <= self.shown:
            print(f"left out: {name}: {reason}", file=sys.stderr)
        elif self.count == self.shown + 1:
            print("left out: more ...", file=sys.stderr)

    def code(self, done: int, what: str) -> int:
        """The exit code, after ``done`` were used.

        Raises:
            InputError: none was.
        """
        if not done:
            raise InputError(f"{what}: no utterance can be used")
        return 1 if self.count else 0


def cuts_of(
    args: argparse.Namespace, manifests: Iterable[str], refused: OnError | None = None
) -> Iterator[Cut]:
    """The cuts of manifests under the options --root, --where and --exclude."""
    from mynah.cli.evaluate import parse_conditions
    from mynah.corpus import read_manifest

    where, exclude = parse_conditions(args.where), parse_conditions(args.exclude)
    for manifest in manifests:
        yield from read_manifest(
            manifest, root=args.root, where=where, exclude=exclude, on_error=refused
        )


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The items, counted in a bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total=total, console=Console(stderr=True), transient=True)


def count(args: argparse.Namespace, manifests: Iterable[str]) -> int | None:
    """How many cuts there will be, where a bar is shown that needs it."""
    if not sys.stderr.isatty():
        return None
    return sum(1 for _ in cuts_of(args, manifests, Refused(shown=0)))


def absolute(cut: Cut) -> Cut:
    """The cut with the whole path of its recording, where that is a file.

    Raises:
        InputError: it is in a compressed tar.
    """
    from mynah.corpus.storage import is_url

    source = cut.recording.source
    if cut.recording.data is not None:
        raise InputError(f"{source}: recordings in compressed tars have no place of their own; "
                         "use mynah data shard")  # fmt: skip
    if is_url(source):
        return cut
    recording = dataclasses.replace(cut.recording, source=os.path.abspath(source))
    return dataclasses.replace(cut, recording=recording)
