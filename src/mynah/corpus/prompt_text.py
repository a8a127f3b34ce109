"""Which sentences of a text can be read aloud by a synthesiser, and what is then heard.

``language`` is ``en`` or ``zh``. An English sentence is words of letters; a Chinese one is hanzi
and their punctuation, and its "words", counted and cut, are its hanzi.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

import numpy as np

from mynah.errors import InputError

LANGUAGES = ("en", "zh")

Syllables = Callable[[str], list[str]]  # of hanzi, in pinyin with tones as ``zhong1``

_HANZI = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_FOREIGN = re.compile(r"[^A-Za-z' ,.;:!?()\-]")
_ABBREVIATION = re.compile(
    r"\b(mr|mrs|ms|messrs|mme|dr|st|prof|capt|col|gen|rev|hon|jr|sr|esq|viz|etc|vol|e\.g|i\.e)\.",
    re.IGNORECASE,
)
_CHINESE_SIGNS = re.compile(r"[\s，。、；：？！“”‘’「」『』《》〈〉（）()…—·,.;:?!\"'\-]")
_PAUSES = re.compile(r"[，。、；：？！…—,.;:?!]+")


def spoken_text(sentence: str, language: str = "en") -> str | None:
    """The words as they are read aloud, or None when the writing leaves that open.

    Chinese is refused where anything but hanzi and their punctuation stands. English becomes
    lower-case words; refused there: digits, symbols, letters beyond ASCII, abbreviations (``Mr.``),
    single letters other than ``a``, ``I`` and ``O``, words in capitals (acronyms are spelled out by
    some voices).
    """
    if language == "zh":
        rest = _CHINESE_SIGNS.sub("", sentence)
        return rest if rest and not _HANZI.sub("", rest) else None
    line = _plain(sentence)
    if _FOREIGN.search(line) or _ABBREVIATION.search(line):
        return None
    for word in re.findall(r"[A-Za-z']+", line):
        if len(word) == 1 and word not in "aAIO'":
            return None
        if len(word) > 1 and word.isupper() and not word.startswith("I'"):
            return None
    return comparable_text(line) or None


def comparable_text(sentence: str, language: str = "en") -> str:
    """Lower-case words of letters and inner apostrophes, joined by one space; the hanzi alone."""
    if language == "zh":
        return "".join(_HANZI.findall(sentence))
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", _plain(sentence).lower())
    return " ".join(words)


def written_for(sentence: str, syllables: Syllables | None = None) -> str:
    """What a synthesiser is given to read, in ASCII; Chinese as the ``syllables`` of its hanzi."""
    if syllables is None:
        return re.sub(r"[()]", " ", _plain(sentence)).strip()
    return " ".join(
        ", " if _PAUSES.fullmatch(part) else " ".join(syllables(part))
        for part in re.findall(rf"(?:{_HANZI.pattern})+|{_PAUSES.pattern}", sentence)
    ).strip(", ")


def _plain(sentence: str) -> str:
    line = sentence.replace("’", "'").replace("‘", "'").replace("—", ", ").replace("--", ", ")
    return re.sub(r"[\"“”_]", " ", line)


def read_sentences(
    path: str | Path,
    *,
    exclude: Iterable[str] = (),
    min_words: int = 2,
    max_words: int = 30,
    language: str = "en",
) -> list[str]:
    """Usable sentences of a text file (plain or .xz, one a line, lines ``# ...`` skipped), in
    order, without repetitions and without those whose spoken text is in ``exclude``."""
    seen = set(exclude)
    found: list[str] = []
    try:
        with _open_text(path) as lines:
            for line in lines:
                # counted first, which is quick: with the punctuation of Chinese, and a few marks
                # between the words of English
                size = count_words(line.strip(), language)
                most = 2 * max_words if language == "zh" else max_words + 4
                if line.startswith("#") or not min_words <= size <= most:
                    continue
                text = spoken_text(line.strip(), language)
                if text is None or text in seen:
                    continue
                if not min_words <= count_words(text, language) <= max_words:
                    continue
                seen.add(text)
                found.append(line.strip())
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise InputError(f"{path}: {error}") from None
    if not found:
        raise InputError(f"{path}: no usable sentence of {min_words} to {max_words} words")
    return found


def cut_phrases(
    sentences: Iterable[str],
    longest: int,
    *,
    seed: int,
    exclude: Iterable[str] = (),
    language: str = "en",
) -> list[str]:
    """A run of 1 to ``longest`` words out of each sentence, none twice and none in ``exclude``.

    Recordings of a word or two are where CTC finds its first alignments.
    """
    rng = np.random.default_rng((seed, longest))
    seen = set(exclude)
    found: list[str] = []
    chinese = language == "zh"
    for sentence in sentences:
        line = comparable_text(sentence, language)
        words = list(line) if chinese else line.split()
        size = min(int(rng.integers(1, longest + 1)), len(words))
        first = int(rng.integers(len(words) - size + 1))
        phrase = ("" if chinese else " ").join(words[first : first + size])
        if phrase in seen or (len(phrase) == 1 and not chinese):
            continue
        seen.add(phrase)
        found.append(re.sub(r"\bi\b", "I", phrase))
    return found


def _open_text(path: str | Path) -> TextIO:
    if str(path).endswith(".xz"):
        return lzma.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def count_words(text: str, language: str = "en") -> int:
    """Words of a sentence: runs between single spaces, or the characters of Chinese."""
    return len(text) if language == "zh" else text.count(" ") + 1
