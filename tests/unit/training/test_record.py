"""What a run leaves beside its model: the log, TensorBoard; in which precision it measures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mynah.training.loop import Trainer
from mynah.training.progress import Recorder
from mynah.training.run import train

from .runs import records, tiny


def test_a_log_is_cut_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.jsonl"
    text = "".join(f'{{"event": "step", "step": {n}}}\n' for n in range(1, 5))
    log.write_text(text + '{"event": "st', "utf-8")

    def killed(*paths: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Recorder(tmp_path, lambda record: None, step=2, tensorboard=False)
    assert log.read_text("utf-8").startswith(text)
    Recorder(tmp_path, lambda record: None, step=2, tensorboard=False).close()
    assert [r["step"] for r in records(tmp_path, "step")] == [1, 2]


def test_tensorboard_and_the_precision_of_every_evaluation(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, seen, evaluate = settings.fp32_precision, [], Trainer.evaluate

    def watched(trainer: Trainer) -> dict[str, float]:
        seen.append(settings.fp32_precision)
        return evaluate(trainer)

    monkeypatch.setattr(Trainer, "evaluate", watched)
    config = tiny(
        speech, "loop.max_steps=2", "loop.tensorboard=true", "loop.precision=bf16", "cmvn=none"
    )
    assert train(config, tmp_path, device="cpu", report=lambda record: None)
    assert len(seen) >= 2 and set(seen) == {"bf16"}, "the last is that of the mean"
    assert settings.fp32_precision == before

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    board = EventAccumulator(str(file))
    board.Reload()
    losses = [(e.step, e.value) for e in board.Scalars("step/loss")]
    expected = [(r["step"], pytest.approx(r["loss"], rel=1e-6)) for r in records(tmp_path, "step")]
    assert losses == expected and len(losses) == 2
