"""WeNet's context graph on the prefix beam search, against what WeNet found with it.

WeNet's rules are a scorer for the search of mynah (``tests/wenet_context.py``). Its n-best are
sorted by what was accumulated and show another score; ours are sorted by the score that they show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.decoding import PrefixBeamSearch
from mynah.decoding.scorer import score_tokens
from wenet_context import WenetContext

FOLDERS = ["u2pp-conformer", "u2-transformer", "conformer-batchnorm"]


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("score", [3.0, 6.0])
@pytest.mark.parametrize("folder", FOLDERS)
def test_context_graph(shared: Path, folder: str, score: float, row: int) -> None:
    path = shared / "parity" / folder
    arrays = np.load(path / "outputs.npz")
    found: dict[str, Any] = json.loads((path / "decode.json").read_text(encoding="utf-8"))
    log_probs = arrays["full_ctc_logp"][row, : arrays["full_lens"][row]]
    context = WenetContext(found["context"]["phrase_ids"], score)
    settings = found["settings"]
    beam, blank = settings["beam_size"], settings["blank_id"]
    search = PrefixBeamSearch(beam, beam, blank, scorers=(context,))
    nbest = search.nbest(search.advance(search.start(), log_probs))
    expected = found["context"][f"ctc_prefix_beam_search_score{score}"][row]
    assert [list(h.tokens) for h in nbest] == expected["nbest"]
    assert [list(h.times) for h in nbest] == expected["nbest_times"]
    np.testing.assert_allclose(
        [context.replaced(h) for h in nbest], expected["nbest_scores"], atol=1e-4
    )
    for hypothesis in nbest:  # ours stay sorted, and say what was added
        assert hypothesis.added == pytest.approx(score_tokens(context, hypothesis.tokens))
    scores = [h.score for h in nbest]
    assert scores == sorted(scores, reverse=True)
