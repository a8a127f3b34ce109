"""A run from its recipe to its model folder: claim the folder, prepare, train, publish."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mynah.config import dumps_toml, read_toml
from mynah.errors import ConfigError
from mynah.nn.lora import is_adapter, merged, restore
from mynah.training.checkpoint import average, write_whole
from mynah.training.config import TrainConfig, changes, recipe_values
from mynah.training.distributed import Workers, join_workers
from mynah.training.lock import locked
from mynah.training.loop import Trainer
from mynah.training.prepare import Setup, prepare
from mynah.training.progress import Record, Recorder, Report, format_seconds, log_record
from mynah.training.publish import card_text, publish

RECIPE_FILE = "recipe.toml"
_FOLDERS = ("checkpoints", "tensorboard", "tokenizer", "model")
_FILES = ("log.jsonl", "cmvn.json", "quarantine.jsonl")


def train(
    config: TrainConfig,
    out: Path,
    *,
    device: str = "auto",
    threads: int = 0,
    fresh: bool = False,
    report: Report = log_record,
) -> bool:
    """Train by the recipe ``config`` in the folder ``out``; whether its end was reached.

    A run that ``out`` holds is gone on with; ``fresh`` removes it first. Started by torchrun, every
    process calls this. What happens is told to ``report`` by the first of them and written to
    ``out/log.jsonl``; the result is ``out/model``.

    Raises:
        ConfigError: a value of the recipe is wrong, ``out`` holds a run of another recipe, or
            another process trains in it.
        InputError: the training data cannot be read.
        ModelError: ``init`` cannot be used.
        TrainingError: the loss diverged, or there is nothing to train on.
        MissingDependency: a library of the extra ``train`` is missing.
    """
    if threads:
        torch.set_num_threads(threads)
    with join_workers(device) as workers, contextlib.ExitStack() as held:
        if workers.first:
            held.enter_context(claimed(config, out, fresh=fresh))
        workers.barrier()
        setup = prepare(config, out, workers)
        recorder: Recorder | None = None

        def say(record: Record) -> None:
            if recorder is not None:
                recorder(record)

        trainer = Trainer(
            config, setup.task, setup.train, setup.dev, workers, out, say, setup.frame_shift
        )
        resumed = trainer.resume()
        if workers.first:
            step = trainer.progress.step
            recorder = Recorder(out, report, step=step, tensorboard=config.loop.tensorboard)
        try:
            say(_start(config, setup, trainer, workers, out))
            if resumed is None:
                for line in setup.notes:
                    say({"event": "note", "text": line})
            if config.loop.compile:
                setup.task.compile()
            with matmul_precision(config.loop.precision):
                if not trainer.fit():
                    say(_stopped(trainer.progress.step))
                    return False
                _finish(config, out, setup, trainer, say)
        finally:
            if recorder is not None:
                recorder.close()
    return True


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Let a bf16 run's remaining float32 products on the CPU round to bf16 as well.

    oneDNN then computes them, where MKL is slow on AMD's processors.
    """
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    if precision == "bf16":
        settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


@contextlib.contextmanager
def claimed(config: TrainConfig, out: Path, *, fresh: bool = False) -> Iterator[None]:
    """Hold ``out``, claimed for this recipe, while the block runs."""
    with locked(out):
        claim(config, out, fresh=fresh)
        yield


def claim(config: TrainConfig, out: Path, *, fresh: bool = False) -> None:
    """Make ``out`` the folder of this recipe.

    Raises:
        ConfigError: it holds something else, or a run of another recipe.
    """
    recipe = out / RECIPE_FILE
    if recipe.is_file():
        differing = [] if fresh else changes(read_toml(recipe), config)
        begun = any((out / "checkpoints").glob("step-*"))
        if differing and begun:
            shown = "; ".join(differing[:4]) + (" ..." if len(differing) > 4 else "")
            raise ConfigError(
                f"{out}: holds a run of another recipe ({shown}); choose another --out, or remove "
                "that run with --fresh"
            )
        if fresh or differing:  # a run that could not start keeps no folder
            for name in _FOLDERS:
                shutil.rmtree(out / name, ignore_errors=True)
            for name in _FILES:
                (out / name).unlink(missing_ok=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists and holds no run; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(recipe, dumps_toml(recipe_values(config)))
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from None


def _stopped(step: int) -> Record:
    text = f"stopped after step {step}, saved; the same command goes on"
    return {"event": "note", "step": step, "text": text}


def _start(
    config: TrainConfig, setup: Setup, trainer: Trainer, workers: Workers, out: Path
) -> Record:
    parameters = sum(p.numel() for p in setup.task.model.parameters())
    trained = sum(p.numel() for group in trainer.trained.values() for p in group)
    text = f"{parameters / 1e6:.2f} million parameters"
    if trained != parameters:
        text += f" ({trained / 1e6:.2f} trained)"
    text += f" on {workers.world} x {workers.device.type}, {config.loop.precision}"
    if workers.device.type == "cpu":
        text += f", {torch.get_num_threads()} threads"
    progress = trainer.progress
    if progress.step:
        text += f"; going on after step {progress.step} of {out}"
    return {"event": "note", "step": progress.step, "text": text}


def _finish(config: TrainConfig, out: Path, setup: Setup, trainer: Trainer, say: Report) -> None:
    """Average the best, measure the average, and write the model folder."""
    loop, workers = config.loop, trainer.workers
    best = trainer.checkpoints.best(loop.keep_best, setup.task.selection)
    chosen = best or trainer.checkpoints.all()[-1:]
    model = setup.task.model
    restore(model, average(chosen), str(out))
    results: dict[str, Any] = {}
    if trainer.dev is not None:
        scores = trainer.evaluate()
        results = {f"dev {key}": round(value, 6) for key, value in scores.items()}
        names = ", ".join(str(c.step) for c in sorted(chosen, key=lambda c: c.step))
        text = f"the mean of the checkpoints of steps {names}: " + ", ".join(
            f"{key} {value:.4g}" for key, value in scores.items()
        )
        say({"event": "note", "step": trainer.progress.step, "text": text, **scores})
    if workers.first:
        info = setup.info(results)
        parameters = sum(p.numel() for n, p in model.named_parameters() if not is_adapter(n))
        card = card_text(info, config.card, parameters, chosen, config.init)
        save = None if setup.tokenizer is None else setup.tokenizer.save
        publish(out / "model", info, merged(model), save, card, setup.finish)
        spent = format_seconds(trainer.progress.seconds)
        text = f"{out / 'model'}: written after {trainer.progress.step} steps, {spent} of training"
        say({"event": "end", "step": trainer.progress.step, "text": text})
    workers.barrier()
