"""Mel filter banks and the cosine transform of cepstra, as float64 matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mynah.errors import ConfigError

Matrix = npt.NDArray[np.float64]


def kaldi_bank(num_mels: int, n_fft: int, rate: int, low: float, high: float) -> Matrix:
    """Kaldi's filters, (n_fft // 2 + 1, num_mels): triangles of height 1 on the scale
    ``1127 ln(1 + f / 700)``, straight in mel (not in hertz), the bin at half the rate unused.

    ``high`` of zero or less counts from half the rate.

    Raises:
        ConfigError: frequencies out of order or a filter that covers no bin.
    """
    high = high if high > 0 else rate / 2 + high
    _check_range(low, high, rate)
    edges = np.linspace(_htk(np.array(low)), _htk(np.array(high)), num_mels + 2)
    mels = _htk(_bins(n_fft, rate))[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bank = np.minimum((mels - left) / (centre - left), (right - mels) / (right - centre))
    bank = np.maximum(bank, 0.0)
    bank[-1] = 0.0
    _check_bank(bank, num_mels)
    return bank


def slaney_bank(
    num_mels: int,
    n_fft: int,
    rate: int,
    low: float = 0.0,
    high: float = 0.0,
    *,
    htk: bool = False,
    area: bool = True,
) -> Matrix:
    """librosa's filters, (n_fft // 2 + 1, num_mels): triangles straight in hertz between points
    evenly spaced in mel, of equal area (``area``) or of height 1.

    The scale is Slaney's (linear below 1 kHz, logarithmic above; Auditory Toolbox, 1998) or, with
    ``htk``, ``2595 log10(1 + f / 700)``. ``high`` of zero means half the rate. Whisper's filters
    are ``slaney_bank(80, 400, 16000)`` and with 128.

    Raises:
        ConfigError: frequencies out of order or a filter that covers no bin.
    """
    high = high or rate / 2
    _check_range(low, high, rate)
    to_mel, to_hertz = (_htk, _htk_inverse) if htk else (_slaney, _slaney_inverse)
    points = to_mel(np.array([low, high]))
    edges = to_hertz(np.linspace(points[0], points[1], num_mels + 2))
    hertz = _bins(n_fft, rate)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bank = np.minimum((hertz - left) / (centre - left), (right - hertz) / (right - centre))
    bank = np.maximum(bank, 0.0)
    _check_bank(bank, num_mels)
    return np.asarray(bank * (2.0 / (right - left))) if area else bank


def cepstral_matrix(num_mels: int, num_ceps: int, lifter: float) -> Matrix:
    """The orthonormal DCT-II with Kaldi's lifter folded in, (num_mels, num_ceps).

    ``lifter`` is Q in the weights ``1 + Q / 2 sin(pi i / Q)``; zero means none.
    """
    n, k = np.arange(num_mels)[:, None], np.arange(num_ceps)[None, :]
    matrix = np.sqrt(2.0 / num_mels) * np.cos(np.pi / num_mels * (n + 0.5) * k)
    matrix[:, 0] = np.sqrt(1.0 / num_mels)
    if lifter:
        matrix *= 1.0 + 0.5 * lifter * np.sin(np.pi * np.arange(num_ceps) / lifter)
    return np.asarray(matrix)


def _bins(n_fft: int, rate: int) -> Matrix:
    return np.arange(n_fft // 2 + 1, dtype=np.float64) * (rate / n_fft)


def _htk(hertz: Matrix) -> Matrix:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


def _htk_inverse(mels: Matrix) -> Matrix:
    return np.asarray(700.0 * np.expm1(mels / 1127.0))


_SLANEY_BREAK = 1000.0  # hertz; 15 mel
_SLANEY_STEP = np.log(6.4) / 27.0


def _slaney(hertz: Matrix) -> Matrix:
    above = 15.0 + np.log(np.maximum(hertz, _SLANEY_BREAK) / _SLANEY_BREAK) / _SLANEY_STEP
    return np.where(hertz < _SLANEY_BREAK, hertz * 3.0 / 200.0, above)


def _slaney_inverse(mels: Matrix) -> Matrix:
    above = _SLANEY_BREAK * np.exp(_SLANEY_STEP * (np.maximum(mels, 15.0) - 15.0))
    return np.where(mels < 15.0, mels * 200.0 / 3.0, above)


def _check_range(low: float, high: float, rate: int) -> None:
    if not 0 <= low < high <= rate / 2:
        raise ConfigError(
            f"low {low:g}, high {high:g}: mel filters need 0 <= low < high <= {rate / 2:g} Hz"
        )


def _check_bank(bank: Matrix, num_mels: int) -> None:
    empty = int((bank.max(axis=0) <= 0).sum())
    if empty:
        raise ConfigError(f"num_mels {num_mels}: {empty} filters are narrower than a DFT bin")
