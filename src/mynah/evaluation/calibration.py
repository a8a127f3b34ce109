"""Whether confidences are probabilities, and a map that makes them such.

A recogniser that says 0.8 of many words should be right of eight in ten of them. How far it is from
that is seen in a reliability table (Niculescu-Mizil and Caruana, "Predicting good probabilities
with supervised learning", ICML 2005) and summed up in the expected calibration error (Guo et al.,
"On calibration of modern neural networks", ICML 2017); how much it knows at all, in the normalised
cross entropy of the NIST evaluations: 0 for the share of right words as the confidence of every
word, 1 for certainty that is always right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.errors import InputError
from mynah.evaluation.alignment import align
from mynah.evaluation.error_rate import split_tokens, unit_of
from mynah.text import normalize_for_scoring

_LEAST = 1e-6  # a probability is at least so far from 0 and 1
_STEPS = 100


@dataclass(frozen=True)
class Bin:
    """Words of like confidence: their number, mean confidence, and the share that is right."""

    count: int
    confidence: float
    right: float


def right_words(words: Sequence[str], reference: str, language: str = "en") -> list[bool]:
    """Which of the recognised ``words`` are right, by the alignment with the fewest edits.

    A word counts as right when all that is scored of it is in the reference at its place.
    """
    unit = unit_of(language)

    def tokens(text: str) -> list[str]:
        return split_tokens(normalize_for_scoring(text, language), unit)

    parts = [tokens(word) for word in words]
    owners = [number for number, part in enumerate(parts) for _ in part]
    right = [bool(part) for part in parts]
    place = 0
    for pair in align(tokens(reference), [token for part in parts for token in part]):
        if pair.hyp is not None:
            right[owners[place]] &= pair.kind == "="
            place += 1
    return right


def reliability(confidences: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10) -> list[Bin]:
    """Words (N,) in ``bins`` of equal width; bins without words are left out."""
    values, truth = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    places = np.minimum((values * bins).astype(np.int64), bins - 1)
    return [
        Bin(int(inside.sum()), float(values[inside].mean()), float(truth[inside].mean()))
        for inside in (places == number for number in range(bins))
        if inside.any()
    ]


def calibration_error(confidences: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10) -> float:
    """The expected calibration error, 0 to 1: how far bins are from their words, on average."""
    table = reliability(confidences, right, bins)
    total = sum(item.count for item in table)
    return sum(item.count * abs(item.confidence - item.right) for item in table) / max(total, 1)


def normalized_cross_entropy(confidences: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """At most 1; below 0 where the share of right words alone would say more."""
    truth = np.asarray(right, np.float64)
    share = float(np.clip(truth.mean(), _LEAST, 1 - _LEAST))
    most = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    return float((most - log_loss(confidences, right)) / most)


def log_loss(confidences: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """The mean of what each word costs, in nats: -log of the probability given to what is so."""
    values = np.clip(np.asarray(confidences, np.float64), _LEAST, 1 - _LEAST)
    truth = np.asarray(right, np.float64)
    return float(-(truth * np.log(values) + (1 - truth) * np.log(1 - values)).mean())


def fit_logistic(
    facts: npt.ArrayLike, right: npt.ArrayLike, *, rising: Sequence[int] = (), penalty: float = 1.0
) -> tuple[list[float], float]:
    """Weights (F,) and bias of the logistic map from ``facts`` (N, F) to what is ``right`` (N,).

    Facts are scaled to unit variance, and ``penalty`` weighs the squared weights there; Newton's
    method. The columns ``rising`` get no negative weight: one that would is left out.

    Raises:
        InputError: no words, or all are right or all wrong.
    """
    given, truth = np.asarray(facts, np.float64), np.asarray(right, np.float64)
    if len(truth) == 0 or truth.min() == truth.max():
        raise InputError(
            f"confidence cannot be fitted: of {len(truth)} words {int(truth.sum())} are right"
        )
    mean, scale = given.mean(axis=0), np.maximum(given.std(axis=0), 1e-9)
    columns = list(range(given.shape[1]))
    while True:
        inputs = np.column_stack([(given - mean) / scale, np.ones(len(given))])
        inputs = inputs[:, [*columns, given.shape[1]]]
        found = _newton(inputs, truth, penalty)
        falling = [c for c, weight in zip(columns, found[:-1], strict=True) if weight < 0]
        falling = [column for column in falling if column in rising]
        if not falling:
            break
        columns = [column for column in columns if column not in falling]
    weights = np.zeros(given.shape[1])
    weights[columns] = found[:-1] / scale[columns]
    return weights.tolist(), float(found[-1] - weights @ mean)


def _newton(
    inputs: npt.NDArray[np.float64], truth: npt.NDArray[np.float64], penalty: float
) -> npt.NDArray[np.float64]:
    """Weights of ``inputs`` (N, F + 1), the last of which is the bias and not penalised."""
    ridge = np.diag([*[penalty] * (inputs.shape[1] - 1), 1e-9])
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        guess = 1 / (1 + np.exp(-np.clip(inputs @ weights, -40, 40)))
        slope = inputs.T @ (guess - truth) + ridge @ weights
        curve = (inputs * (guess * (1 - guess))[:, None]).T @ inputs + ridge
        step = np.linalg.solve(curve, slope)
        weights = weights - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return weights
