"""Memory stays the same, however long a stream is; `benchmarks/soak.py` does it for hours."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

import mynah
from mynah.audio.segments import SegmentOptions
from mynah.runtime.longform import speech_windows
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.session import Final
from tone_model import RATE, speak, write_tone_model


class Loud:
    """Takes for speech what rises above 0.1."""

    rate, frame_seconds, options = RATE, 0.02, SegmentOptions()

    def stream(self) -> Loud:
        return self

    def feed(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        whole = len(samples) - len(samples) % 320
        return 0.9 * (np.abs(samples[:whole].reshape(-1, 320)).max(axis=1, initial=0) > 0.1)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return mynah.load(write_tone_model(tmp_path_factory.mktemp("soak") / "tones"))


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held() -> int:
    """Bytes that are held, arrays among them."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize(("vad", "minutes"), [(False, 10), (True, 6)])
def test_minutes_of_audio(
    tones: Recognizer, monkeypatch: pytest.MonkeyPatch, traced: None, vad: bool, minutes: int
) -> None:
    monkeypatch.setattr("mynah.runtime.vad.load_vad", Loud)
    pause = np.zeros(RATE * 6 // 5, np.float32)
    minute = np.concatenate(
        [np.concatenate([speak(text), pause]) for text in ("abc de", "bad cab", "eda", "a b c")] * 5
    )[: 60 * RATE]
    session = tones.stream(Request(method="greedy", vad=vad), chunk=20, keep=False)
    curve, segments = [], 0
    for _ in range(minutes):
        for first in range(0, len(minute), RATE):
            events = session.feed(minute[first : first + RATE])
            segments += sum(isinstance(event, Final) for event in events)
        curve.append(held())
    assert segments > 10 * minutes
    assert max(curve[2:]) - min(curve[2:]) < 200_000  # a minute of samples is 3.8 MB


def test_an_hour_to_windows(traced: None) -> None:
    word = speak("a")
    silence = np.zeros(10 * RATE, np.float32)
    start, peaks = held(), []

    def blocks() -> Iterator[np.ndarray]:
        for number in range(360):
            yield np.concatenate([word, silence])[: 10 * RATE] if number % 3 else silence
            peaks.append(tracemalloc.get_traced_memory()[0] - start)

    found = speech_windows(blocks(), RATE, Loud(), SegmentOptions())
    assert sum(1 for _ in found) == 240
    assert max(peaks) < 8 * 4 * 10 * RATE


def test_what_is_kept_is_what_was_asked_for(tones: Recognizer) -> None:
    sound = np.concatenate([np.concatenate([speak("ab"), np.zeros(2 * RATE)]) for _ in range(9)])
    kept, let_go = tones.stream(), tones.stream(keep=False)
    events = kept.feed(sound, last=True)
    assert let_go.feed(sound, last=True) == events
    assert len(kept.finish().segments) == 9
    assert 0 < len(let_go.finish().segments) < 9
