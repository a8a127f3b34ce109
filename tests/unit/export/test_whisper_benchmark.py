"""The benchmark for GPUs: it runs where it is told to, and says where there is none."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def benchmark(repository: Path) -> Any:
    path = repository / "benchmarks" / "whisper_gpu.py"
    spec = importlib.util.spec_from_file_location("whisper_gpu", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch sees no GPU here") as stopped:
        benchmark.main([])
    assert "\n" not in str(stopped.value)


def test_it_runs_on_a_cpu_and_leaves_out_what_fails(
    benchmark: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "ctranslate2.py").write_text("raise ImportError('is broken')")
    path = [str(tmp_path), *sys.path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    benchmark.main(
        ["--shape", "test", "--device", "cpu", "--batch", "2", "--tokens", "2", "--repeats", "1",
         "--parts", "ours", "ctranslate2", "--out", str(tmp_path / "out")]
    )  # fmt: skip
    said = capfd.readouterr()
    assert "ctranslate2: failed (1)" in said.out and "is broken" in said.err
    lines = (tmp_path / "out" / "whisper_gpu.json").read_text().splitlines()
    found = {line["what"]: line for line in map(json.loads, lines)}
    assert list(found) == ["encoder", "total, beam 1", "total, beam 5"]
    assert all(line["s"] > 0 and line["batch"] == 2 for line in found.values())
    assert len(found["total, beam 5"]["said"]) == 2


def test_ours_is_compared_with_each_peer(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = {"batch": 1, "what": "total, beam 1"}
    lines = [
        {"system": "ours", "s": 1.0, "said": [1, 2, 3], **shared},
        {"system": "ctranslate2", "s": 2.5, "said": [1, 2, 4], **shared},
        {"system": "ctranslate2", "batch": 1, "what": "encoder", "s": 2.0},  # of which we know not
    ]
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, lines)))
    args = argparse.Namespace(work=tmp_path, shape="turbo", precision="fp16")
    benchmark.compare(args, "a GPU")
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["ratio"] == 2.5 and line["equal_from_start"] == 2


def test_the_check_finds_what_is_equal(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    args = argparse.Namespace(work=tmp_path, out=None, device="cpu")
    benchmark.check(args)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5 and all("100.00 % of tokens equal" in line for line in said)
