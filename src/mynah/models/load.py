"""A model folder back to the PyTorch model that it holds."""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import nn

from mynah.config import build
from mynah.errors import ConfigError, ModelError, nearest
from mynah.model_folder import ModelFolder, read_model_folder
from mynah.models import FAMILIES
from mynah.nn.weights import fill, read_weights, write_weights

__all__ = ["WEIGHTS", "load_model", "write_weights"]

WEIGHTS = "weights.safetensors"


def load_model(folder: ModelFolder | str | Path) -> nn.Module:
    """The model of a folder, with its weights, in evaluation mode.

    Raises:
        ModelError: an unknown family, a wrong configuration, or weights that are missing, altered
            or do not fit it.
        MissingDependency: safetensors is not installed.
    """
    if not isinstance(folder, ModelFolder):
        folder = read_model_folder(folder)
    family = folder.info.family
    if family not in FAMILIES:
        raise ModelError(f"{folder.path}: unknown family {family!r}{nearest(family, FAMILIES)}")
    module = importlib.import_module(FAMILIES[family])
    try:
        model: nn.Module = module.Model(build(module.Config, folder.info.config, "config"))
    except ConfigError as error:
        raise ModelError(f"{folder.path}: {error}") from None
    fill(model, read_weights(folder.file(WEIGHTS)), str(folder.path))
    return model.eval()
