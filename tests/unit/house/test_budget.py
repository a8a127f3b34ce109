"""The ceilings of budget.toml: lines, what a model pulls in, sizes on disk, start-up times."""

from __future__ import annotations

import ast
import compileall
import importlib.metadata
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import mynah

PACKAGE = Path(mynah.__file__).parent
ROOT = Path(__file__).resolve().parents[3]
BUDGET = tomllib.loads((ROOT / "budget.toml").read_text("utf-8"))
SOURCES = sorted(
    [ROOT / "bootstrap.py"]
    + [
        p
        for folder in ("src", "tests", "benchmarks", "examples")
        for p in (ROOT / folder).rglob("*.py")
    ]
)
MB = 1e6


def test_files_are_short() -> None:
    allowed = BUDGET["lines"].get("files", {})
    for path in SOURCES:
        name, lines = path.relative_to(ROOT).as_posix(), path.read_text("utf-8").count("\n")
        limit = allowed.get(name, {}).get("lines", BUDGET["lines"]["file"])
        assert lines <= limit, f"{name}: {lines} lines, the ceiling is {limit}"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    allowed = BUDGET["lines"].get("functions", {})
    for path in SOURCES:
        file = path.relative_to(ROOT).as_posix()
        for name, lines in functions(path):
            limit = allowed.get(f"{file}:{name}", {}).get("lines", BUDGET["lines"]["function"])
            assert lines <= limit, f"{file}:{name}: {lines} lines, the ceiling is {limit}"


def test_exceptions_are_needed_and_have_a_reason() -> None:
    for kind in ("files", "functions"):
        for name, entry in BUDGET["lines"].get(kind, {}).items():
            assert entry.get("reason"), f"{name}: an exception needs a reason"
            path = ROOT / name.partition(":")[0]
            assert path.is_file(), f"{name}: no such file"


def test_every_model_has_a_ceiling() -> None:
    families = (PACKAGE / "models").glob("*/model.py")
    assert {f"mynah.models.{path.parent.name}.model" for path in families} == set(BUDGET["reading"])


@pytest.mark.parametrize("module", sorted(BUDGET["reading"]))
def test_a_model_is_read_in_one_sitting(module: str) -> None:
    pytest.importorskip("torch")
    program = (
        f"import sys, importlib; importlib.import_module({module!r})\n"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items()\n"
        "      if n.split('.')[0] == 'mynah' and m.__file__))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.split("\n") if line]
    files = [f for f in files if f.read_text("utf-8").strip()]  # empty __init__ files say nothing
    files = [f for f in files if f != PACKAGE / "__init__.py"]
    lines = sum(f.read_text("utf-8").count("\n") for f in files)
    limit = BUDGET["reading"][module]
    listing = ", ".join(f.relative_to(PACKAGE).as_posix() for f in files)
    assert len(files) <= limit["files"], f"{len(files)} files: {listing}"
    assert lines <= limit["lines"], f"{lines} lines in {listing}"


def requirements(name: str, seen: dict[str, importlib.metadata.Distribution]) -> None:
    """The distributions that ``name`` needs without extras, on this machine."""
    for line in importlib.metadata.distribution(name).requires or []:
        requirement, _, marker = line.partition(";")
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert found is not None
        if "extra" in marker or found[0] in seen:
            continue
        try:
            seen[found[0]] = importlib.metadata.distribution(found[0])
        except importlib.metadata.PackageNotFoundError:
            assert marker, f"{found[0]} is needed and not installed"  # for another system
            continue
        requirements(found[0], seen)


def test_core_install_is_small(tmp_path: Path) -> None:
    needed: dict[str, importlib.metadata.Distribution] = {}
    requirements("mynah-speech", needed)
    assert {"numpy", "onnxruntime", "soundfile", "soxr", "rich"} <= set(needed)
    assert "torch" not in needed
    total = 0.0
    for distribution in needed.values():
        files = [Path(str(distribution.locate_file(f))) for f in distribution.files or []]
        sources = sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")
        bytecode = sum(f.stat().st_size for f in files if f.is_file() and f.suffix == ".pyc")
        assert bytecode or not any(f.suffix == ".py" for f in files), "installed without bytecode"
        total += sources + bytecode
    copy = shutil.copytree(PACKAGE, tmp_path / "mynah", ignore=shutil.ignore_patterns("*.pyc"))
    compileall.compile_dir(copy, quiet=1)
    total += sum(f.stat().st_size for f in copy.rglob("*") if f.is_file())
    assert total <= BUDGET["size"]["core_install_mb"] * MB, f"{total / MB:.1f} MB"


def folder_size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def test_bundled_model_is_small() -> None:
    bundled = PACKAGE / "bundled"
    assert (bundled / "mynah-en" / "model.toml").is_file()
    size = folder_size(bundled)
    assert size <= BUDGET["size"]["bundled_model_mb"] * MB, f"{size / MB:.1f} MB"
    size = folder_size(bundled / "mynah-en")
    assert size <= BUDGET["size"]["mynah_en_mb"] * MB, f"{size / MB:.1f} MB"


def test_test_data_are_small() -> None:
    size = folder_size(ROOT / "tests" / "data")
    assert size <= BUDGET["size"]["test_data_mb"] * MB, f"{size / MB:.1f} MB"


def best_of(command: list[str], runs: int = 9) -> float:
    """Seconds of the fastest run: what the command costs when nothing else is in the way."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_is_fast() -> None:
    empty = best_of([sys.executable, "-c", "pass"])
    ours = best_of([sys.executable, "-c", "import mynah"])
    assert ours - empty <= BUDGET["seconds"]["import_mynah"]


def test_help_is_fast() -> None:
    assert best_of([sys.executable, "-m", "mynah", "--help"]) <= BUDGET["seconds"]["help"]
