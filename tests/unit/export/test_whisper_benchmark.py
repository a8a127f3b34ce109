"""The benchmark for GPUs: it runs where it is told to, and says where there is none."""

from __future__ import annotations

import importlib.util
import json
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


def test_tiny_shapes_on_a_cpu(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = benchmark.WhisperDims(80, 20, 32, 1, 1, 51_866, 16, 32, 1, 1)
    monkeypatch.setitem(benchmark.SHAPES, "test", small)
    monkeypatch.setattr(benchmark, "PEERS", {"torch": lambda m, d, p: benchmark.ours(m, d, p)})
    command = "--shape test --device cpu --batch 1 3 --tokens 4 --repeats 1 --peers torch"
    benchmark.main(command.split())
    said = capsys.readouterr().out
    assert said.count("100 % of the tokens as ours") == 4
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [line["name"].split(",")[2] for line in lines] == [" batch 1", " batch 3"]
    assert all(line["ratio"] > 0 for line in lines)
