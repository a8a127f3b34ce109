"""Broken, mislabelled and malicious files: one clear line, nothing executed, nothing allocated."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_files import DIMS, random_tensors

from mynah.errors import ModelError
from mynah.models.whisper.checkpoints import read_checkpoint
from mynah.models.whisper.checkpoints.safetensors import write_safetensors


def refuse(path: Path, reason: str) -> None:
    """Reading gives one line with the file's name and the reason, and takes no memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=reason) as caught:
            read_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert "\n" not in line and path.name in line
    assert line.count(str(path)) == 1
    assert peak < 20e6


def zipped(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for name, data in (storages or {}).items():
            archive.writestr(f"archive/data/{name}", data)
    return path


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.command = f"touch '{path}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_in_a_pickle_is_not_executed(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    values = {"dims": {}, "model_state_dict": {"x": Runs(mark)}}
    data = pickle.dumps(values, protocol)
    pickle.loads(data)  # the trap works
    assert mark.exists()
    mark.unlink()
    refuse(zipped(tmp_path / "evil.pt", data), "names .*system.*not executed")
    folder = files.write_huggingface(tmp_path / "hf", random_tensors())
    (folder / "model.safetensors").unlink()
    zipped(folder / "pytorch_model.bin", data)
    with pytest.raises(ModelError, match="pytorch_model.bin: .*not executed"):
        read_checkpoint(folder)
    assert not mark.exists()


NAMES = b"cbuiltins\neval\n", b"ctorch\nload\n", b"ccollections\nOrderedDict\n(S'x'\ntR"


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"\x80\x02" + NAMES[0] + b".", "names builtins.eval"),
        (b"\x80\x02" + NAMES[1] + b".", "names torch.load"),
        (b"\x80\x02" + NAMES[2] + b".", "uses STRING"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage"),
        (b"\x80\x02ctorch\nFloatStorage\n}b.", "state of an object"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "uses NEWOBJ"),
        (b"\x80\x02(ios\nsystem\nX\x01\x00\x00\x00ao.", "uses INST|broken"),
        (b"\x80\x02K\x01Q.", "refers to something other"),
        (b"\x80\x02K\x01a.", "broken"),
        (b"\x80\x02h\x05.", "broken"),
        (b"\x80\x02u.", "broken"),
        (b"\x80\x02", "broken or cut short"),
        (b"", "broken or cut short"),
        (b"\x80\x02}.", "no dims"),
        (b"\x80\x02K\x01.", "no dims"),
        (b"\x80\x02}(X\x04\x00\x00\x00dimsK\x01u", "broken or cut short"),
        (b"\x80\x02\x8a\x02\xff\x7f]a.", "broken|appends"),
        (b"\x80\x02]]]\x90.", "uses ADDITEMS|broken"),
    ],
)
def test_pickles_that_are_no_state(tmp_path: Path, pickled: bytes, reason: str) -> None:
    refuse(zipped(tmp_path / "x.pt", pickled), reason)


def tensor_pickle(offset: int, shape: Any, strides: Any, count: int = 4) -> bytes:
    """The pickle of a table with one tensor, in protocol 2."""

    def number(value: int) -> bytes:
        data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def row(values: Any) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += number(count) + b"tQ"
    arguments = storage + number(offset) + row(shape) + row(strides)
    arguments += b"\x89ccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
    sizes = b"".join(text(name) + number(value) for name, value in dataclasses.asdict(DIMS).items())
    state = text("model_state_dict") + b"}(" + text("x") + tensor + b"u"
    return b"\x80\x02}(" + text("dims") + b"}(" + sizes + b"u" + state + b"u."


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "reason"),
    [
        (0, (4,), (1,), "has no tensor"),  # as it should be, but it is no Whisper
        (1, (4,), (1,), "does not fit its 4 values"),
        (0, (5,), (1,), "does not fit"),
        (0, (2,), (1 << 40,), "does not fit"),
        (0, (1 << 20, 1 << 20), (0, 0), "does not fit"),
        (0, (1 << 62,), (1,), "absurd shape"),
        (-1, (4,), (1,), "absurd shape"),
        (0, (4,), (-1,), "absurd shape"),
        (0, (4,), (1, 1), "absurd strides"),
        (0, (1,) * 9, (1,) * 9, "absurd shape"),
    ],
)
def test_tensors_outside_their_values(
    tmp_path: Path, offset: int, shape: Any, strides: Any, reason: str
) -> None:
    path = zipped(tmp_path / "x.pt", tensor_pickle(offset, shape, strides), {"0": bytes(16)})
    refuse(path, reason)


def test_storages_that_are_not_there_or_of_another_size(tmp_path: Path) -> None:
    good = tensor_pickle(0, (4,), (1,))
    refuse(zipped(tmp_path / "x.pt", good), "has no member data/0")
    refuse(zipped(tmp_path / "y.pt", good, {"0": bytes(12)}), "data/0 has 12 bytes, not 4 values")
    huge = tensor_pickle(0, (4,), (1,), count=1 << 40)
    refuse(zipped(tmp_path / "z.pt", huge, {"0": bytes(16)}), "data/0 has 16 bytes")


def test_archives_that_are_none_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    refuse(path, "a zip archive, not a Whisper checkpoint")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))  # a bomb of 100 kB
    refuse(path, "compressed")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/byteorder", "big")
    refuse(path, "big-endian")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/code/x.py", "")
    refuse(path, "a TorchScript archive")


def test_members_beyond_the_end_of_the_archive(tmp_path: Path) -> None:
    """The directory at its end is whole, what it tells of is not."""
    path = zipped(tmp_path / "x.pt", tensor_pickle(0, (4,), (1,)), {"0": bytes(16)})
    entry = path.read_bytes().rindex(b"PK\1\2")
    size = path.stat().st_size
    for field in (20, 24):  # compressed, and as it was
        cut(path, entry + field, size)
    refuse(path, "is larger than the file")
    cut(path, entry + 42, size)  # where it begins
    refuse(path, "has no header where the archive says")


@pytest.mark.parametrize("part", [0.001, 0.2, 0.5, 0.9, 0.999])
def test_cut_short(tmp_path: Path, part: float) -> None:
    tensors = random_tensors()
    ggml = files.write_ggml(tmp_path / "ggml.bin", tensors, "q5_0")
    hf = files.write_huggingface(tmp_path / "hf", tensors)
    ct2 = files.write_ctranslate2(tmp_path / "ct2", tensors, "int8")
    sources = {ggml: ggml, hf / "model.safetensors": hf, ct2 / "model.bin": ct2}
    for path, source in sources.items():
        data = path.read_bytes()
        path.write_bytes(data[: int(part * len(data))])
        with pytest.raises(ModelError, match="cut short|no tensor") as caught:
            read_checkpoint(source)
        assert str(path.name) in str(caught.value) or source.name in str(caught.value)
    pytest.importorskip("torch")
    path = files.write_openai(tmp_path / "x.pt", tensors)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refuse(path, "cut short|kind that is not known")


def cut(path: Path, at: int, value: int, code: str = "<i") -> None:
    """Overwrite a number in a file."""
    data = bytearray(path.read_bytes())
    struct.pack_into(code, data, at, value)
    path.write_bytes(data)


HUGE = 0x7FFFFFFF
FILTERS = 48  # where the sizes of the mel filters stand
VOCABULARY = FILTERS + 8 + 4 * 80 * 201


def test_ggml_with_absurd_sizes(tmp_path: Path) -> None:
    tensors = random_tensors()
    path = tmp_path / "ggml.bin"
    first = VOCABULARY + 4 + sum(4 + len(t) for t in files.vocabulary().tokens)
    for at, value, reason in [
        (4, HUGE, "n_vocab: 2147483647 is not in"),
        (4, -1, "n_vocab: -1"),
        (12, 0, "n_audio_state: 0"),
        (16, 7, "no multiple of 7 heads"),
        (20, 100_000, "n_audio_layer"),
        (24, 3, "has no tensor|is \\(16, 64\\)"),
        (FILTERS, HUGE, "mel filters of 2147483647"),
        (FILTERS + 4, HUGE, "mel filters of 80 x 2147483647"),
        (VOCABULARY, HUGE, "vocabulary of 2147483647"),
        (VOCABULARY, -5, "vocabulary of -5"),
        (VOCABULARY + 4, HUGE, "token 0 has 2147483647 bytes"),
        (VOCABULARY + 4, -1, "token 0 has -1 bytes"),
        (first, 9, "a tensor of 9 dimensions"),
        (first, -1, "a tensor of -1 dimensions"),
        (first + 4, HUGE, "a name of 2147483647 bytes"),
        (first + 8, 99, "is of type 99"),
        (first + 12, HUGE, "cut short|a name|do not divide"),
        (first + 12, -64, "is of shape"),
        (first + 12, 0, "is of shape"),
    ]:
        files.write_ggml(path, tensors, "f16")
        cut(path, at, value)
        refuse(path, reason)


def test_ggml_with_tensors_of_another_model(tmp_path: Path) -> None:
    tensors = random_tensors()
    path = tmp_path / "ggml.bin"
    data = files.write_ggml(path, tensors, "f16").read_bytes()
    extra = files.ggml_tensor("decoder.surprise", np.zeros(3, "<f4"), "f32")
    path.write_bytes(data + extra)
    refuse(path, "no place for tensor decoder.surprise")
    again = files.ggml_tensor("decoder.ln.bias", tensors["decoder.ln.bias"], "f32")
    path.write_bytes(data + again)
    refuse(path, "two tensors decoder.ln.bias")
    del tensors["decoder.ln.bias"]
    files.write_ggml(path, tensors, "f16")
    refuse(path, "has no tensor decoder.ln.bias")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"[1]", "not a table"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"x": 1}', "x: its entry is malformed"),
        (b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 9999]}}', "cut short"),
        (b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', "lies at 4..0"),
        (b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}', "whole numbers"),
        (b'{"x": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}', "whole numbers"),
        (b'{"x": {"dtype": "F32", "shape": [9999999999], "data_offsets": [0, 4]}}', "fit its 4"),
        (b'{"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}', "F8_E4M3"),
    ],
)
def test_safetensors_headers(tmp_path: Path, header: bytes, reason: str) -> None:
    folder = files.write_huggingface(tmp_path / "hf", random_tensors())
    path = folder / "model.safetensors"
    header = header.ljust(16)
    start = b"{" if not header.startswith(b"{") else b""
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    if start:  # not even recognised by its start: the folder's reader says what the file is
        reason = f"{reason}|not a safetensors file"
    with pytest.raises(ModelError, match=reason) as caught:
        read_checkpoint(folder)
    assert "model.safetensors" in str(caught.value)


def test_huggingface_settings_that_do_not_fit(tmp_path: Path) -> None:
    folder = files.write_huggingface(tmp_path / "hf", random_tensors())
    for change, reason in [
        ({"model_type": "wav2vec2"}, "model_type is 'wav2vec2', not 'whisper'"),
        ({"d_model": "64"}, "d_model is '64', not a whole number"),
        ({"d_model": 1 << 40}, "d_model"),
        ({"encoder_layers": None}, "encoder_layers is None"),
        ({"encoder_attention_heads": 3}, "no multiple of 3 heads"),
        ({"encoder_ffn_dim": 100}, "encoder_ffn_dim is 100"),
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"scale_embedding": True}, "scale_embedding is True"),
        ({"decoder_layers": 3}, "has no tensor decoder.blocks.2"),
        ({"decoder_layers": 1}, "no place for tensor model.decoder.layers.1"),
        ({"vocab_size": 99}, r"token_embedding.weight is \(1812, 64\), the sizes say \(99, 64\)"),
    ]:
        (folder / "config.json").write_text(json.dumps(files.hf_config() | change))
        with pytest.raises(ModelError, match=reason):
            read_checkpoint(folder)
    (folder / "config.json").write_text(json.dumps(files.hf_config()))
    (folder / "preprocessor_config.json").write_text('{"feature_size": 128}')
    with pytest.raises(ModelError, match="feature_size is 128, mynah's Whisper has 80"):
        read_checkpoint(folder)
    (folder / "preprocessor_config.json").unlink()
    (folder / "generation_config.json").write_text('{"alignment_heads": [[1]]}')
    with pytest.raises(ModelError, match="not a list of pairs"):
        read_checkpoint(folder)
    (folder / "generation_config.json").write_text('{"suppress_tokens": ["x"]}')
    with pytest.raises(ModelError, match="not a list of tokens"):
        read_checkpoint(folder)


def test_shards_stay_in_the_folder(tmp_path: Path) -> None:
    folder = files.write_huggingface(tmp_path / "hf", random_tensors(), shards=2)
    index = folder / "model.safetensors.index.json"
    for file in ("../x.safetensors", "/etc/passwd", "..\\x", 3):
        index.write_text(json.dumps({"weight_map": {"x": file}}))
        with pytest.raises(ModelError, match="is not a file of the folder"):
            read_checkpoint(folder)
    index.write_text(json.dumps({"weight_map": {"x": "model-00001.safetensors"}}))
    with pytest.raises(ModelError, match="has no tensor x"):
        read_checkpoint(folder)


def ct2_changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    variables = files.ct2_variables(random_tensors(), DIMS, "int8")
    change(variables)
    (folder / "model.bin").write_bytes(files.ct2_bytes(variables))


def test_ctranslate2_that_does_not_fit(tmp_path: Path) -> None:
    folder = files.write_ctranslate2(tmp_path / "ct2", random_tensors(), "int8")
    fused = "encoder/layer_0/self_attention/linear_0"
    bias = np.ones(192, "<f4")
    cases: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
        (lambda v: v.pop(f"{fused}/weight_scale"), "whole numbers without a scale"),
        (lambda v: v.update({f"{fused}/weight_scale": bias[:5]}), "weight_scale is of shape"),
        (lambda v: v.update({f"{fused}/bias": bias}), "gives the keys a bias"),
        (lambda v: v.update({f"{fused}/bias": bias[:190]}), "not 3 in one"),
        (lambda v: v.pop(f"{fused}/weight"), "has no tensor encoder.blocks.0.attn.query"),
        (lambda v: v.update({"decoder/activation": np.int8(0)}), "decoder/activation is 0"),
        (lambda v: v.update({"decoder/x/weight": bias}), "no place for variable decoder/x/weight"),
        (lambda v: v.update({"encoder/num_heads": np.int16(0)}), "n_audio_head: 0"),
    ]
    for change, reason in cases:
        ct2_changed(folder, change)
        with pytest.raises(ModelError, match=reason) as caught:
            read_checkpoint(folder)
        assert "model.bin" in str(caught.value)
    path = folder / "model.bin"
    good = files.ct2_bytes(files.ct2_variables(random_tensors(), DIMS, "float32"))
    path.write_bytes(good.replace(b"WhisperSpec", b"TransfoSpec"))
    with pytest.raises(ModelError, match="CTranslate2 for 'TransfoSpec'"):
        read_checkpoint(folder)
    at = good.index(b"decoder/activation\0") + len(b"decoder/activation\0")
    for where, code, value, reason in [
        (at, "<B", 9, "does not fit|cut short|type"),
        (at + 1, "<B", 77, "is of type 77"),
        (at + 2, "<I", 0xFFFFFFFF, "does not fit its 4294967295 bytes"),
        (22, "<I", 0xFFFFFFFF, "cut short|of type"),
    ]:
        path.write_bytes(good)
        cut(path, where, value, code)
        with pytest.raises(ModelError, match=reason):
            read_checkpoint(folder)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (b"\x80\x02}q\x00.", "a bare pickle .*not opened"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"  <html>", "a web page"),
        (b"hello there", "a text"),
        (bytes(range(100)), "a kind that is not known"),
        (struct.pack("<Q", 2) + b"{}" + bytes(50), "a safetensors file; give a folder"),
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "ggml.bin"])
def test_mislabelled_files_say_what_they_are(
    tmp_path: Path, data: bytes, reason: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    refuse(path, reason)


def test_mislabelled_folders_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        read_checkpoint(tmp_path / "none")
    folder = tmp_path / "x"
    folder.mkdir()
    with pytest.raises(ModelError, match="x: has no checkpoint"):
        read_checkpoint(folder)
    files.write_ggml(folder / "ggml-tiny.bin", random_tensors(), "f16")
    with pytest.raises(ModelError, match="to import ggml-tiny.bin, name that file"):
        read_checkpoint(folder)
    (folder / "ggml-tiny.bin").rename(folder / "model.bin")
    with pytest.raises(ModelError, match=r"model.bin: a ggml file of whisper.cpp, not"):
        read_checkpoint(folder)
    read = read_checkpoint(folder / "model.bin")  # named by itself, the name does not matter
    assert read.layout == "ggml"
    hf = files.write_huggingface(tmp_path / "hf", random_tensors())
    (hf / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match="model.safetensors: a pointer of Git LFS"):
        read_checkpoint(hf)
    (hf / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="hf: has neither"):
        read_checkpoint(hf)
    (hf / "config.json").write_text("{")
    with pytest.raises(ModelError, match="config.json: not JSON"):
        read_checkpoint(hf)
    (hf / "model.toml").write_text("")
    with pytest.raises(ModelError, match="a model folder of mynah"):
        read_checkpoint(hf)


def test_too_large_for_half_precision(tmp_path: Path) -> None:
    tensors = random_tensors()
    tensors["decoder.ln.bias"][3] = 1e5
    read = read_checkpoint(files.write_huggingface(tmp_path / "hf", tensors))
    with pytest.raises(ModelError, match=r"decoder.ln.bias: 1e\+05 is too large for float16"):
        write_safetensors(read.tensors, tmp_path / "x.safetensors", "fp16")


def test_random_damage_gives_a_line_or_a_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    buffer, lines = io.BytesIO(), list[str]()
    tensors = random_tensors()
    files.write_openai(buffer, tensors)  # type: ignore[arg-type]
    ggml = files.write_ggml(tmp_path / "ggml.bin", tensors, "q4_1").read_bytes()
    ct2 = files.ct2_bytes(files.ct2_variables(tensors, DIMS, "int8"))
    (tmp_path / "ct2").mkdir()
    for data, path in [
        (buffer.getvalue(), tmp_path / "x.pt"),
        (ggml, tmp_path / "y.bin"),
        (ct2, tmp_path / "ct2" / "model.bin"),
    ]:
        for _ in range(60):
            damaged = np.frombuffer(data, np.uint8).copy()
            most = min(len(data), 60_000)
            damaged[rng.integers(0, most, 4)] = rng.integers(0, 256, 4)
            if path.suffix == ".pt":  # where the archive's directory stands
                damaged[-rng.integers(1, 4000)] ^= 0x55
            path.write_bytes(damaged.tobytes())
            try:
                read = read_checkpoint(path)
                for name in read.tensors:
                    read.tensors[name]
            except ModelError as error:
                lines.append(str(error))
    assert lines and all("\n" not in line for line in lines)
