"""The loop: one division, resuming, the guard, what is kept."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mynah.data.loader import Batch
from mynah.errors import ConfigError
from mynah.training import progress
from mynah.training.checkpoint import CheckpointFolder, average
from mynah.training.distributed import Workers
from mynah.training.loop import TrainingError
from mynah.training.progress import Record

from .toy import make_batch, make_trainer, recipe, weights


def batches(count: int = 4) -> list[Batch | None]:
    return [make_batch(2 * n, 2 * n + 1, 7 * n + 3) for n in range(count)]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_loss_falls(tmp_path: Path) -> None:
    seen: list[Record] = []
    config = recipe(loop={"max_steps": 60})
    assert make_trainer(config, tmp_path, batches(), report=seen.append).fit()
    losses = [r["loss"] for r in seen if r["event"] == "step"]
    assert losses[-1] < 0.5 * losses[0]
    assert [r["step"] for r in seen] == list(range(1, 61))
    assert seen[0]["remaining"] > 0 and seen[-1]["remaining"] == 0


@pytest.mark.parametrize("divide_by", ["utterances", "tokens", "frames"])
def test_accumulated_batches_make_the_step_of_one_big_batch(tmp_path: Path, divide_by: str) -> None:
    parts = [make_batch(0, 1), make_batch(2, 3, 4), make_batch(5), make_batch(6, 7)]
    whole = make_batch(0, 1, 2, 3, 4, 5, 6, 7)
    loop = {"max_steps": 5, "divide_by": divide_by}
    small = make_trainer(recipe(loop={**loop, "accumulate": 4}), tmp_path / "small", [*parts])
    large = make_trainer(recipe(loop=loop), tmp_path / "large", [whole])
    assert small.fit() and large.fit()
    for name, value in weights(small).items():
        torch.testing.assert_close(value, weights(large)[name], rtol=0, atol=1e-6)
    # and a mean of means would not be the same
    assert len({len(p.ids) for p in parts}) > 1


def test_accumulation_in_bf16_casts_the_weights_once(tmp_path: Path) -> None:
    loop = {"max_steps": 1, "accumulate": 4, "precision": "bf16"}
    trainer = make_trainer(recipe(loop=loop), tmp_path, [])
    start = weights(trainer)
    with torch.profiler.profile(record_shapes=True) as profile:
        trainer._step(batches(4))
    assert not equal(start, weights(trainer))
    copies = [e for e in profile.events() or () if e.name == "aten::_to_copy"]
    casts = sum(list(e.input_shapes[0]) == [4, 3] for e in copies)
    assert casts == 1 + 4, "the weight once, its gradient once a batch"


def test_an_epoch_that_accumulation_does_not_divide_ends_with_a_shorter_step(
    tmp_path: Path,
) -> None:
    config = recipe(loop={"max_steps": 0, "max_epochs": 2, "accumulate": 3})
    trainer = make_trainer(config, tmp_path, batches(4))
    trainer.fit()
    assert trainer.progress.step == 4
    assert trainer.progress.utterances == 2 * 4 * 3
    assert (trainer.progress.epoch, trainer.progress.round) == (2, 0)


def test_resuming_is_bit_for_bit(tmp_path: Path) -> None:
    loop = {"max_steps": 11, "accumulate": 2}
    straight = make_trainer(recipe(loop=loop), tmp_path / "a", batches(5), dropout=0.3)
    straight.fit()
    for stop in (3, 4, 8, 11):
        broken = make_trainer(
            recipe(loop={**loop, "max_steps": stop}), tmp_path / "b", batches(5), dropout=0.3
        )
        broken.resume()
        torch.manual_seed(stop)  # the global generator must not matter
        broken.fit()
    assert equal(weights(straight), weights(broken))
    first, second = (CheckpointFolder(tmp_path / n / "checkpoints").latest() for n in "ab")
    assert first is not None and second is not None
    assert equal(first.optimizer(), second.optimizer())
    assert first.progress().round == second.progress().round


def test_a_run_may_last_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # a second passes whenever it is looked at
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(clock)))
    seen: list[Record] = []
    config = recipe(
        loop={"max_steps": 0, "max_minutes": 1.0, "save_every": 7},
        schedule={"kind": "cosine", "warmup": 2},
    )
    trainer = make_trainer(config, tmp_path, batches(), report=seen.append)
    assert trainer.fit() and trainer.progress.finished
    steps = [r for r in seen if r["event"] == "step"]
    assert 5 < len(steps) < 60
    rates = [r["lr"] for r in steps[2:]]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.05 * rates[0]
    left = [r["remaining"] for r in steps]
    assert left == sorted(left, reverse=True) and left[-1] == 0
    # a run that was stopped has what is left of its time
    halves = []
    for stop in (len(steps) // 2, 0):
        loop = {"max_steps": stop, "max_minutes": 1.0}
        part = make_trainer(recipe(loop=loop), tmp_path / "b", batches())
        part.resume()
        part.fit()
        halves.append(part.progress.step)
    assert halves[0] == len(steps) // 2 and abs(halves[1] - len(steps)) < 0.3 * len(steps)
    again = make_trainer(config, tmp_path, batches())  # a run whose time is over stays so
    again.resume()
    assert again.fit() and again.progress.step == len(steps)
    with pytest.raises(ConfigError, match="max_minutes"):
        recipe(loop={"max_steps": 0})


def test_sigterm_saves_at_the_end_of_the_step(tmp_path: Path) -> None:
    trainer = make_trainer(recipe(loop={"max_steps": 100}), tmp_path, batches())

    def interrupt(record: Record) -> None:
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.report = interrupt
    before = signal.getsignal(signal.SIGTERM)
    assert trainer.fit() is False
    assert signal.getsignal(signal.SIGTERM) is before
    latest = trainer.checkpoints.latest()
    assert latest is not None
    assert latest.step == trainer.progress.step == 4
    assert equal(latest.model(), weights(trainer))


def test_a_gradient_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    poisoned: list[Batch | None] = [
        *batches(2),
        make_batch(1, 2, poison=float("nan")),
        make_batch(9),
    ]
    trainer = make_trainer(recipe(loop={"max_steps": 4}), tmp_path, poisoned)
    trainer.fit()
    assert trainer.progress.skipped == 1 and trainer.progress.bad_in_row == 0
    assert all(torch.isfinite(v).all() for v in weights(trainer).values())
    assert all(
        torch.isfinite(v).all()
        for state in trainer.optimizers["main"].state.values()
        for v in state.values()
    )


def test_too_many_in_a_row_stop_the_run(tmp_path: Path) -> None:
    bad: list[Batch | None] = [make_batch(1, poison=float("inf"))]
    trainer = make_trainer(recipe(optim={"max_bad_steps": 3}), tmp_path, bad)
    with pytest.raises(TrainingError, match="not finite in 3 steps in a row, up to step 3"):
        trainer.fit()


def test_rounds_without_data_leave_the_weights_alone(tmp_path: Path) -> None:
    trainer = make_trainer(recipe(loop={"max_steps": 2}), tmp_path, [None, None])
    start = weights(trainer)
    trainer.fit()
    assert equal(start, weights(trainer))


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no usable utterance"):
        make_trainer(recipe(), tmp_path, []).fit()


def test_the_best_checkpoints_are_kept_and_averaged(tmp_path: Path) -> None:
    seen: list[Record] = []
    config = recipe(
        loop={"max_steps": 8, "keep_best": 2, "keep_last": 1},
        evaluate={"every": 2},
        optim={"lr": 0.05},
    )
    dev: list[Batch | None] = [make_batch(50, 51), None, make_batch(52)]
    trainer = make_trainer(config, tmp_path, batches(), dev=dev, report=seen.append)
    trainer.fit()
    scores = {r["step"]: r["square"] for r in seen if r["event"] == "evaluation"}
    assert list(scores) == [2, 4, 6, 8]
    best = trainer.checkpoints.best(2, "square")
    assert [c.step for c in best] == sorted(scores, key=lambda s: scores[s])[:2]
    assert {c.step for c in trainer.checkpoints.all()} == {8, *(c.step for c in best)}
    assert [c.step for c in trainer.checkpoints.all() if c.resumable] == [8]
    mean = average(best)
    one, two = (c.model() for c in best)
    for key, value in mean.items():
        torch.testing.assert_close(value, (one[key] + two[key]) / 2)


def test_an_evaluation_that_a_kill_prevented_is_made_up_for(tmp_path: Path) -> None:
    config = recipe(loop={"max_steps": 2})
    make_trainer(config, tmp_path, batches(), dev=batches(1)).fit()
    (tmp_path / "checkpoints" / "step-00000002" / "scores.json").unlink()
    seen: list[Record] = []
    again = make_trainer(config, tmp_path, batches(), dev=batches(1), report=seen.append)
    again.resume()
    again.fit()
    assert [r["event"] for r in seen] == ["evaluation"]


def test_frozen_parts_stay(tmp_path: Path) -> None:
    trainer = make_trainer(recipe(), tmp_path / "x", batches())
    task = trainer.task
    task.model[0].requires_grad_(False)  # type: ignore[index]
    config = recipe()
    from mynah.training.loop import Trainer

    again = Trainer(
        config, task, trainer.train, None, trainer.workers, tmp_path / "y", lambda record: None
    )
    start = weights(again)
    again.fit()
    end = weights(again)
    assert torch.equal(start["0.weight"], end["0.weight"])
    assert not torch.equal(start["2.weight"], end["2.weight"])


def test_another_number_of_workers_cannot_go_on(tmp_path: Path) -> None:
    config = recipe(loop={"max_steps": 1})
    make_trainer(config, tmp_path, batches()).fit()
    state = tmp_path / "checkpoints" / "step-00000001" / "state.json"
    state.write_text(state.read_text().replace('"world": 1', '"world": 2'))
    with pytest.raises(TrainingError, match="2 workers, now there are 1"):
        make_trainer(config, tmp_path, batches()).resume()


class OneOfTwo(Workers):
    """A worker beside another that sees a checkpoint of step 7."""

    def sum_numbers(self, values: Sequence[float]) -> list[float]:
        return [value + 7.0**power for power, value in enumerate(values, 1)]


def test_workers_that_see_different_checkpoints_do_not_start(tmp_path: Path) -> None:
    trainer = make_trainer(recipe(loop={"max_steps": 1}), tmp_path, batches())
    trainer.workers = OneOfTwo(0, 2, torch.device("cpu"))
    assert trainer.workers.agree(7) and not trainer.workers.agree(8)
    with pytest.raises(TrainingError, match="a file system that all machines share"):
        trainer.resume()
