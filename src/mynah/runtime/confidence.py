"""From the probabilities of a word's units to the probability that the word is right.

A recogniser is surer of itself than it should be, or less sure. A logistic map of a few facts about
the word's units, fitted on recordings that the model did not learn from (``mynah calibrate``),
makes its confidence a probability: of the words with 0.8, eight in ten are right (Platt,
"Probabilistic outputs for support vector machines", 1999).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mynah.config import build
from mynah.errors import ConfigError, ModelError

# what is known of a word, in the order of the weights
FACTS = ("log_mean", "log_least", "log_units", "log_frames")
_LEAST = 1e-30  # stands for a probability of 0


@dataclass(frozen=True)
class Calibration:
    """The map: 1 / (1 + exp(-(bias + weights · facts))).

    Attributes:
        weights: one for each of :data:`FACTS`; those of the two probabilities are not negative, so
            that a surer unit never makes a word less sure.
        bias: added to them.
        words: how many words it was fitted on, and ``data`` where they come from.
    """

    weights: tuple[float, float, float, float]
    bias: float
    words: int = 0
    data: str = ""

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.weights, self.bias))):
            raise ConfigError("weights, bias: not finite numbers")

    def __call__(self, facts: Sequence[float]) -> float:
        """The probability that a word of these ``facts`` is right."""
        total = self.bias + sum(w * f for w, f in zip(self.weights, facts, strict=True))
        return 1 / (1 + math.exp(-total)) if total > -700 else 0.0


def read_calibration(values: Mapping[str, Any], where: str) -> Calibration | None:
    """The table ``[confidence]`` of a model; ``None`` where it is empty.

    Raises:
        ModelError: it is malformed; ``where`` names the model.
    """
    if not values:
        return None
    try:
        return build(Calibration, values, "confidence")
    except ConfigError as error:
        raise ModelError(f"{where}: {error}") from None


def word_facts(probabilities: Sequence[float], frames: int) -> tuple[float, float, float, float]:
    """The :data:`FACTS` of a word: units of these ``probabilities``, heard over ``frames``."""
    logs = [math.log(max(p, _LEAST)) for p in probabilities]
    mean, count = sum(logs) / len(logs), math.log(len(logs))
    return mean, min(logs), count, math.log(max(frames, 1)) - count
