"""The small parts: schedules, seeds, chunks, checkpoints' keeping, the log, wrong values."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from mynah.config import build
from mynah.data.loader import Batch
from mynah.errors import ConfigError
from mynah.training.checkpoint import CheckpointFolder, Progress
from mynah.training.config import OptimConfig, ScheduleConfig
from mynah.training.distributed import choose_device
from mynah.training.loop import move_batch
from mynah.training.optimisation import (
    apply_gradients,
    load_optimizer_tensors,
    make_optimizer,
    mix,
    optimizer_tensors,
)
from mynah.training.progress import Recorder, format_record, format_seconds
from mynah.training.schedule import learning_rate
from mynah.training.task import Place
from mynah.training.tasks.ctc_attention import Chunk, Options, draw_chunk


def rate(step: int, total: int = 0, lr: float = 1.0, **values: object) -> float:
    return learning_rate(OptimConfig(lr=lr), build(ScheduleConfig, values), step, total)


def test_warmup_peaks_at_the_given_rate_and_falls_by_the_root() -> None:
    assert rate(50, warmup=100) == pytest.approx(0.5)
    assert rate(100, warmup=100) == pytest.approx(1.0)
    assert rate(400, warmup=100) == pytest.approx(0.5)
    assert rate(4, warmup=0) == pytest.approx(0.5)


def test_noam_is_the_formula_of_the_paper() -> None:
    for step in (1, 3999, 4000, 4001, 100000):
        expected = 256**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert rate(step, kind="noam", warmup=4000, width=256) == pytest.approx(expected)


def test_cosine_rises_and_falls_to_the_floor() -> None:
    def at(step: int) -> float:
        return rate(step, 110, kind="cosine", warmup=10, floor=0.1)

    assert at(5) == pytest.approx(0.5)
    assert at(10) == pytest.approx(1.0)
    assert at(60) == pytest.approx(0.1 + 0.9 * 0.5)
    assert at(110) == at(500) == pytest.approx(0.1)


def test_constant_after_its_warmup() -> None:
    assert [rate(s, kind="constant", warmup=4) for s in (1, 4, 99)] == [0.25, 1.0, 1.0]


def test_seeds_depend_on_every_argument() -> None:
    seeds = {mix(1, "a", 2), mix(1, "a", 3), mix(2, "a", 2), mix(1, "b", 2), mix(1, "a", 2, 0)}
    assert len(seeds) == 5 and mix(1, "a", 2) == mix(1, "a", 2)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_chunks_are_of_the_step_alone_and_cover_the_range() -> None:
    options = Options(max_chunk=25, dynamic_chunk=True)
    drawn = [draw_chunk(options, Place(1, step, 0), 100) for step in range(1, 2001)]
    assert drawn[:50] == [draw_chunk(options, Place(1, s, 7), 60) for s in range(1, 51)]
    assert drawn[:50] != [draw_chunk(options, Place(2, s, 0), 100) for s in range(1, 51)]
    full = sum(chunk == Chunk() for chunk in drawn)
    assert 900 < full < 1100
    assert {chunk.size for chunk in drawn} == {None, *range(1, 26)}
    assert {chunk.left for chunk in drawn} == {None}


def test_left_context_is_a_share_of_what_there_is() -> None:
    options = Options(dynamic_chunk=True, dynamic_left=True, full_context=0.0)
    for step in range(1, 200):
        chunk = draw_chunk(options, Place(1, step, 0), 60)
        assert chunk.size is not None and chunk.left is not None
        assert 0 <= chunk.left < max((60 - 1) // chunk.size, 1)
    assert draw_chunk(Options(dynamic_chunk=False), Place(1, 1, 0), 60) == Chunk()


def test_the_step_divides_and_clips_as_torch_does() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(one.state_dict())
    x = torch.randn(8, 5)
    optim = OptimConfig(lr=0.1, clip=0.01, weight_decay=0.1)
    mine = make_optimizer(optim, one.named_parameters())
    groups = [
        {"params": [other.weight], "weight_decay": 0.1},
        {"params": [other.bias], "weight_decay": 0.0},
    ]
    plain = torch.optim.AdamW(groups, lr=0.1, betas=optim.betas, eps=optim.eps)
    for _ in range(3):
        one(x).square().sum().backward()
        norm, taken = apply_gradients(mine, count=8.0, clip=optim.clip, rate=0.1)
        mine.zero_grad()
        (other(x).square().sum() / 8).backward()
        expected = torch.nn.utils.clip_grad_norm_(other.parameters(), optim.clip)
        plain.step()
        plain.zero_grad()
        assert taken and norm == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(one.weight, other.weight)
    torch.testing.assert_close(one.bias, other.bias)


def test_the_optimisers_state_comes_back_whole() -> None:
    model = nn.Linear(4, 4)
    names = {p: n for n, p in model.named_parameters()}
    first = make_optimizer(OptimConfig(), model.named_parameters())
    model(torch.randn(2, 4)).sum().backward()
    first.step()
    tensors = optimizer_tensors(first, names)
    assert {"weight/exp_avg", "weight/exp_avg_sq", "weight/step"} <= tensors.keys()
    second = make_optimizer(OptimConfig(), model.named_parameters())
    load_optimizer_tensors(second, names, tensors)
    back = optimizer_tensors(second, names)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], value) for key, value in tensors.items())


def test_checkpoints_that_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    for step, score in ((1, 0.5), (2, 0.2), (3, 0.9), (4, None), (5, 0.2), (6, 0.8)):
        made = folder.write(Progress(step=step), {"w": torch.tensor([step])}, {})
        if score is not None:
            made.write_scores({"rate": score})
    assert [c.step for c in folder.best(3, "rate")] == [5, 2, 1]
    folder.prune(2, 2, "rate")
    assert [(c.step, c.resumable) for c in folder.all()] == [(2, False), (5, True), (6, True)]
    latest = folder.latest()
    assert latest is not None and latest.progress().step == 6
    assert latest.model()["w"].item() == 6
    (folder.path / ".writing-step-00000007-1").mkdir()
    folder.clean()
    assert not list(folder.path.glob(".*"))


def test_a_checkpoint_that_is_there_stays(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.write(Progress(step=3), {"w": torch.zeros(1)}, {})
    folder.write(Progress(step=3), {"w": torch.ones(1)}, {})
    assert folder.all()[0].model()["w"].item() == 0


def test_the_log_forgets_what_was_not_saved(tmp_path: Path) -> None:
    said: list[dict[str, object]] = []
    recorder = Recorder(tmp_path, said.append, step=0, tensorboard=False)
    for step in (1, 2, 3):
        recorder({"event": "step", "step": step, "loss": math.inf})
    recorder.close()
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"event": "st')
    Recorder(tmp_path, said.append, step=2, tensorboard=False).close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[0]["loss"] == "inf", "JSON has no infinity"
    assert len(said) == 3


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recorder = Recorder(tmp_path, lambda record: None, step=0, tensorboard=True)
    recorder({"event": "step", "step": 1, "loss": 2.0})
    recorder.close()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_lines_for_people() -> None:
    record = {
        "event": "step", "step": 20, "epoch": 1.5, "loss": 3.21, "loss/ctc": 4.0, "norm": 1.0,
        "lr": 1e-3, "utterances_per_second": 12.3, "audio_seconds_per_second": 45.0, "skipped": 2,
        "remaining": 4000.0,
    }  # fmt: skip
    assert format_record(record) == (
        "step 20  epoch 1.50  loss 3.21  ctc 4  norm 1  lr 0.001  12.3 utt/s  45 s/s  2 skipped  "
        "1 h 6 min left"
    )
    evaluation = {"event": "evaluation", "step": 9, "error_rate": 0.256, "loss": 3.0,
                  "best": True, "seconds": 2.2}  # fmt: skip
    assert format_record(evaluation) == (
        "dev after step 9: 25.60 % errors, loss 3, the best so far (2 s)"
    )
    assert [format_seconds(s) for s in (5, 600, 90000)] == ["5 s", "10 min", "1 d 1 h"]


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("cuda:x", "gpu", "cuda:99"):
        with pytest.raises(ConfigError, match="device"):
            choose_device(name)


def test_a_batch_that_moves_keeps_what_it_is() -> None:
    ones = torch.ones(2, dtype=torch.int64)
    batch = Batch(("a", "a"), torch.ones(2, 3, 4), ones * 3, torch.ones(2, 1), ones, ("x", "x"),
                  labels=torch.ones(2, 3), views=2)  # fmt: skip
    moved = move_batch(batch, torch.device("meta"))
    for field in dataclasses.fields(Batch):
        before, after = getattr(batch, field.name), getattr(moved, field.name)
        if isinstance(before, torch.Tensor):
            assert after.device.type == "meta" and after.shape == before.shape
        else:
            assert after == before, field.name
