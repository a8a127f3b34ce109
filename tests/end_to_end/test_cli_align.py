"""`mynah align` on the bundled model and committed synthetic speech, and on what it refuses."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import mynah
from mynah.audio import read, write
from mynah.cli import main
from mynah.model_folder import read_model_folder
from mynah.runtime.result import Transcript
from tone_model import speak, write_tone_model

Capture = pytest.CaptureFixture[str]
RATE = 16000


@pytest.fixture(scope="module")
def recording(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sentences of one voice with pauses, 8 s."""
    pause = np.zeros(RATE // 2, np.float32)
    parts = [pause]
    for number in (1, 2, 3):
        parts += [read(speech / f"slt_{number}.flac", rate=RATE).samples, pause]
    path = tmp_path_factory.mktemp("align") / "three.wav"
    write(path, np.concatenate(parts), RATE)
    return path


ONE = "The birds come back to the garden every spring."
TWO = "Please put the kettle on and sit down."
THREE = "She read the letter twice before she answered."


def aligned(recording: Path, text: str, tmp_path: Path, *options: str) -> Transcript:
    source, target = tmp_path / "text.txt", tmp_path / "out.json"
    source.write_text(text, "utf-8")
    arguments = ["align", str(recording), str(source), "--format", "json", "--output", str(target)]
    assert main([*arguments, *options]) == 0
    return Transcript.from_json(target.read_bytes())


def test_three_sentences(recording: Path, tmp_path: Path) -> None:
    found = aligned(recording, f"{ONE} {TWO}\n{THREE}", tmp_path, "--chars")
    assert [segment.text for segment in found.segments] == [ONE, TWO, THREE]
    # where the sentences begin is known: after half a second each
    for segment, start in zip(found.segments, (0.5, 3.23, 5.98), strict=True):
        assert segment.start == pytest.approx(start, abs=0.4)
    timed = [word for word in found.words if word.source == "aligned"]
    assert len(timed) > 20
    # a model of phones knows no times of letters, one of letters those of all
    assert all(len(word.chars) in (0, len(word.text)) for word in timed)


def test_a_few_hanzi_make_no_text_mandarin(recording: Path, tmp_path: Path) -> None:
    found = aligned(recording, f"八哥 {ONE} {TWO}", tmp_path)
    assert found.language == "en"
    assert [word.source for word in found.words[:2]] == ["interpolated"] * 2, "they are not spelt"
    assert sum(word.source == "aligned" for word in found.words) > 10


def test_what_is_read_is_not_written_over(recording: Path, tmp_path: Path, capsys: Capture) -> None:
    text, link = tmp_path / "text.txt", tmp_path / "link"
    text.write_text(ONE, "utf-8")
    link.symlink_to(recording)
    before = recording.read_bytes()
    for target in (recording, text, link):
        assert main(["align", str(recording), str(text), "--output", str(target)]) == 2
        line = f"mynah align: --output: {target} would be written over; it is read\n"
        assert capsys.readouterr().err == line
    assert (recording.read_bytes(), text.read_text("utf-8")) == (before, ONE)


def test_a_sentence_too_few_and_one_too_many(
    recording: Path, tmp_path: Path, capsys: Capture
) -> None:
    clean = aligned(recording, f"{ONE}\n{TWO}\n{THREE}", tmp_path)
    capsys.readouterr()
    foreign = "Quick foxes jump over lazy dogs while wizards watch."
    found = aligned(recording, f"{ONE}\n{foreign}\n{THREE}", tmp_path)
    report = capsys.readouterr().err
    assert "not heard: " in report
    for number in (0, 2):
        for word, other in zip(
            found.segments[number].words, clean.segments[number].words, strict=True
        ):
            assert word.start == pytest.approx(other.start, abs=0.2)
    assert (found.segments[1].confidence or 0) < 0.2


def test_every_format_goes_to_standard_output(
    recording: Path, tmp_path: Path, capsys: Capture
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(f"{ONE}\n{TWO}\n{THREE}\n", "utf-8-sig")
    for kind, begins in {
        "txt": "    ", "json": "{", "srt": "1\n", "vtt": "WEBVTT", "tsv": "start",
        "textgrid": "File type", "ctm": "three 1 ",
    }.items():  # fmt: skip
        arguments = ["align", str(recording), str(text), "--format", kind, "--quiet"]
        if kind in ("srt", "vtt"):
            arguments += ["--max-words-per-line", "2", "--highlight-words"]
        assert main(arguments) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith(begins), kind
        assert shown.err == ""


def test_text_from_standard_input(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    stdin = types.SimpleNamespace(buffer=io.BytesIO(ONE.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["align", str(recording), "-", "--format", "json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["text"] == ONE
    assert "9 words" in shown.err


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_silence_and_noise(tmp_path: Path, capsys: Capture, level: float) -> None:
    noise = np.random.default_rng(0).normal(size=9 * RATE).astype(np.float32)
    write(tmp_path / "nothing.wav", level * noise, RATE)
    (tmp_path / "a.txt").write_text(ONE)
    for more in ([], ["--exact"]):
        files = [str(tmp_path / name) for name in ("nothing.wav", "a.txt")]
        assert main(["align", *files, *more]) == 1
        assert "was heard" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "text.txt: no words"),
        (b" ... \n", "text.txt: no words"),
        (b"caf\xe9", "text.txt: not UTF-8 (byte 3)"),
        (None, "text.txt: No such file or directory"),
        ("今日は良い天気".encode(), "the text has no word that the model can spell"),
        ("привет".encode(), "the text has no word that the model can spell"),
    ],
)
def test_a_wrong_text_is_one_line(
    recording: Path, tmp_path: Path, capsys: Capture, content: bytes | None, line: str
) -> None:
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    assert main(["align", str(recording), str(text)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert line in shown.err


def test_wrong_arguments_are_one_line(recording: Path, tmp_path: Path, capsys: Capture) -> None:
    text = tmp_path / "text.txt"
    text.write_text(ONE)
    for arguments, line in {
        ("-", "-"): "only one of them can be standard input",
        (str(tmp_path / "none.wav"), str(text)): "none.wav",
        (str(recording), str(text), "--channel", "x"): "--channel: 'x' is not a number",
        (str(recording), str(text), "--language", "fr"): "knows en, not 'fr'",
    }.items():
        assert main(["align", *arguments]) == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        assert line in shown


# confidence


@pytest.fixture
def heard_and_misheard(tmp_path: Path) -> Path:
    """A manifest of sixteen recordings of tones, the texts of half of them wrong by a word."""
    rows = ["id\tpath\tspeaker\tduration\ttext\tsplit"]
    for number in range(16):
        samples = speak("abc de")
        if number % 2:  # what is noisy is unsure, and its text is another
            samples = samples + np.random.default_rng(number).normal(0, 0.02, len(samples))
        write(tmp_path / f"{number}.wav", samples.astype(np.float32), RATE)
        text = "abc ed" if number % 2 else "abc de"
        seconds = len(samples) / RATE
        rows.append(f"{number}\t{number}.wav\ts\t{seconds:.4f}\t{text}\tdev")
    (tmp_path / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path / "manifest.tsv"


def test_confidences_are_calibrated(
    heard_and_misheard: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = write_tone_model(tmp_path / "tones")
    arguments = ["evaluate", str(heard_and_misheard), "--model", str(model), "--calibrate"]
    assert main([*arguments, "--where", "split=dev"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("16 utterances, ")
    assert "\nthe map takes " in shown
    rates = [line.split("error ")[1] for line in shown.splitlines() if "error " in line]
    errors = [float(rate.split("%")[0]) for rate in rates]
    assert errors[1] < errors[0]
    table = read_model_folder(model).info.confidence
    assert table["data"].endswith("/manifest.tsv split=dev")
    assert str(tmp_path) not in table["data"]
    words = mynah.load(model).transcribe(speak("abc de")).words
    assert all(0 < (word.confidence or 0) < 0.99 for word in words)
    assert main([*arguments, "--where", "split=test"]) == 2
    assert "of 0 words" in capsys.readouterr().err
