"""The attention decoder: teacher forcing over whole texts, and one step at a time for searches.

Legend: B utterances, N texts (N a multiple of B, neighbours belong together), U text length,
T encoder frames, P past tokens, L layers, H heads, d head width, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mynah.errors import ConfigError
from mynah.nn.attention import CrossAttention, SelfAttention
from mynah.nn.feed_forward import Activation, Dropout, FeedForward
from mynah.nn.mask import causal_mask, key_mask, valid_mask
from mynah.nn.position import Sinusoid


@dataclass(frozen=True)
class DecoderConfig:
    """What the decoders are made of; their width is the encoder's."""

    layers: int = 3  # left to right; 0: no decoder, CTC alone
    reverse_layers: int = 0  # right to left; 0 is U2, more is U2++
    heads: int = 4
    hidden: int = 2048
    activation: Activation = "relu"
    norm_first: bool = True
    norm_eps: float = 1e-5
    dropout: float = 0.1
    position_dropout: float = 0.1
    attention_dropout: float = 0.0
    cross_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.layers < 0 or self.reverse_layers < 0:
            raise ConfigError("layers and reverse_layers must not be negative")
        if self.reverse_layers and not self.layers:
            raise ConfigError("reverse_layers: needs layers in reading order beside them")


Cross = list[tuple[Tensor, Tensor]]  # keys and values (B, H, T, d) of each layer


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder, feed-forward."""

    def __init__(self, config: DecoderConfig, dim: int) -> None:
        super().__init__()
        c = config
        self.norm_first = c.norm_first
        self.norm_attention = nn.LayerNorm(dim, c.norm_eps)
        self.attention = SelfAttention(dim, c.heads, dropout=c.attention_dropout)
        self.norm_cross = nn.LayerNorm(dim, c.norm_eps)
        self.cross = CrossAttention(dim, c.heads, dropout=c.cross_dropout)
        self.norm_feed_forward = nn.LayerNorm(dim, c.norm_eps)
        self.feed_forward = FeedForward(dim, c.hidden, act=c.activation, dropout=c.dropout)
        self.dropout = Dropout(c.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        cross: tuple[Tensor, Tensor],
        cross_mask: Tensor,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, U, D) -> (N, U, D), and keys and values (N, H, P + U, d) with those of the past."""
        y, keys, values = self.attention(self._before(self.norm_attention, x), mask, None, past)
        x = self._after(self.norm_attention, x, y)
        y = self.cross(self._before(self.norm_cross, x), *cross, cross_mask)
        x = self._after(self.norm_cross, x, y)
        y = self.feed_forward(self._before(self.norm_feed_forward, x))
        return self._after(self.norm_feed_forward, x, y), keys, values

    def _before(self, norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x) if self.norm_first else x

    def _after(self, norm: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.dropout(y)
        return x if self.norm_first else norm(x)


class Decoder(nn.Module):
    """Embedding, layers and output of one direction."""

    def __init__(self, config: DecoderConfig, layers: int, dim: int, vocab_size: int) -> None:
        super().__init__()
        if dim % config.heads:
            raise ConfigError(f"decoder.heads: {config.heads} does not divide the width {dim}")
        self.embedding = nn.Embedding(vocab_size, dim)
        self.sinusoid = Sinusoid(dim)
        self.scale = dim**0.5
        self.dropout = Dropout(config.position_dropout)
        self.layers = nn.ModuleList(DecoderLayer(config, dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, config.norm_eps) if config.norm_first else nn.Identity()
        self.output = nn.Linear(dim, vocab_size)

    def cross(self, encoded: Tensor) -> Cross:
        """What every layer needs of the encoder's output (B, T, D), computed once."""
        return [layer.cross.project(encoded) for layer in self.layers]  # type: ignore[operator, union-attr]

    def forward(self, inputs: Tensor, cross: Cross, encoded_lens: Tensor) -> Tensor:
        """Logits of what follows each of ``inputs`` (N, U): (N, U, V)."""
        x = self._embed(inputs, torch.arange(inputs.shape[1], device=inputs.device))
        mask = causal_mask(inputs.shape[1], inputs.device)
        cross_mask = key_mask(encoded_lens, cross[0][0].shape[2])
        for layer, memory in zip(self.layers, cross, strict=True):
            x, _, _ = layer(x, mask, memory, cross_mask, None)
        logits: Tensor = self.output(self.norm(x))
        return logits

    def step(
        self,
        token: Tensor,
        positions: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
        cross: Cross,
        encoded_lens: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One token further; see :meth:`mynah.models.u2.model.U2.step`. Returns logits (N, V)."""
        size = past_keys.shape[3]
        x = self._embed(token[:, None], positions[:, None])
        seen = torch.cat((valid_mask(positions, size), torch.ones_like(token[:, None]).bool()), 1)
        cross_mask = key_mask(encoded_lens, cross[0][0].shape[2])
        keys, values = [], []
        for i, (layer, memory) in enumerate(zip(self.layers, cross, strict=True)):
            past = (past_keys[:, i], past_values[:, i])
            x, k, v = layer(x, seen[:, None, None], memory, cross_mask, past)
            keys.append(k[:, :, size:])
            values.append(v[:, :, size:])
        return self.output(self.norm(x))[:, 0], torch.stack(keys, 1), torch.stack(values, 1)

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = self.dropout(self.embedding(tokens) * self.scale + self.sinusoid(positions))
        return x
