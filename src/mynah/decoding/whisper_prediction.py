"""What a Whisper decoder predicts, and the tokens that a search takes of it.

An engine that computes on a device of its own answers there, and sends what was asked for alone.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.decoding.units import Floats, Ints, best_units
from mynah.decoding.whisper_rules import Rules, log_sums
from mynah.errors import ModelError

Logs: TypeAlias = npt.NDArray[np.float64]

_SHARED = 8  # rows from which on threads gain more than they cost


class Prediction(Protocol):
    """Predicts the next token of N hypotheses.

    It is used before the decoder's next step, and asked for tokens at most once.
    """

    def of(self, rows: Ints) -> Prediction:
        """That of ``rows`` of the hypotheses, some perhaps several times."""
        ...

    def probability(self, token: int) -> list[float]:
        """The probability of a token in each row, whatever the rules."""
        ...

    def best(self, rules: Rules, said: Ints, begun: int, count: int) -> tuple[Ints, Logs]:
        """The ``count`` most probable tokens that may follow ``said`` (N, n), of which ``begun``
        were given: tokens (N, K), best first and of equal ones the smaller first, and their
        log-probabilities (N, K), with K at most the vocabulary.

        Raises:
            ModelError: what was predicted are no numbers.
        """
        ...

    def drawn(
        self, rules: Rules, said: Ints, begun: int, temperature: float, uniform: Logs
    ) -> tuple[Ints, Logs]:
        """A token of each row, by the probabilities at a temperature and a number in [0, 1) of
        ``uniform`` (N,): tokens (N,) and their log-probabilities (N,), without temperature.

        Raises:
            ModelError: what was predicted are no numbers.
        """
        ...


class Helpers:
    """Threads that take a part of the rows each, beside the thread that asks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pool = ThreadPoolExecutor(count, "mynah-tokens")  # which starts them when needed


class HostPrediction:
    """A prediction whose logits (N, V) are an array, which is overwritten; many rows are shared
    with the threads of ``helpers``."""

    def __init__(self, logits: Floats, helpers: Helpers | None = None) -> None:
        self._logits = logits if logits.flags.writeable else logits.copy()
        self._helpers = helpers

    def of(self, rows: Ints) -> HostPrediction:
        """See :meth:`Prediction.of`."""
        return HostPrediction(self._logits[rows], self._helpers)

    def probability(self, token: int) -> list[float]:
        """See :meth:`Prediction.probability`."""
        values = np.asarray(self._logits, np.float64)
        values = np.exp(values - values.max(axis=1, keepdims=True))
        return [float(p) for p in values[:, token] / values.sum(axis=1)]

    def best(self, rules: Rules, said: Ints, begun: int, count: int) -> tuple[Ints, Logs]:
        """See :meth:`Prediction.best`."""
        rows, helpers = len(self._logits), self._helpers
        if helpers is None or rows < _SHARED:
            return _best(self._logits, rules, said, begun, count)
        ends = [rows * i // (helpers.count + 1) for i in range(helpers.count + 2)]
        parts = [slice(*pair) for pair in itertools.pairwise(ends)]

        def work(part: slice) -> tuple[Ints, Logs]:
            return _best(self._logits[part], rules, said[part], begun, count)

        others = [helpers.pool.submit(work, part) for part in parts[1:]]
        try:
            found = [work(parts[0]), *(other.result() for other in others)]
        except ModelError:
            wait(others)
            refuse_nan(log_sums(self._logits).astype(np.float64))  # by the number of the row in all
            raise
        tokens, logs = zip(*found, strict=True)
        return np.concatenate(tokens), np.concatenate(logs)

    def drawn(
        self, rules: Rules, said: Ints, begun: int, temperature: float, uniform: Logs
    ) -> tuple[Ints, Logs]:
        """See :meth:`Prediction.drawn`."""
        logits = self._logits
        rules.apply(logits, said, begun)
        totals = log_totals(logits)
        tokens = np.empty(len(logits), np.int64)
        for row, (values, place) in enumerate(zip(logits, uniform.tolist(), strict=True)):
            scaled = values / np.float32(temperature)
            masses = np.exp(scaled - scaled.max(), dtype=np.float64).cumsum()
            tokens[row] = np.searchsorted(masses, place * masses[-1], side="right")
        return tokens, logits[np.arange(len(tokens)), tokens] - totals


def _best(logits: Floats, rules: Rules, said: Ints, begun: int, count: int) -> tuple[Ints, Logs]:
    rules.apply(logits, said, begun)
    if count == 1:
        tokens: Ints = logits.argmax(axis=1)[:, None]
        values = np.take_along_axis(logits, tokens, axis=1)
    else:
        tokens, values = best_units(logits, count)
    return tokens, values - log_totals(logits, values[:, 0])[:, None]


def log_totals(logits: Floats, best: Floats | None = None) -> Logs:
    """What to take from the logits (N, V) of a row to make log-probabilities, (N,); ``best`` (N,)
    are the greatest, where they are known.

    Raises:
        ModelError: they are no numbers.
    """
    totals = log_sums(logits, best).astype(np.float64)
    refuse_nan(totals)
    return totals


def refuse_nan(totals: Logs) -> None:
    """
    Raises:
        ModelError: a total of :func:`log_totals` is no number, so its logits were none.
    """
    broken = ~(totals < np.inf)
    if broken.any():
        raise ModelError(f"the logits of hypothesis {int(broken.argmax())} are not numbers")
