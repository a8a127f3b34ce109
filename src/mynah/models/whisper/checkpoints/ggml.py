"""ggml files of whisper.cpp: sizes, mel filters, vocabulary, tensors, one after the other.

All numbers are little-endian, 32 bits. The format is described in whisper.cpp's models/README.md.
"""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from mynah.errors import ConfigError, ModelError
from mynah.models.whisper.checkpoints.checkpoint import (
    Array,
    Stored,
    WhisperCheckpoint,
    in_memory,
    map_file,
)
from mynah.models.whisper.checkpoints.ggml_blocks import BLOCK, FORMATS, BlockFormat, dequantize
from mynah.models.whisper.checkpoints.names import complete, shapes
from mynah.runtime.whisper.config import WhisperDims
from mynah.text.byte_bpe import Vocabulary

MAGIC = b"lmgg"
_HEADER = (  # the order in the file
    *("n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer"),
    *("n_text_ctx", "n_text_state", "n_text_head", "n_text_layer", "n_mels"),
)
_PLAIN = {0: "F32", 1: "F16", 30: "BF16"}
_MAX_TOKEN = 1024  # bytes
_END = b"<|endoftext|>"


class _Reader:
    """Numbers and bytes of a file, one after the other, never past its end."""

    def __init__(self, data: memoryview) -> None:
        self._data, self.at = data, 0

    @property
    def done(self) -> bool:
        return self.at == len(self._data)

    def take(self, size: int, what: str) -> memoryview:
        if not 0 <= size <= len(self._data) - self.at:
            left = len(self._data) - self.at
            raise ModelError(f"cut short: {what} needs {size} bytes, {left} are left")
        self.at += size
        return self._data[self.at - size : self.at]

    def ints(self, count: int, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self.take(4 * count, what))


def read_ggml(path: Path) -> WhisperCheckpoint:
    """Read a ``.bin`` file with values of f32, f16, q8_0, q5_0, q5_1, q4_0 or q4_1.

    Raises:
        ModelError: not such a file, cut short, or sizes and tensors that do not fit each other.
    """
    try:
        checkpoint = _read(_Reader(map_file(path)), path)
    except (ModelError, ConfigError) as error:
        line = str(error).removeprefix(f"{path}: ")
        raise ModelError(f"{path}: {line}") from None
    return checkpoint


def _read(reader: _Reader, path: Path) -> WhisperCheckpoint:
    if bytes(reader.take(4, "the magic number")) != MAGIC:
        raise ModelError("not a ggml file of whisper.cpp")
    sizes = dict(zip(_HEADER, reader.ints(len(_HEADER), "the header"), strict=True))
    reader.ints(1, "the header")  # the type of most tensors; each says its own
    dims = WhisperDims(**sizes)
    filters = _filters(reader, dims)
    vocabulary = _vocabulary(reader, dims)
    expected = shapes(dims)
    stored: dict[str, Stored] = {}
    while not reader.done:
        name, tensor = _tensor(reader)
        if name in stored:
            raise ModelError(f"has two tensors {name}")
        stored[name] = _reshaped(tensor, expected.get(name))
    tensors = complete(stored, dims, path, {})
    return WhisperCheckpoint(
        "ggml", path, dims, tensors, vocabulary=vocabulary, mel_filters=filters
    )


def _filters(reader: _Reader, dims: WhisperDims) -> Array:
    rows, columns = reader.ints(2, "the mel filters")
    if rows != dims.n_mels or not 1 <= columns <= 4096:
        raise ModelError(f"mel filters of {rows} x {columns}, the header says {dims.n_mels} mels")
    values = reader.take(4 * rows * columns, "the mel filters")
    return np.frombuffer(values, "<f4").reshape(rows, columns)


def _vocabulary(reader: _Reader, dims: WhisperDims) -> Vocabulary | None:
    """The tokens in the order of their numbers; ``None`` without any, or where some were lost."""
    (count,) = reader.ints(1, "the vocabulary")
    if not 0 <= count <= dims.n_vocab:
        raise ModelError(f"a vocabulary of {count} tokens, the header says {dims.n_vocab}")
    tokens = []
    for index in range(count):
        (size,) = reader.ints(1, f"token {index}")
        if not 0 <= size <= _MAX_TOKEN:
            raise ModelError(f"token {index} has {size} bytes")
        tokens.append(bytes(reader.take(size, f"token {index}")))
    specials: dict[str, int] = {}
    if tokens and tokens[-1] == _END:  # English-only files of the first converter
        specials[_END.decode()] = len(tokens) - 1
        tokens.pop()
    # The first converter also wrote bytes that are no whole character as U+FFFD: they are lost.
    whole = {bytes([byte]) for byte in range(256)} <= set(tokens)
    return Vocabulary(tuple(tokens), specials=specials) if whole else None


def _tensor(reader: _Reader) -> tuple[str, Stored]:
    rank, length, kind = reader.ints(3, "a tensor")
    if not 1 <= rank <= 4 or not 1 <= length <= 256:
        raise ModelError(f"a tensor of {rank} dimensions with a name of {length} bytes")
    shape = tuple(reversed(reader.ints(rank, "a tensor")))
    try:
        name = bytes(reader.take(length, "a name")).decode("ascii")
    except UnicodeDecodeError:
        raise ModelError("a tensor whose name is not ASCII") from None
    if not all(n >= 1 for n in shape):
        raise ModelError(f"{name} is of shape {shape}")
    count = math.prod(shape)
    if kind in _PLAIN:
        size = 2 if kind else 4
        return name, in_memory(reader.take(size * count, name), _PLAIN[kind], shape)
    if kind not in FORMATS:
        known = ", ".join(["f32", "f16", *(form.name for form in FORMATS.values())])
        raise ModelError(f"{name} is of type {kind}, which is none of {known}")
    form = FORMATS[kind]
    if shape[-1] % BLOCK:
        raise ModelError(f"{name} is of shape {shape}, which {form.name} blocks do not divide")
    data = reader.take(count // BLOCK * form.layout.itemsize, name)
    return name, _blocks(data, form, shape)


def _blocks(data: memoryview, form: BlockFormat, shape: tuple[int, ...]) -> Stored:
    return Stored(shape, np.dtype("<f4"), lambda: dequantize(data, form, shape))


def _reshaped(tensor: Stored, wanted: tuple[int, ...] | None) -> Stored:
    """Axes of length 1 do not survive the conversion, and biases of convolutions get one."""
    if wanted is None or [n for n in tensor.shape if n > 1] != [n for n in wanted if n > 1]:
        return tensor
    return replace(tensor, shape=wanted, load=lambda: tensor.load().reshape(wanted))
