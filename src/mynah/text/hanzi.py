"""How Chinese is said: syllables as initial, final and tone, and a dictionary of hanzi.

A syllable is two or three units: the initial where there is one, the final, and the tone, none for
the neutral one. So few units (61) are each heard often in an hour of speech; tones are learned over
all syllables together. Readings are those of the dictionary: what the neighbours do to a tone
(sandhi) is left to the model.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mynah.errors import InputError
from mynah.text.characters import HANZI
from mynah.text.pronounce import WORDS_FILE, Phones, read_table, write_table
from mynah.whole import write_whole

INITIALS: Phones = (
    "b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "j", "q", "x", "zh", "ch", "sh", "r",
    "z", "c", "s",
)  # fmt: skip
FINALS: Phones = (
    "a", "e", "ai", "ei", "ao", "ou", "an", "en", "ang", "eng", "ong", "er", "i", "iz", "ir", "ia",
    "ie", "iao", "iou", "ian", "in", "iang", "ing", "iong", "u", "ua", "uo", "uai", "uei", "uan",
    "uen", "uang", "v", "ve", "van", "vn",
)  # fmt: skip
TONES: Phones = ("1", "2", "3", "4")
MANDARIN_UNITS: Phones = (*INITIALS, *FINALS, *TONES)

_SYLLABLE = re.compile(r"(zh|ch|sh|[bpmfdtnlgkhjqxrzcsyw])?([a-zvê]+)([1-5])?")
# Finals as pinyin writes them after an initial, where that is not how they sound.
_WRITTEN = {"iu": "iou", "ui": "uei", "un": "uen", "o": "uo", "ê": "e", "ue": "ve", "io": "iou",
            "ueng": "ong", "uo": "uo"}  # fmt: skip
# The same of syllables without an initial, which pinyin writes with y or w.
_WITHOUT_INITIAL = {"yi": "i", "yin": "in", "ying": "ing", "you": "iou", "yo": "iou", "yong":
                    "iong", "yu": "v", "yue": "ve", "yuan": "van", "yun": "vn", "wu": "u", "wei":
                    "uei", "wen": "uen", "weng": "ong", "n": "en", "ng": "en",
                    "r": "er"}  # fmt: skip


def syllable_units(pinyin: str) -> Phones:
    """The units of a syllable such as ``zhong1``, ``lü4``, ``lv4`` or ``men`` (neutral, as 5).

    Empty where it is no syllable that standard Mandarin has.
    """
    match = _SYLLABLE.fullmatch(pinyin.lower().replace("ü", "v").replace("u:", "v"))
    if match is None:
        return ()
    initial, rest, tone = match[1] or "", match[2], match[3] or "5"
    last: Phones = () if tone == "5" else (tone,)
    if f"{initial}{rest}" in ("n", "ng", "r") or initial in ("", "y", "w"):
        written = f"{initial}{rest}"
        final = _WITHOUT_INITIAL.get(written, "")
        if not final and not initial and rest[0] not in "aeoê":
            return ()
        if not final and initial:
            final = ("i" if initial == "y" else "u") + rest
        final = final or _WRITTEN.get(rest, rest)
        return (final, *last) if final in FINALS else ()
    final = rest
    if initial in ("j", "q", "x") and rest[0] == "u":
        final = f"v{rest[1:]}"
    elif rest == "i":
        final = {"zh": "ir", "ch": "ir", "sh": "ir", "r": "ir"}.get(initial, "i")
        final = "iz" if initial in ("z", "c", "s") else final
    final = _WRITTEN.get(final, final)
    return (initial, final, *last) if final in FINALS else ()


class HanziPronouncer:
    """Readings of Chinese words: of hanzi, and of longer words whose hanzi are read otherwise
    there.

    ``dictionary`` maps a word to its readings, the usual one first. A text is cut from left to
    right into the longest words that it has; what has no reading (digits, letters) is passed over.
    """

    def __init__(self, dictionary: Mapping[str, tuple[Phones, ...]]) -> None:
        self.dictionary = dict(dictionary)
        self._longest = max(map(len, self.dictionary), default=1)

    def known(self, word: str) -> bool:
        """Whether the dictionary has the word itself."""
        return word in self.dictionary

    def cut(self, text: str) -> Iterator[str]:
        """The words of ``text``; a character that the dictionary lacks is one too."""
        at = 0
        while at < len(text):
            size = next(
                (n for n in range(min(self._longest, len(text) - at), 1, -1)
                 if text[at : at + n] in self.dictionary), 1
            )  # fmt: skip
            yield text[at : at + size]
            at += size

    def __call__(self, word: str) -> tuple[Phones, ...]:
        """The readings of a word or a whole sentence, the usual one first; none if unsayable."""
        if word in self.dictionary:
            return self.dictionary[word]
        parts = (self.dictionary.get(part, ((),))[0] for part in self.cut(word))
        units = tuple(unit for part in parts for unit in part)
        return (units,) if units else ()

    def save(self, folder: str | Path) -> None:
        """Write the dictionary into ``folder``."""
        rows = [
            (word, ", ".join(" ".join(units) for units in readings))
            for word, readings in sorted(self.dictionary.items())
        ]
        write_table(Path(folder) / WORDS_FILE, rows)

    @staticmethod
    def load(folder: str | Path) -> HanziPronouncer:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: the file is missing or damaged.
        """
        return HanziPronouncer({
            word: tuple(tuple(units.split()) for units in readings.split(", "))
            for word, readings in read_table(Path(folder) / WORDS_FILE)
        })  # fmt: skip


def read_hanzi_dictionary(path: str | Path) -> HanziPronouncer:
    """Words and readings from a file of lines ``word<tab>units``, a line a reading (plain or .xz).

    Raises:
        InputError: the file cannot be read, or a line has no units or an unknown one.
    """
    known, found = frozenset(MANDARIN_UNITS), dict[str, tuple[Phones, ...]]()
    try:
        text = Path(path).read_bytes()
        lines = (lzma.decompress(text) if str(path).endswith(".xz") else text).decode("utf-8")
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise InputError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from None
    for number, line in enumerate(lines.splitlines(), 1):
        word, _, rest = line.partition("\t")
        units = tuple(rest.split())
        unknown = next((unit for unit in units if unit not in known), None)
        if unknown or not units or not word:
            what = f"unknown unit {unknown!r}" if unknown else "expected a word and its units"
            raise InputError(f"{path}:{number}: {what}")
        if units not in found.get(word, ()):
            found[word] = (*found.get(word, ()), units)
    if not found:
        raise InputError(f"{path}: no words")
    return HanziPronouncer(found)


def hanzi_only(text: str) -> bool:
    """Whether ``text`` is hanzi alone, and some."""
    return bool(text) and all(HANZI.match(char) for char in text)


def write_hanzi_dictionary(
    path: str | Path, entries: Sequence[tuple[str, Sequence[Phones]]]
) -> int:
    """Write what :func:`read_hanzi_dictionary` reads; the number of lines."""
    lines = [f"{word}\t{' '.join(units)}\n" for word, readings in entries for units in readings]
    write_whole(path, "".join(lines))
    return len(lines)
