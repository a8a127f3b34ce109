"""Letters and phones that belong together: what a model of spelling is made from.

A word becomes a sequence of graphones, each some letters and the one or two phones that they stand
for (Bisani and Ney 2008, https://doi.org/10.1016/j.specom.2008.01.002): ``night`` is ``n:n igh:ay
t:t``. An n-gram model over them spells words that are in no dictionary, see
:class:`mynah.runtime.spelling.Speller`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mynah.text.pronounce import Phones, align_letters


def graphone(letters: str, sounds: str) -> str:
    """One graphone as it is written: ``x:k_s``."""
    return f"{letters}:{sounds.replace(' ', '_')}"


def split_graphone(name: str) -> tuple[str, Phones]:
    """Letters and phones of a graphone; no phones where ``name`` is none."""
    letters, colon, sounds = name.partition(":")
    return letters, tuple(sounds.split("_")) if colon and sounds and letters else ()


def graphones(
    pairs: Iterable[tuple[str, Phones]], *, min_count: int = 5
) -> Iterator[tuple[str, list[str]]]:
    """The words of ``pairs`` and their graphones; without words that need one that is in fewer
    than ``min_count`` of them.

    Raises:
        InputError: no word can be aligned.
    """
    found = [(word, _merge(aligned)) for word, aligned in align_letters(pairs)]
    counts = Counter(name for _, names in found for name in names)
    return (
        (word, names)
        for word, names in found
        if names and all(counts[name] >= min_count for name in names)
    )


def _merge(aligned: Sequence[tuple[str, str]]) -> list[str]:
    """Silent letters go to the letter before them, those at the beginning to the first heard."""
    groups: list[list[str]] = []
    waiting = ""
    for letter, sounds in aligned:
        if sounds:
            groups.append([waiting + letter, sounds])
            waiting = ""
        elif groups:
            groups[-1][0] += letter
        else:
            waiting += letter
    return [graphone(letters, sounds) for letters, sounds in groups]
