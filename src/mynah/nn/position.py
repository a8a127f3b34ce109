"""Sinusoidal positions, computed from integers in the graph: no table, hence no longest input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SPLIT = 1024  # positions are taken apart as high * _SPLIT + low


class Sinusoid(nn.Module):
    """Sines and cosines of a position at ``dim / 2`` frequencies (Vaswani et al., 2017).

    In float32 the angle of position 180000 (two hours at 40 ms) is off by 0.01 when computed as
    position times frequency. Here angles are counted in turns, and whole turns dropped from the
    high and low parts of the position apart; the error then stays under 1e-4 up to 10^6.
    """

    low: Tensor
    high: Tensor

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        frequency = [math.exp(-math.log(base) * 2 * i / dim) for i in range(dim // 2)]
        turns = torch.tensor(frequency, dtype=torch.float64) / (2 * math.pi)
        high = turns * _SPLIT
        self.register_buffer("low", turns.float(), persistent=False)
        self.register_buffer("high", (high - high.floor()).float(), persistent=False)

    def angles(self, positions: Tensor) -> Tensor:
        """Angles in radians, within a turn: (...) integers, negative ones too -> (..., dim / 2)."""
        high = torch.div(positions, _SPLIT, rounding_mode="floor")
        low = positions - high * _SPLIT
        turns = high[..., None].float() * self.high
        turns = turns - turns.floor() + low[..., None].float() * self.low
        return (turns - turns.floor()) * (2 * math.pi)

    def forward(self, positions: Tensor) -> Tensor:
        """Sines at even places, cosines at odd ones: (...) integers -> (..., dim) float32."""
        angles = self.angles(positions)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions (https://arxiv.org/abs/2104.09864): (..., d), (..., d / 2) -> (..., d).

    Feature i turns with feature i + d / 2.
    """
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return turned.to(x.dtype)
