"""Model folders: whole or not at all, verified, nothing outside the folder."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mynah.errors import ConfigError, ModelError
from mynah.model_folder import (
    ModelInfo,
    find_model,
    home,
    known_models,
    read_model_folder,
    update_results,
    write_model_folder,
)

INFO = ModelInfo(
    family="u2",
    name="tiny",
    sample_rate=16000,
    languages=("en",),
    license="Apache-2.0",
    config={"dim": 8, "nested": {"x": [1.5, 2.0]}},
    training_data=("a set",),
)


def make(path: Path) -> Path:
    with write_model_folder(path, INFO) as work:
        (work / "weights.safetensors").write_bytes(b"12345")
        (work / "onnx").mkdir()
        (work / "onnx" / "encoder.int8.onnx").write_bytes(b"678")
    return path


def test_round_trip(tmp_path: Path) -> None:
    folder = read_model_folder(make(tmp_path / "m"))
    assert folder.info == INFO
    assert set(folder.files) == {"weights.safetensors", "onnx/encoder.int8.onnx"}
    assert folder.file("onnx/encoder.int8.onnx").read_bytes() == b"678"
    folder.verify()
    assert [p.name for p in tmp_path.iterdir()] == ["m"], "no temporary directory stays"


def test_replaces_a_model_and_nothing_else(tmp_path: Path) -> None:
    make(make(tmp_path / "m"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ModelError, match="not a model folder"):
        make(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), write_model_folder(tmp_path / "m", INFO) as work:
        (work / "part").write_bytes(b"1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_of_the_target(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "source")  # as shutil.copyfile
    line = r"/m: cannot be written \(No space left on device\)$"
    with pytest.raises(ModelError, match=line), write_model_folder(tmp_path / "m", INFO):
        raise full
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "source")
    with pytest.raises(FileNotFoundError), write_model_folder(tmp_path / "m", INFO):
        raise missing
    assert list(tmp_path.iterdir()) == []


def test_missing_and_altered_parts(tmp_path: Path) -> None:
    path = make(tmp_path / "m")
    (path / "weights.safetensors").write_bytes(b"12346")
    with pytest.raises(ModelError, match="weights.safetensors was altered"):
        read_model_folder(path).file("weights.safetensors")
    (path / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="weights.safetensors is missing"):
        read_model_folder(path).verify()
    with pytest.raises(ModelError, match="did you mean 'onnx/encoder.int8.onnx'"):
        read_model_folder(path).file("onnx/encoder.int8.onn")


def test_parts_that_are_no_files_of_the_folder(tmp_path: Path) -> None:
    path = make(tmp_path / "m")
    part = path / "weights.safetensors"
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="weights.safetensors: a link that leaves"):
        read_model_folder(path).file("weights.safetensors")
    part.unlink()
    part.symlink_to(path / "onnx" / "encoder.int8.onnx")
    with pytest.raises(ModelError, match="was altered"):  # it is in the folder
        read_model_folder(path).file("weights.safetensors")
    part.unlink()
    part.mkdir()
    with pytest.raises(ModelError, match="weights.safetensors is no file"):
        read_model_folder(path).verify()
    if hasattr(os, "mkfifo"):
        part.rmdir()
        os.mkfifo(part)
        with pytest.raises(ModelError, match="weights.safetensors is no file"):
            read_model_folder(path).verify()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "c:\\\\x", "..\\\\x"])
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / "m")
    text = (path / "model.toml").read_text()
    (path / "model.toml").write_text(text.replace("weights.safetensors", name))
    with pytest.raises(ModelError, match=r"leaves the folder|model\.toml"):
        read_model_folder(path).verify()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("format = 1", "format = 2", "format 2"),
        ("format = 1", "", "format None"),
        ("family", "famly", "did you mean 'family'"),
        ('name = "tiny"', "name = ", "not TOML"),
        ("[files]", "[other]", "other: unknown key"),
        ("dim = 8", "dim = " + "[" * 3000 + "]" * 3000, r"model\.toml: not TOML that can be read"),
        ("dim = 8", "dim = " + "9" * 6000, r"model\.toml: not TOML \(.*limit"),
        ('family = "u2"', 'family = "../../os"', "family: '../../os' is no name of one"),
        ('name = "tiny"', r'name = "\u001b[2J"', r"name: '\\x1b\[2J' has control characters"),
        ('"en"', r'"e\u0007"', r"languages: 'e\\x07' has control characters"),
    ],
)
def test_malformed(tmp_path: Path, old: str, new: str, line: str) -> None:
    path = make(tmp_path / "m")
    text = (path / "model.toml").read_text()
    (path / "model.toml").write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=line) as error:
        read_model_folder(path)
    assert "\n" not in str(error.value)


def test_update_results(tmp_path: Path) -> None:
    path = make(tmp_path / "m")
    update_results(path, {"wer": 0.25})
    assert read_model_folder(path).info == replace(INFO, results={"wer": 0.25})


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path))
    make(tmp_path / "models" / "mine")
    assert known_models()["mine"] == tmp_path / "models" / "mine"
    assert find_model("mine") == find_model(tmp_path / "models" / "mine")
    with pytest.raises(ModelError, match="did you mean 'mine'"):
        find_model("mina")
    with pytest.raises(ModelError, match="no such model"):
        read_model_folder(tmp_path / "nothing")


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MYNAH_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert find_model() == known_models()["mynah-en"]
    with pytest.raises(ConfigError, match=r"^MYNAH_HOME: not set, and there is no home directory$"):
        home()
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path))
    assert home() == tmp_path


def test_files_must_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text(
        'format = 1\nfiles = 3\nfamily = "u2"\nname = "x"\nsample_rate = 16000\n'
    )
    with pytest.raises(ModelError, match="files is not a table"):
        read_model_folder(tmp_path)
