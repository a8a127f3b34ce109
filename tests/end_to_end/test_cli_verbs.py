"""`mynah listen`, `evaluate`, `models` and `doctor` on a model of tones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from mynah.audio import write
from mynah.cli import doctor, evaluate, main
from mynah.cli import listen as listening
from mynah.errors import ConfigError
from mynah.model_folder import read_model_folder, write_model_file
from tone_model import RATE, speak, write_tone_model

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_model(tmp_path_factory.mktemp("verbs") / "tones")


# listen


def listen(model: Path, data: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mynah", "listen", "--model", str(model), *options]
    done = subprocess.run(command, input=data, capture_output=True)
    text = (done.stdout.decode(), done.stderr.decode())
    return subprocess.CompletedProcess(command, done.returncode, *text)


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def test_listen_to_raw_samples(model: Path) -> None:
    sound = np.concatenate([speak("abc"), np.zeros(2 * RATE, np.float32), speak("de")])
    done = listen(model, pcm(sound))
    assert (done.returncode, done.stdout, done.stderr) == (0, "abc\nde\n", "")


def test_listen_in_json_to_two_channels(model: Path) -> None:
    sound = np.repeat(speak("abd", 8000), 2)
    done = listen(model, pcm(sound), "--rate", "8000", "--channels", "2", "--json", "--pcm")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "final"
    assert [word["text"] for word in events[-1]["words"]] == ["abd"]
    assert {event["event"] for event in events} == {"partial", "final"}


def test_listen_with_words(model: Path) -> None:
    done = listen(model, pcm(speak("ab cd")), "--words")
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["ab", "cd"]


def test_listen_to_half_a_sample(model: Path) -> None:
    done = listen(model, pcm(speak("abc")) + b"x")
    assert (done.returncode, done.stdout) == (2, "abc\n")
    assert "1 bytes are left over" in done.stderr
    assert done.stderr.count("\n") == 1


def test_listen_without_a_microphone_library(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main(["listen", "--model", str(model)]) == 2
    assert "pip install 'mynah-speech[mic]'" in capsys.readouterr().err


def test_listen_where_standard_input_is_closed(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["listen", "--model", str(model), "--pcm"]) == 2
    assert capsys.readouterr().err == "mynah listen: standard input: is closed\n"
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["listen", "--model", str(model)]) == 2  # there is the microphone
    assert "sounddevice is not installed" in capsys.readouterr().err


class FakeSound(types.ModuleType):
    """Stands for sounddevice: one microphone, number 3, that hears ``sound`` and is then closed."""

    class PortAudioError(Exception):
        pass

    def __init__(self, sound: np.ndarray) -> None:
        super().__init__("sounddevice")
        self.sound = sound
        self.asked: list[Any] = []

    def InputStream(self, *asked: Any, callback: Any) -> Any:
        self.asked.append(asked)
        _, size, device, channels, _ = asked
        if device not in (None, 3, "desk"):
            raise ValueError(f"No input device matching {device!r}")
        samples = np.stack([(self.sound * 32767).astype(np.int16)] * channels, axis=1)

        def hear() -> None:
            for first in range(0, len(samples), size):
                callback(samples[first : first + size], size, None, None)

        stream = MagicMock()
        stream.__enter__.side_effect = hear
        return stream


@pytest.mark.parametrize(("name", "device"), [(None, None), ("3", 3), ("desk", "desk")])
def test_the_microphone(
    monkeypatch: pytest.MonkeyPatch, name: str | None, device: int | str | None
) -> None:
    fake = FakeSound(speak("abc"))
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    source = listening.microphone_blocks(RATE, 2, name)
    blocks = [next(source) for _ in range(-(-len(fake.sound) // 1600))]
    source.close()
    assert fake.asked == [(RATE, 1600, device, 2, "int16")]
    heard = np.concatenate(blocks, axis=1)
    assert heard.dtype == np.int16
    np.testing.assert_array_equal(heard, np.stack([(fake.sound * 32767).astype(np.int16)] * 2))


@pytest.mark.parametrize("name", ["²", "attic", "5"])
@pytest.mark.parametrize("terminal", [True, False])  # a microphone that is named needs none
def test_no_such_microphone(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str, terminal: bool
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound(speak("a")))
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal, raising=False)
    assert main(["listen", "--model", str(model), "--microphone", name]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "microphone: No input device matching" in err


def test_listen_refuses_a_model_that_does_not_stream(tmp_path: Path) -> None:
    folder = write_tone_model(tmp_path / "m", streaming={})
    done = listen(folder, pcm(speak("a")))
    assert done.returncode == 2
    assert "tones does not stream" in done.stderr


# evaluate


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = [
        ("u1", "Abc, de!", "abc de", "4", "test"),
        ("u2", "bad cab", "bad eab", "9", "test"),  # one substitution
        ("u3", "a b", "a b c", "40", "test"),  # one insertion
        ("u4", "ab", "ed", "40", "train"),
    ]
    lines = ["id\tpath\ttext\tage\tsplit"]
    for name, text, spoken, age, split in rows:
        write(folder / f"{name}.wav", speak(spoken), RATE)
        lines.append(f"{name}\t{name}.wav\t{text}\t{age}\t{split}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(model: Path, corpus: Path, capsys: Capture) -> Evaluate:
    def run(*options: str, manifest: Path | None = None) -> tuple[int, str, str]:
        code = main(["evaluate", str(manifest or corpus), "--model", str(model), *options])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("live", [[], ["--live"]])
def test_evaluate(call: Evaluate, live: list[str]) -> None:
    code, out, _ = call("--where", "split=test", "--group", "age>=18", "--json", "-", *live)
    found = json.loads(out)
    assert code == 0
    assert found["live"] == bool(live)
    total = found["groups"]["all"]
    assert (total["total"], total["errors"], total["utterances"]) == (6, 2, 3)
    assert (total["substitutions"], total["insertions"]) == (1, 1)
    assert found["groups"]["age>=18: yes"]["errors"] == 1
    assert found["groups"]["age>=18: no"]["total"] == 4
    assert [(u["ref"], u["hyp"]) for u in found["utterances"]][:1] == [("abc de", "abc de")]


def test_evaluate_prints_the_worst(call: Evaluate, tmp_path: Path) -> None:
    code, out, _ = call("--group", "age", "--worst", "1", "--json", str(tmp_path / "r.json"))
    assert code == 0
    heads = [line.split()[:2] for line in out.splitlines() if line.startswith("age: ")]
    assert heads == [["age:", "4"], ["age:", "9"], ["age:", "40"]]
    assert "REF" in out and "HYP" in out
    assert "times faster than real time" in out
    assert json.loads((tmp_path / "r.json").read_text())["groups"]["all"]["errors"] == 3


def test_evaluate_with_an_option(call: Evaluate) -> None:
    code, out, _ = call("--set", "blank_penalty=-50", "--method", "greedy", "--json", "-")
    found = json.loads(out)
    assert (code, found["set"]) == (0, ["blank_penalty=-50"])
    total = found["groups"]["all"]
    assert total["deletions"] == total["total"] == 7


def test_evaluate_in_one_script(capsys: Capture, tmp_path: Path) -> None:
    pytest.importorskip("opencc")
    chinese = write_tone_model(tmp_path / "zh", letters="頭髮里后面", languages=("zh",))
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("path\ttext\na.wav\t头发里\n", encoding="utf-8")
    write(tmp_path / "a.wav", speak("abc"), RATE)
    for more, errors in (([], 2), (["--script", "simplified"], 0)):
        command = ["evaluate", str(manifest), "--model", str(chinese), "--json", "-", *more]
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)["groups"]["all"]["errors"] == errors


def test_evaluate_units_and_limits(call: Evaluate) -> None:
    _, out, _ = call("--limit", "1", "--unit", "char", "--json", "-")
    found = json.loads(out)
    assert (found["metric"], found["groups"]["all"]["total"]) == ("CER", 5)


def test_evaluate_passes_over_what_is_broken(call: Evaluate, corpus: Path, tmp_path: Path) -> None:
    text = (corpus / "manifest.tsv").read_text().replace("\tu", f"\t{corpus}/u")
    rows = text.splitlines()
    rows += ["u5\tmissing.wav\tx\t1\ttest", f"u6\t{corpus}/u1.wav\t\t1\ttest"]
    (tmp_path / "m.tsv").write_text("\n".join(rows) + "\n")
    code, _out, err = call("--worst", "0", manifest=tmp_path / "m.tsv")
    assert code == 1
    assert "u5: " in err and "u6: has no text" in err
    assert "Traceback" not in err


def test_evaluate_refuses(call: Evaluate, corpus: Path) -> None:
    for options, line in [
        (["--where", "split"], "condition 'split': write column=value"),
        (["--where", "splt=test"], "did you mean 'split'"),
        (["--where", "split=none"], "no utterance"),
    ]:
        code, out, err = call(*options)
        assert (code, out) == (2, "")
        assert line in err


def test_conditions() -> None:
    found = evaluate.parse_conditions(["split=test", "age>=18", "speaker = a,b"])
    assert found == [("split", "test"), ("age", ">=18"), ("speaker", ["a", "b"])]
    with pytest.raises(ConfigError):
        evaluate.parse_conditions(["=x"])


# models


def test_models(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path))
    write_tone_model(tmp_path / "models" / "beeps")
    assert main(["models"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("beeps")]
    assert "u2" in line and "live" in line and " en " in line
    assert main(["models", "beeps"]) == 0
    out = capsys.readouterr().out
    assert "Hears tones." in out and "whole" in out and "16000 Hz" in out
    assert main(["models", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert "beeps" in names


def test_models_says_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path))
    folder = write_tone_model(tmp_path / "models" / "beeps")
    (folder / "CARD.md").write_text("other")
    assert main(["models", "beeps"]) == 2
    assert "CARD.md was altered" in capsys.readouterr().out
    (folder / "model.toml").write_text("format = 99\n")
    assert main(["models"]) == 1
    assert "unusable: " in capsys.readouterr().out
    assert main(["models", "beps"]) == 2
    assert "did you mean 'beeps'" in capsys.readouterr().err


def test_models_of_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path))
    folder = write_tone_model(tmp_path / "models" / "beeps", license="free\x1b[31m\x9b2J")
    card = folder / "CARD.md"
    card.write_text("# beeps\n\n\x1b[2Jred\n", encoding="utf-8")
    write_model_file(folder, read_model_folder(folder).info)
    assert main(["models", "beeps"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x9b" not in out
    assert "free\\x1b[31m" in out and "\n# beeps\n\n\\x1b[2Jred\n" in out
    secret = tmp_path / "secret"
    secret.write_bytes(card.read_bytes())
    card.unlink()
    card.symlink_to(secret)  # its hash is right
    assert main(["models", "beeps"]) == 2
    out = capsys.readouterr().out
    assert "CARD.md: a link that leaves the model folder" in out and "red" not in out
    assert main(["lexicon", "beeps", str(tmp_path / "out"), "--table", __file__]) == 2
    assert not (tmp_path / "out").exists()


# doctor


def test_doctor(model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor.version
    monkeypatch.setattr(
        doctor, "version", lambda x: None if x.extra == "mic" else installed(x)
    )  # fmt: skip
    assert main(["doctor", "--model", str(model)]) == 0
    out = capsys.readouterr().out
    assert "model: tones runs on onnx fp32" in out
    assert "to add sounddevice: pip install 'mynah-speech[mic]'" in out
    assert main(["doctor", "--model", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["libraries"]["numpy"] and found["libraries"]["sounddevice"] is None


@pytest.mark.parametrize(("slow", "calls"), [(60.0, 2), (0.0, 1)])
def test_doctor_times_what_comes_after_the_first(
    monkeypatch: pytest.MonkeyPatch, slow: float, calls: int
) -> None:
    monkeypatch.setattr(doctor, "SLOW", slow)
    recognizer = MagicMock(sample_rate=RATE)
    report = doctor.try_model(MagicMock(load=lambda: recognizer))
    assert recognizer.transcribe.call_count == calls
    assert 0 <= report["second_of_audio_seconds"] < 60


def test_doctor_knows_every_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    named = {
        (re.split(r"[<>=!~;\[ ]", wanted)[0].lower(), extra)
        for extra, libraries in extras.items()
        if extra not in ("test", "bench")
        for wanted in libraries
    }
    assert named == {(library.distribution, library.extra) for library in doctor.LIBRARIES}


def test_doctor_without_a_model(tmp_path: Path, capsys: Capture) -> None:
    assert main(["doctor", "--model", str(tmp_path)]) == 2
    assert "model: " in capsys.readouterr().out


def test_versions() -> None:
    assert doctor.version(doctor.LIBRARIES[0])
    assert doctor.version(doctor.Library("no_such_module", "none", "", "")) is None
