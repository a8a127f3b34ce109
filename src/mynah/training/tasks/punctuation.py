"""Punctuation and casing of prose: the cross entropies of the mark after each word and its casing.

The casing has two distributions, within a sentence and at the beginning of one; the one that the
text makes true is trained, so that names do not depend on guessed sentence ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mynah.config import as_dict, build
from mynah.data.loader import Batch
from mynah.data.prose import BEGINS, CASE, MARK, Errors, ProseLoader, read_prose
from mynah.errors import ConfigError
from mynah.model_folder import ModelInfo
from mynah.models.punctuation.model import Punctuation, PunctuationConfig
from mynah.text.prose import UNKNOWN
from mynah.text.punctuation import CHINESE, WESTERN
from mynah.text.scoring import without_spaces
from mynah.training.config import TrainConfig, refuse_keys, task_options
from mynah.training.distributed import Workers
from mynah.training.optimisation import mix
from mynah.training.prepare import Setup
from mynah.training.task import Losses, Place, Turn, compile_blocks

FAMILY = "punctuation"


@dataclass(frozen=True)
class Options:
    """The table ``task`` of a recipe, ``kind`` aside."""

    language: str = "en"
    length: int = 128  # units of the longest input
    case_weight: float = 0.5
    errors: Errors = field(default_factory=Errors)

    def __post_init__(self) -> None:
        if self.case_weight < 0:
            raise ConfigError(f"case_weight: must not be negative, got {self.case_weight}")


def prepare(config: TrainConfig, out: Path, workers: Workers) -> Setup:
    """Everything that a run needs before its first step.

    Raises:
        ConfigError: a table is wrong, or asks for what this task has not.
        InputError: a text cannot be read.
    """
    options = task_options(Options, config.task)
    absent = ("init", "freeze", "lora", "frontend", "tokenizer", "streaming", "decoding")
    refuse_keys(config, absent)
    if not config.data.train:
        raise ConfigError("data.train: lists no text")
    marks = CHINESE if without_spaces(options.language) else WESTERN
    given = {key: value for key, value in config.model.items() if key != "family"}
    torch.manual_seed(mix(config.seed, "weights"))
    model = Punctuation(build(PunctuationConfig, {"marks": marks, **given}, "model"))
    model.to(workers.device)
    data = config.data

    def load(training: bool) -> ProseLoader:
        sources = data.train if training else data.dev
        return ProseLoader(
            read_prose(data, sources, options.language),
            model.config.features,
            data,
            length=options.length,
            seed=config.seed,
            errors=options.errors if training else None,
            rank=workers.rank,
            world=workers.world,
        )

    train, dev = load(True), load(False) if data.dev else None
    notes = [f"text: {len(train.prose) / 1e6:.2f} million words to train on"]
    info = ModelInfo(
        family=FAMILY,
        name=config.card.name,
        sample_rate=0,
        languages=config.card.languages or (options.language,),
        license=config.card.license,
        config=as_dict(model.config),
        training_data=config.card.training_data,
    )
    return Setup(PunctuationTask(model, options), train, dev, None, 0.0, info, tuple(notes))


class PunctuationTask:
    """The task ``punctuation`` over a :class:`~mynah.models.punctuation.model.Punctuation`."""

    parts = ("marks", "cases")
    selection = "loss"

    def __init__(self, model: Punctuation, options: Options) -> None:
        self.model, self.options = model, options
        self.turns = (Turn("punctuation", model),)
        count = range(1, len(model.config.marks))
        self.sums = (
            "loss", "units", "cased", "case_errors",
            *(f"{kind}{mark}" for kind in ("hit", "said", "true") for mark in count),
        )  # fmt: skip

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        """The two cross entropies, summed over units."""
        marks, cases = self.model(batch.feats, batch.feat_lens)
        return self._losses(batch, marks, cases)

    def _losses(self, batch: Batch, marks: Tensor, cases: Tensor) -> Losses:
        targets = batch.tokens
        chosen = _chosen(cases, targets)
        parts = {
            "marks": _nll(marks, targets[..., MARK]),
            "cases": _nll(chosen, targets[..., CASE]),
        }
        counts = {
            "utterances": len(batch.ids),
            "tokens": int(batch.token_lens.sum()),
            "frames": int(batch.feat_lens.sum()),
        }
        total = parts["marks"] + self.options.case_weight * parts["cases"]
        return Losses(total, {name: part.detach() for name, part in parts.items()}, counts)

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Loss, hits of each mark and errors of casing, summed over the batch."""
        marks, cases = self.model(batch.feats, batch.feat_lens)
        losses = self._losses(batch, marks, cases)
        targets = batch.tokens
        known = targets[..., MARK] != UNKNOWN
        said, true = marks.argmax(-1)[known], targets[..., MARK][known]
        cased = targets[..., CASE] != UNKNOWN
        wrong = _chosen(cases, targets).argmax(-1)[cased] != targets[..., CASE][cased]
        sums = {
            "loss": float(losses.total),
            "units": float(losses.counts["tokens"]),
            "cased": float(cased.sum()),
            "case_errors": float(wrong.sum()),
        }
        for mark in range(1, len(self.model.config.marks)):
            sums[f"hit{mark}"] = float(((said == mark) & (true == mark)).sum())
            sums[f"said{mark}"] = float((said == mark).sum())
            sums[f"true{mark}"] = float((true == mark).sum())
        return sums

    def scores(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The loss a unit, the share of wrong casings, and F1 of each mark and of all."""
        scores = {
            "loss": sums["loss"] / max(sums["units"], 1.0),
            "case_error": sums["case_errors"] / max(sums["cased"], 1.0),
        }
        hits = total = 0.0
        for number, mark in enumerate(self.model.config.marks[1:], 1):
            both = sums[f"said{number}"] + sums[f"true{number}"]
            scores[f"F1 {mark}"] = 2 * sums[f"hit{number}"] / max(both, 1.0)
            hits, total = hits + sums[f"hit{number}"], total + both
        return scores | {"F1": 2 * hits / max(total, 1.0)}

    def compile(self) -> None:
        """Compile each layer on its own."""
        compile_blocks(self.model)


def _chosen(cases: Tensor, targets: Tensor) -> Tensor:
    """The distribution that holds at each place: (B, T, 2, C), (B, T, 3) -> (B, T, C)."""
    where = targets[..., BEGINS, None, None].expand(-1, -1, 1, cases.shape[-1])
    return cases.gather(2, where)[:, :, 0]


def _nll(log_probs: Tensor, targets: Tensor) -> Tensor:
    return F.nll_loss(log_probs.flatten(0, 1), targets.flatten(), ignore_index=UNKNOWN,
                      reduction="sum")  # fmt: skip
