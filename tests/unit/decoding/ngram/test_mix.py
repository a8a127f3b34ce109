"""Mixed models against means of plain ones, an n-gram at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mynah.decoding.ngram.mix as module
from mynah.cli import main
from mynah.decoding.ngram import load_ngram
from mynah.decoding.ngram.mix import fitting_shares, mix
from mynah.errors import ConfigError

pytestmark = pytest.mark.usefixtures("quiet")


def probability(model: Any, gram: tuple[str, ...]) -> float:
    """Of the last word after the others; a context that has a word unknown to the model is cut
    behind it."""
    known = [(word,) in model.log_probs for word in gram]
    if not known[-1]:
        return 0.0
    begin = max((n + 1 for n, there in enumerate(known) if not there), default=0)
    return math.exp(model.score(gram[begin:-1], gram[-1]))


@pytest.mark.parametrize("block", [3, 1 << 16])
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    orders=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    share=st.floats(0.05, 0.95),
)
def test_the_mean_of_plain_models(
    plain: ModuleType,
    sentences: Callable[..., Any],
    trained: Callable[..., Any],
    as_plain: Callable[..., Any],
    block: int,
    seed: int,
    orders: list[int],
    share: float,
) -> None:
    words = ("abcdefgh", "efghijkl", "ax")
    tries = [trained(sentences(seed + i, words[i]), order=n).trie for i, n in enumerate(orders)]
    shares = [share, 1 - share, 0.5][: len(tries)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        mixed = as_plain(mix(tries, shares))
    parts = [as_plain(trie) for trie in tries]
    wanted = {gram for part in parts for gram in part.log_probs}
    assert mixed.log_probs.keys() == wanted
    for gram in wanted - {("<s>",)}:
        mean = sum(
            s * probability(part, gram) for s, part in zip(shares, parts, strict=True)
        ) / sum(shares)
        assert math.exp(mixed.log_probs[gram]) == pytest.approx(mean, rel=1e-4, abs=1e-7)
    for context in plain.contexts(mixed.words[:6], min(mixed.order, 3)):
        assert mixed.total(context) == pytest.approx(1, abs=1e-4)


def test_shares_that_fit() -> None:
    """Of two models that know different words: the part of their words; what neither knows is
    passed over."""
    first = np.log([0.5, 0.5, 0.5, 1e-300, 1e-300])
    second = np.log([1e-300, 1e-300, 1e-300, 0.1, 0.1])
    first[3:], second[:3] = -np.inf, -np.inf
    unknown = np.full(2, -np.inf)
    found = fitting_shares([np.append(first, unknown), np.append(second, unknown)])
    assert found == pytest.approx([0.6, 0.4], abs=1e-4)
    dice = np.random.default_rng(0)
    scores = dice.standard_normal((3, 200)) * 2 - 5
    best = fitting_shares(scores)
    assert best.sum() == pytest.approx(1)

    def total(shares: Any) -> float:
        return float(np.log(shares @ np.exp(scores)).sum())

    for _ in range(50):
        assert total(best) >= total(dice.dirichlet(np.ones(3) * 3)) - 1e-6


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5, 0.5], [1.0, 0.0], [1.0, math.nan]])
def test_shares_that_cannot_be(trained: Callable[..., Any], shares: list[float]) -> None:
    tries = [trained([["a", "b"]]).trie, trained([["b", "c"]]).trie]
    with pytest.raises(ConfigError, match="2 numbers above 0 are needed"):
        mix(tries, shares)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "books.txt").write_text("the sea was grey\nthe old man went home\n" * 3)
    (tmp_path / "own.txt").write_text("turn the light on\nturn the radio off\n" * 3)
    (tmp_path / "held.txt").write_text("Turn the sea off!\n\nTurn the zebra on.\n")
    for name in ("books", "own"):
        text, out = tmp_path / f"{name}.txt", tmp_path / f"{name}.ngram"
        assert main(["lm", "train", str(text), "--out", str(out), "--bits", "32"]) == 0
    models = [str(tmp_path / f"{name}.ngram") for name in ("books", "own")]
    out, held = str(tmp_path / "mixed.ngram"), str(tmp_path / "held.txt")
    capsys.readouterr()
    order = ["lm", "mix", *models, "--out", out, "--bits", "32"]
    assert main([*order, "--tune", held, "--language", "en"]) == 0
    told = capsys.readouterr()
    shares = [float(line.split()[0]) for line in told.err.splitlines()]
    assert sum(shares) == pytest.approx(1, abs=2e-3) and shares[1] > shares[0] > 0
    assert "1-grams" in told.out and "books.ngram" in told.err
    mixed, (first, second) = load_ngram(out), map(load_ngram, models)
    sentence = ["turn", "the", "sea", "off"]
    assert mixed.score_sentence(sentence) > first.score_sentence(sentence)
    assert set(mixed.vocab) == set(first.vocab) | set(second.vocab)
    assert main([*order, "--shares", "3", "1"]) == 0
    assert capsys.readouterr().err.startswith("0.750 of ")
    assert main(order) == 0
    assert capsys.readouterr().err.startswith("0.500 of ")
    for wrong, reason in (
        (["--shares", "1"], "2 numbers above 0"),
        (["--shares", "1", "1", "--tune", held], "--tune: not with --shares"),
        (["--language", "en"], "--language: needs --tune"),
        (["--characters"], "--characters: needs --tune"),
        (["--tune", str(tmp_path / "none.txt")], "none.txt"),
    ):
        assert main([*order, *wrong]) != 0
        assert reason in capsys.readouterr().err
    assert main(["lm", "mix", *models, "--tune", held, "--out", held]) != 0
    assert "held.txt" in capsys.readouterr().err and "zebra" in Path(held).read_text()
    (tmp_path / "empty.txt").write_text("\n")
    assert main([*order, "--tune", str(tmp_path / "empty.txt")]) != 0
    assert "no text" in capsys.readouterr().err
    assert main(["lm", "mix", models[0], "--out", out]) != 0
    assert "two or more" in capsys.readouterr().err
