"""The words of a text by frequency, and how they are said: what a lexicon is made from."""

from __future__ import annotations

import lzma
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mynah.errors import InputError
from mynah.text.pronounce import Pronouncer
from mynah.text.scoring import normalize_for_scoring
from mynah.text.titles import as_said
from mynah.whole import write_whole

_SAYABLE = re.compile(r"[a-z]+(?:'[a-z]+)*")


@dataclass(frozen=True)
class VocabularyOptions:
    """Which words are taken, the most frequent first."""

    limit: int = 100_000  # words
    known: int = 2  # times that a word of the dictionary must occur
    others: int = 3  # times that any other must; single letters among them are left out
    variants: int = 4  # pronunciations of a word


def count_words(paths: Iterable[str | Path]) -> Counter[str]:
    """How often each word occurs in English texts (plain or .xz; lines ``# ...`` skipped), as for
    scoring, titles as they are said.

    Raises:
        InputError: a file cannot be read.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            with _open(path) as lines:
                for line in lines:
                    if not line.startswith("#"):
                        counts.update(as_said(normalize_for_scoring(line), "en").split())
        except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: cannot be read ({reason})") from None
    return counts


def _open(path: str | Path) -> TextIO:
    if str(path).endswith(".xz"):
        return lzma.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def choose_words(
    counts: Counter[str], say: Pronouncer, options: VocabularyOptions | None = None
) -> list[str]:
    """The words that can be said and occur often enough, the most frequent first."""
    options = options or VocabularyOptions()
    chosen = []
    for word, times in counts.items():
        if not _SAYABLE.fullmatch(word):
            continue
        known = say.known(word)
        if (len(word) > 1 or known) and times >= (options.known if known else options.others):
            chosen.append((-times, word))
    return [word for _, word in sorted(chosen)[: options.limit]]


def write_pronunciations(
    path: str | Path, words: Iterable[str], say: Pronouncer, *, variants: int = 4
) -> int:
    """Write ``word<tab>phones``, a line a pronunciation; the number of lines.

    What ``mynah lexicon --table`` reads. The file is complete or not there.
    """
    lines = [f"{word}\t{' '.join(phones)}\n" for word in words for phones in say(word)[:variants]]
    write_whole(path, "".join(lines))
    return len(lines)
