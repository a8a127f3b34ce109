"""A second look at an n-best: attention decoders or a language model score it whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.scorer import Scorer, add_up, score_tokens
from mynah.decoding.units import Floats


def rescore(
    nbest: Sequence[Hypothesis],
    scores: Floats,
    reverse_scores: Floats | None = None,
    *,
    ctc_weight: float,
    reverse_weight: float = 0.0,
) -> list[Hypothesis]:
    """Sort hypotheses by CTC and attention scores together (U2, Zhang et al. 2020).

    ``scores`` (N, U + 1) holds the log-probability of each token and then of ``<eos>``, for each
    of the N hypotheses; ``reverse_scores`` the same for the tokens backwards and ``<eos>``. What
    stands after ``<eos>`` is not looked at.

    The score becomes ctc_weight * CTC + (1 - reverse_weight) * left-to-right + reverse_weight *
    right-to-left; what scorers added to a hypothesis is kept whole. The confidence is the geometric
    mean of the attention probabilities, weighted alike; that of a token the plain mean of what the
    decoders say. ``reverse_scores`` are not looked at when ``reverse_weight`` is 0.

    Raises:
        ValueError: the arrays are too small, or the reverse ones missing.
    """
    use_reverse = reverse_weight > 0
    if use_reverse and reverse_scores is None:
        raise ValueError("reverse_scores: missing, and reverse_weight is above 0")
    rescored = []
    for n, hypothesis in enumerate(nbest):
        length, added = len(hypothesis.tokens), hypothesis.added
        forward = _row(scores, n, length)
        attention = float(forward.sum())
        confidences = np.exp(forward[:length])
        if use_reverse and reverse_scores is not None:
            backward = _row(reverse_scores, n, length)
            attention += reverse_weight * (float(backward.sum()) - attention)
            confidences = (confidences + np.exp(backward[:length][::-1])) / 2
        rescored.append(
            replace(
                hypothesis,
                score=attention + ctc_weight * (hypothesis.score - added) + added,
                confidence=min(1.0, math.exp(attention / (length + 1))),
                token_confidences=tuple(np.minimum(confidences, 1.0).tolist()),
            )
        )
    return sorted(rescored, key=lambda hypothesis: hypothesis.score, reverse=True)


def add_scores(nbest: Sequence[Hypothesis], scorers: Sequence[Scorer]) -> list[Hypothesis]:
    """Sort hypotheses by their scores and what ``scorers`` add to the whole of each: a language
    model after the search rather than within it."""
    if not scorers:
        return list(nbest)
    scorer = add_up(scorers)
    scored = []
    for hypothesis in nbest:
        more = score_tokens(scorer, hypothesis.tokens)
        score, added = hypothesis.score + more, hypothesis.added + more
        scored.append(replace(hypothesis, score=score, added=added))
    return sorted(scored, key=lambda hypothesis: hypothesis.score, reverse=True)


def fewest_errors(
    nbest: Sequence[Hypothesis], scale: float, *, candidates: int = 20
) -> list[Hypothesis]:
    """The hypothesis of which the fewest words should be wrong, and then the others as they were.

    That is the one with the least edit distance in words to all of ``nbest``, each weighed by its
    probability, which is taken to be exp(score / ``scale``) (Stolcke, Koenig and Weintraub,
    "Explicit word error minimization in n-best list rescoring", 1997). It is looked for among the
    first ``candidates``; of equal ones the first is taken.
    """
    if len(nbest) < 3:  # of two the more probable has it
        return list(nbest)
    scores = np.array([hypothesis.score for hypothesis in nbest])
    weights = np.exp((scores - scores.max()) / scale)
    words = [[text for text, _, _ in hypothesis.words] for hypothesis in nbest]
    risks = _distances(words, candidates) @ (weights / weights.sum())
    best = int(np.flatnonzero(risks <= risks.min() + 1e-9)[0])
    return [nbest[best], *nbest[:best], *nbest[best + 1 :]]


def _distances(sentences: Sequence[Sequence[str]], first: int) -> Floats:
    """Edit distances in words of the ``first`` sentences to all N: (min(first, N), N)."""
    numbers: dict[str, int] = {}
    rows = [[numbers.setdefault(word, len(numbers)) for word in words] for words in sentences]
    lens = np.array([len(row) for row in rows])
    longest = int(lens.max())
    all_ = np.full((len(rows), longest), -1)
    for number, row in enumerate(rows):
        all_[number, : len(row)] = row
    places = np.arange(longest + 1)
    found = np.zeros((min(first, len(rows)), len(rows)))
    for number, row in enumerate(rows[:first]):
        costs = np.tile(places, (len(rows), 1))  # of nothing against the first words of each
        for count, word in enumerate(row, 1):
            step = np.minimum(costs[:, 1:] + 1, costs[:, :-1] + (all_ != word))
            costs = np.concatenate([np.full((len(rows), 1), count), step], axis=1)
            # words put in: the least over all places before, as many further as lie between
            costs = np.minimum.accumulate(costs - places, axis=1) + places
        found[number] = costs[np.arange(len(rows)), lens]
    return found


def _row(scores: Floats, n: int, length: int) -> Floats:
    if scores.ndim != 2 or n >= scores.shape[0] or length >= scores.shape[1]:
        raise ValueError(
            f"scores: shape {scores.shape} has no room for hypothesis {n} of {length} tokens"
        )
    return scores[n, : length + 1].astype(np.float64)
