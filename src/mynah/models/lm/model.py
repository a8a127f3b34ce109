"""A causal language model of word pieces: how probable each piece is after those before it.

A small transformer (Vaswani et al., 2017) with normalisation before each part and rotary positions;
the output shares its matrix with the input (Press and Wolf, "Using the output embedding to improve
language models", 2017), so a model of two million weights has them where they count. A row begins
with the start of a sentence and depends on nothing but its own pieces; a layer looks a bounded
number of pieces back, so rows may be of any length.

Legend: B batch, T pieces, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.errors import ConfigError
from mynah.nn.attention import SelfAttention
from mynah.nn.feed_forward import Dropout, FeedForward
from mynah.nn.mask import causal_mask
from mynah.nn.position import Sinusoid


@dataclass(frozen=True)
class LanguageModelConfig:
    """What the model is made of; the vocabulary is that of the tokenizer."""

    vocab_size: int
    dim: int = 192
    heads: int = 6
    layers: int = 4
    hidden: int = 768
    context: int = 64  # pieces that a piece sees, itself among them
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "heads", "layers", "hidden", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.dim % (2 * self.heads):
            raise ConfigError(f"dim: {self.dim} must be a multiple of 2 x {self.heads} heads")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout: must be from 0 to below 1, got {self.dropout}")


class Layer(nn.Module):
    """Attention to the pieces so far and feed-forward, each added to its input."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        c = config
        self.norm_attention = nn.LayerNorm(c.dim)
        self.attention = SelfAttention(c.dim, c.heads, dropout=c.dropout, positions="rotary")
        self.norm_feed_forward = nn.LayerNorm(c.dim)
        self.feed_forward = FeedForward(c.dim, c.hidden, act="swish", dropout=c.dropout)
        self.dropout = Dropout(c.dropout)

    def forward(self, x: Tensor, mask: Tensor, angles: Tensor) -> Tensor:
        """(B, T, D), (1, 1, T, T), (1, T, d / 2) -> (B, T, D)."""
        y, _, _ = self.attention(self.norm_attention(x), mask, angles)
        x = x + self.dropout(y)
        z: Tensor = x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))
        return z


class LanguageModel(nn.Module):
    """Pieces to log-probabilities of the pieces that follow."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = c = config
        self.table = nn.Embedding(c.vocab_size, c.dim)
        nn.init.normal_(self.table.weight, std=c.dim**-0.5)
        self.dropout = Dropout(c.dropout)
        self.position = Sinusoid(c.dim // c.heads)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.dim)
        self.bias = nn.Parameter(torch.zeros(c.vocab_size))
        for name, parameter in self.layers.named_parameters():
            if name.endswith(("out.weight", "outer.weight")):  # what is added to the sum of layers
                parameter.data.mul_((2 * c.layers) ** -0.5)

    def logits(
        self, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """What may follow each piece and those before it: (B, T) -> (B, T, V).

        The pieces of a row stand one behind the other, unless their ``positions`` (B, T) are given,
        and which pieces each sees, ``mask`` (B, 1, T, T).
        """
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        if mask is None:
            mask = causal_mask(tokens.shape[1], tokens.device, context=self.config.context)
        x = self.dropout(self.table(tokens).float())
        angles = self.position.angles(positions)
        for layer in self.layers:
            x = layer(x, mask, angles)
        return F.linear(self.norm(x), self.table.weight, self.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """The natural logarithm of the probability of each piece but the first, given those before
        it: (B, T + 1) -> (B, T) float32. What stands behind a piece does not change it."""
        log_probs = self.logits(tokens[:, :-1]).float().log_softmax(-1)
        chosen: Tensor = log_probs.gather(2, tokens[:, 1:, None])[..., 0]
        return chosen


Model, Config = LanguageModel, LanguageModelConfig  # what a family's module is asked for by name
