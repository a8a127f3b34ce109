"""Noise made from nothing: colours, hum, music, tones and impulses; the random generator first.

Each function gives (S,) float32 with a power of about 1 where it sounds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


def coloured(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Noise whose power falls as 1 / f ** slope, slope -1 (blue) to 3, at times in a band only,
    at times with a loudness that wanders."""
    spectrum = np.fft.rfft(rng.standard_normal(count, dtype=np.float32))
    frequencies = np.fft.rfftfreq(count, 1 / rate)
    shape = np.maximum(frequencies, 20.0) ** (-rng.uniform(-1.0, 3.0) / 2)
    if rng.random() < 0.3:
        low = rng.uniform(20.0, rate / 4)
        shape *= (frequencies > low) & (frequencies < low * rng.uniform(1.2, 6.0))
    signal = np.fft.irfft(spectrum * shape.astype(np.float32), count)
    if rng.random() < 0.4:
        signal *= _wandering(rng, count, rate)
    return _normal(signal)


def hum(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Mains or a motor: a low tone that wavers a little, and harmonics of it."""
    base = rng.choice([50.0, 60.0, 100.0, 120.0]) if rng.random() < 0.6 else rng.uniform(30, 400)
    phase = _phase(base * (1 + rng.uniform(0, 0.01) * _slow(rng, count, rate, 2.0)), rate)
    signal = np.zeros(count, np.float32)
    for number in range(1, int(rng.integers(2, 25))):
        if base * number < rate / 2:
            height = rng.uniform(0.2, 1.0) * number ** -rng.uniform(0.3, 1.5)
            shifted = np.float32(number) * phase + np.float32(rng.uniform(0, 2 * np.pi))
            signal += np.float32(height) * np.sin(shifted)
    hiss = rng.standard_normal(count, dtype=np.float32)
    return _normal(signal + np.float32(rng.uniform(0, 0.3)) * hiss)


def tones(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Beeps, alarms and sweeps: tones that are switched on and off, or that glide."""
    frequency = rng.uniform(200, 3500) * np.ones(count)
    kind = rng.random()
    if kind < 0.35:  # two pitches by turns
        other = frequency[0] * rng.uniform(1.05, 2.0)
        frequency[_switch(rng, count, rate, 0.1, 1.0)] = other
    elif kind < 0.7:  # a siren
        frequency *= 2.0 ** (rng.uniform(0.1, 1.2) * _slow(rng, count, rate, rng.uniform(0.3, 4)))
    signal = np.sin(_phase(frequency, rate))
    if rng.random() < 0.4:
        signal = np.sign(signal) * np.abs(signal) ** 0.3
    if rng.random() < 0.6:
        signal = signal * _switch(rng, count, rate, 0.05, 1.0)
    return _normal(signal)


def impulses(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Clicks, knocks and claps: short decaying bursts, regular or not."""
    signal = np.zeros(count)
    mean = rng.uniform(0.08, 1.0)
    regular, at = rng.random() < 0.5, rng.uniform(0, mean)
    decay, pitch = rng.uniform(0.001, 0.08), rng.uniform(100, 5000)
    length = min(int(6 * decay * rate) + 2, count)
    time = np.arange(length) / rate
    while at < count / rate:
        burst = rng.standard_normal(length)
        if rng.random() < 0.6:
            burst = 0.3 * burst + 2.0 * np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time)
        burst *= np.exp(-time / decay) * rng.uniform(0.3, 1.0)
        first = int(at * rate)
        stop = min(first + length, count)
        signal[first:stop] += burst[: stop - first]
        at += mean if regular else rng.exponential(mean) + 0.02
    return _normal(signal)


def music(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Chords, a melody and a beat, of plucked or held notes with harmonics and vibrato."""
    signal = np.zeros(count)
    beat = rng.uniform(0.15, 0.6)  # seconds
    root, scale = rng.uniform(80, 250), np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    held, partials = rng.random() < 0.5, int(rng.integers(2, 9))
    drums = rng.random() < 0.5
    for number in range(int(count / rate / beat) + 1):
        first = int(number * beat * rate)
        if number % 4 == 0:
            degree = int(rng.integers(0, 5))
            for step in (0, 2, 4):
                pitch = root * 2 ** (scale[degree + step] / 12)
                _add(signal, first, 0.5 * _note(rng, pitch, 4 * beat, rate, partials, held))
        if rng.random() < 0.7:
            pitch = 2 * root * 2 ** (scale[int(rng.integers(0, len(scale)))] / 12)
            length = beat * rng.choice([0.5, 1.0, 2.0])
            _add(signal, first, _note(rng, pitch, length, rate, partials, held))
        if drums:
            time = np.arange(int(0.12 * rate)) / rate
            hit = rng.standard_normal(len(time)) if number % 2 else np.sin(2 * np.pi * 70 * time)
            _add(signal, first, hit * np.exp(-time / 0.03))
    return _normal(signal)


KINDS: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "coloured": coloured,
    "hum": hum,
    "tones": tones,
    "impulses": impulses,
    "music": music,
}


def made_noise(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Noise of a kind drawn at random, colours twice as often as each other."""
    names = ["coloured", *KINDS]
    return KINDS[names[int(rng.integers(len(names)))]](rng, count, rate)


def _note(
    rng: np.random.Generator, pitch: float, seconds: float, rate: int, partials: int, held: bool
) -> Floats:
    time = np.arange(max(int(seconds * rate), 1)) / rate
    depth, speed = rng.uniform(0, 0.01), rng.uniform(4, 7)
    turn = 2 * np.pi
    vibrato = pitch * depth * np.sin((turn * speed * time).astype(np.float32)) / speed
    phase = ((turn * pitch * time + vibrato) % turn).astype(np.float32)
    note = np.zeros(len(time), np.float32)
    for number in range(1, partials + 1):
        if pitch * number < rate / 2:
            note += np.float32(rng.uniform(0.3, 1.0) / number) * np.sin(np.float32(number) * phase)
    attack = np.minimum(time / 0.02, 1.0)
    fall = np.minimum((seconds - time) / 0.03, 1.0) if held else np.exp(-time / (0.4 * seconds))
    return np.asarray(note * attack * fall, np.float64)


def _add(signal: Floats, first: int, part: Floats) -> None:
    stop = min(first + len(part), len(signal))
    if stop > first:
        signal[first:stop] += part[: stop - first]


def _phase(frequency: Floats, rate: int) -> Array:
    """The angle of a tone of this frequency, within one turn: float32 sines are much faster."""
    turn = 2 * np.pi
    return np.asarray((turn / rate * np.cumsum(frequency)) % turn, np.float32)


def _slow(rng: np.random.Generator, count: int, rate: int, speed: float) -> Floats:
    """A curve from -1 to 1 that turns about ``speed`` times a second."""
    points = rng.uniform(-1, 1, max(int(count / rate * speed), 1) + 2)
    return np.interp(np.linspace(0, len(points) - 1, count), np.arange(len(points)), points)


def _wandering(rng: np.random.Generator, count: int, rate: int) -> Floats:
    return np.asarray(10.0 ** (_slow(rng, count, rate, rng.uniform(0.2, 8.0)) * 0.8))


def _switch(
    rng: np.random.Generator, count: int, rate: int, shortest: float, longest: float
) -> npt.NDArray[np.bool_]:
    """On and off by turns."""
    on, off = rng.uniform(shortest, longest, 2) * rate
    place = (np.arange(count) + rng.uniform(0, on + off)) % (on + off)
    return np.asarray(place < on)


def _normal(signal: npt.NDArray[np.floating]) -> Array:
    power = float(np.mean(np.square(signal, dtype=np.float64)))
    return (signal / np.sqrt(power) if power > 0 else signal).astype(np.float32)
