"""ggml files by whisper.cpp's own converter; WHISPER_CPP names a checkout of its repository."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.model_folder import read_model_folder
from mynah.models.whisper.convert import import_whisper
from mynah.runtime.whisper.config import WhisperDims
from mynah.runtime.whisper.engine import load_whisper_engine

DIMS = WhisperDims(80, 100, 32, 2, 1, 51865, 32, 32, 2, 2)
TOKENS = np.array([[50258, 50259, 50359, 50363, 11, 22]])


@pytest.mark.parametrize("kind", ["f16", "f32"])
def test_what_its_converter_writes(kind: str, tmp_path: Path) -> None:
    root = os.environ.get("WHISPER_CPP")
    if root is None:
        pytest.skip("WHISPER_CPP names no checkout of whisper.cpp")
    whisper: Any = pytest.importorskip("whisper")
    import torch

    sizes = dataclasses.asdict(DIMS)
    torch.manual_seed(1)
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**sizes))
    torch.nn.init.normal_(model.decoder.positional_embedding)  # which it leaves as it finds it
    model.half()
    source = tmp_path / "small.pt"
    torch.save({"dims": sizes, "model_state_dict": model.state_dict()}, source)
    script = Path(root) / "models" / "convert-pt-to-ggml.py"
    assets = Path(whisper.__file__).resolve().parents[1]
    command = [sys.executable, str(script), str(source), str(assets), str(tmp_path)]
    subprocess.run([*command, *(["f32"] if kind == "f32" else [])], check=True, capture_output=True)
    name = "ggml-model-f32.bin" if kind == "f32" else "ggml-model.bin"
    theirs = import_whisper(tmp_path / name, tmp_path / "theirs", precision="fp32")
    ours = import_whisper(source, tmp_path / "ours", precision="fp32")
    np.testing.assert_array_equal(logits(theirs), logits(ours))


def logits(folder: Path) -> np.ndarray[Any, Any]:
    engine = load_whisper_engine(read_model_folder(folder), precision="fp32", threads=1)
    mels = np.random.default_rng(0).standard_normal((1, 80, 200)).astype(np.float32)
    found: np.ndarray[Any, Any] = engine.decoder(engine.encode(mels), [0])(TOKENS, every=True)
    assert np.ptp(found) > 0
    return found
