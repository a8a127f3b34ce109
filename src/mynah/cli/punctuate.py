"""Make plain text readable: punctuation, casing, and, if asked, numbers and script.

Each line of the input is a text of its own. Without a file it is standard input.

    echo "how are you i am fine" | mynah punctuate
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from mynah.cli import common
from mynah.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``mynah punctuate``."""
    parser.add_argument("file", nargs="?", default="-", help="a UTF-8 text; - is standard input")
    parser.add_argument("--language", default="en", metavar="CODE", help="default: en")
    parser.add_argument("--model", metavar="M", help="a folder, in place of the bundled model")
    parser.add_argument("--itn", action="store_true", help="also write numbers as digits")
    parser.add_argument(
        "--no-punctuation", action="store_true", help="leave punctuation and casing as they are"
    )
    common.add_script_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the lines as they come."""
    from mynah.runtime.readable import Readable

    readable = Readable.load(
        args.language, not args.no_punctuation, args.itn, model=args.model, script=args.script
    )
    for line in _lines(args.file):
        sys.stdout.write(readable.text(line))
        sys.stdout.flush()
    return 0


def _lines(file: str) -> Iterator[str]:
    if file == "-" and sys.stdin is None:
        raise InputError("standard input: is closed")
    stream = sys.stdin.buffer if file == "-" else open(file, "rb")  # noqa: SIM115
    try:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{file}: line {number} is not UTF-8") from None
    finally:
        if file != "-":
            stream.close()
