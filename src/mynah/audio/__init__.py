"""Recordings and features: numpy in, numpy out; no models."""

from __future__ import annotations

from mynah.audio.features import Frontend, FrontendStream, make_frontend
from mynah.audio.files import Waveform, blocks, read, write
from mynah.audio.frontend_config import (
    FbankConfig,
    FrontendConfig,
    MelConfig,
    MfccConfig,
    WhisperMelConfig,
)
from mynah.audio.resampling import Resampler, resample

__all__ = [
    "read",
    "blocks",
    "write",
    "Waveform",
    "resample",
    "Resampler",
    "make_frontend",
    "Frontend",
    "FrontendStream",
    "FrontendConfig",
    "FbankConfig",
    "MfccConfig",
    "WhisperMelConfig",
    "MelConfig",
]
