"""Cross-entropy against smoothed labels, as a sum with its counts."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from mynah.losses.counts import Counts


def label_smoothing_loss(
    logits: Tensor, targets: Tensor, *, smoothing: float = 0.1
) -> tuple[Tensor, Counts]:
    """Kullback-Leibler divergence of the prediction from smoothed labels, summed.

    (B, U, V) logits, (B, U) with -1 where there is nothing to predict. The label keeps
    ``1 - smoothing``, the other V - 1 units share ``smoothing`` equally
    (https://arxiv.org/abs/1512.00567); the labels' own entropy is subtracted, so that a perfect
    prediction costs 0.
    """
    size = logits.shape[-1]
    # torch spreads its share over all V units, the label included
    cross_entropy = F.cross_entropy(
        logits.float().flatten(0, -2),
        targets.flatten(),
        ignore_index=-1,
        label_smoothing=smoothing * size / (size - 1),
        reduction="sum",
    )
    entropy = 0.0
    for share, times in ((1 - smoothing, 1), (smoothing / (size - 1), size - 1)):
        entropy -= times * share * math.log(share) if share > 0 else 0.0
    tokens = int((targets >= 0).sum())
    return cross_entropy - tokens * entropy, Counts(targets.shape[0], tokens, 0)


def accuracy(logits: Tensor, targets: Tensor) -> tuple[int, int]:
    """How many targets the best unit hits, and how many there are (-1 does not count)."""
    counted = targets >= 0
    return int(((logits.argmax(-1) == targets) & counted).sum()), int(counted.sum())
