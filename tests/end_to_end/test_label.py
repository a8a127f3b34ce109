"""``mynah data label``: a manifest whose texts are what a model hears."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mynah.cli import main
from mynah.corpus import read_manifest
from mynah.text import normalize_for_scoring

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    shutil.copyfile(EXAMPLES / "mynah_bird.flac", tmp_path / "bird.flac")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(32_000, np.float32), 16_000)
    path = tmp_path / "in.tsv"
    path.write_text("id\tpath\tplace\nbird\tbird.flac\thill\nnothing\tnothing.wav\thill\n")
    return path


def test_what_is_heard_becomes_the_text(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = manifest.with_name("out.tsv")
    assert main(["data", "label", str(manifest), "--out", str(out), "--min-rate", "0.5"]) == 0
    assert "1 of 2 utterances" in capsys.readouterr().out
    (cut,) = read_manifest(str(out))
    assert cut.id == "bird" and cut.columns["place"] == "hill"
    assert Path(cut.recording.source).name == "bird.flac"
    assert main(["transcribe", "--quiet", str(manifest.with_name("bird.flac"))]) == 0
    assert cut.text == capsys.readouterr().out.strip()
    assert 0 < float(cut.columns["confidence"]) <= 1
    assert cut.text == normalize_for_scoring(cut.text)


def test_a_stopped_run_goes_on(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = manifest.with_name("out.tsv")
    kept = out.with_name(".out.tsv.part.jsonl")
    arguments = ["data", "label", str(manifest), "--out", str(out), "--min-rate", "0.5"]
    (manifest.with_name("nothing.wav")).write_bytes(b"no sound")
    assert main(arguments) == 1  # one recording cannot be read
    assert "nothing" in capsys.readouterr().err
    assert not kept.exists()
    from mynah.cli import data_label
    from mynah.runtime.recognizer import load

    recognizer = load()
    parsed = _parsed(arguments)
    facts = data_label._facts(parsed, recognizer)
    assert data_label._facts(_parsed([*arguments, "--script", "taiwan"]), recognizer) != facts
    entry = {"id": "bird", "text": "kept text", "confidence": 0.5, "rate": 2.0, "seconds": 1.0}
    kept.write_text(facts + "\n" + json.dumps(entry) + "\n" + '{"id": "cut o')
    assert main(arguments) == 1
    assert [cut.text for cut in read_manifest(str(out))] == ["kept text"]
    # what is kept behind a line that was cut off is a line of its own
    kept.write_text(facts + "\n" + json.dumps(entry) + "\n" + '{"id": "cut o')
    with data_label._Kept(out, facts) as labels:
        labels.put("next", {"text": "x"})
    with data_label._Kept(out, facts) as labels:
        assert labels.get("next") == {"text": "x"}
    kept.write_text("other facts\n" + json.dumps(entry) + "\n")
    assert main(arguments) == 1
    assert [cut.text for cut in read_manifest(str(out))] != ["kept text"]


def test_wrong_input_gives_one_line(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "label", str(manifest), "--out", "x.txt"]) == 2
    assert capsys.readouterr().err.strip().endswith("must end in .tsv")
    missing = manifest.with_name("missing.tsv")
    out = str(manifest.with_name("out.tsv"))
    assert main(["data", "label", str(missing), "--out", out]) == 2
    strict = ["--min-confidence", "1.1", "--min-rate", "0"]
    assert main(["data", "label", str(manifest), "--out", out, *strict]) == 2


def _parsed(arguments: list[str]):  # type: ignore[no-untyped-def]
    import argparse

    from mynah.cli.data_label import add_label_arguments

    parser = argparse.ArgumentParser()
    add_label_arguments(parser)
    parsed = parser.parse_args(arguments[2:])
    parsed.debug = False
    return parsed
