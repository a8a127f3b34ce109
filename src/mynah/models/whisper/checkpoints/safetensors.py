"""safetensors files, read and written with numpy alone.

A file is the length of its header (8 bytes), the header (JSON: type, shape and place of every
tensor), and the values. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mynah.errors import ModelError
from mynah.models.whisper.checkpoints.checkpoint import (
    DTYPES,
    Array,
    Stored,
    Tensors,
    in_memory,
    map_file,
)

_MAX_HEADER = 100_000_000  # bytes, as in the original


def read_safetensors(path: str | Path) -> Tensors:
    """The tensors of a file; their values stay in it until they are asked for.

    Raises:
        ModelError: missing, cut short, or a header that does not fit the file.
    """
    path = Path(path)
    data = map_file(path)
    if len(data) < 8:
        raise ModelError(f"{path}: not a safetensors file (it has {len(data)} bytes)")
    (length,) = struct.unpack_from("<Q", data)
    if length > _MAX_HEADER or length > len(data) - 8:
        raise ModelError(f"{path}: not a safetensors file, or cut short (a header of {length})")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: not a safetensors file (its header is not JSON)") from None
    if not isinstance(header, dict):
        raise ModelError(f"{path}: not a safetensors file (its header is not a table)")
    header.pop("__metadata__", None)
    values = data[8 + length :]
    stored: dict[str, Stored] = {}
    for name, entry in header.items():
        try:
            stored[name] = _stored(entry, values)
        except ModelError as error:
            raise ModelError(f"{path}: {name}: {error}") from None
    return Tensors(stored)


def _stored(entry: Any, values: memoryview) -> Stored:
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ModelError("its entry is malformed") from None
    if kind not in DTYPES:
        raise ModelError(f"values of type {kind!r} are not supported")
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ModelError("its shape or place is not made of whole numbers")
    if start > end or end > len(values):
        raise ModelError(f"lies at {start}..{end}, the file holds {len(values)} bytes (cut short?)")
    if math.prod(shape) * DTYPES[kind].itemsize != end - start:
        raise ModelError(f"{kind} of shape {shape} does not fit its {end - start} bytes")
    return in_memory(values[start:end], kind, shape)


def write_safetensors(tensors: Tensors, path: Path, dtype: str = "keep") -> None:
    """Write tensors one by one: as they are, or floating point as ``fp16`` or ``fp32``.

    Raises:
        ModelError: a value is too large for fp16.
    """
    chosen: Mapping[str, str] = {"fp16": "<f2", "fp32": "<f4"}
    codes = {code: name for name, code in DTYPES.items() if name != "BF16"}
    types = {
        name: np.dtype(chosen[dtype]) if dtype in chosen and s.dtype.kind == "f" else s.dtype
        for name, s in tensors.stored.items()
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, stored in tensors.stored.items():
        size = math.prod(stored.shape) * types[name].itemsize
        header[name] = {
            "dtype": codes[types[name]],
            "shape": list(stored.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in tensors:
            values = tensors[name]
            if types[name] != values.dtype:
                values = _convert(values, types[name], f"{path.name}: {name}")
            stream.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _convert(values: Array, dtype: np.dtype[Any], name: str) -> Array:
    with np.errstate(over="ignore"):
        result = values.astype(dtype)
    if np.isinf(result).any() and not np.isinf(values).any():
        raise ModelError(f"{name}: {np.abs(values).max():.3g} is too large for {dtype}")
    return result
