"""A language model as one ONNX graph, which :mod:`mynah.runtime.rescorer` runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mynah.export.onnx import Part
from mynah.models.lm.model import LanguageModel

PRECISIONS = ("fp32", "int8")


class ScoreGraph(nn.Module):
    """The log-probabilities alone, as the only output of a graph."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return (self.model(tokens),)


def parts(model: LanguageModel) -> dict[str, Part]:
    """The graph: rows of pieces in, the log-probability of each but the first out."""
    tokens = torch.randint(model.config.vocab_size, (3, 13))
    axes = {"tokens": {0: "batch", 1: "length"}}
    return {"lm": Part(ScoreGraph(model), {"tokens": tokens}, axes, ["log_probs"])}


def packed(model: LanguageModel) -> list[tuple[int, int]]:
    """The shapes of the matrices that four bits a weight do for: all but the table's."""
    dim, hidden = model.config.dim, model.config.hidden
    return [(dim, 3 * dim), (dim, dim), (dim, hidden), (hidden, dim)]


def facts(model: LanguageModel) -> dict[str, str]:
    """How many pieces it knows, as the graph's metadata."""
    return {"vocab_size": str(model.config.vocab_size)}
