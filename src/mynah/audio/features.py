"""Acoustic features: Kaldi's fbank and MFCC, Whisper's log-mel, librosa-style mel spectrograms.

    frontend = make_frontend({"kind": "fbank", "num_mels": 80})
    feats = frontend(samples)                      # (S,) float32 in [-1, 1] -> (T, F)
    stream = frontend.stream()
    parts = [stream.feed(chunk) for chunk in chunks] + [stream.feed([], last=True)]

A whole signal is a stream of one chunk: there is one code path, and any division into chunks gives
the same numbers. Everything runs on numpy in float32.

Sources: S. Davis and P. Mermelstein, "Comparison of parametric representations for monosyllabic
word recognition" (1980); the details follow Kaldi (feature-window, feature-fbank, feature-mfcc),
Whisper (A. Radford et al., arXiv:2212.04356) and librosa (B. McFee et al., SciPy 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mynah.audio import mel
from mynah.audio.frontend_config import (
    CONFIGS,
    FbankConfig,
    FrontendConfig,
    MelConfig,
    MfccConfig,
    WhisperMelConfig,
    Window,
)
from mynah.audio.resampling import HIGHEST_RATE
from mynah.audio.spectrum import ROWS, MelSpectrum, strided
from mynah.config import build
from mynah.errors import ConfigError, InputError, nearest

Array = npt.NDArray[np.float32]

# What is longer or finer is no front end, and takes gigabytes.
_LONGEST_FRAME = 1000.0  # milliseconds
_LONGEST_FFT = 1 << 16  # samples
_LONGEST_WINDOW = 600.0  # seconds
_MOST_MELS = 512
_FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's floor under the logarithm


def make_frontend(values: Mapping[str, Any] | FrontendConfig) -> Frontend:
    """The front end for a config, or for a mapping whose ``kind`` names one (default fbank).

    Raises:
        ConfigError: an unknown kind or key, or values that do not fit together.
    """
    if not isinstance(values, Mapping):
        return Frontend(values)
    kind = values.get("kind", "fbank")
    if kind not in CONFIGS:
        known = ", ".join(CONFIGS)
        raise ConfigError(
            f"frontend.kind: {kind!r} is none of {known}{nearest(str(kind), CONFIGS)}"
        )
    return Frontend(build(CONFIGS[kind], values, "frontend"))


@dataclass(frozen=True)
class _Plan:
    """What a configuration means, in samples and matrices. A frame f covers the samples from
    ``f * shift - left`` on; of S samples there are ``(S + extra) // shift`` frames."""

    rate: int
    shift: int
    left: int
    extra: int
    pad_mode: Literal["reflect", "symmetric", "constant"]
    window: npt.NDArray[np.float64]
    spectrum: MelSpectrum
    log: Literal["none", "ln", "log10", "db"]
    floor: float
    preemphasis: float = 0.0
    remove_dc: bool = False
    energy_scale: float = 0.0  # 0: no energy
    cepstra: Array | None = None
    window_samples: int = 0
    compress: bool = False  # Whisper's clamp over the window

    @property
    def length(self) -> int:
        return len(self.window)

    @property
    def keep(self) -> int:
        """How many of the last samples the mirrored end may need."""
        return max(0, self.extra - self.shift - self.left + self.length) + 1


class Frontend:
    """Samples (S,) float32 in [-1, 1] to features (T, F) float32. Holds no state: may be shared
    by threads.

    Attributes:
        config: what it was made from.
        dim: F.
        rate: hertz that the samples must have.
        frame_shift: seconds from one frame to the next.
        window: seconds that every signal is cut or filled up to; 0: it keeps its own length.
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = config
        if isinstance(config, WhisperMelConfig):
            self._plan = _plan_whisper(config)
        elif isinstance(config, MelConfig):
            self._plan = _plan_mel(config)
        else:
            self._plan = _plan_kaldi(config)
        plan = self._plan
        self.rate = plan.rate
        self.frame_shift = plan.shift / plan.rate
        self.window = plan.window_samples / plan.rate
        if plan.cepstra is not None:
            self.dim = plan.cepstra.shape[1]
        else:
            self.dim = plan.spectrum.num_mels + bool(plan.energy_scale)

    def __call__(self, samples: npt.ArrayLike) -> Array:
        """Features (T, F) of a whole signal (S,).

        Raises:
            InputError: samples that are not one channel of floats.
        """
        signal = _check(samples)
        if self._plan.window_samples:
            signal = signal[: self._plan.window_samples]
            signal = np.pad(signal, (0, self._plan.window_samples - len(signal)))
        feats = self.stream().feed(signal, last=True)
        return compress(feats) if self._plan.compress else feats

    def batch(self, signals: Sequence[npt.ArrayLike]) -> tuple[Array, npt.NDArray[np.int64]]:
        """Features (B, T, F), zero where there is no frame, and their lengths (B,).

        A row is exactly what the signal gives alone.
        """
        rows = [self(signal) for signal in signals]
        lens = np.array([len(row) for row in rows], dtype=np.int64)
        feats = np.zeros((len(rows), int(lens.max(initial=0)), self.dim), dtype=np.float32)
        for target, row in zip(feats, rows, strict=True):
            target[: len(row)] = row
        return feats, lens

    def stream(self) -> FrontendStream:
        """A new stream; for Whisper it gives the features before :func:`compress`."""
        return FrontendStream(self)

    def num_frames(self, num_samples: int) -> int:
        """How many frames a signal of so many samples gives."""
        plan = self._plan
        if plan.window_samples:
            num_samples = plan.window_samples
        return max(0, (num_samples + plan.extra) // plan.shift) if num_samples > 0 else 0

    def _frames(self, signal: Array, start: int, count: int) -> Array:
        """Features (count, F) of frames at ``start``, ``start + shift``, .. of ``signal``."""
        plan = self._plan
        feats = np.empty((count, self.dim), dtype=np.float32)
        for done in range(0, count, _GROUP):
            part = min(_GROUP, count - done)
            first = start + done * plan.shift
            _block(plan, signal, first, feats[done : done + part])
        return feats


_GROUP = 32 * ROWS  # frames computed at a time: what stays in cache


class FrontendStream:
    """The features of a signal that arrives in chunks of any lengths; belongs to one signal."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend
        self._plan = frontend._plan
        self._start()

    def _start(self) -> None:
        self._buffer = np.zeros(0, dtype=np.float32)
        self._origin = 0  # position of the buffer's first sample in the signal
        self._seen = 0
        self._emitted = 0
        self._begun = False

    def feed(self, samples: npt.ArrayLike, last: bool = False) -> Array:
        """The features (T', F) that the next samples (S',) complete; ``last`` ends the signal,
        and the next call begins a new one.

        Raises:
            InputError: samples that are not one channel of floats.
        """
        plan = self._plan
        signal = _check(samples)
        self._seen += len(signal)
        self._buffer = np.concatenate([self._buffer, signal]) if len(self._buffer) else signal
        if not self._begun and (last or self._seen > max(plan.left, plan.keep)):
            self._begin(last)
        elif last:
            self._end()
        feats = self._emit(last)
        if last:
            self._start()
        elif not self._begun:
            self._buffer = self._buffer.copy()  # the caller may use its array again
        return feats

    def _begin(self, last: bool) -> None:
        """Mirrors the beginning (and, of a short signal, the end at once)."""
        left, right = max(0, self._plan.left), self._missing() if last else 0
        if self._seen and (left or right):
            self._buffer = np.pad(self._buffer, (left, right), mode=self._plan.pad_mode)
            self._origin = -left
        self._begun = True

    def _end(self) -> None:
        right = self._missing()
        if right:
            tail = np.pad(self._buffer[-self._plan.keep :], (0, right), mode=self._plan.pad_mode)
            self._buffer = np.concatenate([self._buffer, tail[-right:]])

    def _missing(self) -> int:
        """Samples that the last frame needs beyond the end."""
        plan, total = self._plan, self._count(self._seen)
        return max(0, plan.shift * (total - 1) - plan.left + plan.length - self._seen)

    def _count(self, num_samples: int) -> int:
        plan = self._plan
        return max(0, (num_samples + plan.extra) // plan.shift) if num_samples else 0

    def _emit(self, last: bool) -> Array:
        plan = self._plan
        if last:
            ready = self._count(self._seen)
        elif self._begun:
            covered = (self._seen + plan.left - plan.length) // plan.shift + 1
            ready = min(covered, self._count(self._seen))
        else:
            ready = 0
        count = max(0, ready - self._emitted)
        first = self._emitted * plan.shift - plan.left - self._origin
        feats = self._frontend._frames(self._buffer, first, count)
        self._emitted += count
        if self._begun:
            # One sample before the next frame stays, for the pre-emphasis.
            start = self._emitted * plan.shift - plan.left - 1
            drop = max(0, min(start, self._seen - plan.keep) - self._origin)
            self._buffer = self._buffer[drop:].copy()
            self._origin += drop
        return feats


def compress(feats: Array) -> Array:
    """Whisper's last step, over a whole window: log10 values clamped to 8 below their greatest,
    then ``(x + 4) / 4``."""
    if not feats.size:
        return feats
    clamped = np.maximum(feats, feats.max() - np.float32(8.0))
    return np.asarray((clamped + np.float32(4.0)) / np.float32(4.0))


def _check(samples: npt.ArrayLike) -> Array:
    signal = np.asarray(samples)
    if signal.ndim != 1:
        raise InputError(f"samples: shape {signal.shape} is not (S,); choose or mix channels first")
    if signal.size and signal.dtype.kind != "f":
        raise InputError(f"samples: {signal.dtype} is not floating point in [-1, 1]")
    return np.ascontiguousarray(signal, dtype=np.float32)


def _block(plan: _Plan, signal: Array, first: int, feats: Array) -> None:
    """Fill ``feats`` with the features of the frames from ``first`` on."""
    count, length, shift = len(feats), plan.length, plan.shift
    end = first + (count - 1) * shift + length
    raw = signal[first:end]
    offsets = firsts = None
    if plan.remove_dc or plan.energy_scale:
        frames = strided(raw, 0, shift, count, length)
    if plan.remove_dc:
        means = np.add.reduce(frames, axis=1, keepdims=True) * np.float32(1 / length)
        offsets = means * np.float32(1 - plan.preemphasis)
    part = raw
    if plan.preemphasis:
        less = np.float32(-plan.preemphasis)
        if first:
            part = signal[first - 1 : end - 1] * less
        else:  # nothing is before the signal
            part = np.zeros_like(raw)
            np.multiply(raw[:-1], less, out=part[1:])
        part += raw
        if plan.window[0]:
            # A frame's first sample has no predecessor: Kaldi takes the sample itself.
            alone = raw[: (count - 1) * shift + 1 : shift] * np.float32(1 - plan.preemphasis)
            firsts = (alone - part[: len(raw) - length + 1 : shift]) * np.float32(plan.window[0])
    mels = plan.spectrum(part, shift, count, offsets, firsts)
    if plan.log != "none":
        np.maximum(mels, np.float32(plan.floor), out=mels)
        (np.log if plan.log == "ln" else np.log10)(mels, out=mels)
        if plan.log == "db":
            mels *= np.float32(10.0)
    if plan.cepstra is not None:
        padded = np.zeros((_GROUP, mels.shape[1]), dtype=np.float32)
        padded[:count] = mels
        mels = (padded @ plan.cepstra)[:count]
    if not plan.energy_scale:
        feats[:] = mels
        return
    centred = frames - means if plan.remove_dc else frames
    energies = np.einsum("tn,tn->t", centred, centred) * np.float32(plan.energy_scale**2)
    feats[:, feats.shape[1] - mels.shape[1] :] = mels
    feats[:, 0] = np.log(np.maximum(energies, np.float32(_FLOOR)))


def _plan_kaldi(config: FbankConfig | MfccConfig) -> _Plan:
    _bounded(config, rate=HIGHEST_RATE, num_mels=_MOST_MELS, frame_length=_LONGEST_FRAME,
             frame_shift=_LONGEST_FRAME, scale=math.inf)  # fmt: skip
    length = int(config.rate * 0.001 * config.frame_length)
    shift = int(config.rate * 0.001 * config.frame_shift)
    if shift < 1 or length < 2 or shift > length:
        raise ConfigError(
            f"frame_length {config.frame_length:g}, frame_shift {config.frame_shift:g}: need a "
            f"shift of one sample or more and no more than the length"
        )
    if not 0 <= config.preemphasis <= 1:
        raise ConfigError(f"preemphasis {config.preemphasis:g}: not between 0 and 1")
    n_fft = 1 << max(2, (length - 1).bit_length())
    window = kaldi_window(config.window, length) * config.scale
    bank = mel.kaldi_bank(config.num_mels, n_fft, config.rate, config.low, config.high)
    cepstra = None
    if isinstance(config, MfccConfig):
        if not 1 <= config.num_ceps <= config.num_mels:
            raise ConfigError(f"num_ceps {config.num_ceps}: not between 1 and num_mels")
        cepstra = mel.cepstral_matrix(config.num_mels, config.num_ceps, config.lifter)
    snip = config.snip_edges
    return _Plan(
        rate=config.rate,
        shift=shift,
        left=0 if snip else length // 2 - shift // 2,
        extra=shift - length if snip else shift // 2,
        pad_mode="symmetric",
        window=window,
        spectrum=MelSpectrum(window, n_fft, bank),
        log="ln",
        floor=_FLOOR,
        preemphasis=config.preemphasis,
        remove_dc=config.remove_dc,
        energy_scale=config.scale if config.use_energy else 0.0,
        cepstra=None if cepstra is None else cepstra.astype(np.float32),
    )


def kaldi_window(name: Window, length: int) -> npt.NDArray[np.float64]:
    angles = 2 * math.pi / (length - 1) * np.arange(length)
    hann = 0.5 - 0.5 * np.cos(angles)
    hann[0] = hann[-1] = 0.0
    windows: dict[str, npt.NDArray[np.float64]] = {
        "povey": hann**0.85,
        "hanning": hann,
        "hamming": 0.54 - 0.46 * np.cos(angles),
        "blackman": 0.42 - 0.5 * np.cos(angles) + 0.08 * np.cos(2 * angles),
        "rectangular": np.ones(length),
    }
    return windows[name]


def _plan_whisper(config: WhisperMelConfig) -> _Plan:
    if config.rate != 16_000:
        raise ConfigError(f"rate {config.rate}: Whisper's features are defined at 16000 Hz")
    if not 0 <= config.window_seconds <= _LONGEST_WINDOW:
        raise ConfigError(
            f"window_seconds {config.window_seconds:g}: not between 0 and {_LONGEST_WINDOW:g}"
        )
    n_fft, shift = 400, 160
    window = _periodic_hann(n_fft)
    bank = mel.slaney_bank(config.num_mels, n_fft, config.rate)
    return _Plan(
        rate=config.rate,
        shift=shift,
        left=n_fft // 2,
        extra=0,  # the frame centred on the end is left out
        pad_mode="reflect",
        window=window,
        spectrum=MelSpectrum(window, n_fft, bank),
        log="log10",
        floor=1e-10,
        window_samples=round(config.window_seconds * config.rate),
        compress=True,
    )


def _plan_mel(config: MelConfig) -> _Plan:
    _bounded(config, rate=HIGHEST_RATE, num_mels=_MOST_MELS, n_fft=_LONGEST_FFT, hop=_LONGEST_FFT,
             floor=math.inf)  # fmt: skip
    length = config.win_length or config.n_fft
    if not 4 <= length <= config.n_fft or config.n_fft % 2:
        raise ConfigError(
            f"n_fft {config.n_fft}, win_length {length}: n_fft must be even and no less than "
            f"win_length, and that 4 or more"
        )
    pad = config.n_fft // 2 if config.pad == -1 else config.pad
    if not 0 <= pad <= config.n_fft or config.hop > length:
        raise ConfigError(
            f"pad {config.pad}, hop {config.hop}: pad is negative or above n_fft, or hop too long"
        )
    window = _periodic_hann(length)
    bank = mel.slaney_bank(
        config.num_mels,
        config.n_fft,
        config.rate,
        config.low,
        config.high,
        htk=config.htk,
        area=config.area,
    )
    return _Plan(
        rate=config.rate,
        shift=config.hop,
        left=pad - (config.n_fft - length) // 2,
        extra=2 * pad - config.n_fft + config.hop,
        pad_mode=config.pad_mode,
        window=window,
        spectrum=MelSpectrum(window, config.n_fft, bank, power=float(config.power)),
        log=config.log,
        floor=config.floor,
    )


def _periodic_hann(length: int) -> npt.NDArray[np.float64]:
    return np.asarray(0.5 - 0.5 * np.cos(2 * math.pi / length * np.arange(length)))


def _bounded(config: FrontendConfig, **most: float) -> None:
    for name, limit in most.items():
        value = getattr(config, name)
        if value <= 0:
            raise ConfigError(f"{name} {value}: must be more than 0")
        if value > limit:
            raise ConfigError(f"{name} {value}: more than {limit:g}")
