"""The configuration of a Whisper model, as ``model.toml`` holds it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mynah.errors import ConfigError

FRAMES = 64
"""Keys and values in int8 of what is heard have a multiple of so many frames."""
UNHEARD = np.float32(-3e38)
"""Added to the scores of frames beyond what is heard."""

_LIMITS = {
    "n_mels": 1024,
    "n_audio_ctx": 100_000,
    "n_audio_state": 16_384,
    "n_audio_head": 256,
    "n_audio_layer": 256,
    "n_vocab": 1_000_000,
    "n_text_ctx": 100_000,
    "n_text_state": 16_384,
    "n_text_head": 256,
    "n_text_layer": 256,
}


@dataclass(frozen=True)
class WhisperDims:
    """Sizes of a Whisper model, by the names of the original.

    Audio and text have the same width, and a feed-forward layer is four times as wide.
    """

    n_mels: int
    n_audio_ctx: int  # encoder frames of a window, 50 a second
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int  # tokens, prompt included
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 1 <= value <= _LIMITS[field.name]:
                raise ConfigError(f"{field.name}: {value} is not in 1..{_LIMITS[field.name]}")
        for state, head in (("n_audio_state", "n_audio_head"), ("n_text_state", "n_text_head")):
            if getattr(self, state) % getattr(self, head):
                sizes = f"{getattr(self, state)} is no multiple of {getattr(self, head)}"
                raise ConfigError(f"{state}: {sizes} heads")
        if self.n_audio_state != self.n_text_state:
            raise ConfigError(
                f"n_audio_state: {self.n_audio_state} differs from n_text_state {self.n_text_state}"
            )


@dataclass(frozen=True)
class WhisperConfig:
    """The table ``[config]`` of the family ``whisper``."""

    dims: WhisperDims
    # (decoder layer, head) whose cross-attention follows the speech
    alignment_heads: tuple[tuple[int, int], ...] = ()
    suppress_tokens: tuple[int, ...] = ()  # never sampled
    begin_suppress_tokens: tuple[int, ...] = ()  # never sampled first

    def __post_init__(self) -> None:
        for layer, head in self.alignment_heads:
            if not (0 <= layer < self.dims.n_text_layer and 0 <= head < self.dims.n_text_head):
                raise ConfigError(f"alignment_heads: the model has no head {layer}, {head}")
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            for token in getattr(self, name):
                if not 0 <= token < self.dims.n_vocab:
                    raise ConfigError(f"{name}: {token} is not in 0..{self.dims.n_vocab - 1}")
