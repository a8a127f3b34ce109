"""What files of transcripts show: the layout of subtitles, and what only some formats have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from mynah.cli import common, company
from mynah.cli.whisper_flags import optional

if TYPE_CHECKING:
    from mynah.runtime.subtitles import Layout

OPTIONS = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How subtitles are laid out, by the names that whisper gave the options."""
    group = parser.add_argument_group("subtitles (srt, vtt)")
    number = optional(common.positive)
    group.add_argument("--max-line-width", "--max_line_width", type=number, metavar="N",
                       help="characters of a line (default: 42)")  # fmt: skip
    group.add_argument("--max-line-count", "--max_line_count", type=number, metavar="N",
                       help="lines at once (default: 2)")  # fmt: skip
    group.add_argument("--max-words-per-line", "--max_words_per_line", type=number, metavar="N",
                       help="words at once, in one line; not with --max-line-width")  # fmt: skip
    group.add_argument("--highlight-words", "--highlight_words", action="store_true",
                       help="underline each word while it is spoken")  # fmt: skip


def chosen(args: argparse.Namespace) -> Layout:
    """The layout of subtitles that the arguments ask for."""
    from mynah.runtime.subtitles import Layout

    def limit(value: int | str | None) -> int | None:
        return None if isinstance(value, str) else value

    return Layout(
        max_line_width=limit(args.max_line_width),
        max_line_count=limit(args.max_line_count),
        max_words_per_line=limit(args.max_words_per_line),
        highlight_words=args.highlight_words,
    )


def rules(formats: Callable[[argparse.Namespace], Collection[str]]) -> tuple[company.Rule, ...]:
    """What acts in the ``formats`` that the arguments ask for alone, and beside what."""

    def written(*kinds: str) -> Callable[[argparse.Namespace], bool]:
        return lambda args: not {*kinds}.isdisjoint(formats(args))

    def words(args: argparse.Namespace) -> bool:
        """In whisper's files words have times, but no lines of their own."""
        return written(*(("json", "srt", "vtt") if _as_whisper(args) else ("txt", "tsv")))(args)

    def lines(args: argparse.Namespace) -> bool:
        """Whisper counts lines only where they have a width; ours have one, unless words do."""
        if _as_whisper(args):
            return company.given(args, "max_line_width")
        return not company.given(args, "max_words_per_line")

    def at_once(args: argparse.Namespace) -> bool:
        others = [company.given(args, name) for name in ("max_line_width", "max_line_count")]
        return not (all(others) if _as_whisper(args) else others[0])

    return (
        company.Rule(("words",), words, "none of the formats has a line a word (txt, tsv)"),
        company.Rule(("chars",), written("json", "textgrid"), "needs --format json or textgrid"),
        company.Rule(("pretty_json",), written("json"), "needs --format json", no=True),
        company.Rule(OPTIONS, written("srt", "vtt"), "needs --format srt or vtt"),
        company.Rule(("max_words_per_line",), at_once, "not with --max-line-width"),
        company.Rule(("max_line_count",), lines, "needs --max-line-width"),
    )


def _as_whisper(args: argparse.Namespace) -> bool:
    return getattr(args, "output_format", None) is not None
