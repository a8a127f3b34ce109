"""Whole runs of a tiny recipe, in processes of their own that may be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mynah.config import build, override
from mynah.training.config import TrainConfig
from mynah.training.progress import Record

TINY: dict[str, Any] = {
    "seed": 3,
    "task": {"kind": "ctc_attention"},
    "data": {
        "train": [{"manifest": "manifest.tsv", "where": {"split": "train"}}],
        "dev": [{"manifest": "manifest.tsv", "where": {"split": "dev"}}],
        "text": "lower",
        "max_frames": 700,
    },
    "tokenizer": {"kind": "char"},
    "model": {
        "encoder": {"dim": 16, "heads": 2, "layers": 1, "hidden": 32, "subsampling_channels": 8},
        "decoder": {"layers": 1, "reverse_layers": 1, "heads": 2, "hidden": 32},
    },
    "loop": {"max_steps": 4, "log_every": 1, "save_every": 1, "tensorboard": False},
    "schedule": {"warmup": 10},
}

_FRESH = multiprocessing.get_context("forkserver")
_FRESH.set_forkserver_preload(["mynah.training.run", "mynah.models.u2.model", "mynah.cli.train"])


def tiny(speech: Path, *assignments: str) -> TrainConfig:
    """The tiny recipe on the committed speech."""
    return build(TrainConfig, override(TINY, [f"data.root={speech}", *assignments]))


def on_prose(
    recipe: Mapping[str, Any], repository: Path, assignments: Iterable[str], language: str = "en"
) -> TrainConfig:
    """``recipe``, of a task that learns from text, on the committed prose."""
    text = [{"manifest": f"{language}.txt"}]
    root = str(repository / "tests" / "data" / "prose")
    data = {**recipe["data"], "root": root, "train": text, "dev": text}
    return build(TrainConfig, override({**recipe, "data": data}, assignments))


def fit(config: TrainConfig, out: Path) -> list[Record]:
    """Train in this process; what was reported on the way."""
    import torch

    from mynah.training.run import train

    said: list[Record] = []
    torch.set_num_threads(1)
    assert train(config, out, device="cpu", report=said.append)
    return said


def start(
    config: TrainConfig, out: Path, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """Train in another process; its exit code is 0 when done, 130 when stopped."""
    process = _FRESH.Process(target=_train, args=(config, out, dict(environment or {})))
    process.start()
    return process


def _train(config: TrainConfig, out: Path, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    from mynah.training.run import train

    raise SystemExit(0 if train(config, out, device="cpu", threads=1) else 130)


def finish(process: BaseProcess, seconds: float = 120) -> int | None:
    """Wait for a process and give its exit code."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        raise AssertionError("the run hangs")
    return process.exitcode


def start_ranks(config: TrainConfig, out: Path, world: int) -> list[BaseProcess]:
    """Train in ``world`` processes that gloo connects, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(config, out, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(world)
    ]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.001)


def records(out: Path, event: str) -> list[dict[str, Any]]:
    """The records of one kind in the run's log; a half-written last line is left out."""
    path = out / "log.jsonl"
    lines = path.read_text("utf-8").split("\n")[:-1] if path.is_file() else []
    return [r for r in map(json.loads, lines) if r["event"] == event]


def last_bytes(out: Path) -> dict[str, bytes]:
    """The tensors of the newest checkpoint, as they lie on the disk."""
    newest = max((out / "checkpoints").glob("step-*"))
    return {p.name: p.read_bytes() for p in newest.glob("*.safetensors")}
