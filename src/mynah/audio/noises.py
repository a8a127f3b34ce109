"""Noise made from nothing: colours, hum, music, machines, weather and animals of a kind; the random
generator first.

Each function gives (S,) float32 with a power of about 1 over all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from mynah.audio.hard_noises import cries, drone, flutter, knocks, saw
from mynah.audio.noise_parts import (
    add,
    angles,
    click,
    normal,
    shaped,
    slow,
    some_resonances,
    switch,
    through,
    turns,
    wandering,
)

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
        signal *= wandering(rng, count, rate)
    return normal(signal)


def hum(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Mains or a motor: a low tone that wavers a little, and harmonics of it."""
    base = rng.choice([50.0, 60.0, 100.0, 120.0]) if rng.random() < 0.6 else rng.uniform(30, 400)
    phase = angles(base * (1 + rng.uniform(0, 0.01) * slow(rng, count, rate, 2.0)), rate)
    signal = np.zeros(count, np.float32)
    for number in range(1, int(rng.integers(2, 25))):
        if base * number < rate / 2:
            height = rng.uniform(0.2, 1.0) * number ** -rng.uniform(0.3, 1.5)
            shifted = np.float32(number) * phase + np.float32(rng.uniform(0, 2 * np.pi))
            signal += np.float32(height) * np.sin(shifted)
    hiss = rng.standard_normal(count, dtype=np.float32)
    return normal(signal + np.float32(rng.uniform(0, 0.3)) * hiss)


def tones(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Beeps, alarms and sweeps: tones that are switched on and off, or that glide."""
    frequency = rng.uniform(200, 3500) * np.ones(count)
    kind = rng.random()
    if kind < 0.35:  # two pitches by turns
        other = frequency[0] * rng.uniform(1.05, 2.0)
        frequency[switch(rng, count, rate, 0.1, 1.0)] = other
    elif kind < 0.7:  # a siren
        frequency *= 2.0 ** (rng.uniform(0.1, 1.2) * slow(rng, count, rate, rng.uniform(0.3, 4)))
    signal = np.sin(angles(frequency, rate))
    if rng.random() < 0.4:
        signal = np.sign(signal) * np.abs(signal) ** 0.3
    if rng.random() < 0.6:
        signal = signal * switch(rng, count, rate, 0.05, 1.0)
    return normal(signal)


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
    return normal(signal)


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
                add(signal, first, 0.5 * _note(rng, pitch, 4 * beat, rate, partials, held))
        if rng.random() < 0.7:
            pitch = 2 * root * 2 ** (scale[int(rng.integers(0, len(scale)))] / 12)
            length = beat * rng.choice([0.5, 1.0, 2.0])
            add(signal, first, _note(rng, pitch, length, rate, partials, held))
        if drums:
            time = np.arange(int(0.12 * rate)) / rate
            hit = rng.standard_normal(len(time)) if number % 2 else np.sin(2 * np.pi * 70 * time)
            add(signal, first, hit * np.exp(-time / 0.03))
    return normal(signal)


def ticks(rng: np.random.Generator, count: int, rate: int) -> Array:
    """A clock: clicks of two sounds by turns, each a few damped resonances, in strict rhythm."""
    signal = np.zeros(count)
    period = rng.uniform(0.15, 1.1)
    sounds = [click(rng, rate) for _ in range(int(rng.integers(1, 3)))]
    swing, jitter = rng.uniform(-0.2, 0.2), rng.uniform(0, 0.01)
    at, number = rng.uniform(0, period), 0
    while at < count / rate:
        late = period * swing * (number % 2) + rng.normal(0.0, jitter)
        sound = sounds[number % len(sounds)] * rng.uniform(0.7, 1.0)
        add(signal, max(int((at + late) * rate), 0), sound)
        at, number = at + period, number + 1
    signal += rng.uniform(0, 0.02) * rng.standard_normal(count)
    return normal(signal)


def rotor(rng: np.random.Generator, count: int, rate: int) -> Array:
    """A helicopter, a fan or a washing machine: low noise that beats 2 to 30 times a second."""
    beat = rng.uniform(2, 30) * (1 + rng.uniform(0, 0.1) * slow(rng, count, rate, 1.0))
    phase = angles(beat, rate)
    envelope = (0.5 + 0.5 * np.cos(phase)) ** np.float32(rng.uniform(0.5, 6.0))
    envelope = rng.uniform(0.0, 0.5) + envelope
    steep = rng.uniform(0.5, 2.5)
    signal = shaped(rng, count, rate, lambda f: np.maximum(f, 40.0) ** (-steep / 2)) * envelope
    whine = rng.uniform(60, 900)
    for number in range(1, int(rng.integers(1, 6))):
        signal += rng.uniform(0, 0.5) / number * np.sin(number * whine * turns(count, rate))
    return normal(signal)


def engine(rng: np.random.Generator, count: int, rate: int) -> Array:
    """A motor: a buzz of many harmonics whose pitch and load wander, and noise in its rhythm."""
    pitch = rng.uniform(25, 300) * 2.0 ** (
        rng.uniform(0, 0.8) * slow(rng, count, rate, rng.uniform(0.2, 3.0))
    )
    phase = angles(pitch * (1 + rng.uniform(0, 0.03) * slow(rng, count, rate, 40.0)), rate)
    sharp = np.float32(rng.uniform(0.5, 0.97))  # a closed form of many harmonics at once
    pulses = (1 - sharp) / (1 + sharp * sharp - 2 * sharp * np.cos(phase))
    rough = np.roll(pulses, int(rng.integers(1, 200)))
    hiss = rng.standard_normal(count, dtype=np.float32) * (0.2 + pulses) * rng.uniform(0, 0.8)
    resonances = some_resonances(rng, 200.0, 6000.0)
    signal = through(pulses + rng.uniform(-1, 1) * rough + hiss, rate, resonances)
    if rng.random() < 0.5:
        signal *= 10.0 ** (rng.uniform(0, 0.7) * slow(rng, count, rate, rng.uniform(0.3, 4.0)))
    return normal(signal)


def rain(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Rain, frying or a fire: hiss, and drops or crackles by the hundred."""
    tilt = rng.uniform(-1.0, 1.0)
    signal = rng.uniform(0.0, 1.0) * shaped(
        rng, count, rate, lambda f: np.maximum(f, 100.0) ** (-tilt / 2)
    ).astype(np.float64)
    drops = np.zeros(count)
    amount = rng.poisson(count / rate * 10.0 ** rng.uniform(0.5, 2.7))
    drops[rng.integers(count, size=amount)] = rng.standard_normal(amount) * rng.exponential(
        1.0, amount
    )
    heard = through(drops, rate, some_resonances(rng, 800.0, 7000.0, 0.003))
    power = np.sqrt(np.mean(heard**2)) + 1e-9
    signal += rng.uniform(0.3, 2.0) / power * heard
    if rng.random() < 0.5:
        signal *= wandering(rng, count, rate)
    return normal(signal)


def bursts(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Sneezes, coughs and slamming doors: a breath, then a burst of noise through resonances, with
    a little voice in some."""
    signal = np.zeros(count)
    at = rng.uniform(0, 2.0)
    colour = some_resonances(rng, 300.0, 5000.0)
    voiced = rng.uniform(0, 1.5) if rng.random() < 0.5 else 0.0
    while at < count / rate:
        length = rng.uniform(0.08, 0.5)
        time = np.arange(int(length * rate)) / rate
        rise = np.minimum(time / rng.uniform(0.002, 0.03), 1.0)
        sound = rng.standard_normal(len(time)) * rise * np.exp(-time / (length * 0.3))
        if voiced:
            fall = rng.uniform(150, 500) * np.exp(-time * rng.uniform(0, 4))
            voice = np.sin(angles(fall, rate)) ** 3
            sound += voiced * voice * rise * np.exp(-time / (length * 0.2))
        add(signal, int(at * rate), through(sound, rate, colour))
        if rng.random() < 0.4:  # the breath before
            breath = rng.standard_normal(int(rng.uniform(0.1, 0.6) * rate))
            breath *= np.linspace(0, 0.15, len(breath)) ** 2
            add(signal, max(int(at * rate) - len(breath), 0), breath)
        at += length + rng.exponential(rng.choice([0.15, 0.6, 2.5]))
    signal += rng.uniform(0, 0.003) * rng.standard_normal(count)
    return normal(signal)


def chirps(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Birds, crickets and whistles: short glides and trills, 1 to 7 kHz."""
    signal = np.zeros(count)
    centre, width = rng.uniform(1000, 6000), rng.uniform(0.05, 0.7)
    longest, trill = rng.uniform(0.03, 0.6), rng.uniform(8, 60)
    depth = rng.uniform(0, 0.15) if rng.random() < 0.5 else 0.0
    harmonic = rng.uniform(0, 0.5) if rng.random() < 0.5 else 0.0
    at = rng.uniform(0, 1)
    while at < count / rate:
        length = rng.uniform(0.3, 1.0) * longest
        time = np.arange(max(int(length * rate), 8)) / rate
        curve = np.interp(time, np.linspace(0, length, 4), rng.uniform(-1, 1, 4))
        pitch = centre * 2.0 ** (width * curve + depth * np.sin(2 * np.pi * trill * time))
        phase = angles(np.clip(pitch, 100.0, 0.48 * rate), rate)
        sound = np.sin(phase) + harmonic * np.sin(2 * phase) * (centre < 0.2 * rate)
        add(signal, int(at * rate), sound * np.sin(np.pi * time / length) ** 0.5)
        at += length + rng.exponential(rng.choice([0.02, 0.2, 1.0]))
    return normal(signal + rng.uniform(0, 0.05) * rng.standard_normal(count))


def howls(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Howls, crows, barks and meows: a rough voice with one vowel at most, much the same each time,
    its pitch beyond most speech."""
    signal = np.zeros(count)
    colour = some_resonances(rng, 400.0, 5000.0)
    base, length = rng.uniform(180, 1000), 10.0 ** rng.uniform(-1.1, 0.3)
    shape, rough = rng.uniform(-0.6, 0.6, 4), rng.uniform(0, 0.15)
    sharp, breath = np.float32(rng.uniform(0.3, 0.95)), rng.uniform(0, 0.4)
    pause = rng.choice([0.1, 0.4, 1.5])
    at = rng.uniform(0, 1)
    while at < count / rate:
        time = np.arange(int(length * rng.uniform(0.8, 1.2) * rate)) / rate
        total = len(time) / rate
        curve = np.interp(time, np.linspace(0, total, 4), shape + rng.uniform(-0.1, 0.1, 4))
        wobble = rough * slow(rng, len(time), rate, 60.0)
        phase = angles(base * 2.0 ** (curve + wobble), rate)
        sound = (1 - sharp) / (1 + sharp * sharp - 2 * sharp * np.cos(phase))
        sound = sound - sound.mean()
        sound = sound + breath * sound.std() * rng.standard_normal(len(time))
        fade = np.minimum(np.minimum(time / 0.03, (total - time) / 0.08), 1.0)
        add(signal, int(at * rate), through(sound, rate, colour) * fade)
        at += total + pause * rng.uniform(0.5, 1.5)
    floor = rng.uniform(0, 0.02) * max(float(signal.std()), 1e-3)
    return normal(signal + floor * rng.standard_normal(count))


KINDS: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    "coloured": coloured,
    "hum": hum,
    "tones": tones,
    "impulses": impulses,
    "music": music,
    "ticks": ticks,
    "rotor": rotor,
    "engine": engine,
    "rain": rain,
    "bursts": bursts,
    "chirps": chirps,
    "howls": howls,
    "knocks": knocks,
    "saw": saw,
    "drone": drone,
    "flutter": flutter,
    "cries": cries,
}


def made_noise(rng: np.random.Generator, count: int, rate: int, kinds: Sequence[str] = ()) -> Array:
    """Noise of a kind drawn at random from ``kinds``; without them of any, colours twice as often
    as each other."""
    names = kinds or ["coloured", *KINDS]
    return KINDS[names[int(rng.integers(len(names)))]](rng, count, rate)


def varied(
    rng: np.random.Generator, noise: Array, count: int, rate: int, room: Array | None = None
) -> Array:
    """(S,) samples of a recorded noise (N,), any length, as another recording might have been:
    faster or slower, backwards, its parts in another order, beating, through an equaliser, a band
    or a ``room`` (the response of one)."""
    if rng.random() < 0.6:
        speed = 2.0 ** rng.uniform(-1.0, 1.0)
        noise = soxr.resample(noise, speed, 1.0, quality="LQ")
    if rng.random() < 0.2:
        noise = noise[::-1]
    if rng.random() < 0.15:
        noise = _shuffled(rng, noise, rate)
    start = int(rng.integers(len(noise)))
    noise = noise[(start + np.arange(count)) % len(noise)]
    filters: list[npt.NDArray[Any]] = []
    bins = count // 2 + 1
    if rng.random() < 0.5:
        filters.append(equaliser(rng, bins, 12.0))
    if rng.random() < 0.2:
        low = 20.0 * 100.0 ** rng.random()
        high = low * 10.0 ** rng.uniform(0.5, 2.0)
        frequencies = np.fft.rfftfreq(count, 1 / rate)
        skirt = np.minimum((frequencies + 1.0) / low, high / (frequencies + 1.0))
        filters.append(np.minimum(skirt, 1.0).astype(np.float32) ** 2)
    if room is not None:
        filters.append(np.fft.rfft(room.astype(np.float32), count))
    if filters:
        spectrum = np.fft.rfft(noise)
        for heights in filters:
            spectrum *= heights
        noise = np.fft.irfft(spectrum, count).astype(np.float32)
    if rng.random() < 0.15:
        depth = rng.uniform(0.2, 1.0) * slow(rng, count, rate, 10.0 ** rng.uniform(-0.3, 1.3))
        noise = (noise * (1 + depth)).astype(np.float32)
    return np.asarray(noise, np.float32)


def equaliser(rng: np.random.Generator, bins: int, most: float) -> Array:
    """The gain at each of ``bins`` even frequencies, through six drawn from -most to most dB."""
    places = np.linspace(0, bins - 1, 6)
    heights = np.interp(np.arange(bins), places, rng.uniform(-most, most, 6))
    return np.asarray(np.exp((heights * (np.log(10) / 20)).astype(np.float32)))


def _shuffled(rng: np.random.Generator, noise: Array, rate: int) -> Array:
    """Parts of 0.1 to 1 s in another order, each faded at its ends."""
    size = min(int(rng.uniform(0.1, 1.0) * rate), len(noise))
    parts = (
        noise[: len(noise) // size * size]
        .reshape(-1, size)[rng.permutation(len(noise) // size)]
        .copy()
    )
    ramp = np.linspace(0, 1, min(size // 2, int(0.005 * rate)), dtype=np.float32)
    if len(ramp):
        parts[:, : len(ramp)] *= ramp
        parts[:, -len(ramp) :] *= ramp[::-1]
    return parts.reshape(-1)


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
