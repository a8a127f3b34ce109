"""Beam search over a decoder that predicts one token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.scorer import Scorer, add_up
from mynah.decoding.units import Floats, Ints, best_units
from mynah.errors import ConfigError

# tokens (N,), parents (N,) -> log-probabilities (N, V) of what follows.
Step: TypeAlias = Callable[[Ints, Ints], Floats]


@dataclass(frozen=True, slots=True)
class _Path:
    tokens: tuple[int, ...]
    logs: tuple[float, ...]  # of each token, then of <eos> if it has come
    score: float  # of the decoder and the scorers
    ended: bool
    row: int  # of the last call of step
    state: Hashable = None  # of the scorers
    added: float = 0.0  # by them


class _Grown(NamedTuple):
    """A path and one more unit: scored first, and made only if it stays. An ended path competes as
    it is."""

    score: float
    path: _Path
    unit: int
    log: float
    row: int
    state: Hashable = None
    added: float = 0.0


def attention_beam_search(
    step: Step,
    *,
    sos: int,
    eos: int,
    max_len: int,
    beam: int = 10,
    length_penalty: float = 0.0,
    scorers: Sequence[Scorer] = (),
    top_units: int | None = None,
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

    ``scorers`` (language models, hotwords) add to each of the ``top_units`` best tokens of the
    decoder after a sequence, twice the beam by default, and at its end; ``Hypothesis.added`` is
    their part of the score. Confidences are the decoder's alone.

    Raises:
        ConfigError: ``beam`` or ``top_units`` is under 1.
    """
    for name, value in (("beam", beam), ("top_units", top_units)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: {value} is not 1 or more")
    scorer = add_up(scorers) if scorers else None
    count = beam if scorer is None else (top_units or 2 * beam)
    paths = [_Path((), (), 0.0, False, 0, None if scorer is None else scorer.start())]
    last = [sos]
    for _ in range(max_len):
        running = [path for path in paths if not path.ended]
        if not running:
            break
        log_probs = step(
            np.array(last, dtype=np.int64), np.array([path.row for path in running], dtype=np.int64)
        )
        units, values = best_units(log_probs, count)
        grown = [_Grown(path.score, path, eos, 0.0, 0) for path in paths if path.ended]
        for row, path in enumerate(running):
            grown += _grow(path, row, units[row].tolist(), values[row].tolist(), scorer, eos)
        grown.sort(key=lambda candidate: candidate.score, reverse=True)
        paths = [_take(candidate, eos) for candidate in grown[:beam] if candidate[0] > -math.inf]
        last = [path.tokens[-1] for path in paths if not path.ended]
    if scorer is not None:
        paths = [path if path.ended else _finished(path, scorer) for path in paths]
    return sorted(
        (_hypothesis(path, length_penalty) for path in paths),
        key=lambda hypothesis: hypothesis.score,
        reverse=True,
    )


def _grow(
    path: _Path,
    row: int,
    units: list[int],
    logs: list[float],
    scorer: Scorer | None,
    eos: int,
) -> list[_Grown]:
    """A path, the ``row`` of the last step, longer by each of ``units``."""
    if scorer is None:
        pairs = zip(units, logs, strict=True)
        return [_Grown(path.score + log, path, unit, log, row) for unit, log in pairs]
    grown = []
    for unit, log in zip(units, logs, strict=True):
        state, added = path.state, 0.0
        if unit == eos:
            added = scorer.finish(state)
        elif log > -math.inf:
            state, added = scorer.extend(state, unit)
        grown.append(_Grown(path.score + log + added, path, unit, log, row, state, added))
    return grown


def _take(grown: _Grown, eos: int) -> _Path:
    score, path, unit, log, row, state, added = grown
    if path.ended:
        return path
    tokens = path.tokens if unit == eos else (*path.tokens, unit)
    return _Path(tokens, (*path.logs, log), score, unit == eos, row, state, path.added + added)


def _finished(path: _Path, scorer: Scorer) -> _Path:
    """``path``, cut at the greatest length, with what its end adds."""
    more = scorer.finish(path.state)
    return replace(path, score=path.score + more, added=path.added + more)


def _hypothesis(path: _Path, length_penalty: float) -> Hypothesis:
    length = len(path.tokens)
    share = 1.0  # of the sum in the score
    if length_penalty != 0 and length:
        share = 1 / length**length_penalty
    score = path.score * share
    if length_penalty != 0 and not length:
        score = -math.inf if length_penalty > 0 else 0.0
    heard = path.score - path.added  # what the decoder says
    return Hypothesis(
        tokens=path.tokens,
        score=score,
        confidence=min(1.0, math.exp(heard / max(1, len(path.logs)))),
        token_confidences=tuple(min(1.0, math.exp(log)) for log in path.logs[:length]),
        added=path.added * share,
    )
