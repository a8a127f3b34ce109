"""English titles, which are written short and said whole.

A recogniser writes what is said, numbers in words and ``mister``, so its lexicon and its language
models are made of texts that say so; readable text has them as in print again.
"""

from __future__ import annotations

SAID = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
PRINTED = {"mister": "Mr.", "missus": "Mrs."}  # a doctor may be one without a name


def as_said(text: str, language: str) -> str:
    """``text``, in the scoring form, with titles as they are said; other languages as it is."""
    if not is_english(language) or not any(short in text for short in SAID):
        return text
    return " ".join(SAID.get(word, word) for word in text.split(" "))


def is_english(language: str) -> bool:
    """Whether ``language`` is ``en``, ``en-GB`` or the like."""
    return language.lower().replace("_", "-").split("-")[0] == "en"
