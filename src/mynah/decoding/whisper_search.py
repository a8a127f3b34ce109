"""Greedy search, sampling and beam search over a Whisper decoder, many windows in one batch.

The hypotheses of all windows are rows of one call of the decoder; a window that has ended takes no
rows. What a window gives does not depend on the others. Scores and choices are those of the
original program (A. Radford et al., arXiv:2212.04356; patience: J. Kasai et al., arXiv:2204.05424).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mynah.decoding.units import Ints
from mynah.decoding.whisper_prediction import Logs, Prediction
from mynah.decoding.whisper_rules import Rules

# tokens (N,), and the rows of the last call that they continue (N,) -> what may follow each
Step: TypeAlias = Callable[[Ints, Ints], Prediction]


@dataclass(frozen=True)
class Text:
    """What was chosen for a window: tokens, and the log-probability of each and, where ``ended``,
    of the end."""

    tokens: tuple[int, ...]
    logs: tuple[float, ...]
    ended: bool

    @property
    def total(self) -> float:
        """The log-probability of all."""
        return float(sum(self.logs))

    @property
    def mean(self) -> float:
        """The log-probability of all, over the tokens and the end."""
        return self.total / (len(self.tokens) + 1)

    def score(self, length_penalty: float | None) -> float:
        """What texts of a window are compared by."""
        length = len(self.tokens)
        if length_penalty is None:
            return self.total / max(length, 1)
        return self.total / float(((5 + length) / 6) ** length_penalty)


def best_text(texts: Sequence[Text], length_penalty: float | None) -> Text:
    """The text with the greatest score; of equal ones the first."""
    return max(texts, key=lambda text: text.score(length_penalty))


@dataclass
class _Rows:
    """Hypotheses that go on: their windows (N,), tokens (N, n) and log-probabilities (N, n)."""

    window: Ints
    said: Ints
    logs: Logs

    def grown(self, rows: Ints, tokens: Ints, logs: Logs) -> _Rows:
        """``rows`` of these, each with one more token."""
        return _Rows(
            self.window[rows],
            np.concatenate([self.said[rows], tokens[:, None]], axis=1),
            np.concatenate([self.logs[rows], logs[:, None]], axis=1),
        )

    def text(self, row: int, begun: int, end: float | None = None) -> Text:
        """What a row has said beyond what was given, with the log-probability of its end."""
        logs = tuple(self.logs[row].tolist())
        tokens = tuple(self.said[row, begun:].tolist())
        return Text(tokens, logs if end is None else (*logs, end), end is not None)


def _begin(given: Ints, copies: int) -> _Rows:
    window = np.repeat(np.arange(len(given)), copies)
    return _Rows(window, given[window], np.zeros((len(window), 0)))


def sample(
    first: Prediction,
    step: Step,
    rules: Rules,
    given: Ints,
    *,
    limit: int,
    temperature: float = 0.0,
    count: int = 1,
    seeds: Sequence[Sequence[int]] = (),
) -> list[list[Text]]:
    """``count`` texts of each window, of the most probable tokens or sampled at a temperature.

    ``first`` is what may follow the W prompts, whose last tokens ``given`` (W, g) count as said; a
    text has at most ``limit`` tokens. ``seeds`` has a window's numbers: equal ones give
    equal samples.
    """
    rows, begun = _begin(given, count), given.shape[1]
    found: list[list[Text]] = [[] for _ in given]
    draws = [np.random.default_rng(list(seed)) for seed in seeds]
    slots = np.tile(np.arange(count), len(given))  # of the rows in their windows
    prediction = first.of(rows.window)
    texts: dict[tuple[int, int], Text] = {}
    for number in range(limit):
        if temperature == 0:
            best, gained = prediction.best(rules, rows.said, begun, 1)
            tokens, logs = best[:, 0], gained[:, 0]
        else:
            uniform = np.array([d.random(count) for d in draws])[rows.window, slots]
            tokens, logs = prediction.drawn(rules, rows.said, begun, temperature, uniform)
        ends = tokens == rules.eot
        for row in np.flatnonzero(ends).tolist():
            texts[int(rows.window[row]), int(slots[row])] = rows.text(row, begun, float(logs[row]))
        kept = np.flatnonzero(~ends)
        rows, slots = rows.grown(kept, tokens[kept], logs[kept]), slots[kept]
        if len(kept) == 0 or number + 1 == limit:
            break
        prediction = step(tokens[kept], rows.window if number == 0 else kept)
    for n, (window, slot) in enumerate(zip(rows.window.tolist(), slots.tolist(), strict=True)):
        texts[window, slot] = rows.text(n, begun)
    for window, slot in sorted(texts):
        found[window].append(texts[window, slot])
    return found


def beam_search(
    first: Prediction,
    step: Step,
    rules: Rules,
    given: Ints,
    *,
    limit: int,
    beam: int,
    patience: float = 1.0,
) -> list[list[Text]]:
    """The finished texts of each window, ``round(beam * patience)`` where they come, in the order
    in which they ended; those that were still going on fill them up to ``beam``.

    The arguments are those of :func:`sample`.
    """
    wanted = round(beam * patience)
    rows, begun = _begin(given, 1), given.shape[1]
    sums = np.zeros(len(given))
    found: list[list[Text]] = [[] for _ in given]
    prediction = first
    for number in range(limit):
        tokens, logs = prediction.best(rules, rows.said, begun, beam + 1)
        kept = _kept(rows, sums[:, None] + logs, tokens, logs, rules.eot, begun, beam, found)
        kept = [one for one in kept if len(found[rows.window[one[0]]]) < wanted]
        for texts in found:
            del texts[wanted:]
        if not kept:
            return found
        parents = np.array([row for row, _ in kept])
        places = np.array([place for _, place in kept])
        chosen, gained = tokens[parents, places], logs[parents, places]
        sums = sums[parents] + gained
        rows = rows.grown(parents, chosen, gained)
        if number + 1 < limit:
            prediction = step(chosen, parents)
    for row in np.argsort(-sums, kind="stable").tolist():
        texts = found[rows.window[row]]
        if len(texts) < beam:
            texts.append(rows.text(row, begun))
    return found


def _kept(
    rows: _Rows,
    scores: Logs,
    tokens: Ints,
    logs: Logs,
    eot: int,
    begun: int,
    beam: int,
    found: list[list[Text]],
) -> list[tuple[int, int]]:
    """Row and place of the candidates (N, K) that go on, ``beam`` a window, best first; those
    that end before them are added to ``found``."""
    kept: list[tuple[int, int]] = []
    width = scores.shape[1]
    starts = np.flatnonzero(np.diff(rows.window, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(rows.window)], strict=True):
        flat = scores[start:stop].reshape(-1)
        saved = 0
        for place in np.argsort(-flat, kind="stable").tolist():
            if flat[place] == -np.inf:
                break
            row, column = start + place // width, place % width
            if tokens[row, column] == eot:
                text = rows.text(row, begun, float(logs[row, column]))
                found[rows.window[row]].append(text)
                continue
            kept.append((row, column))
            saved += 1
            if saved == beam:
                break
    return kept
