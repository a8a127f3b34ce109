"""Synthetic speech from a text, read by flite, festival and espeak-ng.

Sentences of TEXT (one a line, plain or .xz; lines that begin with # are skipped) become 16 kHz
FLAC files and a manifest under DIR. The same seed gives the same corpus; a run that was stopped
goes on where it was. Mandarin (--language zh, needs pypinyin) is read by espeak-ng.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path

from mynah.cli import common


def add_synthesize_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mynah data synthesize``."""
    parser.add_argument("text", metavar="TEXT", help="sentences, one a line (.txt or .xz)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make or to go on in")
    parser.add_argument("--hours", type=float, default=0.0, help="make this many hours")
    parser.add_argument("--count", type=int, default=0, help="make this many items")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other sentences")
    parser.add_argument(
        "--voices",
        nargs="+",
        metavar="VOICE",
        help="flite:NAME, festival:NAME, espeak:ACCENT+VARIANT (those of the language)",
    )
    parser.add_argument(
        "--language", choices=("en", "zh"), default="en", help="of TEXT: en or zh (en)"
    )
    parser.add_argument("--min-words", type=int, default=2, help="of Chinese: hanzi (2)")
    parser.add_argument("--max-words", type=int, default=30, help="of Chinese: hanzi (30)")
    parser.add_argument(
        "--phrases",
        type=int,
        default=0,
        metavar="N",
        help="cut the sentences down to runs of 1 to N words",
    )
    parser.add_argument("--max-seconds", type=float, default=12.0)
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="FILE",
        help="texts or .tsv manifests (column text) with sentences that must not occur",
    )
    parser.add_argument("--split", default="train", help="the manifest's split column (train)")
    parser.add_argument("--jobs", type=common.within(1, 256), default=1, metavar="N",
                        help="items made at a time (1)")  # fmt: skip


def run_synthesize(args: argparse.Namespace) -> int:
    """Make the corpus; 0 when done."""
    from mynah.corpus import synthesize as synthesis
    from mynah.corpus.prompt_text import cut_phrases, read_sentences
    from mynah.text.pinyin import syllables

    chinese = args.language == "zh"
    voices = synthesis.MANDARIN_VOICES if chinese else synthesis.SynthesisConfig(count=1).voices
    config = synthesis.SynthesisConfig(
        seed=args.seed,
        count=args.count,
        hours=args.hours,
        voices=tuple(args.voices) if args.voices else voices,
        min_words=1 if args.phrases else args.min_words,
        max_words=args.max_words,
        max_seconds=args.max_seconds,
        split=args.split,
        language=args.language,
    )
    excluded = [text for name in args.exclude for text in _texts(Path(name), args.language)]
    sentences = read_sentences(
        args.text,
        exclude=excluded,
        min_words=args.min_words,
        max_words=args.max_words,
        language=args.language,
    )
    if args.phrases:
        sentences = cut_phrases(
            sentences, args.phrases, seed=args.seed, exclude=excluded, language=args.language
        )
    print(
        f"{len(sentences)} {'phrases' if args.phrases else 'sentences'} in {args.text}",
        file=sys.stderr,
    )
    show = _Progress(args.hours, args.count)
    items, hours = synthesis.synthesize(
        sentences,
        args.out,
        config,
        jobs=args.jobs,
        progress=show,
        syllables=partial(syllables, sandhi=True) if chinese else None,
    )
    show.end()
    print(f"{args.out}: {items} items, {hours:.2f} h")
    return 0


def _texts(path: Path, language: str) -> list[str]:
    from mynah.corpus.prompt_text import comparable_text
    from mynah.errors import InputError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None
    if path.suffix == ".tsv" and lines:
        header = lines[0].split("\t")
        if "text" not in header:
            raise InputError(f"{path}: no column 'text'")
        column = header.index("text")
        lines = [line.split("\t")[column] for line in lines[1:] if line.count("\t") >= column]
    return [comparable_text(line, language) for line in lines]


class _Progress:
    """A line a second: what is made, and how long the rest will take at the pace of the last minute
    (a run that goes on finds its first items in no time)."""

    def __init__(self, hours: float, count: int) -> None:
        self.hours, self.count = hours, count
        self.shown = time.monotonic()
        self.pace = deque([(self.shown, 0.0)])  # times and the part that was done

    def __call__(self, items: int, hours: float) -> None:
        now = time.monotonic()
        if now - self.shown < 1.0:
            return
        self.shown = now
        done = max(hours / self.hours if self.hours else 0, items / self.count if self.count else 0)
        while len(self.pace) > 1 and now - self.pace[0][0] > 60.0:
            self.pace.popleft()
        before, part = self.pace[0]
        self.pace.append((now, done))
        left = (now - before) / max(done - part, 1e-9) * (1 - min(done, 1.0))
        line = f"{items} items, {hours:.2f} h, {left / 60:.0f} min left"
        print(f"\r{line:<60}", end="" if sys.stderr.isatty() else "\n", file=sys.stderr)

    def end(self) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)
