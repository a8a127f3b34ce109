"""Every recipe is built, and trained for two steps on as much of its data as is here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mynah.config import build, override, read_toml

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
# model.toml is that of a model folder
RECIPES = sorted(p for p in (ROOT / "recipes").rglob("*.toml") if p.name != "model.toml")
TINY = """
seed = 3
[task]
kind = "ctc_attention"
[data]
train = [{ manifest = "manifest.tsv", where = { split = "train" } }]
dev = [{ manifest = "manifest.tsv", where = { split = "dev" } }]
text = "lower"
max_frames = 900
[tokenizer]
kind = "char"
[model.encoder]
dim = 16
heads = 2
layers = 1
hidden = 32
subsampling_channels = 8
[model.decoder]
layers = 1
reverse_layers = 1
heads = 2
hidden = 32
[loop]
max_steps = 2
log_every = 1
tensorboard = false
"""


def mynah(*arguments: str, launcher: tuple[str, ...] = ("-m", "mynah")) -> tuple[int, str, str]:
    """Run the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, *launcher, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        timeout=240,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_two_steps_by_the_command_line(recipe: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ("train", str(recipe), "--out", str(out), f"data.root={speech}", "optim.lr=5e-4")
    code, said, errors = mynah(*command, "--threads", "1", "--device", "cpu")
    assert (code, errors) == (0, "")
    assert "step 2  epoch" in said and "utt/s" in said and "% errors" in said
    assert "model: written after 2 steps" in said
    assert read_toml(out / "recipe.toml")["optim"]["lr"] == 5e-4
    code, said, errors = mynah(*command, "optim.lr=1e-4")
    assert code == 2 and said == ""
    assert "optim.lr: 0.0005 -> 0.0001" in errors and errors.count("\n") == 1


def test_by_torchrun(recipe: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    code, said, errors = mynah(
        "train", str(recipe), "--out", str(out), f"data.root={speech}", "--device", "cpu",
        launcher=(*launcher, "-m", "mynah"),
    )  # fmt: skip
    assert code == 0, errors
    assert "on 2 x cpu" in said
    assert said.count("step 1  epoch") == 1, "only one worker talks"
    assert (out / "model" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("optim.lrr=1",), "optim.lrr: unknown key (did you mean 'lr'?)"),
        (("optim.kind=adamv",), "optim.kind: 'adamv' is none of 'adamw', 'adam'"),
        (("optim",), "optim: expected key=value"),
        (("--device", "cuda:9"), "device: cuda:9 asked for, but torch sees"),
        (("--device", "tpu"), "device: 'tpu' is none of auto, cpu, cuda, cuda:N"),
        (("--threads", "-1"), "--threads: must not be negative"),
    ],
)
def test_wrong_arguments(
    recipe: Path,
    speech: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mynah.cli import main

    out = tmp_path / "run"
    command = ["train", str(recipe), f"data.root={speech}", "--out", str(out), *arguments]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and said.err.count("\n") == 1
    assert not (out / "checkpoints").exists()


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_recipe_can_be_built(path: Path) -> None:
    from mynah.training.config import TrainConfig, read_recipe, recipe_values

    config = read_recipe(path)
    assert build(TrainConfig, recipe_values(config)) == config


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_recipe_of_a_corpus_says_what_it_gave(path: Path) -> None:
    assert path.parent.name == "own" or path.with_name("RESULTS.md").is_file()


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_recipe_takes_two_steps(path: Path, tmp_path: Path, request: Any) -> None:
    """On a few utterances of each of its sets; a set that is made by a command is left out."""
    from mynah.training.config import TrainConfig
    from mynah.training.run import train

    values = read_toml(path)
    if values.get("init") or not values.get("model"):
        pytest.skip("starts from a model; tested with one in test_finetune.py")
    tokenizer = values.get("tokenizer", {})
    if values["task"]["kind"] == "ctc_attention" and tokenizer.get("kind", "phone") == "phone":
        pytest.skip("needs a dictionary and the run before it; tested in test_english.py")
    root = request.getfixturevalue("shared") / "data"
    data = values["data"]
    for which in ("train", "dev"):
        data[which] = [{**s, "limit": 24} for s in data[which] if _is_here(root, s["manifest"])]
    assert data["train"] and data["dev"]
    for extra in ("noise", "reverb"):
        if extra in data and not _is_here(root, data[extra]["manifest"]):
            del data[extra]
    settings = [
        f"data.root={root}", "data.max_items=2", "loop.max_steps=2", "evaluate.max_batches=2",
        "loop.tensorboard=false", "cmvn_utterances=8",
    ]  # fmt: skip
    config = build(TrainConfig, override(values, settings))
    assert train(config, tmp_path / "run", device="cpu", threads=1)
    assert (tmp_path / "run" / "model" / "model.toml").is_file()


def _is_here(root: Path, manifest: str) -> bool:
    return (root / manifest).exists()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
