"""Where each word of a text is heard in its recording.

TEXT is a file in UTF-8, or - for standard input; a line, or a sentence of one, becomes a segment.
Either may have what the other has not: words that are not heard are written with confidence 0 and
times spread between their neighbours, speech without text is passed over, and both are reported.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli import common, company, layout
from mynah.errors import ConfigError, InputError

if TYPE_CHECKING:
    from mynah.runtime.align import AlignedText

FORMATS = ("txt", "json", "srt", "vtt", "tsv", "textgrid", "ctm")
RULES = layout.rules(lambda args: [args.format])
SHOWN = 20  # missing words and stretches that are listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recording, its text, and what to write."""
    parser.add_argument("recording", metavar="RECORDING", help="a recording, or - for one on stdin")
    parser.add_argument("text", metavar="TEXT", help="a text file, or - for standard input")
    parser.add_argument("--format", choices=FORMATS, default="txt",
                        help="txt and tsv have a line a word (default: txt)")  # fmt: skip
    parser.add_argument("--output", metavar="FILE", help="write there (default: standard output)")
    parser.add_argument("--exact", action="store_true",
                        help="the text is what was said, word for word")  # fmt: skip
    parser.add_argument("--chars", action="store_true",
                        help="times of characters too (json, textgrid)")  # fmt: skip
    parser.add_argument("--channel", help="number of one channel (default: mix all)")
    parser.add_argument("--partial", action="store_true",
                        help="take what can be decoded of a damaged recording")  # fmt: skip
    parser.add_argument("--max-hours", type=common.above_zero, metavar="H",
                        default=6.0, help="refuse longer recordings (default: 6)")  # fmt: skip
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="one of the model's languages; zh as well (extra: text) where it has English phones",
    )
    parser.add_argument("--quiet", action="store_true", help="no report")
    layout.add_arguments(parser)
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Align, write, and say what did not fit."""
    from mynah.runtime import align, writers
    from mynah.whole import write_whole

    company.refuse(args, RULES)
    if args.recording == "-" and args.text == "-":
        raise ConfigError("RECORDING and TEXT: only one of them can be standard input")
    if args.channel is not None and not args.channel.isdecimal():
        raise ConfigError(f"--channel: {args.channel!r} is not a number")
    if args.output:
        common.keep("--output", args.output, (args.recording, args.text))
    text = read_text(args.text)
    if not any(map(str.isalnum, text)):
        raise InputError(f"{args.text}: no words")
    model = common.choice(args).load().model
    channel: Any = "mix" if args.channel is None else int(args.channel)
    found = align.align(
        model,
        args.recording,
        text,
        channel=channel,
        language=args.language,
        exact=args.exact,
        chars=args.chars,
        max_seconds=args.max_hours * 3600,
        partial=args.partial,
    )
    name = "stdin" if args.recording == "-" else Path(args.recording).stem
    written = writers.render(
        found.transcript, args.format, words=True, layout=layout.chosen(args), recording=name
    )
    if args.output:
        write_whole(args.output, written)
    else:
        print(written, end="", flush=True)
    if not args.quiet:
        for line in report(found):
            print(line, file=sys.stderr)
    if not found.heard:
        print(f"{args.recording}: no word of {args.text} was heard", file=sys.stderr)
    return 0 if found.heard else 1


def read_text(name: str) -> str:
    """The text of a file, or of standard input for ``-``.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 (byte {error.start})") from None


def report(found: AlignedText) -> list[str]:
    """Lines that say how much was found, and what was not."""
    from mynah.runtime.subtitles import clock

    def at(seconds: float) -> str:
        return clock(round(seconds * 1000)).removeprefix("00:")

    words, missing = found.transcript.words, found.missing
    lines = [f"{len(words)} words, {len(missing)} of them not heard"]
    if missing:
        named = ", ".join(f"{word.text} ({at(word.start)})" for word in missing[:SHOWN])
        lines.append(f"not heard: {named}{_more(len(missing))}")
    if found.foreign:
        spans = ", ".join(f"{at(start)} to {at(end)}" for start, end in found.foreign[:SHOWN])
        lines.append(f"speech without text: {spans}{_more(len(found.foreign))}")
    if not found.exact:
        lines.append("recording and text are long: not every alignment was compared")
    return lines


def _more(count: int) -> str:
    return f" and {count - SHOWN} more" if count > SHOWN else ""
