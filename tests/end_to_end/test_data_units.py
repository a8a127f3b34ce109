"""``mynah data align`` and ``mynah data units``: which unit sounds when, and texts in units."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mynah.audio import read, write
from mynah.cli import main
from mynah.corpus import read_manifest
from mynah.corpus.runs import parse_runs
from mynah.runtime.unit_runs import _runs

Capture = pytest.CaptureFixture[str]
ONE = "The birds come back to the garden every spring."
TWO = "Please put the kettle on and sit down."
PHONES = "dh ah b er d z k ah m b ae k t uw dh ah g aa r d ah n eh v er iy s p r ih ng"


@pytest.fixture
def manifest(speech: Path, tmp_path: Path) -> Path:
    for name in ("slt_1.flac", "slt_2.flac"):
        shutil.copyfile(speech / name, tmp_path / name)
    lines = ["id\tpath\ttext\tplace", f"one\tslt_1.flac\t{ONE}\thill", f"two\tslt_2.flac\t{TWO}\t"]
    path = tmp_path / "in.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_units_have_times(manifest: Path, capsys: Capture) -> None:
    out = manifest.with_name("out.tsv")
    arguments = ["data", "align", str(manifest), "--out", str(out), "--column", "phones"]
    assert main([*arguments, "--jobs", "2"]) == 0
    assert "2 of 2 utterances" in capsys.readouterr().out
    one, two = read_manifest(str(out))
    assert (one.id, one.columns["place"], two.id) == ("one", "hill", "two")
    runs = parse_runs(one.columns["phones"])
    said = [name for name, _ in runs if name != "sil"]
    assert len(said) == len(PHONES.split()) and said[2:6] == ["b", "er", "d", "z"]
    assert all(length > 0 for _, length in runs)
    sound = read(manifest.with_name("slt_1.flac"), rate=16_000).samples
    assert sum(length for _, length in runs) == pytest.approx(len(sound) / 160, abs=1)
    # what is called silence has less energy than what is called speech
    names = np.repeat([name for name, _ in runs], [length for _, length in runs])
    frames = np.abs(sound[: len(sound) // 160 * 160]).reshape(-1, 160).mean(1)
    count = min(len(names), len(frames))
    silent = names[:count] == "sil"
    assert frames[:count][~silent].mean() > 3 * frames[:count][silent].mean()
    # a hiss crosses zero more often than the vowel after it
    at = next(i for i, (name, _) in enumerate(runs) if name == "s")
    assert [name for name, _ in runs[at : at + 4]] == ["s", "p", "r", "ih"]
    ends = 160 * np.cumsum([0, *(length for _, length in runs)])
    hiss, vowel = (
        (np.diff(np.sign(sound[ends[i] : ends[i + 1]])) != 0).mean() for i in (at, at + 3)
    )
    assert hiss > 2 * vowel


def test_no_unit_is_without_a_frame() -> None:
    borders = np.array([0.0, 0.1, 0.1, 0.104, 0.3, 0.3])
    found = list(_runs(borders, ["sil", "k", "t", "ah", "sil"]))
    assert found == [("sil", 10), ("k", 1), ("t", 1), ("ah", 18)]


def test_what_was_not_said_is_left_out(manifest: Path, capsys: Capture) -> None:
    lines = manifest.read_text("utf-8").replace(TWO, "Nobody thought of that at all, he said.")
    manifest.write_text(lines.replace(ONE, "??"), "utf-8")
    write(manifest.with_name("short.wav"), np.zeros(300, np.float32), 16_000)
    soundfile.write(manifest.with_name("none.wav"), np.zeros(0, np.float32), 16_000)
    manifest.with_name("broken.wav").write_bytes(b"RIFF")
    with manifest.open("a", encoding="utf-8") as file:
        file.writelines(f"{n}\t{n}.wav\tHello there.\t\n" for n in ("short", "none", "broken"))
    out = str(manifest.with_name("out.tsv"))
    assert main(["data", "align", str(manifest), "--out", out]) == 2
    err = capsys.readouterr().err
    assert all(f"left out: {name}: " in err for name in ("short", "none", "broken"))
    assert "two: the text was not heard" in err and "one: the text has no words" in err
    assert main(["data", "align", str(manifest), "--out", "x.txt"]) == 2
    assert capsys.readouterr().err.strip().endswith("must end in .tsv")
    before = manifest.read_bytes()
    for verb in ("align", "label"):
        assert main(["data", verb, str(manifest), "--out", str(manifest)]) == 2
        assert "would be written over" in capsys.readouterr().err
    assert manifest.read_bytes() == before
    for column in ("text", "wav", ""):
        arguments = ["data", "align", str(manifest), "--out", out, "--column", column]
        assert main(arguments) == 2
        assert "means something else" in capsys.readouterr().err


def test_texts_in_units(manifest: Path, capsys: Capture) -> None:
    out = manifest.with_name("units.txt")
    arguments = ["data", "units", str(manifest), "--out", str(out), "--language", "en"]
    assert main(arguments) == 0
    first, second = out.read_text("utf-8").splitlines()
    assert first == PHONES and second.startswith("p l iy z p uh t")
    assert main([*arguments, "--pieces", "1"]) == 0
    for piece, whole in zip(out.read_text("utf-8").splitlines(), (first, second), strict=True):
        assert f" {piece} " in f" {whole} "
    ngram = manifest.with_name("units.arpa")
    assert main(["lm", "train", str(out), "--out", str(ngram), "--order", "2"]) == 0
    capsys.readouterr()
    assert main([*arguments[:-2], "--where", "place=nowhere"]) == 2
    assert main(["data", "units", str(manifest), "--out", str(out.parent)]) == 2
    assert str(out.parent) in capsys.readouterr().err
    assert main(["data", "units", str(manifest), "--out", str(manifest)]) == 2
    assert "would be written over" in capsys.readouterr().err
