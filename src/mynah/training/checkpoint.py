"""Checkpoints: folders that are there whole or not at all.

``RUN/checkpoints/step-00001000/`` holds ``model.safetensors``, ``optimizer.safetensors``,
``state.json`` and, once the development set had its turn, ``scores.json``. A folder is filled
under another name, flushed to the disk, and renamed; removal renames first too. Whatever moment a
run is killed at, what bears a checkpoint's name is complete. A checkpoint that is kept only for
its weights has lost its optimiser's file.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mynah.errors import ModelError
from mynah.nn.weights import read_weights, write_weights

MODEL_FILE, OPTIMIZER_FILE = "model.safetensors", "optimizer.safetensors"
STATE_FILE, SCORE_FILE = "state.json", "scores.json"
_MEASURE = "measure"  # in the latter: of what settings the scores are
_NAME = re.compile(r"step-(\d{8,})")


@dataclass
class Progress:
    """Where a run is: everything besides tensors that its continuation needs."""

    step: int = 0  # steps taken or skipped
    epoch: int = 0
    round: int = 0  # rounds of the epoch that were consumed
    skipped: int = 0  # steps left out because their gradient was not finite
    bad_in_row: int = 0
    utterances: int = 0
    audio_seconds: float = 0.0
    seconds: float = 0.0  # spent training
    world: int = 1
    finished: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """A folder under ``RUN/checkpoints``."""

    path: Path
    step: int

    @property
    def resumable(self) -> bool:
        """Whether it still has the optimiser's state."""
        return (self.path / OPTIMIZER_FILE).is_file()

    def progress(self) -> Progress:
        """Its ``state.json``.

        Raises:
            ModelError: the file is missing or of another version.
        """
        try:
            return Progress(**json.loads((self.path / STATE_FILE).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{self.path / STATE_FILE}: cannot be read ({error})") from None

    def scores(self, measure: str = "") -> dict[str, float]:
        """What the development set said of it, by ``measure`` or any; empty if it was not asked."""
        try:
            values: dict[str, Any] = json.loads((self.path / SCORE_FILE).read_text("utf-8"))
            by = values.pop(_MEASURE, measure)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"{self.path / SCORE_FILE}: cannot be read ({error})") from None
        return values if by == measure or not measure else {}

    def write_scores(self, scores: Mapping[str, float], measure: str = "") -> None:
        """Keep what the development set said, and by what measure."""
        values = {**scores, **({_MEASURE: measure} if measure else {})}
        write_whole(self.path / SCORE_FILE, json.dumps(values, indent=1) + "\n")

    def model(self) -> dict[str, Tensor]:
        """The weights and buffers, on the CPU."""
        return read_weights(self.path / MODEL_FILE)

    def optimizer(self) -> dict[str, Tensor]:
        """The optimiser's state, on the CPU."""
        return read_weights(self.path / OPTIMIZER_FILE)


class CheckpointFolder:
    """The checkpoints of one run, whose scores are compared where ``measure`` is the same."""

    def __init__(self, path: Path, measure: str = "") -> None:
        self.path, self.measure = path, measure

    def clean(self) -> None:
        """Remove what a killed run left half-written or half-removed."""
        if self.path.is_dir():
            for entry in self.path.iterdir():
                if entry.name.startswith("."):
                    shutil.rmtree(entry, ignore_errors=True)

    def all(self) -> list[Checkpoint]:
        """Every checkpoint, oldest first."""
        if not self.path.is_dir():
            return []
        found = [(entry, _NAME.fullmatch(entry.name)) for entry in self.path.iterdir()]
        return sorted(
            (Checkpoint(entry, int(match[1])) for entry, match in found if match),
            key=lambda c: c.step,
        )

    def latest(self) -> Checkpoint | None:
        """The newest from which a run can go on."""
        return next((c for c in reversed(self.all()) if c.resumable), None)

    def best(self, number: int, key: str) -> list[Checkpoint]:
        """The ``number`` with the lowest score ``key``, best first; the newer of two equal ones."""
        scored = [(c.scores(self.measure).get(key, math.inf), c) for c in self.all()]
        ranked = sorted((p for p in scored if p[0] < math.inf), key=lambda p: (p[0], -p[1].step))
        return [c for _, c in ranked[:number]]

    def write(
        self, progress: Progress, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]
    ) -> Checkpoint:
        """Write a checkpoint; where the step already has one, that stays."""
        self.path.mkdir(parents=True, exist_ok=True)
        name = f"step-{progress.step:08d}"
        target = self.path / name
        if (existing := Checkpoint(target, progress.step)).resumable:
            return existing
        work = self.path / f".writing-{name}-{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        write_weights(model, work / MODEL_FILE)
        write_weights(optimizer, work / OPTIMIZER_FILE)
        (work / STATE_FILE).write_text(json.dumps(asdict(progress), indent=1) + "\n", "utf-8")
        for file in (MODEL_FILE, OPTIMIZER_FILE, STATE_FILE):
            _flush(work / file)
        _flush(work)
        if target.exists():
            self._remove(target)
        os.rename(work, target)
        _flush(self.path)
        return Checkpoint(target, progress.step)

    def prune(self, keep_last: int, keep_best: int, key: str) -> None:
        """Remove what is neither among the last nor the best.

        Those of the best that are not among the last lose their optimiser's state.
        """
        checkpoints = self.all()
        last = {c.step for c in [c for c in checkpoints if c.resumable][-keep_last:]}
        best = {c.step for c in self.best(keep_best, key)}
        for checkpoint in checkpoints:
            if checkpoint.step in last:
                continue
            if checkpoint.step in best:
                (checkpoint.path / OPTIMIZER_FILE).unlink(missing_ok=True)
            else:
                self._remove(checkpoint.path)

    def _remove(self, path: Path) -> None:
        gone = path.with_name(f".removing-{path.name}-{os.getpid()}")
        os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def average(checkpoints: Sequence[Checkpoint]) -> dict[str, Tensor]:
    """The mean of the checkpoints' weights, summed in float64; integers are of the first."""
    assert checkpoints
    first = checkpoints[0].model()
    totals = {k: v.double() for k, v in first.items() if v.is_floating_point()}
    for checkpoint in checkpoints[1:]:
        tensors = checkpoint.model()
        for key, total in totals.items():
            total += tensors[key]
    mean = {k: (v / len(checkpoints)).to(first[k].dtype) for k, v in totals.items()}
    return {k: mean.get(k, v) for k, v in first.items()}


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    work = path.with_name(f".{path.name}-{os.getpid()}")
    work.write_text(text, encoding="utf-8")
    _flush(work)
    os.replace(work, path)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory
        return
    # Windows flushes only what it may write to
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
