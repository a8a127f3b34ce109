from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mynah.nn.attention import CrossAttention, Positions, SelfAttention
from mynah.nn.mask import chunk_mask
from mynah.nn.position import Sinusoid

DIM, HEADS, T = 12, 3, 7


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_definition(layer: SelfAttention, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Relative attention of one sequence, score by score, in float64."""
    p = {k: v.detach().double().numpy() for k, v in layer.state_dict().items()}
    width = DIM // HEADS
    q, k, v = np.split(x @ p["qkv.weight"].T + p["qkv.bias"], 3, axis=-1)
    y = np.zeros_like(x)
    for h in range(HEADS):
        part = slice(h * width, (h + 1) * width)
        scores = np.full((T, T), -np.inf)
        for i in range(T):
            for j in range(T):
                if not mask[i, j]:
                    continue
                where = i - j if layer.positions == "relative" else j
                angles = where * 10000.0 ** (-np.arange(0, DIM, 2) / DIM)
                e = np.stack((np.sin(angles), np.cos(angles)), -1).ravel()
                position = (p["position.weight"] @ e)[part]
                content = (q[i, part] + p["bias_content"][h]) @ k[j, part]
                place = (q[i, part] + p["bias_position"][h]) @ position
                scores[i, j] = (content + place) / math.sqrt(width)
        y[:, part] = softmax(scores) @ v[:, part]
    return y @ p["out.weight"].T + p["out.bias"]


def where_of(positions: Positions, size: int, cached: int = 0) -> Tensor:
    sinusoid = Sinusoid(DIM)
    if positions == "relative":
        return sinusoid(cached + size - 1 - torch.arange(cached + 2 * size))[None]
    return sinusoid(torch.arange(cached + size))[None]


@pytest.mark.parametrize("dropout", [0.0, 1e-9])  # the second goes the way of training
@pytest.mark.parametrize("positions", ["relative", "relative_unshifted"])
def test_relative_positions_by_definition(positions: Positions, dropout: float) -> None:
    torch.manual_seed(1)
    layer = SelfAttention(DIM, HEADS, positions=positions, dropout=dropout)
    x = torch.randn(2, T, DIM)
    mask = chunk_mask(torch.tensor([T, 5]), T, 3, 1)
    y, keys, values = layer(x, mask, where_of(positions, T))
    assert keys.shape == values.shape == (2, HEADS, T, DIM // HEADS)
    for row, size in enumerate((T, 5)):
        expected = by_definition(layer, x[row].double().numpy(), mask[row, 0].numpy())
        assert np.abs(y[row].detach().numpy() - expected)[:size].max() < 1e-5


@pytest.mark.parametrize("positions", ["none", "relative", "relative_unshifted"])
def test_cache_equals_whole(positions: Positions) -> None:
    torch.manual_seed(2)
    layer = SelfAttention(DIM, HEADS, positions=positions)
    x = torch.randn(2, T, DIM)
    whole, keys, _ = layer(x, chunk_mask(torch.tensor([T, T]), T, 1, None), where_of(positions, T))
    cache: tuple[Tensor, Tensor] = (keys[:, :, :0], keys[:, :, :0])
    for i in range(T):
        y, k, v = layer(x[:, i : i + 1], None, where_of(positions, 1, i), cache)
        cache = (k, v)
        assert torch.allclose(y[:, 0], whole[:, i], atol=1e-5)


def test_cross_attention_shares_keys_among_neighbours() -> None:
    torch.manual_seed(3)
    layer = CrossAttention(DIM, HEADS)
    memory, x = torch.randn(2, 5, DIM), torch.randn(6, 4, DIM)
    mask = torch.tensor([5, 3])[:, None, None, None] > torch.arange(5)
    y = layer(x, *layer.project(memory), mask)
    repeated = memory.repeat_interleave(3, 0)
    expected = layer(x, *layer.project(repeated), mask.repeat_interleave(3, 0))
    assert torch.allclose(y, expected, atol=1e-6)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(4)
    for positions in ("relative", "relative_unshifted"):
        layer = SelfAttention(DIM, HEADS, positions=positions)
        layer(torch.randn(1, T, DIM), None, where_of(positions, T))[0].square().sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
