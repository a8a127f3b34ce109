"""Subtitles as asked for, TextGrid and CTM: by hand, and read back by small readers."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import pytest

from mynah.errors import ConfigError, InputError
from mynah.runtime.result import Segment, Source, Transcript, Word, make_transcript
from mynah.runtime.subtitles import Layout, cues
from mynah.runtime.writers import FORMATS, SUFFIXES, render

ALIGNED: Source = "aligned"


def said(*words: tuple[str, float, float], text: str = "", duration: float = 0.0) -> Transcript:
    """One segment of words."""
    timed = tuple(Word(word, start, end, 0.5, ALIGNED) for word, start, end in words)
    segment = Segment(text or " ".join(w for w, _, _ in words), timed[0].start, timed[-1].end, 0.5,
                      timed)  # fmt: skip
    return make_transcript([segment], language="en", duration=duration or timed[-1].end)


BIRDS = said(("The", 0.5, 0.7), ("birds", 0.7, 1.25), ("sing", 1.5, 2.0),
             text="The birds, sing!", duration=2.5)  # fmt: skip


# readers


@dataclass
class Tier:
    name: str
    intervals: list[tuple[float, float, str]]


def read_textgrid(content: str) -> tuple[float, list[Tier]]:
    """The long text format: numbers and quoted strings in order, everything else is for the eye."""
    items = re.findall(r'"((?:[^"]|"")*)"|=\s*(-?[\d.]+)|(<exists>)', content)
    values = iter([flag or n or q.replace('""', '"') for q, n, flag in items])
    assert [next(values), next(values)] == ["ooTextFile", "TextGrid"]
    assert float(next(values)) == 0
    length = float(next(values))
    assert next(values) == "<exists>"
    tiers = []
    for _ in range(int(next(values))):
        assert next(values) == "IntervalTier"
        tier = Tier(next(values), [])
        assert (float(next(values)), float(next(values))) == (0, length)
        for _ in range(int(next(values))):
            tier.intervals.append((float(next(values)), float(next(values)), next(values)))
        tiers.append(tier)
    assert next(values, None) is None
    return length, tiers


def check_textgrid(content: str) -> dict[str, list[tuple[float, float, str]]]:
    """The intervals with a text of each tier, of a file that Praat would take."""
    length, tiers = read_textgrid(content)
    for tier in tiers:
        assert tier.intervals[0][0] == 0
        assert tier.intervals[-1][1] == length
        assert all(start < end for start, end, _ in tier.intervals)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(tier.intervals))
    return {tier.name: [item for item in tier.intervals if item[2]] for tier in tiers}


def read_ctm(content: str) -> list[tuple[str, float, float, str, float | None]]:
    rows = []
    for line in content.splitlines():
        if line.startswith(";;"):
            continue
        name, channel, start, length, word, *rest = line.split(" ")
        assert channel == "1"
        assert len(rest) <= 1
        rows.append((name, float(start), float(length), word, float(rest[0]) if rest else None))
    return rows


def read_srt(content: str) -> list[tuple[str, list[str]]]:
    blocks = content.split("\n\n") if content else []
    found = []
    for number, block in enumerate(blocks, start=1):
        first, times, *lines = block.strip("\n").split("\n")
        assert first == str(number)
        assert re.fullmatch(r"\d\d+:\d\d:\d\d,\d{3} --> \d\d+:\d\d:\d\d,\d{3}", times)
        start, end = times.split(" --> ")
        assert start < end
        assert lines
        assert not any("-->" in line for line in lines)
        found.append((times, lines))
    return found


# by hand


def test_textgrid_by_hand() -> None:
    one = said(("hi", 0.25, 0.5), text='"hi"', duration=0.75)
    assert (
        render(one, "textgrid")
        == '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.75
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "segments"
        xmin = 0
        xmax = 0.75
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = """hi"""
        intervals [3]:
            xmin = 0.5
            xmax = 0.75
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.75
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "hi"
        intervals [3]:
            xmin = 0.5
            xmax = 0.75
            text = ""
'''
    )


def test_textgrid_is_read_back() -> None:
    tiers = check_textgrid(render(BIRDS, "textgrid"))
    assert tiers["segments"] == [(0.5, 2.0, "The birds, sing!")]
    assert tiers["words"] == [(0.5, 0.7, "The"), (0.7, 1.25, "birds"), (1.5, 2.0, "sing")]
    assert "chars" not in tiers


def test_characters_are_a_tier() -> None:
    word = Word("hi", 0.0, 0.5, 0.5, ALIGNED, ((0.0, 0.2), (0.2, 0.5)))
    one = make_transcript([Segment("hi", 0.0, 0.5, 0.5, (word,))], language="en", duration=1)
    tiers = check_textgrid(render(one, "textgrid"))
    assert tiers["chars"] == [(0.0, 0.2, "h"), (0.2, 0.5, "i")]
    assert Transcript.from_json(render(one, "json")) == one


def test_ctm_by_hand() -> None:
    assert render(BIRDS, "ctm", recording="garden 1") == (
        "garden_1 1 0.500 0.200 The 0.5000\n"
        "garden_1 1 0.700 0.550 birds 0.5000\n"
        "garden_1 1 1.500 0.500 sing 0.5000\n"
    )
    assert read_ctm(render(BIRDS, "ctm", recording=";; x"))[0] == ("_x", 0.5, 0.2, "The", 0.5)


def test_ctm_needs_words() -> None:
    silent = make_transcript([], language="en", duration=1)
    assert render(silent, "ctm") == ""
    with pytest.raises(InputError, match="ctm: the transcript has no times of words"):
        render(make_transcript([Segment("a", 0, 1, None)], language="en", duration=1), "ctm")


def test_nothing_said() -> None:
    silent = make_transcript([], language="en", duration=0.0)
    assert check_textgrid(render(silent, "textgrid")) == {"segments": [], "words": []}


def test_highlighted_by_hand() -> None:
    layout = Layout(highlight_words=True)
    assert render(BIRDS, "srt", layout=layout) == (
        "1\n00:00:00,500 --> 00:00:00,700\n<u>The</u> birds, sing!\n\n"
        "2\n00:00:00,700 --> 00:00:01,250\nThe <u>birds</u>, sing!\n\n"
        "3\n00:00:01,250 --> 00:00:01,500\nThe birds, sing!\n\n"
        "4\n00:00:01,500 --> 00:00:02,000\nThe birds, <u>sing</u>!\n"
    )
    assert "<u>birds</u>, sing!" in render(BIRDS, "vtt", layout=layout)


def test_highlighting_goes_on_over_lines() -> None:
    one = said(("abcdef", 0.0, 1.0))
    found = list(cues(one, Layout(max_line_width=4, highlight_words=True)))
    assert [(cue.lines, cue.marks) for cue in found] == [(("abcd", "ef"), ((0, 4), (0, 2)))]


# limits


NUMBERS = said(*((f"word{n}", n * 0.3, n * 0.3 + 0.3) for n in range(20)))


@pytest.mark.parametrize(("width", "count"), [(6, 1), (12, 1), (20, 3), (5, 2), (200, 1)])
def test_width_and_count(width: int, count: int) -> None:
    layout = Layout(max_line_width=width, max_line_count=count, max_words_per_line=1)
    found = list(cues(NUMBERS, layout))
    assert all(len(line) <= width for cue in found for line in cue.lines)
    # a word that alone is wider than the lines together still stands together
    assert all(len(cue.lines) <= max(count, 2 if width < 6 else 1) for cue in found)
    joint = "" if width < 6 else " "
    assert joint.join(line for cue in found for line in cue.lines) == (
        NUMBERS.text if joint else NUMBERS.text.replace(" ", "")
    )


def test_words_at_once() -> None:
    found = list(cues(NUMBERS, Layout(max_words_per_line=3)))
    assert [len(cue.lines) for cue in found] == [1] * 7
    assert [len(cue.lines[0].split()) for cue in found] == [3, 3, 3, 3, 3, 3, 2]
    both = list(cues(NUMBERS, Layout(max_words_per_line=3, max_line_width=42)))
    assert both == list(cues(NUMBERS, Layout()))


@pytest.mark.parametrize("name", ["max_line_width", "max_line_count", "max_words_per_line"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: 0 is not above 0"):
        Layout(**{name: 0})


# hostile


HOSTILE = said(
    ("a\tb", 0.1, 0.1),
    ('q"uo"te', 0.1, 0.05),
    ("---->", 0.05, 0.3),
    ("<b>&", 0.2, 0.4),
    ("line\n\nbreak\u2028x\x85y\r", 0.4, 0.4),
    ("nul\x00\x1b[31m", 0.4, 0.4),
    ("\ud800", 0.4, 0.4),
    (" ", 0.5, 0.6),
    ("", 0.6, 0.6),
    ("WEBVTT", 0.6, 0.6),
    (";;", 9.9, 12.0),
    duration=1.0,
)


@pytest.mark.parametrize("highlight", [False, True])
@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"json"}))
def test_hostile_text_stays_text(kind: str, highlight: bool) -> None:
    content = render(HOSTILE, kind, words=True, layout=Layout(highlight_words=highlight))
    content.encode()
    assert not re.search(r"[\x00\x1b\r\x85\u2028]", content)
    if kind == "textgrid":
        words = [text for _, _, text in check_textgrid(content)["words"]]
        assert words[:4] == ["a b", 'q"uo"te', "---->", "<b>&"]
    elif kind == "ctm":
        words = [row[3] for row in read_ctm(content)]
        assert sorted(words) == sorted(
            ["a_b", 'q"uo"te', "---->", "<b>&", "line_break_x_y", "nul[31m", "WEBVTT", ";;"]
        )
    elif kind == "srt":
        shown = read_srt(content)
        ends = [times.split(" --> ") for times, _ in shown]
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))
    elif kind == "vtt":
        blocks = content.split("\n\n")
        assert blocks[0] == "WEBVTT"
        for block in blocks[1:]:
            times, *lines = block.strip("\n").split("\n")
            assert " --> " in times
            text = re.sub(r"</?u>|&(amp|lt|gt);", "", "".join(lines))
            assert lines
            assert not re.search("[<>&]", text)
    elif kind == "tsv":
        assert all(row.count("\t") == 3 for row in content.splitlines())


def test_every_format_has_a_suffix() -> None:
    assert set(SUFFIXES) == set(FORMATS)
