"""Texts: tokenizers, and the form that error rates are computed on.

A module of this room loads without the others: the names below are imported when they are first
used.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as in the package itself
if TYPE_CHECKING:
    from typing import Any

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

_LAZY = {
    "Tokenizer": "mynah.text.tokenizer",
    "TokenizerConfig": "mynah.text.tokenizer",
    "UnitTokenizer": "mynah.text.tokenizer",
    "load_tokenizer": "mynah.text.build",
    "wenet_tokenizer": "mynah.text.build",
    "char_tokenizer": "mynah.text.build",
    "train_bpe": "mynah.text.build",
    "normalize_for_scoring": "mynah.text.scoring",
    "SentencePieceModel": "mynah.text.sentencepiece_model",
    "read_sentencepiece": "mynah.text.sentencepiece_model",
    "read_units": "mynah.text.tokenizer",
    "write_units": "mynah.text.tokenizer",
}

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


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mynah.text' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
