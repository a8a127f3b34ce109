"""The figures of the bundled model by one command: in small, stopped, gone on with, written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mynah.model_folder import DEFAULT_MODEL, find_model, known_models, read_model_folder

pytestmark = pytest.mark.skipif(
    DEFAULT_MODEL not in known_models(), reason="the bundled model is not there"
)


def test_figures_of_two_recordings(repository: Path, speech: Path, tmp_path: Path) -> None:
    data, work, model = tmp_path / "data", tmp_path / "work", tmp_path / "model"
    (data / "native").mkdir(parents=True)
    rows = (speech / "manifest.tsv").read_text("utf-8").splitlines()
    cells = [row.split("\t") for row in rows[:3]]
    lines = [cells[0]] + [[c[0], str(speech / c[1]), *c[2:]] for c in cells[1:]]
    (data / "native" / "manifest.tsv").write_text(
        "\n".join("\t".join(line) for line in lines) + "\n", "utf-8"
    )
    shutil.copytree(find_model(), model)
    card = "# Card\n\n<!-- figures -->\nold\n<!-- /figures -->\nrest\n"
    (model / "CARD.md").write_text(card, "utf-8")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(repository / "benchmarks" / "figures.py"), str(data), str(work),
             "--model", str(model), *more],
            capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    done = run()
    assert done.returncode == 0, done.stderr
    assert "| native readers (development) | 2 | 17 |" in done.stdout
    assert "speechocean762 test, age < 18: left out" in done.stderr
    file = work / "native-readers-development-offline.jsonl"
    kept = file.read_text("utf-8")
    file.write_text(kept[:-20], "utf-8")  # stopped while it wrote the second
    again = run("--write")
    assert again.returncode == 0, again.stderr
    ids = [json.loads(line)["id"] for line in file.read_text("utf-8").splitlines()]
    assert ids == [c[0] for c in cells[1:]]
    folder = read_model_folder(model)
    folder.verify()
    assert "| 2 | 17 |" in (model / "CARD.md").read_text("utf-8")
    assert folder.info.results["native readers (development), WER"] <= 0.5
    info = (model / "model.toml").read_text("utf-8")
    changed = re.sub(r"^margin = .*$", "margin = 9.5", info, flags=re.MULTILINE)
    assert changed != info
    (model / "model.toml").write_text(changed, "utf-8")
    other = run()
    assert other.returncode == 1 and "holds what another model heard" in other.stderr
