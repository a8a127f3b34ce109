"""A language model of word pieces: the cross entropy of each piece and of the sentence's end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import exp
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mynah.config import as_dict, build
from mynah.data.loader import Batch
from mynah.data.prose import text_lines
from mynah.data.sentences import SentenceLoader, read_sentences
from mynah.errors import ConfigError
from mynah.model_folder import ModelFolder, ModelInfo, find_model, read_model_folder
from mynah.models.lm.model import LanguageModel, LanguageModelConfig
from mynah.nn.mask import valid_mask
from mynah.nn.weights import read_weights
from mynah.text import Tokenizer
from mynah.text.characters import SPACE
from mynah.training.config import TrainConfig, refuse_keys, task_options
from mynah.training.distributed import Workers
from mynah.training.initialize import load_parts
from mynah.training.optimisation import mix
from mynah.training.prepare import Setup
from mynah.training.source import base_tokenizer, make_tokenizer
from mynah.training.task import Losses, Place, Turn, compile_blocks

FAMILY = "lm"
_NONE = -1  # in place of a target


@dataclass(frozen=True)
class Options:
    """The table ``task`` of a recipe, ``kind`` aside."""

    longest: int = 96  # units of a row; longer sentences are cut
    cut: float = 0.0  # share of the sentences that are cut in two, anew in each epoch
    tokenizer_every: int = 10  # a tokenizer is trained on one line of so many
    # folder of the tokenizer and of the texts in its units, which may be used by several runs;
    # empty: that of the run
    prepared: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.cut <= 1.0:
            raise ConfigError(f"cut: must be from 0 to 1, got {self.cut}")
        if self.tokenizer_every < 1:
            raise ConfigError(f"tokenizer_every: must be at least 1, got {self.tokenizer_every}")


def prepare(config: TrainConfig, out: Path, workers: Workers) -> Setup:
    """Everything that a run needs before its first step.

    Raises:
        ConfigError: a table is wrong, or asks for what this task has not.
        InputError: a text cannot be read.
        ModelError: ``init`` is no language model.
    """
    options = task_options(Options, config.task)
    absent = ("init_parts", "freeze", "lora", "frontend", "streaming", "decoding")
    refuse_keys(config, absent)
    data = config.data
    if not data.train:
        raise ConfigError("data.train: lists no text")
    base = _base(config)
    folder = Path(options.prepared) if options.prepared else out
    notes: list[str] = []
    with workers.first_goes_first():
        lines = islice(_lines(config), 0, None, options.tokenizer_every)
        tokenizer = make_tokenizer(config, base, folder / "tokenizer", notes, lines)
        if base is not None and base_tokenizer(base).units != tokenizer.units:
            raise ConfigError(f"init: {config.init} has other units than {folder / 'tokenizer'}")
        sets = [read_sentences(data, some, tokenizer, folder / "sentences")
                for some in (data.train, data.dev) if some]  # fmt: skip
    model = _model(config, base, tokenizer, notes).to(workers.device)

    def load(training: bool) -> SentenceLoader:
        return SentenceLoader(
            sets[0 if training else 1],
            tokenizer,
            data,
            longest=options.longest,
            cut=options.cut,
            seed=config.seed,
            training=training,
            rank=workers.rank,
            world=workers.world,
        )

    train, dev = load(True), load(False) if data.dev else None
    count, units = len(sets[0]), len(sets[0].units)
    notes.append(f"text: {count} sentences, {units / 1e6:.2f} million units to train on")
    info = ModelInfo(
        family=FAMILY,
        name=config.card.name,
        sample_rate=0,
        languages=config.card.languages or (base.info.languages if base else ()),
        license=config.card.license,
        config=as_dict(model.config),
        tokenizer=tokenizer.to_dict(),
        training_data=config.card.training_data,
    )
    task = LanguageModelTask(model, tokenizer)
    return Setup(task, train, dev, tokenizer, 0.0, info, tuple(notes))


def _base(config: TrainConfig) -> ModelFolder | None:
    if not config.init:
        return None
    base = read_model_folder(find_model(config.init))
    if base.info.family != FAMILY:
        raise ConfigError(f"init: {config.init} is a {base.info.family} model, no language model")
    if config.tokenizer:
        raise ConfigError("tokenizer: init has one; leave it out")
    return base


def _lines(config: TrainConfig) -> Iterator[str]:
    for source in config.data.train:
        yield from text_lines(source, config.data.root)


def _model(
    config: TrainConfig, base: ModelFolder | None, tokenizer: Tokenizer, notes: list[str]
) -> LanguageModel:
    given = {key: value for key, value in config.model.items() if key != "family"}
    below = {} if base is None else base.info.config
    values = {**below, **given, "vocab_size": tokenizer.vocab_size}
    torch.manual_seed(mix(config.seed, "weights"))
    model = LanguageModel(build(LanguageModelConfig, values, "model"))
    if base is not None:
        tensors = read_weights(base.file("weights.safetensors"))
        notes.append(load_parts(model, tensors, source=str(base.path)).line(config.init))
    return model


class LanguageModelTask:
    """The task ``lm`` over a :class:`~mynah.models.lm.model.LanguageModel`."""

    parts = ()
    selection = "loss"
    sums = ("loss", "units", "words")

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer) -> None:
        self.model = model
        self.turns = (Turn("lm", model),)
        self._sos, self._eos = tokenizer.sos, tokenizer.eos
        self._begins = torch.tensor([unit.startswith(SPACE) for unit in tokenizer.units])

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        """The cross entropy, summed over units and the ends of the sentences."""
        total = self._loss(batch)
        units = int(batch.token_lens.sum())
        counts = {"utterances": len(batch.ids), "tokens": units + len(batch.ids), "frames": 0}
        return Losses(total, {}, counts)

    def _loss(self, batch: Batch) -> Tensor:
        tokens, lens = batch.tokens, batch.token_lens
        inputs = F.pad(tokens, (1, 0), value=self._sos)  # (B, U + 1)
        size = inputs.shape[1]
        ends = torch.arange(size, device=lens.device) == lens[:, None]
        targets = F.pad(tokens, (0, 1)).masked_fill(ends, self._eos)
        targets = targets.masked_fill(~valid_mask(lens + 1, size), _NONE)
        logits = self.model.logits(inputs)
        return F.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=_NONE, reduction="sum"
        )

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Loss, units and words, summed over the batch; the ends of sentences count as both."""
        begins = self._begins.to(batch.tokens.device)[batch.tokens]
        begins &= valid_mask(batch.token_lens, batch.tokens.shape[1])
        return {
            "loss": float(self._loss(batch)),
            "units": float(batch.token_lens.sum() + len(batch.ids)),
            "words": float(begins.sum() + len(batch.ids)),
        }

    def scores(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The loss a unit, and the perplexity a word, with the ends of sentences."""
        return {
            "loss": sums["loss"] / max(sums["units"], 1.0),
            "perplexity": exp(min(sums["loss"] / max(sums["words"], 1.0), 700.0)),
        }

    def compile(self) -> None:
        """Compile each layer on its own."""
        compile_blocks(self.model)
