"""The bundled recogniser on recordings: offline, live, at other rates, in silence."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mynah
from mynah.audio import read, resample, write
from mynah.errors import ConfigError
from mynah.evaluation import score
from mynah.evaluation.error_rate import Utterance
from mynah.model_folder import DEFAULT_MODEL, known_models
from mynah.runtime.recognizer import Recognizer
from mynah.text.pronounce import PHONES

pytestmark = pytest.mark.skipif(
    DEFAULT_MODEL not in known_models(), reason="the bundled model is not there"
)
# of letters, on synthetic speech by four voices, all heard in training; 0.002 is measured, and 0.04
# far below the usual level: this is to catch a break and not a fluctuation
WORST_RATE = 0.1


@pytest.fixture(scope="module")
def english() -> Recognizer:
    return mynah.load()


@pytest.fixture(scope="module")
def said(speech: Path) -> list[tuple[Path, str]]:
    with (speech / "manifest.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [(speech / row["path"], row["text"]) for row in rows]


def rate(texts: list[str], said: list[tuple[Path, str]]) -> float:
    pairs = zip(texts, said, strict=True)
    return score([Utterance(str(p), ref, hyp) for hyp, (p, ref) in pairs], unit="char").total.rate


def test_offline_and_live(english: Recognizer, said: list[tuple[Path, str]]) -> None:
    offline = english.transcribe([path for path, _ in said])
    live = [english.transcribe_live(path) for path, _ in said]
    assert rate([result.text for result in offline], said) < WORST_RATE
    assert rate([result.text for result in live], said) < WORST_RATE
    for result in (*offline, *live):
        times = [t for word in result.words for t in (word.start, word.end)]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= result.duration
        assert all(word.source == "aligned" for word in result.words)


@pytest.mark.parametrize("method", ["greedy", "prefix_beam"])
def test_methods_without_words_give_phones(
    english: Recognizer, said: list[tuple[Path, str]], method: str
) -> None:
    for path, _ in said[:2]:
        text = english.transcribe(path, method=method).text
        assert text and set(text.split()) <= set(PHONES)
    with pytest.raises(ConfigError, match="no attention decoder"):
        english.transcribe(said[0][0], method="rescoring")


def test_batch_mates_do_not_matter(english: Recognizer, said: list[tuple[Path, str]]) -> None:
    paths = [path for path, _ in said]
    alone = [english.transcribe(path).text for path in paths]
    assert [r.text for r in english.transcribe(paths, batch_seconds=100.0)] == alone


def test_sessions_in_a_batch(english: Recognizer, said: list[tuple[Path, str]]) -> None:
    paths = [path for path, _ in said]
    alone = [english.transcribe_live(path).text for path in paths]
    batcher, sessions = english.batcher(), [english.stream() for _ in paths]
    sounds = [read(path, rate=english.sample_rate).samples for path in paths]
    batcher.feed_many(list(zip(sessions, sounds, strict=True)), last=True)
    assert [session.finish().text for session in sessions] == alone


def test_other_rates_and_channels(
    english: Recognizer, said: list[tuple[Path, str]], tmp_path: Path
) -> None:
    path, _ = said[0]
    sound = read(path)
    write(tmp_path / "8.wav", resample(sound.samples, sound.rate, 8000), 8000)
    write(tmp_path / "7.flac", np.stack([sound.samples] * 7), sound.rate)
    assert english.transcribe(tmp_path / "8.wav").status == "ok"
    assert english.transcribe(tmp_path / "7.flac").text == english.transcribe(path).text


def test_telephones_and_low_levels(english: Recognizer, said: list[tuple[Path, str]]) -> None:
    wide = english.sample_rate
    sounds = [read(path, rate=wide).samples for path, _ in said]
    narrow = [resample(resample(sound, wide, 8000), 8000, wide) for sound in sounds]
    quiet = [0.02 * sound for sound in sounds]
    for heard in (narrow, quiet):
        assert rate([result.text for result in english.transcribe(heard)], said) < WORST_RATE


def test_silence(english: Recognizer) -> None:
    silence = np.zeros(3 * english.sample_rate, np.float32)
    assert english.transcribe(silence).status == "no_speech"
    assert english.transcribe_live(silence).status == "no_speech"


def test_long_recordings(english: Recognizer, said: list[tuple[Path, str]]) -> None:
    pause = np.zeros(english.sample_rate // 2, np.float32)
    sounds = [np.append(read(path, rate=english.sample_rate).samples, pause) for path, _ in said]
    joined = np.concatenate(sounds * 2)
    reference = " ".join(text for _, text in said * 2)
    for result in (english.transcribe(joined), english.transcribe_live(joined)):
        # a pause of half a second parts sentences: they are encoded and searched each for itself
        assert len(result.segments) >= 2 * len(said)
        found = score([Utterance("long", reference, result.text)], unit="char")
        assert found.total.rate < WORST_RATE


def test_the_command(said: list[tuple[Path, str]]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mynah", "transcribe", str(said[0][0]), "--format", "json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = mynah.Transcript.from_dict(json.loads(done.stdout))
    assert (found.model, found.language, found.status) == (DEFAULT_MODEL, "en", "ok")


def test_the_doctor_says_what_runs() -> None:
    command = [sys.executable, "-m", "mynah", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["engine"] == "onnx int8"


def test_hotwords_that_cannot_be_found_are_said(said: list[tuple[Path, str]]) -> None:
    command = [sys.executable, "-m", "mynah", "transcribe", str(said[0][0]), str(said[1][0])]
    done = subprocess.run(
        [*command, "--quiet", "--hotwords", "Shenzhen zzyzx,mynah"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr.count("hotwords: not in the lexicon of mynah-en: ") == 1
    assert "zzyzx" in done.stderr and "mynah," not in done.stderr
