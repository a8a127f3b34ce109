"""Runs killed at any moment go on bit for bit; several workers make the steps of one."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from mynah.errors import ConfigError
from mynah.nn.weights import read_weights
from mynah.training.lock import locked
from mynah.training.loop import TrainingError
from mynah.training.run import claim

from .runs import finish, fit, last_bytes, records, start, start_ranks, tiny, wait_for

STEPS = 18


@pytest.fixture(scope="module")
def straight(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbs."""
    out = tmp_path_factory.mktemp("straight") / "run"
    config = tiny(speech, f"loop.max_steps={STEPS}")
    assert finish(start(config, out)) == 0
    return out


def test_killed_at_any_moment(speech: Path, straight: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "run", tiny(speech, f"loop.max_steps={STEPS}")
    folder = out / "checkpoints"

    def steps() -> int:
        return max((int(p.name[5:]) for p in folder.glob("step-*")), default=0)

    def writing() -> bool:
        return steps() >= 7 and any(folder.glob(".writing-*"))

    def removing() -> bool:
        return steps() >= 10 and any(folder.glob(".removing-*"))

    moments = [
        lambda: (out / "recipe.toml").is_file(),
        lambda: steps() >= 4,
        writing,
        removing,
        lambda: len(records(out, "step")) > 0 and records(out, "step")[-1]["step"] >= 14,
    ]
    for moment in moments:
        process = start(config, out)
        wait_for(lambda: moment() or not process.is_alive())  # noqa: B023 - called at once
        assert process.pid is not None
        assert process.is_alive(), "the run was over too soon for this test"
        os.kill(process.pid, signal.SIGKILL)
        assert finish(process) == -signal.SIGKILL
    assert finish(start(config, out)) == 0
    assert last_bytes(out) == last_bytes(straight)
    assert [r["step"] for r in records(out, "step")] == list(range(1, STEPS + 1))
    model = "model/weights.safetensors"
    assert (out / model).read_bytes() == (straight / model).read_bytes()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_two_processes_do_not_train_in_one_folder(speech: Path, tmp_path: Path) -> None:
    config, out = tiny(speech, "loop.max_steps=2"), tmp_path / "run"
    with locked(out):
        assert finish(start(config, out)) != 0
        assert not (out / "recipe.toml").exists()
    assert finish(start(config, out)) == 0


def test_killed_in_bf16_with_a_reader(speech: Path, tmp_path: Path) -> None:
    config = tiny(
        speech, "loop.max_steps=8", "loop.precision=bf16", "data.workers=1",
        "model.encoder.dropout=0.1", "cmvn=none", "data.dev=[]",
    )  # fmt: skip
    straight, out = tmp_path / "straight", tmp_path / "run"
    assert finish(start(config, straight)) == 0
    process = start(config, out)
    wait_for(lambda: (out / "checkpoints" / "step-00000003").is_dir())
    assert process.pid is not None and process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process) == -signal.SIGKILL
    assert finish(start(config, out)) == 0
    assert "going on after step" in records(out, "note")[-1]["text"]
    assert last_bytes(out) == last_bytes(straight)
    assert [r["step"] for r in records(out, "step")] == list(range(1, 9))


def test_sigterm_saves_and_goes_on(speech: Path, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny(speech, f"loop.max_steps={STEPS}", "loop.save_every=0")
    process = start(config, out)
    wait_for(lambda: len(records(out, "step")) >= 5)
    process.terminate()
    assert finish(process) == 130
    stopped = records(out, "step")[-1]["step"]
    assert (out / "checkpoints" / f"step-{stopped:08d}").is_dir()
    assert not (out / "model").exists()
    assert "the same command goes on" in records(out, "note")[-1]["text"]
    assert finish(start(config, out)) == 0
    assert last_bytes(out) == last_bytes(straight)


def test_two_workers_make_the_steps_of_one(speech: Path, tmp_path: Path) -> None:
    # 12 utterances in batches of 1 to 3: the last round is uneven in some epochs
    settings = (
        "loop.max_epochs=3", "loop.max_steps=0", "model.encoder.dropout=0.1",
        "optim.kind=adam", "data.max_frames=500",
    )  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    single = tiny(speech, *settings, "loop.accumulate=2")
    assert finish(start(single, one)) == 0
    for process in start_ranks(tiny(speech, *settings), two, 2):
        assert finish(process) == 0
    mine, other = records(one, "step"), records(two, "step")
    assert len(mine) == len(other) >= 6
    for a, b in zip(mine, other, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    a, b = (read_weights(run / "model" / "weights.safetensors") for run in (one, two))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=1e-6)
    scores = [records(run, "evaluation")[-1]["loss"] for run in (one, two)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_two_workers_stop_together(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny(speech, "loop.max_steps=4000", "loop.save_every=0")
    both = start_ranks(config, out, 2)
    wait_for(lambda: len(records(out, "step")) >= 3)
    both[1].terminate()
    assert [finish(process) for process in both] == [130, 130]
    stopped = records(out, "step")[-1]["step"]
    assert (out / "checkpoints" / f"step-{stopped:08d}" / "optimizer.safetensors").is_file()


def test_a_changed_recipe_is_refused(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    claim(tiny(speech), out)
    (out / "tokenizer").mkdir()
    claim(tiny(speech, "optim.lr=3e-3"), out)  # nothing was trained yet
    assert not (out / "tokenizer").exists()
    claim(tiny(speech), out)
    (out / "checkpoints" / "step-00000001").mkdir(parents=True)
    claim(tiny(speech, "loop.max_steps=9", "loop.log_every=3", "data.workers=1"), out)
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.001 -> 0\.002.*--fresh"):
        claim(tiny(speech, "optim.lr=2e-3"), out)
    claim(tiny(speech, "optim.lr=2e-3"), out, fresh=True)


def test_scores_of_another_measure_are_not_compared(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    each = ("evaluate.every=1", "loop.keep_best=1")
    fit(tiny(speech, *each, "loop.max_steps=2", "evaluate.unit=char"), out)
    old = {r["step"]: r["error_rate"] for r in records(out, "evaluation")}
    fit(tiny(speech, *each, "loop.max_steps=4", "evaluate.unit=word"), out)
    new = {r["step"]: r["error_rate"] for r in records(out, "evaluation") if r["step"] > 2}
    assert set(old) == {1, 2} and set(new) == {3, 4}
    card = (out / "model" / "CARD.md").read_text("utf-8")
    best = min(new, key=lambda step: (new[step], -step))
    assert f"of the steps {best}" in card, "of those by words"


def test_a_damaged_checkpoint_is_named(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(tiny(speech, "loop.max_steps=4", "loop.save_every=2", "loop.keep_last=3"), out)
    last = sorted((out / "checkpoints").glob("step-*"))[-1]
    (last / "model.safetensors").write_bytes(b"nothing")
    again = tiny(speech, "loop.max_steps=6", "loop.save_every=2", "loop.keep_last=3")
    with pytest.raises(TrainingError, match="without this folder the run goes on from step 2"):
        fit(again, out)
    shutil.rmtree(last)
    fit(again, out)
    assert records(out, "step")[-1]["step"] == 6


def test_a_folder_with_something_else_is_refused(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds no run"):
        claim(tiny(speech), tmp_path)
    with pytest.raises(ConfigError, match="holds no run"):
        claim(tiny(speech), tmp_path / "letters.txt")
