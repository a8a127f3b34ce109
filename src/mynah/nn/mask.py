"""Masks and row-wise slices: the only place where lengths become masks.

Legend: B batch, T time (queries), C cached frames. A mask is boolean, true where attention may
look, and broadcasts against scores of shape (B, H, T, C + T). Every query may look at something,
padded ones included, so that no softmax is taken over nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def valid_mask(lens: Tensor, size: int) -> Tensor:
    """True for the first ``lens`` of ``size`` positions: (B,) -> (B, size)."""
    return torch.arange(size, device=lens.device) < lens[:, None]


def key_mask(lens: Tensor, size: int) -> Tensor:
    """Keys before ``lens``, or key 0 of an empty row: (B,) -> (B, 1, 1, size)."""
    return valid_mask(lens.clamp(min=1), size)[:, None, None]


def causal_mask(
    size: int, device: torch.device | None = None, *, context: int | None = None
) -> Tensor:
    """Keys up to the query itself, the last ``context`` of them (None: all): (1, 1, size, size)."""
    index = torch.arange(size, device=device)
    seen = index <= index[:, None]
    if context is not None:
        seen = seen & (index > index[:, None] - context)
    return seen[None, None]


def chunk_mask(lens: Tensor, size: int, chunk: int, left: int | None) -> Tensor:
    """Keys of the query's own chunk and of the ``left`` chunks before it (None: of all).

    (B,) -> (B, 1, size, size). Dynamic-chunk training, https://arxiv.org/abs/2012.05481.
    """
    index = torch.arange(size, device=lens.device)
    behind = torch.div(index, chunk, rounding_mode="floor")
    behind = behind[:, None] - behind  # chunks from the key's to the query's
    seen = behind >= 0 if left is None else (behind >= 0) & (behind <= left)
    itself = index == index[:, None]
    return (seen & valid_mask(lens, size)[:, None] | itself)[:, None]


def stream_mask(valid: Tensor, lens: Tensor, capacity: int, size: int) -> Tensor:
    """Keys of a streaming step: the last ``valid`` of ``capacity`` cached ones and ``lens`` new.

    (B,), (B,) -> (B, 1, 1, capacity + size).
    """
    index = torch.arange(capacity + size, device=lens.device)
    seen = (index >= capacity - valid[:, None]) & (index < capacity + lens.clamp(min=1)[:, None])
    return seen[:, None, None]


def past_mask(at: Tensor, capacity: int) -> Tensor:
    """Keys of a text up to the position of each query: (U,) -> (U, capacity)."""
    return torch.arange(capacity, device=at.device) <= at[:, None]


def slice_rows(x: Tensor, starts: Tensor, size: int) -> Tensor:
    """``size`` frames of each row from its own start: (B, M, ...), (B,) -> (B, size, ...).

    Indices outside a row are clamped to its ends; the caller knows which frames count.
    """
    rows, length = x.shape[0], x.shape[1]
    index = starts[:, None] + torch.arange(size, device=x.device)
    index = index.clamp(min=0).clamp(max=length - 1)
    index = index + torch.arange(rows, device=x.device)[:, None] * length
    flat = x.reshape(rows * length, -1).index_select(0, index.reshape(-1))
    return flat.reshape(rows, size, *x.shape[2:])


def reverse_rows(tokens: Tensor, lens: Tensor) -> Tensor:
    """The first ``lens`` of each row in reverse order, the rest zero: (B, U), (B,) -> (B, U)."""
    size = tokens.shape[1]
    index = lens[:, None] - 1 - torch.arange(size, device=tokens.device)
    taken = tokens.gather(1, index.clamp(min=0))
    return taken.masked_fill(index < 0, 0)
