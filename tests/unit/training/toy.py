"""A task and a loader so small that the loop's own behaviour is all that there is to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mynah.config import build
from mynah.data.loader import Batch
from mynah.training.config import TrainConfig
from mynah.training.distributed import Workers
from mynah.training.loop import Trainer
from mynah.training.progress import Record
from mynah.training.task import Losses, Place, Turn

ALONE = Workers(0, 1, torch.device("cpu"))


def make_batch(*numbers: int, poison: float = 0.0) -> Batch:
    """Utterances whose content follows from their numbers; the lengths differ."""
    longest = max(4 + n % 5 for n in numbers)
    feats = torch.zeros(len(numbers), longest, 3)
    for row, number in enumerate(numbers):
        generator = torch.Generator().manual_seed(number)
        feats[row, : 4 + number % 5] = torch.randn(4 + number % 5, 3, generator=generator)
    feats[0, 0, 0] += poison
    return Batch(
        ids=tuple(f"u{n}" for n in numbers),
        feats=feats,
        feat_lens=torch.tensor([4 + n % 5 for n in numbers]),
        tokens=torch.ones(len(numbers), 2, dtype=torch.long),
        token_lens=torch.full((len(numbers),), 2),
        texts=tuple("a" for _ in numbers),
    )


class ToyLoader:
    """Batches of fixed content; the ranks take turns, and the last round may lack some."""

    def __init__(self, batches: list[Batch | None], rank: int = 0, world: int = 1) -> None:
        self.batches, self.rank, self.world = batches, rank, world

    def num_rounds(self, epoch: int) -> int:
        return -(-len(self.batches) // self.world)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        for number in range(start, self.num_rounds(epoch)):
            place = number * self.world + self.rank
            place = (place + epoch) % len(self.batches) if self.world == 1 else place
            yield self.batches[place] if place < len(self.batches) else None


class ToyTask:
    """Predicts the mean of a feature; one turn, dropout if wanted."""

    parts = ("square",)
    sums = ("square", "count")
    selection = "square"

    def __init__(self, dropout: float = 0.0) -> None:
        torch.manual_seed(5)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(dropout), nn.Linear(4, 1))
        self.turns = (Turn("main", self.model),)

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        total = self._square(batch)
        counts = {
            "utterances": len(batch.ids),
            "tokens": int(batch.token_lens.sum()),
            "frames": int(batch.feat_lens.sum()),
        }
        return Losses(total, {"square": total.detach()}, counts)

    def _square(self, batch: Batch) -> Tensor:
        mask = torch.arange(batch.feats.shape[1]) < batch.feat_lens[:, None]
        error = (self.model(batch.feats)[..., 0] - batch.feats.sum(-1)) ** 2
        return (error * mask).sum()

    def evaluate(self, batch: Batch) -> dict[str, float]:
        return {"square": float(self._square(batch)), "count": float(batch.feat_lens.sum())}

    def scores(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {"square": sums["square"] / sums["count"]}

    def compile(self) -> None:
        self.model.compile()


def recipe(**sections: Any) -> TrainConfig:
    """A recipe for toys."""
    values: dict[str, Any] = {
        "data": {"train": [{"manifest": "none"}]},
        "loop": {"max_steps": 6, "log_every": 1, "save_every": 0, "save_minutes": 0.0},
        "schedule": {"kind": "constant", "warmup": 0},
        "optim": {"lr": 0.01, "clip": 1.0},
    }
    for name, value in sections.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    return build(TrainConfig, values)


def make_trainer(
    config: TrainConfig,
    folder: Path,
    batches: list[Batch | None],
    *,
    dev: list[Batch | None] | None = None,
    dropout: float = 0.0,
    workers: Workers = ALONE,
    report: Callable[[Record], None] = lambda record: None,
) -> Trainer:
    """A trainer of the toy task over ``batches``."""
    ranks = (workers.rank, workers.world)
    return Trainer(
        config,
        ToyTask(dropout),
        ToyLoader(batches, *ranks),
        None if dev is None else ToyLoader(dev, *ranks),
        workers,
        folder,
        report,
    )


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """A copy of the model's state."""
    return {k: v.clone() for k, v in trainer.task.model.state_dict().items()}
