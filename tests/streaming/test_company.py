"""For every model and every option: batch-mates don't matter, and ragged is as whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mynah
from mynah.audio import read
from mynah.audio.segments import SegmentOptions
from mynah.decoding import DecodingOptions
from mynah.model_folder import DEFAULT_MODEL, known_models
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.result import Transcript
from mynah.runtime.session import Endpointing, Event
from stand_ins import ARPA, Shouts
from tone_model import RATE, speak, write_tone_model


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    path.write_text(ARPA)
    return path


BUNDLED = ("greedy", "rescoring", "own hotwords", "rules")
MODELS = ("tones", "u2 fp32", "u2 int8", "bundled")


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    if request.param == "tones":
        return mynah.load(write_tone_model(tmp_path_factory.mktemp("company") / "tones"))
    if request.param.startswith("u2"):
        folder = request.getfixturevalue("random_u2")
        return mynah.load(folder, precision=request.param.split()[1])
    if DEFAULT_MODEL not in known_models():
        pytest.skip("the bundled model is not there")
    return mynah.load()


def sounds(recognizer: Recognizer, count: int) -> list[np.ndarray]:
    """What this model hears something in, of many lengths."""
    rng = np.random.default_rng(0)
    if recognizer.model.name == "tones":
        texts = ["".join(rng.choice(list("abcde "), rng.integers(1, 12))) for _ in range(count)]
        return [speak(text) for text in texts]
    if recognizer.model.name == "random":
        from random_u2 import noises

        return noises(tuple(rng.uniform(0.3, 1.0, count)))
    folder = Path(__file__).parents[1] / "data" / "speech"
    paths = sorted(folder.glob("*.flac"))[:4]
    cut = [int(rng.uniform(0.3, 1.0) * 1.5 * RATE) for _ in range(count)]
    heard = [read(path, rate=RATE).samples for path in paths]
    return [heard[n % len(heard)][: cut[n]] * np.float32(rng.uniform(0.2, 1)) for n in range(count)]


def requests(arpa: Path) -> dict[str, Request]:
    def options(**values: Any) -> Request:
        return Request(options=dataclasses.replace(DecodingOptions(beam=4), **values))

    return {
        "greedy": Request(method="greedy"),
        "prefix_beam": options(method="prefix_beam"),
        "rescoring": Request(),
        "attention": options(method="attention", beam=2),
        "penalty": options(method="greedy", blank_penalty=1.5),
        "skip": options(method="prefix_beam", blank_skip=0.95),
        "own hotwords": Request(hotwords=["bad", "de=4"]),
        "hotwords": dataclasses.replace(options(method="prefix_beam"), hotwords=["bad", "de=4"]),
        "lm": dataclasses.replace(options(method="prefix_beam", lm_weight=0.6), lm=arpa),
        "second": dataclasses.replace(options(method="rescoring", lm_pass="second"), lm=arpa),
        "rules": Request(endpointing=Endpointing(after_speech=0.3, longest=2.0, search=0.9)),
        "vad": Request(vad=SegmentOptions(pad=0.05, min_silence=0.1)),
        "readable": Request(punctuate=True),
    }  # fmt: skip


class Loud:
    """Takes for speech what rises above 0.05."""

    rate, frame_seconds, options = RATE, 0.01, SegmentOptions()

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def stream(self) -> Loud:
        return Loud()

    def feed(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % 160
        self._rest = joined[whole:]
        return 0.9 * (np.abs(joined[:whole].reshape(-1, 160)).max(axis=1, initial=0) > 0.05)


@pytest.fixture(params=list(requests(Path())))
def wanted(
    request: pytest.FixtureRequest, model: Recognizer, arpa: Path, monkeypatch: pytest.MonkeyPatch
) -> Request:
    monkeypatch.setattr("mynah.runtime.vad.load_vad", Loud)
    monkeypatch.setattr("mynah.runtime.readable.Readable", Shouts)
    wanted = requests(arpa)[request.param]
    if model.model.name == "tones" and request.param == "attention":
        pytest.skip("the model of tones has no attention search")
    if model.model.name == DEFAULT_MODEL and request.param not in BUNDLED:
        pytest.skip("the smaller models are enough")  # of the same family, and faster
    return wanted


def same(one: Transcript, other: Transcript) -> None:
    assert (one.text, one.status, one.duration) == (other.text, other.status, other.duration)
    for segment, twin in zip(one.segments, other.segments, strict=True):
        assert segment.text == twin.text
        assert (segment.start, segment.end) == (twin.start, twin.end)
        assert segment.confidence == pytest.approx(twin.confidence, abs=1e-4)
        for word, again in zip(segment.words, twin.words, strict=True):
            assert (word.text, word.start, word.end) == (again.text, again.start, again.end)
            assert word.confidence == pytest.approx(again.confidence, abs=1e-4)


def test_batch_mates_do_not_matter(model: Recognizer, wanted: Request) -> None:
    count = 4 if model.model.name == DEFAULT_MODEL else 16
    audios = sounds(model, count)
    alone = [model.transcribe(audio, wanted) for audio in audios]
    attention = wanted.options is not None and wanted.options.method == "attention"
    assert attention or any(result.text for result in alone)  # random weights end at once
    rng = np.random.default_rng(1)
    for size, seconds in ((2, 1000.0), (count, 1000.0), (count, 2.0)):
        order = rng.permutation(count)[:size].tolist()
        together = model.transcribe([audios[n] for n in order], wanted, batch_seconds=seconds)
        for n, result in zip(order, together, strict=True):
            same(result, alone[n])
    padded = model.transcribe([audios[0], np.concatenate(audios)[: 3 * RATE]], wanted,
                              batch_seconds=1000.0)[0]  # fmt: skip
    same(padded, alone[0])


def events(
    model: Recognizer, wanted: Request, samples: np.ndarray, sizes: list[int]
) -> list[Event]:
    session, found = model.stream(wanted), list[Event]()
    cuts = np.cumsum(sizes)
    for part in np.split(samples, cuts[cuts < len(samples)]):
        found += session.feed(part)
    return found + session.feed(samples[:0], last=True)


def test_ragged_is_as_whole(model: Recognizer, wanted: Request) -> None:
    silence = np.zeros(RATE, np.float32)
    first, second, *_ = sounds(model, 2)
    samples = np.concatenate([first, silence, second, silence[:1000]])
    whole = events(model, wanted, samples, [len(samples)])
    assert whole
    rng = np.random.default_rng(2)
    for largest in (2000, 20_000):
        sizes = rng.integers(0, largest, 2 * len(samples) // largest + 1).tolist()
        assert events(model, wanted, samples, sizes) == whole


def test_live_is_as_offline(tmp_path: Path, arpa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mynah.runtime.vad.load_vad", Loud)
    monkeypatch.setattr("mynah.runtime.readable.Readable", Shouts)
    model = mynah.load(
        write_tone_model(tmp_path / "tones")
    )  # whose encoder has no context: a session hears what offline is heard
    samples = np.concatenate([speak("bad cab de"), np.zeros(RATE // 2, np.float32), speak("ab ce")])
    for name, wanted in requests(arpa).items():
        if name == "attention":
            continue
        live, offline = model.transcribe_live(samples, wanted), model.transcribe(samples, wanted)
        assert live.text == offline.text, name
        assert live.text.lower().startswith("bad cab de"), name
