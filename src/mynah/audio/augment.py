"""Variations of recordings and features for training: pure functions, the random generator first.

Each returns a new array and leaves its input alone. What is drawn depends on the generator only, so
an utterance seeded by (seed, epoch, utterance) is varied the same way wherever it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from mynah.errors import InputError

Array = npt.NDArray[np.float32]


def speed(samples: Array, factor: float) -> Array:
    """Faster by ``factor``, pitch included, as a tape is: (S,) to (S / factor,), rounded.

    T. Ko et al., "Audio augmentation for speech recognition", Interspeech 2015 (0.9, 1.0, 1.1).

    Raises:
        InputError: a factor outside 0.1 .. 10.
    """
    if not 0.1 <= factor <= 10:
        raise InputError(f"speed: factor {factor} is not between 0.1 and 10")
    if factor == 1.0 or not len(samples):
        return samples.copy()
    faster: Array = soxr.resample(samples.astype(np.float32), factor, 1.0, quality="HQ")
    return faster


def volume(samples: Array, gain_db: float) -> Array:
    """Louder by ``gain_db`` decibels; nothing is clipped."""
    return samples * np.float32(10.0 ** (gain_db / 20.0))


def dither(rng: np.random.Generator, samples: Array, amount: float = 1.0) -> Array:
    """White noise of ``amount`` 16-bit steps (standard deviation), so that no energy is zero.

    Kaldi draws it anew for each frame; here it belongs to the signal.
    """
    noise = rng.standard_normal(samples.shape, dtype=np.float32)
    return samples + noise * np.float32(amount / 32_768.0)


def add_noise(rng: np.random.Generator, samples: Array, noise: Array, snr_db: float) -> Array:
    """Adds a stretch of ``noise`` (N,), from a place drawn at random, to ``samples`` (S,), scaled
    to ``snr_db`` decibels below their power; noise that is too short is repeated.

    Silent speech or noise is left as it is: there is no ratio to reach.

    Raises:
        InputError: noise without samples.
    """
    if not len(noise):
        raise InputError("noise: no samples")
    places = len(noise) - len(samples) + 1 if len(noise) > len(samples) else len(noise)
    start = int(rng.integers(places))
    stretch = noise[(start + np.arange(len(samples))) % len(noise)].astype(np.float32)
    speech_power, noise_power = _power(samples), _power(stretch)
    if speech_power == 0.0 or noise_power == 0.0:
        return samples.copy()
    gain = np.sqrt(speech_power / noise_power * 10.0 ** (-snr_db / 10.0))
    return samples + stretch * np.float32(gain)


def reverberate(samples: Array, response: Array) -> Array:
    """``samples`` (S,) heard through a room's impulse ``response`` (N,): same length, same power,
    and not delayed (the response's greatest peak, the direct sound, is put at zero).

    T. Ko et al., "A study on data augmentation of reverberant speech for robust speech
    recognition", ICASSP 2017.

    Raises:
        InputError: a response without a sound in it.
    """
    if not len(response) or not np.abs(response).max() > 0:
        raise InputError("impulse response: no samples other than zero")
    if not len(samples):
        return samples.copy()
    size = fast_size(len(samples) + len(response) - 1)
    wet = np.fft.irfft(
        np.fft.rfft(samples.astype(np.float64), size) * np.fft.rfft(response, size), size
    )
    direct = int(np.abs(response).argmax())
    heard = wet[direct : direct + len(samples)]
    power = _power(heard)
    gain = np.sqrt(_power(samples) / power) if power > 0 else 0.0
    return np.asarray(heard * gain, dtype=np.float32)


@dataclass(frozen=True)
class Band:
    """What passes, hertz, and whether in 8 bits a sample (mu-law)."""

    low: float
    high: float
    coded: bool


def draw_band(rng: np.random.Generator) -> Band:
    """A telephone's or a coder's."""
    phone = rng.random() < 0.4
    high = rng.uniform(3300, 4000) if phone else rng.uniform(2500, 7500)
    low = rng.uniform(50, 350) if phone or rng.random() < 0.3 else 0.0
    return Band(low, high, phone and rng.random() < 0.5)


def narrowed(rng: np.random.Generator, samples: Array, rate: int) -> Array:
    """``samples`` (S,) at ``rate`` hertz through a band drawn at random."""
    return through(draw_band(rng), samples, rate)


def through(band: Band, samples: Array, rate: int) -> Array:
    """What of ``samples`` (S,) at ``rate`` hertz a ``band`` lets pass; the greatest amplitude is
    that of the code."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
    spectrum[(frequencies > band.high) | (frequencies < band.low)] = 0.0
    narrow = np.fft.irfft(spectrum, len(samples)).astype(np.float32)
    most = float(np.abs(narrow).max())
    if band.coded and most > 0:
        scaled = narrow / most
        small = np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256.0)
        small = np.round(small * 127) / 127
        narrow = (np.sign(small) * (256.0 ** np.abs(small) - 1) / 255 * most).astype(np.float32)
    return narrow


def clipped(rng: np.random.Generator, samples: Array) -> Array:
    """Recorded too loud: 20 to 80 % of the greatest amplitude is all that is left of it."""
    most = float(np.abs(samples).max(initial=0.0)) * rng.uniform(0.2, 0.8)
    return np.clip(samples, -most, most)


def fast_size(least: int) -> int:
    """The smallest 2 ** a * 3 ** b * 5 ** c from ``least`` on, of which a transform is fast."""
    best = 1 << max(least - 1, 0).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            twos = 1 << max(-(-least // odd) - 1, 0).bit_length()
            best = min(best, odd * twos)
            odd *= 3
        fives *= 5
    return best


def _power(samples: npt.NDArray[np.floating]) -> float:
    wide = samples.astype(np.float64)
    return float(np.dot(wide, wide)) / max(1, len(wide))


def spec_augment(
    rng: np.random.Generator,
    feats: Array,
    *,
    time_masks: int = 2,
    time_width: int = 50,
    frequency_masks: int = 2,
    frequency_width: int = 10,
    max_part: float = 1.0,
    fill: float | None = 0.0,
) -> Array:
    """Hides stretches of time and of frequency in feats (T, F); lengths and places are uniform.

    D. Park et al., "SpecAugment", arXiv:1904.08779, without its time warping, which the paper
    found to give little.

    Args:
        time_width: greatest length of a time mask in frames, at least 1 when any is put.
        frequency_width: of a frequency mask, in bins.
        max_part: of the T frames that one time mask may cover.
        fill: what is put there; None takes the mean of ``feats``.
    """
    varied = feats.copy()
    frames, bins = feats.shape
    if not frames or not bins:
        return varied
    value = np.float32(feats.mean() if fill is None else fill)
    longest = min(time_width, int(frames * max_part))
    for _ in range(time_masks if longest >= 1 else 0):
        start, length = int(rng.integers(frames)), int(rng.integers(1, longest + 1))
        varied[start : start + length] = value
    for _ in range(frequency_masks if frequency_width >= 1 else 0):
        start, length = int(rng.integers(bins)), int(rng.integers(1, frequency_width + 1))
        varied[:, start : start + length] = value
    return varied


def spec_sub(rng: np.random.Generator, feats: Array, *, count: int = 3, width: int = 30) -> Array:
    """Replaces stretches of feats (T, F) by earlier ones of the same utterance, so that a decoder
    learns not to trust its history alone.

    D. Wu et al., "U2++", arXiv:2106.05642, section 3.2.3.

    Args:
        count: stretches replaced.
        width: greatest length in frames.
    """
    varied = feats.copy()
    frames = len(feats)
    for _ in range(count if frames and width >= 1 else 0):
        start, length = int(rng.integers(frames)), int(rng.integers(1, width + 1))
        end = min(frames, start + length)
        back = int(rng.integers(start + 1))
        varied[start:end] = feats[start - back : end - back]
    return varied


def spec_trim(rng: np.random.Generator, feats: Array, *, width: int = 20) -> Array:
    """Cuts 1 to ``width`` frames off the end of feats (T, F), unless that is half of it or more:
    a streaming model then emits earlier.

    X. Song et al., "TrimTail", arXiv:2211.00522.
    """
    cut = int(rng.integers(1, width + 1)) if width >= 1 else 0
    return feats[: len(feats) - cut].copy() if 2 * cut < len(feats) else feats.copy()


def color(
    rng: np.random.Generator, feats: Array, *, level: float = 1.0, tilt: float = 0.5
) -> Array:
    """Another microphone and distance: a smooth curve over the bins added to log energies (T, F).

    A filter that does not change in time multiplies the energy of each bin. The curve is a constant
    of standard deviation ``level`` and three cosines of ``tilt``, in the unit of ``feats`` (natural
    logarithms of power: 1.0 is 4.3 dB).
    """
    bins = feats.shape[1]
    places = np.pi * (np.arange(bins) + 0.5) / max(bins, 1)
    heights = rng.standard_normal(4) * (level, tilt, tilt, tilt)
    curve = sum(height * np.cos(k * places) for k, height in enumerate(heights))
    return feats + np.asarray(curve, np.float32)


_BENDS = 3  # half waves that a bend of the axis of frequencies is made of


def warp_frequency(
    rng: np.random.Generator,
    feats: Array,
    *,
    width: float = 0.1,
    bend: float = 0.0,
    rate: int = 16000,
) -> Array:
    """A longer or shorter vocal tract: feats (T, F) with their frequencies times a factor.

    The factor is drawn from ``1 / (1 + width)`` to ``1 + width``, evenly in its logarithm. The bins
    are taken to be even on the mel scale up to half of ``rate`` hertz, as in Kaldi's fbank; beyond
    the ends the last one is repeated. With a ``bend`` the axis is moved further, here up and there
    down, by so many bins (standard deviation): a vocal tract of another shape.

    N. Jaitly and G. Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition",
    ICML workshop 2013, there with the filters moved instead.
    """
    limit = np.log1p(width)
    factor = np.exp(rng.uniform(-limit, limit))
    bins = feats.shape[1]
    if bins < 2:
        return feats.copy()
    top = np.log1p(rate / 2 / 700.0)
    mels = top * (np.arange(bins) + 1.0) / (bins + 1)
    place = np.log1p(np.expm1(mels) * factor) / top * (bins + 1) - 1.0
    if bend:
        place = place + bends(draw_bends(rng, 1, bend), bins)[0]
    place = np.clip(place, 0.0, bins - 1.0)
    left = np.minimum(place.astype(np.int64), bins - 2)
    part = (place - left).astype(np.float32)
    warped: Array = feats[:, left] * (1.0 - part) + feats[:, left + 1] * part
    return warped


def draw_bends(rng: np.random.Generator, rows: int, bend: float) -> Array:
    """The heights (rows, K) of half waves, in bins: together of a standard deviation of ``bend``
    where it is greatest, the longer ones higher."""
    parts = 1.0 / np.arange(1, _BENDS + 1)
    scale = bend * parts / np.linalg.norm(parts)
    return np.asarray(rng.standard_normal((rows, _BENDS)) * scale, np.float32)


def bends(heights: Array, bins: int) -> Array:
    """How far each of the bins is moved, (B, bins), by half waves of ``heights`` (B, K)."""
    angle = np.pi * (np.arange(bins) + 0.5) / bins
    waves = np.sin(np.arange(1, heights.shape[1] + 1)[:, None] * angle)
    return np.asarray(heights @ waves, np.float32)


_BEAT = 40  # frames from one pace that is drawn to the next


def draw_tempo(rng: np.random.Generator, lens: Sequence[int], width: float) -> Array:
    """Another rhythm: which frame of its features each frame becomes, (B, T), float32.

    The pace is a smooth curve, its logarithm of standard deviation ``width`` where it is drawn,
    every 0.4 s for frames of 10 ms. First and last of the ``lens`` (B,) frames stay where they are,
    and so do those beyond. What is between two frames is meant to be their mean by distance, see
    :func:`at_places`.

    Time warping as SpecAugment's (arXiv:1904.08779), but of all of an utterance.
    """
    longest = max(lens, default=0)
    places = np.tile(np.arange(longest, dtype=np.float32), (len(lens), 1))
    knots = np.arange(-(-longest // _BEAT) + 2)
    for row, size in enumerate(lens):
        heights = rng.standard_normal(len(knots)) * width
        if size < 3:
            continue
        at = np.arange(size - 1) / _BEAT + rng.random()
        passed = np.cumsum(np.exp(np.interp(at, knots, heights)))
        places[row, 1:size] = passed * ((size - 1) / passed[-1])
    return places


def at_places(feats: Array, places: Array) -> Array:
    """Frames of feats (T, F) at ``places`` (N,) between 0 and T - 1."""
    left = np.minimum(places.astype(np.int64), max(len(feats) - 2, 0))
    right = np.minimum(left + 1, len(feats) - 1)
    part = (places - left)[:, None]
    return np.asarray(feats[left] * (1.0 - part) + feats[right] * part, np.float32)
