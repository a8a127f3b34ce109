"""Voice activity detection: is there speech in this frame?

The data are scenes made on the fly (:mod:`mynah.data.scenes`) with a label a frame, which a batch
carries as its tokens. The loss is the binary cross entropy of the frames, those far from speech at
times with a weight of their own; the score is one minus the best frame F1 over a few thresholds on
the development set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mynah.audio.features import Frontend
from mynah.config import build
from mynah.data.config import DataConfig
from mynah.data.loader import Batch
from mynah.data.scenes import SceneConfig, Scenes
from mynah.errors import ConfigError
from mynah.models.vad.model import Vad, VadConfig
from mynah.nn.mask import valid_mask
from mynah.training.config import EvaluateConfig
from mynah.training.task import Losses, Place, Turn

FAMILY = "vad"
LABELS = "frames"  # what a batch's tokens are
STATISTICS = ("mean", "istd")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Options:
    """The table ``task`` of a recipe, ``kind`` aside."""

    scene: SceneConfig = field(default_factory=SceneConfig)
    far: int = 30  # frames from the nearest speech on which a frame is far from it
    far_weight: float = 1.0  # of the loss of such frames: what is said there is plainly false

    def __post_init__(self) -> None:
        if self.far < 1:
            raise ConfigError(f"far: must be above 0, got {self.far}")
        if not 0.0 < self.far_weight <= 100.0:
            raise ConfigError(f"far_weight: must be above 0 and at most 100, got {self.far_weight}")


def make_examples(options: Options, data: DataConfig, which: str, frontend: Frontend) -> Scenes:
    """What turns the recordings of a set into scenes.

    Raises:
        ConfigError: the recipe varies the data in another way, too.
        InputError: a set of recordings is missing.
    """
    for name in ("noise", "reverb", "spec_augment", "spec_sub", "spec_trim"):
        if getattr(data, name) is not None:
            raise ConfigError(f"data.{name}: the scenes of this task have their own; leave it out")
    dev = which == "dev"
    return Scenes(options.scene, data.dev if dev else data.train, frontend, data.root, dev)


def make_model(values: Mapping[str, Any], tokenizer: None, feature_dim: int) -> Vad:
    """The model of the table ``model``.

    Raises:
        ConfigError: a wrong key or value.
    """
    if values.get("family", FAMILY) != FAMILY:
        raise ConfigError(f"model.family: this task trains {FAMILY}, not {values['family']!r}")
    given = {key: value for key, value in values.items() if key != "family"}
    if given.get("feature_dim", feature_dim) != feature_dim:
        raise ConfigError(
            f"model.feature_dim: {given['feature_dim']} in the recipe, {feature_dim} by the front "
            "end; leave it out"
        )
    return Vad(build(VadConfig, {**given, "feature_dim": feature_dim}, "model"))


def streaming(model: Vad, options: Options) -> dict[str, Any]:
    """Frames at a time for live use."""
    return {"chunk": 2}


def decoding(model: Vad, options: Options) -> dict[str, Any]:
    """There is nothing to decode."""
    return {}


def make_task(model: Vad, tokenizer: None, options: Options, evaluate: EvaluateConfig) -> VadTask:
    """The task over a model."""
    return VadTask(model, options)


class VadTask:
    """The task ``vad`` over a :class:`~mynah.models.vad.model.Vad`."""

    parts = ("entropy",)
    sums = ("loss", "frames", *(f"{k}{n}" for n in range(len(THRESHOLDS)) for k in ("hit", "said")),
            "speech")  # fmt: skip
    selection = "error"

    def __init__(self, model: Vad, options: Options | None = None) -> None:
        self.model, self.options = model, options or Options()
        self.turns = (Turn("detector", model),)

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        """The cross entropy of every frame that has its answer within the scene."""
        logits, labels, valid = self._aligned(batch)
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        total = (total * self._weights(labels) * valid).sum()
        counts = {
            "utterances": len(batch.ids),
            "tokens": int(valid.sum()),
            "frames": int(batch.feat_lens.sum()),
        }
        return Losses(total, {"entropy": total.detach()}, counts)

    def _weights(self, labels: Tensor) -> Tensor:
        """Of each frame (B, T) in the loss."""
        far, weight = self.options.far, self.options.far_weight
        near = F.max_pool1d(labels[:, None], 2 * far - 1, stride=1, padding=far - 1)[:, 0]
        return torch.where(near > 0.5, 1.0, weight)

    def _aligned(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, labels and which count, each (B, T - delay)."""
        delay = self.model.config.delay
        logits, lens, _ = self.model(batch.feats, batch.feat_lens)
        kept = batch.tokens.shape[1] - delay
        valid = valid_mask((lens - delay).clamp(min=0), kept)
        return logits.float()[:, delay:], batch.tokens[:, :kept].float(), valid

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Frames said to be speech and those of them that are, by threshold."""
        logits, labels, valid = self._aligned(batch)
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        speech = (labels > 0.5) & valid
        sums = {
            "loss": float((loss * valid).sum()),
            "frames": float(valid.sum()),
            "speech": float(speech.sum()),
        }
        probs = torch.sigmoid(logits)
        for number, threshold in enumerate(THRESHOLDS):
            said = (probs > threshold) & valid
            sums[f"said{number}"] = float(said.sum())
            sums[f"hit{number}"] = float((said & speech).sum())
        return sums

    def scores(self, sums: Mapping[str, float]) -> dict[str, float]:
        """One minus the best F1, the threshold that gave it, and the loss a frame."""
        best, threshold = 0.0, THRESHOLDS[0]
        for number, value in enumerate(THRESHOLDS):
            both = sums[f"said{number}"] + sums["speech"]
            f1 = 2 * sums[f"hit{number}"] / both if both else 0.0
            if f1 > best:
                best, threshold = f1, value
        return {
            "error": 1.0 - best,
            "threshold": threshold,
            "loss": sums["loss"] / max(sums["frames"], 1.0),
        }

    def compile(self) -> None:
        """Compile the network."""
        self.model.compile(dynamic=True)
