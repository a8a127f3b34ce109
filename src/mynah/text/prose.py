"""Written prose back to what was said and what writing added: units, their marks, their casing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from mynah.text.characters import ALONE
from mynah.text.punctuation import CAPITAL, CHINESE, UPPER, WESTERN, case_of, to_units
from mynah.text.scoring import without_spaces

UNKNOWN = -1  # a mark or casing that the text does not tell

# A class for every sign; dashes between words are heard as commas are. Classes are those of
# mynah.text.punctuation.WESTERN and CHINESE, which agree.
_CLASSES = {
    ",": 1, "，": 1, "—": 1, "–": 1, "―": 1, ".": 2, "。": 2, "．": 2, "?": 3, "？": 3, "!": 4,
    "！": 4, ";": 5, "；": 5, ":": 6, "：": 6, "、": 7,
}  # fmt: skip
_ELLIPSES = ("…", "...", "⋯")
_CHAR = rf"(?!{ALONE.pattern})[^\W_]"  # of a word
_PIECE = re.compile(
    rf"({ALONE.pattern}|{_CHAR}(?:{_CHAR}|['’.,:/](?={_CHAR}))*)|(?:[^\w\s]|_)+|\s+"
)
_SHORTENED = (
    "mr mrs ms messrs dr st rev prof gen col capt lt sgt maj hon jr sr gov sen rep esq mme mlle "
    "vol vs etc co inc ltd ave jan feb mar apr aug sept oct nov dec"
)
_TITLES = frozenset(_SHORTENED.split())


@dataclass(frozen=True)
class Pieces:
    """The units of prose in the scoring form, the class of the mark after each, and its casing."""

    units: list[str]
    marks: list[int]
    cases: list[int]


def pieces(line: str, language: str) -> Pieces:
    """The units of a line, which is taken to be whole sentences.

    What ends in a full stop inside the line and is a title (``Mr.``) or an initial has no mark.
    Where the line ends without one, the last mark is unknown. Quotation marks, brackets and what
    else cannot be heard are dropped; casings that no class gives back are unknown.
    """
    found = Pieces([], [], [])
    chunk = None
    for text in [line] if without_spaces(language) else line.split():
        chunk = _chunk(text, language)
        if chunk.before and found.marks and not found.marks[-1]:
            found.marks[-1] = _mark(chunk.before, found.units[-1], language)
        found.units.extend(chunk.units)
        found.marks.extend(chunk.marks)
        found.cases.extend(chunk.cases)
    if chunk is not None and found.units:
        signs = chunk.after if chunk.units else chunk.before
        if signs:
            last = _mark(signs, found.units[-1], language, last=True)
            found.marks[-1] = last or found.marks[-1]
        found.marks[-1] = found.marks[-1] or UNKNOWN
    return found


@dataclass(frozen=True)
class _Chunk:
    """What lies between two spaces: units, and signs before the first and after the last."""

    before: str
    units: tuple[str, ...]
    marks: tuple[int, ...]  # where the line goes on
    cases: tuple[int, ...]
    after: str


def _chunk(text: str, language: str) -> _Chunk:
    return _short_chunk(text, language) if len(text) < 32 else _read_chunk(text, language)


@lru_cache(maxsize=1 << 18)
def _short_chunk(text: str, language: str) -> _Chunk:
    return _read_chunk(text, language)


def _read_chunk(text: str, language: str) -> _Chunk:
    units: list[str] = []
    cases: list[int] = []
    signs = [""]  # before the first unit, and after each
    for match in _PIECE.finditer(text):
        if match[1] is None:
            signs[-1] += match[0].strip()
            continue
        for unit, case in _units(match[1], language):
            units.append(unit)
            cases.append(case)
            signs.append("")
    marks = tuple(_mark(s, u, language) for s, u in zip(signs[1:], units, strict=True))
    return _Chunk(signs[0], tuple(units), marks, tuple(cases), signs[-1])


@lru_cache(maxsize=1 << 16)
def _units(word: str, language: str) -> tuple[tuple[str, int], ...]:
    case = case_of(word.replace("’", "'"))
    found = to_units(word, language)
    cases = [case] + [UNKNOWN if case == CAPITAL else case] * len(found)
    return tuple(
        (unit, CAPITAL if case == UPPER and len(unit) == 1 else case)
        for unit, case in zip(found, cases, strict=False)
    )


def _mark(signs: str, unit: str, language: str, *, last: bool = False) -> int:
    """The class of what stands after a unit; ``last`` at the end of the line."""
    if not signs:
        return 0
    if any(ellipsis in signs for ellipsis in _ELLIPSES):
        return 2 if last else 1
    if "--" in signs:
        signs = signs.replace("--", "—")
    found = [_CLASSES[sign] for sign in signs if sign in _CLASSES]
    if not found:
        return 0
    if 3 in found:  # ?! asks
        return 3
    short = unit in _TITLES or (len(unit) == 1 and unit.isalpha() and not ALONE.match(unit))
    if found[0] == 2 and not last and (short or "." in unit):
        return 0
    most = len(CHINESE if without_spaces(language) else WESTERN)
    return found[0] if found[0] < most else 1


def is_heading(found: Pieces) -> bool:
    """Whether a line is in capitals throughout, so that its casing tells nothing."""
    pairs = zip(found.units, found.cases, strict=True)
    known = [case for unit, case in pairs if len(unit) > 1 and unit.isalpha()]
    return len(known) > 1 and known.count(UPPER) > len(known) / 2


@dataclass(frozen=True)
class Line:
    """A line of a book, numbered from 0 in each; its columns are ``title`` and ``line``."""

    title: str
    number: int
    text: str

    def value(self, column: str) -> str:
        """The value of a column; empty for an unknown one."""
        return {"title": self.title, "line": str(self.number)}.get(column, "")


def books(lines: Iterable[str]) -> Iterator[Line]:
    """The lines of a text whose books begin with ``# title``; empty ones are left out."""
    title, number = "", 0
    for raw in lines:
        line = raw.strip()
        if line.startswith("# "):
            title, number = line[2:].strip(), 0
        elif line:
            yield Line(title, number, line)
            number += 1
