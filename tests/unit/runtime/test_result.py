"""Transcripts and their JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mynah.errors import InputError
from mynah.runtime.result import (
    Decoded,
    Segment,
    Suspicion,
    Transcript,
    Word,
    join_texts,
    make_transcript,
)

WORDS = (
    Word("hello", 0.12, 0.5, 0.9, "aligned"),
    Word("wörld", 0.5, 1.0, None, "interpolated"),
)
TRANSCRIPT = make_transcript(
    [Segment("hello wörld", 0.12, 1.0, 0.8, WORDS), Segment("", 1.0, 2.0, None)],
    language="en",
    duration=2.5,
    model="mynah-en",
)


def test_round_trip() -> None:
    assert Transcript.from_json(TRANSCRIPT.to_json()) == TRANSCRIPT
    assert Transcript.from_json(TRANSCRIPT.to_json(indent=None).encode()) == TRANSCRIPT


def test_segments_without_text_are_left_out() -> None:
    assert len(TRANSCRIPT.segments) == 1
    assert TRANSCRIPT.words == WORDS


def test_nothing_heard() -> None:
    nothing = make_transcript([], language=None, duration=3.0)
    assert (nothing.text, nothing.status, nothing.words) == ("", "no_speech", ())
    assert Transcript.from_json(nothing.to_json()) == nothing


def test_unicode_is_kept_readable() -> None:
    assert "wörld" in TRANSCRIPT.to_json()


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("version",), 4, "version 4"),
        (("format",), "other", "'other'"),
        (("txt",), "", "unknown key 'txt' (did you mean 'text'?)"),
        (("status",), "maybe", "status is 'maybe'"),
        (("duration",), "2.5", "duration is not a number"),
        (("duration",), float("nan"), "duration is not a number"),
        (("duration",), -1, "duration is negative"),
        (("language",), 3, "language is neither"),
        (("segments",), {}, "segments is not a list"),
        (("segments", 0, "end"), 0.01, "segments[0] ends before it starts"),
        (("segments", 0, "words", 1, "source"), "guessed", "segments[0].words[1].source"),
        (("segments", 0, "words", 0, "confidence"), 1.2, "not between 0 and 1"),
        (("segments", 0, "words", 0, "speaker"), "x", "unknown key 'speaker'"),
        (("segments", 0, "words", 0), "hello", "segments[0].words[0]: not a JSON object"),
    ],
)
def test_strict(path: tuple[Any, ...], value: Any, line: str) -> None:
    values = TRANSCRIPT.to_dict()
    inner: Any = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InputError) as error:
        Transcript.from_json(json.dumps(values))
    assert line in str(error.value)


def test_missing_key() -> None:
    values = TRANSCRIPT.to_dict()
    del values["segments"][0]["words"][0]["start"]
    with pytest.raises(InputError, match=r"segments\[0\].words\[0\]: 'start' is missing"):
        Transcript.from_dict(values)


@pytest.mark.parametrize("change", [{"version": 2.0}, {"version": True}, {"text": "\ud800"}])
def test_what_a_transcript_cannot_hold(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Transcript.from_dict({**TRANSCRIPT.to_dict(), **change})
    nothing: Any = None
    with pytest.raises(InputError, match="not a table"):
        Transcript.from_dict(nothing)


@pytest.mark.parametrize("text", ["", "[]", "{", "3", "\ud800", "[" * 100_000])
def test_not_a_transcript(text: str) -> None:
    with pytest.raises(InputError):
        Transcript.from_json(text)


def test_join() -> None:
    assert join_texts(["good", "", "morning"]) == "good morning"
    assert join_texts(["你好", "世界"]) == "你好世界"
    assert join_texts(["你好", "world"]) == "你好 world"
    assert join_texts(["我", "今年", "25岁", "了", "有", "20%", "的"]) == "我今年25岁了有20%的"
    assert join_texts(["iPhone", "15", "很", "贵"]) == "iPhone 15很贵"


def test_the_documented_example(repository: Path) -> None:
    text = (repository / "docs" / "transcript.md").read_text("utf-8")
    example = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert example is not None
    found = Transcript.from_json(example[1])
    assert Transcript.from_json(found.to_json()) == found
    for key in (*found.to_dict(), *found.to_dict()["segments"][0], "source"):
        assert f"`{key}`" in text


def test_times_of_characters_are_version_2() -> None:
    word = Word("hi", 0.0, 0.5, None, "aligned", ((0.0, 0.2), (0.2, 0.5)))
    other = Word("you", 0.5, 0.9, None, "aligned")
    said = make_transcript(
        [Segment("hi you", 0.0, 0.9, None, (word, other))], language="en", duration=1
    )
    values = said.to_dict()
    assert values["version"] == 2
    assert values["segments"][0]["words"][0]["chars"] == [[0.0, 0.2], [0.2, 0.5]]
    assert Transcript.from_dict(values) == said
    for chars, message in (
        ([[0, 1]], "1 times for 2 characters"),
        ([[0, 1], [1]], "is not a start and an end"),
        ([[0, 1], [1, 0]], "ends before it starts"),
        ("ab", "is not a list"),
    ):
        values["segments"][0]["words"][0]["chars"] = chars
        with pytest.raises(InputError, match=message):
            Transcript.from_dict(values)
    values["segments"][0]["words"][0]["chars"] = [[0, 1], [1, 2]]
    values["version"] = 1  # which knew nothing of them
    with pytest.raises(InputError, match="unknown key 'chars'"):
        Transcript.from_dict(values)


WHISPERED = make_transcript(
    [
        Segment(
            "hello",
            0.0,
            1.0,
            0.5,
            (Word("hello", 0.0, 1.0, 0.4, "attention", speaker="A"),),
            language="en",
            speaker="A",
            decoded=Decoded(0.2, -0.5, 1.25, 0.01),
        )
    ],
    language="en",
    duration=2.0,
    suspected=[Suspicion("thanks for watching", 1.0, 2.0, "silence_phrase", True)],
    notes=["short_context"],
)


def test_version_3() -> None:
    values = WHISPERED.to_dict()
    assert values["version"] == 3
    assert Transcript.from_json(WHISPERED.to_json()) == WHISPERED


@pytest.mark.parametrize(
    "change",
    [
        {"suspected": (Suspicion("a", 0.0, 1.0, "no_speech", False),)},
        {"notes": ("short_context",)},
        {"segments": (Segment("a", 0.0, 1.0, None, language="en"),)},
        {"segments": (Segment("a", 0.0, 1.0, None, speaker="A"),)},
        {"segments": (Segment("a", 0.0, 1.0, None, decoded=Decoded(0.0, -0.5, 1.0, 0.0)),)},
        {"segments": (Segment("a", 0, 1, None, (Word("a", 0, 1, None, "attention"),)),)},
        {"segments": (Segment("a", 0, 1, None, (Word("a", 0, 1, None, "aligned", (), "A"),)),)},
    ],
)
def test_what_is_new_raises_the_version(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(TRANSCRIPT, **change)
    values = changed.to_dict()
    assert values["version"] == 3
    assert Transcript.from_dict(values) == changed
    values["version"] = 2
    with pytest.raises(InputError, match=r"unknown key|source is 'attention'"):
        Transcript.from_dict(values)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("suspected",), {}, "suspected is not a list"),
        (("suspected", 0, "removed"), 1, "suspected[0].removed is neither true nor false"),
        (("suspected", 0, "end"), 0.5, "suspected[0] ends before it starts"),
        (("suspected", 0, "why"), "", "suspected[0]: unknown key 'why'"),
        (("notes",), [1], "notes[0] is not a string"),
        (("segments", 0, "language"), None, "segments[0].language is not a string"),
        (("segments", 0, "decoded", "temperature"), "0", "decoded.temperature is not a number"),
        (("segments", 0, "decoded"), {}, "segments[0].decoded: 'temperature' is missing"),
        (("segments", 0, "words", 0, "speaker"), 1, "words[0].speaker is not a string"),
    ],
)
def test_version_3_is_strict(path: tuple[Any, ...], value: Any, line: str) -> None:
    values = WHISPERED.to_dict()
    inner: Any = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InputError) as error:
        Transcript.from_dict(values)
    assert line in str(error.value)
