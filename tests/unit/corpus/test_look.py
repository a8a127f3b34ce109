"""Checks, summaries, statistics and collected folders against figures made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mynah import audio
from mynah.corpus import cut_from_row, read_manifest, write_tsv
from mynah.corpus.check import check_cuts
from mynah.corpus.collect import collect, with_durations
from mynah.corpus.parallel import ordered_map
from mynah.corpus.statistics import Cmvn, compute_cmvn, read_cmvn, write_cmvn
from mynah.corpus.summary import bars, summarize
from mynah.errors import InputError

RATE = 8000


def test_summary_counts() -> None:
    lengths = [1.0, 2.0, 4.0, 3.0]
    texts = ["a b", "a" * 50, "", "c"]
    cuts = [
        cut_from_row({"id": f"{n}", "path": "x", "speaker": f"s{n % 2}", "duration": d, "text": t})
        for n, (d, t) in enumerate(zip(lengths, texts, strict=True))
    ]
    cuts.append(cut_from_row({"id": "9", "path": "x", "text": "a"}))
    found = summarize(cuts, outliers=2)
    assert (found.cuts, found.seconds, found.words) == (5, 10.0, 5)
    assert (found.without_text, found.without_duration) == (1, 1)
    assert found.speakers == {"s0": 5.0, "s1": 5.0}
    assert found.vocabulary["a"] == 2 and len(found.vocabulary) == 4
    assert [o.id for o in found.longest] == ["2", "3"]
    assert [o.id for o in found.shortest] == ["0", "1"]
    assert [(o.id, o.value) for o in found.fastest] == [("1", 25.0), ("0", 3.0)]
    assert [o.id for o in found.slowest] == ["3", "0"]
    rows = found.histogram(4)
    assert sum(n for _, _, n in rows) == 4
    assert rows[0][0] == 0.0 and rows[-1][1] == 4.0


def test_bars() -> None:
    assert bars([4, 2, 0, 1], 4) == ["████", "██", "", "█"]
    assert bars([], 4) == [] and bars([0], 4) == [""]
    assert bars([16, 1], 2) == ["██", "▏"]


def test_cmvn_is_that_of_all_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blocks = [(1e4 + rng.standard_normal((n, 3)) * [1, 5, 0.1]).astype(np.float32)
              for n in (5, 0, 70, 300)]  # fmt: skip
    found = compute_cmvn(blocks, {"kind": "fbank"})
    whole = np.concatenate(blocks).astype(np.float64)
    np.testing.assert_allclose(found.mean, whole.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.istd, 1 / whole.std(0), rtol=1e-9)
    assert found.frames == 375
    for name in ("a.json", "a.npz"):
        write_cmvn(tmp_path / name, found)
        again = read_cmvn(tmp_path / name)
        np.testing.assert_array_equal(again.mean, found.mean)
        np.testing.assert_array_equal(again.istd, found.istd)
    with pytest.raises(InputError, match="no frame"):
        compute_cmvn([])
    (tmp_path / "bad.json").write_text('{"mean": [1], "istd": [1, 2], "frames": 3}')
    with pytest.raises(InputError, match="no file of feature statistics"):
        read_cmvn(tmp_path / "bad.json")
    assert isinstance(found, Cmvn)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two speakers, one with texts beside, one with a table of transcripts."""
    for place in ("p1", "p2"):
        (tmp_path / place).mkdir()
    tone = 0.3 * np.sin(np.arange(RATE) / 5)
    soundfile.write(tmp_path / "p1" / "a.wav", tone, RATE)
    (tmp_path / "p1" / "a.txt").write_text("hello\nthere\n")
    soundfile.write(tmp_path / "p2" / "b.flac", tone[:4000], RATE)
    (tmp_path / "p2" / "p2.trans.txt").write_text("b GOOD DAY\nc OTHER\n")
    (tmp_path / "p2" / "notes.md").write_text("not a recording")
    (tmp_path / "p2" / "x.wav").write_bytes(b"RIFF")
    return tmp_path


def test_a_folder_is_collected(tree: Path) -> None:
    refused: list[str] = []
    cuts = list(with_durations(collect(tree), audio.read, lambda n, r: refused.append(n), jobs=2))
    assert [(c.id, c.speaker, c.text, c.duration) for c in cuts] == [
        ("p1/a", "p1", "hello there", 1.0), ("p2/b", "p2", "GOOD DAY", 0.5)
    ]  # fmt: skip
    assert refused == ["p2/x"]
    with pytest.raises(InputError, match="no recordings"):
        list(collect(tree / "p2" / "none"))


def test_checks(tree: Path) -> None:
    soundfile.write(tree / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tree / "loud.wav", np.sign(np.sin(np.arange(RATE) / 5)), RATE)
    rows = [
        {"id": "good", "path": "p1/a.wav", "duration": 1.0, "text": "a"},
        {"id": "silent", "path": "silent.wav", "duration": 1.0, "text": "a"},
        {"id": "loud", "path": "loud.wav", "duration": 1.1, "text": ""},
        {"id": "bad", "path": "p2/x.wav", "duration": 1.0, "text": "a"},
        {"id": "liar", "path": "p2/b.flac", "duration": 3.0, "text": "a"},
        {"id": "good", "path": "p1/a.wav", "duration": 1.0, "text": "a"},
    ]
    write_tsv(tree / "manifest.tsv", rows)
    found = list(check_cuts(read_manifest(tree), audio.read, jobs=2))
    assert [c.id for c in found] == [r["id"] for r in rows]
    good, silent, loud, bad, liar, twice = found
    assert not good.error and not good.warnings and good.seconds == 1.0 and good.rate == RATE
    assert silent.warnings == ("is silent",)
    assert loud.warnings == ("is 1.000 s, the manifest says 1.100 s", "is clipped", "has no text")
    assert "x.wav" in bad.error
    assert liar.error == "decodes to 0.50 s, the manifest says 3.00 s"
    assert twice.error == "the id occurs more than once"


def test_ordered_map_keeps_order_and_bounds_what_is_ahead() -> None:
    taken = []

    def numbers() -> object:
        for n in range(100):
            taken.append(n)
            yield n

    results = ordered_map(lambda n: n * n, numbers(), 2)  # type: ignore[arg-type]
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) <= 5 + 8
    results.close()  # type: ignore[attr-defined]
    assert list(ordered_map(str, range(30), 3)) == [str(n) for n in range(30)]
