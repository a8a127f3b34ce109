"""Logits of the PyTorch Whisper beside those of transformers and of openai-whisper."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files

torch = pytest.importorskip("torch")

from mynah.models.whisper.model import Whisper  # noqa: E402
from mynah.nn.weights import fill  # noqa: E402
from mynah.runtime.whisper.config import WhisperConfig, WhisperDims  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # what the originals think of each other

LAYOUTS = {
    "english-only": WhisperDims(80, 40, 48, 3, 2, 51_864, 16, 48, 3, 2),
    "multilingual": WhisperDims(80, 40, 48, 3, 1, 51_865, 16, 48, 3, 2),
    "128 mels": WhisperDims(128, 40, 48, 3, 2, 51_866, 16, 48, 3, 1),
}


@pytest.fixture(params=LAYOUTS)
def case(request: Any) -> tuple[WhisperDims, files.Weights, Any, Any, Any]:
    """Sizes, random weights, our model, two windows and two texts."""
    dims = LAYOUTS[request.param]
    weights = files.random_tensors(dims, seed=3)
    model = Whisper(WhisperConfig(dims)).eval()
    fill(model, {k: torch.from_numpy(v) for k, v in weights.items()}, "random")
    torch.manual_seed(1)
    mels = torch.randn(2, dims.n_mels, 2 * dims.n_audio_ctx)
    tokens = torch.randint(0, dims.n_vocab, (2, 11))
    return dims, weights, model, mels, tokens


def close(found: Any, wanted: Any) -> None:
    scale = max(1.0, float(wanted.abs().max()))
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-4 * scale, rtol=0)
    assert float(wanted.std()) > 0.05, "the logits say nothing"


def test_transformers(case: tuple[Any, ...], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    dims, weights, model, mels, tokens = case
    folder = files.write_huggingface(tmp_path / "hf", weights, dims)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = theirs(input_features=mels, decoder_input_ids=tokens).logits
        close(model(mels, None, tokens), wanted)


def test_openai(case: tuple[Any, ...]) -> None:
    whisper = pytest.importorskip("whisper")
    dims, weights, model, mels, tokens = case
    theirs = whisper.model.Whisper(whisper.model.ModelDimensions(**dataclasses.asdict(dims)))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=True)
    assert set(theirs.state_dict()) == set(model.state_dict())
    with torch.no_grad():
        close(model(mels, None, tokens), theirs.eval()(mels, tokens))
