"""Subtitles, tables and text from a transcript."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from mynah.errors import ConfigError, InputError
from mynah.runtime import writers
from mynah.runtime.result import Segment, Transcript, Word, make_transcript
from mynah.runtime.subtitles import LINE_WIDTH, clock, cues


def transcript(*texts: str, step: float = 0.4, gap: float = 0.0, joint: str = " ") -> Transcript:
    """One segment a text, words one after another."""
    segments, at = [], 0.0
    for text in texts:
        words = []
        for piece in text.split(" ") if joint else text:
            words.append(Word(piece, at, at + step, 0.5, "aligned"))
            at += step
        segments.append(Segment(text, words[0].start, at, 0.5, tuple(words)))
        at += gap
    return make_transcript(segments, language="en", duration=at)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "00:00:00.000"),
        (0.9996, "00:00:01.000"),
        (59.9995, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (360001.5, "100:00:01.500"),
    ],
)
def test_clock_carries(seconds: float, shown: str) -> None:
    assert clock(round(seconds * 1000)) == shown


def test_srt() -> None:
    text = writers.render(transcript("hello there", gap=2.0), "srt")
    assert text == "1\n00:00:00,000 --> 00:00:00,800\nhello there\n"


def test_srt_holds_no_arrow() -> None:
    lines = writers.render(transcript("a --> b"), "srt").splitlines()
    assert sum("-->" in line for line in lines) == 1


def test_vtt_escapes() -> None:
    text = writers.render(transcript("<b> & --> x"), "vtt")
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert text.endswith("\n&lt;b&gt; &amp; --&gt; x\n")


def test_cues_are_short_ordered_and_complete() -> None:
    spoken = " ".join(f"word{number}" for number in range(200))
    said = transcript(spoken, spoken)
    found = list(cues(said))
    for cue, following in zip(found, [*found[1:], None], strict=True):
        assert len(cue.lines) <= 2
        assert all(len(line) <= LINE_WIDTH for line in cue.lines)
        assert 0 < cue.end - cue.start <= 6000
        assert following is None or cue.end <= following.start
    assert " ".join(line for cue in found for line in cue.lines) == said.text


def test_a_silence_starts_a_cue() -> None:
    words = (Word("one", 0.0, 0.5, None, "aligned"), Word("two", 3.0, 3.5, None, "aligned"))
    said = make_transcript([Segment("one, two.", 0.0, 3.5, None, words)], language="en", duration=4)
    assert [cue.lines for cue in cues(said)] == [("one,",), ("two.",)]


def test_overlapping_and_empty_times_become_a_row_of_cues() -> None:
    words = [Word(f"w{n}" * 20, 1.0, 1.0, None, "interpolated") for n in range(3)]
    text = " ".join(word.text for word in words)
    said = make_transcript([Segment(text, 1.0, 1.0, None, tuple(words))], language=None, duration=2)
    found = list(cues(said))
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert all(cue.end > cue.start for cue in found)


def test_script_without_spaces() -> None:
    text = "语音识别工具" * 20
    said = transcript(text, joint="")
    found = list(cues(said))
    assert "".join(line for cue in found for line in cue.lines) == text
    assert all(len(line) <= LINE_WIDTH for cue in found for line in cue.lines)


def test_tsv_has_one_line_a_row() -> None:
    said = make_transcript(
        [Segment("a\tb\nc", 0.0, 1.23456, None)], language="en", duration=2.0
    )  # fmt: skip
    assert writers.render(said, "tsv") == (
        "start\tend\tconfidence\ttext\n0.000\t1.235\t\ta b c\n"
    )  # fmt: skip
    rows = writers.render(transcript("one two"), "tsv", words=True).splitlines()
    assert rows[1:] == ["0.000\t0.400\t0.500\tone", "0.400\t0.800\t0.500\ttwo"]


def test_txt() -> None:
    said = transcript("one two", "three")
    assert writers.render(said, "txt") == "one two\nthree\n"
    lines = writers.render(said, "txt", words=True).splitlines()
    assert next(line.split() for line in lines) == ["0.00", "0.40", "0.50", "one"]


def test_nothing_said() -> None:
    nothing = make_transcript([], language="en", duration=1.0)
    assert writers.render(nothing, "txt") == writers.render(nothing, "srt") == ""
    assert writers.render(nothing, "vtt") == "WEBVTT\n"
    assert Transcript.from_json(writers.render(nothing, "json")) == nothing


def test_unknown_format() -> None:
    with pytest.raises(ConfigError, match="'str' \\(did you mean 'srt'"):
        writers.render(transcript("a"), "str")


def test_files_are_utf8_with_one_kind_of_line_break(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    writers.save(transcript("grüße"), target, "txt")
    assert target.read_bytes() == "grüße\n".encode()
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match=r"a\.txt: cannot be written \(No space left"):
        writers.save(transcript("x"), target, "txt")
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_directory_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "file" / "a.txt"))):
        writers.save(transcript("x"), tmp_path / "file" / "a.txt", "txt")
