"""Strict configuration: what is refused, and the way to TOML and back."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.config import as_dict, build, dumps_toml, override, read_toml
from mynah.errors import ConfigError


@dataclass(frozen=True)
class Optim:
    kind: Literal["adam", "adamw"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    name: str
    steps: int = 10
    optim: Optim = Optim()
    sets: tuple[str, ...] = ()
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Optim, ...] = ()


def test_round_trip() -> None:
    recipe = Recipe("a", 3, Optim("adam", 2.0), ("x", "y"), None, {"k": [1, 2]}, (Optim(), Optim()))
    assert build(Recipe, tomllib.loads(dumps_toml(as_dict(recipe)))) == recipe


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"name": "a", "stesp": 3}, "stesp: unknown key (did you mean 'steps'?)"),
        ({"name": "a", "optim": {"lrr": 1}}, "optim.lrr: unknown key (did you mean 'lr'?)"),
        ({}, "name: missing"),
        ({"name": "a", "steps": "3"}, "steps: expected int, got '3'"),
        ({"name": "a", "steps": True}, "steps: expected int, got True"),
        ({"name": "a", "steps": 1.5}, "steps: expected int, got 1.5"),
        ({"name": "a", "sets": "x"}, "sets: expected a list, got 'x'"),
        ({"name": "a", "optim": {"betas": [0.9]}}, "optim.betas: expected 2 values, got 1"),
        ({"name": "a", "optim": {"lr": float("nan")}}, "optim.lr: must be a number, got nan"),
        (
            {"name": "a", "optim": {"kind": "adamww"}},
            "optim.kind: 'adamww' is none of 'adam', 'adamw' (did you mean 'adamw'?)",
        ),
    ],
)
def test_what_is_refused(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(Recipe, values)
    assert str(error.value) == line


def test_integers_are_taken_for_floats() -> None:
    assert build(Optim, {"lr": 1}) == Optim(lr=1.0)
    assert isinstance(build(Optim, {"lr": 1}).lr, float)


def test_override() -> None:
    values = {"name": "a", "optim": {"lr": 1.0}, "parts": [{"lr": 1.0}, {"lr": 2.0}]}
    changed = override(values, ["optim.lr=3e-4", "name=b c", "limit=4", "parts.1.lr=5.0"])
    recipe = build(Recipe, changed)
    assert recipe.optim.lr == 3e-4
    assert (recipe.name, recipe.limit, recipe.parts[1].lr) == ("b c", 4, 5.0)
    assert values["optim"] == {"lr": 1.0}, "the original is left alone"


def test_a_value_of_two_lines_is_a_string() -> None:
    assert override({}, ["a=1\nb=2"]) == {"a": "1\nb=2"}


def test_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "notepad.toml").write_bytes(b"\xef\xbb\xbfsteps = 3\n")
    assert read_toml(tmp_path / "notepad.toml") == {"steps": 3}


@pytest.mark.parametrize("assignment", ["steps", "=3", "name.x=3", "parts.9.lr=1", "parts.²=1"])
def test_bad_assignment(assignment: str) -> None:
    with pytest.raises(ConfigError):
        override({"name": "a", "parts": [1, 2, 3]}, [assignment])


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match="not TOML"):
        read_toml(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path / "binary.toml")
    for name, text in (("deep", "x = " + "[" * 3000 + "]" * 3000), ("long", "x = " + "9" * 6000)):
        (tmp_path / f"{name}.toml").write_text(text)
        with pytest.raises(ConfigError, match=rf"{name}\.toml: not TOML"):
            read_toml(tmp_path / f"{name}.toml")
        assert override({}, [text.replace(" ", "")])["x"] == text[4:]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    TEXT,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_toml_round_trip(values: dict[str, Any]) -> None:
    assert tomllib.loads(dumps_toml(values)) == values


def test_what_toml_cannot_hold() -> None:
    with pytest.raises(ConfigError, match="x: bytes cannot be written"):
        dumps_toml({"x": b"a"})
