"""Texts to unit ids and back: characters, words or BPE pieces behind one interface."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from mynah.config import as_dict
from mynah.errors import ConfigError, ModelError
from mynah.text.characters import HANZI, SPACE, is_alone
from mynah.text.scoring import normalize_for_scoring
from mynah.text.sentencepiece_model import SentencePieceModel

BLANK, UNK, SOS_EOS = "<blank>", "<unk>", "<sos/eos>"
UNITS_FILE, BPE_FILE = "units.txt", "bpe.model"

_TAG = re.compile(r"\[[^\[\]]+\]|<[^<>]+>|\{[^{}]+\}")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE_UNITS = (SPACE, "<space>")
_WENET_HANZI = re.compile("[\u4e00-\u9fff]")  # what WeNet keeps out of a BPE model


class Tokenizer(Protocol):
    """What the rest of mynah needs of a tokenizer. Ids are 0 <= id < vocab_size."""

    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def blank(self) -> int: ...
    @property
    def unk(self) -> int: ...
    @property
    def sos(self) -> int: ...
    @property
    def eos(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def words(self, ids: Sequence[int]) -> list[tuple[str, int, int]]: ...
    def save(self, folder: str | Path) -> None: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TokenizerConfig:
    """The table ``[tokenizer]`` of ``model.toml``.

    ``char`` and ``bpe`` are mynah's own. ``units`` is a WeNet table, with two differences: a space
    for which the table has no unit becomes ``<unk>``, where ``char`` leaves it out; and of the
    hanzi only U+4E00 to U+9FFF are kept out of the BPE model, where ``bpe`` keeps out them all.
    ``phone`` is :class:`mynah.text.phones.PhoneTokenizer`.
    """

    kind: Literal["char", "bpe", "units", "phone"] = "char"
    language: str = ""  # texts are normalised as for scoring in it first; "": taken as they are
    case: Literal["keep", "lower", "upper"] = "keep"  # applied before encoding
    split_with_space: bool = False  # units are whole words between spaces
    connect_symbol: str = ""  # put between units when decoding
    non_lang_syms: tuple[str, ...] = ()  # such as {NOISE}: each a unit wherever it stands
    bpe_model: str = ""  # file name in the tokenizer's folder
    special_tokens: dict[str, int] = field(default_factory=dict)  # <blank> <unk> <sos> <eos>

    def __post_init__(self) -> None:
        if (self.kind == "bpe") and not self.bpe_model:
            raise ConfigError("bpe_model: missing")
        if Path(self.bpe_model).name != self.bpe_model:
            raise ConfigError(f"bpe_model: {self.bpe_model!r} is not a plain file name")
        for symbol in self.non_lang_syms:
            if not _TAG.fullmatch(symbol):
                raise ConfigError(f"non_lang_syms: {symbol!r} is not like {{X}}, <X> or [X]")


class UnitTokenizer:
    """A table of units, with a way to cut a text into them.

    ``units[id]`` is the unit of an id, ``""`` where the table has a gap. ``bpe`` is the content of
    a sentencepiece model, read when a text is first encoded.
    """

    def __init__(
        self, units: Sequence[str], config: TokenizerConfig | None = None, bpe: bytes | None = None
    ) -> None:
        self.config = config or TokenizerConfig()
        self.units = tuple(units)
        self._bpe = bpe
        self._ids = {unit: index for index, unit in enumerate(self.units) if unit}
        special, last = self.config.special_tokens, len(self.units) - 1
        ends = self._ids.get(SOS_EOS, last)
        self.blank = special.get(BLANK, self._ids.get(BLANK, 0))
        self.unk = special.get(UNK, self._ids.get(UNK, -1))  # -1: none, unknown text is left out
        self.sos = special.get("<sos>", self._ids.get("<sos>", ends))
        self.eos = special.get("<eos>", self._ids.get("<eos>", ends))
        for name in ("blank", "sos", "eos", "unk"):
            if not (-1 if name == "unk" else 0) <= getattr(self, name) <= last:
                raise ModelError(f"tokenizer: {name} {getattr(self, name)} is not in 0..{last}")
        self._silent = {self.blank, self.sos, self.eos}
        self._bytes = {
            index: int(match[1], 16)
            for index, unit in enumerate(self.units)
            if bpe is not None and (match := _BYTE.fullmatch(unit))
        }
        # Without a unit for it, WeNet makes a space <unk>; mynah's own tables leave it out.
        space = next((self._ids[unit] for unit in _SPACE_UNITS if unit in self._ids), None)
        if space is not None:
            self._ids[SPACE] = space
        self._drop_space = space is None and self.config.kind == "char"

    def __reduce__(self) -> tuple[Any, ...]:
        return UnitTokenizer, (self.units, self.config, self._bpe)

    @property
    def vocab_size(self) -> int:
        return len(self.units)

    def encode(self, text: str) -> list[int]:
        """The unit ids of ``text``; what has no unit becomes ``unk``, if there is one."""
        result = []
        for piece in self.pieces(text):
            index = self._ids.get(piece, self.unk)
            if index >= 0 and not (self._drop_space and piece == SPACE):
                result.append(index)
        return result

    def pieces(self, text: str) -> list[str]:
        """``text`` cut into what is looked up in the table."""
        config = self.config
        if config.language:
            text = normalize_for_scoring(text, config.language)
        text = text.strip()
        if config.case != "keep":
            text = text.upper() if config.case == "upper" else text.lower()
        result: list[str] = []
        for part, is_symbol in self._parts(text):
            if is_symbol:
                result.append(part)
            elif self._bpe is not None:
                result.extend(self._bpe_pieces(part))
            elif config.split_with_space:
                result.extend(word for word in part.split(" ") if word)
            else:
                result.extend(part.replace(" ", SPACE))
        return result

    def _parts(self, text: str) -> Iterator[tuple[str, bool]]:
        """Stretches of ``text`` between tags in brackets, and whether each is a known tag."""
        if not self.config.non_lang_syms:
            yield text, False
            return
        start = 0
        for match in _TAG.finditer(text):
            yield text[start : match.start()].strip(), False
            yield match.group(), match.group() in self.config.non_lang_syms
            start = match.end()
        yield text[start:].strip(), False

    def _bpe_pieces(self, text: str) -> Iterator[str]:
        start = 0
        hanzi = _WENET_HANZI if self.config.kind == "units" else HANZI
        for match in hanzi.finditer(text):
            yield from (piece for piece, _ in self._model.encode(text[start : match.start()]))
            yield match.group()
            start = match.end()
        yield from (piece for piece, _ in self._model.encode(text[start:]))

    @cached_property
    def _model(self) -> SentencePieceModel:
        assert self._bpe is not None
        return SentencePieceModel(self._bpe)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; blank, start and end are left out, unknown reads ``<unk>``."""
        if self.config.split_with_space or self.config.connect_symbol:
            units = [self.units[i] for i in ids if i not in self._silent]
            text = self.config.connect_symbol.join(units)
        else:
            text = "".join(char for char, _, _ in self._characters(ids))
        return text.replace("<space>", " ").replace(SPACE, " ").strip()

    def words(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """Words of ``ids``: text, index of the first unit, and one past the last.

        Hanzi and kana are words of their own, as are tags such as ``{NOISE}``; everything else
        between two spaces is one word. Units of white space alone belong to no word. When a unit
        holds several words, they share its index.
        """
        if self.config.split_with_space:
            kept = [(i, index) for i, index in enumerate(ids) if index not in self._silent]
            return [(self.units[index], i, i + 1) for i, index in kept]
        result: list[tuple[str, int, int]] = []
        joins = False  # whether the next character belongs to the last word
        for text, first, end in self._characters(ids):
            if text in _SPACE_UNITS or text.isspace():
                joins = False
            elif is_alone(text) or text in self.config.non_lang_syms:
                result.append((text, first, end))
                joins = False
            elif joins:
                word, start, _ = result[-1]
                result[-1] = (word + text, start, end)
            else:
                result.append((text, first, end))
                joins = True
        return result

    def _characters(self, ids: Sequence[int]) -> Iterator[tuple[str, int, int]]:
        """Characters (or whole tags) of ``ids``, with the units that each comes from."""
        waiting, first = bytearray(), 0  # bytes of a character that is not complete
        for i, index in enumerate(ids):
            if index in self._bytes:
                first = first if waiting else i
                waiting.append(self._bytes[index])
                yield from _take_characters(waiting, first, i + 1, last=False)
                continue
            yield from _take_characters(waiting, first, i, last=True)
            if index in self._silent:
                continue
            unit = self.units[index]
            if len(unit) > 1 and _TAG.fullmatch(unit):
                yield unit, i, i + 1
            else:
                yield from ((char, i, i + 1) for char in unit)
        yield from _take_characters(waiting, first, len(ids), last=True)

    def save(self, folder: str | Path) -> None:
        """Write ``units.txt``, and the BPE model where there is one, into ``folder``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_units(folder / UNITS_FILE, self.units)
        if self._bpe is not None:
            (folder / self.config.bpe_model).write_bytes(self._bpe)

    def to_dict(self) -> dict[str, Any]:
        """The table ``[tokenizer]`` from which :func:`load_tokenizer` makes this one again."""
        values = as_dict(self.config)
        defaults = as_dict(TokenizerConfig(kind="units"))
        kept = {k: v for k, v in values.items() if k == "kind" or v != defaults[k]}
        special = {BLANK: self.blank, UNK: self.unk, "<sos>": self.sos, "<eos>": self.eos}
        return {**kept, "special_tokens": special}


def _take_characters(
    waiting: bytearray, first: int, end: int, *, last: bool
) -> Iterator[tuple[str, int, int]]:
    """Decode ``waiting`` when it is a whole character, or at the ``last`` moment as it is."""
    if not waiting:
        return
    try:
        text = waiting.decode("utf-8")
    except UnicodeDecodeError:
        if not last:
            return
        text = waiting.decode("utf-8", "replace")
    yield text, first, end
    waiting.clear()


def read_units(path: str | Path) -> tuple[str, ...]:
    """Read a table of lines ``unit id``; ids may come in any order, gaps become ``""``.

    Raises:
        ModelError: missing, not text, a line that is not a unit and an id, or an id twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    found: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].isdecimal():
            raise ModelError(f"{path}:{number}: expected a unit and its id, got {line.strip()!r}")
        index = int(fields[1])
        if index in found or index >= 10_000_000:
            raise ModelError(f"{path}:{number}: id {index} occurs twice or is absurd")
        found[index] = fields[0]
    if not found:
        raise ModelError(f"{path}: no units")
    return tuple(found.get(index, "") for index in range(max(found) + 1))


def write_units(path: str | Path, units: Sequence[str]) -> None:
    """Write a table of lines ``unit id``, as WeNet does."""
    lines = [f"{unit} {index}\n" for index, unit in enumerate(units) if unit]
    Path(path).write_text("".join(lines), encoding="utf-8", newline="\n")
