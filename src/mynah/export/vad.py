"""A voice activity detector as one ONNX graph, its state as inputs and outputs.

It is small, so it stays in fp32. :mod:`mynah.runtime.vad` runs it by the names given here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mynah.export.onnx import Part
from mynah.models.vad.model import Vad, VadState

PRECISIONS = ("fp32",)


class DetectorGraph(nn.Module):
    """Features and state in, probabilities and the next state out."""

    def __init__(self, model: Vad) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, feats: Tensor, feat_lens: Tensor, overlap: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits, _, state = self.model(feats, feat_lens, VadState(overlap, hidden))
        return torch.sigmoid(logits), state.overlap, state.hidden


def parts(model: Vad) -> dict[str, Part]:
    """The graph, ``detector``."""
    state = model.init_state(2)
    inputs = {
        "feats": torch.randn(2, 60, model.config.feature_dim),
        "feat_lens": torch.tensor([60, 57]),
        "state.overlap": state.overlap,
        "state.hidden": state.hidden,
    }
    axes = {name: {0: "batch"} for name in inputs}
    axes["feats"][1] = "time"
    return {
        "detector": Part(
            DetectorGraph(model),
            inputs,
            axes,
            ["probs", "next.overlap", "next.hidden"],
            {"probs": {1: "time"}},
        )
    }


def facts(model: Vad) -> dict[str, str]:
    """What the runtime has to know, as the graph's metadata."""
    config = model.config
    names = ("feature_dim", "dim", "layers", "kernel", "delay")
    return {name: str(getattr(config, name)) for name in names}
