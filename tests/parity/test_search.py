"""Searches over the log-probabilities that WeNet computed, against what WeNet found in them.

From arrays alone, so that this runs without PyTorch; ``test_u2.py`` has the model in between.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.decoding import (
    GreedySearch,
    Hypothesis,
    PrefixBeamSearch,
    ctc_greedy,
    force_align,
    rescore,
    token_spans,
)

FOLDERS = ["u2pp-conformer", "u2-transformer", "conformer-batchnorm"]
STREAMS = [("stream_c16_l4", "modes_chunk16_left4"), ("stream_c4_l2", "modes_chunk4_left2")]


class Case:
    """One folder: its arrays, and what WeNet's searches made of them."""

    def __init__(self, folder: Path) -> None:
        self.arrays = dict(np.load(folder / "inputs.npz")) | dict(np.load(folder / "outputs.npz"))
        self.found: dict[str, Any] = json.loads(
            (folder / "decode.json").read_text(encoding="utf-8")
        )
        settings = self.found["settings"]
        self.blank, self.eos = settings["blank_id"], settings["eos"]
        self.search = PrefixBeamSearch(settings["beam_size"], settings["beam_size"], self.blank)

    def log_probs(self, row: int) -> np.ndarray:
        frames: np.ndarray = self.arrays["full_ctc_logp"][row, : self.arrays["full_lens"][row]]
        return frames


@pytest.fixture(params=FOLDERS)
def case(shared: Path, request: pytest.FixtureRequest) -> Case:
    return Case(shared / "parity" / request.param)


def assert_nbest(found: list[Hypothesis], expected: dict[str, Any]) -> None:
    assert [list(h.tokens) for h in found] == expected["nbest"]
    assert [list(h.times) for h in found] == expected["nbest_times"]
    np.testing.assert_allclose([h.score for h in found], expected["nbest_scores"], atol=1e-4)


@pytest.mark.parametrize("row", range(3))
def test_ctc_searches(case: Case, row: int) -> None:
    log_probs, modes = case.log_probs(row), case.found["modes"]
    state = case.search.advance(case.search.start(), log_probs)
    assert_nbest(case.search.nbest(state), modes["ctc_prefix_beam_search"][row])
    greedy = ctc_greedy(log_probs, blank=case.blank)
    assert list(greedy.tokens) == modes["ctc_greedy_search"][row]["tokens"]


@pytest.mark.parametrize("row", range(3))
def test_blank_penalty(case: Case, row: int) -> None:
    log_probs, modes = case.log_probs(row), case.found["blank_penalty_2.0"]
    search = PrefixBeamSearch(blank=case.blank, blank_penalty=2.0)
    found = search.nbest(search.advance(search.start(), log_probs))
    assert_nbest(found, modes["ctc_prefix_beam_search"][row])
    greedy = ctc_greedy(log_probs, blank=case.blank, blank_penalty=2.0)
    assert list(greedy.tokens) == modes["ctc_greedy_search"][row]["tokens"]


@pytest.mark.parametrize("name", FOLDERS[:2])
@pytest.mark.parametrize(("stream", "modes"), STREAMS)
def test_streams(shared: Path, name: str, stream: str, modes: str) -> None:
    case = Case(shared / "parity" / name)
    log_probs = case.arrays[f"{stream}_ctc_logp"][0]
    greedy = GreedySearch(case.blank)
    states = case.search.start(), greedy.start()
    # The chunks in which WeNet's encoder gave them.
    for chunk in np.split(log_probs, np.cumsum(case.arrays[f"{stream}_shapes"][:-1, 3])):
        states = case.search.advance(states[0], chunk), greedy.advance(states[1], chunk)
    assert_nbest(case.search.nbest(states[0]), case.found[modes]["ctc_prefix_beam_search"][0])
    tokens = list(greedy.nbest(states[1])[0].tokens)
    assert tokens == case.found[modes]["ctc_greedy_search"][0]["tokens"]


@pytest.mark.parametrize("key", ["modes", "attention_rescoring_ctc0.0_rev0.0"])
def test_rescoring(case: Case, key: str) -> None:
    expected, weights = case.found[key], (0.0, 0.0)
    if key == "modes":
        settings = case.found["settings"]
        expected = expected["attention_rescoring"]
        weights = settings["ctc_weight"], settings["reverse_weight"]
    nbest = case.search.nbest(case.search.advance(case.search.start(), case.log_probs(0)))
    scores = gather(case, nbest, "resc_dec_logp", reverse=False)
    reverse = gather(case, nbest, "resc_r_dec_logp", reverse=True) if weights[1] else None
    best = rescore(nbest, scores, reverse, ctc_weight=weights[0], reverse_weight=weights[1])[0]
    assert list(best.tokens) == expected[0]["tokens"]
    assert list(best.times) == expected[0]["times"]
    assert best.score == pytest.approx(expected[0]["score"], abs=1e-4)
    assert best.confidence == pytest.approx(expected[0]["confidence"], abs=1e-6)
    np.testing.assert_allclose(best.token_confidences, expected[0]["tokens_confidence"], atol=1e-6)


def gather(case: Case, nbest: list[Hypothesis], name: str, *, reverse: bool) -> np.ndarray:
    """The log-probabilities (N, U + 1) of tokens and <eos>, out of those of all units."""
    log_probs = case.arrays[name]
    scores = np.zeros(log_probs.shape[:2])
    for n, hypothesis in enumerate(nbest):
        tokens = hypothesis.tokens[::-1] if reverse else hypothesis.tokens
        for u, token in enumerate((*tokens, case.eos)):
            scores[n, u] = log_probs[n, u, token]
    return scores


@pytest.mark.parametrize("row", range(3))
def test_forced_alignment(case: Case, row: int) -> None:
    tokens = case.arrays["labels"][row, : case.arrays["label_lengths"][row]]
    found = force_align(case.log_probs(row), tokens, case.blank)
    expected = case.found["force_align_labels"][row]
    assert found.path.tolist() == expected["alignment"]
    assert list(found.starts) == expected["peaks"]
    spans = token_spans(
        found.starts,
        frame_seconds=0.01 * case.found["notes"]["subsampling_rate"],
        duration=0.01 * case.arrays["feats_lengths"][row],
    )
    np.testing.assert_allclose(spans, expected["timestamps"], atol=1e-9)
