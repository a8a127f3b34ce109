"""Which kind of checkpoint a source is, by what is in it."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from mynah.errors import ModelError
from mynah.models.whisper.checkpoints import ctranslate2, ggml
from mynah.models.whisper.checkpoints.checkpoint import WhisperCheckpoint
from mynah.models.whisper.checkpoints.ctranslate2 import read_ctranslate2
from mynah.models.whisper.checkpoints.ggml import read_ggml
from mynah.models.whisper.checkpoints.huggingface import read_huggingface, read_json
from mynah.models.whisper.checkpoints.openai import read_openai

_READERS = {
    "openai": read_openai,
    "huggingface": read_huggingface,
    "ggml": read_ggml,
    "ctranslate2": read_ctranslate2,
}
_TELLING = 4096  # bytes at the start of a file
_TEXTS = (b"version https://git-lfs", b"<!doctype", b"<html", b"<?xml")
_KNOWN = (
    "OpenAI's .pt, a Hugging Face folder, whisper.cpp's ggml .bin and CTranslate2 folders are read"
)


def read_checkpoint(source: str | Path) -> WhisperCheckpoint:
    """Read a Whisper checkpoint of any known layout.

    Raises:
        ModelError: it is none, or broken; the line says what it is instead.
    """
    path = Path(source)
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder")
    layout, place = _layout(path)
    return _READERS[layout](place)


def _layout(path: Path) -> tuple[str, Path]:
    """The kind of a source, and the file or folder to read."""
    if path.is_dir():
        return _folder(path), path
    kind = describe(path)
    if kind == "a ggml file of whisper.cpp":
        return "ggml", path
    if kind == "a model.bin of CTranslate2":
        return "ctranslate2", path.parent
    part = (
        path.name.startswith(("model", "pytorch_model")) and (path.parent / "config.json").is_file()
    )
    if kind in ("a file of torch.save", "a safetensors file") and part:
        return "huggingface", path.parent
    if kind == "a file of torch.save":
        return "openai", path
    if kind == "a safetensors file":
        raise ModelError(f"{path}: {kind}; give a folder that has its config.json too")
    raise ModelError(f"{path}: {kind}, not a Whisper checkpoint; {_KNOWN}")


def _folder(path: Path) -> str:
    if (path / "model.toml").is_file():
        raise ModelError(f"{path}: a model folder of mynah, nothing to import")
    binary, config = path / ctranslate2.MODEL, path / "config.json"
    if binary.is_file():
        kind = describe(binary)
        if kind == "a model.bin of CTranslate2":
            return "ctranslate2"
        raise ModelError(f"{binary}: {kind}, not the model.bin of CTranslate2")
    if config.is_file():
        for name in ("model.safetensors", "pytorch_model.bin"):
            wanted = "a safetensors file" if name.endswith("tensors") else "a file of torch.save"
            if (path / name).is_file() and (kind := describe(path / name)) != wanted:
                raise ModelError(f"{path / name}: {kind}, not {wanted}")
        read_json(config)
        return "huggingface"
    files = [p for p in sorted(path.iterdir()) if p.suffix in (".pt", ".bin") and p.is_file()]
    if files:
        raise ModelError(f"{path}: has no config.json; to import {files[0].name}, name that file")
    raise ModelError(f"{path}: has no checkpoint; {_KNOWN}")


def describe(path: Path) -> str:
    """What a file is, in a few words.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_TELLING)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if start.startswith(b"PK\3\4"):
        return _describe_zip(path)
    if start.startswith(ggml.MAGIC):
        return "a ggml file of whisper.cpp"
    if start.startswith(b"GGUF"):
        return "a GGUF file, which whisper.cpp does not use"
    if spec := ctranslate2.spec_of(memoryview(start)):
        return f"a model.bin of CTranslate2{'' if spec == 'WhisperSpec' else f' for {spec[:40]!r}'}"
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return "a bare pickle (of PyTorch before 1.6?), which is not opened"
    if start.lower().startswith(_TEXTS[0]):
        return "a pointer of Git LFS, the file itself was not downloaded"
    if start.lstrip().lower().startswith(_TEXTS[1:]):
        return "a web page"
    if not start:
        return "an empty file"
    return _describe_rest(start)


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return "a zip archive that is broken or cut short"
    found = any(name.split("/")[1:] == ["data.pkl"] for name in names)
    if found and any("/code/" in name for name in names):
        return "a TorchScript archive"
    return "a file of torch.save" if found else "a zip archive"


def _describe_rest(start: bytes) -> str:
    if len(start) > 9 and start[8:9] == b"{" and struct.unpack_from("<Q", start)[0] < 1 << 40:
        return "a safetensors file"
    return "a text" if not any(byte < 9 for byte in start) else "a file of a kind that is not known"
