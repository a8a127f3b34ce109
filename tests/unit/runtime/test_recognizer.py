"""Recordings to transcripts: many, long, silent, broken."""

from __future__ import annotations

import dataclasses
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mynah
from mynah.audio import Waveform, write
from mynah.decoding import DecodingOptions
from mynah.errors import ConfigError, InputError, ModelError
from mynah.runtime.engine import Encoded, Engine
from mynah.runtime.journal import Journal
from mynah.runtime.offline import Cancelled
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.result import Transcript
from tone_model import RATE, UNITS, speak, write_tone_model


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return mynah.load(write_tone_model(tmp_path_factory.mktemp("recognizer") / "tones"))


def test_text_words_and_times(tones: Recognizer) -> None:
    result = tones.transcribe(speak("abc de"))
    assert (result.text, result.status, result.language) == ("abc de", "ok", "en")
    assert result.model == "tones"
    assert result.duration == pytest.approx(len(speak("abc de")) / RATE)
    assert [word.text for word in result.words] == ["abc", "de"]
    # the letters of "abc" sound from 0.5 to 1.4 s, those of "de" from 1.9 to 2.45 s
    for word, (start, end) in zip(result.words, [(0.5, 1.4), (1.9, 2.45)], strict=True):
        assert word.source == "aligned"
        assert word.start == pytest.approx(start, abs=0.12)
        assert word.end == pytest.approx(end, abs=0.12)
        assert word.confidence is not None
        assert 0.9 < word.confidence <= 1


def test_every_kind_of_source(tones: Recognizer, tmp_path: Path) -> None:
    samples = speak("bad")
    path = tmp_path / "a.wav"
    write(path, samples, RATE)
    sources = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())]
    arrays = [samples, Waveform(samples, RATE), (samples * 32767).astype(np.int16)]
    texts = [result.text for result in tones.transcribe([*sources, *arrays])]
    assert texts == ["bad"] * 7
    assert isinstance(tones.transcribe((path,)), list)


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_other_rates(tones: Recognizer, rate: int) -> None:
    assert tones.transcribe(speak("abd", rate), rate=rate).text == "abd"


def test_seven_channels(tones: Recognizer, tmp_path: Path) -> None:
    samples = np.zeros((7, len(speak("ace"))), np.float32)
    samples[3] = speak("ace")
    write(tmp_path / "7.wav", samples, RATE)
    assert tones.transcribe(tmp_path / "7.wav").text == "ace"
    assert tones.transcribe(tmp_path / "7.wav", channel=3).text == "ace"
    assert tones.transcribe(tmp_path / "7.wav", channel=0).status == "no_speech"
    assert tones.transcribe(samples, channel=3).text == "ace"
    for wrong, line in ((samples.T, "transposed"), (np.float32(0.5), "0 dimensions")):
        for channel in ("mix", 3):
            with pytest.raises(InputError, match=line):
                tones.transcribe(np.asarray(wrong), channel=channel)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [1, 100, 399, 1360, 1361, 40000])
def test_silence_and_the_shortest(tones: Recognizer, length: int) -> None:
    for samples in (np.zeros(length), np.full(length, 5e-5), np.full(length, 0.1)):
        result = tones.transcribe(samples.astype(np.float32))
        assert (result.text, result.status, result.segments) == ("", "no_speech", ())
        assert result.duration == length / RATE


def test_long_recordings_are_cut_where_it_is_quiet(tones: Recognizer) -> None:
    words = " ".join("abcde" for _ in range(24))
    samples = speak(words)
    assert len(samples) > 48 * RATE
    done: list[tuple[float, float | None]] = []
    result = tones.transcribe(samples, progress=lambda *so_far: done.append(so_far))
    assert result.text == words
    assert len(result.segments) == 2
    assert done == sorted(done)
    assert done[-1] == (pytest.approx(result.duration), pytest.approx(result.duration))
    alone = tones.transcribe(samples, longest=60.0)
    assert alone.text == words
    for one, other in zip(result.words, alone.words, strict=True):
        assert one.start == pytest.approx(other.start, abs=0.05)


def test_a_short_window_before_a_long_one(tones: Recognizer) -> None:
    pause = np.zeros(RATE, np.float32)
    samples = np.concatenate([speak("abc de abc d"), pause, speak("a b c d e a b c d")])
    result = tones.transcribe(samples, longest=9.5)
    assert [segment.text for segment in result.segments] == [
        "abc de abc d", "a b c d e a b c d"
    ]  # fmt: skip


def test_batch_mates_do_not_matter(tones: Recognizer) -> None:
    texts = ["abc", "d", "ab cd ea", "", "eeee ddd", "a b c d e"]
    sounds = [speak(text) for text in texts]
    alone = [tones.transcribe(sound) for sound in sounds]
    assert [result.text for result in alone] == texts
    for seconds in (1.0, 5.0, 1000.0):
        assert tones.transcribe(sounds, batch_seconds=seconds) == alone
    assert tones.transcribe(sounds[::-1], batch_seconds=1000.0) == alone[::-1]


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "rescoring"])
def test_methods(tones: Recognizer, method: str) -> None:
    assert tones.transcribe(speak("dab cab"), method=method).text == "dab cab"


def test_options(tones: Recognizer) -> None:
    options = DecodingOptions(method="greedy", blank_penalty=-50.0)
    assert tones.transcribe(speak("dab"), options=options).text == ""
    assert tones.transcribe(speak("dab"), options=DecodingOptions(beam=1)).text == "dab"


def test_without_words(tones: Recognizer) -> None:
    result = tones.transcribe(speak("dab"), words=False)
    assert result.words == ()
    assert (result.segments[0].start, result.segments[0].confidence) == (0.0, None)


def test_a_bad_one_among_many(tones: Recognizer, tmp_path: Path) -> None:
    audios = [speak("ab"), tmp_path / "none.wav", np.array([np.nan, 0.0]), speak("cd")]
    results = tones.transcribe_all(audios)
    assert [type(r).__name__ for r in results] == [
        "Transcript", "InputError", "InputError", "Transcript"
    ]  # fmt: skip
    assert "none.wav: no such file" in str(results[1])
    with pytest.raises(InputError, match=r"none\.wav"):
        tones.transcribe(audios)


def test_stopped_between_windows(tones: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mynah.runtime.offline.POOL", 10.0)
    samples = speak(" ".join("abcde" for _ in range(24)))
    whole = tones.transcribe([samples, speak("ab")], longest=8.0)
    for allowed in range(9):
        asked = iter([False] * allowed + [True] * 100)
        with pytest.raises(Cancelled, match="cancelled") as stopped:
            tones.transcribe([samples, speak("ab")], longest=8.0, stop=asked.__next__)
        partial, other = stopped.value.transcripts
        count = len(partial.segments)
        assert partial.segments == whole[0].segments[:count]
        assert partial.duration <= whole[0].duration
        assert (other.text, other.duration) in [("", 0.0), ("ab", whole[1].duration)]
        if count:
            assert partial.segments[-1].end <= partial.duration
    event = threading.Event()
    assert tones.transcribe(samples, longest=8.0, stop=event) == whole[0]
    event.set()
    with pytest.raises(Cancelled):
        tones.transcribe(samples, stop=event)
    with pytest.raises(Cancelled) as stopped:
        tones.transcribe_live(samples, stop=event)
    assert stopped.value.transcripts[0].status == "no_speech"


def test_stopped_before_anything_was_heard(tones: Recognizer) -> None:
    long = np.concatenate([speak("ab"), np.zeros(RATE // 2, np.float32)] * 4)
    for asked in range(1, 6):
        answers = iter([False] * (asked - 1) + [True])
        with pytest.raises(Cancelled) as stopped:
            tones.transcribe_all([long], longest=2.0, stop=answers.__next__)
        (found,) = stopped.value.transcripts
        heard = found.segments[-1].end if found.segments else 0.0
        assert heard <= found.duration <= heard + 0.7, (
            "what was read and not heard is no part of it"
        )


def test_options_one_by_one(tones: Recognizer) -> None:
    own = tones.model.decoding_options()
    assert tones.options(blank_penalty=0.5) == dataclasses.replace(own, blank_penalty=0.5)
    with pytest.raises(ConfigError, match="blank_penaltie: unknown key"):
        tones.options(blank_penaltie=0.5)
    assert tones.model.methods == ("rescoring", "attention", "prefix_beam", "greedy")


def test_progress_of_several(tones: Recognizer, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", speak("abc de"), RATE)
    told: list[tuple[float, float | None]] = []
    tones.transcribe(
        [tmp_path / "a.wav", speak("ab")], progress=lambda *so_far: told.append(so_far)
    )
    length = (len(speak("abc de")) + len(speak("ab"))) / RATE
    assert told[-1] == (pytest.approx(length), pytest.approx(length))
    tones.transcribe(
        io.BytesIO((tmp_path / "a.wav").read_bytes()),
        progress=lambda *so_far: told.append(so_far),
    )
    assert told[-1] == (pytest.approx(len(speak("abc de")) / RATE), None)


class Spoils:
    """The tones' engine, but its log-probabilities are no numbers for recordings with an ``e``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, *arguments: Any, **more: Any) -> Encoded:
        out = self._engine.encode(*arguments, **more)
        hears = (out.log_probs.argmax(axis=-1) == UNITS.index("e")).any(axis=-1)
        out.log_probs[hears] = np.nan
        return out


@pytest.mark.parametrize("pool", [0.5, 3.0, 300.0])
def test_an_engine_that_fails_for_one(
    tones: Recognizer, monkeypatch: pytest.MonkeyPatch, pool: float
) -> None:
    monkeypatch.setattr("mynah.runtime.offline.POOL", pool)
    engine: Any = Spoils(tones.model.engine)
    spoiling = Recognizer(dataclasses.replace(tones.model, engine=engine))
    pause = np.zeros(RATE, np.float32)
    long = np.concatenate([speak("abc ab"), pause, speak("be ab d"), pause, speak("abc")])
    texts = ["ab", "cd ba", "", "d", "bad cab"]
    audios = [speak("ab"), long, speak("cd ba"), np.zeros(RATE, np.float32), speak("d")]
    results = spoiling.transcribe_all([*audios, speak("e"), speak("bad cab")], longest=4.0)
    failed = [results.pop(5), results.pop(1)]
    assert all(isinstance(result, ModelError) for result in failed)
    found = [result.text for result in results if isinstance(result, Transcript)]
    assert found == texts
    with pytest.raises(ModelError):
        spoiling.transcribe([speak("ab"), speak("e"), speak("d")])


@pytest.mark.parametrize("pool", [0.5, 300.0])
def test_a_journal_that_cannot_be_written(
    tones: Recognizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pool: float
) -> None:
    monkeypatch.setattr("mynah.runtime.offline.POOL", pool)
    add = Journal.add

    def full(self: Journal, *arguments: Any) -> None:
        if self.path.name == "1":
            raise InputError("no space left")
        add(self, *arguments)

    monkeypatch.setattr(Journal, "add", full)
    pause = np.zeros(RATE, np.float32)
    words = ("ab", "cd", "bad")
    for name in words:
        write(tmp_path / f"{name}.wav", np.concatenate([speak(name), pause, speak(name)]), RATE)
    audios = [tmp_path / f"{name}.wav" for name in words]
    journals = [Journal(tmp_path / str(number), {}) for number in range(3)]
    found = tones.transcribe_all(audios, journals=journals, longest=2.0)
    for journal in journals:
        journal.close()
    assert [isinstance(one, InputError) for one in found] == [False, True, False]
    assert [one.text for one in found if isinstance(one, Transcript)] == ["ab ab", "bad bad"]


def test_wrong_arguments(tones: Recognizer) -> None:
    for arguments, line in [
        ({"method": "gready"}, "'gready' is not one of"),
        ({"language": "fr"}, "tones knows en, not 'fr'"),
        ({"longest": 0}, "no numbers of seconds above 0"),
        ({"longest": float("inf")}, "no numbers of seconds above 0"),
        ({"request": {"words": False}}, "request: dict is not a Request"),
    ]:
        with pytest.raises(ConfigError, match=line):
            tones.transcribe(speak("a"), **arguments)  # type: ignore[call-overload]


def test_wrong_samples(tones: Recognizer) -> None:
    for values, line in (({"rate": 0}, "rate: 0 Hz"), ({"channel": 5}, "no channel 5")):
        with pytest.raises(InputError, match=line):
            tones.transcribe(speak("a"), **values)  # type: ignore[call-overload]
    interleaved = np.repeat(speak("ab")[:64, None], 2, axis=1)
    with pytest.raises(InputError, match="transposed"):
        tones.stream().feed(interleaved)


@pytest.mark.parametrize("field", ["options", "endpointing", "lm", "words", "punctuate",
                                   "second_look", "vad", "hotwords", "language"])  # fmt: skip
def test_requests_of_wrong_types(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        mynah.Request(**{field: 3})  # type: ignore[arg-type]


def test_hotwords_are_kept_however_they_come() -> None:
    listed = mynah.Request(hotwords=["ab=4", "cd"])
    given: Any = (word for word in ["ab=4", "cd"])
    assert mynah.Request(hotwords=given) == listed and hash(listed) is not None


def test_without_decoder(tmp_path: Path) -> None:
    from mynah.model_folder import read_model_folder, write_model_file

    folder = write_tone_model(tmp_path / "m")
    (folder / "onnx" / "decoder.fp32.onnx").unlink()
    write_model_file(folder, read_model_folder(folder).info)
    recognizer = mynah.load(folder)
    assert recognizer.transcribe(speak("abc")).text == "abc"
    with pytest.raises(ConfigError, match="has no attention decoder"):
        recognizer.transcribe(speak("abc"), method="rescoring")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"frontend": {"kind": "fbnk"}}, "fbnk"),
        ({"tokenizer": {"kind": "units", "lower": True}}, "unknown key"),
        ({"sample_rate": 8000}, "the model 8000 Hz"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, changes: dict[str, object], line: str) -> None:
    with pytest.raises(ModelError, match=line) as error:
        mynah.load(write_tone_model(tmp_path / "m", **changes))
    assert "\n" not in str(error.value)


def test_a_spoilt_tokenizer(tmp_path: Path) -> None:
    folder = write_tone_model(tmp_path / "m")
    (folder / "tokenizer" / "units.txt").write_text("a 0\n")
    with pytest.raises(ModelError, match=r"units\.txt was altered"):
        mynah.load(folder)


def test_threads_share_a_recognizer(tones: Recognizer) -> None:
    texts = ["abc", "dd e", "ea", "b b b"]
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        sound = speak(texts[number])
        found[number] = [tones.transcribe(sound).text for _ in range(5)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [texts[n]] * 5 for n in range(4)}
