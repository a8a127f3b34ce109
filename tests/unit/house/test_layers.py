"""Each layer imports only from those before it, and the core never imports torch."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mynah

PACKAGE = Path(mynah.__file__).parent
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config", "model_folder", "whole"),
    ("audio", "text", "corpus", "decoding"),
    ("runtime", "evaluation"),
    ("serve",),
    ("nn", "losses"),
    ("models", "data"),
    ("training", "export"),
    ("cli",),
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
CORE = {*LAYERS[0], *LAYERS[1], *LAYERS[2], *LAYERS[3]}
WITH_TORCH_ALONE = {"nn", "losses", "models", "data", "training"}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "bundled" not in p.parts)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node, node.module
            if node.module == "mynah":
                yield from ((node, f"mynah.{alias.name}") for alias in node.names)


def at_module_level(tree: ast.Module) -> Iterator[str]:
    """Names of modules imported when the module itself is."""
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
        for node in ast.walk(outer)
    }
    return (name for node, name in imports(tree) if id(node) not in inside)


def test_every_room_has_a_layer() -> None:
    rooms = {room(p) for p in MODULES} - {"__init__", "__main__"}
    assert rooms <= set(LAYER)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    mine = room(path)
    if mine in ("__init__", "__main__"):
        return
    for node, name in imports(tree):
        parts = name.split(".")
        if parts[0] == "mynah" and len(parts) > 1 and parts[1] in LAYER and parts[1] != mine:
            assert LAYER[parts[1]] < LAYER[mine] or {parts[1], mine} <= set(LAYERS[0]), (
                f"{path.name}:{node.lineno}: {mine} may not import {name}"
            )
        if mine in CORE:
            assert parts[0] not in ("torch", "safetensors"), f"{path.name}:{node.lineno}: {name}"
        if mine == "models" and parts[:2] == ["mynah", "models"] and len(parts) > 2:
            family = path.relative_to(PACKAGE).parts[1]
            assert parts[2] == family, f"{path.name}:{node.lineno}: families do not import others"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_is_imported_with_a_module(path: Path) -> None:
    tops = {name.split(".")[0] for name in at_module_level(ast.parse(path.read_text("utf-8")))}
    outside = tops - set(sys.stdlib_module_names) - {"mynah"}
    if room(path) == "cli" or path.parent == PACKAGE:
        assert not outside, "a verb imports what it needs in the function that needs it"
    elif room(path) in WITH_TORCH_ALONE:
        assert outside <= {"torch", "numpy"}, outside
    elif room(path) in CORE:
        assert outside <= {"numpy", "onnxruntime", "soundfile", "soxr", "rich"}, outside


def test_core_runs_where_torch_cannot_be_imported() -> None:
    names = [
        ".".join(("mynah", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for p in MODULES
        if room(p) in CORE | {"cli", "__init__"}
    ]
    program = (
        "import sys, importlib\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'safetensors', 'sentencepiece'):\n"
        "            raise ImportError(f'{name} must not be imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_mynah_loads_neither_numpy_nor_onnxruntime() -> None:
    program = "import sys, mynah; print([m for m in ('numpy','onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("room", ["mynah", "mynah.text"])
def test_lazy_names_are_all_there(room: str) -> None:
    module = importlib.import_module(room)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(getattr(module, name), "__name__", name) == name  # a union has none
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'Tokeniser'"):
        _ = module.Tokeniser


def test_a_module_of_text_loads_without_tokenizers() -> None:
    program = "import sys, mynah.text.punctuation; print('mynah.text.tokenizer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
