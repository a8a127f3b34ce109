"""A punctuation model as one ONNX graph, which :mod:`mynah.runtime.punctuator` runs."""

from __future__ import annotations

import torch

from mynah.export.onnx import Part
from mynah.models.punctuation.model import Punctuation

PRECISIONS = ("fp32", "int8")


def parts(model: Punctuation) -> dict[str, Part]:
    """The graph: rows of features and lengths in, log-probabilities out."""
    config = model.config
    rows = torch.randint(sum(config.features.values()), (2, 60, len(config.features)))
    inputs = {"rows": rows, "lens": torch.tensor([60, 41])}
    axes = {"rows": {0: "batch", 1: "units"}, "lens": {0: "batch"}}
    return {"punctuation": Part(model, inputs, axes, ["marks", "cases"])}


def facts(model: Punctuation) -> dict[str, str]:
    """How far an output sees, in units, as the graph's metadata."""
    config = model.config
    return {"look_back": str(config.look_back), "look_ahead": str(config.look_ahead)}
