"""A language model as one ONNX graph, which :mod:`mynah.runtime.rescorer` runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mynah.export.onnx import Part
from mynah.models.lm.model import LanguageModel
from mynah.nn.mask import causal_mask

PRECISIONS = ("fp32", "int8")


class ScoreGraph(nn.Module):
    """A tree of pieces, in which sentences share their beginnings, to the log-probabilities of the
    steps from a piece to one that follows it."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, positions: Tensor, mask: Tensor, before: Tensor, after: Tensor
    ) -> tuple[Tensor, ...]:
        """Pieces (N,), how many lie before each (N,), which it sees (N, N); of each step the place
        of the piece it begins at (E,) and the piece that follows (E,) -> (E,)."""
        logits = self.model.logits(tokens[None], positions[None], mask[None, None])[0].float()
        return (logits.log_softmax(-1)[before, after],)


def parts(model: LanguageModel) -> dict[str, Part]:
    """The graph that :class:`mynah.runtime.rescorer.Rescorer` runs."""
    size, steps = 13, 9
    inputs = {
        "tokens": torch.randint(model.config.vocab_size, (size,)),
        "positions": torch.arange(size),
        "mask": causal_mask(size)[0, 0],
        "before": torch.randint(size, (steps,)),
        "after": torch.randint(model.config.vocab_size, (steps,)),
    }
    axes = {name: {0: "pieces"} for name in ("tokens", "positions")}
    axes |= {"mask": {0: "pieces", 1: "pieces"}, "before": {0: "steps"}, "after": {0: "steps"}}
    return {"lm": Part(ScoreGraph(model), inputs, axes, ["log_probs"])}


def packed(model: LanguageModel) -> list[tuple[int, int]]:
    """The shapes of the matrices that four bits a weight do for: all but the table's."""
    dim, hidden = model.config.dim, model.config.hidden
    return [(dim, 3 * dim), (dim, dim), (dim, hidden), (hidden, dim)]


def facts(model: LanguageModel) -> dict[str, str]:
    """How many pieces it knows, and how many a piece sees, as the graph's metadata."""
    config = model.config
    return {"vocab_size": str(config.vocab_size), "context": str(config.context)}
