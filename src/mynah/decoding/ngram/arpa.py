"""ARPA files of back-off models, plain or gzipped: base-10 logarithms, a line an n-gram."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from mynah.decoding.ngram.levels import BOS, MAX_ORDER, UNK, Rows, Trie, build
from mynah.errors import ModelError

LN10 = math.log(10)
UNKNOWN = -100 * LN10  # of a word outside the vocabulary when the file does not say, as in kenlm
_COUNT = re.compile(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,15})")
_LONGEST_LINE = 1 << 16  # bytes


def read_arpa(path: str | Path) -> Trie:
    """The n-grams of an ARPA file (``.gz`` too).

    A file without ``<unk>`` gets one, as improbable as kenlm makes it (10 ** -100).

    Raises:
        ModelError: the file is no sound ARPA file; the line names file, line and reason.
        OSError: it cannot be read.
    """
    with open_binary(path) as stream:
        return _Reader(str(path), stream).read()


@contextmanager
def open_binary(path: str | Path) -> Iterator[IO[bytes]]:
    """A file opened for reading, through gzip where it begins so.

    Raises:
        ModelError: the gzip stream is damaged.
    """
    import gzip
    import zlib

    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not zipped:
            yield raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream  # type: ignore[misc]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ModelError(f"{path}: damaged gzip file ({error})") from None


class _Reader:
    """One pass over the lines of a file; memory grows with what was read, not what is claimed."""

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self.name = name
        self.stream = stream
        self.number = 0
        self.begun = False  # whether \\data\\ was there
        self.vocab: dict[bytes, int] = {}

    def fail(self, reason: str) -> NoReturn:
        raise ModelError(f"{self.name}, line {self.number}: {reason}")

    def line(self) -> bytes:
        """The next line, stripped.

        Raises:
            ModelError: there is none.
        """
        line = self.stream.readline(_LONGEST_LINE)
        self.number += 1
        if not line:
            reason = (
                "the file ends before \\end\\" if self.begun else "no \\data\\: not an ARPA file"
            )
            self.fail(reason)
        if len(line) == _LONGEST_LINE:
            self.fail(f"longer than {_LONGEST_LINE} bytes")
        return line.strip()

    def text(self) -> bytes:
        """The next line that is not empty, stripped."""
        line = self.line()
        while not line:
            line = self.line()
        return line

    def read(self) -> Trie:
        line = self.line()
        while line != b"\\data\\":  # what stands before it is a comment
            if self.number > 1000:
                self.fail("no \\data\\ in the first 1000 lines: not an ARPA file")
            line = self.line()
        self.begun = True
        counts = self._counts()
        tables: list[Rows] = []
        for n, claimed in enumerate(counts, start=1):
            if n > 1:
                self._heading(n, self.text())
            tables.append(self._section(n, claimed, top=n == len(counts)))
        if self.text() != b"\\end\\":
            self.fail("\\end\\ was expected")
        words = self._words()
        if UNK.encode() not in self.vocab:
            words.append(UNK)
            one = tables[0]
            tables[0] = Rows(
                np.append(one.words, [[len(one.words)]], axis=0),
                np.append(one.log_probs, np.float32(UNKNOWN)),
                np.append(one.backoffs, np.float32(0)),
            )
        try:
            return build(words, tables)
        except ModelError as error:
            raise ModelError(f"{self.name}: {error}") from None

    def _counts(self) -> list[int]:
        counts: list[int] = []
        while (line := self.text()).startswith(b"ngram"):
            found = _COUNT.fullmatch(line)
            if found is None or int(found[1]) != len(counts) + 1:
                self.fail(f"'ngram {len(counts) + 1}=COUNT' was expected")
            if len(counts) == MAX_ORDER:
                self.fail(f"orders above {MAX_ORDER} are not read")
            counts.append(int(found[2]))
        if not counts:
            self.fail("'ngram 1=COUNT' was expected")
        self._heading(1, line)
        return counts

    def _heading(self, n: int, line: bytes) -> None:
        if line != b"\\%d-grams:" % n:
            self.fail(f"\\{n}-grams: was expected")

    def _section(self, n: int, claimed: int, *, top: bool) -> Rows:
        ids: list[int] = []
        probs: list[float] = []
        backoffs: list[float] = []
        vocab = self.vocab
        for _ in range(claimed):
            fields = self.line().split()
            if not n < len(fields) <= (n + 1 if top else n + 2):
                self._wrong_line(n, fields, len(probs), claimed)
            try:
                probs.append(float(fields[0]))
                backoffs.append(float(fields[n + 1]) if len(fields) == n + 2 else 0.0)
                if n == 1:
                    ids.append(vocab.setdefault(fields[1], len(vocab)))
                else:
                    ids.extend([vocab[word] for word in fields[1 : n + 1]])
            except ValueError:
                self.fail(f"no number: {_show(fields[0])} or {_show(fields[-1])}")
            except KeyError as error:
                self.fail(f"{_show(error.args[0])} is no unigram")
            if n == 1 and len(vocab) < len(probs):
                self.fail(f"unigram {_show(fields[1])} is there twice")
        log_probs, weights = np.array(probs), np.array(backoffs)
        if claimed and not (np.isfinite(weights).all() and (log_probs <= 0).all()):
            # NaN fails the comparison, too; zero probability may be written as -inf
            self.fail(f"a {n}-gram before has a probability above 1, or no number")
        log_probs = np.maximum(log_probs, -1e30)
        words = np.array(ids, dtype=np.int64).reshape(claimed, n)
        return Rows(words, (log_probs * LN10).astype("f4"), (weights * LN10).astype("f4"))

    def _wrong_line(self, n: int, fields: list[bytes], seen: int, claimed: int) -> NoReturn:
        if not fields or fields[0].startswith(b"\\"):
            self.fail(f"{claimed} {n}-grams were announced, {seen} are there")
        self.fail(f"not a {n}-gram: {len(fields)} fields")

    def _words(self) -> list[str]:
        try:
            words = [word.decode("utf-8") for word in self.vocab]
        except UnicodeDecodeError as error:
            raise ModelError(f"{self.name}: {_show(error.object)} is not UTF-8") from None
        for name in ("<s>", "</s>"):
            if name.encode() not in self.vocab:
                raise ModelError(f"{self.name}: {name} is no unigram")
        return words


def _show(field: bytes) -> str:
    return repr(field[:40].decode("utf-8", "replace"))


def write_arpa(trie: Trie, stream: IO[str], *, block: int = 1 << 16) -> None:
    """Write a model to a text stream; 7 significant digits, all that float32 holds."""
    stream.write("\\data\\\n")
    for n, count in enumerate(trie.counts, start=1):
        stream.write(f"ngram {n}={count}\n")
    vocab = list(trie.vocab)
    for n, level in enumerate(trie.levels, start=1):
        stream.write(f"\n\\{n}-grams:\n")
        for start in range(0, len(level), block):
            stop = min(start + block, len(level))
            _write_rows(trie, stream, n, start, stop, vocab)
    stream.write("\n\\end\\\n")


def _write_rows(
    trie: Trie, stream: IO[str], n: int, start: int, stop: int, vocab: list[str]
) -> None:
    level = trie.levels[n - 1]
    rows = trie.rows(n, start, stop)
    probs = level.log_probs(slice(start, stop)).astype(np.float64) / LN10
    if n == 1:  # <s> is never predicted; by custom its line says so
        probs[[i for i, word in enumerate(vocab[start:stop]) if word == BOS]] = -99
    texts = [" ".join([vocab[i] for i in row]) for row in rows.tolist()]
    if n == trie.order:
        lines = [f"{p:.7g}\t{text}\n" for p, text in zip(probs.tolist(), texts, strict=True)]
    else:
        weights = level.log_backoffs(slice(start, stop)).astype(np.float64) / LN10
        # a node without children has no weight to write
        children = np.diff(level.first[start : stop + 1]) > 0
        lines = [
            f"{p:.7g}\t{text}\t{w:.7g}\n" if has or w else f"{p:.7g}\t{text}\n"
            for p, text, w, has in zip(
                probs.tolist(), texts, weights.tolist(), children.tolist(), strict=True
            )
        ]
    stream.writelines(lines)
