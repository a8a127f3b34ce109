"""What a run takes from its training data before the first step: units and feature statistics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mynah.audio.features import Frontend
from mynah.config import as_dict, build, dumps_toml, read_toml
from mynah.corpus.cut import Cut
from mynah.corpus.manifest import Manifest, StreamManifest, locate
from mynah.corpus.statistics import read_cmvn
from mynah.data.index import chosen, open_sources
from mynah.data.items import Examples, shape_text
from mynah.data.loader import Loader
from mynah.errors import ConfigError, InputError
from mynah.model_folder import ModelFolder
from mynah.text import Tokenizer, char_tokenizer, load_tokenizer, train_bpe
from mynah.text.phones import PhoneTokenizer, learn_sounds
from mynah.text.tokenizer import TokenizerConfig
from mynah.training.checkpoint import write_whole
from mynah.training.config import TrainConfig, section, without_kind
from mynah.training.distributed import Workers

_FILE = "tokenizer.toml"


@dataclass(frozen=True)
class BpeOptions:
    """The table ``tokenizer`` where ``kind`` is ``bpe`` and no ``folder`` is given."""

    vocab_size: int = 256
    model_type: Literal["unigram", "bpe"] = "unigram"
    language: str = ""  # texts are brought into its scoring form; empty: they are taken as they are
    case: Literal["keep", "lower", "upper"] = "keep"
    # of the texts' characters; the rarest others are unknown ones
    character_coverage: float = 1.0


@dataclass(frozen=True)
class PhoneOptions:
    """The table ``tokenizer`` where ``kind`` is ``phone`` and no ``folder`` is given."""

    # a file as CMUdict has it, or as `mynah data pronounce --language zh` writes it; plain or .xz;
    # its own path, or under data.root
    dictionary: str
    language: Literal["en", "zh"] = "en"


@dataclass(frozen=True)
class CharOptions:
    """The table ``tokenizer`` where ``kind`` is ``char`` and no ``folder`` is given."""

    min_count: int = 1  # rarer characters are unknown ones
    language: str = ""
    case: Literal["keep", "lower", "upper"] = "keep"


def base_tokenizer(base: ModelFolder) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises:
        ModelError: a file of it is missing or altered.
    """
    return load_tokenizer(base.part("tokenizer"), base.info.tokenizer)


def make_tokenizer(
    config: TrainConfig,
    base: ModelFolder | None,
    folder: Path,
    notes: list[str],
    texts: Iterator[str] | None = None,
) -> Tokenizer:
    """The recipe's tokenizer: the one in ``folder``, a given one, or one trained now, on ``texts``
    or else on those of the training set.

    Whatever it is, ``folder`` holds it afterwards, so that resuming does not depend on the texts.

    Raises:
        ConfigError: the table ``tokenizer`` is wrong.
        InputError: the texts cannot be read.
    """
    if (folder / _FILE).is_file():
        return load_tokenizer(folder, read_toml(folder / _FILE))
    values = dict(config.tokenizer)
    if not values:
        if base is None:
            raise ConfigError("tokenizer.kind: missing; bpe, char or units, or init to take its")
        tokenizer = base_tokenizer(base)
    elif given := str(values.pop("folder", "")):
        if not Path(given).is_dir():
            raise ConfigError(f"tokenizer.folder: {given}: no such folder")
        tokenizer = load_tokenizer(Path(given), values)
    else:
        tokenizer = _train(config, values, texts)
        source = "a dictionary" if values["kind"] == "phone" else "the training texts"
        notes.append(f"tokenizer: {tokenizer.vocab_size} units from {source}")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    write_whole(folder / _FILE, dumps_toml(tokenizer.to_dict()))
    return tokenizer


def training_texts(config: TrainConfig) -> Iterator[str]:
    """The texts of the training sources, in the form that is trained on.

    Raises:
        InputError: a manifest cannot be read.
    """
    data = config.data
    manifests = open_sources(data, data.train, lambda name, reason: None)
    for manifest, source in zip(manifests, data.train, strict=True):
        for _, cut in chosen(source, _positions(manifest)):
            language = cut.language or source.language
            if text := shape_text(cut.text, source.text or data.text, language):
                yield text


def _positions(manifest: Manifest) -> Iterator[tuple[int, Cut]]:
    if isinstance(manifest, StreamManifest):
        yield from enumerate(cut for tar in manifest.tars for cut in manifest.cuts(tar))
    else:
        yield from manifest.scan()


def _train(
    config: TrainConfig, values: dict[str, Any], texts: Iterator[str] | None = None
) -> Tokenizer:
    given, kind = without_kind(values), section(values, "tokenizer", ("bpe", "char", "phone"))
    if kind == "phone":
        phone = build(PhoneOptions, given, "tokenizer")
        path = locate(phone.dictionary, config.data.root or None)
        shape = TokenizerConfig(kind="phone", language=phone.language)
        return PhoneTokenizer(learn_sounds(path, phone.language), config=shape)
    texts = training_texts(config) if texts is None else texts
    if kind == "bpe":
        bpe = build(BpeOptions, given, "tokenizer")
        return train_bpe(
            texts,
            bpe.vocab_size,
            bpe.model_type,
            language=bpe.language,
            case=bpe.case,
            character_coverage=bpe.character_coverage,
        )
    char = build(CharOptions, given, "tokenizer")
    return char_tokenizer(texts, language=char.language, case=char.case, min_count=char.min_count)


def training_cmvn(
    config: TrainConfig,
    tokenizer: Tokenizer | None,
    frontend: Frontend,
    file: Path,
    workers: Workers,
    examples: Examples | None = None,
) -> tuple[Tensor, Tensor, str]:
    """Mean and inverse standard deviation (F,) of the training features, and a line to the user.

    They are computed once, without augmentation, over the first ``cmvn_utterances`` of the pass in
    training order, and kept in ``file``; or read from the file that the recipe names.

    Raises:
        ConfigError: the recipe's file does not fit the front end.
        InputError: a file or the data cannot be read.
    """
    if config.cmvn not in ("", "auto"):
        return *_read_cmvn(Path(config.cmvn), frontend), f"cmvn: from {config.cmvn}"
    with workers.first_goes_first():
        if workers.first and not file.is_file():
            write_whole(file, json.dumps(_statistics(config, tokenizer, frontend, examples)) + "\n")
    mean, istd = _read_cmvn(file, frontend)
    frames = json.loads(file.read_text("utf-8"))["frames"]
    return (
        mean,
        istd,
        f"cmvn: from {frames * frontend.frame_shift / 3600:.2f} h of the training set",
    )


def _statistics(
    config: TrainConfig,
    tokenizer: Tokenizer | None,
    frontend: Frontend,
    examples: Examples | None,
) -> dict[str, Any]:
    loader = Loader(
        config.data,
        "train",
        tokenizer,
        frontend,
        seed=config.seed,
        workers=0,  # it may stop early, with nothing read ahead in vain
        augment=False,
        examples=examples,
    )
    total = torch.zeros(frontend.dim, dtype=torch.float64)
    squares, frames, utterances = torch.zeros_like(total), 0, 0
    for batch in loader.epoch(0):
        if batch is None:
            continue
        for feats, count in zip(batch.feats, batch.feat_lens.tolist(), strict=True):
            row = feats[:count].double()
            total += row.sum(0)
            squares += (row * row).sum(0)
            frames += count
        utterances += len(batch.ids)
        if 0 < config.cmvn_utterances <= utterances:
            break
    if not frames:
        raise InputError("the training set has no usable utterance to compute cmvn from")
    mean = total / frames
    variance = (squares / frames - mean * mean).clamp(min=1e-10)
    return {
        "mean": mean.tolist(),
        "istd": variance.rsqrt().tolist(),
        "frames": frames,
        "frontend": as_dict(frontend.config),
    }


def _read_cmvn(path: Path, frontend: Frontend) -> tuple[Tensor, Tensor]:
    found, dim = read_cmvn(path), frontend.dim
    known, used = dict(found.frontend), as_dict(frontend.config)
    differing = [
        f"{key} {known.get(key, 'absent')} there, {used.get(key, 'absent')} in the recipe"
        for key in sorted(known.keys() | used.keys())
        if known and known.get(key) != used.get(key)
    ]
    if differing:
        raise ConfigError(f"cmvn: {path} is for another front end ({'; '.join(differing)})")
    if found.mean.shape != (dim,):
        raise ConfigError(f"cmvn: {path} is for {found.mean.size} features, the recipe's are {dim}")
    return torch.from_numpy(found.mean).float(), torch.from_numpy(found.istd).float()
