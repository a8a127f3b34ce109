"""Texts to phones and back: the tokenizer of models that are decoded with a lexicon of words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mynah.config import as_dict
from mynah.errors import ModelError
from mynah.text.hanzi import MANDARIN_UNITS, HanziPronouncer, read_hanzi_dictionary
from mynah.text.pronounce import PHONES, Phones, Pronouncer, learn_pronouncer
from mynah.text.scoring import normalize_for_scoring, without_spaces
from mynah.text.tokenizer import BLANK, SOS_EOS, UNITS_FILE, TokenizerConfig, write_units

Sayer = Pronouncer | HanziPronouncer


def learn_sounds(path: str | Path, language: str = "en") -> Sayer:
    """Dictionary (and rules) of a language from a file: as CMUdict has it, or of hanzi.

    Raises:
        InputError: the file cannot be read, or is none of ``language``.
    """
    return read_hanzi_dictionary(path) if without_spaces(language) else learn_pronouncer(path)


class PhoneTokenizer:
    """Phones one after the other: nothing marks where a word ends.

    In English they have no stress, and a word that the dictionary does not have is said by
    letter-to-sound rules; in Chinese they are initials, finals and tones. Of several
    pronunciations the first is taken. ``pronouncer`` may be a folder, read when a text is first
    encoded: recognition needs no dictionary.
    """

    def __init__(
        self,
        pronouncer: Sayer | Path,
        units: Sequence[str] = (),
        config: TokenizerConfig | None = None,
    ) -> None:
        self.config = config or TokenizerConfig(kind="phone", language="en")
        self._chinese = without_spaces(self.config.language)
        phones = MANDARIN_UNITS if self._chinese else PHONES
        self.units = tuple(units) or (BLANK, *phones, SOS_EOS)
        self._source = pronouncer
        self._ids = {unit: index for index, unit in enumerate(self.units) if unit}
        missing = next((p for p in (BLANK, *phones) if p not in self._ids), None)
        if missing is not None:
            raise ModelError(f"tokenizer: no unit {missing!r} among its {len(self.units)}")
        self.blank, self.unk = self._ids[BLANK], -1
        self.sos = self.eos = self._ids.get(SOS_EOS, len(self.units) - 1)
        self._silent = {self.blank, self.sos}
        self._known: dict[str, list[int]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PhoneTokenizer, (self._source, self.units, self.config)

    @property
    def vocab_size(self) -> int:
        return len(self.units)

    @cached_property
    def pronouncer(self) -> Sayer:
        """Dictionary and rules, read now if they were not yet."""
        source = self._source
        if not isinstance(source, Path):
            return source
        return HanziPronouncer.load(source) if self._chinese else Pronouncer.load(source)

    def pronunciations(self, word: str) -> tuple[Phones, ...]:
        """All ways to say a word in scoring form, the usual one first."""
        return self.pronouncer(word)

    def encode(self, text: str) -> list[int]:
        """The phone ids of ``text``; what cannot be said (digits, signs) is left out."""
        result: list[int] = []
        for word in normalize_for_scoring(text, self.config.language or "en").split():
            if word not in self._known:
                variants = self.pronouncer(word)
                self._known[word] = [self._ids[p] for p in variants[0]] if variants else []
            result.extend(self._known[word])
        return result

    def decode(self, ids: Sequence[int]) -> str:
        """The phones with spaces between them; blank, start and end are left out."""
        return " ".join(self.units[index] for index in ids if index not in self._silent)

    def words(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """Each phone as a word of its own: phone, its index, one past it."""
        kept = ((i, index) for i, index in enumerate(ids) if index not in self._silent)
        return [(self.units[index], i, i + 1) for i, index in kept]

    def save(self, folder: str | Path) -> None:
        """Write the units, the dictionary and the rules into ``folder``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_units(folder / UNITS_FILE, self.units)
        self.pronouncer.save(folder)

    def to_dict(self) -> dict[str, Any]:
        """The table ``[tokenizer]`` from which ``load_tokenizer`` makes this one again."""
        values = as_dict(self.config)
        defaults = as_dict(TokenizerConfig())
        return {k: v for k, v in values.items() if k == "kind" or v != defaults[k]}
