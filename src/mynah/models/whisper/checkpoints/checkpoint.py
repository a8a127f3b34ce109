"""What every reader gives: sizes, tensors by OpenAI's names, and what else a file says."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.errors import ModelError
from mynah.runtime.whisper.config import WhisperDims
from mynah.text.byte_bpe import Vocabulary

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: what it is, and how to get it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # of what load gives
    load: Callable[[], Array]


class Tensors(Mapping[str, Array]):
    """Named tensors that are read, and dequantised, each time they are asked for.

    So a checkpoint needs no more memory than the tensors in use; the arrays may be views of the
    file and cannot be written to.
    """

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.stored = dict(stored)

    def __getitem__(self, name: str) -> Array:
        return self.stored[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


@dataclass(frozen=True)
class WhisperCheckpoint:
    """A checkpoint as read. ``None`` and empty: the file does not say."""

    layout: str  # openai, huggingface, ggml, ctranslate2
    path: Path
    dims: WhisperDims
    tensors: Tensors  # exactly those of names.shapes(dims)
    vocabulary: Vocabulary | None = None
    mel_filters: Array | None = None  # (n_mels, bins) float32
    alignment_heads: tuple[tuple[int, int], ...] | None = None
    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None


# types of tensors as safetensors calls them; BF16 is widened to float32
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def map_file(path: Path) -> memoryview:
    """The content of a file, read where it is looked at.

    Raises:
        ModelError: missing, unreadable or empty.
    """
    try:
        with path.open("rb") as stream:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except ValueError:
        raise ModelError(f"{path}: empty file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None


def in_memory(data: memoryview, kind: str, shape: tuple[int, ...]) -> Stored:
    """The tensor whose values of type ``kind`` (a key of :data:`DTYPES`) are all of ``data``."""
    dtype = DTYPES[kind]
    assert len(data) == math.prod(shape) * dtype.itemsize

    def load() -> Array:
        values = np.frombuffer(data, dtype) if len(data) else np.zeros(0, dtype)
        values = values.reshape(shape)
        return widen(values) if kind == "BF16" else values

    return Stored(shape, np.dtype("<f4") if kind == "BF16" else dtype, load)


def widen(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """bfloat16, given as its bits, as float32: its upper half."""
    return (values.astype(np.uint32) << 16).view(np.float32)
