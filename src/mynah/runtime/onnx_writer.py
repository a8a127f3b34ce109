"""ONNX graphs written with numpy alone: the protobuf wire format, a node at a time.

A file is ``ModelProto`` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Only what graphs
of ours need is written: nodes with plain attributes, initializers as raw bytes, inputs and outputs
with named dimensions, metadata. Constants may be given as functions that are called when their
bytes are written, so that a graph is written in the memory of its largest tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Attribute = int | float | str | Sequence[int]

IR_VERSION = 10
MICROSOFT = "com.microsoft"  # operators that only ONNX Runtime has
_ALIGNMENT = 64  # bytes, of values in a file of their own
# numpy's type -> TensorProto.DataType
_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}


@dataclass(frozen=True)
class Constant:
    """A tensor that is known when the graph is written."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], Array]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def values(self) -> memoryview:
        """The bytes, little-endian, in the order of C.

        Raises:
            ValueError: what was loaded is something else than was promised.
        """
        array = np.asarray(self.load(), self.dtype, order="C")
        if array.shape != self.shape:
            raise ValueError(f"a constant of shape {array.shape}, promised was {self.shape}")
        return array.reshape(-1).view(np.uint8).data


@dataclass
class GraphWriter:
    """Collects a graph, then writes it.

    Values are named by strings; :meth:`node` and :meth:`constant` give the names to go on with.
    """

    name: str
    opset: int = 21
    metadata: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    _nodes: list[bytes] = field(default_factory=list)
    _inputs: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _domains: set[str] = field(default_factory=set)

    def input(self, name: str, dtype: str, dims: Sequence[int | str]) -> str:
        """Declare an input; dimensions are sizes or names of sizes."""
        self._inputs.append(_value_info(self._new(name), dtype, dims))
        return name

    def output(self, name: str, dtype: str, dims: Sequence[int | str]) -> str:
        """Declare the value ``name``, which a node gives, an output."""
        self._outputs.append(_value_info(name, dtype, dims))
        return name

    def constant(self, name: str, value: Any) -> str:
        """An initializer: an array, a number, or a :class:`Constant`; the same name once more is
        the same value and not written twice."""
        if name not in self.constants:
            if not isinstance(value, Constant):
                array = np.asarray(value)
                value = Constant(array.shape, array.dtype, lambda: array)
            self.constants[self._new(name)] = value
        return name

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: str | Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        domain: str = "",
    ) -> str:
        """Add an operator; inputs and outputs that are left out are empty strings.

        Returns:
            the name of its first output.
        """
        made = [outputs] if isinstance(outputs, str) else list(outputs)
        for name in made:
            if name:
                self._new(name)
        self._domains.add(domain)
        body = b"".join(_text(1, name) for name in inputs)
        body += b"".join(_text(2, name) for name in made)
        body += _text(3, f"{made[0]}_node") + _text(4, kind)
        body += b"".join(_message(5, _attribute(k, v)) for k, v in (attributes or {}).items())
        self._nodes.append(body + (_text(7, domain) if domain else b""))
        return made[0]

    @property
    def size(self) -> int:
        """Bytes of all constants."""
        return sum(constant.size for constant in self.constants.values())

    def write(self, path: str | Path, *, external: bool = False) -> None:
        """Write the graph to ``path``; with ``external`` the values of large constants go to a file
        beside it, called ``<name>.data`` (protobuf ends at 2 GB)."""
        path = Path(path)
        outside = {n: c for n, c in self.constants.items() if external and c.size >= 1024}
        places: dict[str, int] = {}
        end = 0
        for name, constant in outside.items():
            places[name] = end
            end += constant.size + -constant.size % _ALIGNMENT
        data = f"{path.name}.data"
        if outside:
            with path.with_name(data).open("wb") as stream:
                for constant in outside.values():
                    stream.write(constant.values())
                    stream.write(b"\0" * (-constant.size % _ALIGNMENT))
        with path.open("wb") as stream:
            self._write_model(stream, data, places)

    def _write_model(self, stream: IO[bytes], data: str, places: Mapping[str, int]) -> None:
        """The model; constants with a place lie in the file ``data``."""
        heads = {name: self._head(name, data, places) for name in self.constants}
        sizes = {  # of a TensorProto
            name: len(head) + (0 if name in places else _bytes_size(9, self.constants[name].size))
            for name, head in heads.items()
        }
        before = b"".join(_message(1, node) for node in self._nodes) + _text(2, self.name)
        after = b"".join(_message(11, item) for item in self._inputs)
        after += b"".join(_message(12, item) for item in self._outputs)
        total = len(before) + len(after) + sum(_bytes_size(5, size) for size in sizes.values())
        stream.write(_number(1, IR_VERSION) + _text(2, "mynah"))
        stream.write(_key(7, 2) + _varint(total) + before)
        for name, head in heads.items():
            stream.write(_key(5, 2) + _varint(sizes[name]) + head)
            if name not in places:
                stream.write(_key(9, 2) + _varint(self.constants[name].size))
                stream.write(self.constants[name].values())
        stream.write(after)
        for domain in sorted(self._domains | {""}):
            version = _number(2, 1 if domain else self.opset)
            stream.write(_message(8, (_text(1, domain) if domain else b"") + version))
        for key, value in self.metadata.items():
            stream.write(_message(14, _text(1, key) + _text(2, value)))

    def _head(self, name: str, data: str, places: Mapping[str, int]) -> bytes:
        """A TensorProto up to its values."""
        constant = self.constants[name]
        head = b"".join(_number(1, size) for size in constant.shape)
        head += _number(2, _TYPES[constant.dtype.name]) + _text(8, name)
        if name in places:
            entries = {"location": data, "offset": places[name], "length": constant.size}
            for key, value in entries.items():
                head += _message(13, _text(1, key) + _text(2, str(value)))
            head += _number(14, 1)
        return head

    def _new(self, name: str) -> str:
        assert name not in self._names, f"two values are called {name}"
        self._names.add(name)
        return name


def _varint(value: int) -> bytes:
    """A whole number in groups of seven bits, the lowest first; negative ones as 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _message(number: int, body: bytes) -> bytes:
    return _key(number, 2) + _varint(len(body)) + body


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode("utf-8"))


def _bytes_size(number: int, length: int) -> int:
    """How long the field ``number`` is with ``length`` bytes in it."""
    return len(_key(number, 2)) + len(_varint(length)) + length


def _attribute(name: str, value: Attribute) -> bytes:
    """An AttributeProto: a whole number, a number, a text or whole numbers."""
    body = _text(1, name)
    if isinstance(value, int):
        return body + _number(3, value) + _number(20, 2)
    if isinstance(value, float):
        return body + _key(2, 5) + np.float32(value).tobytes() + _number(20, 1)
    if isinstance(value, str):
        return body + _text(4, value) + _number(20, 3)
    return body + b"".join(_number(8, int(item)) for item in value) + _number(20, 7)


def _value_info(name: str, dtype: str, dims: Sequence[int | str]) -> bytes:
    sizes = b"".join(
        _message(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in dims
    )
    tensor = _number(1, _TYPES[dtype]) + _message(2, sizes)
    return _text(1, name) + _message(2, _message(1, tensor))
