"""Language model files: which kind one is, loading, and saving."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO

from mynah.decoding.ngram.arpa import read_arpa, write_arpa
from mynah.decoding.ngram.binary import is_binary, read_binary, write_binary
from mynah.decoding.ngram.levels import Trie
from mynah.decoding.ngram.model import NgramModel
from mynah.errors import ModelError
from mynah.whole import whole_file

SUFFIX = ".ngram"


def load_ngram(path: str | Path) -> NgramModel:
    """The model of an ARPA file (``.gz`` too) or of our binary format.

    Raises:
        ModelError: it is damaged, or neither.
        OSError: it cannot be read.
    """
    trie = load_trie(path)
    try:
        return NgramModel(trie)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def load_trie(path: str | Path) -> Trie:
    """The n-grams of a file; see :func:`load_ngram`."""
    return read_binary(path) if is_binary(path) else read_arpa(path)


def save_ngram(trie: Trie, path: str | Path, *, bits: int = 8, compact: bool = True) -> None:
    """Write a model, whole or not at all: our binary format when ``path`` ends in ``.ngram``,
    else ARPA, through gzip when it ends in ``.gz``.

    Args:
        trie: the model.
        path: where to; folders are made.
        bits: of a probability in the binary format, 2 to 8; 32 keeps float32.
        compact: the smallest binary file; else one that is mapped into memory.

    Raises:
        ConfigError: there is no such number of bits.
        InputError: it cannot be written.
    """
    with whole_file(path) as stream:
        if Path(path).suffix == SUFFIX:
            write_binary(trie, stream, bits=bits, compact=compact)
            return
        if Path(path).suffix != ".gz":
            _write_text(trie, stream)
            return
        # no name or time inside: the same model, the same file
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as zipped:
            _write_text(trie, zipped)


def _write_text(trie: Trie, stream: IO[bytes] | gzip.GzipFile) -> None:
    text = io.TextIOWrapper(stream, "utf-8", newline="\n")
    write_arpa(trie, text)
    text.flush()
    text.detach()
