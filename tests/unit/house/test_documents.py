"""What the documents say is so: verbs, links, no word of the machine that it was made on."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_bootstrap_adds_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None and spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setattr(bootstrap, "HERE", tmp_path)
    asked: list[list[list[str]]] = []

    def environment(folder: Path, installs: list[list[str]]) -> Path:
        asked.append(installs)
        folder.mkdir(exist_ok=True)
        return folder / "bin" / "python"

    monkeypatch.setattr(bootstrap, "environment", environment)
    assert bootstrap.main(["add", "nothing"]) == 2 and bootstrap.main(["add"]) == 2
    assert bootstrap.main(["add", "text"]) == 0
    assert bootstrap.main(["add", "train", "mic"]) == 0
    bootstrap.installed([])  # what was added stays
    assert asked == [[[".[text]"]], [["torch"], [".[mic,text,train]"]],
                     [["torch"], [".[mic,text,train]"]]]  # fmt: skip


def test_what_is_missing_can_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert install_command("text") == "pip install 'mynah-speech[text]'"
    (tmp_path / "bootstrap.py").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert install_command("text") == f"python3 {tmp_path / 'bootstrap.py'} add text"
