"""Multi-head attention with absolute, relative or rotary positions, and a cache of keys and values.

Legend: B batch, T new frames, C cached frames, H heads, d head width, D = H d.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.nn.feed_forward import Dropout
from mynah.nn.position import rotate

SHORT = 128  # keys, up to which plain products learn faster on a CPU than the fused function

Positions = Literal["none", "absolute", "relative", "relative_unshifted", "rotary"]


class SelfAttention(nn.Module):
    """Self-attention over new frames and cached ones.

    ``positions`` says what the scores know of time:

    - ``none``, ``absolute``: nothing here (absolute positions are added to the input);
    - ``rotary``: queries and keys are turned by their position;
    - ``relative``: Transformer-XL (https://arxiv.org/abs/1901.02860): the score of query i and key
      j is (q_i + u) k_j + (q_i + v) W e(i - j);
    - ``relative_unshifted``: the same with e(j) for e(i - j), which is what WeNet's and many
      models derived from it compute.
    """

    def __init__(
        self, dim: int, heads: int, *, dropout: float = 0.0, positions: Positions = "none"
    ) -> None:
        super().__init__()
        self.heads, self.width, self.positions = heads, dim // heads, positions
        self.dropout = Dropout(dropout)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        if positions.startswith("relative"):
            self.position = nn.Linear(dim, dim, bias=False)
            self.bias_content = nn.Parameter(torch.empty(heads, self.width))  # u
            self.bias_position = nn.Parameter(torch.empty(heads, self.width))  # v
            nn.init.xavier_uniform_(self.bias_content)
            nn.init.xavier_uniform_(self.bias_position)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        where: Tensor | None = None,
        cache: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend from the new frames ``x`` (B, T, D) to the cached and the new ones.

        ``mask`` broadcasts to (B, H, T, C + T). ``where`` is, for ``rotary``, the angles of the new
        frames (1 or B, T, d / 2); for ``relative``, the sinusoids (1, C + 2 T, D) of the distances
        C + T - 1 down to -T; for ``relative_unshifted``, those of the keys (1 or B, C + T, D).
        ``cache`` holds keys and values (B, H, C, d).

        Returns the output (B, T, D), and keys and values (B, H, C + T, d), cached ones included.
        """
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = self._split(q), self._split(k), self._split(v)
        bias: Tensor | None = None
        if self.positions == "rotary":
            assert where is not None
            q, k = rotate(q, where[:, None]), rotate(k, where[:, None])
        elif self.positions == "relative_unshifted":
            assert where is not None
            k = k + self._split(self.position(where[:, -x.shape[1] :]))
        if cache is not None:
            k, v = torch.cat((cache[0], k), dim=2), torch.cat((cache[1], v), dim=2)
        if self.positions == "relative_unshifted":
            assert where is not None
            q, bias = q + self.bias_content[:, None].to(q.dtype), self._key_bias(where)
        elif self.positions == "relative":
            assert where is not None
            bias = self._shifted_bias(q, where)
            q = q + self.bias_content[:, None].to(q.dtype)
        y = attend(q, k, v, mask, bias, self.dropout)
        return self.out(y), k, v

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, self.width).transpose(1, 2)

    def _key_bias(self, where: Tensor) -> Tensor:
        """What remains of the unshifted score when positions are kept inside the keys.

        (q + u) k + (q + v) p = (q + u) (k + p) + (v - u) p, and (v - u) p depends on the key alone:
        (1 or B, C + T, D) -> (1 or B, H, 1, C + T).
        """
        weight = self.position.weight.view(self.heads, self.width, -1)  # (H, d, D)
        difference = (self.bias_position - self.bias_content)[:, None]  # (H, 1, d)
        bias: Tensor = where @ (difference @ weight)[:, 0].T
        return bias.transpose(1, 2)[:, :, None]

    def _shifted_bias(self, q: Tensor, where: Tensor) -> Tensor:
        """Position part of the score: (B, H, T, d), (1, C + 2 T, D) -> (B, H, T, C + T)."""
        size = q.shape[2]
        p = self._split(self.position(where))
        scores = (q + self.bias_position[:, None].to(q.dtype)) @ p.transpose(2, 3)
        width = scores.shape[3]  # C + 2 T; row i begins at column T - 1 - i
        # With a column put before each row and T numbers taken away, rows slide into their places.
        slid = F.pad(scores, (1, 0)).view(*scores.shape[:2], width + 1, size)[:, :, 1:]
        shifted: Tensor = slid.reshape(*scores.shape[:3], width)[..., : width - size]
        return shifted


class CrossAttention(nn.Module):
    """Attention from one sequence to another, whose keys and values are computed once."""

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.width = heads, dim // heads
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(dim, dim)
        self.memory = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of what is attended to: (B, T, D) -> twice (B, H, T, d)."""
        k, v = self.memory(memory).chunk(2, dim=-1)
        return self._split(k), self._split(v)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """(N B, U, D), (B, H, T, d) twice, (B, 1, 1, T) -> (N B, U, D).

        N neighbouring rows of ``x`` share one row of keys, which is not copied for them.
        """
        batch, size = keys.shape[0], x.shape[1]
        q = self._split(self.query(x).reshape(batch, -1, self.heads * self.width))  # (B, H, N U, d)
        y = attend(q, keys, values, mask, None, self.dropout)
        result: Tensor = self.out(y)
        return result.reshape(-1, size, self.heads * self.width)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, self.width).transpose(1, 2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, dropout: Dropout
) -> Tensor:
    """Scaled dot-product attention; ``bias`` is added to the scores before they are scaled.

    (B, H, T, d), (B, H, C, d) twice, boolean and float (B or 1, H or 1, T or 1, C) -> (B, T, H d)
    """
    if bias is not None:
        bias = bias / q.shape[-1] ** 0.5
    short = q.device.type == "cpu" and k.shape[2] <= SHORT and torch.is_grad_enabled()
    if dropout.training and (dropout.rate > 0.0 or short):
        y = dropout(_weights(q, k, mask, bias)) @ v
    else:
        if bias is not None:
            bias = (bias if mask is None else bias.masked_fill(~mask, float("-inf"))).to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask if bias is None else bias)
    result: Tensor = y.transpose(1, 2).flatten(2)
    return result


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
    """Attention weights (B, H, T, C), to be thinned out, in the precision of ``q``.

    The mask is added, which is faster than filling and needs nothing in the backward pass; the
    softmax reckons in float32 inside, so autocast need not make float32 copies around it.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device)
        scores = scores + hidden.masked_fill_(~mask, float("-inf"))
    with torch.autocast(scores.device.type, enabled=False):
        weights: Tensor = scores.softmax(-1)
    return weights
