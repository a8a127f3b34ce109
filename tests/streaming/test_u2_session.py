"""Sessions of an exported U2++ model, weights random: in any company, fed in any way, the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("safetensors")

import mynah  # noqa: E402
from mynah.runtime.recognizer import Recognizer  # noqa: E402
from mynah.runtime.session import Event  # noqa: E402
from random_u2 import noises as signals  # noqa: E402

PRECISIONS = ["fp32", "int8"]


@pytest.fixture(scope="module")
def folder(random_u2: Path) -> Path:
    return random_u2


@pytest.fixture(scope="module", params=PRECISIONS)
def random(folder: Path, request: pytest.FixtureRequest) -> Recognizer:
    return mynah.load(folder, precision=request.param)


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
