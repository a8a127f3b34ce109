"""Scenes for a voice activity detector: clean speech laid out in time, noise over it, and where
the speech is.

The truth is known before the noise comes: it is the energy of the clean recording
(:mod:`mynah.audio.activity`). Many voices at once (babble) are noise. What becomes of a recording
depends on the generator alone, so on (seed, epoch, utterance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mynah.audio import augment
from mynah.audio.activity import Activity, energy_activity
from mynah.audio.features import Frontend
from mynah.audio.noises import KINDS, equaliser, made_noise, varied
from mynah.data.augment import Recordings
from mynah.data.config import NoiseConfig, ReverbConfig, SourceConfig
from mynah.errors import ConfigError, InputError, nearest

Array = npt.NDArray[np.float32]
Reject = Callable[[str, str], None]  # id, reason
Range = tuple[float, float]

_FADE = 0.01  # seconds at each end of an utterance that is cut
_HELD = 250_000_000  # samples of utterances that are kept in memory
_SPEECH_LEVEL = 0.05  # root mean square of speech while a scene is put together
_WORD = (0.15, 0.9)  # seconds of a piece that is laid out alone
_CUT = (0.2, 0.6)  # seconds of one that is cut from a longer stretch
_WORD_PARTS = 3  # consecutive stretches of energy that it has at most
_WORD_GAPS = (0.1, 3.0)  # seconds between pieces
_WORD_MARGIN = 0.08  # seconds of what is around a piece, at most, on each side
_WEAK = 0.1  # a piece of less than this part of its utterance's power is breath or a consonant


@dataclass(frozen=True)
class SceneConfig:
    """What scenes are like; shares are probabilities."""

    seconds: float = 8.0
    noise: NoiseConfig | None = None  # its probability and snr are not used
    dev_noise: NoiseConfig | None = None  # for the development set; none: as noise
    rooms: ReverbConfig | None = None
    contrast: float = 30.0  # dB; a recording of less is not clean enough to give the truth
    gap: float = 0.06  # seconds; shorter pauses are speech: segments close longer ones themselves
    silent: float = 0.25  # scenes without speech
    words: float = 0.0  # scenes with speech whose utterances are short pieces, each alone
    clean: float = 0.15  # scenes without added noise
    made: float = 0.35  # noises that are made, not recorded
    kinds: tuple[str, ...] = ()  # of made noise, drawn evenly; empty: every kind there is
    remade: float = 0.0  # made noises that are varied as recorded ones are
    babble: float = 0.1  # noises that are several voices
    second: float = 0.25  # noises that have another beside them
    voices: tuple[int, int] = (6, 12)
    snr: Range = (-3.0, 30.0)  # dB, of what sounds of both
    babble_snr: Range = (5.0, 30.0)
    level: Range = (-60.0, -12.0)  # dB of full scale, root mean square
    narrow: float = 0.3  # scenes through a narrow band
    gaps: Range = (0.3, 3.0)  # seconds between utterances

    def __post_init__(self) -> None:
        if not 1.0 <= self.seconds <= 60.0:
            raise ConfigError(f"seconds: must be from 1 to 60, got {self.seconds}")
        if not 0.0 <= self.gap <= 1.0:
            raise ConfigError(f"gap: must be from 0 to 1, got {self.gap}")
        for name in ("silent", "words", "clean", "made", "remade", "babble", "narrow", "second"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: must be between 0 and 1, got {getattr(self, name)}")
        if self.made + self.babble > 1.0:
            raise ConfigError(f"made: {self.made} and babble {self.babble} are more than all")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"kinds: {kind!r} is no kind of noise{nearest(kind, KINDS)}")
        for name in ("snr", "babble_snr", "level", "gaps", "voices"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"{name}: from {low} to {high} is no range")


@dataclass(frozen=True)
class Voice:
    """An utterance, 16 bits a sample, and where it has speech."""

    pcm: npt.NDArray[np.int16]  # (S,)
    found: Activity

    @property
    def samples(self) -> Array:
        """(S,) from -1 to 1."""
        return np.asarray(self.pcm * np.float32(1 / 32768), np.float32)


@dataclass
class Scene:
    """Samples and truth."""

    samples: Array  # (S,)
    active: npt.NDArray[np.bool_]  # (S,) whether there is speech


@dataclass
class Scenes:
    """Makes scenes around the recordings of a loader. It can be sent to other processes.

    Raises:
        InputError: a set of recordings is missing or empty.
    """

    config: SceneConfig
    sources: Sequence[SourceConfig]  # whose voices are added
    frontend: Frontend
    root: str = ""
    dev: bool = False
    _speech: list[Recordings] = field(init=False)
    _noise: Recordings | None = field(init=False, default=None)
    _rooms: Recordings | None = field(init=False, default=None)
    _voices: dict[tuple[int, int], Voice | None] = field(init=False, default_factory=dict)
    _held: int = field(init=False, default=0)  # samples of them

    def __post_init__(self) -> None:
        config = self.config
        noise = (config.dev_noise if self.dev else None) or config.noise
        self._speech = [self._open(source) for source in self.sources]
        self._noise = self._open(noise) if noise else None
        self._rooms = self._open(config.rooms) if config.rooms else None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_voices": {}, "_held": 0}

    def _open(self, table: SourceConfig | NoiseConfig | ReverbConfig) -> Recordings:
        return Recordings(table.manifest, table.where, table.exclude, self.root)

    def __call__(
        self, rng: np.random.Generator, samples: Array, reject: Reject
    ) -> tuple[Array, list[int]]:
        """Features (T, F) of a scene around an utterance (S,), and a label (0, 1) a frame.

        Raises:
            InputError: the recording is not clean enough.
        """
        scene = self.scene(rng, samples, reject)
        feats = self.frontend(scene.samples)
        return feats, frame_labels(scene.active, len(feats), self.frontend).tolist()

    def scene(self, rng: np.random.Generator, samples: Array, reject: Reject) -> Scene:
        """A scene around an utterance (S,).

        Raises:
            InputError: the recording is not clean enough.
        """
        config, rate = self.config, self.frontend.rate
        count = round(config.seconds * rate)
        scene = Scene(np.zeros(count, np.float32), np.zeros(count, np.bool_))
        if rng.random() >= config.silent:
            if config.words and rng.random() < config.words:
                self._fill_words(rng, scene, samples, reject)
            else:
                self._fill(rng, scene, samples, reject)
            if self._rooms is not None and rng.random() < config.rooms.probability:  # type: ignore[union-attr]
                room = self._rooms.draw(rng, rate, reject)
                if room is not None:
                    scene.samples = augment.reverberate(scene.samples, room)
            if rng.random() < 0.3:
                scene.samples = tilted(rng, scene.samples)
        self._add_noise(rng, scene, reject)
        if rng.random() < config.narrow:
            scene.samples = augment.narrowed(rng, scene.samples, rate)
        scene.samples = self._leveled(rng, scene)
        return scene

    # -- speech ----------------------------------------------------------------------------------

    def _fill(self, rng: np.random.Generator, scene: Scene, first: Array, reject: Reject) -> None:
        """Utterances one after the other; the first is the loader's, others are drawn."""
        rate, total = self.frontend.rate, len(scene.samples)
        at = 0 if rng.random() < 0.3 else int(rng.uniform(0, 0.4) * total)
        found = self._activity(first)
        if not self._clean(found):
            raise InputError(f"is not clean: {found.contrast:.0f} dB from quiet to loud")
        at = self._place(rng, scene, at, first, found)
        while True:
            at += int(rng.uniform(*self.config.gaps) * rate)
            if rng.random() < 0.25 or at >= total - rate // 2:  # nothing more
                return
            voice = self._voice(rng, reject)
            if voice is not None and self._clean(voice.found):
                at = self._place(rng, scene, at, voice.samples, voice.found)

    def _fill_words(
        self, rng: np.random.Generator, scene: Scene, first: Array, reject: Reject
    ) -> None:
        """Short pieces with pauses, of the loader's utterance and of others that are drawn; often
        the scene begins or ends with one, as a stream may."""
        rate, total = self.frontend.rate, len(scene.samples)
        samples, found = first, self._activity(first)
        if not self._clean(found):
            raise InputError(f"is not clean: {found.contrast:.0f} dB from quiet to loud")
        at = 0 if rng.random() < 0.3 else int(rng.uniform(*_WORD_GAPS) * rate)
        ended = 0
        while True:
            piece, spoken = lone_word(rng, samples, found, rate)
            if at + len(piece) > total:  # the last one ends with the scene, if it has room
                at = total - len(piece)
                if at >= ended + _WORD_GAPS[0] * rate:
                    self._place(rng, scene, at, piece, spoken)
                return
            if len(piece):
                at = ended = self._place(rng, scene, at, piece, spoken)
            at += int(rng.uniform(*_WORD_GAPS) * rate)
            if rng.random() < 0.1:
                return
            voice = self._voice(rng, reject)
            if voice is not None and self._clean(voice.found):
                samples, found = voice.samples, voice.found

    def _activity(self, samples: Array) -> Activity:
        """Where there is speech, with the pauses from ``gap`` on that segments close again: what
        they leave out is left out here, too."""
        closed = energy_activity(samples, self.frontend.rate)
        parts = energy_activity(samples, self.frontend.rate, gap=self.config.gap, shortest=0.03)
        kept = [
            (max(start, first), min(end, last))
            for first, last in closed.segments
            for start, end in parts.segments
            if start < last and end > first
        ]
        return Activity(tuple(kept), closed.contrast)

    def _clean(self, found: Activity) -> bool:
        return bool(found.segments) and found.contrast >= self.config.contrast

    def _voice(self, rng: np.random.Generator, reject: Reject) -> Voice | None:
        """An utterance drawn at random; those that fit are kept, as reading costs more than mixing
        does. What is drawn does not depend on it."""
        sizes = np.array([len(r.positions) for r in self._speech], np.float64)
        number = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
        source = self._speech[number]
        position = int(rng.choice(source.positions))
        if (number, position) in self._voices:
            return self._voices[number, position]
        samples = source.read(position, self.frontend.rate, reject)
        voice = None
        if samples is not None:
            pcm = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
            voice = Voice(pcm, self._activity(samples))
        if self._held < _HELD:
            self._voices[number, position] = voice
            self._held += 0 if voice is None else len(voice.pcm)
        return voice

    def _place(
        self, rng: np.random.Generator, scene: Scene, at: int, samples: Array, found: Activity
    ) -> int:
        """Put an utterance into the scene; where it ends."""
        rate = self.frontend.rate
        active = np.zeros(len(samples), np.bool_)
        for start, end in found.segments:
            active[round(start * rate) : round(end * rate)] = True
        room = len(scene.samples) - at
        skip = int(rng.integers(len(samples) - room + 1)) if len(samples) > room else 0
        samples, active = samples[skip : skip + room], active[skip : skip + room]
        power = float(np.mean(samples[active] ** 2)) if active.any() else 0.0
        if power <= 0.0:
            return at
        gain = _SPEECH_LEVEL / np.sqrt(power) * 10.0 ** (rng.uniform(-6, 6) / 20)
        stop = at + len(samples)
        scene.samples[at:stop] += _faded(samples, rate) * np.float32(gain)
        scene.active[at:stop] |= active
        return stop

    # -- noise -----------------------------------------------------------------------------------

    def _add_noise(self, rng: np.random.Generator, scene: Scene, reject: Reject) -> None:
        config, speech = self.config, bool(scene.active.any())
        if rng.random() < config.clean:
            if rng.random() < 0.7:  # the floor of a good microphone
                hiss = augment.dither(rng, np.zeros_like(scene.samples), rng.uniform(0.3, 10))
                scene.samples = scene.samples + hiss
            return
        total = np.zeros_like(scene.samples)
        babble = False
        for number in range(2 if rng.random() < config.second else 1):
            draw = rng.random()
            if draw < config.babble:
                noise, babble = self._babble(rng, reject), True
            elif draw < config.babble + config.made or self._noise is None:
                noise = made_noise(rng, len(total), self.frontend.rate, config.kinds)
                if config.remade and rng.random() < config.remade:
                    noise = self._varied(rng, noise, len(total), reject)
            else:
                noise = self._recorded(rng, len(total), reject)
            level = sounding_level(noise, self.frontend.rate)
            if level > 0.0:
                gain = 10.0 ** (-rng.uniform(0, 10) * number / 20) / level
                total += self._gated(rng, noise) * np.float32(gain)
        snr = rng.uniform(*(config.babble_snr if babble and speech else config.snr))
        scene.samples = scene.samples + total * np.float32(_SPEECH_LEVEL * 10.0 ** (-snr / 20))

    def _recorded(self, rng: np.random.Generator, count: int, reject: Reject) -> Array:
        """There are few recordings, so they are varied more than speech may be."""
        assert self._noise is not None
        drawn = self._noise.draw(rng, self.frontend.rate, reject)
        if drawn is None:
            return np.zeros(count, np.float32)
        return self._varied(rng, drawn, count, reject)

    def _varied(self, rng: np.random.Generator, noise: Array, count: int, reject: Reject) -> Array:
        room: Array | None = None
        if self._rooms is not None and rng.random() < 0.25:
            room = self._rooms.draw(rng, self.frontend.rate, reject)
        return varied(rng, noise, count, self.frontend.rate, room)

    def _babble(self, rng: np.random.Generator, reject: Reject) -> Array:
        count = round(self.config.seconds * self.frontend.rate)
        total = np.zeros(count, np.float32)
        low, high = self.config.voices
        for _ in range(int(rng.integers(low, high + 1))):
            voice = self._voice(rng, reject)
            if voice is None:
                continue
            samples = voice.samples
            if (level := sounding_level(samples, self.frontend.rate)) > 0:
                start = int(rng.integers(len(samples)))
                heard = samples[(start + np.arange(count)) % len(samples)]
                total += heard * np.float32(10.0 ** (rng.uniform(-3, 3) / 20) / level)
        return total

    def _gated(self, rng: np.random.Generator, noise: Array) -> Array:
        """Now and then the noise begins or ends within the scene."""
        if rng.random() >= 0.3:
            return noise
        first, last = np.sort(rng.uniform(-0.3, 1.3, 2) * len(noise)).astype(np.int64)
        rate = self.frontend.rate
        ramp = max(int(rng.uniform(0.005, 1.0) * rate), 1)
        time = np.arange(len(noise))
        gate = np.clip(np.minimum(time - first, last - time) / ramp, 0.0, 1.0)
        return np.asarray(noise * gate, np.float32)

    def _leveled(self, rng: np.random.Generator, scene: Scene) -> Array:
        """At a loudness drawn at random; a few are clipped or have few bits."""
        target = 10.0 ** (rng.uniform(*self.config.level) / 20)
        heard = scene.samples[scene.active] if scene.active.any() else scene.samples
        power = float(np.mean(heard**2)) if len(heard) else 0.0
        gain = target / max(np.sqrt(power), target / 1000.0) if power > 0 else 1.0
        samples = scene.samples * np.float32(gain)
        if rng.random() < 0.05:
            samples = augment.clipped(rng, samples)
        if rng.random() < 0.5:
            samples = np.round(samples * 32767.0) / np.float32(32767.0)
        return np.asarray(np.clip(samples, -1.0, 1.0), np.float32)


def lone_word(
    rng: np.random.Generator, samples: Array, found: Activity, rate: int
) -> tuple[Array, Activity]:
    """A short piece of an utterance (S,), cut tight: one to three of its consecutive stretches,
    drawn evenly, with up to 80 ms of what is around them; at times, and where no stretches are
    short and loud, a piece of a long one. Nothing, if that is weak."""
    spans = found.segments
    power = [float(np.sum(samples[round(a * rate) : round(b * rate)] ** 2)) for a, b in spans]
    seconds = [b - a for a, b in spans]
    least = _WEAK * sum(power) / max(sum(seconds), 1e-9)
    kept = [
        (one, end)
        for one in range(len(spans))
        for end in range(one + 1, min(one + _WORD_PARTS, len(spans)) + 1)
        if _WORD[0] <= spans[end - 1][1] - spans[one][0] <= _WORD[1]
        and sum(power[one:end]) >= least * sum(seconds[one:end]) > 0.0
    ]
    if not kept or rng.random() < 0.25:
        one = int(np.argmax(seconds)) if seconds else 0
        length = min(rng.uniform(*_CUT), seconds[one]) if seconds else 0.0
        start = spans[one][0] + rng.uniform(0.0, seconds[one] - length) if seconds else 0.0
        piece = samples[round(start * rate) : round((start + length) * rate)]
        if float(np.sum(piece**2)) < least * length or length < _WORD[0]:
            piece, length = piece[:0], 0.0
        return piece, Activity(((0.0, length),) if length else (), found.contrast)
    one, end = kept[int(rng.integers(len(kept)))]
    before = spans[one - 1][1] if one else 0.0
    after = spans[end][0] if end < len(spans) else len(samples) / rate
    start = max(spans[one][0] - rng.uniform(0.0, _WORD_MARGIN), before)
    stop = min(spans[end - 1][1] + rng.uniform(0.0, _WORD_MARGIN), after)
    inside = tuple((a - start, b - start) for a, b in spans[one:end])
    return samples[round(start * rate) : round(stop * rate)], Activity(inside, found.contrast)


def frame_labels(
    active: npt.NDArray[np.bool_], frames: int, frontend: Frontend
) -> npt.NDArray[np.int64]:
    """1 where more than half of a frame's step is speech: (S,) -> (T,)."""
    step = round(frontend.frame_shift * frontend.rate)
    padded = np.zeros(frames * step, np.bool_)
    padded[: min(len(active), len(padded))] = active[: len(padded)]
    return np.asarray(padded.reshape(frames, step).mean(axis=1) > 0.5, np.int64)


def sounding_level(samples: Array, rate: int) -> float:
    """The root mean square of what is within 40 dB of the loudest 20 ms: silence does not make
    a noise quieter."""
    if not len(samples):
        return 0.0
    size = max(round(0.02 * rate), 1)
    blocks = np.pad(samples - samples.mean(), (0, -len(samples) % size)).reshape(-1, size)
    powers = np.einsum("bs,bs->b", blocks, blocks) / size
    most = float(powers.max())
    return float(np.sqrt(powers[powers > most * 1e-4].mean())) if most > 1e-11 else 0.0


def tilted(rng: np.random.Generator, samples: Array) -> Array:
    """Through an equaliser whose gain, at a few frequencies, is drawn from -8 to 8 dB."""
    size = len(samples)
    spectrum = np.fft.rfft(samples)
    return np.fft.irfft(spectrum * equaliser(rng, len(spectrum), 8.0), size).astype(np.float32)


def _faded(samples: Array, rate: int) -> Array:
    ramp = min(round(_FADE * rate), len(samples) // 2)
    faded = samples.copy()
    if ramp:
        faded[:ramp] *= np.linspace(0, 1, ramp, dtype=np.float32)
        faded[-ramp:] *= np.linspace(1, 0, ramp, dtype=np.float32)
    return faded
