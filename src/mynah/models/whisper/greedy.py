"""Greedy decoding of a batch on the device of the model, for evaluation while training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mynah.models.whisper.model import Decoder, Memory


def greedy(
    decoder: Decoder,
    memory: Memory,
    prompts: Tensor,
    *,
    eot: int,
    forbidden: Tensor,
    forbidden_first: Sequence[int] = (),
    max_new: int,
) -> list[list[int]]:
    """The most probable tokens after ``prompts`` (B, U), one row of the memory each.

    ``forbidden`` (V,) is true for tokens that are never said, ``forbidden_first`` lists those that
    are not said first. A row ends before ``eot`` or after ``max_new`` tokens.
    """
    rows, begun = prompts.shape
    past = decoder.init_past(rows, begun + max_new, like=memory)
    at = torch.arange(begun, device=prompts.device)
    said: list[Tensor] = []
    ended = torch.zeros(rows, dtype=torch.bool, device=prompts.device)
    tokens = prompts
    for number in range(max_new):
        hidden = decoder(tokens, memory, past, at)[:, -1]
        logits = decoder.logits(hidden).float().masked_fill(forbidden, -torch.inf)
        if number == 0 and forbidden_first:
            logits[:, list(forbidden_first)] = -torch.inf
        best = logits.argmax(-1).masked_fill(ended, eot)
        ended = ended | (best == eot)
        said.append(best)
        if bool(ended.all()):
            break
        tokens, at = best[:, None], at[-1:] + 1
    table = torch.stack(said, 1).tolist()
    return [row[: row.index(eot)] if eot in row else row for row in table]
