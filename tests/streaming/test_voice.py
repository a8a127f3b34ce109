"""What is not speech is not heard: windows and sessions with a voice activity detector."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mynah
from mynah.audio.segments import SegmentOptions
from mynah.decoding import DecodingOptions
from mynah.runtime.engine import Array, Encoded, Engine
from mynah.runtime.longform import Window, speech_windows
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.session import Endpoint, Endpointing, Event, Final, Partial, Session
from mynah.runtime.voice import AROUND, LATE, PART, Voice, sentences
from tone_model import RATE, speak, write_tone_model

ANYTHING = DecodingOptions(method="greedy", blank_penalty=60.0)  # hears words in any noise
FRAME = 0.016


class LoudStream:
    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def feed(self, samples: Array, last: bool = False) -> Array:
        joined = np.concatenate([self._rest, samples])
        size = round(FRAME * RATE)
        whole = len(joined) - len(joined) % size
        frames, self._rest = joined[:whole].reshape(-1, size), joined[whole:]
        return np.where(np.abs(frames).max(axis=1, initial=0) > 0.1, 0.9, 0.1).astype(np.float32)


class Loud:
    """Takes for speech what rises above 0.1."""

    rate = RATE
    frame_seconds = FRAME
    options = SegmentOptions()

    def stream(self) -> LoudStream:
        return LoudStream()


@pytest.fixture(autouse=True)
def _detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mynah.runtime.vad.load_vad", Loud)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    folder = write_tone_model(tmp_path_factory.mktemp("voice") / "tones", voice_activity=True)
    return mynah.load(folder)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.001, 0.001, int(seconds * RATE)).astype(np.float32)


def talk() -> np.ndarray:
    return np.concatenate([noise(7), speak("abc de"), noise(3, 1), speak("bad"), noise(0.5, 2),
                           speak("cab"), noise(6.3, 3)])  # fmt: skip


def run(session: Session, samples: np.ndarray, sizes: np.ndarray | list[int]) -> list[Event]:
    events: list[Event] = []
    cuts = np.cumsum(sizes)
    for part in np.split(samples, cuts[cuts < len(samples)]):
        events += session.feed(part)
    return events + session.feed(samples[:0], last=True)


# offline


def test_noise_is_no_speech(tones: Recognizer) -> None:
    sound = noise(6)
    assert tones.transcribe(sound, Request(options=ANYTHING, vad=False)).status == "ok"
    assert tones.transcribe_live(sound, Request(options=ANYTHING, vad=False)).status == "ok"
    for method in ("greedy", "prefix_beam", "rescoring"):
        request = Request(options=dataclasses.replace(ANYTHING, method=method))
        for result in (tones.transcribe(sound, request), tones.transcribe_live(sound, request)):
            assert (result.text, result.status, result.segments) == ("", "no_speech", ())
            assert result.duration == 6.0


def test_only_speech_is_heard_and_times_are_absolute(tones: Recognizer) -> None:
    sound = talk()
    result = tones.transcribe(sound, options=ANYTHING, words=True)
    assert [segment.text.replace(" ", "") for segment in result.segments] != []
    plain = tones.transcribe(sound)
    assert [segment.text for segment in plain.segments] == ["abc de", "bad cab"]
    assert plain.duration == len(sound) / RATE
    quiet = np.where(np.abs(sound) > 0.001, sound, np.float32(0))
    whole = tones.transcribe(quiet, Request(vad=False), longest=100.0)
    for one, other in zip(plain.words, whole.words, strict=True):
        assert one.text == other.text
        assert one.start == pytest.approx(other.start, abs=0.05)
        assert one.end == pytest.approx(other.end, abs=0.05)


def test_long_recordings_lose_and_double_nothing(tones: Recognizer) -> None:
    rng = np.random.default_rng(0)
    words, parts = [], []
    for number in range(80):
        word = "".join(rng.choice(list("abcde"), rng.integers(1, 4)))
        words.append(word)
        parts += [speak(word, letter=0.12, gap=0.06), noise(float(rng.uniform(0, 2)), number)]
    sound = np.concatenate(parts)
    told: list[float] = []
    result = tones.transcribe(sound, longest=9.0, progress=lambda done, _: told.append(done))
    assert result.text.split() == words
    assert told == sorted(told)
    assert told[-1] == pytest.approx(len(sound) / RATE)
    times = [time for word in result.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert max(s.end - s.start for s in result.segments) <= 9.0


def joined(found: list[Window], length: int) -> np.ndarray:
    whole = np.zeros(length, np.float32)
    for one, other in itertools.pairwise(found):
        assert one.start + len(one.samples) <= other.start
    for window in found:
        whole[window.start : window.start + len(window.samples)] = window.samples
    return whole


def test_windows_whatever_the_blocks() -> None:
    sound = talk()
    options = SegmentOptions(pad=0.2)
    whole = list(speech_windows([sound], RATE, Loud(), options))
    assert len(whole) == 2
    kept = joined(whole, len(sound))
    assert (kept[np.abs(sound) > 0.1] == sound[np.abs(sound) > 0.1]).all()  # all speech
    rng = np.random.default_rng(1)
    for _ in range(5):
        blocks = np.split(sound, np.sort(rng.integers(0, len(sound), 60)))
        found = list(speech_windows(blocks, RATE, Loud(), options))
        assert [w.start for w in found] == [w.start for w in whole]
        np.testing.assert_array_equal(joined(found, len(sound)), kept)
    separate = list(speech_windows([sound], RATE, Loud(), options, join=0.1))
    assert len(separate) == 3
    assert list(speech_windows([], RATE, Loud(), options)) == []
    assert list(speech_windows([noise(3)], RATE, Loud(), options)) == []


def test_speech_without_a_pause_is_cut() -> None:
    rng = np.random.default_rng(2)
    sound = rng.uniform(-0.5, 0.5, 70 * RATE).astype(np.float32)
    for longest in (30.0, 5.0, 0.7):
        found = list(speech_windows([sound], RATE, Loud(), SegmentOptions(), longest=longest))
        assert max(len(window.samples) for window in found) <= longest * RATE
        assert (joined(found, len(sound)) == sound).all()


def test_another_rate() -> None:
    sound = np.repeat(talk(), 2)[: 2 * len(talk())]
    found = list(speech_windows([sound], 2 * RATE, Loud(), SegmentOptions()))
    expected = list(speech_windows([talk()], RATE, Loud(), SegmentOptions()))
    for one, other in zip(found, expected, strict=True):
        assert one.start / 2 / RATE == pytest.approx(other.start / RATE, abs=0.05)


# live


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "rescoring"])
def test_a_session_in_any_pieces(tones: Recognizer, method: str) -> None:
    sound = talk()
    whole = run(tones.stream(method=method), sound, [len(sound)])
    assert [event.text for event in whole if isinstance(event, Final)] == ["abc de", "bad cab"]
    reasons = [event.reason for event in whole if isinstance(event, Endpoint)]
    assert reasons == ["nothing", "after_speech", "after_speech", "nothing"]
    rng = np.random.default_rng(3)
    for largest in (300, 5000, 60_000):
        sizes = rng.integers(0, largest, 1 + 2 * len(sound) // largest)
        assert run(tones.stream(method=method), sound, sizes) == whole


def test_noise_around_speech_says_nothing_live(tones: Recognizer) -> None:
    events = run(tones.stream(options=ANYTHING), talk(), [1600] * 900)
    first = next(e for e in events if isinstance(e, Partial | Final) and e.text)
    assert first.words[0].start >= 6.8
    spoken = [(6.8, 9.9), (12.4, 16.5)]
    for event in events:
        for word in event.words if isinstance(event, Final) else ():
            assert any(a <= word.start and word.end <= b for a, b in spoken), word


def test_the_third_rule_within_speech(tones: Recognizer) -> None:
    letters = "abcdeabcdeabcde"
    sound = np.concatenate([noise(2), *(speak(x, letter=0.3, gap=0.05) for x in letters), noise(2)])
    rules = Endpointing(longest=3.0, search=1.5)
    whole = run(tones.stream(endpointing=rules), sound, [len(sound)])
    heard = " ".join(event.text for event in whole if isinstance(event, Final))
    assert heard.replace(" ", "") == letters
    assert sum(isinstance(e, Endpoint) and e.reason == "longest" for e in whole) >= 3
    rng = np.random.default_rng(6)
    sizes = rng.integers(0, 4000, 2 * len(sound) // 4000)
    assert run(tones.stream(endpointing=rules), sound, sizes) == whole


class Counts:
    """An engine that counts the frames that it is given."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.frames = engine, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, feats: Array, feat_lens: Array, *more: Any, **named: Any) -> Encoded:
        self.frames += int(feat_lens.sum())
        return self._engine.encode(feats, feat_lens, *more, **named)


def test_nothing_is_computed_where_nobody_speaks(tones: Recognizer) -> None:
    engine: Any = Counts(tones.model.engine)
    counting = Recognizer(dataclasses.replace(tones.model, engine=engine))
    run(counting.stream(), noise(20), [1600] * 900)
    assert counting.transcribe(noise(20)).status == "no_speech"
    assert engine.frames == 0
    run(counting.stream(), talk(), [1600] * 900)
    assert engine.frames < 100 * 11  # of 22 seconds


def test_without_a_detector_and_with_it_wanted(
    tones: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = mynah.load(write_tone_model(tmp_path / "m"))  # voice_activity = false
    assert deaf.transcribe(noise(3), options=ANYTHING).status == "ok"
    assert deaf.transcribe(noise(3), Request(options=ANYTHING, vad=True)).status == "no_speech"
    strict = Request(vad=SegmentOptions(onset=0.95, offset=0.95))
    assert tones.transcribe(talk(), strict).status == "no_speech"

    def none() -> None:
        raise mynah.ModelError("mynah-vad: no such model or folder")

    monkeypatch.setattr("mynah.runtime.vad.load_vad", none)
    monkeypatch.setattr("mynah.runtime.request.known_models", dict)
    assert tones.transcribe(speak("ab")).text == "ab"
    with pytest.raises(mynah.ModelError, match="mynah-vad"):
        tones.transcribe(speak("ab"), Request(vad=True))


def test_a_click_does_not_begin() -> None:
    voice = Voice(Loud(), SegmentOptions(min_speech=0.1), RATE)
    sound = noise(2)
    sound[16000:16800] = 0.5  # 50 ms
    voice.feed(sound)
    assert voice.begins(0.0) is None
    decided = voice.decided(0.0, 100, 0.02)
    assert len(decided) == pytest.approx(95, abs=1)
    assert not decided.any()
    assert voice.settled == pytest.approx(1.9, abs=0.02)
    voice.feed(np.full(1599, 0.5, np.float32))
    assert voice.begins(0.0) is None
    voice.feed(np.full(400, 0.5, np.float32))
    assert voice.begins(0.0) == pytest.approx(1.9, abs=0.02)
    assert voice.begins(1.95) == 1.95
    voice.feed(noise(1), last=True)
    assert len(voice.decided(0.0, 60, 0.05)) == 60
    assert voice.decided(0.0, 60, 0.05).sum() == pytest.approx((0.325 + 0.3) / 0.05, abs=1.5)


def test_pauses_part_sentences() -> None:
    step = 0.04
    short, long = round((PART - LATE) / step) - 1, round((PART - LATE) / step + 1)

    def frames(*runs: int) -> np.ndarray:
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # silence first

    assert sentences(frames(3, 20, short, 9, 2), step) == [(0, 34 + short)]
    assert sentences(frames(3, 20, long, 9, 2), step) == [
        (0, 23 + long // 2), (23 + long // 2, 34 + long)
    ]  # fmt: skip
    three = sentences(frames(0, 5, 10, 5, 20, 5), step)
    assert three == [(0, 10), (10, 30), (30, 45)]
    for silence in (frames(7), np.zeros(0, bool)):
        assert sentences(silence, step) == [(0, len(silence))]


def test_windows_that_pauses_part_hold_the_sound_around_up_to_half_the_pause() -> None:
    sound = np.concatenate([np.full(RATE, 0.5), np.zeros(RATE // 2), np.full(RATE, 0.5),
                            np.zeros(3 * RATE)]).astype(np.float32)  # fmt: skip
    options = SegmentOptions(min_silence=0.1, pad=0.0)
    one, two = speech_windows([sound], RATE, Loud(), options, join=PART)
    assert one.speech and two.speech
    middle = (one.speech[-1][1] + two.speech[0][0]) / 2
    assert one.start == 0 and len(one.samples) == two.start == pytest.approx(middle * RATE, abs=1)
    assert len(two.samples) == pytest.approx((0.25 + 1 + AROUND) * RATE, abs=0.1 * RATE)
    paused = np.insert(sound, RATE, np.zeros(RATE // 3, np.float32))  # between PART and 1 s
    for samples in (sound, paused):
        whole = list(speech_windows([samples], RATE, Loud(), options, join=PART))
        blocks = np.split(samples, range(RATE // 10, len(samples), RATE // 10))
        again = list(speech_windows(blocks, RATE, Loud(), options, join=PART))
        assert [(w.start, len(w.samples)) for w in again] == [
            (w.start, len(w.samples)) for w in whole
        ]
