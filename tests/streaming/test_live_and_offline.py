"""A live stream hears what an offline call hears, for every option; where a cut falls elsewhere,
the words are still the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mynah
from mynah.audio.segments import SegmentOptions, speech_segments
from mynah.decoding import DecodingOptions
from mynah.runtime.engine import Array, AttentionStep, Encoded, Engine
from mynah.runtime.longform import speech_windows
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.result import Transcript
from mynah.runtime.session import Endpointing
from mynah.runtime.voice import AROUND, Voice, within
from mynah.text import Tokenizer
from stand_ins import ARPA, Shouts
from tone_model import RATE, speak, write_tone_model

FRAME = 0.016
SIZE = round(FRAME * RATE)
OPTIONS = (
    SegmentOptions(),
    SegmentOptions(pad=0.0),
    SegmentOptions(pad=0.3, min_silence=0.5),
    SegmentOptions(pad=0.05, min_silence=1.2),
    SegmentOptions(pad=0.2, min_silence=0.05, min_speech=0.0),
    SegmentOptions(min_speech=0.4, min_silence=0.1, onset=0.8, offset=0.2),
)  # fmt: skip


class Written:
    """A detector that reads its probabilities from the samples."""

    rate, frame_seconds, options = RATE, FRAME, SegmentOptions()

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def stream(self) -> Written:
        return Written()

    def feed(self, samples: Array, last: bool = False) -> Array:
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % SIZE
        self._rest = joined[whole:]
        return joined[:whole:SIZE]


class Loud(Written):
    """Takes for speech what rises above 0.05."""

    def stream(self) -> Loud:
        return Loud()

    def feed(self, samples: Array, last: bool = False) -> Array:
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % SIZE
        self._rest = joined[whole:]
        loud = np.abs(joined[:whole].reshape(-1, SIZE)).max(axis=1, initial=0) > 0.05
        return np.where(loud, 0.9, 0.1).astype(np.float32)


def written(rng: np.random.Generator) -> Array:
    """Samples of half a minute whose probabilities go up and down, for long and short."""
    parts = []
    while sum(map(len, parts)) < 30 / FRAME:
        count = int(rng.choice([1, 2, 5, 8, 20, 40, 100]))
        parts.append(np.full(count, rng.choice([0.05, 0.3, 0.45, 0.6, 0.95])))
    return np.repeat(np.concatenate(parts), SIZE).astype(np.float32)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_same_frames_are_speech(options: SegmentOptions) -> None:
    rng = np.random.default_rng(0)
    step, lead = 0.04, 0.0325
    for _ in range(4):
        samples = written(rng)
        spans = speech_segments(samples[::SIZE], FRAME, options)
        count = int(len(samples) / RATE / step) - 1
        expected = within(spans, lead, count, step)
        assert 0.02 < expected.mean() < 1
        for largest in (900, 6000, 100_000):
            voice, found, begun = Voice(Written(), options, RATE), np.zeros(0, bool), 0
            place = 0
            while place < len(samples) or len(found) < count:
                size = int(rng.integers(1, largest))
                voice.feed(samples[place : place + size], last=place + size >= len(samples))
                place += size
                heard = min(int(place / RATE / step), count)  # frames that there are
                at = lead + len(found) * step
                voice.begins(at)  # forgets nothing that matters
                more = voice.decided(at, max(heard - len(found), 0), step)
                found = np.concatenate([found, more])
                begun += bool(more.any())
            assert begun
            assert (found == expected).all(), options


@pytest.mark.parametrize("options", OPTIONS)
def test_a_session_begins_where_a_window_does(options: SegmentOptions) -> None:
    rng = np.random.default_rng(1)
    samples = written(rng)
    first = next(speech_windows([samples], RATE, Written(), options, grid=160))
    voice = Voice(Written(), options, RATE)
    begins = None
    for place in range(0, len(samples), 777):
        voice.feed(samples[place : place + 777])
        begins = voice.begins(0.0)
        if begins is not None:
            break
    assert begins is not None
    assert first.start == max(int((begins - AROUND) / 0.01 + 1e-6), 0) * 160


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    folder = write_tone_model(tmp_path_factory.mktemp("both") / "tones", voice_activity=True)
    return mynah.load(folder)


@pytest.fixture(autouse=True)
def _detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mynah.runtime.vad.load_vad", Loud)
    monkeypatch.setattr("mynah.runtime.readable.Readable", Shouts)


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    path.write_text(ARPA)
    return path


def conversation(pauses: tuple[float, float], seed: int) -> Array:
    """Six utterances with noise between them, so long."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(6):
        text = "".join(rng.choice(list("abcde "), rng.integers(2, 8)))
        pause = rng.uniform(-0.001, 0.001, int(rng.uniform(*pauses) * RATE))
        parts += [pause.astype(np.float32), speak(text)]
    return np.concatenate([*parts, np.zeros(RATE, np.float32)])


def plain(transcript: Transcript) -> list[tuple[Any, ...]]:
    """Texts, times and confidences, the times in milliseconds."""
    return [
        (word.text, round(1000 * word.start), round(1000 * word.end),
         word.confidence and round(word.confidence, 4), word.chars and len(word.chars))
        for word in transcript.words
    ]  # fmt: skip


def requests(arpa: Path) -> dict[str, Request]:
    def options(**values: Any) -> Request:
        return Request(options=dataclasses.replace(DecodingOptions(beam=4), **values))

    return {
        "greedy": Request(method="greedy"),
        "in noise": options(method="greedy", blank_penalty=60.0),  # hears words in any noise
        "prefix_beam": options(method="prefix_beam"),
        "skip": options(method="prefix_beam", blank_skip=0.95),
        "rescoring": Request(),
        "hotwords": dataclasses.replace(options(method="prefix_beam"), hotwords=["bad", "de=4"]),
        "lm": dataclasses.replace(options(method="prefix_beam", lm_weight=0.6), lm=arpa),
        "second": dataclasses.replace(options(method="rescoring", lm_pass="second"), lm=arpa),
        "chars": Request(method="greedy", chars=True),
        "readable": Request(method="greedy", punctuate=True),
        "pad": Request(method="greedy", vad=OPTIONS[2]),
        "no pad": Request(method="greedy", vad=OPTIONS[1]),
        "long silence": Request(method="greedy", vad=OPTIONS[3]),
        "rules": Request(method="greedy", endpointing=Endpointing(after_speech=0.8, longest=9.0)),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(requests(Path())))
def test_live_is_offline_where_the_pauses_end_both(
    tones: Recognizer, arpa: Path, name: str
) -> None:
    request, sound = requests(arpa)[name], conversation((3.4, 4.5), 2)
    offline, live = tones.transcribe(sound, request), tones.transcribe_live(sound, request)
    assert len(offline.segments) == 6
    assert [s.text for s in live.segments] == [s.text for s in offline.segments]
    assert plain(live) == plain(offline)


@pytest.mark.parametrize("name", ["greedy", "hotwords", "long silence", "rules"])
def test_the_words_are_the_same_wherever_the_cuts(tones: Recognizer, arpa: Path, name: str) -> None:
    request, sound = requests(arpa)[name], conversation((0.3, 2.6), 3)
    offline, live = tones.transcribe(sound, request), tones.transcribe_live(sound, request)
    assert live.text == offline.text != ""
    for one, other in zip(live.words, offline.words, strict=True):
        assert one.start == pytest.approx(other.start, abs=0.05)
        assert one.end == pytest.approx(other.end, abs=0.05)


class Sees:
    """An engine that keeps what its attention decoder is shown."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self._engine, self.tokenizer = engine, tokenizer
        self.encoded: list[Array] = []  # (T, D) of each utterance
        self.shown: list[Array] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, feats: Array, feat_lens: Array, *more: Any, **named: Any) -> Encoded:
        out = self._engine.encode(feats, feat_lens, *more, **named)
        self.encoded += [row[:n] for row, n in zip(out.encoded, out.lens, strict=True)]
        return out

    def attention(self, encoded: Array, capacity: int) -> AttentionStep:
        """A decoder that says "ab cd" whatever it is shown."""
        self.shown.append(encoded)
        says = iter([*self.tokenizer.encode("ab cd"), self.tokenizer.eos])

        def step(tokens: Array, parents: Array) -> Array:
            found = np.full((len(tokens), self.tokenizer.vocab_size), -50.0, np.float32)
            found[:, next(says, self.tokenizer.eos)] = 0.0
            return found

        return step

    def score(self, encoded: Array, lens: Array, tokens: Array, token_lens: Array) -> Any:
        self.shown += [row[:n] for row, n in zip(encoded, lens, strict=True)]
        return self._engine.score(encoded, lens, tokens, token_lens)


@pytest.mark.parametrize("method", ["attention", "rescoring"])
def test_attention_does_not_see_noise_between_stretches(tones: Recognizer, method: str) -> None:
    pause = np.random.default_rng(4).uniform(-0.001, 0.001, int(1.3 * RATE)).astype(np.float32)
    sound = np.concatenate([pause, speak("ab"), pause, speak("cd"), pause])
    (window,) = speech_windows([sound], RATE, Loud(), SegmentOptions(), grid=160)
    assert window.speech is not None
    assert len(window.speech) == 2
    shown = []
    for live in (False, True):
        engine: Any = Sees(tones.model.engine, tones.model.tokenizer)
        watched = Recognizer(dataclasses.replace(tones.model, engine=engine))
        rules = Endpointing(after_speech=2.0)  # one segment, live too
        request = Request(method=method, endpointing=rules)
        heard = (
            watched.transcribe_live(sound, request) if live else watched.transcribe(sound, request)
        )
        assert [segment.text for segment in heard.segments] == ["ab cd"]
        whole, (seen,) = np.concatenate(engine.encoded), engine.shown
        first = window.start / RATE + tones.model.clock.seconds(0.5)
        speech = within(window.speech, first, len(whole), tones.model.clock.step)
        assert 0.3 < speech.mean() < 0.8
        np.testing.assert_allclose(seen, whole[speech], atol=1e-5)
        shown.append(seen)
    np.testing.assert_allclose(*shown, atol=1e-4)


def test_rules_keep_together_offline_what_they_keep_together_live(tones: Recognizer) -> None:
    sound = np.concatenate([speak("ab"), np.zeros(int(1.7 * RATE), np.float32), speak("cd")])
    never = Request(endpointing=Endpointing(after_speech=float("inf")))
    assert len(tones.transcribe(sound).segments) == 2
    for heard in (tones.transcribe(sound, never), tones.transcribe_live(sound, never)):
        assert [segment.text for segment in heard.segments] == ["ab cd"]
