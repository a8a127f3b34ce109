"""Units, their hashes and casing, and prose taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.text.prose import UNKNOWN, books, is_heading, pieces
from mynah.text.punctuation import (
    CAPITAL,
    CHINESE,
    LOWER,
    UPPER,
    WESTERN,
    case_of,
    feature_rows,
    hash_units,
    to_units,
    unit_hash,
    with_case,
)


def shown(line: str, language: str = "en") -> str:
    """The units of a line with their marks and casing; ``?`` before what is unknown."""
    found, marks = pieces(line, language), CHINESE if language == "zh" else WESTERN
    words = []
    for unit, mark, case in zip(found.units, found.marks, found.cases, strict=True):
        text = f"~{unit}" if case == UNKNOWN else with_case(unit, case)
        words.append(text + ("#" if mark == UNKNOWN else marks[mark]))
    return ("" if language == "zh" else " ").join(words)


@pytest.mark.parametrize(
    ("text", "language", "units"),
    [
        ("Hello, WORLD!", "en", ["hello", "world"]),
        ("well-known", "en", ["well", "known"]),
        ("don't o’clock", "en", ["don't", "o'clock"]),
        ("我有3.5元 OK吗？", "zh", ["我", "有", "3.5", "元", "ok", "吗"]),
        ("hello 你好", "en", ["hello", "你", "好"]),
        ("... — !", "en", []),
        ("", "en", []),
        ("x" * 500, "en", ["x" * 64]),
    ],
)
def test_units(text: str, language: str, units: list[str]) -> None:
    assert to_units(text, language) == units


def test_hashes_are_the_same_everywhere() -> None:
    assert unit_hash("hello") == (0x3610A686, 0x81F3B00C, 0x327DCF20)
    assert unit_hash("route66") == unit_hash("route07")
    assert unit_hash("\ud800")  # half of a character
    assert hash_units([]).shape == (0, 3)


def test_rows_lie_in_the_part_of_their_feature() -> None:
    features = {"word": 10, "again": 20, "prefix": 5, "suffix": 5, "pair": 7, "again_pair": 3}
    units = [f"word{chr(97 + n % 26)}{n}" for n in range(500)]
    rows = feature_rows(hash_units(units), features)
    start = 0
    for column, size in enumerate(features.values()):
        assert set(rows[:, column]) <= set(range(start, start + size))
        start += size
    some = feature_rows(hash_units(units[3:9]), features)
    assert (some[1:] == rows[4:9]).all() and (some[0, :4] == rows[3, :4]).all()
    assert feature_rows(hash_units([]), features).shape == (0, 6)


def test_two_hashes_tell_apart_what_one_does_not() -> None:
    words = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in "klmnprst"]
    rows = feature_rows(hash_units(words), {"word": 64, "again": 64})
    assert len(np.unique(rows[:, 0])) <= 64
    assert len(np.unique(rows, axis=0)) > 190


@pytest.mark.parametrize(
    ("word", "case", "written"),
    [
        ("hello", CAPITAL, "Hello"),
        ("i'll", CAPITAL, "I'll"),
        ("o'brien", CAPITAL, "O'Brien"),
        ("mcdonald", CAPITAL, "McDonald"),
        ("'tis", CAPITAL, "'Tis"),
        ("tv's", UPPER, "TV's"),
        ("nasa", UPPER, "NASA"),
        ("iPhone", CAPITAL, "iPhone"),
        ("hello", LOWER, "hello"),
        ("3rd", CAPITAL, "3rd"),
        ("你好", CAPITAL, "你好"),
        ("", CAPITAL, ""),
    ],
)
def test_casing(word: str, case: int, written: str) -> None:
    assert with_case(word, case) == written


def test_casing_is_found_again() -> None:
    words = ["hello", "Hello", "I", "NASA", "O'Brien", "McDonald", "TV's"]
    for word in words:
        assert with_case(word.lower(), case_of(word)) == word
    assert case_of("iPhone") == case_of("MacDonald") == -1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("“Hello,” said Mr. O'Brien—“are you well-known in the U.S.A.?”",
         "Hello, said Mr O'Brien, are you well known in the U S A?"),
        ("He paid $3.50 at 10:30 p.m. and left...", "He paid 3.50 at 10:30 p m and left."),
        ("I'm Dr. J. R. McDonald; it's 3,000 km -- no: TV's on!",
         "I'm Dr J R McDonald; it's 3,000 km, no: TV's on!"),
        ("At last... he came", "At last, he came#"),
        ("Is it?! “No.” (He left.)", "Is it? No. He left."),
        ("iPhones are—", "~iphones are,"),
        ("... ,", ""),
        ("He read 中文、too.", "He read 中文, too."),
    ],
)  # fmt: skip
def test_prose(line: str, expected: str) -> None:
    assert shown(line).replace("$", "").replace("中 文", "中文") == expected.replace("$", "")


def test_chinese_prose() -> None:
    assert shown("“我可是毫不怪你呵。”他说：“C语言、Java好？”", "zh") == (
        "我可是毫不怪你呵。他说：C语言、Java好？"
    )
    assert shown("罢，——但是……", "zh") == "罢，但是。"
    assert shown("中断机制", "zh") == "中断机制#"


def test_headings_tell_nothing_of_casing() -> None:
    assert is_heading(pieces("CHAPTER THE FIRST", "en"))
    assert not is_heading(pieces("NASA said so.", "en"))
    assert not is_heading(pieces("", "en"))


def test_books() -> None:
    lines = ["lost", "# One", "a", "", " b ", "# Two", "c"]
    found = [(line.title, line.number, line.text) for line in books(lines)]
    assert found == [("", 0, "lost"), ("One", 0, "a"), ("One", 1, "b"), ("Two", 0, "c")]
