"""The PyTorch engine of Whisper against a plain float64 one; graphs are played by a stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_reference import Reference, random_whisper

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from mynah.errors import ConfigError, ModelError  # noqa: E402
from mynah.export import whisper_torch  # noqa: E402
from mynah.export.whisper_torch import TorchWhisper  # noqa: E402
from mynah.model_folder import read_model_folder  # noqa: E402
from mynah.models.whisper.convert import import_whisper  # noqa: E402
from mynah.models.whisper.model import Whisper  # noqa: E402
from mynah.nn.weights import fill  # noqa: E402
from mynah.runtime.whisper.config import WhisperConfig, WhisperDims  # noqa: E402

DIMS = WhisperDims(80, 60, 32, 2, 1, files.TOKENS, 64, 32, 2, 2)


@pytest.fixture(scope="module")
def pair() -> tuple[Reference, Whisper]:
    dims, tensors = random_whisper(DIMS, seed=7)
    model = Whisper(WhisperConfig(dims))
    fill(model, {name: torch.from_numpy(value) for name, value in tensors.items()}, "random")
    return Reference(dims, tensors), model


@pytest.fixture
def mels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((3, 80, 80)).astype(np.float32)


class FakeGraph:
    """Runs the step again over the slot's buffers, as a captured graph does."""

    def __init__(self, run: Any, slot: Any) -> None:
        self.run, self.slot, self.replays = run, slot, 0

    def replay(self) -> None:
        self.replays += 1
        self.slot.logits.copy_(self.run())


def pretend(monkeypatch: pytest.MonkeyPatch, engine: TorchWhisper) -> list[FakeGraph]:
    """Let the engine capture; gives the graphs that it makes."""
    made: list[FakeGraph] = []

    def capture(slot: Any, decoder: Any) -> None:
        memory, past, tokens, at = slot.memory, slot.past, slot.tokens, slot.at

        def run() -> Any:  # the buffers of now, whatever the slot holds later
            return decoder.logits(decoder(tokens, memory, past, at)[:, -1]).float()

        slot.logits = run()
        slot.graph = FakeGraph(run, slot)
        made.append(slot.graph)

    monkeypatch.setattr(whisper_torch._Slot, "_capture", capture)
    monkeypatch.setattr(engine._pool, "_captured", True)
    return made


# tokens of each call and whom they continue: hypotheses that part, change places and end
SCRIPT: Sequence[tuple[int, Sequence[int] | None]] = (
    (4, None),
    (1, [0, 0, 1, 1, 2, 2]),
    (1, None),
    (1, [1, 0, 2, 2, 5, 4]),
    (1, [0, 1, 2, 3, 4, 5]),
    (2, [0, 0, 2, 3, 5, 5]),
    (1, [0, 1, 3]),
    (1, [0, 1, 1, 2]),
    (1, None),
    (1, [3, 0, 0, 1]),
)


def play(decoders: Sequence[Any], every: bool, vocab: int) -> None:
    rng, count = np.random.default_rng(3), 3
    for size, parents in SCRIPT:
        count = count if parents is None else len(parents)
        tokens = rng.integers(0, vocab, (count, size))
        order = None if parents is None else np.array(parents)
        wanted, found = (d(tokens, order, every=every) for d in decoders)
        assert found.shape == wanted.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("every", [False, True])
def test_the_same_logits_as_the_reference(
    pair: tuple[Reference, Whisper],
    mels: np.ndarray[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    graphs: bool,
    every: bool,
) -> None:
    reference, model = pair
    engine = TorchWhisper(model, "fp32")
    made = pretend(monkeypatch, engine) if graphs else []
    heard = engine.encode(mels), reference.encode(mels)
    np.testing.assert_allclose(heard[0].output, heard[1].output, atol=1e-4)
    assert heard[0].frames == heard[1].frames == 40
    for _ in range(3):  # the second time buffers and graphs are used again
        play([reference.decoder(heard[1], [0, 1, 2], 20), engine.decoder(heard[0], [0, 1, 2], 20)],
             every, DIMS.n_vocab)  # fmt: skip
    other = mels[::-1].copy()
    again = engine.encode(other), reference.encode(other)
    play([reference.decoder(again[1], [2, 0, 1], 20), engine.decoder(again[0], [2, 0, 1], 20)],
         every, DIMS.n_vocab)  # fmt: skip
    assert bool(made) is graphs
    assert sum(graph.replays for graph in made) >= 10 * graphs


def test_two_decoders_at_once_do_not_share_buffers(
    pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any]
) -> None:
    engine = TorchWhisper(pair[1], "fp32")
    heard = engine.encode(mels)
    first, second = (engine.decoder(heard, [0, 1], 12) for _ in range(2))
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    a = first(tokens)
    second(tokens[::-1])
    follow = np.array([[7], [8]])
    b = first(follow)
    third = engine.decoder(heard, [0, 1], 12)
    np.testing.assert_array_equal(third(tokens), a)
    np.testing.assert_array_equal(third(follow), b)
    np.testing.assert_allclose(  # alone as beside another
        engine.decoder(heard, [1])(np.concatenate([tokens, follow], 1)[1:]), b[1:], atol=1e-4
    )


def test_alignment_and_capacity(
    pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any]
) -> None:
    reference, model = pair
    engine = TorchWhisper(model, "fp32")
    rows, heads = [0, 0, 2], [(1, 0), (0, 1), (1, 1)]
    tokens = np.random.default_rng(5).integers(0, DIMS.n_vocab, (3, 7))
    wanted = reference.decoder(reference.encode(mels), rows).align(tokens, heads)
    decoder = engine.decoder(engine.encode(mels), rows, capacity=8)
    before = decoder(tokens)
    np.testing.assert_allclose(decoder.align(tokens, heads), wanted, atol=1e-5)
    fresh = engine.decoder(engine.encode(mels), rows, capacity=8)
    np.testing.assert_array_equal(fresh(tokens), before)
    np.testing.assert_array_equal(decoder(tokens[:, :1]), fresh(tokens[:, :1]))
    with pytest.raises(ValueError, match="made for 8 tokens"):
        decoder(tokens[:, :1])


def test_bf16_is_close(pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any]) -> None:
    reference, model = pair
    copy = Whisper(model.config)
    copy.load_state_dict(model.state_dict())
    engine = TorchWhisper(copy.to(torch.bfloat16), "bf16")
    tokens = np.random.default_rng(5).integers(0, DIMS.n_vocab, (3, 7))
    found = engine.decoder(engine.encode(mels), [0, 1, 2])(tokens)
    wanted = reference.decoder(reference.encode(mels), [0, 1, 2])(tokens)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 0.15 * wanted.std()


def test_loading(tmp_path: Path) -> None:
    tensors = files.random_tensors(files.DIMS)
    source = files.write_huggingface(tmp_path / "hf", tensors)
    folder = read_model_folder(import_whisper(source, tmp_path / "model", weights="fp16"))
    engine = whisper_torch.load(folder, precision="auto", threads=1, device="cpu")
    assert engine.name == "torch fp32 cpu" and engine.dims == files.DIMS
    with pytest.raises(ConfigError, match="precision: the torch engine computes in fp32, fp16"):
        whisper_torch.load(folder, precision="int8", threads=1, device="cpu")
    with pytest.raises(ConfigError, match="device: 'gpu'"):
        whisper_torch.load(folder, precision="auto", threads=1, device="gpu")
    from mynah.model_folder import find_model

    with pytest.raises(ModelError, match="has no weights.safetensors"):
        bundled = read_model_folder(find_model())
        whisper_torch.load(bundled, precision="auto", threads=1, device="cpu")
