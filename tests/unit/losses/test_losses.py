"""Losses against definitions in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from mynah.losses import Counts, accuracy, consistency_loss, ctc_loss, label_smoothing_loss


def ctc_by_paths(logits: Tensor, tokens: list[int], blank: int) -> Tensor:
    """Negative log-likelihood of one text: the sum over all paths that collapse to it."""
    log_probs = logits.log_softmax(-1)
    frames, size = logits.shape
    total = []
    for path in itertools.product(range(size), repeat=frames):
        merged = [u for u, _ in itertools.groupby(path)]
        if [u for u in merged if u != blank] == tokens:
            total.append(log_probs[torch.arange(frames), torch.tensor(path)].sum())
    if not total:
        return torch.zeros((), dtype=logits.dtype)
    return -torch.stack(total).logsumexp(0)


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_and_its_gradient_by_brute_force(blank: int) -> None:
    torch.manual_seed(0)
    a, b, c = (u for u in range(4) if u != blank)
    texts = [[a, b, a], [a, a], [b], [], [c, c, c], [a, b, c]]
    lens = [6, 4, 1, 3, 4, 2]  # the last two are too short for their texts
    logits = (torch.randn(6, 6, 4, dtype=torch.float64) * 2).requires_grad_()
    expected = torch.stack(
        [ctc_by_paths(x[:n], text, blank) for x, n, text in zip(logits, lens, texts, strict=True)]
    )
    (gradient,) = torch.autograd.grad(expected.sum(), logits)

    tokens = torch.tensor([text + [0] * (3 - len(text)) for text in texts])
    token_lens = torch.tensor([len(text) for text in texts])
    ours = logits.detach().float().requires_grad_()
    total, counts = ctc_loss(ours, torch.tensor(lens), tokens, token_lens, blank=blank)
    (3 * total).backward()
    assert total.item() == pytest.approx(expected.sum().item(), rel=1e-6)
    assert ours.grad is not None
    assert (ours.grad / 3 - gradient).abs().max() < 1e-6
    assert counts == Counts(6, int(token_lens.sum()), sum(lens))


def test_ctc_ignores_padding() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 9, 5)
    tokens, token_lens = torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1])
    both, _ = ctc_loss(logits, torch.tensor([9, 4]), tokens, token_lens)
    one, _ = ctc_loss(logits[:1], torch.tensor([9]), tokens[:1], token_lens[:1])
    other, _ = ctc_loss(logits[1:, :4], torch.tensor([4]), tokens[1:, :1], token_lens[1:])
    assert both.item() == pytest.approx((one + other).item(), rel=1e-6)


def test_ctc_takes_bfloat16_and_empty_rows() -> None:
    logits = torch.randn(2, 5, 4, dtype=torch.bfloat16, requires_grad=True)
    lens = torch.tensor([5, 0])
    total, _ = ctc_loss(logits, lens, torch.tensor([[1], [0]]), torch.tensor([1, 0]))
    total.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert logits.grad[1].abs().max() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_label_smoothing_is_a_divergence(smoothing: float) -> None:
    torch.manual_seed(2)
    size = 5
    logits = torch.randn(2, 4, size, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1, 4, 0, -1], [2, -1, -1, -1]])
    expected = torch.zeros((), dtype=torch.float64)
    for row in range(2):
        for place in range(4):
            target = int(targets[row, place])
            if target < 0:
                continue
            log_probs = logits[row, place].log_softmax(-1)
            for unit in range(size):
                share = 1 - smoothing if unit == target else smoothing / (size - 1)
                if share > 0:
                    expected = expected + share * (math.log(share) - log_probs[unit])
    (gradient,) = torch.autograd.grad(expected, logits)
    ours = logits.detach().float().requires_grad_()
    total, counts = label_smoothing_loss(ours, targets, smoothing=smoothing)
    total.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.grad is not None and (ours.grad - gradient).abs().max() < 1e-6
    assert counts == Counts(2, 4, 0)


def test_perfect_prediction_costs_nothing() -> None:
    labels = torch.full((1, 1, 5), 0.1 / 4)
    labels[..., 3] = 0.9
    total, _ = label_smoothing_loss(labels.log(), torch.tensor([[3]]), smoothing=0.1)
    assert total.item() == pytest.approx(0.0, abs=1e-6)


def test_accuracy_counts_targets_only() -> None:
    logits = torch.eye(4)[None]
    assert accuracy(logits, torch.tensor([[0, 1, 3, -1]])) == (2, 3)


def test_consistency_draws_each_row_to_its_partner_that_stays() -> None:
    torch.manual_seed(3)
    logits, lens = torch.randn(4, 3, 5, requires_grad=True), torch.tensor([3, 3, 2, 2])
    found, counts = consistency_loss(logits, lens)
    assert counts == Counts(4, 0, 10)
    probs, expected, slope = logits.detach().softmax(-1), 0.0, torch.zeros(4, 3, 5)
    for row, partner in ((0, 1), (1, 0), (2, 3), (3, 2)):
        for frame in range(int(lens[row])):
            p, q = probs[row, frame], probs[partner, frame]
            expected += float((q * (q / p).log()).sum())
            slope[row, frame] = p - q  # the partner's share has no gradient
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert logits.grad is not None and torch.allclose(logits.grad, slope, atol=1e-6)
    # what one of a pair lacks is compared with nothing
    uneven, counts = consistency_loss(logits.detach(), torch.tensor([3, 1, 2, 2]))
    even, _ = consistency_loss(logits.detach(), torch.tensor([1, 1, 2, 2]))
    assert float(uneven) == float(even) and counts == Counts(4, 0, 6)
    same, _ = consistency_loss(logits[[0, 0]].detach().bfloat16(), lens[:2])
    assert float(same) == 0.0
    with pytest.raises(ValueError, match="3 rows are no pairs"):
        consistency_loss(logits[:3], lens[:3])
