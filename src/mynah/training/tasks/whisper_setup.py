"""Before the first step of a Whisper: tokenizer, windows, weights, data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mynah.audio.features import Frontend, make_frontend
from mynah.audio.frontend_config import WhisperMelConfig
from mynah.config import as_dict, build, dumps_toml, read_toml
from mynah.data.config import DataConfig
from mynah.errors import ConfigError
from mynah.model_folder import ModelFolder, ModelInfo, find_model, read_model_folder
from mynah.models.whisper.model import Whisper
from mynah.models.whisper.trained import graph_trained
from mynah.nn.weights import read_weights
from mynah.runtime.whisper.config import WhisperConfig
from mynah.text.byte_bpe_training import train_vocabulary
from mynah.text.whisper_languages import language_code
from mynah.text.whisper_tokenizer import (
    TIMES,
    WhisperTokenizer,
    WhisperTokens,
    load_whisper_tokenizer,
)
from mynah.training.checkpoint import write_whole
from mynah.training.config import TrainConfig, refuse_keys, section, without_kind
from mynah.training.distributed import Workers
from mynah.training.initialize import load_parts
from mynah.training.optimisation import mix
from mynah.training.prepare import Setup, make_loaders, model_values, restrict
from mynah.training.source import training_texts
from mynah.training.tasks.whisper import FAMILY, Options, WhisperTask
from mynah.training.tasks.whisper_targets import WhisperTargets

_FRAMES = 100  # mel frames a second
_FILE = "tokenizer.toml"


@dataclasses.dataclass(frozen=True)
class TokenizerOptions:
    """The table ``tokenizer`` of a recipe without ``init``, ``kind`` aside: bytes and their most
    frequent unions, learnt from the training texts."""

    tokens: int = 1000  # of text
    languages: tuple[str, ...] = ("en",)

    def __post_init__(self) -> None:
        if self.tokens < 256:
            raise ConfigError(f"tokens: every byte is one, so at least 256, got {self.tokens}")
        if not self.languages:
            raise ConfigError("languages: names none")


def prepare(config: TrainConfig, options: Options, out: Path, workers: Workers) -> Setup:
    """Make everything; a tokenizer, once trained, is kept in ``out/tokenizer``."""
    refuse_keys(config, ("streaming", "cmvn"))
    base = read_model_folder(find_model(config.init)) if config.init else None
    if base is not None and base.info.family != FAMILY:
        raise ConfigError(f"init: {base.path} is of the family {base.info.family}, not {FAMILY}")
    frontend = make_frontend(
        config.frontend or (base.info.frontend if base else {"kind": "whisper"})
    )
    if not isinstance(frontend.config, WhisperMelConfig) or frontend.window:
        raise ConfigError('frontend: the task whisper takes kind "whisper" without window_seconds')
    notes: list[str] = []
    with workers.first_goes_first():
        tokenizer = _tokenizer(config, base, out / "tokenizer", notes)
    torch.manual_seed(mix(config.seed, "weights"))
    values = model_values(config, base)
    model = Whisper(_config(values, tokenizer, frontend.dim))
    if base is not None:
        tensors = read_weights(base.file("weights.safetensors"))
        taken = load_parts(model, tensors, parts=config.init_parts, source=str(base.path))
        notes.append(taken.line(config.init))
    config = dataclasses.replace(config, freeze=(*config.freeze, *_frozen(options, model)))
    restrict(model, config, base, notes)
    model.to(workers.device)
    window = 2 * model.config.dims.n_audio_ctx / _FRAMES  # seconds
    windowed = options.context == "window"
    heard = make_frontend(
        dataclasses.replace(frontend.config, window_seconds=window if windowed else 0.0)
    )
    margin = 0.0 if windowed else options.margin
    config = dataclasses.replace(config, data=_fitting(config.data, window - margin))
    targets = WhisperTargets(
        tokenizer=tokenizer,
        context=model.config.dims.n_text_ctx,
        language=options.language,
        task=options.task,
        timestamps=options.timestamps,
        previous=options.previous,
        margin=margin,
    )
    loaders = make_loaders(config, tokenizer, heard, workers, out, targets=targets)
    task = WhisperTask(model, tokenizer, options, config.evaluate)
    info = _describe(config, base, tokenizer, frontend, model)
    finish = partial(graph_trained, config=model.config, precisions=options.graphs)
    return Setup(task, *loaders, tokenizer, frontend.frame_shift, info, tuple(notes), finish)


def _tokenizer(
    config: TrainConfig, base: ModelFolder | None, folder: Path, notes: list[str]
) -> WhisperTokenizer:
    """That of ``init``, or one learnt from the training texts; ``folder`` holds it afterwards."""
    if (folder / _FILE).is_file():
        return load_whisper_tokenizer(folder, read_toml(folder / _FILE))
    if base is not None:
        if config.tokenizer:
            raise ConfigError("tokenizer: init brings its own; leave it out")
        tokenizer = load_whisper_tokenizer(base.part("tokenizer"), base.info.tokenizer)
    else:
        section(config.tokenizer, "tokenizer", ("whisper",))
        given = without_kind(config.tokenizer)
        tokenizer = _learn(config, build(TokenizerOptions, given, "tokenizer"))
        size = len(tokenizer.vocabulary.tokens)
        notes.append(f"tokenizer: {size} tokens of text from the training texts")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    write_whole(folder / _FILE, dumps_toml(tokenizer.to_dict()))
    return tokenizer


def _learn(config: TrainConfig, options: TokenizerOptions) -> WhisperTokenizer:
    codes = tuple(dict.fromkeys(language_code(name) for name in options.languages))
    vocabulary = train_vocabulary((f" {t}" for t in training_texts(config)), options.tokens)
    size = len(vocabulary.tokens)
    special = size + 2 + len(codes)
    return WhisperTokenizer(
        vocabulary,
        WhisperTokens(
            vocab_size=special + 6 + TIMES,
            eot=size,
            sot=size + 1,
            languages={code: size + 2 + i for i, code in enumerate(codes)},
            translate=special,
            transcribe=special + 1,
            sot_lm=special + 2,
            sot_prev=special + 3,
            no_speech=special + 4,
            no_timestamps=special + 5,
            timestamp_begin=special + 6,
        ),
    )


def _config(values: Mapping[str, Any], tokenizer: WhisperTokenizer, mels: int) -> WhisperConfig:
    """The table ``model``; what tokenizer and front end decide need not be in it."""
    if values.get("family", FAMILY) != FAMILY:
        raise ConfigError(f"model.family: this task trains {FAMILY}, not {values['family']!r}")
    given = {key: value for key, value in values.items() if key != "family"}
    dims = dict(given.get("dims", {}))
    for key, value, source in (
        ("n_vocab", tokenizer.vocab_size, "tokenizer"),
        ("n_mels", mels, "front end"),
    ):
        if dims.setdefault(key, value) != value:
            raise ConfigError(
                f"model.dims.{key}: {dims[key]} in the recipe or init, {value} by the {source}"
            )
    config = build(WhisperConfig, {**given, "dims": dims}, "model")
    if config.alignment_heads:
        return config
    layers, heads = config.dims.n_text_layer, config.dims.n_text_head
    later = tuple((i, h) for i in range(layers // 2, layers) for h in range(heads))
    return dataclasses.replace(config, alignment_heads=later)


def _frozen(options: Options, model: Whisper) -> tuple[str, ...]:
    """The modules that ``task.frozen_layers`` takes out of training."""
    count, layers = options.frozen_layers, model.config.dims.n_audio_layer
    if count > layers:
        raise ConfigError(f"task.frozen_layers: the encoder has {layers} layers, not {count}")
    if not count:
        return ()
    first = (f"encoder.blocks.{number}" for number in range(count))
    return ("encoder.conv1", "encoder.conv2", *first)


def _fitting(data: DataConfig, window: float) -> DataConfig:
    """The data, what is longer than the window left out, however it is stretched."""
    longest = window * min((1.0, *data.speed))
    return dataclasses.replace(data, max_seconds=min(data.max_seconds, longest))


def _describe(
    config: TrainConfig,
    base: ModelFolder | None,
    tokenizer: WhisperTokenizer,
    frontend: Frontend,
    model: Whisper,
) -> ModelInfo:
    """What ``model.toml`` will say, results aside."""
    card = config.card
    known = base.info.languages if base else tuple(tokenizer.special.languages)
    values = dict(as_dict(frontend.config))
    del values["window_seconds"]
    return ModelInfo(
        family=FAMILY,
        name=card.name,
        sample_rate=frontend.rate,
        languages=card.languages or known,
        license=card.license,
        config=as_dict(model.config),
        frontend=values,
        tokenizer=tokenizer.to_dict(),
        decoding=config.decoding,
        training_data=card.training_data,
    )
