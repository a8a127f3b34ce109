"""Everything that a run needs before its first step: tokenizer, front end, model, data."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mynah.audio.features import Frontend, make_frontend
from mynah.config import as_dict, build
from mynah.data.loader import Loader
from mynah.errors import ConfigError
from mynah.model_folder import ModelFolder, ModelInfo, find_model, read_model_folder
from mynah.text import Tokenizer
from mynah.training.config import TrainConfig, section
from mynah.training.distributed import Workers
from mynah.training.optimisation import mix
from mynah.training.source import training_cmvn, make_tokenizer
from mynah.training.task import Task
from mynah.training.tasks import TASKS


@dataclass(frozen=True)
class Ground:
    """What a task's model is made from."""

    config: TrainConfig
    base: ModelFolder | None  # init
    tokenizer: Tokenizer
    frontend: Frontend


@dataclass(frozen=True)
class Setup:
    """A task with its data, ready for the loop."""

    task: Task
    train: Loader
    dev: Loader | None
    tokenizer: Tokenizer
    frame_shift: float  # seconds
    template: ModelInfo
    notes: tuple[str, ...]  # lines for the user

    def info(self, results: dict[str, Any]) -> ModelInfo:
        """What the model folder says, with measured ``results``."""
        return dataclasses.replace(self.template, results=results)
