"""Sessions of an exported U2++ model, weights random: in any company, fed in any way, the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("safetensors")

import mynah  # noqa: E402
from mynah.config import as_dict  # noqa: E402
from mynah.export.folder import export_folder  # noqa: E402
from mynah.model_folder import ModelInfo, read_model_folder, write_model_folder  # noqa: E402
from mynah.models.load import write_weights  # noqa: E402
from mynah.models.u2.model import U2, DecoderConfig, EncoderConfig, U2Config  # noqa: E402
from mynah.runtime.recognizer import Recognizer  # noqa: E402
from mynah.runtime.session import Event  # noqa: E402
from mynah.text import char_tokenizer  # noqa: E402

PRECISIONS = ["fp32", "int8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("u2")
    tokenizer = char_tokenizer(["abcdefgh ijkl mnop"])
    torch.manual_seed(3)
    config = U2Config(
        tokenizer.vocab_size,
        encoder=EncoderConfig(dim=24, heads=2, layers=2, hidden=48, kernel=5),
        decoder=DecoderConfig(layers=1, reverse_layers=1, heads=2, hidden=48),
    )
    model = U2(config).eval()
    model.mean.fill_(15.0)
    model.istd.fill_(0.3)
    torch.nn.init.normal_(model.ctc.weight, std=2.0)  # so that units win over the blank
    info = ModelInfo(
        "u2", "random", 16000, ("en",), config=as_dict(config), frontend={"kind": "fbank"},
        tokenizer=tokenizer.to_dict(), streaming={"chunk": 4, "left": 2},
        decoding={"method": "rescoring", "reverse_weight": 0.3}, voice_activity=False,
    )  # fmt: skip
    with write_model_folder(root / "random", info) as work:
        write_weights(model.state_dict(), work / "weights.safetensors")
        tokenizer.save(work / "tokenizer")
    target = root / "exported"
    export_folder(read_model_folder(root / "random"), target, weights=True)
    return target


@pytest.fixture(scope="module", params=PRECISIONS)
def random(folder: Path, request: pytest.FixtureRequest) -> Recognizer:
    return mynah.load(folder, precision=request.param)


def signals() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = []
    for seconds in (1.1, 2.0, 0.6, 3.3, 1.7):
        loudness = np.repeat(rng.uniform(0, 0.2, int(seconds * 10)), 1600)
        found.append((rng.standard_normal(len(loudness)) * loudness).astype(np.float32))
    return found


def run(recognizer: Recognizer, samples: np.ndarray, size: int, method: str) -> list[Event]:
    session, events = recognizer.stream(method=method), list[Event]()
    for first in range(0, len(samples), size):
        events += session.feed(samples[first : first + size])
    return events + session.feed(samples[:0], last=True)


def same(one: list[Event], other: list[Event]) -> None:
    """Equal events; times exactly, confidences within 1e-3."""
    assert [(type(e), e.text) for e in one] == [(type(e), e.text) for e in other]
    for event, twin in zip(one, other, strict=True):
        for word, again in zip(event.words, twin.words, strict=True):
            assert (word.start, word.end) == (again.start, again.end)
            assert word.confidence == pytest.approx(again.confidence, abs=1e-3)


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "rescoring", "attention"])
def test_ragged(random: Recognizer, method: str) -> None:
    samples = signals()[3]
    whole = run(random, samples, len(samples), method)
    assert len(whole) > 2
    assert run(random, samples, 777, method) == whole


def test_batches(random: Recognizer) -> None:
    alone = [run(random, samples, 1600, "rescoring") for samples in signals()]
    batcher, rng = random.batcher(), np.random.default_rng(1)
    sessions, places = [random.stream() for _ in alone], [0] * len(alone)
    events: list[list[Event]] = [[] for _ in alone]
    while open_ := [n for n, session in enumerate(sessions) if not session.closed]:
        present = [n for n in open_ if rng.random() < 0.7]
        sizes = rng.integers(500, 15000, len(present)).tolist()
        parts = [
            signals()[n][places[n] : places[n] + s] for n, s in zip(present, sizes, strict=True)
        ]
        pairs = [(sessions[n], part) for n, part in zip(present, parts, strict=True)]
        for n, size, found in zip(present, sizes, batcher.feed_many(pairs), strict=True):
            places[n] += size
            events[n] += found
            if places[n] >= len(signals()[n]):
                events[n] += batcher.feed_many([(sessions[n], np.zeros(0))], last=True)[0]
    for one, other in zip(events, alone, strict=True):
        same(one, other)


def test_offline_batches(random: Recognizer) -> None:
    alone = [random.transcribe(samples) for samples in signals()]
    together = random.transcribe(signals(), batch_seconds=100.0)
    assert [result.text for result in together] == [result.text for result in alone]
    assert any(result.text for result in alone)


@pytest.mark.parametrize("method", ["rescoring", "attention"])
def test_engines_agree(folder: Path, method: str) -> None:
    onnx, other = (mynah.load(folder, engine=e, precision="fp32") for e in ("onnx", "torch"))
    for samples in signals():
        one, two = onnx.transcribe(samples, method=method), other.transcribe(samples, method=method)
        assert (one.text, one.status) == (two.text, two.status)
        same(run(onnx, samples, 5000, method), run(other, samples, 5000, method))
