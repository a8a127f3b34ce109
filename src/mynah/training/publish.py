"""The run's model folder: the best checkpoints averaged, and a card written from facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from mynah.model_folder import ModelInfo, write_model_folder
from mynah.nn.weights import write_weights
from mynah.training.checkpoint import Checkpoint
from mynah.training.config import CardConfig


def publish(
    folder: Path,
    info: ModelInfo,
    weights: Mapping[str, Tensor],
    save_tokenizer: Callable[[Path], None] | None,
    card: str,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write the model folder ``folder``: ``weights.safetensors``, the card, a tokenizer if any, and
    what ``finish`` adds to the folder that it is given."""
    with write_model_folder(folder, info) as work:
        write_weights(weights, work / "weights.safetensors")
        if save_tokenizer is not None:
            (work / "tokenizer").mkdir()
            save_tokenizer(work / "tokenizer")
        (work / "CARD.md").write_text(card, encoding="utf-8")
        if finish is not None:
            finish(work)


def card_text(
    info: ModelInfo, card: CardConfig, parameters: int, averaged: list[Checkpoint], init: str
) -> str:
    """The card: every figure is of this run. A card is read elsewhere: of an absolute path ``init``
    it has the last two parts."""
    lines = [f"# {info.name}", ""]
    if card.summary:
        lines += [card.summary, ""]
    heard = f"audio: {info.sample_rate} Hz; " if info.sample_rate else ""
    lines += [
        f"- family: {info.family}, {parameters / 1e6:.2f} million parameters",
        f"- {heard}languages: {', '.join(info.languages) or 'not said'}",
        f"- licence: {info.license or 'not said'}",
        f"- weights: the mean of {len(averaged)} checkpoints, of the steps "
        + ", ".join(str(c.step) for c in sorted(averaged, key=lambda c: c.step)),
    ]
    if init:
        path = Path(init)
        lines.append(f"- started from: {Path(*path.parts[-2:]) if path.is_absolute() else init}")
    if info.streaming.get("chunk"):
        setting = ", ".join(f"{key} {value}" for key, value in info.streaming.items())
        lines.append(f"- live: {setting}")
    elif info.sample_rate:
        reason = info.streaming.get("reason")
        lines.append("- live: this model does not stream" + (f"; {reason}" if reason else ""))
    lines += ["", "## Training data", ""]
    lines += [f"- {line}" for line in info.training_data] or ["not said"]
    lines += ["", "## Measured", ""]
    lines += [f"- {key}: {value}" for key, value in info.results.items()] or ["nothing"]
    if card.limits:
        lines += ["", "## Not good for", "", card.limits]
    return "\n".join(lines) + "\n"
