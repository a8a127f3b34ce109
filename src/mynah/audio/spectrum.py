"""Mel spectra of windowed frames, by an FFT a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

ROWS = 8
"""Frames in one matrix product. BLAS may sum in another order for another number of rows, so all
products have this many (the last is filled with zeros): a frame gives the same bits whatever is
computed beside it."""
_GROUP = 4 * ROWS  # frames that are transformed at once: what stays in cache


class MelSpectrum:
    """Mel spectra of frames.

    Matrix products in place of the FFT, its symmetries used, are 1.3 times as fast where BLAS has
    AVX-512, as much slower elsewhere, and up to four times less exact: beside strong bins weak ones
    drown in the rounding of long sums.
    """

    def __init__(
        self,
        window: npt.NDArray[np.float64],
        n_fft: int,
        bank: npt.NDArray[np.float64],
        *,
        power: float = 2.0,
    ) -> None:
        """
        Args:
            window: (N,), N <= n_fft.
            n_fft: length of the transform, even; the frame is continued with zeros.
            bank: (n_fft // 2 + 1, M) filters.
            power: exponent of the magnitude, 2 or 1.
        """
        assert n_fft % 2 == 0 and len(window) <= n_fft and power in (1.0, 2.0)
        self.length, self.power, self.num_mels = len(window), power, bank.shape[1]
        self._n_fft = n_fft
        self._window, self._bank = window.astype(np.float32), bank.astype(np.float32)

    def __call__(
        self,
        signal: Array,
        shift: int,
        count: int,
        offsets: Array | None = None,
        firsts: Array | None = None,
    ) -> Array:
        """Spectra of the frames that begin at 0, shift, .., (count - 1) * shift.

        Args:
            signal: (S,), S >= (count - 1) * shift + length.
            offsets: (count, 1), subtracted from all samples of a frame.
            firsts: (count,), added to the first sample of a frame after windowing.

        Returns:
            (count, M).
        """
        frames = strided(signal, 0, shift, count, self.length)
        powers = np.empty((-(-count // ROWS), ROWS, len(self._bank)), np.float32)
        flat = powers.reshape(-1, len(self._bank))
        flat[count:] = 0.0
        for first in range(0, count, _GROUP):
            group = slice(first, min(first + _GROUP, count))
            if offsets is None:
                windowed = frames[group] * self._window
            else:
                windowed = frames[group] - offsets[group]
                windowed *= self._window
            if firsts is not None:
                windowed[:, 0] += firsts[group]
            bins = np.fft.rfft(windowed, self._n_fft)
            parts = bins.view(bins.real.dtype)
            parts *= parts
            np.add(parts[:, ::2], parts[:, 1::2], out=flat[group], casting="same_kind")
        if self.power == 1.0:
            np.sqrt(flat, out=flat)
        mels: Array = np.matmul(powers, self._bank)
        return mels.reshape(-1, self.num_mels)[:count]


def strided(signal: Array, start: int, shift: int, count: int, length: int) -> Array:
    """A view (count, length) of rows that begin at ``start``, ``start + shift``, .. of a contiguous
    signal; numpy's ``as_strided`` takes ten times as long, which a small chunk feels."""
    step = signal.itemsize
    return np.ndarray((count, length), np.float32, signal, start * step, (shift * step, step))
