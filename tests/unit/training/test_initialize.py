"""Starting from another model: whole, in parts, with other units; freezing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mynah
from mynah.audio import make_frontend
from mynah.config import as_dict, read_toml
from mynah.corpus.statistics import Cmvn, write_cmvn
from mynah.errors import ConfigError, InputError, ModelError, MynahError
from mynah.model_folder import read_model_folder, write_model_file
from mynah.nn.weights import read_weights
from mynah.training.initialize import freeze, load_parts, vocabulary_tensors
from mynah.training.progress import Record
from mynah.training.run import train

from .runs import tiny


def fit(speech: Path, out: Path, *assignments: str, fresh: bool = False) -> list[str]:
    """Train in this process; gives the lines said."""
    said: list[Record] = []
    torch.set_num_threads(1)
    config = tiny(speech, "loop.max_steps=2", *assignments)
    assert train(config, out, device="cpu", fresh=fresh, report=said.append)
    return [str(r["text"]) for r in said if r["event"] == "note"]


@pytest.fixture(scope="module")
def base(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model folder."""
    out = tmp_path_factory.mktemp("base") / "run"
    fit(speech, out)
    return out / "model"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_weights(read_model_folder(folder).file("weights.safetensors"))


def test_the_folder_says_what_the_run_knows(base: Path) -> None:
    folder = read_model_folder(base)
    folder.verify()
    info = folder.info
    assert info.family == "u2" and info.sample_rate == 16000
    assert info.streaming == {"chunk": 16, "left": 4}
    assert info.decoding["method"] == "rescoring" and info.decoding["reverse_weight"] == 0.3
    assert info.results["dev error_rate"] >= 0 and info.results["dev loss"] > 0
    card = (base / "CARD.md").read_text()
    assert "the mean of 1 checkpoints, of the steps 2" in card and "dev error_rate" in card


def test_what_hears_live_and_the_front_end_are_those_of_init(
    speech: Path, base: Path, tmp_path: Path
) -> None:
    known = read_model_folder(base)
    other = tmp_path / "other"
    shutil.copytree(base, other)
    changed = {**known.info.streaming, "left": 9, "second_look": True}
    write_model_file(other, dataclasses.replace(known.info, streaming=changed))
    fit(
        speech, tmp_path / "run", f"init={other}", "model={}", "tokenizer={}", "frontend={low=60.0}"
    )
    info = read_model_folder(tmp_path / "run" / "model").info
    assert info.streaming == {"chunk": 16, "left": 9, "second_look": True}
    assert info.frontend == {**known.info.frontend, "low": 60.0}


def test_no_normalisation_is_none(speech: Path, base: Path, tmp_path: Path) -> None:
    assert float(weights(base)["mean"].abs().max()) > 0
    out = tmp_path / "run"
    lines = fit(speech, out, f"init={base}", "model={}", "tokenizer={}", "cmvn=none")
    found = weights(out / "model")
    assert not found["mean"].any() and bool((found["istd"] == 1).all())
    assert any(line.startswith("cmvn: none") for line in lines)


def test_adapters_beside_layers_learnt_from_nothing_are_refused(
    speech: Path, base: Path, tmp_path: Path
) -> None:
    lora = 'lora={rank=2, alpha=4.0, layers=["*.qkv"]}'
    with pytest.raises(ConfigError, match="lora: init has other units"):
        fit(speech, tmp_path / "run", f"init={base}", "model={}", lora, "tokenizer.case=upper",
            "data.text=upper")  # fmt: skip


def test_fine_tuning_without_a_step_keeps_every_weight(
    speech: Path, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    lines = fit(
        speech, out, f"init={base}", "model={}", "tokenizer={}", "optim.lr=1e-12",
        "optim.weight_decay=0.0", "seed=99",
    )  # fmt: skip
    old, new = weights(base), weights(out / "model")
    assert old.keys() == new.keys()
    for name, value in old.items():
        torch.testing.assert_close(new[name], value, rtol=0, atol=1e-7)
    assert any(f"{len(old)} tensors from {base}" in line for line in lines)
    card = (out / "model" / "CARD.md").read_text("utf-8")
    assert f"started from: {base.parent.name}/{base.name}\n" in card, "no path of this machine"


def test_a_model_that_only_runs(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights to train"):
        fit(speech, tmp_path / "run", "init=mynah-en", "model={}", "tokenizer={}", "frontend={}")


def test_another_vocabulary_keeps_the_encoder(speech: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    lines = fit(
        speech, out, f"init={base}", "model={}", 'tokenizer={kind="char", case="upper"}',
        "optim.lr=1e-12", "optim.weight_decay=0.0",
    )  # fmt: skip
    old, new = weights(base), weights(out / "model")
    same = {name for name in old if torch.allclose(old[name], new[name], atol=1e-7)}
    other = old.keys() - same
    assert other == {
        "ctc.weight", "ctc.bias",
        *(f"{d}.{p}" for d in ("decoder", "reverse_decoder")
          for p in ("embedding.weight", "output.weight", "output.bias")),
    }  # fmt: skip
    said = next(line for line in lines if line.startswith("init:"))
    assert "made anew for the new vocabulary: ctc.bias, ctc.weight" in said


def test_parts(speech: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(
        speech, out, f"init={base}", 'init_parts=["encoder"]', 'freeze=["encoder.layers"]',
        "model={decoder={layers=2}}", "seed=5",
    )  # fmt: skip
    old, new = weights(base), weights(out / "model")
    frozen = [name for name in old if name.startswith("encoder.layers.")]
    assert frozen and all(torch.equal(old[name], new[name]) for name in frozen)
    assert not torch.equal(old["encoder.norm.weight"], new["encoder.norm.weight"])
    assert not torch.allclose(old["ctc.weight"], new["ctc.weight"], atol=1e-2)
    assert torch.equal(old["mean"], new["mean"]), "an encoder goes with its features"
    assert "decoder.layers.1.norm_cross.weight" in new
    config = read_model_folder(out / "model").info.config
    assert config["encoder"]["dim"] == 16, "the rest of the config is that of init"


def test_more_layers_than_init(speech: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    have = read_model_folder(base).info.config["encoder"]["layers"]
    lines = fit(
        speech, out, f"init={base}", f"model={{encoder={{layers={have + 1}}}}}", "tokenizer={}",
    )  # fmt: skip
    assert any("1 layers are put between those of init" in line for line in lines)
    assert f"encoder.layers.{have}.norm_final.weight" in weights(out / "model")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ('freeze=["encodr"]', r"freeze: the model has no 'encodr' \(did you mean 'encoder'\?\)"),
        ('freeze=["encoder", "ctc", "decoder", "reverse_decoder"]', "leaves nothing to train"),
        ("optim.lrr=1", r"optim\.lrr: unknown key \(did you mean 'lr'\?\)"),
        ("optim.lr=-1", "lr: must be above 0, got -1"),
        ("optim.lr=inf", "lr: must be above 0, got inf"),
        ("data.spec_augment.time_width=-3", "time_width: must not be negative, got -3"),
        ("data.spec_augment.max_part=7.0", "max_part: must be from 0 to 1, got 7"),
        ("decoding.method=foo", "method: 'foo' is none of"),
        ("task.kind=ctc_atention", r"task\.kind: 'ctc_atention' .*did you mean 'ctc_attention'"),
        ("task.ctc_wieght=0.1", r"task\.ctc_wieght: unknown key \(did you mean 'ctc_weight'\?\)"),
        ("task.smoothing=1.0", r"task: smoothing: must be from 0 to below 1"),
        ("model.encoder.layer=3", r"model\.encoder\.layer: unknown key"),
        ("model.vocab_size=3", r"model\.vocab_size: 3 in the recipe, \d+ by the tokenizer"),
        ("tokenizer.kind=bp", r"tokenizer\.kind: 'bp' is none of"),
        ("tokenizer={}", r"tokenizer\.kind: missing"),
        ("model={}", "model: missing"),
        ("loop={log_every=1}", "give this, max_steps or max_minutes"),
        ('init_parts=["encoder"]', "init_parts: names parts of init"),
        ("schedule={kind='cosine'}", None),
        ("init=nowhere", "nowhere: no such model"),
        ("data.root=/nonexistent", "is not under /nonexistent"),
        ("cmvn=nofile.json", "nofile.json"),
        ("data.subsampling=8", r"data\.subsampling: 8 in the recipe, 4 by the model"),
    ],
)
def test_wrong_recipes_get_one_line(
    speech: Path, tmp_path: Path, assignment: str, message: str | None
) -> None:
    if message is None:
        fit(speech, tmp_path / "run", assignment)
        return
    with pytest.raises(MynahError, match=message) as caught:
        fit(speech, tmp_path / "run", assignment)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("cmvn", ["auto", "none"])
def test_texts_too_long_for_the_models_subsampling_are_left_out(
    speech: Path, tmp_path: Path, cmvn: str
) -> None:
    with pytest.raises(InputError, match=r"\d+ tokens .* for [23]\d encoder frames"):
        values = ("model.encoder.subsampling=8", "data.speed=[1.0]", "data.dev=[]")
        fit(speech, tmp_path / "run", *values, f"cmvn={cmvn}", "loop.max_steps=50")
    if cmvn == "none":
        lines = (tmp_path / "run" / "quarantine.jsonl").read_text("utf-8").splitlines()
        assert len({json.loads(line)["id"] for line in lines}) == 8, "40 letters in 2 seconds"


def test_a_model_that_looks_ahead_says_why_it_does_not_stream(speech: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    out = tmp_path / "run"
    fit(speech, out, "model.encoder.convolution=symmetric", "cmvn=none", "data.dev=[]")
    assert "does not stream; its convolutions are symmetric" in (
        out / "model" / "CARD.md"
    ).read_text("utf-8")
    with pytest.raises(MynahError, match="symmetric: every output depends on frames still to come"):
        mynah.load(out / "model", engine="torch").stream()


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_statistics_from_a_file(speech: Path, tmp_path: Path, suffix: str) -> None:
    out, file = tmp_path / "run", tmp_path / f"cmvn.{suffix}"
    known = as_dict(make_frontend({"kind": "fbank"}).config)
    write_cmvn(file, Cmvn(np.full(80, 2.0), np.full(80, 0.5), 9, known))
    fit(speech, out, f"cmvn={file}", "data.dev=[]")
    found = weights(out / "model")
    assert torch.equal(found["mean"], torch.full((80,), 2.0))
    assert torch.equal(found["istd"], torch.full((80,), 0.5))
    if suffix == "json":
        write_cmvn(file, Cmvn(np.zeros(80), np.ones(80), 9, {**known, "low": 40.0}))
        with pytest.raises(ConfigError, match=r"another front end \(low 40\.0 there, 20\.0 in"):
            fit(speech, out, f"cmvn={file}", "data.dev=[]", "optim.lr=2e-3", fresh=True)
    write_cmvn(file, Cmvn(np.zeros(40), np.ones(40), 9))
    with pytest.raises(ConfigError, match="is for 40 features, the recipe's are 80"):
        fit(speech, out, f"cmvn={file}", "data.dev=[]", fresh=True)


class Small(nn.Module):
    """A body, and a head that knows the vocabulary."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.body = nn.Linear(units - units + 4, 4)
        self.head = nn.Linear(4, units)


def test_vocabulary_tensors_are_found_by_shape() -> None:
    assert vocabulary_tensors(lambda extra: Small(4 + extra)) == {"head.weight", "head.bias"}


def test_loads_are_strict() -> None:
    source = Small(4).state_dict()
    load_parts(Small(4), source)
    with pytest.raises(ModelError, match=r"m: has no body\.bias and 1 more"):
        load_parts(
            Small(4), {k: v for k, v in source.items() if not k.startswith("body")}, source="m"
        )
    with pytest.raises(ModelError, match="has tail, which the recipe's model has not"):
        load_parts(Small(4), {**source, "tail": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"head.bias is \[4\] there and \[5\]"):
        load_parts(Small(5), source)
    taken = load_parts(Small(5), source, parts=["body"])
    assert (taken.loaded, taken.remade, taken.left) == (2, (), ("head.bias", "head.weight"))


def test_freeze_names_what_it_does_not_find() -> None:
    with pytest.raises(ConfigError, match="'xyz'; its parts are body, head"):
        freeze(Small(4), ["xyz"])
    assert freeze(Small(4), ["head"]) == 2


def test_a_trained_bpe_is_kept_with_the_run(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pytest.importorskip("sentencepiece")
    fit(speech, out, 'tokenizer={kind="bpe", vocab_size=40, case="lower"}', "cmvn=none")
    assert read_toml(out / "tokenizer" / "tokenizer.toml")["kind"] == "bpe"
    folder = read_model_folder(out / "model")
    assert folder.has("tokenizer/bpe.model") and folder.info.tokenizer["kind"] == "bpe"
    assert torch.equal(weights(out / "model")["mean"], torch.zeros(80))
