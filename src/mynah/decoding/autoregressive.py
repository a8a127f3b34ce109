"""Beam search over a decoder that predicts one token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.units import Floats, Ints, best_units
from mynah.errors import ConfigError

# tokens (N,), parents (N,) -> log-probabilities (N, V) of what follows.
Step: TypeAlias = Callable[[Ints, Ints], Floats]


@dataclass(frozen=True, slots=True)
class _Path:
    tokens: tuple[int, ...]
    logs: tuple[float, ...]  # of each token, then of <eos> if it has come
    score: float
    ended: bool
    row: int  # of the last call of step


def attention_beam_search(
    step: Step,
    *,
    sos: int,
    eos: int,
    max_len: int,
    beam: int = 10,
    length_penalty: float = 0.0,
) -> list[Hypothesis]:
    """The ``beam`` best sequences of a decoder, best first.

    ``step(tokens, parents)`` extends N sequences by one token each and gives the log-probabilities
    (N, V) of what comes next; ``parents`` are the rows of the previous call that they continue,
    so that the cache behind ``step`` can follow. N is 1 at first (``sos``, parent 0) and at most
    ``beam``: sequences that ended are not stepped again, and keep their place and score in the
    beam. The search ends when all have ended or hold ``max_len`` tokens.

    A score is the sum of the log-probabilities, ``<eos>`` included, divided by
    length ** length_penalty at the end (length without ``<eos>``; an empty sequence comes last
    when the penalty is above 0). The confidence is the geometric mean of the probabilities.

    Raises:
        ConfigError: ``beam`` is under 1.
    """
    if beam < 1:
        raise ConfigError(f"beam: {beam} is not 1 or more")
    paths = [_Path((), (), 0.0, False, 0)]
    last = [sos]
    for _ in range(max_len):
        running = [path for path in paths if not path.ended]
        if not running:
            break
        log_probs = step(
            np.array(last, dtype=np.int64), np.array([path.row for path in running], dtype=np.int64)
        )
        units, values = best_units(log_probs, beam)
        # Score first and build only what stays; an ended sequence competes as it is.
        grown = [(path.score, path, eos, 0.0, 0) for path in paths if path.ended]
        for row, path in enumerate(running):
            for unit, log in zip(units[row].tolist(), values[row].tolist(), strict=True):
                grown.append((path.score + log, path, unit, log, row))
        grown.sort(key=lambda candidate: candidate[0], reverse=True)
        paths = [_grow(*candidate, eos) for candidate in grown[:beam] if candidate[0] > -math.inf]
        last = [path.tokens[-1] for path in paths if not path.ended]
    return sorted(
        (_hypothesis(path, length_penalty) for path in paths),
        key=lambda hypothesis: hypothesis.score,
        reverse=True,
    )


def _grow(score: float, path: _Path, unit: int, log: float, row: int, eos: int) -> _Path:
    if path.ended:
        return path
    tokens = path.tokens if unit == eos else (*path.tokens, unit)
    return _Path(tokens, (*path.logs, log), score, unit == eos, row)


def _hypothesis(path: _Path, length_penalty: float) -> Hypothesis:
    length = len(path.tokens)
    if length_penalty == 0:
        score = path.score
    elif length == 0:
        score = -math.inf if length_penalty > 0 else 0.0
    else:
        score = path.score / length**length_penalty
    return Hypothesis(
        tokens=path.tokens,
        score=score,
        confidence=min(1.0, math.exp(path.score / max(1, len(path.logs)))),
        token_confidences=tuple(min(1.0, math.exp(log)) for log in path.logs[:length]),
    )
