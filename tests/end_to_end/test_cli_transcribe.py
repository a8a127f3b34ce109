"""`mynah transcribe` from files to files, with what goes wrong on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mynah.audio import write
from mynah.cli import main
from mynah.runtime.result import Transcript
from tone_model import RATE, speak, write_tone_model

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_model(tmp_path_factory.mktemp("cli") / "tones")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write(folder / "one.wav", speak("abc de"), RATE)
    write(folder / "two.flac", speak("bad", 8000), 8000)
    (folder / "deep").mkdir()
    write(folder / "deep" / "three.ogg", np.stack([speak("cab")] * 7), RATE)
    write(folder / "silence.wav", np.zeros(RATE, np.float32), RATE)
    (folder / "notes.md").write_text("no recording")
    return folder


@pytest.fixture
def call(model: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["transcribe", *map(str, arguments), "--model", str(model)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_one_file(call: Call, recordings: Path) -> None:
    code, out, err = call(recordings / "one.wav")
    assert (code, out) == (0, "abc de\n")
    assert "times faster than real time" in err


def test_a_recording_is_not_written_over(call: Call, recordings: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_bytes((recordings / "one.wav").read_bytes())
    code, _, err = call(path, "--output-dir", tmp_path)
    line = f"mynah transcribe: --output-dir: {path} would be written over; it is read\n"
    assert (code, err) == (2, line)
    assert path.read_bytes() == (recordings / "one.wav").read_bytes()
    assert call(path, "--output-dir", tmp_path, "--format", "json")[0] == 0
    code, _, err = call(path, "--output-dir", path)
    assert (code, err) == (2, f"mynah transcribe: --output-dir: {path} is not a directory\n")


def test_a_pipe_is_read_once(call: Call, recordings: Path, tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with a name")
    data, pipe = (recordings / "one.wav").read_bytes(), tmp_path / "pipe"
    os.mkfifo(pipe)
    for options in ([], ["--output-dir", tmp_path]):
        feeder = threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True)
        feeder.start()
        code, out, _ = call(pipe, "--quiet", *options)
        feeder.join(10)
        assert code == 0
        text = (tmp_path / "pipe.txt").read_text("utf-8") if options else out
        assert text == "abc de\n"


def test_no_name_is_no_folder(call: Call) -> None:
    code, _, err = call("")
    assert (code, err) == (2, ": no such file\n")


def test_words(call: Call, recordings: Path) -> None:
    _, out, _ = call(recordings / "one.wav", "--words", "--quiet")
    (first, second) = (line.split() for line in out.splitlines())
    assert (first[3], second[3]) == ("abc", "de")
    assert 0.3 < float(first[0]) < 0.6 < 1.3 < float(first[1]) < 1.6


@pytest.mark.parametrize("workers", [1, 2])
def test_a_directory_to_files(call: Call, recordings: Path, tmp_path: Path, workers: int) -> None:
    target = tmp_path / "new" / "out"
    formats = "txt,json,srt,vtt,tsv"
    code, out, err = call(
        recordings, "--output-dir", target, "--format", formats, "--workers", workers
    )
    assert (code, out) == (0, ""), err
    names = {f"{stem}.{kind}" for stem in ("one", "two", "three", "silence")
             for kind in formats.split(",")}  # fmt: skip
    assert {path.name for path in target.iterdir()} == names
    assert (target / "three.txt").read_text("utf-8") == "cab\n"
    found = Transcript.from_json((target / "one.json").read_text("utf-8"))
    assert [word.text for word in found.words] == ["abc", "de"]
    nothing = Transcript.from_json((target / "silence.json").read_text("utf-8"))
    assert (nothing.status, nothing.text) == ("no_speech", "")
    assert (target / "silence.srt").read_text("utf-8") == ""
    assert "--> " in (target / "two.srt").read_text("utf-8")


@pytest.mark.parametrize("live", [[], ["--live"]])
def test_set(call: Call, recordings: Path, live: list[str]) -> None:
    options = ["--set", "blank_penalty=-50", "--set", "method=greedy"]
    assert call(recordings / "one.wav", *options, *live)[:2] == (0, "")
    assert call(recordings / "one.wav", *options[2:], *live)[:2] == (0, "abc de\n")


def test_live_says_the_same(call: Call, recordings: Path) -> None:
    offline = call(recordings / "one.wav", "--format", "json", "--quiet")
    live = call(recordings / "one.wav", "--format", "json", "--quiet", "--live")
    assert Transcript.from_json(live[1]).text == Transcript.from_json(offline[1]).text


def test_a_live_stream_has_no_journal_and_the_help_says_why(
    call: Call, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(
        "mynah.runtime.journal.Journal.__init__", lambda self, path, *_: made.append(path)
    )
    assert call(recordings / "one.wav", "--live", "--output-dir", tmp_path)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]
    assert made == []
    code, out, _ = call("--help")
    assert code == 0
    assert "With --live nothing is kept" in " ".join(out.split())


def test_several_on_standard_output(call: Call, recordings: Path) -> None:
    _, out, _ = call(recordings / "one.wav", recordings / "two.flac")
    assert out.splitlines() == [
        f"{recordings / 'one.wav'}:", "  abc de", f"{recordings / 'two.flac'}:", "  bad"
    ]  # fmt: skip
    _, out, _ = call(recordings / "one.wav", recordings / "two.flac", "--format", "json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [Transcript.from_dict(line["transcript"]).text for line in lines] == ["abc de", "bad"]


def broken(folder: Path) -> dict[str, str]:
    """Files that cannot be transcribed and a part of the line about each."""
    good = folder / "good.wav"
    write(good, speak("abc"), RATE)
    data = good.read_bytes()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("This is not a recording.\n" * 20)
    (folder / "truncated.wav").write_bytes(data[: len(data) // 2])
    ten_hours = (36_000 * RATE * 2).to_bytes(4, "little")
    (folder / "ten_hours.wav").write_bytes(data[:40] + ten_hours + data[44:1024])
    soundfile.write(folder / "none.wav", np.zeros(0, np.float32), RATE)
    nan = np.full(RATE, np.nan, np.float32)
    soundfile.write(folder / "nan.wav", nan, RATE, subtype="FLOAT")
    return {
        "missing.wav": "no such file",
        "empty.wav": "empty",
        "text.wav": "",
        "truncated.wav": "truncated",
        "ten_hours.wav": "truncated",
        "none.wav": "no samples",
        "nan.wav": "NaN",
    }


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, 1), (1, 3)])
def test_bad_files_are_passed_over(call: Call, tmp_path: Path, workers: int, batch: int) -> None:
    expected = broken(tmp_path)
    out_dir = tmp_path / "out"
    names = [tmp_path / name for name in expected]
    code, _, err = call(
        *names[:3], tmp_path / "good.wav", *names[3:], "--output-dir", out_dir,
        "--workers", workers, "--batch", batch,
    )  # fmt: skip
    assert code == 1
    assert [path.name for path in out_dir.iterdir()] == ["good.txt"]
    assert (out_dir / "good.txt").read_text() == "abc\n"
    assert "7 of 8 failed:" in err
    for name, reason in expected.items():
        lines = [line for line in err.splitlines() if line.startswith(f"{tmp_path / name}: ")]
        assert len(lines) == 1, err
        assert reason in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("live", [[], ["--live"]])
def test_partial_and_the_longest(call: Call, tmp_path: Path, live: list[str]) -> None:
    path = tmp_path / "truncated.wav"
    write(path, speak("abc de"), RATE)
    path.write_bytes(path.read_bytes()[: 2 * len(speak("abc")) + 44])
    assert call(path, *live)[:2] == (2, "")
    assert call(path, "--partial", *live)[:2] == (0, "abc\n")
    code, out, err = call(path, "--partial", "--max-hours", "0.0001", *live)
    assert (code, out) == (2, "")
    assert "longer than the limit of 0.36 s" in err
    assert call(path, "--partial", "--max-hours", "0.001", *live)[:2] == (0, "abc\n")


def test_nothing_transcribed(call: Call, tmp_path: Path) -> None:
    for name in broken(tmp_path):
        code, out, err = call(tmp_path / name, "--output-dir", tmp_path / "out")
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1, err
        assert len(err.splitlines()) <= 4
        assert not (tmp_path / "out").exists()
    assert call(tmp_path / "missing.wav")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--format", "str"], "unknown format 'str' (did you mean 'srt'?)"),
        (["--format", ","], "give one of txt"),
        (["--format", "txt,srt"], "several formats need --output-dir"),
        (["--channel", "left"], "'left' is not a number"),
        (["--channel", "²"], "'²' is not a number"),
        (["--language", "fr"], "tones knows en, not 'fr'"),
        (["--method", "attention", "--beam", "0"], "0 is not in 1..1000"),
        (["--workers", "0"], "0 is not in 1.."),
        (["--set", "blank_penalti=1"], "--set: blank_penalti: unknown key (did you mean 'blank_pe"),
        (["--set", "beam=many"], "--set: beam: expected int, got 'many'"),
        (["--set", "blank_skip=2.0"], "--set: blank_skip: 2.0 is not a probability"),
        (["--set", "beam"], "--set: beam: expected key=value"),
        (["--max-hours", "nan"], "nan is not above 0"),
        (["--engine", "onnx", "--precision", "int8"], "has graphs in fp32 alone, not in int8"),
        (["--model", "nowhere"], "nowhere: no such model or folder"),
    ],
)
def test_wrong_arguments(
    call: Call, recordings: Path, tmp_path: Path, arguments: list[str], line: str
) -> None:
    if "--model" in arguments:
        name = arguments[1]
        code = subprocess.run(
            [sys.executable, "-m", "mynah", "transcribe", recordings / "one.wav", "--model", name],
            capture_output=True, text=True,
        )  # fmt: skip
        assert (code.returncode, code.stdout) == (2, "")
        assert line in code.stderr
        return
    code_, out, err = call(recordings / "one.wav", *arguments)
    assert (code_, out) == (2, "")
    assert line in err
    assert "Traceback" not in err


def test_an_empty_directory(call: Call, tmp_path: Path) -> None:
    code, _, err = call(tmp_path)
    assert code == 2
    assert "no recordings in this directory" in err


def test_subtitles_of_several_need_a_place(call: Call, recordings: Path) -> None:
    code, out, err = call(recordings, "--format", "srt")
    assert (code, out) == (2, "")
    assert "needs --output-dir" in err


def test_names_that_collide(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for place, text in (("a/x.wav", "a"), ("a/x.flac", "b"), ("b/x.wav", "c")):
        write(tmp_path / place, speak(text), RATE)
    code, _, _ = call(tmp_path / "a", tmp_path / "b", "--output-dir", tmp_path / "out")
    assert code == 0
    texts = {path.name: path.read_text().strip() for path in (tmp_path / "out").iterdir()}
    assert texts == {"x.flac.txt": "b", "x.wav.txt": "a", "x.wav-2.txt": "c"}


def test_what_cannot_be_written(call: Call, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = call(recordings / "one.wav", "--output-dir", tmp_path / "file")
    assert code == 2
    assert "is not a directory" in err


def test_standard_input_and_a_broken_model(model: Path, recordings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mynah", "transcribe", "-", "--model", str(model)]
    data = (recordings / "two.flac").read_bytes()
    done = subprocess.run(command, input=data, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"bad\n")
    altered = write_tone_model(tmp_path / "altered")
    (altered / "tokenizer" / "units.txt").write_text("x 0\n")
    command[-1] = str(altered)
    done = subprocess.run(command, input=data, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"units.txt was altered" in done.stderr


def test_debug_shows_the_trace(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mynah", "transcribe", str(tmp_path / "none.wav"), "--debug"]
    done = subprocess.run([*command, "--model", str(model)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_format_that_needs_a_library(
    call: Call, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    strange = tmp_path / "a.m4a"
    strange.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(400))
    for live in ([], ["--live"]):
        code, out, err = call(strange, recordings / "one.wav", "--output-dir", tmp_path, *live)
        assert (code, out) == (1, "")
        assert f"{strange}: " in err
        assert "mynah-speech[media]" in err


ARPA = """\\data\\
ngram 1=5

\\1-grams:
-1 <unk>
-99 <s>
-1 </s>
-1 abc
-1 de

\\end\\
"""


@pytest.mark.parametrize("live", [[], ["--live"]])
def test_hotwords_and_a_language_model(
    call: Call, recordings: Path, tmp_path: Path, live: list[str]
) -> None:
    (tmp_path / "words.txt").write_text("abc\nde\t4\n")
    (tmp_path / "words.arpa").write_text(ARPA)
    for options in (
        ["--hotwords", "abc,de=3"],
        ["--hotwords", tmp_path / "words.txt", "--hotwords", "cab", "--hotword-weight", "1.5"],
        ["--lm", tmp_path / "words.arpa", "--lm-weight", "0.5", "--set", "word_bonus=0.1"],
    ):
        assert call(recordings / "one.wav", *options, *live)[:2] == (0, "abc de\n")
    # what is preferred beyond all measure is heard
    strong = ["--hotwords", "bbc=100", "--set", "hotword_cap=1000", "--beam", "20"]
    text = call(recordings / "one.wav", *strong, "--method", "prefix_beam", *live)[1]
    assert text == "abc de\n" or "bbc" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--hotwords", "none.txt"], "--hotwords: none.txt: no such file"),
        (["--hotwords", os.devnull], "not a regular file, and read once a recording"),
        (["--hotwords", "abc=x"], "abc=x"),
        (["--hotwords", "abc", "--method", "greedy"], "greedy search takes no hotwords"),
        (["--lm", "none.arpa"], "none.arpa: cannot be read"),
        (["--live", "--endpoint", "nothin=3"], "--endpoint: nothin: unknown key (did you mean"),
        (["--live", "--endpoint", "longest=-1"], "--endpoint: endpointing.longest: -1"),
        (["--no-vad", "--vad-onset", "0.3"], "--no-vad: the other options"),
        (["--vad-onset", "-1"], "-1 is below 0"),
        (["--max-line-width", "0"], "0 is not above 0"),
        (["--format", "textgrid,ctm"], "several formats need --output-dir"),
    ],
)
def test_wrong_requests(call: Call, recordings: Path, arguments: list[str], line: str) -> None:
    code, out, err = call(recordings / "one.wav", *arguments)
    assert (code, out) == (2, "")
    assert line in err
    assert "Traceback" not in err


def test_annotations_and_the_layout_of_subtitles(
    call: Call, recordings: Path, tmp_path: Path
) -> None:
    code, _, err = call(recordings / "one.wav", "--output-dir", tmp_path, "--format",
                        "textgrid,ctm,vtt", "--highlight_words", "--max_line_width", 3)  # fmt: skip
    assert code == 0, err
    assert "abc" in (tmp_path / "one.TextGrid").read_text("utf-8")
    first, second = (line.split() for line in (tmp_path / "one.ctm").read_text().splitlines())
    assert (first[0], first[4], second[4]) == ("one", "abc", "de")
    subtitles = (tmp_path / "one.vtt").read_text("utf-8")
    assert "<u>abc</u>" in subtitles
    lines = [x for x in subtitles.splitlines() if x and "-->" not in x and x != "WEBVTT"]
    assert max(len(x.replace("<u>", "").replace("</u>", "")) for x in lines) <= 3
    _, out, _ = call(recordings / "one.wav", recordings / "two.flac", "--format", "ctm", "--quiet")
    assert [line.split()[0] for line in out.splitlines()] == ["one", "one", "two"]
    _, out, _ = call(recordings / "one.wav", "--format", "json", "--chars", "--quiet")
    assert len(Transcript.from_json(out).words[0].chars) == 3


def test_endpoints_live(call: Call, tmp_path: Path) -> None:
    sound = np.concatenate([speak("ab"), np.zeros(RATE), speak("cd")])
    write(tmp_path / "a.wav", sound, RATE)
    assert call(tmp_path / "a.wav", "--live")[1] == "ab\ncd\n"
    assert call(tmp_path / "a.wav", "--live", "--endpoint", "after_speech=inf")[1] == "ab cd\n"
    assert call(tmp_path / "a.wav", "--endpoint", "after_speech=0.5")[1] == "ab\ncd\n"


def test_a_name_that_is_not_utf8_stops_no_folder(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "z.wav", speak("ab"), RATE)
    try:
        with open(os.fsencode(tmp_path) + b"/caf\xe9.wav", "wb") as file:
            file.write((tmp_path / "z.wav").read_bytes())
    except OSError:
        pytest.skip("no such names on this system")
    command = [sys.executable, "-m", "mynah", "transcribe", tmp_path, "--model", model, "--quiet"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=strict)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0].endswith("caf\\udce9.wav:") and lines[1:] == [
        "  ab",
        f"{tmp_path}/z.wav:",
        "  ab",
    ]


def test_to_a_device_and_to_a_poor_terminal(model: Path, recordings: Path) -> None:
    from mynah.whole import write_whole

    if Path("/dev/null").is_char_device():
        write_whole(Path("/dev/null"), "x")
        assert Path("/dev/null").is_char_device()
    program = "from mynah.cli import _printable; _printable(); print('\\xe9 \\u597d\\udce9')"
    for environment, expected in (
        ({"PYTHONIOENCODING": "ascii"}, b"\\xe9 \\u597d\\udce9\n"),
        ({"PYTHONIOENCODING": "utf-8:strict"}, "é 好\\udce9\n".encode()),
        ({"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, "é 好\\udce9\n".encode()),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, env=os.environ | environment
        )
        assert done.stdout == expected, done.stderr
