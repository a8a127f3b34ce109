"""Turns from RTTM, speakers of words, and how every format shows them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.conftest import find_shared

from mynah.errors import InputError
from mynah.runtime.result import Segment, Transcript, Word, make_transcript
from mynah.runtime.speakers import Turn, read_rttm, turns_of, with_speakers
from mynah.runtime.subtitles import Layout
from mynah.runtime.writers import FORMATS, render

GOOD = """\
;; a comment
SPKR-INFO talk 1 <NA> <NA> <NA> unknown SPEAKER_00 <NA> <NA>

SPEAKER talk 1 2.0 1.5 <NA> <NA> SPEAKER_01 <NA> <NA>
SPEAKER talk 1 0.000 2.250 <NA> <NA> SPEAKER_00 <NA>
SPEAKER other 1 0 1 <NA> <NA> 张三 <NA> <NA>
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.rttm"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 0.5, "aligned")


def talk() -> Transcript:
    words = (word("hello", 0.1, 0.5), word("there", 0.6, 1.9), word("yes", 2.1, 2.6),
             word("bye", 3.0, 3.4), word("(noise)", 8.0, 8.1))  # fmt: skip
    segments = [
        Segment("hello there, yes", 0.1, 2.6, 0.5, words[:3]),
        Segment("bye (noise)", 3.0, 8.1, 0.5, words[3:]),
        Segment("later", 9.0, 9.5, None),
    ]
    return make_transcript(segments, language="en", duration=10.0)


TURNS = (Turn(0.0, 2.25, "SPEAKER_00"), Turn(2.0, 3.5, "SPEAKER_01"))


def test_reading(tmp_path: Path) -> None:
    found = read_rttm(write(tmp_path, GOOD))
    assert found["talk"] == TURNS
    assert found["other"] == (Turn(0.0, 1.0, "张三"),)
    assert read_rttm(write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())) == found
    assert read_rttm(write(tmp_path, GOOD.replace("\n", "\r\n"))) == found
    assert read_rttm(write(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "2: begins with 'hello', not SPEAKER"),
        ("SPEAKER talk 1 0 1", "2: 5 fields; a line of RTTM has 10"),
        ("SPEAKER talk 1 0 1 <NA> <NA> a <NA> <NA> more", "2: 11 fields"),
        ("SPEAKER talk 1 -1 1 <NA> <NA> a <NA> <NA>", "2: start is '-1'"),
        ("SPEAKER talk 1 nan 1 <NA> <NA> a <NA> <NA>", "2: start is 'nan'"),
        ("SPEAKER talk 1 1 inf <NA> <NA> a <NA> <NA>", "2: duration is 'inf'"),
        ("SPEAKER talk 1 1e300 1 <NA> <NA> a <NA> <NA>", "2: start is '1e300'"),
        ("SPEAKER talk 1 x 1 <NA> <NA> a <NA> <NA>", "2: start is 'x'"),
        ("SPEAKER talk 1 0 1 <NA> <NA> <NA> <NA> <NA>", "2: the speaker has no name"),
        ("SPEAKER talk 1 0 1 <NA> <NA> a\x1b[31m <NA> <NA>", "2: the name of the speaker is"),
        (f"SPEAKER talk 1 0 1 <NA> <NA> {'a' * 300} <NA> <NA>", "2: the name of the speaker is"),
        (f"SPEAKER talk 1 {'9' * 5000} 1 <NA> <NA> a <NA> <NA>", "2: start is"),
    ],
)
def test_what_is_no_rttm_is_one_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_rttm(write(tmp_path, f";; first\n{line}\n"))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        read_rttm(write(tmp_path, b"SPEAKER \xff\xfe"))
    with pytest.raises(InputError, match="No such file"):
        read_rttm(tmp_path / "none.rttm")


def test_which_recording(tmp_path: Path) -> None:
    rttm = read_rttm(write(tmp_path, GOOD))
    assert turns_of(rttm, "far/away/talk.wav") == TURNS
    with pytest.raises(InputError, match="x.wav: the diarization has no 'x', but 'talk', 'other'"):
        turns_of(rttm, "x.wav", alone=True)
    assert turns_of({"talk": TURNS}, "x.wav", alone=True) == TURNS
    with pytest.raises(InputError):
        turns_of({"talk": TURNS}, "x.wav")
    assert turns_of({}, "x.wav", alone=True) == ()


def test_the_largest_overlap() -> None:
    found = with_speakers(talk(), TURNS)
    assert [w.speaker for w in found.words] == [
        "SPEAKER_00", "SPEAKER_00", "SPEAKER_01", "SPEAKER_01", None
    ]  # fmt: skip
    assert [s.speaker for s in found.segments] == ["SPEAKER_00", "SPEAKER_01", None]
    assert with_speakers(talk(), ()) == talk()
    assert with_speakers(talk(), TURNS, {"SPEAKER_00": "Anna"}).words[0].speaker == "Anna"
    # turns of one speaker add up
    parts = (Turn(0.0, 0.4, "b"), Turn(0.2, 0.55, "a"), Turn(0.6, 1.0, "b"))
    one = make_transcript([Segment("x", 0, 1, None, (word("x", 0, 1),))], language="", duration=1)
    assert with_speakers(one, parts).words[0].speaker == "b"


def test_against_every_turn_one_by_one() -> None:
    rng = random.Random(0)
    for _ in range(200):
        turns = []
        for _ in range(rng.randint(0, 12)):
            start = rng.randint(0, 20)
            turns.append(Turn(start, start + rng.randint(0, 8), rng.choice("abc")))
        start = rng.randint(0, 22)
        end = start + rng.randint(1, 6)
        one = Segment("x", start, end, None, (word("x", start, end),))
        got = with_speakers(make_transcript([one], language=None, duration=30), turns).words[0]
        shares = {name: sum(max(min(t.end, end) - max(t.start, start), 0) for t in turns
                            if t.speaker == name) for name in "abc"}  # fmt: skip
        most = max(shares.values())
        assert (got.speaker is None) == (most == 0)
        assert got.speaker is None or shares[got.speaker] == most


@pytest.mark.parametrize("style", ["mynah", "whisper"])
def test_every_format_names_them(style: str) -> None:
    found = with_speakers(talk(), TURNS)
    for kind in FORMATS:
        one = found if kind != "ctm" else make_transcript(found.segments[:2], language="en",
                                                          duration=10)  # fmt: skip
        for words in (False, True):
            text = render(one, kind, words=words, style=style)  # type: ignore[arg-type]
            assert "SPEAKER_00" in text and "SPEAKER_01" in text, (kind, words)
    lines = render(found, "txt", style=style).splitlines()  # type: ignore[arg-type]
    assert lines == [
        "[SPEAKER_00]: hello there,", "[SPEAKER_01]: yes", "[SPEAKER_01]: bye (noise)", "later"
    ]  # fmt: skip
    blocks = render(found, "srt", style=style).strip().split("\n\n")  # type: ignore[arg-type]
    assert [block.split("\n")[2] for block in blocks] == [
        "[SPEAKER_00]: hello there,", "[SPEAKER_01]: yes", "[SPEAKER_01]: bye",
        "[SPEAKER_01]: (noise)", "later",
    ] if style == "mynah" else lines  # fmt: skip


def test_annotations() -> None:
    found = with_speakers(talk(), TURNS)
    grid = render(found, "textgrid")
    assert 'name = "SPEAKER_00"' in grid and 'name = "SPEAKER_01"' in grid
    rows = render(make_transcript(found.segments[:2], language="en", duration=10), "ctm")
    assert rows.splitlines()[0] == "recording 1 0.100 0.400 hello 0.5000 lex SPEAKER_00"
    assert rows.splitlines()[-1] == "recording 1 8.000 0.100 (noise) 0.5000 lex <NA>"
    assert render(found, "tsv").splitlines()[0] == "start\tend\tconfidence\tspeaker\ttext"
    assert Transcript.from_json(render(found, "json")) == found


def test_highlighting_marks_words_not_names() -> None:
    found = with_speakers(talk(), (Turn(0, 10, "hello"),))
    text = render(found, "srt", layout=Layout(highlight_words=True))
    assert "[hello]: <u>hello</u> there, yes" in text
    assert "<u>hello</u>]" not in text


def test_real_ones() -> None:
    shared = find_shared()
    if shared is None or not (shared / "data" / "libri2mix_32" / "rttm").is_dir():
        pytest.skip("no ../shared/data/libri2mix_32")
    files = sorted((shared / "data" / "libri2mix_32" / "rttm").glob("*.rttm"))
    assert len(files) > 20
    for path in files:
        rttm = read_rttm(path)
        turns = turns_of(rttm, path.with_suffix(".flac").name, alone=True)
        assert len({turn.speaker for turn in turns}) == 2
        words = tuple(word(f"w{n}", n * 0.2, n * 0.2 + 0.2) for n in range(60))
        one = Segment(" ".join(w.text for w in words), 0, 12, None, words)
        found = with_speakers(make_transcript([one], language="en", duration=12), turns)
        for got in found.words:
            shares = [(min(t.end, got.end) - max(t.start, got.start), t.speaker) for t in turns]
            assert got.speaker == (max(shares)[1] if max(shares)[0] > 0 else None) or (
                shares[0][0] == pytest.approx(shares[1][0], abs=1e-6)
            )
