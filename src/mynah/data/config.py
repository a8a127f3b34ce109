"""The table ``[data]`` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mynah.errors import ConfigError

TextForm = Literal["none", "lower", "upper", "scoring"]
_NOT_ON_DEVICE = ("spec_sub", "spec_trim")


@dataclass(frozen=True)
class SourceConfig:
    """One manifest, or the part of it that meets the conditions."""

    manifest: str  # a path or URL, or a name under the root; see mynah.corpus.manifest
    # a value, a list of values, or a comparison as ">=18", by column
    where: dict[str, Any] = field(default_factory=dict)
    exclude: dict[str, Any] = field(default_factory=dict)
    repeat: int = 1  # times an epoch
    # cuts used, from the start of the manifest (of compressed tars, those that an epoch, which
    # shuffles tars, comes to first); 0: all
    limit: int = 0
    fraction: float = 1.0  # of the cuts used, always the same ones
    language: str = ""  # where the manifest does not say
    text: TextForm | None = None  # instead of the one in [data]

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise ConfigError(f"repeat: must be at least 1, got {self.repeat}")
        if self.limit < 0:
            raise ConfigError(f"limit: must not be negative, got {self.limit}")
        if not 0.0 < self.fraction <= 1.0:
            raise ConfigError(f"fraction: must be above 0, at most 1, got {self.fraction}")


@dataclass(frozen=True)
class NoiseConfig:
    """Noise recordings mixed in, each from a random place, repeated when too short."""

    manifest: str
    where: dict[str, Any] = field(default_factory=dict)
    exclude: dict[str, Any] = field(default_factory=dict)
    probability: float = 0.5
    snr: tuple[float, float] = (5.0, 25.0)  # dB, from and to
    made: float = 0.0  # share that is made instead: hums, hisses, knocks, music

    def __post_init__(self) -> None:
        _probability(self.probability)
        _probability(self.made)
        if self.snr[0] > self.snr[1]:
            raise ConfigError(f"snr: from {self.snr[0]} to {self.snr[1]} is no range")


@dataclass(frozen=True)
class ReverbConfig:
    """Room responses that the speech is convolved with."""

    manifest: str
    where: dict[str, Any] = field(default_factory=dict)
    exclude: dict[str, Any] = field(default_factory=dict)
    probability: float = 0.3

    def __post_init__(self) -> None:
        _probability(self.probability)


@dataclass(frozen=True)
class CropConfig:
    """Pieces of utterances whose manifest says which unit sounds when: from a few units to all of
    them, with less or no silence around. A model that has only heard sentences with silence on both
    sides loses the first and the last sounds of a word that was cut out."""

    probability: float = 0.3
    seconds: tuple[float, float] = (0.3, 3.0)  # of the sound, from and to
    margin: float = 0.1  # seconds, at most, kept of what is on each side

    def __post_init__(self) -> None:
        _probability(self.probability)
        _range("seconds", self.seconds, 0.05)
        if self.margin < 0:
            raise ConfigError(f"margin: must not be negative, got {self.margin}")


@dataclass(frozen=True)
class SilenceConfig:
    """Silence put on both sides: nothing, or white noise."""

    probability: float = 0.3
    seconds: tuple[float, float] = (0.0, 1.0)  # on each side
    level: tuple[float, float] = (-80.0, -30.0)  # dB from the speech to the noise

    def __post_init__(self) -> None:
        _probability(self.probability)
        _range("seconds", self.seconds, 0.0)
        _range("level", self.level, -200.0)


@dataclass(frozen=True)
class JoinConfig:
    """A second piece, of another utterance of the speaker, behind some of the pieces, as far as the
    longest of the batch leaves room: what follows what is then another thing each time, and what
    is between may be a pause or none."""

    probability: float = 0.3  # of the pieces
    pause: tuple[float, float] = (0.0, 0.8)  # seconds between the two

    def __post_init__(self) -> None:
        _probability(self.probability)
        _range("pause", self.pause, 0.0)


@dataclass(frozen=True)
class ChannelConfig:
    """Telephones, coders and bad recorders."""

    narrow: float = 0.2  # utterances through a narrow band, some of them in 8 bits
    clipped: float = 0.05  # recorded too loud

    def __post_init__(self) -> None:
        _probability(self.narrow)
        _probability(self.clipped)


@dataclass(frozen=True)
class SpecAugmentConfig:
    """Masks over time and frequency (SpecAugment, arXiv:1904.08779)."""

    time_masks: int = 2
    time_width: int = 50  # frames
    frequency_masks: int = 2
    frequency_width: int = 10  # bins
    max_part: float = 0.4  # of an utterance that one time mask may hide
    fill: Literal["mean", "zero"] = "mean"  # of the utterance; zero: as WeNet does

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_width", "frequency_masks", "frequency_width"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: must not be negative, got {getattr(self, name)}")
        _probability(self.max_part, "max_part")


@dataclass(frozen=True)
class ColorConfig:
    """Microphones and distances: a smooth curve over the bins (log energies) of an utterance."""

    level: float = 1.0  # standard deviation; 1.0 is 4.3 dB for natural logarithms
    tilt: float = 0.5


@dataclass(frozen=True)
class WarpConfig:
    """Vocal tracts: frequencies times a factor (VTLP, Jaitly and Hinton 2013)."""

    width: float = 0.1  # factors from 1 / (1 + width) to 1 + width
    bend: float = 0.0  # bins (standard deviation) by which parts of the axis are moved further

    def __post_init__(self) -> None:
        if not 0.0 <= self.width <= 1.0:
            raise ConfigError(f"width: must be from 0 to 1, got {self.width}")
        if not 0.0 <= self.bend <= 10.0:
            raise ConfigError(f"bend: must be from 0 to 10 bins, got {self.bend}")


@dataclass(frozen=True)
class TempoConfig:
    """Rhythms: parts of an utterance slower, others faster, its length the same."""

    width: float = 0.2  # standard deviation of the logarithm of the pace, drawn every 40 frames
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.width <= 1.0:
            raise ConfigError(f"width: must be from 0 to 1, got {self.width}")
        _probability(self.probability)


@dataclass(frozen=True)
class SpecSubConfig:
    """Stretches replaced by earlier ones (SpecSub, as in U2++, arXiv:2106.05642)."""

    count: int = 3
    width: int = 30  # frames


@dataclass(frozen=True)
class SpecTrimConfig:
    """The end cut off (SpecTrim, as WeNet trains with)."""

    width: int = 20  # frames


@dataclass(frozen=True)
class DataConfig:
    """What is trained and evaluated on, how it is batched and how it is varied."""

    train: tuple[SourceConfig, ...] = ()
    dev: tuple[SourceConfig, ...] = ()
    root: str = ""  # of manifests named by a relative path; empty: MYNAH_DATA
    text: TextForm = "none"  # lower, upper, or as for scoring; so that sets can be mixed
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    max_frames: int = 12000  # of a batch, padding counted
    max_items: int = 256  # of a batch
    # variations of each utterance in a batch, one after another; max_frames and max_items count all
    views: int = 1
    buckets: int = 20  # by length; batches are filled within them
    # of the encoder, an utterance with more tokens than its frames being refused; a run takes it
    # from its model
    subsampling: int | None = None
    # a column of the manifests that says which unit sounds when, as "sil 30 dh 5 ah 7": frames of
    # 10 ms; empty: none is read
    alignment: str = ""
    needs_text: bool = True  # an utterance without a text is refused; a run takes it from its task
    workers: int = 0  # processes that read ahead; 0: none
    prefetch: int = 4  # batches that each reads ahead
    # hold the decoded recordings in the memory of the device (115 MB an hour at 16 kHz), vary them
    # and compute their features there: what an accelerator needs not to wait for a small set
    resident: bool = False
    speed: tuple[float, ...] = (0.9, 1.0, 1.1)  # factors, one drawn for each utterance and epoch
    crop: CropConfig | None = None
    join: JoinConfig | None = None
    silence: SilenceConfig | None = None
    noise: NoiseConfig | None = None
    reverb: ReverbConfig | None = None
    channel: ChannelConfig | None = None
    tempo: TempoConfig | None = None
    warp: WarpConfig | None = None
    color: ColorConfig | None = None
    spec_augment: SpecAugmentConfig | None = None
    spec_sub: SpecSubConfig | None = None
    spec_trim: SpecTrimConfig | None = None

    def __post_init__(self) -> None:
        for name in ("max_frames", "max_items", "views", "buckets", "subsampling", "prefetch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: must be at least 1, got {value}")
        if self.views > min(self.max_frames, self.max_items):
            raise ConfigError(f"views: {self.views} of an utterance are more than a batch may hold")
        for name in _NOT_ON_DEVICE if self.resident else ():
            if getattr(self, name) is not None:
                raise ConfigError(f"resident: {name} is not made on the device")
        if self.crop is not None and not self.alignment:
            raise ConfigError("crop: alignment must name the column that says which unit is where")
        if self.join is not None and (self.crop is None or not self.resident):
            raise ConfigError(
                "join: joins pieces of a set that is resident; give crop and resident"
            )
        if self.workers < 0:
            raise ConfigError(f"workers: must not be negative, got {self.workers}")
        if not 0.0 <= self.min_seconds < self.max_seconds:
            raise ConfigError(f"min_seconds: must be from 0 to below max_seconds "
                              f"({self.max_seconds}), got {self.min_seconds}")  # fmt: skip
        bad = next((f for f in self.speed if not 0.25 <= f <= 4.0), None)
        if bad is not None:
            raise ConfigError(f"speed: factors are from 0.25 to 4, got {bad}")


def _probability(value: float, name: str = "probability") -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}: must be from 0 to 1, got {value}")


def _range(name: str, given: tuple[float, float], least: float) -> None:
    low, high = given
    if not least <= low <= high:
        raise ConfigError(f"{name}: from {low} to {high} is no range from {least:g} up")
