"""Recordings and features: numpy in, numpy out; no models."""

from __future__ import annotations

from mynah.audio.features import (
    FbankConfig,
    Frontend,
    FrontendConfig,
    FrontendStream,
    MelConfig,
    MfccConfig,
    WhisperMelConfig,
    make_frontend,
)
from mynah.audio.resampling import Resampler, resample

__all__ = [
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
