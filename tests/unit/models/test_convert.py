"""Import of WeNet checkpoints: a tiny one against float64, and what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mynah import cli
from mynah.audio import make_frontend
from mynah.errors import ModelError
from mynah.model_folder import read_model_folder
from mynah.models.load import load_model
from mynah.models.u2.convert import import_wenet, read_cmvn
from mynah.models.u2.model import U2
from mynah.text import load_tokenizer
from unit.models.wenet_float64 import load, numbers


@pytest.fixture
def tiny(repository: Path, tmp_path: Path) -> Path:
    """A copy of the committed checkpoint, to be spoilt."""
    folder = tmp_path / "wenet"
    shutil.copytree(repository / "tests" / "data" / "u2_tiny", folder)
    return folder


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return spoil


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = torch.load(folder / "final.pt", weights_only=True)
        change(weights)
        torch.save(weights, folder / "final.pt")

    return spoil


TINY = ("u2_tiny", "transformer_tiny", "batchnorm_tiny")


@pytest.mark.parametrize("name", TINY)
def test_reference_is_what_the_float64_program_computes(repository: Path, name: str) -> None:
    folder = repository / "tests" / "data" / name
    saved, computed = np.load(folder / "reference.npz"), numbers(load(folder))
    assert set(saved) == set(computed)
    for key, value in computed.items():
        assert np.allclose(saved[key], value, atol=1e-9), key


@pytest.mark.parametrize("kind", TINY)
def test_imported_model_equals_the_float64_reference(
    repository: Path, tmp_path: Path, kind: str
) -> None:
    source = repository / "tests" / "data" / kind
    model = load_model(import_wenet(source, tmp_path / "out"))
    assert isinstance(model, U2)
    expected = {k: torch.from_numpy(v) for k, v in np.load(source / "reference.npz").items()}
    feats, lens = expected["feats"][None], torch.tensor([len(expected["feats"])])
    tokens, token_lens = expected["tokens"][None], torch.tensor([len(expected["tokens"])])

    def close(found: torch.Tensor, name: str) -> None:
        assert (found[0].double() - expected[name]).abs().max() < 1e-5, name

    with torch.no_grad():
        encoded, encoded_lens, _ = model(feats, lens)
        close(encoded, "encoded")
        close(model.ctc_log_probs(encoded), "log_probs")
        close(model.decode(encoded, encoded_lens, tokens, token_lens), "logits")
        if "reverse_logits" in expected:
            backward = model.decode(encoded, encoded_lens, tokens, token_lens, reverse=True)
            close(backward, "reverse_logits")
        if "encoded_chunk3" not in expected:
            return
        close(model(feats, lens, chunk=4, left=2)[0], "encoded_chunk4_left2")
        close(model(feats, lens, chunk=3)[0], "encoded_chunk3")
        state = model.init_state(1, capacity=8)
        parts = []
        for first, end in ((0, 19), (19, 35), (35, 51), (51, 67), (67, 83), (83, 91)):
            part, n, state = model(feats[:, first:end], torch.tensor([end - first]), state)
            parts.append(part[:, : int(n)])
        close(torch.cat(parts, 1), "encoded_chunk4_left2")


def test_folder_says_what_the_checkpoint_says(tiny: Path, tmp_path: Path) -> None:
    folder = read_model_folder(import_wenet(tiny, tmp_path / "out", name="tiny"))
    folder.verify()
    info = folder.info
    assert (info.family, info.name, info.sample_rate) == ("u2", "tiny", 8000)
    assert info.streaming == {"chunk": 16, "left": 4}
    assert info.decoding == {"method": "rescoring", "reverse_weight": 0.3}
    frontend = make_frontend(info.frontend)
    assert (frontend.dim, frontend.rate) == (16, 8000)
    tokenizer = load_tokenizer(folder.path / "tokenizer", info.tokenizer)
    assert tokenizer.vocab_size == 14
    assert (tokenizer.blank, tokenizer.unk, tokenizer.sos, tokenizer.eos) == (0, 1, 13, 13)
    assert tokenizer.units[2:5] == ("a", "b", "c")
    assert "WeNet" in (folder.path / "CARD.md").read_text()


def test_a_model_that_looks_ahead_does_not_stream(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("train.yaml", "causal: true", "causal: false")(tiny)
    edit("train.yaml", "use_dynamic_chunk: true", "use_dynamic_chunk: false")(tiny)
    assert cli.main(["import", "wenet", str(tiny), str(tmp_path / "out")]) == 0
    assert "does not stream" in capsys.readouterr().out
    folder = read_model_folder(tmp_path / "out")
    assert "symmetric" in folder.info.streaming["reason"]
    assert "offline only" in (folder.path / "CARD.md").read_text()


def test_statistics_in_json_and_in_kaldis_text(tiny: Path) -> None:
    mean, istd = read_cmvn(tiny / "global_cmvn")
    stats = json.loads((tiny / "global_cmvn").read_text())
    first = " ".join(map(repr, stats["mean_stat"]))
    second = " ".join(map(repr, stats["var_stat"]))
    (tiny / "kaldi").write_text(f" [\n  {first} 500\n  {second} 0 ]\n")
    again = read_cmvn(tiny / "kaldi")
    assert torch.allclose(mean, again[0]) and torch.allclose(istd, again[1])
    frames = torch.tensor(stats["mean_stat"]) / 500
    assert torch.allclose(mean, frames)


def test_averaged_counter_and_statistics_in_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["encoder.global_cmvn.mean"] = torch.full((16,), 3.0)
        weights["encoder.global_cmvn.istd"] = torch.full((16,), 0.25)
        for i in range(2):
            norm = f"encoder.encoders.{i}.conv_module.norm"
            weights[f"{norm}.running_mean"] = torch.zeros(12)
            weights[f"{norm}.running_var"] = torch.ones(12)
            weights[f"{norm}.num_batches_tracked"] = torch.tensor(7.25)  # an average

    edit_weights(change)(tiny)
    edit("train.yaml", "cnn_module_norm: layer_norm", "cnn_module_norm: batch_norm")(tiny)
    (tiny / "global_cmvn").unlink()
    model = load_model(import_wenet(tiny, tmp_path / "out"))
    assert isinstance(model, U2)
    assert model.mean.unique().tolist() == [3.0] and model.istd.unique().tolist() == [0.25]
    assert model.state_dict()["encoder.layers.0.convolution.norm.num_batches_tracked"] == 7


def test_missing_biases_are_zeros(tiny: Path, tmp_path: Path) -> None:
    names = [f"encoder.encoders.{i}.self_attn.linear_k.bias" for i in range(2)]
    edit_weights(lambda w: [w.pop(name) for name in names])(tiny)
    edit("train.yaml", "  causal: true", "  key_bias: false\n  causal: true")(tiny)
    model = load_model(import_wenet(tiny, tmp_path / "out"))
    assert not model.state_dict()["encoder.layers.0.attention.qkv.bias"][12:24].any()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (edit("train.yaml", "model: asr_model", "model: transducer"), "model: 'transducer'"),
        (edit("train.yaml", "encoder: conformer", "encoder: branchformer"), "'branchformer'"),
        (edit("train.yaml", "conv2d\n", "linear\n"), "encoder_conf.input_layer: 'linear'"),
        (edit("train.yaml", "rel_selfattn", "selfattn"), "selfattention_layer_type: 'selfattn'"),
        (edit("train.yaml", "  causal", "  n_kv_head: 1\n  causal"), "n_kv_head: 1 cannot be"),
        (edit("train.yaml", "  causal", "  kausal"), "kausal: not known .did you mean 'causal'"),
        (edit("train.yaml", "output_dim: 14", "output_dim: 15"), "15, units.txt has 14 units"),
        (edit("train.yaml", "num_mel_bins: 16", "num_mel_bins: 17"), "input_dim is 16"),
        (edit("train.yaml", "ctc_weight: 0.3", "apply_non_blank_embedding: true"), "non_blank"),
        (edit("train.yaml", "cmvn: global", "cmvn: {\n"), "train.yaml: not YAML"),
        (edit("units.txt", "b 3", "b 2"), "numbers are not 0 to 13"),
        (edit("units.txt", "b 3", "b"), "units.txt: line 4 is not a unit"),
        (edit("global_cmvn", "frame_num", "frames"), "global_cmvn: not statistics"),
        (lambda folder: (folder / "final.pt").unlink(), "final.pt: no such file"),
        (lambda folder: (folder / "units.txt").unlink(), "units.txt: cannot be read"),
        (lambda folder: (folder / "final.pt").write_bytes(b"PK"), "not a checkpoint of tensors"),
        (
            lambda folder: (folder / "final.pt").write_bytes(pickle.dumps({"a": Evil()})),
            "not a checkpoint of tensors",
        ),
        (
            lambda folder: torch.save({"model": {"a": torch.ones(1)}}, folder / "final.pt"),
            "other than named tensors",
        ),
        (
            edit_weights(lambda w: w.update({"ctc.ctc_low.bias": w.pop("ctc.ctc_lo.bias")})),
            "no tensor ctc.ctc_lo.bias .did you mean 'ctc.ctc_low.bias'",
        ),
        (
            edit_weights(lambda w: w.update({"joint.weight": torch.ones(2)})),
            "no place for tensor joint.weight",
        ),
        (
            edit_weights(lambda w: w.update({"ctc.ctc_lo.bias": torch.ones(9)})),
            r"ctc.bias is \(9,\), the configuration says \(14,\)",
        ),
    ],
)
def test_what_cannot_be_imported_is_named(
    tiny: Path, tmp_path: Path, spoil: Callable[[Path], None], line: str
) -> None:
    spoil(tiny)
    with pytest.raises(ModelError, match=line) as caught:
        import_wenet(tiny, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_the_verb(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["import", "wenet", str(tiny), str(out)]) == 0
    assert "u2 model, 8000 Hz, streams" in capsys.readouterr().out
    assert cli.main(["import", "wenet", str(tmp_path / "none"), str(out)]) == 2
    assert "train.yaml: no such file" in capsys.readouterr().err
    assert read_model_folder(out).info.name == "out"  # what was there stays


def test_a_folder_with_other_weights_is_refused(tiny: Path, tmp_path: Path) -> None:
    out = import_wenet(tiny, tmp_path / "out")
    (out / "weights.safetensors").write_bytes(b"spoilt")
    with pytest.raises(ModelError, match="weights.safetensors was altered"):
        load_model(out)
    text = (out / "model.toml").read_text()
    (out / "model.toml").write_text(text.replace('"u2"', '"u3"'))
    with pytest.raises(ModelError, match="unknown family 'u3'"):
        load_model(out)
