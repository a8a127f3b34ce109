"""The position-wise feed-forward layer, the activations that it may have, and dropout."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "swish", "gelu", "tanh", "hardtanh", "selu"]

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "selu": nn.SELU,
}


def activation(name: Activation) -> nn.Module:
    """The activation called ``name``."""
    return _ACTIVATIONS[name]()


class Dropout(nn.Module):
    """Dropout that on a CPU takes a byte of randomness per element, not a number.

    PyTorch draws its masks one element at a time there, which costs more than the layer whose
    output they thin out. The rate is rounded to a multiple of 1/256, and the scale is that of the
    rounded rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements and scale the others up while training; any shape."""
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate, True)
        dropped = round(self.rate * 256)
        if dropped == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.long).random_(-(2**63), None)
        kept = words.view(torch.int8)[: x.numel()].view(x.shape)
        # 1 where the byte is not among the lowest; a comparison, and its conversion, take 4 times
        # as long
        kept = kept.clamp_(dropped - 129, dropped - 128).sub_(dropped - 129)
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))

    def extra_repr(self) -> str:
        """The rate, for ``print(model)``."""
        return f"{self.rate}"


class FeedForward(nn.Module):
    """Two linear layers around an activation: (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int, *, act: Activation, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden)
        self.activation = activation(act)
        self.dropout = Dropout(dropout)
        self.outer = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each position alone."""
        y: Tensor = self.outer(self.dropout(self.activation(self.inner(x))))
        return y
