"""Training and fine-tuning of Whisper (A. Radford et al., arXiv:2212.04356).

The loss is the cross entropy of text, times and end, given the speech and the prompt
(:mod:`mynah.training.tasks.whisper_targets`); the prompt itself is not learnt. The score is the
error rate of greedy decoding without times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from mynah.data.loader import Batch
from mynah.errors import ConfigError
from mynah.evaluation.error_rate import ErrorRate, error_rate
from mynah.losses import label_smoothing_loss
from mynah.models.whisper.greedy import greedy
from mynah.models.whisper.model import Memory, Whisper
from mynah.text import normalize_for_scoring
from mynah.text.whisper_tokenizer import WhisperTokenizer
from mynah.training.config import EvaluateConfig, TrainConfig, task_options
from mynah.training.distributed import Workers
from mynah.training.prepare import Setup
from mynah.training.task import Losses, Place, Turn
from mynah.training.tasks.whisper_targets import prompt_length, split_targets

FAMILY = "whisper"


@dataclass(frozen=True)
class Options:
    """The table ``task`` of a recipe, ``kind`` aside."""

    language: str = ""  # of utterances whose manifest does not say
    task: Literal["transcribe", "translate"] = "transcribe"  # likewise
    # window: every utterance is filled up to the model's window (30 s), as it was trained;
    # short: it is heard alone with `margin` seconds of silence, much faster, and the model forgets
    context: Literal["window", "short"] = "window"
    margin: float = 1.0
    # share of the passes in which times are learnt: of the manifest's segments, or of the whole
    # utterance
    timestamps: float = 0.5
    previous: float = 0.5  # share of the passes that begin with the text in the column `previous`
    smoothing: float = 0.0  # of the labels
    frozen_layers: int = 0  # the encoder's first layers, and the convolutions before them
    checkpointed: bool = False  # layers are computed again in the backward pass: less memory
    max_new_tokens: int = 224  # of an utterance, in evaluation
    # of the graphs in the model folder, which the core install runs
    graphs: tuple[Literal["int8", "fp32"], ...] = ("int8",)

    def __post_init__(self) -> None:
        for name in ("timestamps", "previous"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: must be between 0 and 1, got {getattr(self, name)}")
        if not 0.0 <= self.smoothing < 1.0:
            raise ConfigError(f"smoothing: must be from 0 to below 1, got {self.smoothing}")
        if self.margin < 0.0 or self.frozen_layers < 0:
            raise ConfigError("margin, frozen_layers: must not be negative")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens: must be at least 1, got {self.max_new_tokens}")


def prepare(config: TrainConfig, out: Path, workers: Workers) -> Setup:
    """Everything that a run needs before its first step.

    Raises:
        ConfigError, InputError, ModelError, MissingDependency: see :func:`mynah.training.run.train`
    """
    from mynah.training.tasks import whisper_setup

    return whisper_setup.prepare(config, task_options(Options, config.task), out, workers)


class WhisperTask:
    """The task ``whisper`` over a :class:`~mynah.models.whisper.model.Whisper`."""

    parts = ("entropy",)
    sums = ("errors", "words", "utterances", "loss", "tokens")
    selection = "error_rate"

    def __init__(
        self,
        model: Whisper,
        tokenizer: WhisperTokenizer,
        options: Options,
        evaluate: EvaluateConfig,
    ) -> None:
        if evaluate.method != "greedy" or evaluate.chunk:
            raise ConfigError("evaluate: the task whisper decodes greedily and whole utterances")
        self.model, self.tokenizer = model, tokenizer
        self.options, self.evaluation = options, evaluate
        self.turns = (Turn("recognizer", model),)
        special = tokenizer.special
        said = [tokenizer.is_text(i) or i == special.eot for i in range(special.vocab_size)]
        self._forbidden = ~torch.tensor(said)  # (V,)
        self._forbidden[list(model.config.suppress_tokens)] = True

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        """The cross entropy of what is learnt, summed."""
        return self._losses(batch, self._hear(batch))

    def _hear(self, batch: Batch) -> Memory:
        """Keys and values of the speech; in whole windows every frame counts."""
        lens = batch.feat_lens if self.options.context == "short" else None
        encoded, lens = self.model.encoder(
            batch.feats.transpose(1, 2), lens, checkpointed=self.options.checkpointed
        )
        return self.model.decoder.memory(encoded, lens)

    def _losses(self, batch: Batch, memory: Memory) -> Losses:
        decoder, special = self.model.decoder, self.tokenizer.special
        read, wanted = split_targets(batch.tokens, batch.token_lens, special)
        hidden = decoder(read, memory, checkpointed=self.options.checkpointed)  # (B, U, D)
        learnt = wanted >= 0
        logits = decoder.logits(hidden[learnt])  # the vocabulary is large: of these alone
        total, counts = label_smoothing_loss(
            logits[None], wanted[learnt][None], smoothing=self.options.smoothing
        )
        sizes = {
            "utterances": len(batch.ids),
            "tokens": counts.tokens,
            "frames": int(batch.feat_lens.sum()),
        }
        return Losses(total, {"entropy": total.detach()}, sizes)

    # -- the development set ---------------------------------------------------------------------

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Errors of greedy decoding, and the loss, summed over the batch."""
        memory = self._hear(batch)
        losses = self._losses(batch, memory)
        found = self._errors(batch, self._decode(batch, memory))
        return {
            "errors": float(found.errors),
            "words": float(found.total),
            "utterances": float(len(batch.ids)),
            "loss": float(losses.total),
            "tokens": float(losses.counts["tokens"]),
        }

    def _decode(self, batch: Batch, memory: Memory) -> list[list[int]]:
        prompts = torch.tensor([self._prompt(row) for row in batch.tokens.tolist()])
        room = self.model.config.dims.n_text_ctx - prompts.shape[1]
        return greedy(
            self.model.decoder,
            memory,
            prompts.to(batch.tokens.device),
            eot=self.tokenizer.special.eot,
            forbidden=self._forbidden.to(batch.tokens.device),
            forbidden_first=self.model.config.begin_suppress_tokens,
            max_new=min(self.options.max_new_tokens, room),
        )

    def _prompt(self, row: Sequence[int]) -> list[int]:
        """The row's own language and task, without text before and without times."""
        special = self.tokenizer.special
        start = row.index(special.sot)
        return [*row[start : start + (3 if special.multilingual else 1)], special.no_timestamps]

    def _errors(self, batch: Batch, found: Sequence[Sequence[int]]) -> ErrorRate:
        decode, unit = self.tokenizer.decode, self.evaluation.unit
        if unit == "token":
            is_text, special = self.tokenizer.is_text, self.tokenizer.special
            rows = [
                row[prompt_length(row, special) : size]
                for row, size in zip(batch.tokens.tolist(), batch.token_lens.tolist(), strict=True)
            ]
            texts = [[token for token in row if is_text(token)] for row in rows]
            return error_rate(
                [(_numbers(a), _numbers(b)) for a, b in zip(texts, found, strict=True)]
            )
        pairs = [
            (self._normal(text), self._normal(decode(tokens)))
            for text, tokens in zip(batch.texts, found, strict=True)
        ]
        return error_rate(pairs, unit=unit)

    def _normal(self, text: str) -> str:
        language = self.evaluation.language
        return normalize_for_scoring(text, language) if language else " ".join(text.split())

    def scores(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The error rate (0..1, or more) and the loss a token."""
        return {
            "error_rate": sums["errors"] / max(sums["words"], 1.0),
            "loss": sums["loss"] / max(sums["tokens"], 1.0),
        }

    def compile(self) -> None:
        """Compile each layer on its own."""
        for side in (self.model.encoder, self.model.decoder):
            blocks: nn.ModuleList = side.blocks
            for block in blocks:
                block.compile(dynamic=True)


def _numbers(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))
