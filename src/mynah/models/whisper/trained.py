"""Graphs for a model folder whose weights were trained, as an imported one has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mynah.models.whisper.checkpoints import WhisperCheckpoint
from mynah.models.whisper.checkpoints.names import complete
from mynah.models.whisper.checkpoints.safetensors import read_safetensors
from mynah.models.whisper.convert import write_graphs
from mynah.runtime.whisper.config import WhisperConfig


def graph_trained(folder: Path, config: WhisperConfig, precisions: Sequence[str]) -> None:
    """Put the graphs of the weights in ``folder`` beside them, in each of ``precisions``.

    Raises:
        ModelError: the file is broken, or its tensors are not those of ``config``.
    """
    weights = folder / "weights.safetensors"
    tensors = complete(read_safetensors(weights).stored, config.dims, weights, {})
    checkpoint = WhisperCheckpoint(
        layout="mynah",
        path=weights,
        dims=config.dims,
        tensors=tensors,
        alignment_heads=config.alignment_heads,
        suppress_tokens=config.suppress_tokens,
        begin_suppress_tokens=config.begin_suppress_tokens,
    )
    for precision in precisions:
        write_graphs(checkpoint, folder, precision)
