"""Language model files: which kind one is, and loading it."""

from __future__ import annotations

from pathlib import Path

from mynah.decoding.ngram.arpa import read_arpa
from mynah.decoding.ngram.levels import Trie
from mynah.decoding.ngram.model import NgramModel


def load_ngram(path: str | Path) -> NgramModel:
    """The model of an ARPA file (``.gz`` too) or of our binary format.

    Raises:
        ModelError: it is damaged, or neither.
        OSError: it cannot be read.
    """
    return NgramModel(load_trie(path))


def load_trie(path: str | Path) -> Trie:
    """The n-grams of a file; see :func:`load_ngram`."""
    return read_arpa(path)
