"""Which language is spoken in a window, by the probabilities of the language tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mynah.runtime.engine import Array
from mynah.runtime.whisper.engine import Heard
from mynah.runtime.whisper.model import WhisperModel

Probabilities = dict[str, float]


def language_probabilities(
    model: WhisperModel, heard: Heard, rows: Sequence[int], allowed: Sequence[str] = ()
) -> list[Probabilities]:
    """The probability of each language in each window (a row of ``heard``), the most probable
    first; of ``allowed`` languages alone, where there are some, which then share it."""
    codes = allowed or model.languages
    tokens = [model.tokenizer.language_token(code) for code in codes]
    sot = np.full((len(rows), 1), model.tokenizer.special.sot, np.int64)
    logits: Array = model.engine.decoder(heard, rows, model.config.dims.n_text_ctx)(sot)
    values = np.asarray(logits[:, tokens], np.float64)
    values = np.exp(values - values.max(axis=1, keepdims=True))
    values /= values.sum(axis=1, keepdims=True)
    found = []
    for row in values:
        order = np.argsort(-row, kind="stable")
        found.append({codes[n]: float(row[n]) for n in order})
    return found


def most_probable(found: Probabilities) -> tuple[str, float]:
    """The most probable language and its probability."""
    return next(iter(found.items()))


def is_sure(found: Probabilities, threshold: float | None) -> bool:
    """Whether the most probable language is probable enough."""
    return threshold is None or most_probable(found)[1] > threshold


def elected(looked_at: Sequence[Probabilities]) -> str:
    """The language of windows of which none was sure: that of the most, and of those with equally
    many the first."""
    votes: dict[str, int] = {}
    for found in looked_at:
        code = most_probable(found)[0]
        votes[code] = votes.get(code, 0) + 1
    return max(votes, key=lambda code: votes[code])
