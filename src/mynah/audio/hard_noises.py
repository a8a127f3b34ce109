"""Made noise that is easily taken for speech: it knocks at the pace of syllables, or has a pitch.

What all of it lacks is a voice whose resonances move. The random generator comes first; each
function gives (S,) float32 with a power of about 1 over all, as those of :mod:`mynah.audio.noises`.
"""

from __future__ import annotations

import numpy as np

from mynah.audio.augment import fast_size
from mynah.audio.noise_parts import (
    Array,
    Floats,
    Resonances,
    add,
    angles,
    normal,
    shaped,
    slow,
    through,
)


def knocks(rng: np.random.Generator, count: int, rate: int) -> Array:
    """A clockwork, hooves, hammers, typing: hits of a few sounds in a pattern, each with damped
    resonances from low to high and the tail of a room, over some hiss."""
    signal = np.zeros(count)
    low = rng.choice([120.0, 300.0, 900.0])
    sounds = [_hit(rng, rate, low) for _ in range(int(rng.integers(1, 5)))]
    period = 2.0 ** rng.uniform(-4.0, 0.5)  # 60 ms to 1.4 s
    steps = len(sounds) * int(rng.integers(1, 3))
    places = np.sort(rng.random(steps)) if rng.random() < 0.4 else np.arange(steps) / steps
    missing = rng.uniform(0, 0.3) if rng.random() < 0.4 else 0.0
    jitter = rng.choice([0.0, 0.003, 0.03])
    at = -rng.random() * period * steps
    while at < count / rate:
        for number, place in enumerate(places):
            late = at + place * period * steps + rng.normal(0.0, jitter)
            if late >= 0.0 and rng.random() >= missing:
                sound = sounds[number % len(sounds)] * rng.uniform(0.6, 1.0)
                add(signal, int(late * rate), sound)
        at += period * steps
    signal = _with_tail(rng, signal, rate) if rng.random() < 0.6 else signal
    hiss = shaped(rng, count, rate, lambda f: np.maximum(f, 50.0) ** -rng.uniform(0, 1))
    return normal(signal + np.sqrt(np.mean(signal**2)) * 10.0 ** rng.uniform(-3, 0) * hiss)


def _hit(rng: np.random.Generator, rate: int, low: float) -> Array:
    """What one hit gives: up to five resonances that decay within 2 to 150 ms."""
    strike = np.zeros(int(0.4 * rate), np.float32)
    length = int(rng.integers(1, max(int(0.006 * rate), 2)))
    strike[:length] = rng.standard_normal(length)
    found = _fixed(rng, low, 6500.0, 0.06, int(rng.integers(1, 6)))
    sound = through(strike, rate, found, 0.3)
    return np.asarray(sound / (np.abs(sound).max() + 1e-9), np.float32)


def saw(rng: np.random.Generator, count: int, rate: int) -> Array:
    """A chainsaw, a mower, a moped: firing cylinders that idle, are revved and bite, loud and
    distorted, through a body that does not move."""
    idle, full = rng.uniform(20, 70), rng.uniform(70, 280)
    load = _revving(rng, count, rate)
    pitch = idle * (full / idle) ** load
    pitch = pitch * (1 + rng.uniform(0.0, 0.06) * slow(rng, count, rate, rng.uniform(8, 60)))
    phase = angles(pitch, rate)
    sharp = np.float32(rng.uniform(0.6, 0.97))
    pulses = (1 - sharp) / (1 + sharp * sharp - 2 * sharp * np.cos(phase))
    half = np.float32(rng.uniform(0, 0.8))  # every second stroke is another
    pulses = pulses * (1 + half * np.cos(angles(pitch / 2, rate)))
    hiss = rng.standard_normal(count, dtype=np.float32) * np.float32(rng.uniform(0.05, 1.5))
    rough = pulses - pulses.mean() + hiss * (rng.uniform(0, 0.5) + pulses)
    heard = through(rough, rate, _fixed(rng, 150.0, 6500.0, 0.008, int(rng.integers(2, 7))))
    heard = heard * (10.0 ** (rng.uniform(0, 0.8) * (load - 1))).astype(np.float32)
    if rng.random() < 0.6:
        heard = np.tanh(heard / heard.std() * np.float32(rng.uniform(0.5, 4)))
    return normal(heard)


def _revving(rng: np.random.Generator, count: int, rate: int) -> Floats:
    """From 0 (idle) to 1: levels that are held, and ways from one to the next."""
    times, loads, at = [0.0], [rng.random()], 0.0
    hold, way = 10.0 ** rng.uniform(-0.8, 0.5), 10.0 ** rng.uniform(-1.3, 0.0)
    while at < count / rate:
        at += rng.exponential(hold)
        times.append(at)
        loads.append(loads[-1] + rng.uniform(-0.05, 0.05))
        at += way * rng.uniform(0.5, 1.5)
        times.append(at)
        loads.append(rng.random() if rng.random() < 0.6 else round(rng.random()))
    return np.clip(np.interp(np.arange(count) / rate, times, loads), 0.0, 1.0)


def drone(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Hum, buzz and appliances, of a voice's pitch at times: harmonics that beat, waver and
    saturate through resonances that stay, switched on and off or swelling."""
    base = 40.0 * 12.0 ** rng.random()
    waver = rng.uniform(0, 0.03) * slow(rng, count, rate, 10.0 ** rng.uniform(-0.5, 1.0))
    signal = np.zeros(count, np.float32)
    for _ in range(int(rng.integers(1, 4))):  # machines not quite at one speed
        phase = angles(base * (1 + rng.normal(0, 0.01) + waver), rate)
        sharp = np.float32(rng.uniform(0.2, 0.95))
        pulses = (1 - sharp) / (1 + sharp * sharp - 2 * sharp * np.cos(phase))
        signal += (pulses - pulses.mean()) / (pulses.std() + 1e-6)
    if rng.random() < 0.6:
        signal = through(signal, rate, _fixed(rng, 150.0, 4000.0, 0.01, int(rng.integers(1, 6))))
        signal = signal / (signal.std() + np.float32(1e-9))
    if rng.random() < 0.4:
        beat = angles(np.full(count, 10.0 ** rng.uniform(-0.3, 1.6)), rate)
        signal *= 1 + np.float32(rng.uniform(0.2, 1.0)) * np.cos(beat)
    hiss = shaped(rng, count, rate, lambda f: np.maximum(f, 50.0) ** -rng.uniform(0, 1.2))
    signal = signal + np.float32(10.0 ** rng.uniform(-2, 0.2)) * hiss
    if rng.random() < 0.5:
        gain = _coming_and_going(rng, count, rate)
        if gain.any():
            return normal(signal * gain)
    return normal(signal)


def flutter(rng: np.random.Generator, count: int, rate: int) -> Array:
    """Steps in leaves, splashes, a fire that spits: coloured noise in bumps at the pace of
    syllables, some with crackle or a growl inside."""
    bands = [
        through(
            rng.standard_normal(count, dtype=np.float32), rate, _fixed(rng, 150.0, 6500.0, 0.003, 3)
        )
        for _ in range(2)
    ]
    if rng.random() < 0.4:
        phase = angles(rng.uniform(30, 250) * (1 + 0.2 * slow(rng, count, rate, 8.0)), rate)
        bands[0] = bands[0] * (1 + np.cos(phase)) ** 2
    if rng.random() < 0.4:
        bands[1] = bands[1] * (rng.random(count) < 10.0 ** rng.uniform(-3.0, -1.0))
    signal = np.zeros(count)
    depth = rng.uniform(0.5, 2.0)
    for band in bands:
        bumps = slow(rng, count, rate, 10.0 ** rng.uniform(0.0, 1.2))
        signal += normal(band) * 10.0 ** (depth * (bumps - 1.0))
    floor = np.sqrt(np.mean(signal**2)) * 10.0 ** rng.uniform(-2.5, -0.3)
    return normal(signal + floor * rng.standard_normal(count, dtype=np.float32))


def cries(rng: np.random.Generator, count: int, rate: int) -> Array:
    """A baby or a young animal: long cries one after the other, each rising and falling about a
    high pitch, harsh at times, through a mouth that stays open, and a gasp between."""
    signal = np.zeros(count)
    base, length = rng.uniform(280, 750), rng.uniform(0.3, 1.5)
    mouth = _fixed(rng, 700.0, 1800.0, 0.004, 1) + _fixed(rng, 2000.0, 6000.0, 0.003, 2)
    arch, sharp = rng.uniform(0.05, 0.5), np.float32(rng.uniform(0.6, 0.95))
    harsh, gasp, pause = rng.uniform(0, 0.8), rng.uniform(0, 0.3), rng.uniform(0.05, 0.8)
    at = rng.uniform(-1, 1)
    while at < count / rate:
        seconds = length * rng.uniform(0.6, 1.3)
        size = int(seconds * rate)
        bow = np.sin(np.pi * np.linspace(0, 1, size) ** rng.uniform(0.5, 2.0))
        waver = rng.uniform(0, 0.08) * slow(rng, size, rate, rng.uniform(4, 30))
        pitch = base * 2.0 ** (arch * (bow - 0.5) + waver + rng.normal(0, 0.05))
        phase = angles(pitch, rate)
        voice = (1 - sharp) / (1 + sharp * sharp - 2 * sharp * np.cos(phase))
        if rng.random() < harsh:  # every second period is another
            voice = voice * (1 + rng.uniform(0.2, 0.9) * np.cos(angles(pitch / 2, rate)))
        rough = rng.uniform(0, 0.6) * rng.standard_normal(size) * voice
        sound = through(voice - voice.mean() + rough, rate, mouth)
        sound = sound / (sound.std() + 1e-9) * np.minimum(4 * bow, 1.0) * rng.uniform(0.5, 1.0)
        _put(signal, at, sound, rate)
        at += seconds
        if gasp and pause > 0.1:
            breath = rng.standard_normal(int(0.8 * pause * rate))
            breath = through(breath, rate, mouth) * np.hanning(len(breath))
            _put(signal, at + 0.1 * pause, gasp * breath / (breath.std() + 1e-9), rate)
        at += pause * rng.uniform(0.7, 1.5)
    floor = 10.0 ** rng.uniform(-3.5, -1.0)
    return normal(signal + floor * rng.standard_normal(count))


def _put(signal: Floats, at: float, sound: Array, rate: int) -> None:
    """Add what begins at so many seconds, which may be before the beginning."""
    first = int(at * rate)
    add(signal, max(first, 0), sound[max(-first, 0) :])


def _coming_and_going(rng: np.random.Generator, count: int, rate: int) -> Floats:
    """A gain from 0 to 1 that rises and falls a few times, at once or slowly."""
    times, gains, at = [0.0], [float(rng.random() < 0.5)], 0.0
    mean, ramp = 10.0 ** rng.uniform(-0.7, 0.5), 10.0 ** rng.uniform(-2.5, 0.0)
    while at < count / rate:
        at += rng.exponential(mean) + 0.05
        times += [at, at + ramp]
        gains += [gains[-1], 1.0 - gains[-1]]
        at += ramp
    return np.interp(np.arange(count) / rate, times, gains)


def _fixed(
    rng: np.random.Generator, low: float, high: float, longest: float, count: int
) -> Resonances:
    """Resonances of any place from ``low`` to ``high`` hertz, and decays up to ``longest``."""
    return [
        (
            low * (high / low) ** rng.random(),
            longest * 10.0 ** -rng.uniform(0, 1.3),
            rng.uniform(0.2, 1.0),
        )
        for _ in range(count)
    ]


def _with_tail(rng: np.random.Generator, signal: Floats, rate: int) -> Floats:
    """In a room: noise that decays within 50 to 600 ms follows each sound."""
    decay = 0.05 * 12.0 ** rng.random() / 6.9
    time = np.arange(int(6.9 * decay * rate)) / rate
    response = rng.standard_normal(len(time)) * np.exp(-time / decay)
    response *= rng.uniform(0.1, 1.0) / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    size = fast_size(len(signal) + len(response))
    spectrum = np.fft.rfft(signal.astype(np.float32), size)
    spectrum *= np.fft.rfft(response.astype(np.float32), size)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(signal)], np.float64)
