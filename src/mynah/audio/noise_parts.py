"""What noises are made of (:mod:`mynah.audio.noises`): phases, slow curves, switches, resonances.

The random generator comes first where there is one. Each gives (S,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.audio.augment import fast_size

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Real = npt.NDArray[np.floating[Any]]


def turns(count: int, rate: int) -> Array:
    """The angle of 1 Hz."""
    return np.asarray(2 * np.pi / rate * np.arange(count), np.float32)


def shaped(
    rng: np.random.Generator, count: int, rate: int, shape: Callable[[Floats], Floats]
) -> Array:
    """White noise through a filter of this height at each frequency; a power of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count, dtype=np.float32))
    heights = shape(np.asarray(np.fft.rfftfreq(count, 1 / rate), np.float64)).astype(np.float32)
    return normal(np.fft.irfft(spectrum * heights, count))


Resonances = list[tuple[float, float, float]]  # hertz, seconds of decay, height


def some_resonances(
    rng: np.random.Generator, low: float, high: float, longest: float = 0.01
) -> Resonances:
    return [
        (
            low * (high / low) ** rng.random(),
            longest * 10.0 ** -rng.uniform(0, 1.3),
            rng.uniform(0.2, 1.0),
        )
        for _ in range(int(rng.integers(1, 5)))
    ]


def through(signal: Real, rate: int, resonances: Resonances, seconds: float = 0.05) -> Array:
    """Through a few resonances side by side, whose answer is cut after so many ``seconds``."""
    time = np.arange(int(seconds * rate)) / rate
    response = np.zeros(len(time))
    for pitch, decay, height in resonances:
        if pitch < rate / 2:
            wave = np.exp(-time / decay) * np.sin(2 * np.pi * pitch * time + 0.3)
            response += height * wave / np.sqrt(np.sum(wave**2))
    size = fast_size(len(signal) + len(time))
    spectrum = np.fft.rfft(signal.astype(np.float32), size) * np.fft.rfft(
        response.astype(np.float32), size
    )
    return np.fft.irfft(spectrum, size)[: len(signal)].astype(np.float32)


def click(rng: np.random.Generator, rate: int) -> Array:
    """A damped knock of a few resonances."""
    strike = np.zeros(int(0.08 * rate), np.float32)
    length = int(rng.integers(1, max(int(0.004 * rate), 2)))
    strike[:length] = rng.standard_normal(length)
    sound = through(strike, rate, some_resonances(rng, 400.0, 7000.0, 0.02))
    return np.asarray(sound / (np.abs(sound).max() + 1e-9), np.float32)


def add(signal: Floats, first: int, part: Real) -> None:
    stop = min(first + len(part), len(signal))
    if stop > first:
        signal[first:stop] += part[: stop - first]


def angles(frequency: Floats, rate: int) -> Array:
    """The angle of a tone of this frequency, within one turn: float32 sines are much faster."""
    turn = 2 * np.pi
    return np.asarray((turn / rate * np.cumsum(frequency)) % turn, np.float32)


def slow(rng: np.random.Generator, count: int, rate: int, speed: float) -> Floats:
    """A curve from -1 to 1 that turns about ``speed`` times a second."""
    points = rng.uniform(-1, 1, max(int(count / rate * speed), 1) + 2)
    return np.interp(np.linspace(0, len(points) - 1, count), np.arange(len(points)), points)


def wandering(rng: np.random.Generator, count: int, rate: int) -> Floats:
    return np.asarray(10.0 ** (slow(rng, count, rate, rng.uniform(0.2, 8.0)) * 0.8))


def switch(
    rng: np.random.Generator, count: int, rate: int, shortest: float, longest: float
) -> npt.NDArray[np.bool_]:
    """On and off by turns."""
    on, off = rng.uniform(shortest, longest, 2) * rate
    place = (np.arange(count) + rng.uniform(0, on + off)) % (on + off)
    return np.asarray(place < on)


def normal(signal: npt.NDArray[np.floating]) -> Array:
    power = float(np.mean(np.square(signal, dtype=np.float64)))
    return (signal / np.sqrt(power) if power > 0 else signal).astype(np.float32)
