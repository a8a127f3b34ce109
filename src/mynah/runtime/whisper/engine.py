"""What decoding needs of an engine that runs a Whisper model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mynah.runtime.engine import Array
from mynah.runtime.whisper.config import WhisperDims

Heard = Any


class TextDecoder(Protocol):
    """Predicts the next token of hypotheses."""

    def __call__(
        self, tokens: Array, parents: Array | None = None, *, every: bool = False
    ) -> Array: ...

    def align(self, tokens: Array, heads: Sequence[tuple[int, int]]) -> Array: ...


class WhisperEngine(Protocol):
    """Hears windows and predicts their texts."""

    dims: WhisperDims
    name: str

    def encode(self, mels: Array) -> Heard: ...
    def decoder(self, heard: Heard, rows: Sequence[int], capacity: int = 448) -> TextDecoder: ...
