"""Hugging Face folders: config.json with safetensors or PyTorch files, whole or in shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mynah.errors import ConfigError, ModelError
from mynah.models.whisper.checkpoints.checkpoint import Stored, WhisperCheckpoint
from mynah.models.whisper.checkpoints.names import complete, from_huggingface
from mynah.models.whisper.checkpoints.pickled import read_torch
from mynah.models.whisper.checkpoints.safetensors import read_safetensors
from mynah.runtime.whisper.config import WhisperDims
from mynah.text.byte_bpe import find_vocabulary

_FILES = ("model.safetensors", "pytorch_model.bin")
_SIZES = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
# what the front end of every Whisper has
_FRONTEND = {"sampling_rate": 16_000, "n_fft": 400, "hop_length": 160}
_OUTPUT = "proj_out.weight"  # the same values as the embedding
_MAX_JSON = 50_000_000


def read_huggingface(folder: Path) -> WhisperCheckpoint:
    """Read a folder as ``save_pretrained`` writes it.

    Raises:
        ModelError: a file is missing or broken, the configuration is not that of a Whisper, or
            the tensors do not fit it.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != "whisper":
        kind = config.get("model_type")
        raise ModelError(f"{folder / 'config.json'}: model_type is {kind!r}, not 'whisper'")
    dims = _dims(config, folder / "config.json")
    _check_frontend(folder / "preprocessor_config.json", dims)
    given = _tensors(folder)
    stored, called = {}, {}
    for name, tensor in given.items():
        ours = from_huggingface(name)
        if name != _OUTPUT:
            stored[ours or name], called[ours or name] = tensor, name
    _check_tied(given, folder)
    tensors = complete(stored, dims, folder, called)
    path = folder / "generation_config.json"
    generation = read_json(path) if path.exists() else {}
    return WhisperCheckpoint(
        "huggingface",
        folder,
        dims,
        tensors,
        vocabulary=find_vocabulary(folder),
        alignment_heads=heads(generation.get("alignment_heads"), path),
        suppress_tokens=_tokens(generation, config, "suppress_tokens", folder),
        begin_suppress_tokens=_tokens(generation, config, "begin_suppress_tokens", folder),
    )


def _dims(config: Mapping[str, Any], path: Path) -> WhisperDims:
    sizes: dict[str, int] = {}
    for ours, theirs in _SIZES.items():
        value = config.get(theirs)
        if type(value) is not int:
            raise ModelError(f"{path}: {theirs} is {value!r}, not a whole number")
        sizes[ours] = value
    try:
        dims = WhisperDims(**sizes)
    except ConfigError as error:
        ours = str(error).partition(":")[0]
        raise ModelError(f"{path}: {_SIZES[ours]} ({error})") from None
    needed = {
        "encoder_ffn_dim": 4 * dims.n_audio_state,
        "decoder_ffn_dim": 4 * dims.n_audio_state,
        "activation_function": "gelu",
        "scale_embedding": False,
    }
    for key, wanted in needed.items():
        if config.get(key, wanted) != wanted:
            value = config[key]
            raise ModelError(f"{path}: {key} is {value!r}, mynah's Whisper has {wanted!r}")
    return dims


def _check_frontend(path: Path, dims: WhisperDims) -> None:
    if not path.exists():
        return
    values = read_json(path)
    for key, wanted in {**_FRONTEND, "feature_size": dims.n_mels}.items():
        if values.get(key, wanted) != wanted:
            raise ModelError(f"{path}: {key} is {values[key]!r}, mynah's Whisper has {wanted}")


def _tensors(folder: Path) -> dict[str, Stored]:
    for name in _FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return _file(folder / name)
        if index.is_file():
            return _shards(folder, index)
    raise ModelError(f"{folder}: has neither {_FILES[0]} nor {_FILES[1]}, whole or in shards")


def _file(path: Path) -> dict[str, Stored]:
    if path.suffix == ".safetensors":
        return read_safetensors(path).stored
    values = read_torch(path)
    if not isinstance(values, dict) or not all(isinstance(v, Stored) for v in values.values()):
        raise ModelError(f"{path}: holds something other than named tensors")
    return {str(name): value for name, value in values.items()}


def _shards(folder: Path, index: Path) -> dict[str, Stored]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index}: has no weight_map")
    files: dict[str, dict[str, Stored]] = {}
    result: dict[str, Stored] = {}
    for name, file in places.items():
        if not isinstance(file, str) or PurePosixPath(file).name != file or "\\" in file:
            raise ModelError(f"{index}: the shard {file!r} is not a file of the folder")
        if file not in files:
            files[file] = _file(folder / file)
        if name not in files[file]:
            raise ModelError(
                f"{folder / file}: has no tensor {name}, which {index.name} places in it"
            )
        result[name] = files[file][name]
    return result


def _check_tied(given: Mapping[str, Stored], folder: Path) -> None:
    output = given.get(_OUTPUT)
    embedding = given.get("model.decoder.embed_tokens.weight")
    if output is not None and embedding is not None:
        same = output.shape == embedding.shape and np.array_equal(output.load(), embedding.load())
        if not same:
            raise ModelError(f"{folder}: {_OUTPUT} differs from the embedding; a Whisper has one")


def _tokens(
    generation: Mapping[str, Any], config: Mapping[str, Any], key: str, folder: Path
) -> tuple[int, ...] | None:
    value = generation.get(key, config.get(key))
    return tokens(value, f"{folder}: {key}")


def tokens(value: Any, where: str) -> tuple[int, ...] | None:
    """A list of token numbers that a file gives; those below zero mean others and are left out.

    Raises:
        ModelError: it is not such a list.
    """
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(v) is int for v in value):
        raise ModelError(f"{where}: {str(value)[:40]!r} is not a list of tokens")
    return tuple(sorted({v for v in value if v >= 0}))


def heads(value: Any, where: object) -> tuple[tuple[int, int], ...] | None:
    """Pairs of a decoder layer and a head that a file gives.

    Raises:
        ModelError: it is not a list of such pairs.
    """
    if value is None:
        return None
    pairs = [tuple(pair) for pair in value if isinstance(pair, list)] if value else []
    if not isinstance(value, list) or len(pairs) != len(value):
        raise ModelError(f"{where}: alignment_heads is not a list of pairs")
    if not all(len(p) == 2 and type(p[0]) is int and type(p[1]) is int for p in pairs):
        raise ModelError(f"{where}: alignment_heads is not a list of pairs")
    return tuple((p[0], p[1]) for p in pairs)


def read_json(path: Path) -> dict[str, Any]:
    """A table in a JSON file.

    Raises:
        ModelError: missing, absurdly large, not JSON, or not a table.
    """
    value = read_json_value(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a table of settings")
    return value


def read_json_value(path: Path) -> Any:
    """Any value in a JSON file.

    Raises:
        ModelError: missing, absurdly large, or not JSON.
    """
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ModelError(f"{path}: absurdly large for a file of settings")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: not JSON") from None
