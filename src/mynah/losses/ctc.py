"""CTC loss (Graves et al., 2006), as a sum with its counts.

Of the V units of a frame the loss needs the normaliser and the few that occur in the text. So only
those are taken from the logits, and the forward-backward algorithm runs on U + 1 columns; no
float32 copy of the log-probabilities is made, nor kept for the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mynah.losses.counts import Counts


def ctc_loss(
    logits: Tensor, lens: Tensor, tokens: Tensor, token_lens: Tensor, *, blank: int = 0
) -> tuple[Tensor, Counts]:
    """Negative log-likelihood of ``tokens``, summed over the batch.

    (B, T, V) logits, normalised here, (B,), (B, U), (B,). An utterance too short for its text
    counts as 0.
    """
    loss: Tensor = _Ctc.apply(logits, lens, tokens, token_lens, blank)  # type: ignore[no-untyped-call]
    return loss, Counts(lens.numel(), int(token_lens.sum()), int(lens.sum()))


def room_for(tokens: Tensor, token_lens: Tensor) -> Tensor:
    """The frames (B,) that ``tokens`` (B, U) need: one each, and a blank between equal ones."""
    place = torch.arange(1, tokens.shape[1], device=tokens.device)
    again = (tokens[:, 1:] == tokens[:, :-1]) & (place < token_lens[:, None])
    return token_lens + again.sum(1)


class _Ctc(torch.autograd.Function):
    """The gradient for the logits is softmax - occupancy, computed a few utterances at a time."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, lens: Tensor, tokens: Tensor, token_lens: Tensor, blank: int
    ) -> Tensor:
        tokens, token_lens = tokens.to(logits.device), token_lens.to(logits.device)
        start = torch.full_like(tokens[:, :1], blank)
        units = torch.cat((start, tokens), 1)  # (B, U + 1), what the columns stand for
        groups = torch.split(logits, _rows(logits))
        norm = torch.cat([part.float().logsumexp(-1) for part in groups])  # (B, T)
        index = units[:, None].expand(-1, logits.shape[1], -1)
        compact = logits.gather(2, index).double() - norm[..., None]  # (B, T, U + 1)
        # equal tokens must be one column: the first that has the token
        columns = (tokens[:, :, None] == tokens[:, None]).int().argmax(2) + 1
        with torch.enable_grad():
            compact.requires_grad_()
            losses = F.ctc_loss(
                compact.transpose(0, 1), columns, lens, token_lens, reduction="none"
            )
            finite = losses.isfinite()
            (slope,) = torch.autograd.grad(losses[finite].sum(), compact)
        # torch's slope is what log_softmax would be given: exp(log_prob) - occupancy
        occupancy = compact.detach().exp() - slope
        occupancy = occupancy.masked_fill(~finite[:, None, None], 0.0).float()
        ctx.save_for_backward(logits, norm, units, occupancy, lens, finite)
        return losses.detach().where(finite, 0.0).sum().float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, norm, units, occupancy, lens, finite = ctx.saved_tensors
        result = torch.empty_like(logits)
        scale = grad * finite  # (B,)
        inside = (
            torch.arange(logits.shape[1], device=logits.device) < lens.to(logits.device)[:, None]
        )
        scale = scale[:, None] * inside  # (B, T)
        index = units[:, None].expand(-1, logits.shape[1], -1)
        parts = (
            torch.split(x, _rows(logits)) for x in (result, logits, norm, index, occupancy, scale)
        )
        for out, part, total, column, taken, factor in zip(*parts, strict=True):
            slope = (part.float() - total[..., None]).exp_()
            slope.scatter_add_(2, column, -taken)
            torch.mul(slope, factor[..., None], out=slope)
            out.copy_(slope)
        return result, None, None, None, None


def _rows(logits: Tensor) -> int:
    """How many utterances are done at a time: one on a CPU, where it stays in cache; where every
    operation has a price of its own, as many as make 256 MB of float32."""
    if logits.device.type == "cpu":
        return 1
    return max(1, (1 << 26) // max(1, logits.shape[1] * logits.shape[2]))
