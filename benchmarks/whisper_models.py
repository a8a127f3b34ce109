"""Random Whisper checkpoints of the published sizes, in the layouts of the peers.

They are as large and as slow as trained ones and know nothing. The values come from a seed; the
peers' files are written by their own converters where they have one in Python.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests import whisper_files as files

from mynah.models.whisper.checkpoints.names import shapes
from mynah.models.whisper.positions import sinusoids
from mynah.runtime.whisper.config import WhisperDims
from mynah.text.byte_bpe import Vocabulary, read_vocabulary, to_unicode
from mynah.text.whisper_tokenizer import find_tokens

SIZES = {
    "tiny": (384, 6, 4, 4),
    "base": (512, 8, 6, 6),
    "small": (768, 12, 12, 12),
    "medium": (1024, 16, 24, 24),
    "turbo": (1280, 20, 32, 4),
    "large": (1280, 20, 32, 32),
}
_VOCABULARY = 51865


def dims_of(size: str) -> WhisperDims:
    """Sizes of a multilingual model with 80 mels."""
    width, heads, audio, text = SIZES[size]
    return WhisperDims(80, 1500, width, heads, audio, _VOCABULARY, 448, width, heads, text)


def random_tensors(dims: WhisperDims, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Values as a model has them before training: products keep the size of what they take."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes(dims).items():
        if name == "encoder.positional_embedding":
            tensors[name] = sinusoids(*shape)
            continue
        values = rng.standard_normal(shape, np.float32)
        if len(shape) == 1:
            values = 1 + 0.1 * values if "ln" in name and name.endswith("weight") else 0.1 * values
        else:
            values *= 0.05 if "embedding" in name else float(np.prod(shape[1:])) ** -0.5
        tensors[name] = values
    return tensors


def vocabulary() -> Vocabulary:
    """The vocabulary of the published multilingual models, from openai-whisper."""
    import importlib.util

    found = importlib.util.find_spec("whisper")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the vocabulary is that of openai-whisper: pip install openai-whisper")
    folder = Path(found.submodule_search_locations[0])
    return read_vocabulary(folder / "assets" / "multilingual.tiktoken")


def write_huggingface(size: str, folder: Path) -> Path:
    """A folder that mynah, transformers and CTranslate2's converter read."""
    dims = dims_of(size)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {files.hf_name(k): v for k, v in random_tensors(dims).items()}
    _write_safetensors(tensors, folder / "model.safetensors")
    special = find_tokens(vocabulary(), _VOCABULARY)
    config = files.hf_config(dims) | {
        "pad_token_id": special.eot,
        "bos_token_id": special.eot,
        "eos_token_id": special.eot,
        "decoder_start_token_id": special.sot,
        "architectures": ["WhisperForConditionalGeneration"],
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    _write_tokenizer(folder)
    return folder


def _write_safetensors(tensors: dict[str, npt.NDArray[np.float32]], path: Path) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in tensors.items():
        place = [end, end + value.nbytes]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": place}
        end += value.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            stream.write(value.tobytes())


def _write_tokenizer(folder: Path) -> None:
    vocab = vocabulary()
    special = find_tokens(vocab, _VOCABULARY)
    table = {to_unicode(token): i for i, token in enumerate(vocab.tokens)}
    (folder / "vocab.json").write_text(json.dumps(table), "utf-8")
    lines = "".join(f"{to_unicode(a)} {to_unicode(b)}\n" for a, b in vocab.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, "utf-8")
    names = ["endoftext", "startoftranscript", *special.languages, "translate", "transcribe"]
    names += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    names += [f"{i / 50:.2f}" for i in range(1501)]
    added = {f"<|{name}|>": special.eot + i for i, name in enumerate(names)}
    (folder / "added_tokens.json").write_text(json.dumps(added), "utf-8")


def write_openai(size: str, path: Path) -> Path:
    """``torch.save`` as OpenAI's files are."""
    return files.write_openai(path, random_tensors(dims_of(size)), dims_of(size))


def write_ggml(size: str, path: Path, kind: str = "f16") -> Path:
    """A file of whisper.cpp, its weights ``f16`` or ``q8_0``."""
    vocab, dims = vocabulary(), dims_of(size)
    kinds = {"f16": 1, "q8_0": 2007}  # as whisper.cpp writes them: version 2 of type 7
    data = files.ggml_header(dims)[:-4] + struct.pack("<i", kinds[kind])
    from mynah.audio.mel import slaney_bank

    filters = slaney_bank(80, 400, 16_000).T.astype("<f4")
    with path.open("wb") as stream:
        stream.write(data + struct.pack("<2i", *filters.shape) + filters.tobytes())
        stream.write(struct.pack("<i", len(vocab.tokens)))
        for token in vocab.tokens:
            stream.write(struct.pack("<i", len(token)) + token)
        for name, value in random_tensors(dims).items():
            stream.write(_ggml_tensor(name, value, kind))
    return path


def _ggml_tensor(name: str, value: npt.NDArray[np.float32], kind: str) -> bytes:
    if kind != "q8_0" or value.ndim != 2 or "positional" in name:
        return files.ggml_tensor(name, value, "f16")
    blocks = value.reshape(-1, 32)
    scale = (np.abs(blocks).max(axis=1) / 127).astype(np.float16)
    numbers = np.rint(blocks / scale.astype(np.float32)[:, None]).clip(-127, 127).astype(np.int8)
    packed = np.concatenate([scale[:, None].view(np.int8), numbers], axis=1)
    encoded = name.encode()
    head = struct.pack("<3i", 2, len(encoded), files.BLOCKS[kind])
    return head + struct.pack("<2i", *reversed(value.shape)) + encoded + packed.tobytes()


def write_ctranslate2(huggingface: Path, folder: Path, kind: str = "int8") -> Path:
    """Converted by CTranslate2 from a folder of :func:`write_huggingface`."""
    import ctranslate2

    converter = ctranslate2.converters.TransformersConverter(str(huggingface))
    converter.convert(str(folder), quantization=kind, force=True)
    return folder


def describe(size: str) -> str:
    """The sizes in words, for people."""
    return ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(dims_of(size)).items())
