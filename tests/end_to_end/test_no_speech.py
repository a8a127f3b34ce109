"""A recording without speech gives nothing: every command, every method, the bundled models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mynah
from mynah.audio import write
from mynah.cli import main
from mynah.model_folder import DEFAULT_MODEL, known_models
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.vad import BUNDLED

pytestmark = pytest.mark.skipif(
    not {DEFAULT_MODEL, BUNDLED} <= set(known_models()), reason="the bundled models are not there"
)
RATE = 16000


def without_speech() -> dict[str, np.ndarray]:
    """Four seconds each of noise, hum, clicks and a chord."""
    rng, time = np.random.default_rng(0), np.arange(4 * RATE) / RATE
    clicks = np.zeros(len(time))
    clicks[:: RATE // 3] = 0.9
    sounds = {
        "nothing": np.zeros(len(time)),
        "noise": rng.standard_normal(len(time)) * 0.05,
        "hum": sum(0.1 / n * np.sin(2 * np.pi * 50 * n * time) for n in (1, 2, 3, 5)),
        "clicks": clicks,
        "chord": sum(0.1 * np.sin(2 * np.pi * f * time) for f in (261.6, 329.6, 392.0)),
    }
    return {name: np.asarray(samples, np.float32) for name, samples in sounds.items()}


@pytest.fixture(scope="module")
def english() -> Recognizer:
    return mynah.load()


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "lexicon"])
def test_every_method(english: Recognizer, method: str) -> None:
    request = Request(method=method)
    sounds = without_speech()
    for name, result in zip(
        sounds, english.transcribe(list(sounds.values()), request), strict=True
    ):
        assert (result.text, result.status, result.duration) == ("", "no_speech", 4.0), name
    for name, samples in sounds.items():
        live = english.transcribe_live(samples, request)
        assert (live.text, live.status) == ("", "no_speech"), name


def test_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["path\ttext"]
    for name, samples in without_speech().items():
        write(tmp_path / f"{name}.wav", samples, RATE)
        rows.append(f"{name}.wav\thello")
    (tmp_path / "manifest.tsv").write_text("\n".join(rows) + "\n")
    for live in ([], ["--live"]):
        out = tmp_path / f"out{len(live)}"
        assert main(["transcribe", str(tmp_path), "--output-dir", str(out), "--format", "json",
                     "--quiet", *live]) == 0  # fmt: skip
        for path in out.iterdir():
            found = json.loads(path.read_text("utf-8"))
            assert (found["status"], found["text"]) == ("no_speech", ""), path.name
        capsys.readouterr()
        assert main(["evaluate", str(tmp_path / "manifest.tsv"), "--json", "-", *live]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["groups"]["all"]["insertions"] == 0
        assert found["groups"]["all"]["deletions"] == 5
    noise = without_speech()["noise"]
    listened = subprocess.run(
        [sys.executable, "-m", "mynah", "listen", "--pcm"],
        input=(noise * 32767).astype("<i2").tobytes(), capture_output=True,
    )  # fmt: skip
    assert (listened.returncode, listened.stdout) == (0, b"")
