"""What the loop asks of a task: its model, its turns, the losses of a batch, and a score.

A task with one turn trains one set of weights a step (recognition, self-supervision); an
adversarial one has two, taken one after the other on the same batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from mynah.data.loader import Batch


@dataclass(frozen=True)
class Turn:
    """One optimiser's part of a step."""

    name: str
    module: nn.Module  # whose parameters it trains


@dataclass(frozen=True)
class Place:
    """Where in the run a batch is trained: all that randomness may depend on."""

    seed: int
    step: int  # from 1
    batch: int  # number within the step, over all workers


@dataclass(frozen=True)
class Losses:
    """Sums over a batch, never means: the loop divides once, by a count over all workers."""

    total: Tensor  # scalar, differentiable
    parts: Mapping[str, Tensor]  # scalars for the log, detached
    counts: Mapping[str, int]  # utterances, tokens, frames


class Task(Protocol):
    """A model under training."""

    @property
    def model(self) -> nn.Module:
        """Everything that a checkpoint holds."""

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns of one step, in order."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names in :attr:`Losses.parts`: known to a worker without data too."""

    @property
    def sums(self) -> tuple[str, ...]:
        """The names that :meth:`evaluate` gives."""

    @property
    def selection(self) -> str:
        """The score, lower is better, by which checkpoints are chosen."""

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        """The losses of one batch, on the model's device."""

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Sums over a batch of the development set, the model in evaluation mode."""

    def scores(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Scores from the sums over the whole set."""

    def compile(self) -> None:
        """Wrap the model's blocks in ``torch.compile``."""


def compile_blocks(model: nn.Module) -> None:
    """Compile each block of a model (all that stands in a list) on its own."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                block.compile(dynamic=True)
