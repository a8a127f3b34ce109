"""Variation of training data and log mel features for a whole batch at once, in torch.

The same as :mod:`mynah.audio.augment` and :mod:`mynah.audio.features` do with one utterance in
NumPy, for a device that has the recordings in its memory. What is random is drawn by the caller.
Legend: B batch, S samples, T frames, F bins, R samples of a room response.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mynah.audio.augment import fast_size
from mynah.audio.features import kaldi_window
from mynah.audio.frontend_config import FbankConfig
from mynah.audio.mel import kaldi_bank
from mynah.errors import ConfigError
from mynah.nn.mask import valid_mask

_ZEROS = 24  # crossings of the sinc on each side
_ROWS = 1.2  # from one number of rows of a Fourier transform to the next
_SAMPLES = 8192  # of which the lengths are multiples, before they are made fast
_FLOOR = float(np.finfo(np.float32).eps)


def speed(samples: Tensor, factor: float) -> Tensor:
    """Faster by ``factor``, pitch included: (B, S) -> (B, S / factor), rounded."""
    ratio = Fraction(factor).limit_denominator(100)
    old, new = ratio.numerator, ratio.denominator
    if old == new:
        return samples
    kernel = _sinc(old, new).to(samples.device)  # (new, 1, K)
    wide = (kernel.shape[2] - old) // 2
    length = round(samples.shape[1] * new / old)
    steps = -(-length // new)
    padded = functional.pad(samples, (wide, max(0, steps * old + wide - samples.shape[1])))
    phases = functional.conv1d(padded[:, None], kernel, stride=old)  # (B, new, steps)
    return phases.transpose(1, 2).flatten(1)[:, :length]


@lru_cache(maxsize=16)
def _sinc(old: int, new: int) -> Tensor:
    """Filters of a polyphase resampler, one for each of ``new`` outputs of ``old`` inputs."""
    cutoff = 0.97 * min(1.0, new / old)
    wide = int(np.ceil(_ZEROS / cutoff))
    at = np.arange(-wide, old + wide)[None] - np.arange(new)[:, None] * (old / new)
    window = np.where(np.abs(at) <= wide, np.cos(np.pi * at / (2 * wide)) ** 2, 0.0)
    filters = cutoff * np.sinc(cutoff * at) * window
    return torch.from_numpy(filters.astype(np.float32))[:, None]


def power(samples: Tensor, lens: Tensor) -> Tensor:
    """The mean square of the first ``lens`` samples, the rest being zero: (B, S) -> (B,)."""
    mean: Tensor = samples.square().sum(1) / lens.clamp(min=1)
    return mean


def reverberate(samples: Tensor, lens: Tensor, responses: Tensor) -> Tensor:
    """``samples`` (B, S) through ``responses`` (B, R), whose direct sound is their first sample
    (what comes before it at the end, as in a circle): same power, zero beyond ``lens``."""
    size = _size(samples.shape[1] + responses.shape[1] - 1)
    before = responses.shape[1] // 2  # of the circle, what lies before the direct sound
    circle = responses.new_zeros(len(responses), size)
    circle[:, : responses.shape[1] - before] = responses[:, : responses.shape[1] - before]
    circle[:, size - before :] = responses[:, responses.shape[1] - before :]
    spectrum = _spectra(samples, size) * _spectra(circle, size)
    wet = _signals(spectrum, size)[:, : samples.shape[1]]
    wet = wet * valid_mask(lens, samples.shape[1])
    gain = (power(samples, lens) / power(wet, lens).clamp(min=1e-20)).sqrt()
    return wet * gain[:, None]


def add_noise(samples: Tensor, lens: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Adds ``noise`` (B, S) at ``snr_db`` (B,) decibels below the power of ``samples`` (B, S)."""
    noise = noise * valid_mask(lens, samples.shape[1])
    ratio = power(samples, lens) / power(noise, lens).clamp(min=1e-20)
    gain = (ratio * 10.0 ** (-snr_db / 10.0)).sqrt()
    return samples + noise * gain[:, None]


def clipped(samples: Tensor, share: Tensor) -> Tensor:
    """No more of ``samples`` (B, S) than ``share`` (B,) of the greatest amplitude of each row."""
    most = (samples.abs().amax(1) * share)[:, None]
    return torch.minimum(torch.maximum(samples, -most), most)


def narrowed(samples: Tensor, bands: Tensor, coded: Tensor, rate: int) -> Tensor:
    """What of ``samples`` (B, S) lies in ``bands`` (B, 2), hertz from and to; rows that are
    ``coded`` (B,) have 8 bits a sample (mu-law), their greatest amplitude being the code's."""
    size = _size(samples.shape[1])
    hertz = torch.fft.rfftfreq(size, 1 / rate, device=samples.device)
    passes = (hertz >= bands[:, :1]) & (hertz <= bands[:, 1:])
    narrow = _signals(_spectra(samples, size) * passes, size)[:, : samples.shape[1]]
    most = narrow.abs().amax(1, keepdim=True).clamp(min=1e-20)
    scaled = narrow / most
    small = (scaled.abs() * 255).log1p() / math.log(256.0)
    small = (small * 127).round() / 127
    expanded = scaled.sign() * (256.0**small - 1) / 255 * most
    return torch.where(coded[:, None], expanded, narrow)


class Fbank:
    """Kaldi's log mel energies of a batch, as :class:`mynah.audio.features.Frontend` gives them.

    Raises:
        ConfigError: a setting that is not made here (mirrored ends, an energy).
    """

    def __init__(self, config: FbankConfig, device: torch.device) -> None:
        if not config.snip_edges or config.use_energy:
            raise ConfigError("frontend: data.resident needs snip_edges, and no use_energy")
        self.length = int(config.rate * 0.001 * config.frame_length)
        self.shift = int(config.rate * 0.001 * config.frame_shift)
        self.size = 1 << (self.length - 1).bit_length()
        window = kaldi_window(config.window, self.length) * config.scale
        bank = kaldi_bank(config.num_mels, self.size, config.rate, config.low, config.high)
        self.window = torch.from_numpy(window.astype(np.float32)).to(device)
        self.bank = torch.from_numpy(bank.astype(np.float32)).to(device)
        self.preemphasis, self.remove_dc = config.preemphasis, config.remove_dc

    def frames(self, lens: Tensor) -> Tensor:
        """How many frames so many samples give."""
        return ((lens - self.length) // self.shift + 1).clamp(min=0)

    def __call__(self, samples: Tensor) -> Tensor:
        """(B, S) in [-1, 1] -> (B, T, F)."""
        if samples.shape[1] < self.length:
            return samples.new_zeros(len(samples), 0, self.bank.shape[1])
        frames = samples.unfold(1, self.length, self.shift)
        if self.remove_dc:
            frames = frames - frames.mean(2, keepdim=True)
        if self.preemphasis:
            before = torch.cat((frames[..., :1], frames[..., :-1]), 2)
            frames = frames - self.preemphasis * before
        spectrum = _spectra(frames * self.window, self.size)
        energies = spectrum.real.square() + spectrum.imag.square()
        logs: Tensor = (energies @ self.bank).clamp(min=_FLOOR).log()
        return logs


# cuFFT makes a plan for every shape and keeps thousands of them: so rows and lengths are rounded up
# to a few.


def _spectra(signals: Tensor, size: int) -> Tensor:
    """``torch.fft.rfft`` of signals (..., S): (..., size // 2 + 1)."""
    rows = signals.flatten(0, -2)
    found: Tensor = torch.fft.rfft(_more_rows(rows), size)[: len(rows)]
    return found.reshape(*signals.shape[:-1], -1)


def _signals(spectra: Tensor, size: int) -> Tensor:
    """``torch.fft.irfft`` of spectra (B, F): (B, size)."""
    found: Tensor = torch.fft.irfft(_more_rows(spectra), size)[: len(spectra)]
    return found


def _more_rows(x: Tensor) -> Tensor:
    few = max(8, math.ceil(_ROWS ** math.ceil(math.log(max(len(x), 1), _ROWS))))
    return functional.pad(x, (0, 0, 0, max(few - len(x), 0)))


def _size(samples: int) -> int:
    return fast_size(-(-samples // _SAMPLES) * _SAMPLES)


def at_places(feats: Tensor, places: Tensor) -> Tensor:
    """Frames of feats (B, T, F) at ``places`` (B, T) between 0 and T - 1."""
    left = places.long().clamp(max=max(feats.shape[1] - 2, 0))
    part = (places - left)[..., None]
    index = left[..., None].expand(-1, -1, feats.shape[2])
    right = (index + 1).clamp(max=feats.shape[1] - 1)
    return feats.gather(1, index) * (1.0 - part) + feats.gather(1, right) * part


def warp_frequency(
    feats: Tensor, factors: Tensor, rate: int, moved: Tensor | None = None
) -> Tensor:
    """Frequencies of feats (B, T, F) times ``factors`` (B,), then ``moved`` (B, F) bins further;
    see the function of that name in :mod:`mynah.audio.augment`."""
    bins = feats.shape[2]
    top = float(np.log1p(rate / 2 / 700.0))
    mels = top * (torch.arange(bins, device=feats.device) + 1.0) / (bins + 1)
    place = torch.log1p(torch.expm1(mels) * factors[:, None]) / top * (bins + 1) - 1.0
    if moved is not None:
        place = place + moved
    place = place.clamp(0.0, bins - 1.0)
    left = place.long().clamp(max=bins - 2)
    part = (place - left)[:, None]
    index = left[:, None].expand(-1, feats.shape[1], -1)
    return feats.gather(2, index) * (1.0 - part) + feats.gather(2, index + 1) * part


def color(feats: Tensor, heights: Tensor) -> Tensor:
    """Adds to each row of feats (B, T, F) cosines of ``heights`` (B, K) over its bins."""
    bins = feats.shape[2]
    places = torch.pi * (torch.arange(bins, device=feats.device) + 0.5) / bins
    waves = torch.cos(torch.arange(heights.shape[1], device=feats.device)[:, None] * places)
    return feats + (heights @ waves)[:, None]


def mask(
    feats: Tensor, lens: Tensor, time: Tensor, frequency: Tensor, *, fill: float | None
) -> Tensor:
    """SpecAugment of feats (B, T, F): ``time`` and ``frequency`` (B, M, 2) are starts and lengths.

    ``fill``: what is put there; None takes the mean of the row's first ``lens`` frames.
    """
    hidden = _inside(time, feats.shape[1])[..., None] | _inside(frequency, feats.shape[2])[:, None]
    if fill is not None:
        return feats.masked_fill(hidden, fill)
    valid = valid_mask(lens, feats.shape[1])[..., None]
    mean = (feats * valid).sum((1, 2)) / (lens * feats.shape[2]).clamp(min=1)
    return torch.where(hidden, mean[:, None, None], feats)


def _inside(stretches: Tensor, size: int) -> Tensor:
    """(B, M, 2) -> (B, size): what lies in one of them."""
    at = torch.arange(size, device=stretches.device)
    start, length = stretches[..., :1], stretches[..., 1:]
    return ((at >= start) & (at < start + length)).any(1)
