"""The task ``punctuation``: it learns, goes on where it stopped, and its graph says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from mynah.errors import ConfigError, InputError, MynahError  # noqa: E402
from mynah.model_folder import read_model_folder  # noqa: E402
from mynah.training.config import TrainConfig  # noqa: E402

from .runs import fit, last_bytes, on_prose  # noqa: E402

TINY: dict[str, Any] = {
    "seed": 3,
    "task": {"kind": "punctuation", "language": "en", "length": 24},
    "model": {
        "features": {"word": 300, "again": 300, "suffix": 100}, "feature_dim": 8, "dim": 32,
        "layers": 2, "hidden": 48, "kernel": 5,
    },
    "data": {"max_frames": 240},
    "optim": {"lr": 5e-3},
    "schedule": {"warmup": 5},
    "loop": {"max_steps": 4, "log_every": 1, "save_every": 2, "tensorboard": False,
             "divide_by": "tokens"},
    "card": {"name": "tiny", "license": "none"},
}  # fmt: skip


def tiny(repository: Path, *assignments: str, language: str = "en") -> TrainConfig:
    return on_prose(TINY, repository, assignments, language)


def test_it_learns(repository: Path, tmp_path: Path) -> None:
    config = tiny(repository, "loop.max_steps=200", "optim.lr=1e-2", "task.errors.substitute=0.0",
                  "task.errors.delete=0.0", "task.errors.insert=0.0")  # fmt: skip
    said = fit(config, tmp_path / "run")
    losses = [r["loss"] for r in said if r["event"] == "step"]
    assert losses[0] > 1.5 and np.mean(losses[-10:]) < 0.1
    info = read_model_folder(tmp_path / "run" / "model").info
    assert info.family == "punctuation" and info.languages == ("en",) and info.sample_rate == 0
    assert info.results["dev F1 ."] > 0.95 and info.results["dev F1"] > 0.95
    assert info.results["dev case_error"] < 0.02


def test_it_goes_on_bit_for_bit(repository: Path, tmp_path: Path) -> None:
    fit(tiny(repository, "loop.max_steps=6"), tmp_path / "whole")
    fit(tiny(repository, "loop.max_steps=3"), tmp_path / "parts")
    fit(tiny(repository, "loop.max_steps=6"), tmp_path / "parts")
    assert last_bytes(tmp_path / "whole") == last_bytes(tmp_path / "parts")


def test_the_graph_says_what_the_model_says(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from mynah.export.folder import export_folder
    from mynah.models.load import load_model
    from mynah.runtime.punctuator import Punctuator
    from mynah.text.punctuation import feature_rows, hash_units

    fit(tiny(repository, "loop.max_steps=30", language="zh"), tmp_path / "run")
    source = read_model_folder(tmp_path / "run" / "model")
    written = export_folder(source, tmp_path / "model")
    assert [graph.name for graph in written] == ["punctuation.fp32.onnx", "punctuation.int8.onnx"]
    assert written[1].bytes < written[0].bytes
    folder = read_model_folder(tmp_path / "model")
    folder.verify()
    units = list("每天早上有一只八哥站在我们家的屋顶上说话") * 3
    model = load_model(source)
    with torch.no_grad():
        rows = torch.from_numpy(feature_rows(hash_units(units), model.config.features))[None]
        expected = [x[0].numpy() for x in model(rows, torch.tensor([len(units)]))]
    exact, small = (Punctuator(folder, precision=p) for p in ("fp32", "int8"))
    assert (exact.look_back, exact.look_ahead) == (5, 4)
    for a, b, c in zip(expected, exact.log_probs(units), small.log_probs(units), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
        np.testing.assert_allclose(a, c, rtol=0, atol=0.3)
    narrow = Punctuator(folder, precision="int8", window=1)
    for a, b in zip(small.log_probs(units), narrow.log_probs(units), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("assignment", "error", "message"),
    [
        ("task.lenght=3", ConfigError, r"task\.lenght: unknown key \(did you mean 'length'\?\)"),
        ("task.errors.delete=2.0", ConfigError, r"errors\.delete: must be from 0 to 1, got 2"),
        ("task.length=4", ConfigError, r"task\.length: must be from 8 to data\.max_frames"),
        ("task.case_weight=-1", ConfigError, "case_weight: must not be negative"),
        ("model.kernel=4", ConfigError, "model: kernel: 4 must be odd"),
        ("model.features.words=4", ConfigError, "features: 'words' is none of"),
        ("init=mynah-en", ConfigError, "init: the task punctuation has none; leave it out"),
        ("tokenizer.kind=char", ConfigError, "tokenizer: the task punctuation has none"),
        ("data.train=[]", ConfigError, r"data\.train: lists no text"),
        ("data.train.0.manifest=no.txt", InputError, "the set 'no.txt' is not under"),
    ],
)
def test_wrong_recipes_get_one_line(
    repository: Path, tmp_path: Path, assignment: str, error: type[MynahError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        fit(tiny(repository, assignment), tmp_path / "run")
    assert "\n" not in str(caught.value)
