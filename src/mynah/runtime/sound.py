"""Whatever a caller calls a recording, as blocks of float32 samples at the model's rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from mynah.audio import Resampler, Waveform, blocks
from mynah.audio.files import LOUDEST, MAX_SECONDS, Channel, announced
from mynah.audio.resampling import check_rate
from mynah.errors import InputError
from mynah.runtime.engine import Array

# a path, "-" for standard input, the bytes of a file, an open file, samples, or samples and rate
Audio: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | npt.NDArray[np.generic] | Waveform

MAX_CHANNELS = 8  # of a block with fewer samples than rows; more rows are samples
_BLOCK = 10.0  # seconds of samples handled at once


def sound_blocks(
    audio: Audio,
    rate: int,
    *,
    samples_rate: int | None = None,
    channel: Channel = "mix",
    max_seconds: float = MAX_SECONDS,
    partial: bool = False,
) -> Iterator[Array]:
    """Blocks (S,) of ``audio`` at ``rate`` hertz.

    ``samples_rate`` is that of samples given as an array, (S,) or (channels, S); without it they
    are at ``rate`` already. ``max_seconds`` and ``partial`` are for recordings that are decoded, as
    in :func:`mynah.audio.read`.

    Raises:
        InputError: the recording cannot be read, or samples are not finite numbers.
    """
    if isinstance(audio, np.ndarray):
        yield from _array_blocks(
            audio, rate if samples_rate is None else samples_rate, rate, channel
        )
    elif isinstance(audio, Waveform):
        yield from _array_blocks(audio.samples, audio.rate, rate, channel)
    elif isinstance(audio, (list, tuple)):
        raise InputError("one recording was expected, not a list of them")
    else:
        yield from blocks(
            audio, rate=rate, channel=channel, max_seconds=max_seconds, partial=partial
        )


def seconds_of(audio: Audio, samples_rate: int) -> float | None:
    """How long ``audio`` is, as far as that can be known without decoding it; ``samples_rate`` is
    that of samples given as an array."""
    if isinstance(audio, np.ndarray):
        return audio.shape[-1] / samples_rate if audio.ndim else None
    if isinstance(audio, Waveform):
        return audio.seconds
    return None if isinstance(audio, (list, tuple)) else announced(audio)


def _array_blocks(array: Array, from_rate: int, rate: int, channel: Channel) -> Iterator[Array]:
    _check_shape(array)
    check_rate(from_rate, "rate")
    if array.ndim == 1 and channel not in ("mix", 0):
        raise InputError(f"samples: no channel {channel!r}, there is one")
    if array.ndim == 2 and channel != "mix":
        if not isinstance(channel, int) or not 0 <= channel < len(array):
            raise InputError(f"samples: no channel {channel!r} among {len(array)}")
        array = array[channel]
    resampler = Resampler(from_rate, rate) if from_rate != rate else None
    step, total = int(_BLOCK * from_rate), array.shape[-1]
    for first in range(0, total, step):
        samples = as_samples(array[..., first : first + step])
        if resampler is not None:
            samples = resampler.feed(samples, last=first + step >= total)
        yield samples


def as_samples(array: npt.ArrayLike) -> Array:
    """Samples as float32 (S,) in [-1, 1]: integers are scaled, channels (channels, S) are mixed.

    Raises:
        InputError: not one or two dimensions, channels last, not numbers, or not finite.
    """
    samples = np.asarray(array)
    _check_shape(samples)
    if samples.dtype == np.int16:
        samples = samples * np.float32(2.0**-15)
    elif samples.dtype == np.int32:
        samples = (samples * 2.0**-31).astype(np.float32)
    elif samples.dtype.kind == "f" or samples.size == 0:
        samples = samples.astype(np.float32, copy=False)
    else:
        raise InputError(f"samples: {samples.dtype} is not float32, int16 or int32")
    if not energy(samples) < LOUDEST:  # most samples are well below
        if not np.isfinite(samples).all():
            raise InputError("samples: not finite (NaN or infinity)")
        largest = float(np.abs(samples).max())
        if largest > LOUDEST:
            raise InputError(f"samples: as large as {largest:.3g} (sound is from -1 to 1)")
    return samples.mean(axis=0, dtype=np.float32) if samples.ndim == 2 else samples


def _check_shape(samples: npt.NDArray[Any]) -> None:
    if samples.ndim not in (1, 2):
        raise InputError(f"samples: {samples.ndim} dimensions; (S,) or (channels, S) is expected")
    if samples.ndim == 2 and len(samples) > MAX_CHANNELS and len(samples) > samples.shape[1]:
        shape = " x ".join(map(str, samples.shape))
        raise InputError(f"samples: {shape} is (S, channels); give (channels, S), transposed")


def energy(samples: Array) -> float:
    """The sum of squares of float32 samples, in float32: the cheapest bound on all of them. It is
    finite only where they are."""
    flat = samples.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.dot(flat, flat))
