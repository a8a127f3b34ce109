"""Rescoring of an n-best by attention scores."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mynah.decoding import Hypothesis, fewest_errors, rescore
from mynah.evaluation.error_rate import error_rate

NBEST = [
    Hypothesis((5, 6), -1.0, (0, 3)),
    Hypothesis((5,), -1.5, (0,)),
    Hypothesis((), -4.0),
]
# What follows <eos> must not be looked at.
FORWARD = np.log([[0.2, 0.3, 0.4], [0.5, 0.6, 0.01], [0.7, 0.01, 0.01]])
BACKWARD = np.log([[0.9, 0.8, 0.7], [0.4, 0.3, 0.01], [0.2, 0.01, 0.01]])


def test_the_formula() -> None:
    found = {
        h.tokens: h for h in rescore(NBEST, FORWARD, BACKWARD, ctc_weight=0.5, reverse_weight=0.3)
    }
    forward, backward = math.log(0.2 * 0.3 * 0.4), math.log(0.9 * 0.8 * 0.7)
    attention = 0.7 * forward + 0.3 * backward
    assert found[5, 6].score == pytest.approx(0.5 * -1.0 + attention)
    assert found[5, 6].confidence == pytest.approx(math.exp(attention / 3))
    # The first token is the second of the reversed ones.
    assert found[5, 6].token_confidences == pytest.approx(((0.2 + 0.8) / 2, (0.3 + 0.9) / 2))
    assert found[5, 6].times == (0, 3)
    assert found[()].score == pytest.approx(-2.0 + 0.7 * math.log(0.7) + 0.3 * math.log(0.2))
    assert found[()].token_confidences == ()


def test_what_scorers_added_is_kept_whole() -> None:
    plain = {h.tokens: h for h in rescore(NBEST, FORWARD, ctc_weight=0.5)}
    helped = [replace(h, score=h.score + 3.0, added=3.0) for h in NBEST]
    for found in rescore(helped, FORWARD, ctc_weight=0.5):
        assert found.score == pytest.approx(plain[found.tokens].score + 3.0)
        assert found.confidence == plain[found.tokens].confidence
        assert found.added == 3.0


def test_sorted_by_the_new_score() -> None:
    found = rescore(NBEST, FORWARD, ctc_weight=0.5)
    assert [h.tokens for h in found] == [(5,), (), (5, 6)]
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert found[0].token_confidences == pytest.approx((0.5,))


def test_reverse_scores_are_not_looked_at_without_weight() -> None:
    broken = np.full_like(BACKWARD, np.nan)
    assert rescore(NBEST, FORWARD, broken, ctc_weight=0.1) == rescore(
        NBEST, FORWARD, ctc_weight=0.1
    )


def test_padding_does_not_matter() -> None:
    padded = np.pad(FORWARD, ((0, 2), (0, 5)), constant_values=np.nan)
    assert rescore(NBEST, padded, ctc_weight=0.5) == rescore(NBEST, FORWARD, ctc_weight=0.5)


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        rescore(NBEST, FORWARD[:, :2], ctc_weight=0.5)
    with pytest.raises(ValueError, match="no room"):
        rescore(NBEST, FORWARD[:1], ctc_weight=0.5)
    with pytest.raises(ValueError, match="reverse_scores"):
        rescore(NBEST, FORWARD, ctc_weight=0.5, reverse_weight=0.3)


def said(text: str, score: float) -> Hypothesis:
    words = tuple((word, i, i + 1) for i, word in enumerate(text.split()))
    return Hypothesis(tuple(range(len(words))), score, words=words)


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_the_fewest_expected_errors(scale: float) -> None:
    dice = np.random.default_rng(0)
    changed = 0
    for _ in range(40):
        texts = {" ".join(dice.choice(list("abcd"), int(n))) for n in dice.integers(0, 6, 8)}
        scores = np.sort(dice.normal(0, 2, len(texts)))[::-1].tolist()
        nbest = [said(text, score) for text, score in zip(sorted(texts), scores, strict=True)]
        weights = np.exp(np.array(scores) / scale)
        risks = []
        for one in sorted(texts):
            errors = [error_rate([(other, one)]).errors for other in sorted(texts)]
            risks.append(float(weights @ np.array(errors) / weights.sum()))
        found = fewest_errors(nbest, scale)
        assert len(found) == len(nbest) and set(found) == set(nbest)
        best = nbest.index(found[0])
        assert risks[best] == pytest.approx(min(risks))
        assert found[1:] == [h for h in nbest if h is not found[0]]
        changed += best != 0
        few = fewest_errors(nbest, scale, candidates=2)[0]
        assert risks[nbest.index(few)] == pytest.approx(min(risks[:2]))
    assert changed
    assert fewest_errors([], scale) == [] and fewest_errors(nbest[:1], scale) == nbest[:1]
