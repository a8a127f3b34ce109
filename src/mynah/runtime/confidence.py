"""From what is known of a recognised word to the probability that it is right.

A recogniser is surer of itself than it should be, or less sure. A logistic map of a few facts about
the word, fitted on recordings that the model did not learn from (``mynah evaluate --calibrate``),
makes its confidence a probability: of the words with 0.8, eight in ten are right (Platt,
"Probabilistic outputs for support vector machines", 1999). What the units' probabilities say alone
does not carry over to other speech; what the search knows does: how far behind the best hypothesis
without the word is, and how probable the language model takes it to be (Wessel, Schlueter, Macherey
and Ney, "Confidence measures for large vocabulary continuous speech recognition", 2001).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mynah.config import build
from mynah.decoding import Hypothesis
from mynah.decoding.lexicon_scores import WordModel
from mynah.errors import ConfigError, ModelError, nearest

# What may be known of a word: mean and least log-probability of its units, logarithms of their
# number and of the frames a unit, the logit of their geometric mean, the mean log-probability of
# all units of the segment; and where the search finds words: its score above that of the best
# hypothesis that has not the word there, and the natural logarithm of the language model.
FACTS = ("log_mean", "log_least", "log_units", "log_frames", "logit", "utterance", "margin", "lm")
ALWAYS = FACTS[:6]  # what is known of every word
_LEAST = 1e-30  # stands for a probability of 0
_SURE = 1e-6  # a probability is at least so far from 0 and 1, for its logit
MOST = 10.0  # a margin is not told from one so large
NEAR = 8  # encoder frames, within which the same word of two hypotheses is the same

Facts: TypeAlias = tuple[float | None, ...]  # in the order of FACTS; None: not known
Evidence: TypeAlias = tuple[float, float | None]  # margin and language model of a word


@dataclass(frozen=True)
class Calibration:
    """The map: 1 / (1 + exp(-(bias + weights · facts))).

    Attributes:
        weights: one for each of ``facts``; those of probabilities and scores are not negative, so
            that a surer unit never makes a word less sure.
        bias: added to them.
        words: how many words it was fitted on, and ``data`` where they come from.
        facts: the names, of :data:`FACTS`, of those that it takes.
        otherwise: the map of words of which not all those are known.

    Raises:
        ConfigError: numbers that are not finite, unknown facts, or not as many weights as facts.
    """

    weights: tuple[float, ...]
    bias: float
    words: int = 0
    data: str = ""
    facts: tuple[str, ...] = FACTS[:4]
    otherwise: Calibration | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.weights, self.bias))):
            raise ConfigError("weights, bias: not finite numbers")
        for name in self.facts:
            if name not in FACTS:
                raise ConfigError(f"confidence.facts: unknown {name!r}{nearest(name, FACTS)}")
        if len(self.weights) != len(self.facts):
            raise ConfigError(
                f"confidence.weights: expected {len(self.facts)}, got {len(self.weights)}"
            )

    def __call__(self, facts: Sequence[float | None]) -> float | None:
        """The probability that a word of these ``facts`` is right; ``None`` where it takes some
        that are not known."""
        known = dict(zip(FACTS, facts, strict=False))
        total = self.bias
        for name, weight in zip(self.facts, self.weights, strict=True):
            value = known.get(name)
            if value is None:
                return None if self.otherwise is None else self.otherwise(facts)
            total += weight * value
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


def word_facts(
    probabilities: Sequence[float],
    frames: int,
    utterance: float | None = None,
    evidence: Evidence | None = None,
) -> Facts:
    """The :data:`FACTS` of a word: units of these ``probabilities``, heard over ``frames``, in a
    segment whose units have the mean log-probability ``utterance``."""
    logs = [math.log(max(p, _LEAST)) for p in probabilities]
    mean, count = sum(logs) / len(logs), math.log(len(logs))
    share = min(max(math.exp(mean), _SURE), 1 - _SURE)
    rate, logit = math.log(max(frames, 1)) - count, math.log(share / (1 - share))
    return mean, min(logs), count, rate, logit, utterance, *(evidence or (None, None))


def mean_log(probabilities: Sequence[float | None]) -> float | None:
    """The mean log-probability of units; ``None`` where one is not known, or there are none."""
    logs = [math.log(max(p, _LEAST)) for p in probabilities if p is not None]
    return sum(logs) / len(logs) if logs and len(logs) == len(probabilities) else None


def find_evidence(
    best: Hypothesis, nbest: Sequence[Hypothesis], model: WordModel | None
) -> tuple[Evidence, ...]:
    """What the search knows of the words of ``best``, one of ``nbest``; ``model`` is the language
    model. Empty for a search that does not find words."""
    if not best.words or len(best.times) != len(best.tokens):
        return ()
    same = (best.words, best.times)
    score = next((h.score for h in nbest if (h.words, h.times) == same), best.score)
    others = [
        other
        for other in nbest
        if (other.words, other.times) != same and len(other.times) == len(other.tokens)
    ]
    places: dict[str, list[tuple[int, int]]] = {text: [] for text, _, _ in best.words}
    for number, other in enumerate(others):  # which of them say a word, and at which frame
        for text, first, _ in other.words:
            if text in places:
                places[text].append((number, other.times[first]))
    found: list[Evidence] = []
    state = None if model is None else model.start()
    for text, first, _ in best.words:
        natural: float | None = None
        if model is not None:
            state, natural = model.score(state, model.word_id(text))
        time = best.times[first]
        having = {number for number, at in places[text] if abs(at - time) < NEAR}
        without = [other.score for number, other in enumerate(others) if number not in having]
        margin = score - max(without) if without else MOST
        found.append((min(max(margin, -MOST), MOST), natural))
    return tuple(found)
