"""Sample-rate conversion (soxr, high quality), of a whole signal or of a stream.

The converter is the SoX resampler library: a linear-phase band-limited interpolation, so nothing
is shifted in time and the stream gives the samples of the whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from mynah.errors import InputError

Samples = npt.NDArray[np.float32]

LOWEST_RATE = 1_000
HIGHEST_RATE = 768_000
_QUALITY = "HQ"


def check_rate(rate: float, name: str = "sample rate") -> int:
    """``rate`` as an integer number of hertz.

    Raises:
        InputError: not between 1 kHz and 768 kHz, or not whole.
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate != int(rate):
        raise InputError(f"{name}: {rate} Hz is not between {LOWEST_RATE} and {HIGHEST_RATE} Hz")
    return int(rate)


def resample(samples: npt.ArrayLike, from_rate: int, to_rate: int) -> Samples:
    """Convert samples (S,) or (channels, S) from one rate in hertz to another.

    The result has ``S * to_rate / from_rate`` samples a channel, rounded.

    Raises:
        InputError: a rate outside 1 kHz .. 768 kHz, or samples that are neither (S,) nor
            (channels, S).
    """
    signal = np.asarray(samples, dtype=np.float32)
    if signal.ndim not in (1, 2):
        raise InputError(f"samples: shape {signal.shape} is neither (S,) nor (channels, S)")
    channels = signal.shape[0] if signal.ndim == 2 else None
    return Resampler(from_rate, to_rate, channels=channels).feed(signal, last=True)


class Resampler:
    """Sample-rate conversion of a stream: what all calls of :meth:`feed` return, put together,
    is what :func:`resample` returns for the whole.

    One stream each; after ``last=True`` the next call starts a new stream.
    """

    def __init__(self, from_rate: int, to_rate: int, *, channels: int | None = None) -> None:
        """
        Args:
            from_rate: hertz of what is fed.
            to_rate: hertz of what comes out.
            channels: None for samples (S,), a number for samples (channels, S).

        Raises:
            InputError: a rate outside 1 kHz .. 768 kHz.
        """
        self.from_rate = check_rate(from_rate, "from_rate")
        self.to_rate = check_rate(to_rate, "to_rate")
        self.channels = channels
        self._start()

    def _start(self) -> None:
        self._stream = (
            soxr.ResampleStream(
                self.from_rate, self.to_rate, self.channels or 1, np.float32, quality=_QUALITY
            )
            if self.from_rate != self.to_rate and self.channels != 0
            else None
        )

    def feed(self, samples: npt.ArrayLike, last: bool = False) -> Samples:
        """Convert the next samples; returns what is ready, with ``last`` all that remains.

        Raises:
            InputError: samples of another shape than announced.
        """
        signal = np.asarray(samples, dtype=np.float32)
        expected = 1 if self.channels is None else 2
        if signal.ndim != expected or (expected == 2 and signal.shape[0] != self.channels):
            wanted = "(S,)" if self.channels is None else f"({self.channels}, S)"
            raise InputError(f"samples: shape {signal.shape} is not {wanted}")
        if self._stream is None:
            return signal.copy()
        ready: Samples = self._stream.resample_chunk(np.ascontiguousarray(signal.T), last=last)
        if last:
            self._start()
        return np.ascontiguousarray(ready.T)
