"""The command line itself: help, unknown verbs, errors as one line."""

from __future__ import annotations

import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mynah.cli import VERBS, main
from mynah.errors import ConfigError, InputError, MissingDependency, ModelError, MynahError

Capture = pytest.CaptureFixture[str]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb}" in out for verb in VERBS)
    assert main([]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import mynah

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mynah {mynah.__version__}\n"


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trancribe"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "mynah: unknown verb 'trancribe' (did you mean 'transcribe'?); see mynah --help"
    ]


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "no-such-model"]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("mynah models: no-such-model: no such model or folder")


def test_a_closed_output_changes_no_exit_code() -> None:
    for arguments, code in ((["models"], 0), (["models", "no-such-model"], 2), (["--version"], 0)):
        command = shlex.join([sys.executable, "-m", "mynah", *arguments])
        done = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True)
        assert done.returncode == code and "Traceback" not in done.stderr
        done = subprocess.run(f"{command} >&- 2>&-", shell=True, capture_output=True)
        assert done.returncode == code


def test_a_mark_of_the_byte_order_is_no_text(tmp_path: Path, capsys: Capture) -> None:
    texts = []
    for encoding in ("utf-8", "utf-8-sig"):
        path = tmp_path / "text.txt"
        path.write_text("how are you\nfine\n", encoding=encoding)
        assert main(["punctuate", str(path)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 2


def test_punctuate_without_an_input(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["punctuate"]) == 2
    assert capsys.readouterr().err == "mynah punctuate: standard input: is closed\n"


def test_verbs_of_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MYNAH_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert main(["models"]) == 0
    assert "mynah-en" in capsys.readouterr().out
    assert main(["models", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("mynah models: nothing: no such model or folder")
    assert main(["doctor"]) == 0
    assert "no place (MYNAH_HOME: not set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["transcribe"], "mynah transcribe: the following arguments are required: FILES"),
        (["transcribe", "a.wav", "--batch", "0"], "mynah transcribe: argument --batch: 0 is not"),
        (["lm", "train", "a", "--out", "b", "--memory", ""], "mynah lm train: argument --memory: "),
        (["lm", "trian"], "mynah lm: argument ACTION: invalid choice: 'trian'"),
    ],
)
def test_wrong_arguments_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert main(arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)
    assert said.endswith(" --help")


def test_an_argument_that_begins_with_a_dash(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["segments", "--quiet", "--", "-missing.wav"]) == 2
    assert capsys.readouterr().err == "-missing.wav: no such file\n"


def test_sub_commands_have_a_head_and_the_options_of_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["lm", "ppl", "--help"]) == 0
    assert "\nPerplexity and unknown words of texts.\n" in capsys.readouterr().out
    for arguments in (["lm", "--debug", "ppl"], ["lm", "ppl", "--debug"]):
        assert main([*arguments, str(tmp_path / "none"), "text"]) == 2
        assert "Traceback" in capsys.readouterr().err


def test_no_place_to_write_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "out.tsv"
    assert main(["data", "make", str(tmp_path), str(target)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        MynahError("a"),
        InputError("b"),
        ModelError("c"),
        ConfigError("d"),
        MissingDependency("av", extra="media"),
    ],
)
def test_errors_travel_between_processes(error: MynahError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
