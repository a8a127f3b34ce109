"""Checkpoints written by the originals, read by ours; each test needs its library."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_files import DIMS

from mynah.models.whisper.checkpoints import read_checkpoint
from mynah.models.whisper.checkpoints.ggml_blocks import FORMATS, dequantize
from mynah.text.byte_bpe import to_unicode

pytestmark = pytest.mark.filterwarnings("ignore")  # what the originals think of each other


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny random model of transformers, and the folder that it was saved to."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        **{k: v for k, v in files.hf_config().items() if k != "model_type"},
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0, 0.1)
    folder = tmp_path_factory.mktemp("whisper") / "hf"
    model.save_pretrained(folder)
    vocabulary = files.vocabulary()
    table = {to_unicode(t): i for i, t in enumerate(vocabulary.tokens)}
    merges = [(to_unicode(a), to_unicode(b)) for a, b in vocabulary.merges]
    tokenizer = transformers.WhisperTokenizer(vocab=table, merges=merges)
    tokenizer.add_tokens(list(files.special_tokens()), special_tokens=True)
    tokenizer.save_pretrained(folder)
    return model, folder


def reference(model: Any) -> dict[str, Any]:
    return {k: v.detach().numpy() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("shard", ["5GB", "200KB"])
def test_transformers(original: tuple[Any, Path], tmp_path: Path, shard: str) -> None:
    model, folder = original
    if shard != "5GB":
        model.save_pretrained(tmp_path / "hf", max_shard_size=shard)
        assert len(list((tmp_path / "hf").glob("model-*.safetensors"))) > 1
        folder = tmp_path / "hf"
    read = read_checkpoint(folder)
    assert read.dims == DIMS
    wanted = reference(model)
    for name, value in read.tensors.items():
        np.testing.assert_array_equal(value, wanted[files.hf_name(name)], err_msg=name)
    if shard == "5GB":
        assert read.vocabulary is not None
        assert read.vocabulary.tokens == files.vocabulary().tokens
        assert read.vocabulary.specials == files.special_tokens()


KINDS = ["float32", "float16", "bfloat16", "int16", "int8", "int8_float16"]


@pytest.mark.parametrize("kind", KINDS)
def test_ctranslate2(original: tuple[Any, Path], tmp_path: Path, kind: str) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    model, folder = original
    source = shutil.copytree(folder, tmp_path / "hf")
    settings = json.loads((source / "generation_config.json").read_text())
    settings |= {"suppress_tokens": [4, 2], "begin_suppress_tokens": [32]}
    (source / "generation_config.json").write_text(json.dumps(settings))
    converter = ctranslate2.converters.TransformersConverter(str(source))
    converter.convert(str(tmp_path / "ct2"), quantization=kind)
    read = read_checkpoint(tmp_path / "ct2")
    assert (read.layout, read.dims) == ("ctranslate2", DIMS)
    assert (read.alignment_heads, read.suppress_tokens) == (((1, 0), (1, 1)), (2, 4))
    assert read.vocabulary is not None
    assert read.vocabulary.tokens == files.vocabulary().tokens
    wanted = reference(model)
    for name, value in read.tensors.items():
        target = wanted[files.hf_name(name)]
        if kind == "float32":
            np.testing.assert_array_equal(value, target, err_msg=name)
            continue
        relative = {"float16": 2**-11, "bfloat16": 2**-8}.get(kind, 2**-10)
        bound = relative * np.abs(target) + 1e-7
        if value.ndim > 1 and kind.startswith("int"):
            bound = bound + np.abs(target).max() / (254 if "8" in kind else 1024)
        assert (np.abs(value - target) <= bound).all(), name


def test_openai(original: tuple[Any, Path], tmp_path: Path) -> None:
    whisper = pytest.importorskip("whisper")
    torch = pytest.importorskip("torch")
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**dataclasses.asdict(DIMS)))
    path = tmp_path / "tiny.pt"
    torch.save({"dims": dataclasses.asdict(DIMS), "model_state_dict": model.state_dict()}, path)
    read = read_checkpoint(path)
    wanted = reference(model)
    assert set(read.tensors) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(read.tensors[name], value, err_msg=name)


@pytest.mark.parametrize("code", sorted(FORMATS))
def test_blocks_of_gguf(code: int) -> None:
    gguf = pytest.importorskip("gguf")
    form = FORMATS[code]
    kind = gguf.GGMLQuantizationType(code)
    assert kind.name.lower() == form.name
    values = np.random.default_rng(code).standard_normal((40, 64)).astype(np.float32)
    packed = gguf.quants.quantize(values, kind)
    wanted = gguf.quants.dequantize(packed, kind)
    found = dequantize(memoryview(packed.tobytes()), form, values.shape)
    np.testing.assert_array_equal(found, wanted)
