"""The task ``lm``: it learns, goes on where it stopped, and its graph says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")

from mynah.errors import ConfigError, InputError, MynahError  # noqa: E402
from mynah.model_folder import read_model_folder  # noqa: E402
from mynah.training.config import TrainConfig  # noqa: E402

from .runs import fit, last_bytes, on_prose  # noqa: E402

TINY: dict[str, Any] = {
    "seed": 3,
    "task": {"kind": "lm", "longest": 60, "cut": 0.2, "tokenizer_every": 1},
    "tokenizer": {"kind": "bpe", "vocab_size": 120, "language": "en"},
    "model": {"dim": 32, "heads": 2, "layers": 2, "hidden": 48, "context": 20},
    "data": {"max_frames": 400},
    "optim": {"lr": 5e-3},
    "schedule": {"warmup": 5},
    "loop": {"max_steps": 4, "log_every": 1, "save_every": 2, "tensorboard": False,
             "divide_by": "tokens"},
    "card": {"name": "tiny", "license": "none"},
}  # fmt: skip


def tiny(repository: Path, *assignments: str) -> TrainConfig:
    return on_prose(TINY, repository, assignments)


@pytest.fixture(scope="module")
def learned(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows its text by heart."""
    out = tmp_path_factory.mktemp("lm") / "run"
    fit(tiny(repository, "loop.max_steps=250", "optim.lr=1e-2", "task.cut=0.0"), out)
    return out


def test_it_learns(learned: Path) -> None:
    info = read_model_folder(learned / "model").info
    assert info.family == "lm" and info.sample_rate == 0
    assert info.results["dev loss"] < 0.8 and info.results["dev perplexity"] < 5.0
    assert info.tokenizer["kind"] == "bpe" and info.config["vocab_size"] <= 120


def test_it_goes_on_bit_for_bit(repository: Path, tmp_path: Path) -> None:
    prepared = f"task.prepared={tmp_path / 'prepared'}"
    fit(tiny(repository, "loop.max_steps=6"), tmp_path / "whole")
    fit(tiny(repository, "loop.max_steps=3", prepared), tmp_path / "parts")
    fit(tiny(repository, "loop.max_steps=6", prepared), tmp_path / "parts")
    assert last_bytes(tmp_path / "whole") == last_bytes(tmp_path / "parts")
    assert (tmp_path / "prepared" / "tokenizer").is_dir()
    assert not (tmp_path / "parts" / "sentences").exists()


def test_it_goes_on_from_a_model(learned: Path, repository: Path, tmp_path: Path) -> None:
    start = [f"init={learned / 'model'}", "tokenizer={}", "model={}", "optim.lr=1e-4"]
    said = fit(tiny(repository, *start), tmp_path / "run")
    first = next(r["loss"] for r in said if r["event"] == "step")
    assert first < 3.0  # a fresh one begins at log(120)
    prepared = f"task.prepared={tmp_path / 'other'}"
    fit(tiny(repository, prepared, "tokenizer.vocab_size=80"), tmp_path / "small")
    with pytest.raises(ConfigError, match="has other units than"):
        fit(tiny(repository, *start, prepared), tmp_path / "mixed")


def test_pieces_see_what_is_before_them_and_near(learned: Path) -> None:
    from mynah.models.load import load_model

    model = load_model(learned / "model")
    dice = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (3, 70), generator=dice)
    with torch.no_grad():
        whole = model(tokens)
        for length in (2, 9, 41):
            changed = tokens.clone()
            changed[:, length:] = 5
            before = whole[:, : length - 1]
            assert torch.allclose(model(changed)[:, : length - 1], before, atol=1e-5)
            assert torch.allclose(model(tokens[:1, :length]), before[:1], atol=1e-5)
        other = tokens.clone()
        other[:, :10] = 5
        far = 10 + model.config.layers * (model.config.context - 1)
        assert torch.allclose(model(other)[:, far:], whole[:, far:], atol=1e-5)
        assert not torch.allclose(model(other)[:, far - 5 : far], whole[:, far - 5 : far])


def test_the_graph_says_what_the_model_says(learned: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    import onnx

    from mynah.export.folder import export_folder
    from mynah.models.load import load_model
    from mynah.runtime.rescorer import Rescorer

    source = read_model_folder(learned / "model")
    written = export_folder(source, tmp_path / "model")
    assert [graph.name for graph in written] == ["lm.fp32.onnx", "lm.int8.onnx"]
    folder = read_model_folder(tmp_path / "model")
    folder.verify()
    model = load_model(source)
    exact, small = (Rescorer(folder, precision=p) for p in ("fp32", "int8"))
    words = [["every", "morning", "a", "bird"], ["a"], [], ["unheard", "of"] * 20]
    scores = exact.word_scores(words), small.word_scores(words)
    for sentence, a, b in zip(words, *scores, strict=True):
        pieces = exact.tokenizer.encode(" ".join(sentence))
        tokens = torch.tensor([[exact.tokenizer.sos, *pieces, exact.tokenizer.eos]])
        with torch.no_grad():
            expected = float(model(tokens).sum())
        assert a.shape == b.shape == (len(sentence) + 1,)
        assert abs(a.sum() - expected) < 1e-3
        assert abs(b.sum() - expected) < 0.05 * abs(expected)
    # the table of the pieces is there once
    graph = onnx.load(str(folder.path / "onnx" / "lm.int8.onnx"))
    vocab, dim = model.config.vocab_size, model.config.dim
    tables = [t for t in graph.graph.initializer if sorted(t.dims) == sorted((vocab, dim))]
    assert len(tables) == 1 and tables[0].data_type == onnx.TensorProto.INT8


@pytest.mark.parametrize(
    ("assignment", "error", "message"),
    [
        ("task.cutt=3", ConfigError, r"task\.cutt: unknown key \(did you mean 'cut'\?\)"),
        ("task.cut=2.0", ConfigError, "cut: must be from 0 to 1, got 2"),
        ("task.longest=400", ConfigError, r"task\.longest: must be from 4 to data\.max_frames"),
        ("task.tokenizer_every=0", ConfigError, "tokenizer_every: must be at least 1"),
        ("model.heads=5", ConfigError, "model: dim: 32 must be a multiple of 2 x 5 heads"),
        ("model.layers=0", ConfigError, "model: layers: must be at least 1"),
        ("init=mynah-en", ConfigError, "init: mynah-en is a u2 model, no language model"),
        ('freeze=["layers"]', ConfigError, "freeze: the task lm has none"),
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


def test_scores_are_means(learned: Path, repository: Path) -> None:
    """The perplexity a word is that of all words and sentence ends, reckoned by hand."""
    from mynah.config import read_toml
    from mynah.models.load import load_model
    from mynah.text import load_tokenizer, normalize_for_scoring
    from mynah.text.titles import as_said

    folder = read_model_folder(learned / "model")
    place = learned / "tokenizer"
    tokenizer = load_tokenizer(place, read_toml(place / "tokenizer.toml"))
    model = load_model(folder)
    total, count = 0.0, 0
    lines = (repository / "tests/data/prose/en.txt").read_text("utf-8").splitlines()
    for line in (line for line in lines if line and not line.startswith("#")):
        units = tokenizer.encode(as_said(normalize_for_scoring(line), "en"))
        assert len(units) < 60
        with torch.no_grad():
            total += float(model(torch.tensor([[tokenizer.sos, *units, tokenizer.eos]])).sum())
        count += len(tokenizer.decode(units).split()) + 1
    assert np.isclose(np.exp(-total / count), folder.info.results["dev perplexity"], rtol=1e-3)
