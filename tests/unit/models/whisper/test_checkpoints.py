"""Every layout read back equal: values, sizes, vocabulary and what else a file says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_files import DIMS, random_tensors

from mynah.models.whisper.checkpoints import alignment_heads, read_checkpoint
from mynah.models.whisper.checkpoints.names import (
    from_huggingface,
    shapes,
    sinusoids,
)
from mynah.models.whisper.checkpoints.safetensors import read_safetensors, write_safetensors
from mynah.runtime.whisper.config import WhisperDims


def assert_equal(found: object, wanted: files.Weights) -> None:
    assert set(found) == set(wanted)  # type: ignore[call-overload]
    for name, value in wanted.items():
        got = found[name]  # type: ignore[index]
        assert got.dtype == value.dtype, name
        np.testing.assert_array_equal(got, value, err_msg=name)


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_openai(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("torch")
    tensors = random_tensors(dtype=dtype)
    read = read_checkpoint(files.write_openai(tmp_path / "tiny.pt", tensors))
    assert (read.layout, read.dims, read.vocabulary) == ("openai", DIMS, None)
    assert_equal(read.tensors, tensors)


def test_openai_of_bfloat16_parameters_views_and_more_beside(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = random_tensors()
    state: dict[str, object] = {}
    for name, value in tensors.items():
        values = torch.from_numpy(value)
        if value.ndim == 2:
            values = values.t().contiguous().t()  # strides the other way round
        state[name] = torch.nn.Parameter(values.bfloat16())
    more = {"step": 3, "loss": 0.5, "names": ["a", ("b", None, True)], "big": 1 << 40}
    path = tmp_path / "tiny.pt"
    torch.save({"dims": dataclasses.asdict(DIMS), "model_state_dict": state, **more}, path)
    read = read_checkpoint(path)
    for name, value in tensors.items():
        wanted = torch.from_numpy(value).bfloat16().float().numpy()
        np.testing.assert_array_equal(read.tensors[name], wanted, err_msg=name)


def test_openai_of_a_module_with_its_metadata(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from mynah.models.whisper.checkpoints.pickled import read_torch

    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "x.pt")  # an OrderedDict with _metadata
    read = read_torch(tmp_path / "x.pt")
    assert list(read) == ["weight", "bias"]
    np.testing.assert_array_equal(read["weight"].load(), module.weight.detach().numpy())


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_huggingface(tmp_path: Path, shards: int, dtype: str) -> None:
    tensors = random_tensors(dtype=dtype)
    folder = files.write_huggingface(tmp_path / "hf", tensors, shards=shards)
    generation = {
        "alignment_heads": [[1, 0], [1, 1]],
        "suppress_tokens": [9, 3, -1],
        "begin_suppress_tokens": [32],
    }
    (folder / "generation_config.json").write_text(json.dumps(generation))
    read = read_checkpoint(folder)
    assert (read.layout, read.dims) == ("huggingface", DIMS)
    assert (read.alignment_heads, read.suppress_tokens) == (((1, 0), (1, 1)), (3, 9))
    assert read.begin_suppress_tokens == (32,)
    assert read.vocabulary is not None
    assert read.vocabulary.tokens == files.vocabulary().tokens
    assert read.vocabulary.merges == files.vocabulary().merges
    assert read.vocabulary.specials["<|notimestamps|>"] == 310
    assert_equal(read.tensors, tensors)


def test_huggingface_without_the_prefix_and_with_the_tied_output(tmp_path: Path) -> None:
    tensors = random_tensors()
    folder = files.write_huggingface(tmp_path / "bare", tensors, prefix="model.")
    assert_equal(read_checkpoint(folder).tensors, tensors)
    named = {files.hf_name(k): v for k, v in tensors.items()}
    named["proj_out.weight"] = tensors["decoder.token_embedding.weight"]
    (folder / "model.safetensors").write_bytes(files.safetensors_bytes(named))
    assert_equal(read_checkpoint(folder).tensors, tensors)


def test_huggingface_of_pytorch_and_named_by_a_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = random_tensors()
    folder = files.write_huggingface(tmp_path / "hf", tensors)
    named = {files.hf_name(k): torch.from_numpy(v) for k, v in tensors.items()}
    torch.save(named, folder / "pytorch_model.bin")
    assert_equal(read_checkpoint(folder / "model.safetensors").tensors, tensors)
    (folder / "model.safetensors").unlink()
    assert_equal(read_checkpoint(folder).tensors, tensors)
    assert_equal(read_checkpoint(folder / "pytorch_model.bin").tensors, tensors)


def test_names_of_hugging_face() -> None:
    dims = WhisperDims(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 4)
    ours = list(shapes(dims))
    theirs = [files.hf_name(name) for name in ours]
    assert len(set(theirs)) == len(ours)
    assert [from_huggingface(name) for name in theirs] == ours
    for name in ("decoder.layers.0.attn.query.weight", "encoder.blocks.0.fc1.bias", "x"):
        assert from_huggingface(name) is None


def test_positions_are_computed_where_a_file_has_none(tmp_path: Path) -> None:
    tensors = random_tensors()
    name = "encoder.positional_embedding"
    del tensors[name]
    read = read_checkpoint(files.write_huggingface(tmp_path / "hf", tensors))
    angles = [3 / 10_000 ** (i / 31) for i in range(32)]
    wanted = [*np.sin(angles), *np.cos(angles)]
    np.testing.assert_allclose(read.tensors[name][3], wanted, atol=1e-6)
    assert sinusoids(4, 64).shape == (4, 64)


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_ggml_plain(tmp_path: Path, kind: str) -> None:
    tensors = random_tensors(dtype="<f2")
    read = read_checkpoint(files.write_ggml(tmp_path / "ggml.bin", tensors, kind))
    assert (read.layout, read.dims) == ("ggml", DIMS)
    assert read.mel_filters is not None and read.mel_filters.shape == (80, 201)
    assert read.vocabulary is not None and read.vocabulary.tokens == files.vocabulary().tokens
    for name, value in tensors.items():
        np.testing.assert_array_equal(read.tensors[name], value, err_msg=name)
    if kind == "f16":
        assert read.tensors["encoder.conv1.weight"].dtype == np.float16
        assert read.tensors["encoder.conv1.bias"].dtype == np.float32


@pytest.mark.parametrize("kind", sorted(files.BLOCKS))
def test_ggml_blocks(tmp_path: Path, kind: str) -> None:
    tensors = random_tensors()
    read = read_checkpoint(files.write_ggml(tmp_path / "ggml.bin", tensors, kind))
    step = {"4": 1 / 7, "5": 1 / 15, "8": 1 / 127}[kind[1]]  # of the largest in a block
    for name in ("decoder.blocks.1.mlp.2.weight", "decoder.blocks.0.cross_attn.key.weight"):
        got, rows = read.tensors[name], tensors[name].reshape(-1, 32)
        blocks = [files.quantize_block(row, kind) for row in rows.tolist()]
        wanted = np.array([files.dequantize_block(b, kind) for b in blocks], np.float32)
        np.testing.assert_array_equal(got, wanted.reshape(got.shape))
        bound = 1.1 * step * np.abs(rows).max(axis=1, keepdims=True)
        assert (np.abs(got.reshape(-1, 32) - rows) <= bound).all()
    name = "encoder.conv2.weight"  # three axes: not quantised
    np.testing.assert_array_equal(read.tensors[name], tensors[name].astype(np.float16))


def test_ggml_of_the_first_converter(tmp_path: Path) -> None:
    tensors, tokens = random_tensors(), list(files.vocabulary().tokens)
    path = tmp_path / "ggml.bin"
    end = b"<|endoftext|>"
    read = read_checkpoint(files.write_ggml(path, tensors, "f16", tokens=[*tokens, end]))
    assert read.vocabulary is not None and read.vocabulary.tokens == tuple(tokens)
    assert read.vocabulary.specials == {"<|endoftext|>": 300}
    tokens[0xA1] = "\ufffd".encode()  # bytes that are no character were lost
    assert read_checkpoint(files.write_ggml(path, tensors, "f16", tokens=tokens)).vocabulary is None
    assert read_checkpoint(files.write_ggml(path, tensors, "f16", tokens=[])).vocabulary is None


@pytest.mark.parametrize("kind", ["float32", "float16", "int16", "int8"])
def test_ctranslate2(tmp_path: Path, kind: str) -> None:
    tensors = random_tensors()
    variables = files.ct2_variables(tensors, DIMS, kind)
    read = read_checkpoint(files.write_ctranslate2(tmp_path / "ct2", tensors, kind))
    assert (read.layout, read.dims) == ("ctranslate2", DIMS)
    assert (read.suppress_tokens, read.begin_suppress_tokens) == ((3, 5), (32,))
    assert read.alignment_heads == ((1, 0),)
    assert read.vocabulary is not None and read.vocabulary.tokens == files.vocabulary().tokens
    assert read.vocabulary.specials == files.special_tokens()
    for name, value in tensors.items():
        got = read.tensors[name]
        assert got.shape == value.shape
        if got.ndim < 2 or "positional" in name or kind == "float32":
            np.testing.assert_array_equal(got, value, err_msg=name)
        elif kind == "float16":
            np.testing.assert_array_equal(got, value.astype("<f2"), err_msg=name)
        else:
            rows = np.abs(value).reshape(len(value), -1).max(axis=1)
            bound = rows.reshape(-1, *[1] * (value.ndim - 1)) / 254
            if kind == "int16":  # one scale for all that is fused
                bound = 1.5 * np.abs(value).max() / 2048
            assert (np.abs(got - value) <= bound * 1.001).all(), name
    fused = variables["decoder/layer_1/attention/linear_1/weight"]
    if kind == "int8":
        scale = variables["decoder/layer_1/attention/linear_1/weight_scale"]
        wanted = fused[64:].astype(np.float32) / scale[64:, None]
        np.testing.assert_array_equal(
            read.tensors["decoder.blocks.1.cross_attn.value.weight"], wanted
        )


def test_ctranslate2_named_by_its_file_and_list_of_lines(tmp_path: Path) -> None:
    folder = files.write_ctranslate2(tmp_path / "ct2", random_tensors(), "float32")
    names = json.loads((folder / "vocabulary.json").read_text("utf-8"))
    (folder / "vocabulary.json").unlink()
    (folder / "vocabulary.txt").write_text("".join(f"{n}\n" for n in names), "utf-8")
    read = read_checkpoint(folder / "model.bin")
    assert read.vocabulary is not None
    assert read.vocabulary.tokens == files.vocabulary().tokens


def test_safetensors_written_and_read(tmp_path: Path) -> None:
    folder = files.write_huggingface(tmp_path / "hf", random_tensors())
    tensors = read_checkpoint(folder).tensors
    for dtype, code in (("keep", "<f4"), ("fp32", "<f4"), ("fp16", "<f2")):
        path = tmp_path / f"{dtype}.safetensors"
        write_safetensors(tensors, path, dtype)
        again = read_safetensors(path)
        assert list(again) == list(tensors)
        for name in tensors:
            np.testing.assert_array_equal(again[name], tensors[name].astype(code))
            assert again[name].dtype == code
    original = pytest.importorskip("safetensors.numpy")
    for name, value in original.load_file(tmp_path / "keep.safetensors").items():
        np.testing.assert_array_equal(value, tensors[name])


def test_heads_are_those_of_the_file_or_of_the_published_model(tmp_path: Path) -> None:
    folder = files.write_huggingface(tmp_path / "hf", random_tensors())
    read = read_checkpoint(folder)
    assert alignment_heads(read) == ((1, 0), (1, 1))  # half of the layers, all heads
    named = dataclasses.replace(read, alignment_heads=((0, 1),))
    assert alignment_heads(named) == ((0, 1),)
    of_its_teacher = dataclasses.replace(read, alignment_heads=((0, 1), (7, 3)))
    assert alignment_heads(of_its_teacher) == ((1, 0), (1, 1))
    tiny = WhisperDims(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4)
    found = alignment_heads(dataclasses.replace(read, dims=tiny))
    assert found == ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5))
    turbo = WhisperDims(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 4)
    assert alignment_heads(dataclasses.replace(read, dims=turbo))[0] == (2, 4)
    large = WhisperDims(80, 1500, 1280, 20, 32, 51865, 448, 1280, 20, 32)
    first = dataclasses.replace(read, dims=large, path=Path("large-v1.pt"))
    assert alignment_heads(first)[0] == (9, 19)
    assert alignment_heads(dataclasses.replace(first, path=Path("large.pt")))[0] == (10, 12)
    distilled = dataclasses.replace(large, n_text_layer=2)
    assert len(alignment_heads(dataclasses.replace(read, dims=distilled))) == 20


def test_a_folder_of_ctranslate2s_own_converter(repository: Path) -> None:
    folder = repository / "tests" / "data" / "whisper_tiny"
    read = read_checkpoint(folder / "ctranslate2")
    assert read.dims == files.SMALL
    assert read.vocabulary is not None and read.vocabulary.tokens == files.vocabulary().tokens
    reference = np.load(folder / "reference.npz")
    assert len(reference.files) > 10
    for name in reference.files:
        value, found = reference[name].astype(np.float32), read.tensors[name]
        rows = np.abs(value).reshape(len(value), -1).max(axis=1)
        bound = (1 / 254 + 1 / 1000) * rows.reshape(-1, *[1] * (value.ndim - 1))
        if value.ndim == 1:
            bound = np.abs(value) / 1000 + 1e-6
        assert (np.abs(found - value) <= bound).all(), name
