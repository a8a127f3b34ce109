"""Manifests of every kind say the same of the same recordings."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mynah import audio
from mynah.corpus import (
    Cut,
    LineManifest,
    cut_from_row,
    load,
    locate,
    open_manifest,
    read_manifest,
    row_from_cut,
    write_jsonl,
    write_tsv,
)
from mynah.corpus.select import Conditions
from mynah.errors import ConfigError, InputError

RATE = 8000
TEXTS = {"a": "one two", "b": "three", "c": "四 五"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings of 0.5, 0.75 and 1 s."""
    (tmp_path / "audio").mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(TEXTS):
        samples = 0.1 * rng.standard_normal(RATE // 2 + number * RATE // 4)
        soundfile.write(tmp_path / "audio" / f"{name}.wav", samples, RATE)
    return tmp_path


def seconds(number: int) -> float:
    return 0.5 + 0.25 * number


def check_same(cuts: list[Cut], folder: Path, *, lengths: bool = True) -> None:
    assert [c.id for c in cuts] == list(TEXTS)
    assert [c.text for c in cuts] == list(TEXTS.values())
    assert [c.speaker for c in cuts] == ["s1", "s1", "s2"]
    if lengths:
        assert [c.duration for c in cuts] == [0.5, 0.75, 1.0]
    for cut in cuts:
        expected, _ = soundfile.read(folder / "audio" / f"{cut.id}.wav", dtype="float32")
        np.testing.assert_array_equal(load(cut, audio.read, rate=RATE), expected)


def rows() -> list[dict[str, object]]:
    return [
        {"id": name, "path": f"audio/{name}.wav", "speaker": "s1" if number < 2 else "s2",
         "duration": seconds(number), "text": text, "age": 7 * number + 5}
        for number, (name, text) in enumerate(TEXTS.items())
    ]  # fmt: skip


def test_tsv(folder: Path) -> None:
    write_tsv(folder / "manifest.tsv", rows())
    check_same(list(read_manifest(folder)), folder)
    check_same(list(read_manifest(folder / "manifest.tsv")), folder)
    check_same(list(read_manifest("manifest.tsv", root=str(folder))), folder)


def test_jsonl_packed_or_not(folder: Path) -> None:
    write_jsonl(folder / "m.jsonl", rows())
    check_same(list(read_manifest(folder / "m.jsonl")), folder)
    (folder / "p.jsonl.gz").write_bytes(gzip.compress((folder / "m.jsonl").read_bytes()))
    check_same(list(read_manifest(folder / "p.jsonl.gz")), folder)


def test_wenet_raw_list(folder: Path) -> None:
    lines = [
        json.dumps({"key": k, "wav": str(folder / f"audio/{k}.wav"), "txt": t, "spk": s},
                   ensure_ascii=False)
        for (k, t), s in zip(TEXTS.items(), ("s1", "s1", "s2"), strict=True)
    ]  # fmt: skip
    (folder / "data.list").write_text("\n".join(lines) + "\n", "utf-8")
    check_same(list(read_manifest(folder / "data.list")), folder, lengths=False)


def test_a_position_finds_its_line(folder: Path) -> None:
    write_tsv(folder / "manifest.tsv", rows())
    manifest = open_manifest(folder)
    assert isinstance(manifest, LineManifest)
    copy = pickle.loads(pickle.dumps(manifest))
    for position, cut in list(manifest.scan())[::-1]:
        assert manifest.at(position) == copy.at(position) == cut


def test_converted_manifests_outlive_neither_their_user_nor_the_run(folder: Path) -> None:
    (folder / "wav.scp").write_text("".join(f"{k} audio/{k}.wav\n" for k in TEXTS))
    manifest = open_manifest(folder)
    assert isinstance(manifest, LineManifest)
    spool = Path(manifest.files[0].path)
    copy = pickle.loads(pickle.dumps(manifest))
    del copy
    assert spool.exists()
    del manifest
    assert not spool.exists()


def test_kaldi_directory(folder: Path) -> None:
    (folder / "wav.scp").write_text("".join(f"{k} audio/{k}.wav\n" for k in TEXTS))
    (folder / "text").write_text("".join(f"{k} {t}\n" for k, t in TEXTS.items()), "utf-8")
    (folder / "utt2spk").write_text("a s1\nb s1\nc s2\n")
    (folder / "utt2dur").write_text("a 0.5\nb 0.75\nc 1.0\n")
    check_same(list(read_manifest(folder)), folder)


def test_kaldi_segments(folder: Path) -> None:
    (folder / "wav.scp").write_text("rec audio/c.wav\n")
    (folder / "segments").write_text("rec-1 rec 0.25 0.75\nrec-2 rec 0.5 -1\n")
    (folder / "text").write_text("rec-1 x\nrec-2 y\n")
    first, second = read_manifest(folder)
    whole, _ = soundfile.read(folder / "audio" / "c.wav", dtype="float32")
    assert (first.text, first.start, first.duration) == ("x", 0.25, 0.5)
    np.testing.assert_array_equal(load(first, audio.read), whole[RATE // 4 : 3 * RATE // 4])
    np.testing.assert_array_equal(load(second, audio.read), whole[RATE // 2 :])


def test_commands_are_refused_and_never_run(folder: Path) -> None:
    target = folder / "made-by-a-command"
    (folder / "wav.scp").write_text(f"x touch {target} |\na audio/a.wav\n")
    with pytest.raises(InputError, match=r"wav.scp:1: 'touch .* \|' is a command"):
        list(read_manifest(folder))
    refused: list[tuple[str, str]] = []
    cuts = list(read_manifest(folder, on_error=lambda n, r: refused.append((n, r))))
    assert [c.id for c in cuts] == ["a"]
    assert len(refused) == 1 and "is a command" in refused[0][1]
    with pytest.raises(InputError, match="is a command"):
        cut_from_row({"path": f"touch {target} |"})
    assert not target.exists()


@pytest.mark.parametrize("name", ["cuts.jsonl.gz", "cuts.jsonl"])
def test_lhotse_cuts(folder: Path, name: str) -> None:
    lhotse = pytest.importorskip("lhotse")
    cuts = []
    for number, (key, text) in enumerate(TEXTS.items()):
        recording = lhotse.Recording.from_file(folder / f"audio/{key}.wav")
        supervision = lhotse.SupervisionSegment(
            key, key, 0.0, recording.duration, text=text, speaker="s1" if number < 2 else "s2",
            language="xx", custom={"age": number},
        )  # fmt: skip
        cuts.append(lhotse.MonoCut(key, 0, recording.duration, 0, [supervision],
                                   recording=recording))  # fmt: skip
    lhotse.CutSet.from_cuts(cuts).to_file(folder / name)
    found = list(read_manifest(folder / name))
    check_same(found, folder)
    assert found[2].value("age") == "2" and found[2].language == "xx"
    part = cuts[2].truncate(offset=0.25, duration=0.5)
    lhotse.CutSet.from_cuts([part]).to_file(folder / "part.jsonl")
    samples = load(next(read_manifest(folder / "part.jsonl")), audio.read, rate=RATE)
    np.testing.assert_allclose(samples, part.load_audio()[0], atol=1e-7)


def test_lhotse_recordings_and_supervisions(folder: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    recordings = [lhotse.Recording.from_file(folder / f"audio/{k}.wav") for k in TEXTS]
    supervisions = [
        lhotse.SupervisionSegment(r.id, r.id, 0.0, r.duration, text=TEXTS[r.id],
                                  speaker="s2" if r.id == "c" else "s1")
        for r in recordings
    ]  # fmt: skip
    (folder / "l").mkdir()
    lhotse.RecordingSet.from_recordings(recordings).to_file(folder / "l/recordings.jsonl.gz")
    lhotse.SupervisionSet.from_segments(supervisions).to_file(folder / "l/supervisions.jsonl.gz")
    check_same(list(read_manifest(folder / "l")), folder)
    check_same(list(read_manifest(folder / "l" / "supervisions.jsonl.gz")), folder)


def test_lhotse_shar(folder: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    recordings = [lhotse.Recording.from_file(folder / f"audio/{k}.wav") for k in TEXTS]
    cuts = [
        lhotse.MonoCut(r.id, 0.0, r.duration, 0, [
            lhotse.SupervisionSegment(r.id, r.id, 0.0, r.duration, text=TEXTS[r.id],
                                      speaker="s2" if r.id == "c" else "s1")], recording=r)
        for r in recordings
    ]  # fmt: skip
    (folder / "shar").mkdir()
    whole = lhotse.CutSet.from_cuts(cuts)
    whole.to_shar(str(folder / "shar"), fields={"recording": "wav"}, shard_size=2)
    check_same(list(read_manifest(folder / "shar")), folder)
    part = cuts[2].truncate(offset=0.25, duration=0.5)
    (folder / "part").mkdir()
    lhotse.CutSet.from_cuts([part]).to_shar(str(folder / "part"), fields={"recording": "wav"})
    (found,) = read_manifest(folder / "part")
    assert found.text == part.supervisions[0].text
    np.testing.assert_allclose(load(found, audio.read), part.load_audio()[0], atol=1e-4)


def test_lhotse_what_cannot_be_read_is_refused(folder: Path) -> None:
    source = {"type": "command", "channels": [0], "source": "rm -rf x"}
    recording = {"id": "r", "sampling_rate": 8000, "duration": 1.0, "sources": [source]}
    lines = [
        {"id": "m", "type": "MixedCut", "tracks": [], "recording": {}},
        {"id": "c", "type": "MonoCut", "start": 0, "duration": 1, "recording": recording},
        {"id": "n", "type": "MonoCut", "start": 0, "duration": 1, "recording": {"id": "r"}},
    ]
    (folder / "cuts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    refused: list[str] = []
    assert not list(read_manifest(folder / "cuts.jsonl", on_error=lambda _, r: refused.append(r)))
    assert "not a stretch of one recording" in refused[0]
    assert "is a command" in refused[1]
    assert "has no 'sources'" in refused[2]


@pytest.mark.parametrize(
    ("where", "exclude", "expected"),
    [
        ({"speaker": "s1"}, {}, "ab"),
        ({"id": ["a", "c"]}, {}, "ac"),
        ({"age": ">=12"}, {}, "bc"),
        ({"age": "<12"}, {}, "a"),
        ({"age": 12}, {}, "b"),
        ({}, {"speaker": "s1"}, "c"),
        ({"age": ">=12"}, {"id": "b"}, "c"),
        ([("age", ">=12"), ("age", "<13")], {}, "b"),  # a column twice: all are to hold
        ([], [("id", "a"), ("id", "c")], "b"),  # and here none
    ],
)
def test_conditions(folder: Path, where: Conditions, exclude: Conditions, expected: str) -> None:
    write_tsv(folder / "manifest.tsv", rows())
    found = read_manifest(folder, where=where, exclude=exclude)
    assert "".join(c.id for c in found) == expected


def test_wrong_conditions(folder: Path) -> None:
    write_tsv(folder / "manifest.tsv", rows())
    with pytest.raises(InputError, match="no column 'speeker' .*'speaker'"):
        list(read_manifest(folder, where={"speeker": "s1"}))
    with pytest.raises(ConfigError, match="age: cannot compare with 'old'"):
        list(read_manifest(folder, where={"age": ">old"}))


def test_rows_round_trip(folder: Path) -> None:
    write_tsv(folder / "manifest.tsv", rows())
    for cut in read_manifest(folder):
        assert cut_from_row(row_from_cut(cut, str(folder)), str(folder)) == cut
    several = {"id": "m", "path": "x.wav", "supervisions": [
        {"text": "a", "speaker": "p", "start": 0.5, "duration": 1.0}, {"text": "b"}]}  # fmt: skip
    cut = cut_from_row(several)
    assert cut.text == "a b" and cut_from_row(row_from_cut(cut)) == cut


def test_texts_keep_to_their_line(folder: Path) -> None:
    write_tsv(folder / "x.tsv", [{"id": "a", "path": "audio/a.wav", "text": "one\ttwo\nthree"}])
    assert [c.text for c in read_manifest(folder / "x.tsv")] == ["one two three"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.tsv", b"id\ttext\na\tb\n", "names no column 'path'"),
        ("m.tsv", b"id\tpath\na\tb\tc\n", "m.tsv:2: has 3 columns, the header 2"),
        ("m.tsv", b"id\tpath\nq\t\n", "m.tsv:2: has no path"),
        ("m.tsv", b"id\tpath\tduration\nq\tx.wav\tlong\n", "duration is 'long', not a number"),
        ("m.tsv", b"id\tpath\tduration\nq\tx.wav\tnan\n", "duration is 'nan', not a number"),
        ("m.tsv", b"id\tpath\tduration\nq\tx.wav\t-1\n", "has a negative time"),
        ("m.tsv", b"\xff\xfe\x00", "not UTF-8"),
        ("m.jsonl", b"{", "is not JSON"),
        ("m.jsonl", b'{"path": "x.wav"}\n[1]\n', "m.jsonl:2: is not a JSON object"),
        ("m.jsonl", b"\xff", "not text in UTF-8"),
        ("m.list", b"hello\n", "neither a list of JSON objects nor a list of tars"),
        ("m.docx", b"hello\n", "not a manifest that mynah knows"),
    ],
)
def test_malformed_manifests(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_manifest(folder / name))


def test_missing_sets_give_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYNAH_DATA", str(folder))
    monkeypatch.chdir(folder)
    (folder / "here.tsv").write_text("id\tpath\n")
    with pytest.raises(InputError, match=r"'here.tsv' is not under .*; the one here is --root \.,"):
        locate("here.tsv", str(folder / "nothing"))
    with pytest.raises(InputError, match="the set 'librispeech' is not under .*MYNAH_DATA"):
        read_manifest("librispeech")
    monkeypatch.delenv("MYNAH_DATA")
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(str(folder / "librispeech"))
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no manifest in this folder"):
        read_manifest(folder / "empty")
    with pytest.raises(ConfigError, match="format 'tvs' is none of .*'tsv'"):
        open_manifest(folder, format="tvs")  # type: ignore[arg-type]


def test_what_cannot_be_decoded_says_why(folder: Path) -> None:
    soundfile.write(folder / "nan.wav", np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    (folder / "text.wav").write_text("no recording")
    for name, message in (("nan.wav", "not numbers|not finite|NaN"), ("text.wav", "text.wav"),
                          ("missing.wav", "no such file")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load(cut_from_row({"path": str(folder / name)}), audio.read)
    late = cut_from_row({"path": str(folder / "audio/a.wav"), "start": 5.0, "duration": 1.0})
    with pytest.raises(InputError, match=r"starts at 5 s, the recording has 0.5 s"):
        load(late, audio.read)
