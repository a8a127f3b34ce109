"""`mynah transcribe --output-dir` killed at any moment goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mynah.audio import write
from tone_model import RATE, speak, write_tone_model

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")

# runs the command, kills itself when window KILL was kept (or half of it), counts what is decoded
PROGRAM = """
import os, signal, sys
import mynah.runtime.journal as journal
import mynah.runtime.offline as offline
from mynah.cli import main

kill, torn = int(sys.argv[1]), sys.argv[2] == "torn"
offline.POOL = 10.0
decode, write, kept = offline.Run._decode, journal.Journal._write, [0]

def counted(self, batch):
    print("\\n".join(f"decoded {part.start}" for _, part in batch), flush=True)
    return decode(self, batch)

def killing(self, line):
    if line.startswith("["):
        kept[0] += 1
        if kept[0] == kill and torn:
            self._file.write(line[: len(line) // 2].encode())
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    write(self, line)
    if kill and kept[0] == kill:
        os.kill(os.getpid(), signal.SIGKILL)

offline.Run._decode, journal.Journal._write = counted, killing
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_model(tmp_path_factory.mktemp("resume") / "tones")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    for name, seed in (("one", 0), ("two", 1)):
        rng = np.random.default_rng(seed)
        words = ["".join(rng.choice(list("abcde"), rng.integers(1, 4))) for _ in range(70)]
        write(folder / f"{name}.wav", speak(" ".join(words), letter=0.15, gap=0.1), RATE)
    return folder


def run(
    recordings: Path, model: Path, out: Path, kill: int = 0, how: str = "whole", *options: str
) -> tuple[int, list[str]]:
    command = ["transcribe", str(recordings), "--model", str(model), "--output-dir", str(out),
               "--format", "txt,json", "--quiet", *options]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(kill), how, *command], capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [x for x in done.stdout.splitlines() if x.startswith("decoded")]


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_killed_at_any_moment(model: Path, recordings: Path, tmp_path: Path) -> None:
    code, decoded = run(recordings, model, tmp_path / "whole")
    expected = files(tmp_path / "whole")
    assert code == 0
    assert sorted(expected) == ["one.json", "one.txt", "two.json", "two.txt"]
    assert len(decoded) >= 4
    for kill, how in [(1, "torn"), (3, "torn"), (len(decoded), "whole")]:
        out = tmp_path / f"{kill}{how}"
        code, first = run(recordings, model, out, kill, how)
        assert code == -signal.SIGKILL
        assert any(name.endswith(".part.jsonl") for name in files(out))
        code, second = run(recordings, model, out)
        assert code == 0
        assert files(out) == expected
        kept = kill - (how == "torn")
        assert len(second) == len(decoded) - kept  # what was kept is not decoded again
        assert len(first) >= kept


def test_killed_again_and_again(model: Path, recordings: Path, tmp_path: Path) -> None:
    _, decoded = run(recordings, model, tmp_path / "whole")
    codes = [run(recordings, model, tmp_path / "out", 1)[0] for _ in range(len(decoded))]
    assert codes == [-signal.SIGKILL] * len(decoded)
    assert run(recordings, model, tmp_path / "out") == (0, [])
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_other_work_begins_anew(model: Path, recordings: Path, tmp_path: Path) -> None:
    _, decoded = run(recordings, model, tmp_path / "whole")
    out = tmp_path / "out"
    assert run(recordings, model, out, 3)[0] == -signal.SIGKILL
    _, other = run(recordings, model, out, 0, "whole", "--beam", "3")
    assert len(other) == len(decoded)
    assert run(recordings, model, out, 3)[0] == -signal.SIGKILL
    os.utime(recordings / "one.wav")
    _, again = run(recordings, model, out)
    assert len(again) == len(decoded) - 1  # what was kept of the other recording still holds
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == []
    assert json.loads((out / "one.json").read_text("utf-8"))["status"] == "ok"
