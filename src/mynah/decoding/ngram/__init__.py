"""Back-off n-gram language models: estimation, pruning, files, and scoring.

numpy only. A model is an :class:`NgramModel`; its n-grams are a :class:`Trie`.
"""

from __future__ import annotations

from mynah.decoding.ngram.files import load_ngram, load_trie, save_ngram
from mynah.decoding.ngram.levels import Trie
from mynah.decoding.ngram.model import NgramModel, State, Successors

__all__ = ["NgramModel", "State", "Successors", "Trie", "load_ngram", "load_trie", "save_ngram"]
