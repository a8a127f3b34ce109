"""Written prose back to what was said and what writing added: units, their marks, their casing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
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
_TITLES = frozenset(
    "mr mrs ms messrs dr st rev prof gen col capt lt sgt maj hon jr sr gov sen rep esq mme mlle "
    "no vol vs etc co inc ltd ave jan feb mar apr aug sept oct nov dec".split()
)


@dataclass(frozen=True)
class Piece:
    """A unit of prose: its scoring form, the class of the mark after it, and of its casing."""

    unit: str
    mark: int
    case: int


@lru_cache(maxsize=1 << 18)
def _units(word: str, language: str) -> tuple[tuple[str, int], ...]:
    case = case_of(word.replace("’", "'"))
    found = to_units(word, language)
    cases = [case] + [UNKNOWN if case == CAPITAL else case] * len(found)
    return tuple(
        (unit, CAPITAL if case == UPPER and len(unit) == 1 else case)
        for unit, case in zip(found, cases, strict=False)
    )


def pieces(line: str, language: str) -> list[Piece]:
    """The units of a line, which is taken to be whole sentences.

    What ends in a full stop inside the line and is a title (``Mr.``) or an initial has no mark.
    Where the line ends without one, the last mark is unknown. Quotation marks, brackets and what
    else cannot be heard are dropped; casings that no class gives back are unknown.
    """
    most = len(CHINESE if without_spaces(language) else WESTERN)
    units: list[str] = []
    marks: list[int] = []
    cases: list[int] = []
    for match in _PIECE.finditer(line):
        word = match[1]
        if word is not None:
            for unit, case in _units(word, language):
                units.append(unit)
                marks.append(0)
                cases.append(case)
        elif units and not marks[-1] and not match[0].isspace():
            mark = _mark(match[0], units[-1], match.end() >= len(line.rstrip()))
            marks[-1] = mark if mark < most else 1
    if units and not marks[-1]:
        marks[-1] = UNKNOWN
    return [Piece(*row) for row in zip(units, marks, cases, strict=True)]


def _mark(signs: str, unit: str, last: bool) -> int:
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
    return found[0]


def is_heading(found: Sequence[Piece]) -> bool:
    """Whether a line is in capitals throughout, so that its casing tells nothing."""
    known = [piece for piece in found if len(piece.unit) > 1 and piece.unit.isalpha()]
    return len(known) > 1 and sum(piece.case == UPPER for piece in known) > len(known) / 2


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
