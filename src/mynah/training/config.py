"""The recipe: one frozen dataclass that a TOML file and ``key=value`` arguments fill."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from mynah.config import as_dict, build, override, read_toml
from mynah.data.config import DataConfig
from mynah.errors import ConfigError, nearest

Count = Literal["utterances", "tokens", "frames"]
Options = TypeVar("Options")

# What may differ when a run is resumed, because no weight depends on it.
FREE_KEYS = (
    "data.root",
    "data.workers",
    "data.prefetch",
    "loop.max_steps",
    "loop.max_epochs",
    "loop.max_minutes",
    "loop.log_every",
    "loop.save_every",
    "loop.save_minutes",
    "loop.keep_last",
    "loop.keep_best",
    "loop.tensorboard",
    "evaluate",
    "task.graphs",
    "task.prepared",
    "card",
    "streaming",
    "decoding",
)


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser. ``lr`` is the peak; the schedule scales it."""

    kind: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01  # of matrices; never of biases and normalisation
    clip: float = 5.0  # the largest norm of the whole gradient; 0 does not clip
    max_bad_steps: int = 10  # steps in a row with a gradient that is not finite, then stop

    def __post_init__(self) -> None:
        _positive(lr=self.lr, eps=self.eps, max_bad_steps=self.max_bad_steps)
        _not_negative(weight_decay=self.weight_decay, clip=self.clip)
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ConfigError(f"betas: must be from 0 to below 1, got {list(self.betas)}")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves; :mod:`mynah.training.schedule` has the formulas."""

    kind: Literal["warmup", "noam", "cosine", "constant"] = "warmup"
    warmup: int = 1000  # steps
    total: int = 0  # cosine: steps until the floor; 0: loop.max_steps, or else loop.max_minutes
    floor: float = 0.0  # cosine: the last rate, as a part of the peak
    width: int = 256  # noam: the model's width

    def __post_init__(self) -> None:
        _not_negative(warmup=self.warmup, total=self.total)
        _positive(width=self.width)
        if not 0.0 <= self.floor <= 1.0:
            raise ConfigError(f"floor: must be between 0 and 1, got {self.floor}")


@dataclass(frozen=True)
class LoopConfig:
    """How long, in which precision, and what is kept on the way."""

    max_epochs: int = 0  # 0: no limit; one of the three must be given
    max_steps: int = 0
    max_minutes: float = 0.0  # of training, evaluations and checkpoints not counted
    accumulate: int = 1  # batches a worker and step
    divide_by: Count = "utterances"  # the count, over all workers, that divides the loss
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False  # torch.compile of the model's blocks
    log_every: int = 10  # steps
    save_every: int = 1000  # steps; 0: only by time
    save_minutes: float = 10.0  # and at least this often; 0: only by steps
    keep_last: int = 2  # checkpoints to resume from
    keep_best: int = 5  # checkpoints, the best on the development set, that are averaged
    tensorboard: bool = True  # where tensorboard is installed

    def __post_init__(self) -> None:
        _positive(accumulate=self.accumulate, log_every=self.log_every)
        _positive(keep_last=self.keep_last, keep_best=self.keep_best)
        _not_negative(max_epochs=self.max_epochs, max_steps=self.max_steps)
        _not_negative(max_minutes=self.max_minutes)
        _not_negative(save_every=self.save_every, save_minutes=self.save_minutes)
        if not self.max_epochs and not self.max_steps and not self.max_minutes:
            raise ConfigError(
                "max_epochs: give this, max_steps or max_minutes, so that training ends"
            )


@dataclass(frozen=True)
class EvaluateConfig:
    """The development set's turn."""

    every: int = 0  # steps; 0: after each epoch
    method: Literal["greedy", "prefix_beam", "rescoring"] = "greedy"
    beam: int = 10
    unit: Literal["word", "char", "token"] = "word"  # token: of the tokenizer, as phones
    language: str = "en"  # of the scoring normalisation; empty: compare the texts as they are
    chunk: int = 0  # encoder frames; 0: the whole utterance
    left: int = -1  # chunks to the left; -1: all
    max_batches: int = 0  # 0: the whole set
    ctc_weight: float = 0.5  # rescoring
    reverse_weight: float = 0.0  # rescoring: of the right-to-left decoder

    def __post_init__(self) -> None:
        _not_negative(every=self.every, chunk=self.chunk, max_batches=self.max_batches)
        _positive(beam=self.beam)


@dataclass(frozen=True)
class LoraConfig:
    """Adapters of low rank (:mod:`mynah.nn.lora`): they alone are trained and kept in checkpoints;
    the published weights have them merged."""

    rank: int = 8
    alpha: float = 16.0  # the difference is scaled by alpha / rank
    # patterns of linear layers' names
    layers: tuple[str, ...] = ("*.query", "*.value")
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _positive(rank=self.rank, alpha=self.alpha)
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout: must be from 0 to below 1, got {self.dropout}")
        if not self.layers:
            raise ConfigError("layers: names no layer")


@dataclass(frozen=True)
class CardConfig:
    """What the model's card says beyond what the run knows."""

    name: str = "model"
    languages: tuple[str, ...] = ()
    license: str = ""
    training_data: tuple[str, ...] = ()  # a line a set, with its licence
    summary: str = ""
    limits: str = ""  # what the model is not good for


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on."""

    data: DataConfig
    loop: LoopConfig
    task: dict[str, Any] = field(default_factory=lambda: {"kind": "ctc_attention"})
    seed: int = 1
    init: str = ""  # a model folder or name to start from
    init_parts: tuple[str, ...] = ()  # modules taken from it, as ["encoder"]; empty: all
    freeze: tuple[str, ...] = ()  # modules that are not trained
    lora: LoraConfig | None = None  # train adapters of init's weights instead of the weights
    # auto: computed from data.train; none; a file of mynah data cmvn; empty: as in init, or auto
    cmvn: str = ""
    cmvn_utterances: int = 2000  # that auto looks at; 0: all
    model: dict[str, Any] = field(default_factory=dict)  # of the family; empty: as in init
    frontend: dict[str, Any] = field(default_factory=dict)  # empty: as in init, or fbank
    tokenizer: dict[str, Any] = field(default_factory=dict)  # empty: as in init
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    streaming: dict[str, Any] = field(default_factory=dict)  # for the model folder
    decoding: dict[str, Any] = field(default_factory=dict)  # for the model folder
    card: CardConfig = field(default_factory=CardConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed: must be from 0 to 2^32 - 1, got {self.seed}")
        if self.init_parts and not self.init:
            raise ConfigError("init_parts: names parts of init, which is not given")
        if self.lora is not None and (self.init_parts or self.freeze):
            raise ConfigError("lora: trains adapters alone; leave out init_parts and freeze")
        if self.schedule.kind == "cosine" and not (self.total_steps or self.loop.max_minutes):
            raise ConfigError("schedule.total: cosine needs this, loop.max_steps or max_minutes")

    @property
    def total_steps(self) -> int:
        """Steps over which a cosine schedule falls; 0: it falls with the time."""
        return self.schedule.total or self.loop.max_steps


def read_recipe(path: str | Path, assignments: Sequence[str] = ()) -> TrainConfig:
    """The recipe ``path`` with ``key=value`` assignments over it.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    return build(TrainConfig, override(read_toml(path), assignments))


def changes(old: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """What differs between the recipe of a run, as :func:`recipe_values` wrote it, and ``config``.

    Differences that change no weight are left out (:data:`FREE_KEYS`).
    """
    free = set(FREE_KEYS)
    if config.schedule.kind == "cosine" and not config.schedule.total:
        free.discard("loop.max_steps")
    before, after = _flat(old), _flat(recipe_values(config))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in free)
    ]


def measure_of(config: TrainConfig) -> str:
    """What says whether two scores of the development set are of one measure."""
    values = as_dict(config.evaluate)
    values.pop("every")
    return ", ".join(f"{key} {value}" for key, value in sorted(values.items()))


def recipe_values(config: TrainConfig) -> dict[str, Any]:
    """The recipe as a mapping that TOML can hold, every default written out."""
    return as_dict(config)


def section(values: Mapping[str, Any], where: str, known: Sequence[str]) -> str:
    """The ``kind`` of a table of the recipe.

    Raises:
        ConfigError: it has none, or one that is not in ``known``.
    """
    kind = values.get("kind")
    if kind in known:
        return str(kind)
    if kind is None:
        raise ConfigError(f"{where}.kind: missing; one of {', '.join(known)}")
    raise ConfigError(
        f"{where}.kind: {kind!r} is none of {', '.join(known)}{nearest(str(kind), known)}"
    )


def without_kind(values: Mapping[str, Any]) -> dict[str, Any]:
    """The table without its ``kind``."""
    return {key: value for key, value in values.items() if key != "kind"}


def task_options(options: type[Options], values: Mapping[str, Any]) -> Options:
    """The options of a task, from the table ``task`` of a recipe.

    Raises:
        ConfigError: a wrong key or value.
    """
    return build(options, without_kind(values), "task")


def refuse_keys(config: TrainConfig, names: Iterable[str]) -> None:
    """Refuse what a recipe gives and its task has not.

    Raises:
        ConfigError: one of ``names`` is given.
    """
    for name in names:
        if getattr(config, name):
            raise ConfigError(f"{name}: the task {config.task['kind']} has none; leave it out")


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping) and (values or not prefix):
        return {
            key: value
            for name, inner in values.items()
            for key, value in _flat(inner, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    if isinstance(values, (list, tuple)) and any(isinstance(v, Mapping) for v in values):
        return {
            key: value
            for number, inner in enumerate(values)
            for key, value in _flat(inner, f"{prefix}.{number}").items()
        }
    return {prefix: list(values) if isinstance(values, tuple) else values}


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"{name}: must be above 0, got {value}")


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if value < 0:
            raise ConfigError(f"{name}: must not be negative, got {value}")
