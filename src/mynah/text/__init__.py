"""Texts: tokenizers, and the form that error rates are computed on."""

from __future__ import annotations

from mynah.text.build import char_tokenizer, load_tokenizer, train_bpe, wenet_tokenizer
from mynah.text.scoring import normalize_for_scoring
from mynah.text.sentencepiece_model import SentencePieceModel, read_sentencepiece
from mynah.text.tokenizer import (
    Tokenizer,
    TokenizerConfig,
    UnitTokenizer,
    read_units,
    write_units,
)

__all__ = [
    "Tokenizer",
    "TokenizerConfig",
    "UnitTokenizer",
    "load_tokenizer",
    "wenet_tokenizer",
    "char_tokenizer",
    "train_bpe",
    "normalize_for_scoring",
    "SentencePieceModel",
    "read_sentencepiece",
    "read_units",
    "write_units",
]
