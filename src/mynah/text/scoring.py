"""The form of a text that error rates are computed on."""

from __future__ import annotations

import re
import unicodedata

from mynah.text.characters import ALONE

# Normalised before NFKC, which would make U+00B4 a space and a combining mark.
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼʹ`´′＇‛"), "'")
_SPOKEN_SIGNS = frozenset("%&@#+=$€£¥°")
_IN_NUMBERS = frozenset(".,:/")
_SPACES = re.compile(r"\s+")
_SPACE_BY_HANZI = re.compile(rf"(?<={ALONE.pattern}) | (?={ALONE.pattern})")
_PLAIN = re.compile(r"[a-z0-9 ]*")
_WITHOUT_SPACES = ("zh", "cmn", "yue", "wuu", "nan", "hak", "ja")


def normalize_for_scoring(text: str, language: str = "en") -> str:
    """Reduce ``text`` to what was spoken, as far as that is certain.

    In this order, for every language:

    - apostrophes of all kinds become ``'``; then Unicode NFKC: full-width letters, digits and
      punctuation become half-width, ligatures and compatibility forms are taken apart;
    - lower case;
    - an apostrophe stays between two letters or digits (``don't``) and goes elsewhere;
    - hyphens, dashes and all other punctuation and symbols become a space (``well-known`` is two
      words), but the signs ``% & @ # + = $ € £ ¥ °`` stay where they are, and so do ``. , : /``
      between two digits;
    - invisible characters go, runs of white space become one space, none at the ends.

    In Chinese and Japanese (see :func:`without_spaces`) the spaces beside hanzi and kana go too.

    Left alone: numerals (``3.5``, ``1,000`` and ``three`` are three different things), spelling,
    diacritics, hesitations, the words inside brackets, simplified against traditional forms.
    """
    if not _PLAIN.fullmatch(text):
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower()
        # What was lowered or stood beside something dropped may compose again.
        text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
        text = unicodedata.normalize("NFKC", _drop_punctuation(text))
    text = _SPACES.sub(" ", text).strip()
    return _SPACE_BY_HANZI.sub("", text) if without_spaces(language) else text


def without_spaces(language: str) -> bool:
    """Whether ``language`` (``zh``, ``zh-CN``, ``yue``, ``ja`` …) is written without spaces."""
    return language.lower().replace("_", "-").split("-")[0] in _WITHOUT_SPACES


def _drop_punctuation(text: str) -> str:
    kept: list[str] = []
    last = len(text) - 1
    for i, char in enumerate(text):
        if char.isalnum() or char in _SPOKEN_SIGNS:
            kept.append(char)
            continue
        before = text[i - 1] if i else " "
        after = text[i + 1] if i < last else " "
        in_word = char == "'" and _is_word(before) and _is_word(after)
        in_number = char in _IN_NUMBERS and before.isdigit() and after.isdigit()
        if in_word or in_number:
            kept.append(char)
        else:
            group = unicodedata.category(char)[0]
            if group in "PSZ" or char.isspace():
                kept.append("" if char == "'" else " ")
            elif group != "C":
                kept.append(char)  # marks belong to the letter before them
    return "".join(kept)


def _is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"
