"""Everything that a run needs before its first step: tokenizer, front end, model, data."""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mynah.audio.features import Frontend, make_frontend
from mynah.config import as_dict, build
from mynah.data.items import Examples, Targets
from mynah.data.loader import DataConfig, Loader
from mynah.data.resident import Resident
from mynah.decoding import DecodingOptions
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelFolder, ModelInfo, find_model, read_model_folder
from mynah.nn.lora import add_lora
from mynah.nn.weights import read_weights
from mynah.text import Tokenizer
from mynah.training.config import TrainConfig, section, task_options
from mynah.training.distributed import Workers
from mynah.training.initialize import freeze, load_parts, vocabulary_tensors
from mynah.training.loop import Batches
from mynah.training.optimisation import mix
from mynah.training.source import base_tokenizer, make_tokenizer, training_cmvn
from mynah.training.task import Task
from mynah.training.tasks import TASKS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """A task with its data, ready for the loop."""

    task: Task
    train: Batches
    dev: Batches | None
    tokenizer: Tokenizer | None  # none where frames are labelled
    frame_shift: float  # seconds
    template: ModelInfo
    notes: tuple[str, ...]  # lines for the user
    finish: Callable[[Path], None] | None = None  # adds to the model folder what its family has

    def info(self, results: dict[str, Any]) -> ModelInfo:
        """What the model folder says, with measured ``results``."""
        return dataclasses.replace(self.template, results=results)


def prepare(config: TrainConfig, out: Path, workers: Workers) -> Setup:
    """Make everything; the tokenizer, once trained, is kept in ``out/tokenizer``.

    Raises:
        ConfigError, InputError, ModelError, MissingDependency: see :func:`mynah.training.run.train`
    """
    tasks = importlib.import_module(TASKS[section(config.task, "task", tuple(TASKS))])
    if hasattr(tasks, "prepare"):  # its data are not recordings
        setup: Setup = tasks.prepare(config, out, workers)
        return setup
    options = task_options(tasks.Options, config.task)
    if getattr(options, "captured", False) and config.loop.accumulate > 1:
        raise ConfigError("task.captured: a step takes one batch; leave out loop.accumulate")
    base = read_model_folder(find_model(config.init)) if config.init else None
    frontend = make_frontend(_frontend(config, base))
    notes: list[str] = []
    tokenizer = None
    if tasks.LABELS == "text":
        with workers.first_goes_first():
            tokenizer = make_tokenizer(config, base, out / "tokenizer", notes)
    elif config.tokenizer:
        raise ConfigError("tokenizer: this task labels frames, not text; leave it out")
    values = model_values(config, base)
    torch.manual_seed(mix(config.seed, "weights"))
    model = tasks.make_model(values, tokenizer, frontend.dim)
    config = dataclasses.replace(config, data=_fitting(config.data, model.subsampling, tasks))
    make = partial(_examples, config, frontend, tasks, options)
    if base is not None:
        notes.append(take_weights(model, config, base, tokenizer, values, frontend.dim, tasks))
    if config.cmvn != "none" and (config.cmvn or base is None):
        mean, istd, note = training_cmvn(
            config, tokenizer, frontend, out / "cmvn.json", workers, make("train")
        )
        model.mean.copy_(mean)
        model.istd.copy_(istd)
        notes.append(note)
    elif config.cmvn == "none" and base is not None:
        model.mean.zero_()
        model.istd.fill_(1.0)
        notes.append("cmvn: none; features are as they are, which init may not know")
    restrict(model, config, base, notes)
    model.to(workers.device)
    task: Task = tasks.make_task(model, tokenizer, options, config.evaluate)
    loaders = make_loaders(config, tokenizer, frontend, workers, out, examples=make)
    template = describe(config, base, tokenizer, frontend, tasks, options, model)
    return Setup(task, *loaders, tokenizer, frontend.frame_shift, template, tuple(notes))


def restrict(
    model: torch.nn.Module, config: TrainConfig, base: ModelFolder | None, notes: list[str]
) -> None:
    """Freeze modules, or put in adapters, as the recipe says.

    Raises:
        ConfigError: a name that the model does not have, or nothing left to train.
    """
    if config.freeze:
        count = freeze(model, config.freeze)
        notes.append(f"freeze: {count} tensors of {', '.join(config.freeze)} are not trained")
    if config.lora is not None and base is None:
        raise ConfigError("lora: adapts the weights of init, which is not given")
    if config.lora is not None and base is not None:
        lora = config.lora
        torch.manual_seed(mix(config.seed, "lora"))
        digest = bytes.fromhex(base.files["weights.safetensors"])
        count = add_lora(model, lora.layers, rank=lora.rank, alpha=lora.alpha,
                         dropout=lora.dropout, base=digest)  # fmt: skip
        notes.append(f"lora: {count} layers adapted, rank {lora.rank}")


def _fitting(data: DataConfig, subsampling: int, tasks: Any) -> DataConfig:
    """The data with the model's subsampling, so that CTC has room for every text that is kept."""
    if data.subsampling not in (None, subsampling):
        raise ConfigError(
            f"data.subsampling: {data.subsampling} in the recipe, {subsampling} by the model; "
            "leave it out"
        )
    return dataclasses.replace(data, subsampling=subsampling, needs_text=tasks.LABELS == "text")


def _examples(
    config: TrainConfig, frontend: Frontend, tasks: Any, options: Any, which: str
) -> Examples | None:
    """What makes examples of the recordings of a set, where the task labels frames."""
    if tasks.LABELS == "text":
        return None
    examples: Examples = tasks.make_examples(options, config.data, which, frontend)
    return examples


def make_loaders(
    config: TrainConfig,
    tokenizer: Tokenizer | None,
    frontend: Frontend,
    workers: Workers,
    out: Path,
    *,
    examples: Callable[[str], Examples | None] = lambda which: None,
    targets: Targets | None = None,
) -> tuple[Batches, Batches | None]:
    """The loaders of the training and the development set.

    Raises:
        ConfigError: ``data.resident`` with a task that makes its batches in another way.
    """

    def make(which: str, augment: bool) -> Batches:
        loader = Loader(
            config.data,
            which,
            tokenizer,
            frontend,
            seed=config.seed,
            rank=workers.rank,
            world=workers.world,
            augment=augment,
            quarantine=out / "quarantine.jsonl",
            examples=examples(which),
            targets=targets,
        )
        if which == "train":
            _check_known(loader.unknown())
        if not config.data.resident:
            return loader
        if loader.reader.examples is not None or targets is not None:
            raise ConfigError("data.resident: not for this task, which makes its own examples")
        return Resident(loader, frontend, workers.device)

    return make("train", True), make("dev", False) if config.data.dev else None


def _check_known(unknown: float) -> None:
    """Say that texts have units that the tokenizer does not know; refuse what has few others.

    Raises:
        ConfigError: more than half of the units are unknown.
    """
    line = (
        f"data.text: {unknown:.1%} of the units of the training texts are unknown to the tokenizer"
    )
    if unknown > 0.5:
        raise ConfigError(f"{line}; lower, upper or scoring may be what it was made for")
    if unknown > 0.01:
        log.warning("%s", line)


def _frontend(config: TrainConfig, base: ModelFolder | None) -> dict[str, Any]:
    """The table ``frontend``, laid over that of ``init`` where it is of the same kind."""
    below = base.info.frontend if base else {"kind": "fbank"}
    kind = config.frontend.get("kind", below["kind"])
    return _laid_over(below, config.frontend) if kind == below["kind"] else config.frontend


def model_values(config: TrainConfig, base: ModelFolder | None) -> dict[str, Any]:
    """The table ``model``, laid over that of ``init``."""
    if base is None:
        if not config.model:
            raise ConfigError("model: missing; give its table, or init to take it from a model")
        return config.model
    decided = ("vocab_size", "feature_dim", "blank", "sos", "eos")  # by tokenizer and front end
    below = {key: value for key, value in base.info.config.items() if key not in decided}
    return _laid_over({"family": base.info.family, **below}, config.model)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            both[key] = _laid_over(inner, value)
        else:
            both[key] = value
    return both


def take_weights(
    model: torch.nn.Module,
    config: TrainConfig,
    base: ModelFolder,
    tokenizer: Tokenizer | None,
    values: dict[str, Any],
    feature_dim: int,
    tasks: Any,
) -> str:
    """Weights of ``init``; gives the line for the user."""
    parts = config.init_parts
    if parts and not config.cmvn:
        parts = (*parts, *tasks.STATISTICS)  # an encoder goes with the features that it knows
    remake: frozenset[str] = frozenset()
    if tokenizer is not None and base_tokenizer(base).units != tokenizer.units:
        remake = vocabulary_tensors(
            lambda extra: tasks.make_model(values, tokenizer, feature_dim, extra_units=extra)
        )
    if remake and config.lora is not None:
        raise ConfigError("lora: init has other units, whose layers are learnt from nothing, while "
                          "adapters leave layers as they are")  # fmt: skip
    if not base.has("weights.safetensors"):
        raise ModelError(
            f"init: {base.path} has graphs to run, and no weights to train (a bundled model's are "
            "beside its recipe)"
        )
    tensors = read_weights(base.file("weights.safetensors"))
    more = ""
    if not parts and hasattr(tasks, "fitted"):
        tensors, more = tasks.fitted(tensors, model)
    taken = load_parts(model, tensors, parts=parts, remake=remake, source=str(base.path))
    return "; ".join(filter(None, (taken.line(config.init), more)))


def describe(
    config: TrainConfig,
    base: ModelFolder | None,
    tokenizer: Tokenizer | None,
    frontend: Frontend,
    tasks: Any,
    options: Any,
    model: Any,
) -> ModelInfo:
    """What ``model.toml`` will say, results aside."""
    card, info = config.card, base.info if base else None
    streaming = tasks.streaming(model, options)
    if info is not None and "chunk" in streaming:  # what else is known of how it hears live
        kept = ("left", "second_look")
        streaming |= {key: info.streaming[key] for key in kept if key in info.streaming}
    if config.decoding and tasks.LABELS == "text":
        build(DecodingOptions, config.decoding, "decoding")  # refuses what cannot be decoded with
    return ModelInfo(
        family=tasks.FAMILY,
        name=card.name,
        sample_rate=frontend.rate,
        languages=card.languages or (info.languages if info else ()),
        license=card.license,
        config=as_dict(model.config),
        frontend=as_dict(frontend.config),
        tokenizer=tokenizer.to_dict() if tokenizer else {},
        streaming=config.streaming or streaming,
        decoding=config.decoding or tasks.decoding(model, options),
        training_data=card.training_data,
    )
