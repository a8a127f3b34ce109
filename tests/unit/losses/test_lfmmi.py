"""The denominator of MMI against a sum over all paths, one by one."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mynah.decoding.ngram import load_ngram
from mynah.errors import ConfigError
from mynah.losses.lfmmi import Grammar, denominator, grammar_from

UNITS = 4  # with the blank, 0


def made_grammar(seed: int = 0) -> tuple[Tensor, Tensor, Grammar]:
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(UNITS, UNITS, UNITS, generator=generator) + 0.05
    shares[:, :, 0] *= 0.3  # stands for the end here
    shares /= shares.sum(-1, keepdim=True)
    follows, ends = shares.clone(), shares[:, :, 0].clone()
    follows[:, :, 0] = 0.0
    return follows, ends, Grammar(follows, ends)


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [unit for unit, _ in itertools.groupby(path) if unit]


def by_hand(log_probs: Tensor, follows: Tensor, ends: Tensor) -> Tensor:
    """Every path (V ** T of them) of (T, V), times the probability of its text."""
    terms = []
    for path in itertools.product(range(UNITS), repeat=len(log_probs)):
        history, score = (0, 0), 0.0
        for unit in collapsed(path):
            score += math.log(follows[history[0], history[1], unit])
            history = (history[1], unit)
        score += math.log(ends[history])
        frames = torch.arange(len(log_probs))
        terms.append(log_probs[frames, list(path)].sum() + score)
    return torch.stack(terms).logsumexp(0)


def test_all_paths_and_their_gradient() -> None:
    follows, ends, grammar = made_grammar()
    logits = torch.randn(3, 5, UNITS, generator=torch.Generator().manual_seed(1)) * 2
    lens = torch.tensor([5, 3, 1])
    given, plain = (logits.clone().requires_grad_() for _ in range(2))
    total = denominator(given, lens, grammar)
    cut = [row[:n].log_softmax(-1) for row, n in zip(plain, lens, strict=True)]
    expected = torch.stack([by_hand(row, follows, ends) for row in cut]).sum()
    assert total.item() == pytest.approx(expected.item(), abs=1e-5)
    (3 * total).backward()  # type: ignore[no-untyped-call]
    (3 * expected).backward()  # type: ignore[no-untyped-call]
    assert given.grad is not None and plain.grad is not None
    torch.testing.assert_close(given.grad, plain.grad, atol=1e-5, rtol=1e-4)
    assert not given.grad[1, 3:].any()


def test_neighbours_do_not_matter() -> None:
    _, _, grammar = made_grammar(2)
    logits = torch.randn(2, 40, UNITS, generator=torch.Generator().manual_seed(3))
    both = denominator(logits, torch.tensor([40, 17]), grammar)
    alone = denominator(logits[:1], torch.tensor([40]), grammar)
    other = denominator(logits[1:, :17], torch.tensor([17]), grammar)
    assert both.item() == pytest.approx((alone + other).item(), rel=1e-5)


def test_long_and_sure_utterances_stay_finite() -> None:
    _, _, grammar = made_grammar(4)
    logits = torch.randn(1, 3000, UNITS, generator=torch.Generator().manual_seed(5)) * 30
    logits.requires_grad_()
    total = denominator(logits, torch.tensor([3000]), grammar)
    total.backward()  # type: ignore[no-untyped-call]
    assert total.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_the_tables_of_an_ngram(tmp_path: Path) -> None:
    arpa = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-99 <s> -0.3
-0.5 </s>
-9 <unk>
-0.6 a -0.2
-0.7 b -0.1

\\2-grams:
-0.2 <s> a -0.4
-0.3 a b -0.15
-0.9 b a 0
-0.8 b </s>

\\3-grams:
-0.05 <s> a b
-0.25 a b a

\\end\\
"""
    (tmp_path / "units.arpa").write_text(arpa, encoding="utf-8")
    model = load_ngram(tmp_path / "units.arpa")
    grammar = grammar_from(model, ["<blank>", "a", "b", "never"], never=[3])
    moves = grammar.moves.log10()
    a, b = 1, 2
    assert moves[0, 0, a].item() == pytest.approx(-0.2, abs=1e-3)
    assert moves[0, 0, b].item() == pytest.approx(-0.3 - 0.7, abs=1e-3)  # backs off
    assert moves[a, 0, b].item() == pytest.approx(-0.05, abs=1e-3)  # after the start
    assert moves[a, b, b].item() == pytest.approx(-0.3, abs=1e-3)  # not "<s> a"
    assert moves[b, a, a].item() == pytest.approx(-0.25, abs=1e-3)
    assert grammar.moves[a, 4 + b, a] == 0.0  # at once, without a blank
    assert grammar.ends[b, a].log10().item() == pytest.approx(-0.15 - 0.8, abs=1e-3)
    assert not grammar.moves[..., 3].any() and not grammar.moves[..., 0].any()
    with pytest.raises(ConfigError, match="lacks 1 units: x"):
        grammar_from(model, ["<blank>", "a", "x"])
    with pytest.raises(ConfigError, match="at most 256"):
        grammar_from(model, ["<blank>", "a", *(f"u{i}" for i in range(300))], never=range(2, 302))


def test_what_has_no_frames_counts_nothing() -> None:
    _, _, grammar = made_grammar()
    grammar.ends.zero_()  # not even the text without units
    logits = torch.randn(2, 3, UNITS, requires_grad=True)
    total = denominator(logits, torch.tensor([0, 0]), grammar)
    total.backward()  # type: ignore[no-untyped-call]
    assert total.item() == 0.0 and logits.grad is not None and not logits.grad.any()
    assert denominator(torch.zeros(0, 3, UNITS), torch.zeros(0), grammar).item() == 0.0
