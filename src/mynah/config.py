"""Strict configuration: frozen dataclasses, read from and written to TOML.

A configuration is a frozen dataclass. :func:`build` makes one from a mapping and refuses every key
that it does not know, naming the nearest that it does; :func:`as_dict` goes the other way.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from mynah.errors import ConfigError, nearest

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make the dataclass ``cls`` from ``values``, nested dataclasses included.

    ``where`` is the dotted path that error messages put before a key. Integers are taken for
    floats, lists for tuples, and strings for paths; nothing else is converted.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in fields:
            raise ConfigError(f"{path}: unknown key{nearest(key, fields)}")
        arguments[key] = _convert(hints[key], value, path)
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in arguments:
            raise ConfigError(f"{where + '.' if where else ''}{name}: missing")
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, path)
    if origin is Literal:
        if value in arguments and type(value) in {type(a) for a in arguments}:
            return value
        known = ", ".join(repr(a) for a in arguments)
        hinted = nearest(str(value), [str(a) for a in arguments])
        raise ConfigError(f"{path}: {value!r} is none of {known}{hinted}")
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if isinstance(value, Mapping):
            return build(hint, value, path)  # type: ignore[arg-type]
        raise ConfigError(f"{path}: expected a table, got {value!r}")
    if origin in (tuple, list):
        return _convert_sequence(origin, arguments, value, path)
    if origin in (dict, Mapping) or hint is dict or origin is typing.get_origin(Mapping[str, int]):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: expected a table, got {value!r}")
        inner = arguments[1] if arguments else Any
        return {str(k): _convert(inner, v, f"{path}.{k}") for k, v in value.items()}
    return _convert_scalar(hint, value, path)


def _convert_union(members: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in members:
        return None
    errors: list[ConfigError] = []
    for member in members:
        if member is type(None):
            continue
        try:
            return _convert(member, value, path)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _convert_sequence(origin: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{path}: expected a list, got {value!r}")
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ConfigError(f"{path}: expected {len(arguments)} values, got {len(value)}")
        inner: Sequence[Any] = arguments
    else:
        inner = [arguments[0] if arguments else Any] * len(value)
    items = [
        _convert(h, v, f"{path}[{i}]") for i, (h, v) in enumerate(zip(inner, value, strict=True))
    ]
    return tuple(items) if origin is tuple else items


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{path}: a number of too many digits") from None
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and isinstance(value, hint):
        if hint is int and isinstance(value, bool):
            raise ConfigError(f"{path}: expected int, got {value!r}")
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"{path}: must be a number, got nan")
        return value
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{path}: expected {name}, got {value!r}")


def as_dict(config: Any) -> dict[str, Any]:
    """The dataclass as a plain mapping that :func:`dumps_toml` can write; ``None`` is left out."""
    return {
        f.name: _plain(getattr(config, f.name))
        for f in dataclasses.fields(config)
        if f.init and getattr(config, f.name) is not None
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_dict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable, or not TOML; the line names it.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except ValueError as error:  # numbers of thousands of digits, too
        raise ConfigError(f"{path}: not TOML ({error})") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML that can be read (nested too deep)") from None


def override(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of ``values`` with ``key.path=value`` assignments applied.

    Values are read as TOML (``3e-4``, ``true``, ``[1, 2]``); what is not TOML is taken as a string.
    A number in the path picks an element of a list.

    Raises:
        ConfigError: an assignment without ``=`` or a path that goes through a plain value.
    """
    result: dict[str, Any] = _copy(values)
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator or not path.strip():
            raise ConfigError(f"{assignment}: expected key=value")
        keys = [key.strip() for key in path.split(".")]
        target: Any = result
        for key in keys[:-1]:
            target = _descend(target, key, path)
        if isinstance(target, list) and keys[-1].isdecimal() and int(keys[-1]) < len(target):
            target[int(keys[-1])] = _parse_value(text)
        elif isinstance(target, dict):
            target[keys[-1]] = _parse_value(text)
        else:
            raise ConfigError(f"{path}: {'.'.join(keys[:-1])} is not a table")
    return result


def _descend(target: Any, key: str, path: str) -> Any:
    if isinstance(target, list) and key.isdecimal() and int(key) < len(target):
        return target[int(key)]
    if isinstance(target, dict):
        return target.setdefault(key, {})
    raise ConfigError(f"{path}: {key} is not in a table")


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, (list, tuple)) else value


def _parse_value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text.strip()
    return found["value"] if found.keys() == {"value"} else text.strip()


def dumps_toml(values: Mapping[str, Any]) -> str:
    """Write a mapping of strings, numbers, booleans, lists and tables as TOML.

    Raises:
        ConfigError: a value that TOML cannot hold.
    """
    lines: list[str] = []
    _dump_table(values, "", lines)
    return "\n".join(lines).strip() + "\n"


def _dump_table(values: Mapping[str, Any], prefix: str, lines: list[str]) -> None:
    tables = {k: v for k, v in values.items() if _is_table(v)}
    for key, value in values.items():
        if key not in tables and value is not None:
            lines.append(f"{_key(key)} = {_value(value, prefix + key)}")
    for key, value in tables.items():
        name = f"{prefix}{_key(key)}"
        for table in value if isinstance(value, (list, tuple)) else [value]:
            lines.extend(["", f"[[{name}]]" if isinstance(value, (list, tuple)) else f"[{name}]"])
            _dump_table(table, f"{name}.", lines)


def _is_table(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(v, Mapping) for v in value)
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    bare = key.replace("_", "").replace("-", "")
    return key if bare.isascii() and bare.isalnum() else _string(key)


def _string(text: str) -> str:
    # a JSON string is a TOML string but for DEL, which TOML wants escaped
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)  # Python's repr of a float, nan and inf included, is TOML
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v, path) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v, path)}" for k, v in value.items()) + "}"
    raise ConfigError(f"{path}: {type(value).__name__} cannot be written as TOML")
