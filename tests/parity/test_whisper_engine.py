"""The engine on ONNX Runtime against openai-whisper and transformers, on whole windows of 30 s."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_reference import random_whisper

from mynah.model_folder import read_model_folder
from mynah.models.whisper.convert import import_whisper
from mynah.runtime.whisper.config import WhisperDims
from mynah.runtime.whisper.engine import load_whisper_engine

pytestmark = pytest.mark.filterwarnings("ignore")  # what the originals think of each other

PROMPT = np.array([[301, 302, 306, 7, 99], [301, 303, 305, 17, 255]])
PARENTS = ([1, 0, 1], [0, 0, 2, 1], [3, 1])  # beams: the hypotheses that go on
BOUND = {"fp32": 1e-4, "int8": 0.5}  # of logits up to 17


def dims(mels: int) -> WhisperDims:
    return WhisperDims(mels, 1500, 64, 2, 2, files.TOKENS, 128, 64, 2, 2)


def mels(bands: int) -> Any:
    rng = np.random.default_rng(2)
    return rng.uniform(-1, 1.5, (2, bands, 3000)).astype(np.float32)


def steps(engine: Any, heard: Any) -> tuple[list[Any], list[Any]]:
    """Logits of a prompt at once, of the same token by token, and of beams that change places, and
    the texts that they belong to."""
    step = engine.decoder(heard, [0, 1])
    found = [step(PROMPT, every=True)]
    texts = [list(enumerate(PROMPT.tolist()))]
    single = engine.decoder(heard, [0, 1])
    each = [single(PROMPT[:, i : i + 1]) for i in range(PROMPT.shape[1])]
    np.testing.assert_allclose(np.stack(each, axis=1), found[0], atol=1e-4)
    now = texts[0]
    for number, parents in enumerate(PARENTS):
        tokens = np.arange(len(parents))[:, None] + 40 * number
        found.append(step(tokens, np.array(parents)))
        now = [
            (now[p][0], [*now[p][1], int(t)]) for p, t in zip(parents, tokens[:, 0], strict=True)
        ]
        texts.append(now)
    return found, texts


def compare(folder: Path, bands: int, wanted: Any) -> None:
    """``wanted(mels, tokens)`` gives output and logits (B, n, V) of the original."""
    given = mels(bands)
    for precision, atol in BOUND.items():
        engine = load_whisper_engine(read_model_folder(folder), precision=precision)
        heard = engine.encode(given)
        found, texts = steps(engine, heard)
        for logits, hypotheses in zip(found, texts, strict=True):
            rows = [row for row, _ in hypotheses]
            output, whole = wanted(given[rows], np.array([text for _, text in hypotheses]))
            np.testing.assert_allclose(heard.output[rows], output, atol=atol)
            whole = whole if logits.ndim == 3 else whole[:, -1]
            np.testing.assert_allclose(logits, whole, atol=atol)


def written(place: Path, layout: str, tensors: dict[str, Any], sizes: WhisperDims) -> Path:
    """A model folder, imported from a checkpoint of ``layout``."""
    hf = files.write_huggingface(place / "hf", tensors, sizes)
    source = hf
    if layout == "openai":
        source = files.write_openai(place / "model.pt", tensors, sizes)
    elif layout == "ggml":
        source = files.write_ggml(place / "ggml.bin", tensors, "f32", sizes)
    elif layout == "ctranslate2":
        source = files.write_ctranslate2(place / "ct2", tensors, "float32", sizes)
    return import_whisper(source, place / "out", tokenizer=hf, precision="both")


@pytest.mark.parametrize(("layout", "bands"), [("openai", 80), ("ggml", 128)])
def test_openai(tmp_path: Path, layout: str, bands: int) -> None:
    whisper = pytest.importorskip("whisper")
    torch = pytest.importorskip("torch")
    sizes, tensors = random_whisper(dims(bands), seed=bands)
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**dataclasses.asdict(sizes)))
    model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})

    @torch.no_grad()
    def wanted(given: Any, tokens: Any) -> Any:
        heard = model.encoder(torch.from_numpy(given))
        return heard.numpy(), model.logits(torch.from_numpy(tokens), heard).numpy()

    compare(written(tmp_path, layout, tensors, sizes), bands, wanted)


@pytest.mark.parametrize(("layout", "bands"), [("huggingface", 128), ("ctranslate2", 80)])
def test_transformers(tmp_path: Path, layout: str, bands: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    sizes, tensors = random_whisper(dims(bands), seed=bands)
    folder = written(tmp_path, layout, tensors, sizes)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "hf").eval()

    @torch.no_grad()
    def wanted(given: Any, tokens: Any) -> Any:
        out = model(torch.from_numpy(given), decoder_input_ids=torch.from_numpy(tokens))
        return out.encoder_last_hidden_state.numpy(), out.logits.numpy()

    compare(folder, bands, wanted)


def test_short_context(tmp_path: Path) -> None:
    """What is heard of less than 30 s is what the original's encoder gives for it, when it is let:
    its positions cut to the length."""
    whisper = pytest.importorskip("whisper")
    torch = pytest.importorskip("torch")
    sizes, tensors = random_whisper(dims(80), seed=4)
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**dataclasses.asdict(sizes)))
    model.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    folder = written(tmp_path, "huggingface", tensors, sizes)
    given = mels(80)[:1, :, :444]
    model.encoder.positional_embedding = model.encoder.positional_embedding[:222]
    with torch.no_grad():
        output = model.encoder(torch.from_numpy(given))
        whole = model.logits(torch.from_numpy(PROMPT[:1]), output).numpy()
    for precision, atol in BOUND.items():
        engine = load_whisper_engine(read_model_folder(folder), precision=precision)
        heard = engine.encode(given)
        assert heard.frames == 222
        np.testing.assert_allclose(heard.output, output.numpy(), atol=atol)
        logits = engine.decoder(heard, [0])(PROMPT[:1], every=True)
        np.testing.assert_allclose(logits, whole, atol=atol)
