"""Features against the numbers of kaldi-native-fbank, torchaudio and openai-whisper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mynah.audio import FbankConfig, MfccConfig, make_frontend, read

RECORDINGS = ("aishell-BAC009S0724W0121", "librispeech-1995-1837-0001")
WHISPER = {"kind": "whisper", "num_mels": 80}
FIGURES: list[tuple[str, dict[str, Any], float]] = [
    ("fbank80", {"kind": "fbank", "num_mels": 80}, 1e-3),
    ("fbank80_torchaudio", {"kind": "fbank", "num_mels": 80}, 1e-3),
    ("mfcc13", {"kind": "mfcc"}, 1e-3),
    ("mfcc13_torchaudio", {"kind": "mfcc"}, 1e-3),
    ("mfcc13_energy", {"kind": "mfcc", "use_energy": True}, 1e-3),
    ("whisper_logmel80", WHISPER, 1e-4),
    ("whisper_logmel128", {**WHISPER, "num_mels": 128}, 1e-4),
    ("whisper_logmel80_30s", {**WHISPER, "window_seconds": 30}, 1e-4),
    ("whisper_logmel128_30s", {**WHISPER, "num_mels": 128, "window_seconds": 30}, 1e-4),
]


@pytest.mark.parametrize("recording", RECORDINGS)
@pytest.mark.parametrize(("name", "settings", "tolerance"), FIGURES, ids=[f[0] for f in FIGURES])
def test_numbers_of_the_originals(
    shared: Path, recording: str, name: str, settings: dict[str, Any], tolerance: float
) -> None:
    folder = shared / "parity" / "fbank-real"
    with np.load(folder / f"{recording}.npz", allow_pickle=False) as arrays:
        if name not in arrays:
            assert name.endswith("_30s") and recording == RECORDINGS[1]
            return
        expected = arrays[name].T if name.startswith("whisper") else arrays[name]
        samples = read(folder / f"{recording}.wav").samples
        assert len(samples) == arrays["num_samples"]
    feats = make_frontend(settings)(samples)
    assert feats.shape == expected.shape and feats.dtype == np.float32
    assert np.abs(feats - expected).max() < tolerance


FBANKS: list[dict[str, Any]] = [
    {},
    {"num_mels": 40, "window": "hamming"},
    {"num_mels": 23, "window": "hanning", "low": 100.0, "high": -400.0, "preemphasis": 0.0},
    {"window": "rectangular", "remove_dc": False, "frame_length": 32.0, "frame_shift": 8.0},
    {"window": "blackman", "snip_edges": False},
    {"rate": 8_000, "num_mels": 40, "use_energy": True},
]


@pytest.mark.parametrize("settings", FBANKS, ids=lambda s: ",".join(s) or "default")
def test_fbank_options_as_kaldi_native_fbank(speech: Path, settings: dict[str, Any]) -> None:
    knf: Any = pytest.importorskip("kaldi_native_fbank")
    config = FbankConfig(**settings)
    samples = read(speech / "slt_1.flac", rate=config.rate).samples
    options = knf.FbankOptions()
    options.mel_opts.num_bins = config.num_mels
    options.mel_opts.low_freq, options.mel_opts.high_freq = config.low, config.high
    options.use_energy, options.energy_floor = config.use_energy, 0.0
    expected = kaldi(knf.OnlineFbank, options, config, samples)
    feats = make_frontend(config)(samples)
    assert feats.shape == expected.shape
    assert np.abs(feats - expected).max() < 2e-3
    assert np.abs(feats - expected).mean() < 2e-5


@pytest.mark.parametrize("lifter", [22.0, 0.0])
def test_mfcc_options_as_kaldi_native_fbank(speech: Path, lifter: float) -> None:
    knf: Any = pytest.importorskip("kaldi_native_fbank")
    config = MfccConfig(num_ceps=20, num_mels=40, lifter=lifter, snip_edges=False)
    samples = read(speech / "rms_1.flac").samples
    options = knf.MfccOptions()
    options.mel_opts.num_bins, options.num_ceps = config.num_mels, config.num_ceps
    options.cepstral_lifter, options.use_energy = lifter, False
    expected = kaldi(knf.OnlineMfcc, options, config, samples)
    feats = make_frontend(config)(samples)
    assert feats.shape == expected.shape
    assert np.abs(feats - expected).max() < 5e-3


def kaldi(
    online: Any, options: Any, config: FbankConfig | MfccConfig, samples: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    frame = options.frame_opts
    frame.samp_freq, frame.dither, frame.snip_edges = config.rate, 0.0, config.snip_edges
    frame.frame_length_ms, frame.frame_shift_ms = config.frame_length, config.frame_shift
    frame.window_type, frame.preemph_coeff = config.window, config.preemphasis
    frame.remove_dc_offset = config.remove_dc
    computer = online(options)
    computer.accept_waveform(config.rate, samples * np.float32(config.scale))
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
