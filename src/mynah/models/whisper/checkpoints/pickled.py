"""Files of ``torch.save``, read without PyTorch and without running what a pickle asks for.

Such a file is a zip archive: ``data.pkl`` describes the objects, ``data/0``, ``data/1`` ... hold
the values of tensors. A pickle is a program for a stack machine, and Python's own machine calls any
function that it names. The one here knows containers, strings, numbers and tensors; every other
name in it is refused before anything is made of it.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mynah.errors import ModelError
from mynah.models.whisper.checkpoints.checkpoint import (
    DTYPES,
    Array,
    Stored,
    map_file,
    widen,
)

_MAX_PICKLE = 64_000_000  # bytes; that of the largest Whisper has 0.2 MB
_MAX_RANK = 8
# storage classes of torch: their values' type
_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_KNOWN = {*_STORAGES, _DICT, _TENSOR, _PARAMETER}


@dataclass(frozen=True)
class _Name:
    """A name that the pickle may use; it stands for itself and is never looked up."""

    name: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    values: memoryview


_MARK = object()


def read_torch(path: str | Path) -> Any:
    """The dictionaries, lists, strings and numbers of a file, tensors as :class:`Stored`.

    Raises:
        ModelError: not such a file, cut short, of before PyTorch 1.6, or with anything else in
            its pickle; nothing of it is executed.
    """
    path = Path(path)
    data = map_file(path)
    try:
        archive = _Archive(data)
        return _Machine(archive).run(archive.read("data.pkl"))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


class _Archive:
    """The members of a zip archive that are stored as they are, as views of the file."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        try:
            with zipfile.ZipFile(_View(data)) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError):
            raise ModelError("not a file of torch.save, or cut short") from None
        pickles = [m.filename for m in members if m.filename.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ModelError("a zip archive, but not one of torch.save (it has no data.pkl)")
        top = pickles[0].removesuffix("data.pkl")
        self._members = {m.filename.removeprefix(top): m for m in members}
        if "byteorder" in self._members and bytes(self.read("byteorder")).strip() != b"little":
            raise ModelError("its values are big-endian, which is not supported")

    def read(self, name: str) -> memoryview:
        if name not in self._members:
            raise ModelError(f"has no member {name}")
        member = self._members[name]
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ModelError(f"{name} is compressed or encrypted, which torch.save does not do")
        start = member.header_offset
        header = bytes(self._data[max(start, 0) : max(start, 0) + 30])
        if len(header) < 30 or not header.startswith(b"PK\3\4"):
            raise ModelError(f"{name} has no header where the archive says (cut short?)")
        name_size, extra_size = struct.unpack_from("<HH", header, 26)
        start += 30 + name_size + extra_size
        if member.file_size != member.compress_size or start + member.file_size > len(self._data):
            raise ModelError(f"{name} is larger than the file (cut short?)")
        return self._data[start : start + member.file_size]


class _View:
    """A buffer as the seekable file that zipfile wants."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._data))[whence]
        if at < 0:
            raise ValueError("before the start")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        part = bytes(self._data[self._at : end])
        self._at += len(part)
        return part


class _Machine:
    """The stack machine of pickle, with what state dicts need and nothing more."""

    def __init__(self, archive: _Archive) -> None:
        self._archive = archive
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, _Storage] = {}

    def run(self, program: memoryview) -> Any:
        """The object that ``program`` builds."""
        if len(program) > _MAX_PICKLE:
            raise ModelError(f"its pickle has {len(program)} bytes, at most {_MAX_PICKLE} are read")
        try:
            for opcode, argument, _ in pickletools.genops(bytes(program)):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, UnicodeDecodeError, struct.error):
            pass
        raise ModelError("its pickle is broken or cut short")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            words = argument.split(" ") if name == "GLOBAL" else [stack.pop(), stack.pop()][::-1]
            stack.append(_known(".".join(words)))
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":  # attributes of a dictionary, such as _metadata
            state = stack.pop()
            if not isinstance(state, dict) or not isinstance(stack[-1], dict):
                raise ModelError("its pickle sets the state of an object")
        elif name in _COLLECT:
            _COLLECT[name](self)
        elif name not in ("PROTO", "FRAME"):
            raise ModelError(f"its pickle uses {name}, which no checkpoint of tensors needs")

    def _marked(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError("no mark")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def append(self) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def appends(self) -> None:
        items = self._marked()
        self._list().extend(items)

    def tuple(self) -> None:
        self._stack.append(tuple(self._marked()))

    def setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def setitems(self) -> None:
        self._set(self._marked())

    def _list(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise ModelError("its pickle appends to an object")
        return self._stack[-1]

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise ModelError("its pickle sets items of an object")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise ModelError(f"its pickle has a {type(key).__name__} as a key")
            target[key] = value

    def _storage(self, identity: Any) -> _Storage:
        """The storage ("storage", class, key, device, number of values)."""
        if (
            not isinstance(identity, tuple)
            or len(identity) != 5
            or identity[0] != "storage"
            or not isinstance(identity[1], _Name)
            or identity[1].name not in _STORAGES
            or not isinstance(identity[2], str)
        ):
            raise ModelError("its pickle refers to something other than a storage of values")
        kind, key = _STORAGES[identity[1].name], identity[2]
        if key not in self._storages:
            values = self._archive.read(f"data/{key}")
            size = DTYPES[kind].itemsize
            if identity[4] * size != len(values):
                told = f"{identity[4]} values of {size} bytes"
                raise ModelError(f"data/{key} has {len(values)} bytes, not {told}")
            self._storages[key] = _Storage(kind, values)
        if self._storages[key].kind != kind:
            raise ModelError(f"data/{key} is said to hold values of two types")
        return self._storages[key]


_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_COLLECT: dict[str, Callable[[_Machine], None]] = {
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "TUPLE": _Machine.tuple,
    "SETITEM": _Machine.setitem,
    "SETITEMS": _Machine.setitems,
}


def _known(name: str) -> _Name:
    if name not in _KNOWN:
        raise ModelError(
            f"its pickle names {name[:80]}, which a checkpoint of tensors does not need; "
            "it was not executed"
        )
    return _Name(name)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ModelError("its pickle calls something that is no function")
    if function.name == _DICT and not arguments:
        return {}
    if function.name == _TENSOR and len(arguments) in (6, 7):
        return _tensor(*arguments[:4])
    if function.name == _PARAMETER and arguments and isinstance(arguments[0], Stored):
        return arguments[0]
    raise ModelError(f"its pickle calls {function.name} in a way that is not known")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Stored:
    """A view of a storage, which must lie inside it and not be larger."""
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple):
        raise ModelError("its pickle has a tensor without values")
    numbers = (offset, *shape, *strides)
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers) or len(shape) > _MAX_RANK:
        raise ModelError("its pickle has a tensor of absurd shape")
    if len(shape) != len(strides):
        raise ModelError("its pickle has a tensor of absurd strides")
    size = DTYPES[storage.kind].itemsize
    count, held = math.prod(shape), len(storage.values) // size
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count > held or (count and last >= held):
        raise ModelError(f"its pickle has a tensor {shape} that does not fit its {held} values")

    def load() -> Array:
        dtype = DTYPES[storage.kind]
        if not count:
            return np.zeros(shape, dtype)
        flat = np.frombuffer(storage.values, dtype)[offset:]
        steps = tuple(step * size for step in strides)
        values = np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False)
        return widen(np.ascontiguousarray(values)) if storage.kind == "BF16" else values

    return Stored(shape, np.dtype("<f4") if storage.kind == "BF16" else DTYPES[storage.kind], load)
