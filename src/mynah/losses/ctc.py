"""CTC loss (Graves et al., 2006), as a sum with its counts."""

from __future__ import annotations

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
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    loss = F.ctc_loss(
        log_probs, tokens, lens, token_lens, blank=blank, reduction="sum", zero_infinity=True
    )
    return loss, Counts(lens.numel(), int(token_lens.sum()), int(lens.sum()))
