"""The position-wise feed-forward layer and the activations that it may have."""

from __future__ import annotations

from typing import Literal

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


class FeedForward(nn.Module):
    """Two linear layers around an activation: (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int, *, act: Activation, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden)
        self.activation = activation(act)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each position alone."""
        y: Tensor = self.outer(self.dropout(self.activation(self.inner(x))))
        return y
