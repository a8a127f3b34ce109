"""Reliability, and the map that makes confidences probabilities."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mynah import load
from mynah.audio import read
from mynah.cli.calibrate import Words, collect, fit
from mynah.corpus import read_manifest
from mynah.decoding import Hypothesis
from mynah.errors import ConfigError, InputError, ModelError
from mynah.evaluation.calibration import (
    calibration_error,
    fit_logistic,
    normalized_cross_entropy,
    reliability,
    right_words,
)
from mynah.runtime import calibrate
from mynah.runtime.confidence import (
    ALWAYS,
    MOST,
    NEAR,
    Calibration,
    Facts,
    find_evidence,
    read_calibration,
    word_facts,
)
from mynah.runtime.decode import Decoder
from mynah.runtime.engine import Array
from mynah.runtime.request import Request


def test_right_words() -> None:
    assert right_words(["the", "cat", "sat"], "The cat sat.") == [True] * 3
    assert right_words(["a", "cat", "sad", "up"], "the cat sat") == [False, True, False, False]
    assert right_words(["cat,", "sat"], "the cat sat") == [True, True]
    assert right_words([], "the cat") == []
    assert right_words(["x"], "") == [False]
    # a word of two tokens is right when both are; one of none never is
    assert right_words(["well-known", "–"], "well known") == [True, False]
    assert right_words(["well-known"], "well now") == [False]
    assert right_words(["你", "好"], "你号", "zh") == [True, False]


def test_reliability_by_hand() -> None:
    confidences = [0.05, 0.15, 0.15, 0.95, 1.0]
    right = [False, False, True, True, False]
    table = reliability(confidences, right)
    assert [(b.count, b.right) for b in table] == [(1, 0.0), (2, 0.5), (2, 0.5)]
    assert [b.confidence for b in table] == pytest.approx([0.05, 0.15, 0.975])
    expected = (1 * 0.05 + 2 * 0.35 + 2 * 0.475) / 5
    assert calibration_error(confidences, right) == pytest.approx(expected)
    assert calibration_error([], []) == 0


def test_cross_entropy() -> None:
    right = [True, True, False, True]
    assert normalized_cross_entropy([0.75] * 4, right) == pytest.approx(0)
    assert normalized_cross_entropy([1, 1, 0, 1], right) == pytest.approx(1, abs=1e-4)
    assert normalized_cross_entropy([0, 0, 1, 0], right) < -1


def made(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Facts, and right words by a known map of them."""
    rng = np.random.default_rng(seed)
    facts = np.column_stack([rng.normal(-1, 0.5, count), rng.normal(2, 3.0, count)])
    chance = 1 / (1 + np.exp(-(2.0 * facts[:, 0] - 0.5 * facts[:, 1] + 3.0)))
    return facts, rng.random(count) < chance


def test_a_known_map_is_found() -> None:
    facts, right = made(20000)
    weights, bias = fit_logistic(facts, right)
    assert [*weights, bias] == pytest.approx([2.0, -0.5, 3.0], abs=0.2)
    others, truth = made(5000, seed=1)
    values = 1 / (1 + np.exp(-(others @ np.array(weights) + bias)))
    assert calibration_error(values, truth) < 0.03


def test_the_fit_is_where_nothing_gets_better() -> None:
    facts, right = made(300)
    weights, bias = fit_logistic(facts, right, penalty=0.0)

    def loss(w: list[float], b: float) -> float:
        total = facts @ np.array(w) + b
        return float(np.logaddexp(0, np.where(right, -total, total)).sum())

    best = loss(weights, bias)
    for change in (0.01, -0.01):
        assert loss([weights[0] + change, weights[1]], bias) > best
        assert loss([weights[0], weights[1] + change], bias) > best
        assert loss(weights, bias + change) > best


def test_rising_facts_never_fall() -> None:
    facts, right = made(3000)
    weights, _ = fit_logistic(facts, right, rising=(0, 1))
    assert weights[0] > 0
    assert weights[1] == 0


def test_nothing_to_fit() -> None:
    with pytest.raises(InputError, match="of 0 words 0 are right"):
        fit_logistic(np.zeros((0, 2)), [])
    with pytest.raises(InputError, match="of 3 words 3 are right"):
        fit_logistic(np.zeros((3, 2)), [True] * 3)
    # what can be told apart completely has a finite map all the same
    weights, bias = fit_logistic([[0.0], [0.0], [1.0], [1.0]], [False, False, True, True])
    assert all(map(math.isfinite, [*weights, bias]))


def test_facts_of_a_word() -> None:
    mean, least, units, frames, logit, utterance, margin, lm = word_facts([0.5, 0.25], 8)
    assert (utterance, margin, lm) == (None, None, None)
    share = math.sqrt(0.125)
    assert logit == pytest.approx(math.log(share / (1 - share)))
    assert word_facts([0.5], 1, -0.3, (4.0, -7.0))[5:] == (-0.3, 4.0, -7.0)
    assert mean == pytest.approx(math.log(0.5 * 0.25) / 2)
    assert least == pytest.approx(math.log(0.25))
    assert units == pytest.approx(math.log(2))
    assert frames == pytest.approx(math.log(4))
    for certain in (0.0, 1.0):
        assert all(math.isfinite(fact) for fact in word_facts([certain], 0) if fact is not None)


def test_evidence_by_hand() -> None:
    def said(score: float, *words: tuple[str, int]) -> Hypothesis:
        times = tuple(time for _, time in words)
        spelt = tuple((text, n, n + 1) for n, (text, _) in enumerate(words))
        return Hypothesis(tuple(range(len(words))), score, times=times, words=spelt)

    class Known:
        """A language model that finds the second of two words less probable."""

        def start(self) -> int:
            return 0

        def word_id(self, word: str) -> int:
            return len(word)

        def score(self, state: int, word: int) -> tuple[int, float]:
            return state + 1, -float(word + 10 * state)

        def end(self, state: int) -> float:
            return 0.0

    best = said(-10.0, ("red", 3), ("bird", 20))
    nbest = [
        best,
        said(-11.0, ("red", 5), ("birch", 20)),  # red is there, a little later
        said(-13.5, ("read", 3), ("bird", 20)),
        said(-14.0, ("read", 3), ("birch", 20)),
    ]
    assert find_evidence(best, nbest, Known()) == ((3.5, -3.0), (1.0, -14.0))
    assert find_evidence(best, nbest, None) == ((3.5, None), (1.0, None))
    far = [best, said(-12.0, ("red", 3 + NEAR), ("bird", 20))]
    assert find_evidence(best, far, None) == ((2.0, None), (MOST, None))
    assert find_evidence(best, [best], None) == ((MOST, None), (MOST, None))
    assert find_evidence(Hypothesis((1,), 0.0), [], None) == ()


table_of_logit = {"weights": [1.0], "bias": 0.0, "facts": ["logit"]}


def recognised(count: int, seed: int, *, margin: float, shift: float = 0.0) -> Words:
    """A set whose words are right by ``margin`` of the search and not by what else is known."""
    rng = np.random.default_rng(seed)
    words = Words(utterances=count // 5)
    for number in range(count):
        behind = float(rng.uniform(0, 6))
        units = rng.uniform(0.05, 0.95, 3).tolist()
        words.facts.append(word_facts(units, 9, -1.0 + shift, (behind, -5.0)))
        words.right.append(bool(rng.random() < 1 / (1 + math.exp(-margin * (behind - 3)))))
        words.plain.append(0.5)
        words.owners.append(number // 5)
    return words


@pytest.mark.parametrize("several", [True, False])
def test_the_facts_that_hold_elsewhere_are_taken(several: bool) -> None:
    sets = [
        recognised(600, seed, margin=1.5, shift=0.1 * seed) for seed in range(3 if several else 1)
    ]
    found = fit(sets, "here")
    assert "margin" in found.facts and found.otherwise is not None
    assert set(found.otherwise.facts) <= set(ALWAYS)
    other = recognised(2000, 9, margin=1.5)
    values = [found(facts) or 0.0 for facts in other.facts]
    assert calibration_error(values, other.right) < 0.05
    assert normalized_cross_entropy(values, other.right) > 0.3
    assert found.words == sum(len(words.right) for words in sets)


def test_a_search_without_words_has_a_map_of_what_is_always_known() -> None:
    words = recognised(400, 0, margin=1.0)
    words.facts = [facts[:6] + (None, None) for facts in words.facts]
    found = fit([words], "here")
    assert set(found.facts) <= set(ALWAYS) and found.otherwise is None
    with pytest.raises(InputError, match="cannot be fitted"):
        fit([Words()], "nothing")


def test_the_table_of_a_model() -> None:
    assert read_calibration({}, "m") is None
    found = read_calibration({"weights": [1, 0, 0, 0], "bias": 0.0, "words": 3}, "m")
    assert found == Calibration((1.0, 0.0, 0.0, 0.0), 0.0, 3)
    assert found((0.0, 0.0, 0.0, 0.0)) == 0.5
    assert found((-1e9, 0.0, 0.0, 0.0)) == 0.0
    assert found((1e9, 0.0, 0.0, 0.0)) == 1.0
    table = {"weights": [2.0], "bias": 0.0, "facts": ["margin"], "otherwise": table_of_logit}
    both = read_calibration(table, "m")
    assert both is not None
    assert both(word_facts([0.5], 1, None, (0.0, None))) == 0.5
    assert both(word_facts([0.9], 1)) == pytest.approx(0.9)  # no margin: by the logit
    assert Calibration((2.0,), 0.0, facts=("margin",))(word_facts([0.9], 1)) is None
    with pytest.raises(ModelError, match=r"unknown 'margim' \(did you mean 'margin'"):
        read_calibration({"weights": [1.0], "bias": 0.0, "facts": ["margim"]}, "m")
    with pytest.raises(ModelError, match=r"m: confidence\.bais: unknown key \(did you mean"):
        read_calibration({"weights": [1, 0, 0, 0], "bais": 0.0}, "m")
    with pytest.raises(ConfigError, match="not finite"):
        Calibration((math.inf, 0.0, 0.0, 0.0), 0.0)


def test_words_are_those_that_the_model_gives(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranked by the bundled model's neural language model, as a recording's are."""
    seen: list[list[str]] = []
    original = calibrate.recognised

    def noted(decoder: Decoder, samples: Array) -> list[tuple[str, Facts, float]]:
        assert decoder.rescorer is not None
        words = original(decoder, samples)
        seen.append([text for text, _, _ in words])
        return words

    monkeypatch.setattr(calibrate, "recognised", noted)
    recognizer, manifest = load(), str(repository / "tests" / "data" / "speech" / "manifest.tsv")
    found = collect(recognizer, manifest, where={}, exclude={})
    assert found.utterances == len(seen) > 2
    for cut, words in zip(read_manifest(manifest), seen, strict=True):
        samples = read(str(cut.recording.source), rate=16000)
        said = recognizer.transcribe(samples, Request(vad=False, words=True), rate=16000)
        assert [word.text for word in said.words] == words
