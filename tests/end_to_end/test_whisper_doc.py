"""The commands of docs/whisper.md, word for word, with a tiny random checkpoint."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.whisper_reference import DIMS, write_random

from mynah.cli.whisper_flags import FLAGS, REFUSED

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "whisper.md").read_text("utf-8")


def test_every_flag_is_named() -> None:
    for name in [flag.name for flag in FLAGS] + [n for n in REFUSED if not n.startswith("live-")]:
        if name != "pretty-json":
            assert f"--{name.replace('-', '_')}" in TEXT, name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_commands(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    write_random(tmp_path / "checkpoint", "huggingface", DIMS, 3)
    speech = ROOT / "tests" / "data" / "speech"
    (tmp_path / "my-data").mkdir()
    for row in (speech / "manifest.tsv").read_text("utf-8").splitlines()[1:3]:
        _, path, _, _, text, _ = row.split("\t")
        shutil.copy(speech / path, tmp_path / "my-data")
        (tmp_path / "my-data" / path).with_suffix(".txt").write_text(text, "utf-8")
    bodies = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.S)
    commands = [c for b in bodies for c in b.replace("\\\n", "").strip().split("\n")]
    assert len(commands) > 6
    binaries = str(Path(sys.executable).parent)
    places = {"PATH": os.pathsep.join([binaries, os.environ["PATH"]])}
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path, env={**os.environ, **places}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {
        ".txt", ".srt", ".vtt", ".tsv", ".json"
    }  # fmt: skip
