"""Front ends against a plain float64 reference by FFT; their settings and refusals."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mynah.audio import FbankConfig, Frontend, MelConfig, WhisperMelConfig, make_frontend
from mynah.audio import mel as banks
from mynah.audio.features import compress
from mynah.config import as_dict
from mynah.errors import ConfigError, InputError

Wide = npt.NDArray[np.float64]


def signal(seconds: float = 1.0, rate: int = 16_000) -> npt.NDArray[np.float32]:
    times = np.arange(int(seconds * rate)) / rate
    glide = 0.2 * np.sin(2 * np.pi * (200 + 900 * times) * times)
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(times))
    return (glide + noise + 0.05).astype(np.float32)


def power_spectrum(frames: Wide, n_fft: int, power: float = 2.0) -> Wide:
    return np.asarray(np.abs(np.fft.rfft(frames, n_fft)) ** power)


def kaldi_reference(samples: npt.NDArray[np.float32], config: FbankConfig) -> Wide:
    """Kaldi's order of steps, frame by frame, in float64."""
    length, shift = int(config.rate * 0.025), int(config.rate * 0.01)
    wide = samples.astype(np.float64) * config.scale
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    window = {"povey": hann**0.85, "rectangular": np.ones(length)}[config.window]
    n_fft = 512 if config.rate == 16_000 else 256
    bank = banks.kaldi_bank(config.num_mels, n_fft, config.rate, config.low, config.high)
    rows = []
    for start in range(0, len(wide) - length + 1, shift):
        frame = wide[start : start + length]
        frame = frame - frame.mean()
        frame = frame - config.preemphasis * np.concatenate([frame[:1], frame[:-1]])
        rows.append(power_spectrum(frame * window, n_fft) @ bank)
    return np.asarray(np.log(np.maximum(rows, np.finfo(np.float32).eps)))


@pytest.mark.parametrize("window", ["povey", "rectangular"])
@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_fbank(window: Any, rate: int) -> None:
    config = FbankConfig(rate=rate, window=window, num_mels=40)
    samples = signal(rate=rate)
    feats = make_frontend(config)(samples)
    expected = kaldi_reference(samples, config)
    assert feats.shape == expected.shape == (98, 40)
    assert np.abs(feats - expected).max() < 1e-3


@pytest.mark.parametrize(
    "config",
    [
        MelConfig(rate=16_000, n_fft=400, hop=160),
        MelConfig(rate=16_000, n_fft=512, win_length=400, hop=100, power=1, htk=True),
        MelConfig(n_fft=1024, hop=256, area=False, low=50.0, high=8_000.0, num_mels=40),
        MelConfig(n_fft=1024, hop=256, pad=0),
        MelConfig(n_fft=402, win_length=401, hop=100, num_mels=20, pad_mode="constant"),
    ],
    ids=lambda c: f"{c.n_fft}-{c.win_length}-{c.pad}",
)
def test_mel(config: MelConfig) -> None:
    samples = signal(rate=config.rate)
    length, pad = config.win_length or config.n_fft, config.pad
    pad = config.n_fft // 2 if pad < 0 else pad
    padded = np.pad(samples.astype(np.float64), pad, mode=config.pad_mode)
    window = np.zeros(config.n_fft)
    before = (config.n_fft - length) // 2
    window[before : before + length] = np.hanning(length + 1)[:-1]
    starts = range(0, len(padded) - config.n_fft + 1, config.hop)
    frames = np.stack([padded[s : s + config.n_fft] * window for s in starts])
    bank = banks.slaney_bank(
        config.num_mels, config.n_fft, config.rate, config.low, config.high,
        htk=config.htk, area=config.area,
    )  # fmt: skip
    expected = power_spectrum(frames, config.n_fft, config.power) @ bank
    got = make_frontend(config)(samples)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6 * expected.max())
    for log, function in (("ln", np.log), ("log10", np.log10)):
        values = {**as_dict(config), "log": log, "floor": 1e-2}
        np.testing.assert_allclose(
            make_frontend(values)(samples), function(np.maximum(expected, 1e-2)), atol=2e-3
        )
    decibels = make_frontend({**as_dict(config), "log": "db", "floor": 1e-2})(samples)
    np.testing.assert_allclose(decibels, 10 * np.log10(np.maximum(expected, 1e-2)), atol=1e-2)


def test_mel_scales() -> None:
    # Corner frequencies that librosa's documentation prints for 40 points up to 11025 Hz.
    printed = {1: 85.317, 11: 938.490, 12: 1024.856, 20: 2071.840, 38: 10096.408}
    bank = banks.slaney_bank(38, 65_536, 22_050)
    for point, frequency in printed.items():
        peak = bank[:, point - 1].argmax() * 22_050 / 65_536
        assert abs(peak - frequency) < 0.4
    step = 22_050 / 65_536
    np.testing.assert_allclose(bank.sum(axis=0) * step, 1.0, rtol=1e-4)  # equal areas
    plain = banks.slaney_bank(38, 65_536, 22_050, area=False, htk=True)
    np.testing.assert_allclose(plain.max(axis=0), 1.0, atol=2e-2)
    kaldi = banks.kaldi_bank(80, 512, 16_000, 20.0, 0.0)
    inside = kaldi.sum(axis=1)[3:240]
    np.testing.assert_allclose(inside, 1.0, atol=1e-9)  # neighbouring triangles add up to one


def test_cosines_are_orthonormal() -> None:
    matrix = banks.cepstral_matrix(23, 23, 0.0)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(23), atol=1e-12)


def test_silence_and_energy() -> None:
    silence = np.zeros(16_000, dtype=np.float32)
    floor = np.log(np.finfo(np.float32).eps)
    feats = make_frontend({"kind": "fbank", "use_energy": True})(silence)
    assert feats.shape == (98, 81)
    np.testing.assert_allclose(feats, floor, rtol=1e-6)
    assert np.isfinite(make_frontend({"kind": "whisper"})(silence)).all()
    samples = signal()
    first = make_frontend({"kind": "fbank", "use_energy": True})(samples)[:, 0]
    frame = samples[:400].astype(np.float64) * 32_768
    assert abs(first[0] - np.log(((frame - frame.mean()) ** 2).sum())) < 1e-4


def test_constant_offset_does_not_matter() -> None:
    frontend = make_frontend({"kind": "fbank"})
    samples = signal()
    assert np.abs(frontend(samples + np.float32(0.25)) - frontend(samples)).max() < 0.01


def test_frame_counts_and_attributes() -> None:
    fbank, whisper = make_frontend({"kind": "fbank"}), make_frontend({"kind": "whisper"})
    assert (fbank.dim, fbank.rate, fbank.frame_shift) == (80, 16_000, 0.01)
    assert make_frontend({"kind": "mfcc"}).dim == 13
    assert [fbank.num_frames(n) for n in (0, 399, 400, 559, 560, 16_000)] == [0, 0, 1, 1, 2, 98]
    assert [whisper.num_frames(n) for n in (0, 159, 160, 16_000)] == [0, 0, 1, 100]
    window = make_frontend(WhisperMelConfig(window_seconds=30.0))
    assert window(signal()).shape == window(signal(31.0)).shape == (3_000, 80)
    assert window.num_frames(5) == 3_000
    centred = make_frontend({"snip_edges": False})
    assert centred.num_frames(16_000) == 100
    for frontend in (fbank, whisper, centred):
        for size in (0, 1, 50, 161, 399, 401, 1_000):
            assert frontend(signal()[:size]).shape == (frontend.num_frames(size), frontend.dim)


def test_whisper_window_step() -> None:
    samples = signal()
    frontend = make_frontend({"kind": "whisper"})
    logs = frontend.stream().feed(samples, last=True)
    expected = (np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0
    np.testing.assert_allclose(compress(logs), expected, atol=1e-6)
    np.testing.assert_array_equal(frontend(samples), compress(logs))


@pytest.mark.parametrize("kind", ["fbank", "mfcc", "whisper"])
def test_batch_mates_do_not_matter(kind: str) -> None:
    frontend = make_frontend({"kind": kind})
    signals = [signal(s) for s in (0.3, 1.0, 0.01)] + [np.zeros(0, dtype=np.float32)]
    feats, lens = frontend.batch(signals)
    assert feats.shape == (4, max(lens), frontend.dim) and lens[3] == 0
    for row, size, samples in zip(feats, lens, signals, strict=True):
        np.testing.assert_array_equal(row[:size], frontend(samples))
        assert not row[size:].any()
    assert frontend.batch([])[0].shape == (0, 0, frontend.dim)


def test_threads_share_a_frontend() -> None:
    frontend = make_frontend({"kind": "fbank"})
    signals = [signal(0.2 + 0.1 * i) for i in range(8)]
    expected = [frontend(samples) for samples in signals]
    got: dict[int, Any] = {}

    def work(i: int) -> None:
        for _ in range(5):
            got[i] = frontend(signals[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, feats in enumerate(expected):
        np.testing.assert_array_equal(got[i], feats)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "fbnk"}, "did you mean 'fbank'"),
        ({"kind": "fbank", "num_mel": 80}, "did you mean 'num_mels'"),
        ({"kind": "fbank", "num_mels": 200}, "narrower than a DFT bin"),
        ({"kind": "fbank", "high": 9_000.0}, "need 0 <= low < high <= 8000"),
        ({"kind": "fbank", "frame_shift": 30.0}, "frame_shift 30"),
        ({"kind": "fbank", "rate": 0}, "rate 0"),
        ({"kind": "fbank", "preemphasis": 1.5}, "preemphasis"),
        ({"kind": "fbank", "frame_length": 1e7}, "frame_length 10000000.0: more than 1000"),
        ({"kind": "fbank", "frame_length": math.inf}, "frame_length inf: more than 1000"),
        ({"kind": "fbank", "frame_length": 10**400}, "frame_length: a number of too many digits"),
        ({"kind": "fbank", "num_mels": 10**400}, "more than 512"),
        ({"kind": "mfcc", "num_mels": 1_000_000}, "num_mels 1000000: more than 512"),
        ({"kind": "fbank", "rate": 10**9}, "rate 1000000000: more than 768000"),
        ({"kind": "whisper", "window_seconds": 1e9}, "window_seconds 1e\\+09: not between 0"),
        ({"kind": "mel", "n_fft": 1 << 30}, "n_fft 1073741824: more than 65536"),
        ({"kind": "mel", "pad": 1 << 40}, "above n_fft"),
        ({"kind": "mfcc", "num_ceps": 24}, "num_ceps 24"),
        ({"kind": "whisper", "num_mels": 81}, "81"),
        ({"kind": "whisper", "rate": 8_000}, "defined at 16000"),
        ({"kind": "mel", "n_fft": 401}, "must be even"),
        ({"kind": "mel", "hop": 2_000}, "hop too long"),
        ({"kind": "mel", "low": 900.0, "high": 800.0}, "need 0 <= low < high"),
    ],
)
def test_refused_settings(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_frontend(values)


def test_config_goes_round() -> None:
    for kind in ("fbank", "mfcc", "whisper", "mel"):
        frontend = make_frontend({"kind": kind})
        again = make_frontend(as_dict(frontend.config))
        assert isinstance(again, Frontend) and again.config == frontend.config


def test_refused_samples() -> None:
    frontend = make_frontend({"kind": "fbank"})
    with pytest.raises(InputError, match="int16 is not floating point"):
        frontend(np.zeros(400, dtype=np.int16))
    with pytest.raises(InputError, match=r"shape \(2, 400\) is not \(S,\)"):
        frontend(np.zeros((2, 400)))
