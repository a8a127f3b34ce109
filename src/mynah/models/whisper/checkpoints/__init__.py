"""Whisper checkpoints of other toolkits, read with numpy alone; nothing in them is executed."""

from __future__ import annotations

from mynah.models.whisper.checkpoints.alignment import alignment_heads
from mynah.models.whisper.checkpoints.checkpoint import Stored, Tensors, WhisperCheckpoint
from mynah.models.whisper.checkpoints.detect import read_checkpoint

__all__ = ["Stored", "Tensors", "WhisperCheckpoint", "alignment_heads", "read_checkpoint"]
