"""Checkpoints by name from the Hugging Face hub, kept under ``MYNAH_HOME``."""

from __future__ import annotations

import re
from pathlib import Path

from mynah.errors import MissingDependency, ModelError
from mynah.model_folder import home

PREFIX = "hf:"
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:/([\w./-]+))?(?:@([\w./-]+))?")
_SMALL = ["*.json", "*.txt", "*.tiktoken"]
_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.bin"]
_OLD_WEIGHTS = ["pytorch_model.bin", "pytorch_model-*.bin"]


def fetch(name: str) -> Path:
    """The folder, or file, of ``hf:owner/name``, ``hf:owner/name/file`` or either with
    ``@revision``; downloaded where it is not there yet.

    Raises:
        ModelError: not such a name, or it can neither be found nor downloaded.
        MissingDependency: huggingface_hub is not installed.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(
            f"{name}: not of the form hf:owner/name, hf:owner/name/file or ...@revision"
        )
    repository, file, revision = match.groups()
    try:
        import huggingface_hub
    except ImportError:
        raise MissingDependency("huggingface_hub", extra="hub") from None
    cache = home() / "hub"
    try:
        if file:
            return Path(
                huggingface_hub.hf_hub_download(
                    repository, file, revision=revision, cache_dir=cache
                )
            )
        for patterns in (_SMALL + _WEIGHTS, _SMALL + _OLD_WEIGHTS):
            folder = Path(
                huggingface_hub.snapshot_download(
                    repository, revision=revision, cache_dir=cache, allow_patterns=patterns
                )
            )
            if any(any(folder.glob(pattern)) for pattern in patterns[len(_SMALL) :]):
                return folder
    except Exception as error:  # whatever the library, or the network below it, comes up with
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{name}: cannot be downloaded ({reason[:200]})") from None
    return folder
