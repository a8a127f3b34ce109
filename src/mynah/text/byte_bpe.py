"""Byte-level BPE: texts to tokens and back, from the files of several toolkits.

A text is cut into words by GPT-2's rules (A. Radford et al., "Language models are unsupervised
multitask learners", 2019); the UTF-8 bytes of a word are merged pair by pair, the pair of lowest
rank first. A rank is the place in a list of merges (Hugging Face) or the number of the union among
the tokens (tiktoken, ggml); there the list of merges is not needed.
"""

from __future__ import annotations

import base64
import binascii
import functools
import heapq
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mynah.errors import ModelError

TOKENS_FILE, MERGES_FILE = "tokens.tiktoken", "merges.txt"

_SPECIAL = re.compile(r"<\|[^|]*\|>")
_ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_SPACES = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000").union(
    map(chr, range(0x2000, 0x200B))
)
_MAX_TOKENS = 1_000_000
_MAX_FILE = 100_000_000  # bytes


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a byte-level BPE, by number, with what else a file says of them."""

    tokens: tuple[bytes, ...]  # b"" for a number without a token
    merges: tuple[tuple[bytes, bytes], ...] = ()  # empty: the numbers are the ranks
    specials: Mapping[str, int] = field(default_factory=dict)  # such as <|endoftext|>


class ByteBpe:
    """Texts to the tokens of a vocabulary and back. May be shared by threads.

    Raises:
        ModelError: a byte has no token, so that not every text could be encoded.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.tokens = vocabulary.tokens
        self._ids = {token: index for index, token in reversed([*enumerate(self.tokens)]) if token}
        for byte in range(256):
            if bytes([byte]) not in self._ids:
                raise ModelError(f"the vocabulary has no token for the byte 0x{byte:02x}")
        self._cached = functools.lru_cache(maxsize=10_000)(self._encode_piece)

    def __reduce__(self) -> tuple[Any, ...]:
        return ByteBpe, (self.vocabulary,)

    @functools.cached_property
    def _ranks(self) -> dict[tuple[bytes, bytes], int]:
        return {pair: rank for rank, pair in reversed([*enumerate(self.vocabulary.merges)])}

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text``. Special tokens in it are taken as ordinary text."""
        result: list[int] = []
        for piece in pieces(text):
            result.extend(self._cached(piece.encode("utf-8", "surrogatepass")))
        return result

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of tokens, which may begin or end inside a character."""
        return b"".join(self.tokens[i] for i in ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; bytes that are no character become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def _encode_piece(self, data: bytes) -> tuple[int, ...]:
        if not self.vocabulary.merges and data in self._ids:
            return (self._ids[data],)
        parts = [data[i : i + 1] for i in range(len(data))]
        size = len(parts)
        before, after = list(range(-1, size - 1)), [*range(1, size), -1]
        queue: list[tuple[int, int, int, int]] = []  # rank, left, right, length of the union

        def propose(left: int, right: int) -> None:
            if left >= 0 and right >= 0:
                rank = self._rank(parts[left], parts[right])
                if rank >= 0:
                    heapq.heappush(queue, (rank, left, right, len(parts[left]) + len(parts[right])))

        for i in range(1, size):
            propose(i - 1, i)
        while queue:
            _, left, right, length = heapq.heappop(queue)
            if not parts[left] or not parts[right] or after[left] != right:
                continue
            if len(parts[left]) + len(parts[right]) != length:
                continue
            parts[left] += parts[right]
            parts[right] = b""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            propose(before[left], left)
            propose(left, after[left])
        return tuple(self._ids[part] for part in parts if part)

    def _rank(self, left: bytes, right: bytes) -> int:
        """How early two neighbours are merged; -1: never."""
        index = self._ids.get(left + right, -1)
        return self._ranks.get((left, right), -1) if self._ranks and index >= 0 else index


def pieces(text: str) -> Iterator[str]:
    """``text`` cut as by the regular expression of GPT-2:

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+
    """
    start, size = 0, len(text)
    while start < size:
        ending = next((e for e in _ENDINGS if text.startswith(e, start)), "")
        if ending:
            yield ending
            start += len(ending)
            continue
        first = start
        if text[start] == " " and start + 1 < size and text[start + 1] not in _SPACES:
            first += 1  # a space goes with what follows it
        kind, end = _kind(text[first]), first + 1
        while end < size and _kind(text[end]) == kind:
            end += 1
        if kind == "space" and end < size and end - start > 1:
            end -= 1  # the last one goes with what follows it, or stands alone
        yield text[start:end]
        start = end


@functools.lru_cache(maxsize=4096)
def _kind(char: str) -> str:
    if char.isalpha():
        return "letter"
    if char in _SPACES:
        return "space"
    return "number" if unicodedata.category(char)[0] == "N" else "other"


def find_vocabulary(folder: str | Path) -> Vocabulary | None:
    """The vocabulary in a folder: ``vocab.json`` with ``merges.txt``, ``tokenizer.json``,
    CTranslate2's ``vocabulary.json`` or ``.txt``, or one file of ranks; ``None`` without any.

    Raises:
        ModelError: a file is broken.
    """
    folder = Path(folder)
    if (folder / "vocab.json").is_file() and (folder / MERGES_FILE).is_file():
        return _read_vocab_json(folder)
    for name in ("tokenizer.json", TOKENS_FILE, "vocabulary.json", "vocabulary.txt", "vocab.json"):
        if (folder / name).is_file():
            return read_vocabulary(folder / name)
    ranks = sorted(folder.glob("*.tiktoken"))
    return read_vocabulary(ranks[0]) if len(ranks) == 1 else None


def read_vocabulary(path: str | Path) -> Vocabulary:
    """The vocabulary in a file of one of the kinds of :func:`find_vocabulary`, told apart by what
    is in it, or in a folder.

    Raises:
        ModelError: missing, broken, or of none of these kinds.
    """
    path = Path(path)
    if path.is_dir():
        found = find_vocabulary(path)
        if found is None:
            raise ModelError(f"{path}: has no vocabulary (vocab.json, tokenizer.json, *.tiktoken)")
        return found
    text = _read_text(path)
    if not text.lstrip().startswith(("{", "[")):
        return _read_ranks(path, text) if _is_ranks(text) else _read_list(path, text.split("\n"))
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: not JSON, or cut short") from None
    if isinstance(values, list):
        return _read_list(path, values)
    if isinstance(values.get("model"), dict):
        return _read_tokenizer_json(path, values)
    merges = path.parent / MERGES_FILE
    return _from_table(path, values, {}, _read_merges(merges) if merges.is_file() else ())


def save_vocabulary(vocabulary: Vocabulary, folder: str | Path) -> None:
    """Write ``tokens.tiktoken``, and ``merges.txt`` where the vocabulary has merges."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{base64.b64encode(token).decode() or '='} {index}\n"
        for index, token in enumerate(vocabulary.tokens)
    ]
    (folder / TOKENS_FILE).write_text("".join(lines), encoding="ascii", newline="\n")
    if vocabulary.merges:
        pairs = [f"{to_unicode(a)} {to_unicode(b)}\n" for a, b in vocabulary.merges]
        text = "#version: 0.2\n" + "".join(pairs)
        (folder / MERGES_FILE).write_text(text, encoding="utf-8", newline="\n")


def load_vocabulary(folder: str | Path) -> Vocabulary:
    """What :func:`save_vocabulary` wrote.

    Raises:
        ModelError: a file is missing or broken.
    """
    folder = Path(folder)
    vocabulary = _read_ranks(folder / TOKENS_FILE, _read_text(folder / TOKENS_FILE))
    merges = folder / MERGES_FILE
    return Vocabulary(vocabulary.tokens, _read_merges(merges) if merges.is_file() else ())


@functools.cache
def _unicode_of_byte() -> dict[int, str]:
    """The printable character that stands for a byte in Hugging Face's files: itself where it is
    printable in Latin-1, else the next one from U+0100 on."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {b: chr(256 + n) for n, b in enumerate(others)}


@functools.cache
def _byte_of_unicode() -> dict[str, int]:
    return {char: byte for byte, char in _unicode_of_byte().items()}


def to_unicode(token: bytes) -> str:
    """A token as Hugging Face's files write it."""
    table = _unicode_of_byte()
    return "".join(table[byte] for byte in token)


def from_unicode(token: str) -> bytes | None:
    """The bytes of a token as Hugging Face's files write it; ``None`` for other text."""
    table = _byte_of_unicode()
    numbers = [table.get(char, -1) for char in token]
    return None if -1 in numbers else bytes(numbers)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ModelError(f"{path}: absurdly large for a vocabulary")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path}: not a vocabulary (not text)") from None


def _is_ranks(text: str) -> bool:
    return re.match(r"\s*[A-Za-z0-9+/]+=* \d+\s", text) is not None


def _read_ranks(path: Path, text: str) -> Vocabulary:
    """Lines of a token in base64 and its rank; ``=`` is the empty token."""
    table: dict[int, bytes] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words:
            continue
        try:
            token = b"" if words[0] == "=" else binascii.a2b_base64(words[0], strict_mode=True)
            index = int(words[1])
        except (binascii.Error, ValueError, IndexError):
            raise ModelError(f"{path}:{number}: not a token in base64 and its rank") from None
        if index in table:
            raise ModelError(f"{path}:{number}: rank {index} occurs twice")
        table[index] = token
    return Vocabulary(_in_order(path, table))


def _read_list(path: Path, names: Sequence[Any]) -> Vocabulary:
    """CTranslate2's list of all tokens, the special ones at the end."""
    while names and names[-1] == "":  # after the last line's end
        names = names[:-1]
    if not names or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: not a vocabulary")
    return _split(path, dict(enumerate(names)), {}, ())


def _read_vocab_json(folder: Path) -> Vocabulary:
    path = folder / "vocab.json"
    added = folder / "added_tokens.json"
    return _from_table(
        path,
        _json(path),
        _json(added) if added.is_file() else {},
        _read_merges(folder / MERGES_FILE),
    )


def _read_tokenizer_json(path: Path, values: Mapping[str, Any]) -> Vocabulary:
    model, added = values["model"], values.get("added_tokens", [])
    try:
        specials = {entry["content"]: entry["id"] for entry in added}
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model.get("merges", [])]
        merges = tuple(_pair(path, pair) for pair in pairs)
    except (KeyError, TypeError, AttributeError):
        raise ModelError(f"{path}: not a tokenizer of Hugging Face") from None
    return _from_table(path, model.get("vocab"), specials, merges)


def _from_table(
    path: Path, table: Any, specials: Any, merges: tuple[tuple[bytes, bytes], ...]
) -> Vocabulary:
    by_number: dict[int, str] = {}
    for values in (table, specials):
        if not isinstance(values, dict) or not all(type(v) is int for v in values.values()):
            raise ModelError(f"{path}: not a table of tokens and their numbers")
    for name, index in table.items():
        if name not in specials and by_number.setdefault(index, name) != name:
            raise ModelError(f"{path}: token {index} occurs twice")
    return _split(path, by_number, specials, merges)


def _split(
    path: Path,
    table: Mapping[int, str],
    specials: Mapping[str, int],
    merges: tuple[tuple[bytes, bytes], ...],
) -> Vocabulary:
    """Ordinary tokens apart from special ones, which are told by their form too."""
    found = dict(specials)
    tokens: dict[int, bytes] = {}
    for index, name in table.items():
        token = None if _SPECIAL.fullmatch(name) else from_unicode(name)
        if token is None:
            found[name] = index
        else:
            tokens[index] = token
    return Vocabulary(_in_order(path, tokens), merges, found)


def _in_order(path: Path, table: Mapping[int, bytes]) -> tuple[bytes, ...]:
    if not table:
        raise ModelError(f"{path}: no tokens")
    size = max(table) + 1
    if min(table) < 0 or size > min(_MAX_TOKENS, 2 * len(table) + 256):
        raise ModelError(
            f"{path}: tokens numbered {min(table)} to {size - 1}, {len(table)} of them"
        )
    return tuple(table.get(index, b"") for index in range(size))


def _read_merges(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    lines = _read_text(path).split("\n")
    if lines and lines[0].startswith("#version"):
        lines = lines[1:]
    return tuple(_pair(path, line.split(" ")) for line in lines if line.strip())


def _pair(path: Path, words: Sequence[str]) -> tuple[bytes, bytes]:
    halves = [from_unicode(word) for word in words]
    if len(halves) != 2 or not halves[0] or not halves[1]:
        raise ModelError(f"{path}: {' '.join(words)[:40]!r} is not a merge of two tokens")
    return halves[0], halves[1]


def _json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: not JSON, or cut short") from None
