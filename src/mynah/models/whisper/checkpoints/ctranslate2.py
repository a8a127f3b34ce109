"""CTranslate2 folders: model.bin with config.json and vocabulary.json or .txt.

``model.bin``: the format's version, the name and revision of the specification, the variables
(name, shape, type, bytes), and second names for some of them; strings have a length of 16 bits and
end with a zero. Query, key and value are one matrix (in cross-attention key and value), and int8
weights have a scale a row by which they were *multiplied*.
https://opennmt.net/CTranslate2/
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mynah.errors import ConfigError, ModelError
from mynah.models.whisper.checkpoints.checkpoint import (
    DTYPES,
    Array,
    Stored,
    WhisperCheckpoint,
    in_memory,
    map_file,
)
from mynah.models.whisper.checkpoints.huggingface import heads, read_json, tokens
from mynah.models.whisper.checkpoints.names import complete
from mynah.runtime.whisper.config import WhisperDims
from mynah.text.byte_bpe import find_vocabulary

MODEL = "model.bin"
_SPEC = "WhisperSpec"
_VERSIONS = range(2, 7)  # of the binary format
_TYPES = ("F32", "I8", "I16", "I32", "F16", "BF16")  # by number; before version 4 by item size
_OLD_TYPES = {1: "I8", 2: "I16", 4: "F32"}

# (part of ours, part of theirs, which of how many matrices one on the other)
_LAYER: tuple[tuple[str, str, int, int], ...] = (
    ("attn.query", "self_attention/linear_0", 0, 3),
    ("attn.key", "self_attention/linear_0", 1, 3),
    ("attn.value", "self_attention/linear_0", 2, 3),
    ("attn.out", "self_attention/linear_1", 0, 1),
    ("attn_ln", "self_attention/layer_norm", 0, 1),
    ("mlp.0", "ffn/linear_0", 0, 1),
    ("mlp.2", "ffn/linear_1", 0, 1),
    ("mlp_ln", "ffn/layer_norm", 0, 1),
)
_CROSS: tuple[tuple[str, str, int, int], ...] = (
    ("cross_attn.query", "attention/linear_0", 0, 1),
    ("cross_attn.key", "attention/linear_1", 0, 2),
    ("cross_attn.value", "attention/linear_1", 1, 2),
    ("cross_attn.out", "attention/linear_2", 0, 1),
    ("cross_attn_ln", "attention/layer_norm", 0, 1),
)
_OUTSIDE = {
    "encoder.conv1.weight": "encoder/conv1/weight",
    "encoder.conv1.bias": "encoder/conv1/bias",
    "encoder.conv2.weight": "encoder/conv2/weight",
    "encoder.conv2.bias": "encoder/conv2/bias",
    "encoder.positional_embedding": "encoder/position_encodings/encodings",
    "encoder.ln_post.weight": "encoder/layer_norm/gamma",
    "encoder.ln_post.bias": "encoder/layer_norm/beta",
    "decoder.token_embedding.weight": "decoder/embeddings/weight",
    "decoder.positional_embedding": "decoder/position_encodings/encodings",
    "decoder.ln.weight": "decoder/layer_norm/gamma",
    "decoder.ln.bias": "decoder/layer_norm/beta",
}


def read_ctranslate2(folder: Path) -> WhisperCheckpoint:
    """Read a folder; weights of 8 and 16 bits come back as float32.

    Raises:
        ModelError: a file is missing, broken, or of another model, or its variables do not fit.
    """
    path = folder / MODEL
    try:
        variables = _read(map_file(path))
        dims = _dims(variables)
        stored, used = _translate(variables, dims)
        _check_rest(variables, used)
    except (ModelError, ConfigError) as error:
        line = str(error).removeprefix(f"{path}: ")
        raise ModelError(f"{path}: {line}") from None
    settings = folder / "config.json"
    config = read_json(settings) if settings.exists() else {}
    return WhisperCheckpoint(
        "ctranslate2",
        folder,
        dims,
        complete(stored, dims, path, {}),
        vocabulary=find_vocabulary(folder),
        alignment_heads=heads(config.get("alignment_heads"), settings),
        suppress_tokens=tokens(config.get("suppress_ids"), f"{settings}: suppress_ids"),
        begin_suppress_tokens=tokens(
            config.get("suppress_ids_begin"), f"{settings}: suppress_ids_begin"
        ),
    )


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            left = len(self._data) - self._at
            raise ModelError(f"cut short: {size} bytes wanted, {left} left")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, code: str) -> int:
        size = struct.calcsize(f"<{code}")
        return int(struct.unpack(f"<{code}", self.take(size))[0])

    def string(self) -> str:
        data = bytes(self.take(self.number("H")))
        try:
            return data.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise ModelError("a name that is not ASCII") from None


def spec_of(data: memoryview) -> str:
    """The name of the specification at the start of a ``model.bin``, or ``""``."""
    try:
        reader = _Reader(data)
        return reader.string() if reader.number("I") in _VERSIONS else ""
    except ModelError:
        return ""


def _read(data: memoryview) -> dict[str, Stored]:
    """The variables of a ``model.bin``, also under their second names."""
    reader = _Reader(data)
    version = reader.number("I")
    if version not in _VERSIONS:
        raise ModelError(f"not a model of CTranslate2 of version {_VERSIONS[0]} to {_VERSIONS[-1]}")
    spec, _ = reader.string(), reader.number("I")
    if spec != _SPEC:
        raise ModelError(f"a model of kind {spec[:40]!r}, not {_SPEC}")
    result: dict[str, Stored] = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        shape = tuple(reader.number("I") for _ in range(reader.number("B")))
        code, count = reader.number("B"), reader.number("I")
        kind = _OLD_TYPES.get(code) if version < 4 else dict(enumerate(_TYPES)).get(code)
        if kind is None:
            raise ModelError(f"{name} is of type {code}, which is not known")
        size = DTYPES[kind].itemsize
        length = count * size if version < 4 else count
        if math.prod(shape) * size != length:
            raise ModelError(f"{name}: {kind} of shape {shape} does not fit its {length} bytes")
        result[name] = in_memory(reader.take(length), kind, shape)
    for _ in range(reader.number("I") if version >= 3 else 0):
        alias, name = reader.string(), reader.string()
        if name not in result:
            raise ModelError(f"{alias} stands for {name}, which is not there")
        result[alias] = result[name]
        if f"{name}_scale" in result:
            result[f"{alias}_scale"] = result[f"{name}_scale"]
    return result


def _dims(variables: Mapping[str, Stored]) -> WhisperDims:
    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in variables:
            raise ModelError(f"has no variable {name}")
        found = variables[name].shape
        if len(found) != rank:
            raise ModelError(f"{name} is of shape {found}")
        return found

    def layers(side: str) -> int:
        numbers = {
            name.split("/")[1].removeprefix("layer_")
            for name in variables
            if name.startswith(f"{side}/layer_") and not name.startswith(f"{side}/layer_norm")
        }
        return len(numbers)

    conv = shape("encoder/conv1/weight", 3)
    audio = shape("encoder/position_encodings/encodings", 2)
    text = shape("decoder/position_encodings/encodings", 2)
    return WhisperDims(
        n_mels=conv[1],
        n_audio_ctx=audio[0],
        n_audio_state=audio[1],
        n_audio_head=_heads(variables, "encoder", audio[1]),
        n_audio_layer=layers("encoder"),
        n_vocab=shape("decoder/embeddings/weight", 2)[0],
        n_text_ctx=text[0],
        n_text_state=text[1],
        n_text_head=_heads(variables, "decoder", text[1]),
        n_text_layer=layers("decoder"),
    )


def _heads(variables: Mapping[str, Stored], side: str, width: int) -> int:
    found = variables.get(f"{side}/num_heads")
    if found is None:
        return max(width // 64, 1)  # as in every published model
    return int(found.load().reshape(-1)[0]) if math.prod(found.shape) == 1 else 0


def _translate(
    variables: Mapping[str, Stored], dims: WhisperDims
) -> tuple[dict[str, Stored], set[str]]:
    """Tensors by our names, and the variables that they came from."""
    result: dict[str, Stored] = {}
    used: set[str] = set()

    def add(ours: str, theirs: str, part: int = 0, parts: int = 1) -> None:
        if theirs in variables:
            scale = variables.get(f"{theirs}_scale")
            used.update({theirs, f"{theirs}_scale"})
            result[ours] = _part(_unscaled(variables[theirs], scale, theirs), part, parts, theirs)

    for ours, theirs in _OUTSIDE.items():
        add(ours, theirs)
    for side, count in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        for layer in range(count):
            for ours, theirs, part, parts in _LAYER + (_CROSS if side == "decoder" else ()):
                leaves = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
                for ours_leaf, leaf in zip(("weight", "bias"), leaves, strict=True):
                    name = f"{side}/layer_{layer}/{theirs}/{leaf}"
                    if ours.endswith(".key") and leaf == "bias":
                        _check_no_bias(variables.get(name), part, parts, name)
                        continue
                    add(f"{side}.blocks.{layer}.{ours}.{ours_leaf}", name, part, parts)
    return result, used


def _unscaled(tensor: Stored, scale: Stored | None, name: str) -> Stored:
    """A weight as float32 where it is of whole numbers."""
    if tensor.dtype.kind == "f":
        return tensor
    if scale is None or scale.dtype.kind != "f":
        raise ModelError(f"{name} is of whole numbers without a scale")
    rows = tensor.shape[:1]
    if math.prod(scale.shape) != 1 and scale.shape != rows:
        raise ModelError(f"{name}_scale is of shape {scale.shape}, not {rows}")
    spread = (-1,) + (1,) * (len(tensor.shape) - 1)

    def load() -> Array:
        factor = scale.load().astype(np.float32).reshape(spread)
        return np.asarray(tensor.load().astype(np.float32) / factor, np.float32)

    return Stored(tensor.shape, np.dtype("<f4"), load)


def _part(tensor: Stored, part: int, parts: int, name: str) -> Stored:
    """One of several matrices, or vectors, that lie one after the other."""
    if parts == 1:
        return tensor
    rows, rest = divmod(tensor.shape[0], parts)
    if rest:
        raise ModelError(f"{name} is of shape {tensor.shape}, which is not {parts} in one")
    return Stored(
        (rows, *tensor.shape[1:]),
        tensor.dtype,
        lambda: tensor.load()[part * rows : (part + 1) * rows],
    )


def _check_no_bias(tensor: Stored | None, part: int, parts: int, name: str) -> None:
    """A Whisper's keys have no bias; in the fused vector it is written as zeros."""
    if tensor is not None and np.any(_part(tensor, part, parts, name).load()):
        raise ModelError(f"{name} gives the keys a bias, which a Whisper does not have")


# what only says which attention is reported, or was read elsewhere
_HARMLESS = ("num_heads", "alignment_heads", "alignment_layer")
# settings of the layers that every Whisper has so
_SETTINGS: dict[str, tuple[float, ...]] = {
    "activation": (3.0,),  # gelu, the exact one
    "pre_norm": (1.0,),
    "scale_embeddings": (0.0,),
    "alibi": (0.0,),
    "scale_alibi": (0.0,),
    "alibi_use_positive_positions": (0.0,),
    "sliding_window": (0.0,),
    "start_from_zero_embedding": (0.0,),
}


def _check_rest(variables: Mapping[str, Stored], used: set[str]) -> None:
    """What was not taken over must change nothing.

    Raises:
        ModelError: a variable or setting that a Whisper does not have.
    """
    for name, tensor in variables.items():
        leaf = name.rpartition("/")[2]
        if name in used or leaf in _HARMLESS or leaf.endswith("_scale"):
            continue
        if name.startswith("decoder/projection/"):
            _check_projection(variables, name)
        elif leaf in _SETTINGS and math.prod(tensor.shape) == 1:
            value = float(tensor.load().reshape(-1)[0])
            if value not in _SETTINGS[leaf]:
                raise ModelError(f"{name} is {value:g}, a Whisper has {_SETTINGS[leaf][0]:g}")
        else:
            raise ModelError(f"the model has no place for variable {name}")


def _check_projection(variables: Mapping[str, Stored], name: str) -> None:
    if name != "decoder/projection/weight":
        raise ModelError(f"the model has no place for variable {name}")
    embedding, output = variables["decoder/embeddings/weight"], variables[name]
    if embedding is not output and not np.array_equal(embedding.load(), output.load()):
        raise ModelError(f"{name} differs from the embedding; a Whisper has one")
