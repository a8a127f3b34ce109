from __future__ import annotations

import pytest
import torch

from mynah.nn.feed_forward import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean_and_the_rate(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 333, dtype=dtype)
    y = Dropout(0.25)(x)
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / 0.75, dtype=dtype).item()}
    dropped = (y == 0).float()
    assert abs(float(dropped.mean()) - 0.25) < 0.003
    # every byte of the random words counts alike
    assert (dropped.flatten()[: 8 * 41_000].view(-1, 8).mean(0) - 0.25).abs().max() < 0.01


def test_dropout_is_the_same_for_the_same_seed_and_its_gradient_is_masked() -> None:
    layer, x = Dropout(0.5), torch.randn(7, 5, requires_grad=True)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    first.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, (first != 0) * 2.0)


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero() -> None:
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
