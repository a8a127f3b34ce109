"""What the documents say is so: verbs, links, no word of the machine that it was made on."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mynah.cli import VERBS, main
from mynah.errors import install_command

ROOT = Path(__file__).resolve().parents[3]
PLACES = ("docs", "src", "recipes", "benchmarks", "examples", "tests")
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(p for place in PLACES for p in (ROOT / place).rglob("*.md"))]
)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_line_is_the_docstring(verb: str) -> None:
    module, line = VERBS[verb]
    path = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring is not None
    assert docstring.splitlines()[0] == line


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"mynah {verb}" in capsys.readouterr().out


def test_readme_names_every_verb() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    missing = [verb for verb in VERBS if f"mynah {verb}" not in text]
    assert not missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_recipes_that_are_named_exist() -> None:
    places = [*DOCUMENTS, *(ROOT / "src").rglob("*.py"), *(ROOT / "recipes").rglob("*.toml")]
    for path in places:
        for name in re.findall(r"\brecipes/[\w/.-]+\.toml\b", path.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{path.name}: {name}"


def test_ci_runs_the_readme_test_command() -> None:
    command = (ROOT / ".ci" / "run").read_text("utf-8").strip().splitlines()[-1]
    assert command == "python3 bootstrap.py test"
    assert f"\n{command}\n" in (ROOT / "README.md").read_text("utf-8")


def test_no_path_of_a_machine() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(rb"(?<![\w.])/(?:work|root|home|tmp|opt/dev)/")
    texts = (".py", ".md", ".toml", ".json", ".jsonl", ".yaml", ".txt", ".tsv")
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in (*texts, ".onnx"):  # a graph can say where its nodes come from
            found = pattern.search(path.read_bytes()) if path.is_file() else None
            assert found is None, f"{name}: {found and found[0]!r}"


def test_defaults_in_the_help_are_those_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    from mynah.decoding import DecodingOptions
    from mynah.decoding.hotwords import DEFAULT_WEIGHT

    assert main(["transcribe", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"none of their own (default: {DEFAULT_WEIGHT:g})" in said
    assert f"the options, {DecodingOptions().lm_weight:g})" in said


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script in a copy of its place; environments are empty folders, nothing is installed, and
    ``asked`` is what would be."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / "constraints.txt").touch()
    monkeypatch.setattr(found, "HERE", tmp_path)
    monkeypatch.setattr(found, "CONSTRAINTS", tmp_path / "constraints.txt")
    found.asked, found.code = [], 0

    def create(folder: Path, **_: object) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()
        found.asked.append(["new"])

    def call(command: list[str], **_: object) -> int:
        found.asked.append(command[command.index("--constraint") + 2 :])
        return int(found.code)

    monkeypatch.setattr(found.venv, "create", create)
    monkeypatch.setattr(found.subprocess, "call", call)
    return found


@pytest.mark.skipif(os.name == "nt", reason="the folder bin")
def test_bootstrap_adds_extras(bootstrap: Any, tmp_path: Path) -> None:
    assert bootstrap.main(["add", "nothing"]) == 2 and bootstrap.main(["add"]) == 2
    bootstrap.installed([])
    assert bootstrap.main(["add", "text"]) == 0
    assert bootstrap.main(["add", "train", "mic"]) == 0
    bootstrap.installed([])  # what was added stays
    assert bootstrap.asked == [["new"], ["."], [".[text]"], ["torch"], [".[mic,text,train]"]]
    bootstrap.code = 1
    with pytest.raises(SystemExit):
        bootstrap.main(["add", "lm"])
    assert (tmp_path / ".venv" / "extras").read_text() == "mic text train", "as before"
    bootstrap.code, bootstrap.asked = 0, []
    (tmp_path / "constraints.txt").write_text("torch<9")  # what is installed is another
    bootstrap.installed([])
    assert bootstrap.asked == [["new"], ["torch"], [".[mic,text,train]"]]


def test_bootstrap_leaves_the_environments_of_others_alone(bootstrap: Any, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    with pytest.raises(SystemExit, match="was not made by"):
        bootstrap.main(["add", "text"])
    assert not bootstrap.asked


def test_what_is_missing_can_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "a b" / ".venv"
    folder.mkdir(parents=True)
    (folder.parent / "bootstrap.py").touch()
    monkeypatch.setattr(sys, "prefix", str(folder))
    assert install_command("text") == "pip install 'mynah-speech[text]'", "of somebody else"
    (folder / "installed").touch()
    assert install_command("text") == f"python3 '{folder.parent / 'bootstrap.py'}' add text"
