"""Which language is spoken in a window, by the probabilities of the language tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mynah.runtime.engine import Array
from mynah.runtime.whisper.engine import Heard
from mynah.runtime.whisper.model import WhisperModel
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.recording import WINDOW, Recording, short_context
from mynah.runtime.whisper.regions import Stretch, Told

Probabilities = dict[str, float]

_TOLD = 50  # frames of a stretch of speech from which on it is told its language
_SURE = 0.8  # how probable that has to be; it is asked again when it is heard


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


def stretch_language(model: WhisperModel, options: WhisperOptions) -> Told:
    """Says which of the languages that ``options`` allow a stretch of speech is in, by a look at it
    in a short context."""

    def tell(recording: Recording, stretch: Stretch) -> str | None:
        size = min(stretch[1] - stretch[0], WINDOW)
        if size < _TOLD:
            return None
        mels = recording.window(stretch[0], size, short_context(size))
        heard = model.engine.encode(mels[None])
        (found,) = language_probabilities(model, heard, [0], options.languages)
        return most_probable(found)[0] if is_sure(found, _SURE) else None

    return tell


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
