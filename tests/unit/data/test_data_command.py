"""``mynah data``: what it writes, prints and returns."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mynah.audio import read
from mynah.cli import main
from mynah.corpus import load, read_manifest
from mynah.corpus.cut import Cut, Recording
from mynah.corpus.statistics import read_cmvn
from mynah.text import load_tokenizer

Capture = pytest.CaptureFixture[str]


def test_make_from_a_folder_and_convert(speech: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "m.jsonl"
    assert main(["data", "make", str(speech), str(out), "--language", "en", "--jobs", "1"]) == 0
    assert "12 utterances, 0.01 h" in capsys.readouterr().out
    cuts, original = list(read_manifest(out)), list(read_manifest(speech))
    assert [c.text for c in cuts] == [c.text for c in original]
    assert {c.language for c in cuts} == {"en"}
    plain = tmp_path / "audio"
    plain.mkdir()
    for cut in original[:3]:
        name = Path(cut.recording.source)
        (plain / name.name).write_bytes(name.read_bytes())
        (plain / f"{name.stem}.txt").write_text(cut.text)
    assert main(["data", "make", str(plain), str(plain / "manifest.tsv"), "--split", "x"]) == 0
    found = list(read_manifest(plain))
    assert [(c.text, c.value("split")) for c in found] == [(c.text, "x") for c in original[:3]]
    assert "/" not in (plain / "manifest.tsv").read_text()  # so that the folder can be moved
    for one, other in zip(found, sorted(original[:3], key=lambda c: c.id), strict=True):
        assert one.duration == pytest.approx(other.duration, abs=1e-3)


def test_a_name_that_is_not_utf8_is_left_out(speech: Path, tmp_path: Path, capsys: Capture) -> None:
    cut = next(read_manifest(speech))
    audio = Path(cut.recording.source)
    try:
        for name in (b"caf\xe9.flac", b"plain.flac"):
            with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
                file.write(audio.read_bytes())
    except OSError:
        pytest.skip("no such names on this system")
    for name in ("m.tsv", "m.jsonl"):
        assert main(["data", "make", str(tmp_path), str(tmp_path / name), "--jobs", "1"]) == 1
        out, err = capsys.readouterr()
        assert "1 utterances" in out and "1 left out" in out
        assert "left out: caf" in err and "its name is not UTF-8" in err
        (tmp_path / name).rename(tmp_path / "found.txt")  # which would be taken as it is
        assert "plain" in (tmp_path / "found.txt").read_text("utf-8")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac")
    part = Cut("x", Recording("x", odd), start=0.1, duration=0.2)
    assert len(load(part, read, rate=16000)) == 3200


def test_check_reports_and_returns(speech: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["data", "check", str(speech), "--jobs", "1"]) == 0
    assert "12 of 12 recordings can be used" in capsys.readouterr().out
    lines = (speech / "manifest.tsv").read_text().splitlines()
    (tmp_path / "manifest.tsv").write_text(
        "\n".join([lines[0], *(line.replace("\t", f"\t{speech}/", 1) for line in lines[1:4]),
                   "gone\tgone.flac\ts\t1.0\ttext\ttrain"]) + "\n"
    )  # fmt: skip
    report = tmp_path / "report.jsonl"
    assert main(["data", "check", str(tmp_path), "--report", str(report), "--jobs", "1"]) == 1
    out = capsys.readouterr().out
    assert "error    gone" in out and "3 of 4 recordings can be used" in out
    (entry,) = map(json.loads, report.read_text().splitlines())
    assert entry["id"] == "gone" and "no such file" in entry["error"]


def test_summary(speech: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "s.json"
    assert main(["data", "summary", str(speech), "--where", "speaker=slt,rms",
                 "--json", str(out)]) == 0  # fmt: skip
    text = capsys.readouterr().out
    for word in ("utterances", "lengths", "longest", "shortest", "fastest", "slowest"):
        assert word in text
    figures = json.loads(out.read_text())
    assert figures["utterances"] == 6 and figures["speakers"] == 2


def test_shards_and_statistics(speech: Path, tmp_path: Path, capsys: Capture) -> None:
    shards = tmp_path / "shards"
    arguments = ["data", "shard", str(speech), str(shards), "--size", "5", "--format", "wav",
                 "--rate", "8000", "--jobs", "2"]  # fmt: skip
    assert main(arguments) == 0
    assert "12 utterances in 3 tars" in capsys.readouterr().out
    assert [c.id for c in read_manifest(shards)] == [c.id for c in read_manifest(speech)]
    assert main(arguments) == 2
    assert "has tars already" in capsys.readouterr().err
    for name in ("c.json", "c.npz"):
        assert main(["data", "cmvn", str(speech), "--out", str(tmp_path / name)]) == 0
    one, other = read_cmvn(tmp_path / "c.json"), read_cmvn(tmp_path / "c.npz")
    assert one.mean.shape == (80,) and one.frames > 1000 and one.frontend["kind"] == "fbank"
    np.testing.assert_array_equal(one.mean, other.mean)


def test_tokenizers(speech: Path, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("sentencepiece")
    for kind, more in (("char", []), ("bpe", ["--size", "60"])):
        out = tmp_path / kind
        arguments = ["data", "tokenizer", str(speech), "--kind", kind, "--case", "lower", *more]
        assert main([*arguments, "--out", str(out)]) == 0
        import tomllib

        values = tomllib.loads((out / "tokenizer.toml").read_text())
        tokenizer = load_tokenizer(out, values)
        assert tokenizer.decode(tokenizer.encode("The garden")) == "the garden"
    assert tokenizer.vocab_size == 60
    assert "60 units" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nothing"], "nothing: no such manifest"),
        (["make", "SPEECH", "out.csv"], "must end in .tsv or .jsonl"),
        (["summary", "SPEECH", "--where", "speeker=slt"], "no column 'speeker'"),
        (["summary", "SPEECH", "--where", "speaker=nobody"], "no utterance can be used"),
        (["check", "SPEECH", "--where", "speaker=nobody"], "no utterance meets the conditions"),
        (["summary", "SPEECH", "--where", "speaker"], "write column=value"),
        (["shard", "SPEECH", "out", "--size", "0"], "must be at least 1"),
        (["shard", "SPEECH", "out", "--rate", "8000"], "--rate needs --format"),
        (["cmvn", "SPEECH", "--out", "x.txt"], "must end in .json or .npz"),
        (["tokenizer", "--out", "x"], "name a manifest"),
    ],
)
def test_wrong_arguments_give_one_line(
    arguments: list[str], message: str, speech: Path, capsys: Capture, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MYNAH_DATA", raising=False)
    assert main(["data", *(str(speech) if a == "SPEECH" else a for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
