"""The README's commands and its Python, word for word, in a copy of what a user has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import find_shared
from tests.whisper_reference import DIMS, write_random

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.S)


def commands(text: str) -> list[str]:
    """The commands of a document's sh blocks; a line that ends in a backslash goes on."""
    bodies = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    return [line for body in bodies for line in body.replace("\\\n", "").strip().split("\n")]


COMMANDS = commands(README)
CHINESE = commands((ROOT / "README.zh.md").read_text("utf-8"))
HERE_ALREADY = {"python3 bootstrap.py test"}  # it is what runs this test


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkout's examples, recipes and test data, and a user's recordings."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("examples", "recipes", "tests/data"):
        shutil.copytree(ROOT / name, folder / name)
    speech = ROOT / "tests" / "data" / "speech"
    for row in (speech / "manifest.tsv").read_text("utf-8").splitlines()[1:]:
        _, path, _, _, text, split = row.split("\t")
        target = folder / "my-data" / split
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(speech / path, target)
        (target / path).with_suffix(".txt").write_text(text, "utf-8")
    shared = find_shared()
    tiny = ROOT / "tests" / "data" / "u2_tiny"
    checkpoint = tiny if shared is None else shared / "parity" / "u2pp-conformer"
    shutil.copytree(checkpoint, folder / "checkpoint")
    stand_in_for_whisper(folder)
    return folder


def stand_in_for_whisper(folder: Path) -> None:
    """A tiny random checkpoint where a download of whisper-small would be kept, and a recipe that
    ends after two of its steps."""
    kept = folder / "home" / "hub" / "models--openai--whisper-small"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    write_random(kept / "snapshots" / ("0" * 40), "huggingface", DIMS, 3)
    recipe = folder / "recipes" / "whisper" / "lora.toml"
    text, changes = re.subn(r"(?m)^max_steps = \d+$", "max_steps = 2", recipe.read_text("utf-8"))
    assert changes == 1
    recipe.write_text(text, "utf-8")


def environment(folder: Path) -> dict[str, str]:
    """That of a user without a network, whose ``MYNAH_HOME`` is in ``folder``; how many threads
    there are is left to the programs."""
    binaries = str(Path(sys.executable).parent)
    own = {"PATH": os.pathsep.join([binaries, os.environ["PATH"]])}
    rest = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {**rest, **own, "MYNAH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}


def test_readme_has_what_is_run_here() -> None:
    assert len(COMMANDS) > 10
    assert set(COMMANDS) >= HERE_ALREADY


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_commands(place: Path, language: str) -> None:
    for name in ("my-model", "exported", "runs", "whisper-small"):
        shutil.rmtree(place / name, ignore_errors=True)
    (place / "mynah_bird.srt").unlink(missing_ok=True)
    for command in COMMANDS if language == "en" else CHINESE:
        if command.startswith("python3 bootstrap.py"):
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=place, env=environment(place), capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (place / "transcripts" / "mynah_bird.srt").is_file()
    assert (place / "mynah_bird.srt").is_file(), "Whisper's"


def test_python(place: Path) -> None:
    program = next(body for kind, body in BLOCKS if kind == "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=place, env=environment(place), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_first_command_from_nothing(tmp_path: Path) -> None:
    """The checkout alone, copied elsewhere: it makes an environment and hears both recordings."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "runs", ".*_cache", "tests")
    shutil.copytree(ROOT, copy, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "bootstrap.py", "hear"], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "morning_walk.flac" in done.stdout
    assert "mynah_bird.flac" in done.stdout
    assert len(re.findall(r"\d+ times faster than real time", done.stdout)) == 2
    assert len(re.findall(r"^  live +\w+", done.stdout, flags=re.M)) == 2
