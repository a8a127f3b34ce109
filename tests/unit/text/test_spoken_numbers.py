"""What numbers are said as: by hand, and read back from words."""

from __future__ import annotations

import random

import pytest

from mynah.text.spoken_numbers import readings
from mynah.text.whisper_languages import LANGUAGES, language_code


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("5", "five"),
        ("42", "forty two"),
        ("(12),", "twelve"),
        ("100", "one hundred"),
        ("100", "a hundred"),
        ("105", "one hundred and five"),
        ("1984", "nineteen eighty four"),
        ("1984", "one thousand nine hundred eighty four"),
        ("2005", "two thousand five"),
        ("2019", "twenty nineteen"),
        ("1905", "nineteen oh five"),
        ("1900", "nineteen hundred"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("007", "zero zero seven"),
        ("007", "oh oh seven"),
        ("3.14", "three point one four"),
        ("-5", "minus five"),
        ("$1", "one dollar"),
        ("$3.50", "three dollars and fifty cents"),
        ("50%", "fifty percent"),
        ("1st", "first"),
        ("22nd", "twenty second"),
        ("20th", "twentieth"),
        ("1980s", "nineteen eighties"),
        ("10:30", "ten thirty"),
        ("1990-1995", "nineteen ninety nineteen ninety five"),
        ("A4", "A four"),
    ],
)
def test_english(written: str, said: str) -> None:
    assert said in readings(written, "en")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("5", "五"),
        ("10", "十"),
        ("42", "四十二"),
        ("110", "一百一十"),
        ("105", "一百零五"),
        ("1984", "一九八四"),
        ("1984", "一千九百八十四"),
        ("10050", "一万零五十"),
        ("10010000", "一千零一万"),
        ("100000001", "一亿零一"),
        ("3.14", "三点一四"),
        ("50%", "百分之五十"),
    ],
)
def test_mandarin(written: str, said: str) -> None:
    assert said in readings(written, "zh")


@pytest.mark.parametrize("text", ["", "cat", "don't", "…", "12abc#", "१२", "٣", "9" * 400 + "th"])
def test_what_is_no_number_has_no_reading(text: str) -> None:
    assert all(isinstance(said, str) for said in readings(text, "en"))
    if not any(char in "0123456789" for char in text):
        assert readings(text, "en") == ()
    assert readings("12", "de") == ()


def value(said: str) -> int:
    """The number that English words name, read from right to left."""
    small = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
             "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13,
             "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18,
             "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60,
             "seventy": 70, "eighty": 80, "ninety": 90}  # fmt: skip
    total = part = 0
    for word in said.split():
        if word in small:
            part += small[word]
        elif word == "hundred":
            part *= 100
        else:
            power = {"thousand": 1, "million": 2, "billion": 3, "trillion": 4}[word]
            total, part = total + part * 1000**power, 0
    return total + part


def test_any_number_is_what_it_says() -> None:
    rng = random.Random(0)
    for _ in range(500):
        number = rng.randrange(10 ** rng.randint(1, 14))
        assert value(readings(f"{number:,}", "en")[0]) == number


def test_languages_by_their_chinese_names() -> None:
    from mynah.text import whisper_languages

    assert set(whisper_languages._CHINESE_NAMES.values()) == set(LANGUAGES)
    assert [language_code(name) for name in ("中文", "普通话", "德语", "粤语")] == [
        "zh", "zh", "de", "yue"
    ]  # fmt: skip
