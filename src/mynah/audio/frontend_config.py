"""Settings of the front ends. Kaldi's take lengths in milliseconds, librosa's in samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Window = Literal["povey", "hanning", "hamming", "blackman", "rectangular"]


@dataclass(frozen=True)
class FbankConfig:
    """Kaldi's log mel filter-bank energies. Lengths in milliseconds, frequencies in hertz."""

    kind: Literal["fbank"] = "fbank"
    rate: int = 16_000
    num_mels: int = 80
    frame_length: float = 25.0
    frame_shift: float = 10.0
    low: float = 20.0
    high: float = 0.0
    """Zero or less: counted from half the rate."""
    window: Window = "povey"
    preemphasis: float = 0.97
    remove_dc: bool = True
    scale: float = 32_768.0
    """Samples in [-1, 1] are multiplied by this: Kaldi works on 16-bit integers."""
    snip_edges: bool = True
    """False: frames are centred on multiples of the shift and the ends are mirrored."""
    use_energy: bool = False
    """Puts the log energy of the frame (before pre-emphasis and window) before the bins."""


@dataclass(frozen=True)
class MfccConfig:
    """Kaldi's mel-frequency cepstra. Lengths in milliseconds, frequencies in hertz."""

    kind: Literal["mfcc"] = "mfcc"
    rate: int = 16_000
    num_ceps: int = 13
    num_mels: int = 23
    lifter: float = 22.0
    frame_length: float = 25.0
    frame_shift: float = 10.0
    low: float = 20.0
    high: float = 0.0
    window: Window = "povey"
    preemphasis: float = 0.97
    remove_dc: bool = True
    scale: float = 32_768.0
    snip_edges: bool = True
    use_energy: bool = False
    """Puts the log energy of the frame in the place of the first coefficient."""


@dataclass(frozen=True)
class WhisperMelConfig:
    """Whisper's log-mel spectrogram: 16 kHz, 25 ms windows every 10 ms, 80 or 128 filters.

    ``window_seconds`` is the length to which a signal is cut or filled with zeros first (Whisper
    takes 30 s); zero keeps the signal's own.
    """

    kind: Literal["whisper"] = "whisper"
    num_mels: Literal[80, 128] = 80
    window_seconds: float = 0.0
    rate: int = 16_000


@dataclass(frozen=True)
class MelConfig:
    """A mel spectrogram as librosa computes it. Lengths in samples, frequencies in hertz."""

    kind: Literal["mel"] = "mel"
    rate: int = 22_050
    num_mels: int = 80
    n_fft: int = 1024
    win_length: int = 0
    """Zero: n_fft."""
    hop: int = 256
    low: float = 0.0
    high: float = 0.0
    """Zero: half the rate."""
    htk: bool = False
    area: bool = True
    """Filters of equal area (librosa's norm="slaney") rather than of height 1."""
    power: Literal[1, 2] = 2
    log: Literal["none", "ln", "log10", "db"] = "none"
    floor: float = 1e-5
    """Least value under the logarithm."""
    pad: int = -1
    """Samples added at each end; -1 is n_fft // 2 (librosa's center=True), 0 none; vocoders of
    HiFi-GAN's kind use (n_fft - hop) // 2."""
    pad_mode: Literal["reflect", "constant"] = "reflect"


FrontendConfig = FbankConfig | MfccConfig | WhisperMelConfig | MelConfig

CONFIGS: dict[str, type[Any]] = {
    "fbank": FbankConfig,
    "mfcc": MfccConfig,
    "whisper": WhisperMelConfig,
    "mel": MelConfig,
}
