"""The float64 Whisper of the tests against openai-whisper and transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_reference import DIMS, FULL, Reference, random_whisper, write_random

pytestmark = pytest.mark.filterwarnings("ignore")  # what the originals think of each other

TOKENS = np.array([[301, 302, 306, 7, 99, 310, 500], [301, 303, 305, 17, 255, 1700, 12]])
PARENTS = np.array([1, 0, 1])
NEXT = (310, 1700, 1700)


def mels(batch: int = 2, frames: int = 3000) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(2)
    return rng.uniform(-1, 1.5, (batch, 80, frames)).astype(np.float32)


def stepped(engine: Reference) -> tuple[Any, Any, Any]:
    """What a reference says: encoder, all logits of a prompt, and those after a reordering."""
    heard = engine.encode(mels())
    step = engine.decoder(heard, [0, 1])
    prompt = step(TOKENS[:, :5], every=True)
    after = step(np.concatenate([TOKENS, TOKENS[1:]])[:, 5:6], PARENTS)
    return heard.output, prompt, after


def test_openai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = pytest.importorskip("whisper")
    torch = pytest.importorskip("torch")
    output, prompt, after = stepped(Reference(*random_whisper()))
    path = write_random(tmp_path / "tiny.pt", "openai")
    saved = torch.load(path, weights_only=True)
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**saved["dims"])).double()
    model.load_state_dict(saved["model_state_dict"])
    through = torch.nn.LayerNorm.forward  # theirs goes through float32
    monkeypatch.setattr(whisper.model.LayerNorm, "forward", through)
    with torch.no_grad():
        heard = model.encoder(torch.from_numpy(mels()).double())
        whole = model.logits(torch.from_numpy(TOKENS), heard)
        swapped = np.stack([[*TOKENS[p][:5], t] for p, t in zip(PARENTS, NEXT, strict=True)])
        other = model.logits(torch.from_numpy(swapped), heard[PARENTS])
    assert dataclasses.asdict(DIMS) == saved["dims"]
    np.testing.assert_allclose(output, heard.numpy(), atol=1e-9)
    np.testing.assert_allclose(prompt, whole[:, :5].numpy(), atol=1e-5)
    np.testing.assert_allclose(after, other[:, -1].numpy(), atol=1e-5)


def test_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    output, prompt, _ = stepped(Reference(*random_whisper()))
    folder = write_random(tmp_path / "hf", "huggingface")
    model = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        out = model(
            input_features=torch.from_numpy(mels()),
            decoder_input_ids=torch.from_numpy(TOKENS[:, :5]),
            output_attentions=True,
        )
    np.testing.assert_allclose(output, out.encoder_last_hidden_state.numpy(), atol=1e-4)
    np.testing.assert_allclose(prompt, out.logits.numpy(), atol=1e-4)
    engine = Reference(*random_whisper())
    step = engine.decoder(engine.encode(mels()), [0, 1])
    weights, _ = step.align(TOKENS[:, :5], [(1, 0), (0, 1)])
    for place, (layer, head) in enumerate([(1, 0), (0, 1)]):
        wanted = out.cross_attentions[layer][:, head].numpy()
        np.testing.assert_allclose(weights[:, place], wanted, atol=1e-5)


def test_a_short_context_is_the_beginning_of_the_positions() -> None:
    engine = Reference(*random_whisper())
    assert engine.encode(mels(1, 500)).output.shape == (1, 250, DIMS.n_audio_state)


def test_the_random_model_says_times_and_ends() -> None:
    dims, tensors = random_whisper(FULL)
    assert tensors["decoder.token_embedding.weight"].shape == (FULL.n_vocab, FULL.n_text_state)
    assert files.TOKENS == DIMS.n_vocab != dims.n_vocab
