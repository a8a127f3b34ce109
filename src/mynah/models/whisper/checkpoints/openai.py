"""The original's files: ``torch.save({"dims": ..., "model_state_dict": ...})``."""

from __future__ import annotations

from pathlib import Path

from mynah.config import build
from mynah.errors import ConfigError, ModelError
from mynah.models.whisper.checkpoints.checkpoint import Stored, WhisperCheckpoint
from mynah.models.whisper.checkpoints.names import complete
from mynah.models.whisper.checkpoints.pickled import read_torch
from mynah.runtime.whisper.config import WhisperDims


def read_openai(path: Path) -> WhisperCheckpoint:
    """Read a ``.pt`` file. It holds neither a vocabulary nor alignment heads.

    Raises:
        ModelError: not such a file, or tensors that do not fit its ``dims``.
    """
    values = read_torch(path)
    if not isinstance(values, dict) or not {"dims", "model_state_dict"} <= values.keys():
        raise ModelError(f"{path}: not a Whisper checkpoint (no dims and model_state_dict)")
    sizes, state = values["dims"], values["model_state_dict"]
    if not isinstance(sizes, dict) or not isinstance(state, dict):
        raise ModelError(f"{path}: dims and model_state_dict are not tables")
    try:
        dims = build(WhisperDims, {str(k): v for k, v in sizes.items()}, "dims")
    except ConfigError as error:
        raise ModelError(f"{path}: {error}") from None
    stored = {}
    for name, value in state.items():
        if not isinstance(value, Stored):
            raise ModelError(f"{path}: {name} is not a tensor")
        stored[str(name)] = value
    return WhisperCheckpoint("openai", path, dims, complete(stored, dims, path, {}))
