"""Power spectra of windowed frames by matrix products: a DFT folded twice.

A BLAS product is many times faster than numpy's FFT at these sizes, once its symmetries are used.
Around the centre of a frame the window is even, so with t counted from there

    X[k] = sum over t >= 0 of  w(t) (x(t) + x(-t)) cos(2 pi k t / n)
                           - i w(t) (x(t) - x(-t)) sin(2 pi k t / n)

up to a phase, which a power spectrum does not see: half the work. And t -> n/2 - t turns the
cosine into +cosine for even k and -cosine for odd k (the sine the other way round), so that the
outer samples are folded onto the inner ones: half again. What remains are four products with
matrices of about (n/4, n/4): even and odd bins, cosine and sine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

ROWS = 8
"""Frames in one matrix product. BLAS may sum in another order for another number of rows, so all
products have this many (the last is filled with zeros): a frame gives the same bits whatever is
computed beside it."""


class MelSpectrum:
    """Mel spectra of frames under an even window."""

    def __init__(
        self,
        window: npt.NDArray[np.float64],
        n_fft: int,
        bank: npt.NDArray[np.float64],
        *,
        periodic: bool,
        power: float = 2.0,
    ) -> None:
        """
        Args:
            window: (N,), N <= n_fft. Even about (N - 1) / 2, or, when ``periodic``, about N / 2,
                its first value then being zero.
            n_fft: length of the transform, even; the frame is continued with zeros.
            bank: (n_fft // 2 + 1, M) filters.
            power: exponent of the magnitude, 2 or 1.
        """
        length, first = len(window), int(periodic)
        assert n_fft % 2 == 0 and length <= n_fft and power in (1.0, 2.0)
        assert np.allclose(window[first:], window[first:][::-1])
        assert not periodic or abs(window[0]) < 1e-12  # it has no partner
        self.length, self.power, self.num_mels = length, power, bank.shape[1]
        self._first = first
        # Sample middle + i is at t = i + half; its partner at -t is the frame's, read from its
        # end, at position mirror + i.
        middle = first + (length - first) // 2
        half = 0.5 if (length - first) % 2 == 0 else 0.0
        self._middle, self._mirror = middle, length - 1 - middle + round(2 * half)
        times = np.arange(length - middle, dtype=np.float64) + half
        self._inner = int((times <= n_fft / 4).sum())
        self._outer = len(times) - self._inner
        # The outermost sample lands on n/2 - t, the next one beside it, and so on.
        self._landing = round(n_fft / 2 - times[-1] - half) if self._outer else 0
        weights = window[middle:].copy()
        if half == 0.0:
            weights[0] /= 2  # t = 0 is its own partner and would be counted twice
        self._inner_weights = weights[: self._inner].astype(np.float32)
        self._outer_weights = weights[self._inner :][::-1].astype(np.float32)
        self._dft, self._bank = _matrices(times[: self._inner], n_fft, bank)

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
        groups = -(-count // ROWS)
        inner, outer = self._inner, self._outer
        folded = np.empty((4, groups * ROWS, inner), dtype=np.float32)
        if count % ROWS:
            folded[:, count:] = 0.0
        twice = None if offsets is None else 2 * offsets
        forward = _frames(signal, 0, shift, count, self.length)
        backward = _frames(signal[::-1].copy(), 0, shift, count, self.length, from_end=True)
        rows = folded[:, :count]
        ahead = forward[:, self._middle : self._middle + inner]
        behind = backward[:, self._mirror : self._mirror + inner]
        np.add(ahead, behind, out=rows[0])
        np.subtract(ahead, behind, out=rows[2])
        if twice is not None:
            rows[0] -= twice
        rows[::2] *= self._inner_weights
        if firsts is not None and not outer:
            rows[0, :, -1] += firsts
            rows[2, :, -1] -= firsts
        rows[1::2] = rows[::2]
        if outer:
            far = np.empty((2, count, outer), dtype=np.float32)
            ahead = backward[:, :outer]
            behind = forward[:, self._first : self._first + outer]
            np.add(ahead, behind, out=far[0])
            np.subtract(ahead, behind, out=far[1])
            if twice is not None:
                far[0] -= twice
            far *= self._outer_weights
            if firsts is not None:
                far[0, :, 0] += firsts
                far[1, :, 0] -= firsts
            landing = slice(self._landing, self._landing + outer)
            rows[::2, :, landing] += far
            rows[1::2, :, landing] -= far
        return self._mels(folded.reshape(4, groups, ROWS, inner))[:count]

    def _mels(self, folded: Array) -> Array:
        """Folded frames (4, G, ROWS, inner) to mel spectra (G * ROWS, M)."""
        parts = np.matmul(folded, self._dft[:, None])
        np.multiply(parts, parts, out=parts)
        energies = parts[:2]
        energies += parts[3:1:-1]
        if self.power == 1.0:
            np.sqrt(energies, out=energies)
        mels: Array = np.matmul(energies, self._bank[:, None])
        mels[0] += mels[1]
        flat: Array = mels[0].reshape(-1, self.num_mels)
        return flat


class FftSpectrum:
    """What :class:`MelSpectrum` gives (to rounding), by an FFT a frame: half the time for a few
    frames, about the same for many, and a fifth of the memory to keep in cache."""

    def __init__(
        self, window: npt.NDArray[np.float64], n_fft: int, bank: npt.NDArray[np.float64]
    ) -> None:
        self.length, self.num_mels, self._n_fft = len(window), bank.shape[1], n_fft
        self._window, self._bank = window.astype(np.float32), bank.astype(np.float32)

    def __call__(
        self,
        signal: Array,
        shift: int,
        count: int,
        offsets: Array | None = None,
        firsts: Array | None = None,
    ) -> Array:
        """As :meth:`MelSpectrum.__call__`."""
        frames = strided(signal, 0, shift, count, self.length)
        powers = np.empty((-(-count // ROWS), ROWS, len(self._bank)), np.float32)
        flat = powers.reshape(-1, len(self._bank))
        flat[count:] = 0.0
        for first in range(0, count, 4 * ROWS):  # what stays in cache
            group = slice(first, min(first + 4 * ROWS, count))
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
        mels: Array = np.matmul(powers, self._bank)
        return mels.reshape(-1, self.num_mels)[:count]


def _frames(
    signal: Array, start: int, shift: int, count: int, length: int, from_end: bool = False
) -> Array:
    """A view (count, length): frames from ``start`` on, or, for a signal turned round, the frames
    of the signal as it was, each turned round."""
    if from_end:
        start, shift = len(signal) - length - start, -shift
    return strided(signal, start, shift, count, length)


def strided(signal: Array, start: int, shift: int, count: int, length: int) -> Array:
    """A view (count, length) of rows that begin at ``start``, ``start + shift``, .. of a contiguous
    signal; numpy's ``as_strided`` takes ten times as long, which a small chunk feels."""
    step = signal.itemsize
    return np.ndarray((count, length), np.float32, signal, start * step, (shift * step, step))


def _matrices(
    times: npt.NDArray[np.float64], n_fft: int, bank: npt.NDArray[np.float64]
) -> tuple[Array, Array]:
    """The transform (4, inner, bins) for even cosines, odd cosines, odd sines, even sines, and
    the filters of the even and the odd bins (2, bins, M); bins that no filter uses are left out."""
    used = np.flatnonzero(bank.any(axis=1))
    even, odd = used[used % 2 == 0], used[used % 2 == 1]
    bins = max(len(even), len(odd))
    transform = np.zeros((4, len(times), bins))
    filters = np.zeros((2, bins, bank.shape[1]))
    for parity, k in enumerate((even, odd)):
        angles = 2 * np.pi / n_fft * times[:, None] * k[None, :]
        transform[parity, :, : len(k)] = np.cos(angles)
        transform[3 - parity, :, : len(k)] = np.sin(angles)
        filters[parity, : len(k)] = bank[k]
    return transform.astype(np.float32), filters.astype(np.float32)
