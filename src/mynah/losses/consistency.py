"""Consistency of two predictions of one utterance (CR-CTC, arXiv:2410.05101), summed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mynah.losses.counts import Counts


def consistency_loss(logits: Tensor, lens: Tensor) -> tuple[Tensor, Counts]:
    """Kullback-Leibler divergence of each row from its partner, summed over rows and frames.

    (B, T, V) logits, (B,): rows 0 and 1 are partners, 2 and 3, and so on. A row is drawn to what
    its partner predicts now, through which no gradient flows, in the frames that both have.

    Raises:
        ValueError: the number of rows is odd.
    """
    if len(logits) % 2:
        raise ValueError(f"{len(logits)} rows are no pairs")
    log_probs = logits.float().log_softmax(-1)
    partners = log_probs.detach().reshape(-1, 2, *logits.shape[1:]).flip(1).reshape(logits.shape)
    total = F.kl_div(log_probs, partners, reduction="none", log_target=True).sum(-1)
    lens = lens.reshape(-1, 2).amin(1).repeat_interleave(2)
    inside = torch.arange(logits.shape[1], device=logits.device) < lens.to(logits.device)[:, None]
    return total.masked_fill(~inside, 0.0).sum(), Counts(lens.numel(), 0, int(lens.sum()))
