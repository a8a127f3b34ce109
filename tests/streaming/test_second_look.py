"""A segment that is heard once more when it has ended says what an offline call says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import mynah
from mynah import audio
from mynah.corpus import read_manifest
from mynah.runtime.endpoint import Endpointing
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.result import Segment
from mynah.runtime.session import Final, Partial
from tone_model import RATE, speak, write_tone_model

NEVER = Endpointing(nothing=math.inf, after_speech=math.inf, after_digit=math.inf, longest=math.inf)


@pytest.fixture(scope="module")
def english() -> Recognizer:
    return mynah.load()


@pytest.fixture(scope="module")
def sound(speech: Path) -> np.ndarray:
    cuts = list(read_manifest(speech / "manifest.tsv"))[:3]
    return np.concatenate([audio.read(cut.recording.source, rate=16000).samples for cut in cuts])


def heard(segments: tuple[Segment, ...]) -> list[tuple[str, float | None]]:
    return [(w.text, w.confidence) for segment in segments for w in segment.words]


def close(one: list[tuple[str, float | None]], other: list[tuple[str, float | None]]) -> bool:
    return [w for w, _ in one] == [w for w, _ in other] and all(
        abs((a or 0) - (b or 0)) < 1e-4 for (_, a), (_, b) in zip(one, other, strict=True)
    )


def test_finals_are_what_offline_gives(english: Recognizer, sound: np.ndarray) -> None:
    request = Request(vad=False, endpointing=NEVER)
    offline = heard(english.transcribe(sound, request).segments)
    found = {}
    for look in (True, False):
        wanted = Request(vad=False, endpointing=NEVER, second_look=look)
        session = english.stream(wanted)
        session.feed(sound)
        found[look] = heard(session.finish().segments)
    assert offline and close(found[True], offline)
    assert not close(found[False], offline), "a stream hears less, or this test shows nothing"


def test_partials_come_as_from_a_stream_alone(english: Recognizer, sound: np.ndarray) -> None:
    partials = []
    for look in (True, False):
        events = english.stream(Request(second_look=look)).feed(sound, last=True)
        partials.append([event.text for event in events if isinstance(event, Partial)])
    with_look, without = map(set, partials)
    assert len(without) > 3 and len(with_look & without) > len(without) / 3, "of a narrower search"


def test_any_pieces_and_any_company(english: Recognizer, sound: np.ndarray) -> None:
    request = Request(second_look=True)
    whole = english.stream(request).feed(sound, last=True)
    session, pieces = english.stream(request), []
    for part in np.array_split(sound, 37):
        pieces += session.feed(part)
    assert pieces + session.feed(np.zeros(0, np.float32), last=True) == whole
    batcher = mynah.runtime.batcher.Batcher(english.model.engine)
    sessions = [english.stream(request) for _ in range(3)]
    rows = [sound, sound[:30000], sound[5000:]]
    together = batcher.feed_many(list(zip(sessions, rows, strict=True)), last=True)
    texts = [event.text for event in together[0] if isinstance(event, Final)]
    assert texts == [event.text for event in whole if isinstance(event, Final)]


def test_segments_of_a_long_stream(tmp_path: Path) -> None:
    """Each segment is looked at by itself: its own features, no more."""
    tones = mynah.load(write_tone_model(tmp_path / "tones"))
    pause = np.zeros(int(1.7 * RATE), np.float32)
    samples = np.concatenate([speak("abc de"), pause, speak("bad cab"), pause, speak("ad")])
    for method in ("greedy", "prefix_beam", "rescoring"):
        first = tones.stream(Request(method=method)).feed(samples, last=True)
        second = tones.stream(Request(method=method, second_look=True)).feed(samples, last=True)
        texts = [[e.text for e in events if isinstance(e, Final)] for events in (first, second)]
        assert texts[0] == texts[1] == ["abc de", "bad cab", "ad"]


def test_the_model_says_whether_it_looks_twice(tmp_path: Path) -> None:
    folder = write_tone_model(tmp_path / "tones")
    assert not mynah.load(folder).stream()._plan.second_look
    text = (folder / "model.toml").read_text()
    assert "[streaming]\n" in text
    (folder / "model.toml").write_text(
        text.replace("[streaming]\n", "[streaming]\nsecond_look = true\n")
    )
    assert mynah.load(folder).stream()._plan.second_look
    assert not mynah.load(folder).stream(Request(second_look=False))._plan.second_look
