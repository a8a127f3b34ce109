"""Spoken numbers to written ones: golden lists, and that nothing else changes."""

from __future__ import annotations

import builtins
import re
import socket
from typing import Any

import pytest

from mynah.errors import ConfigError, MissingDependency
from mynah.text import inverse
from mynah.text.characters import ALONE
from mynah.text.inverse import InverseNormalizer, han_digits

ENGLISH = """
twenty five dollars and fifty cents => $25.50
it costs five dollars => it costs $5
one hundred thousand dollars => $100,000
two million euros => €2 million
on march third nineteen forty five we met => on march 3 1945 we met
the fourth of july seventeen seventy six => 4 july 1776
in two thousand and six => in 2006
the nineteen eighties => the 1980s
three thirty p m => 3:30 p.m.
it is half past two => it is 2:30
at ten fifteen => at 10:15
around six oh five => around 6:05
ten o'clock => 10:00
quarter to five => 4:45
fifty percent of them => 50% of them
two point five => 2.5
sixty five miles per hour => 65 mph
ten kilograms => 10 kg
my number is four one five five five five oh one two three => my number is 415-555-0123
call five five five one two three four => call 5551234
oh one two three => 0123
room two oh five => room 205
one two three four five => 12345
the twenty first century => the 21st century
thirty first => 31st
one million three hundred thousand => 1,300,000
a hundred and twenty three => 123
he's twenty-one => he's 21
misses jones is twenty => misses jones is 20
"""
ENGLISH_STAYS = """
i have two dogs
one of them
oh yes
oh one of them said so
wait a second
second to none
may i come in
march on
one third
two and a half
nine eleven
seven eleven
a thousand thanks
a b c one two three
doctor who
w w w dot example dot com
i am fine thanks
"""
CHINESE = """
二零二六年十一月二十六日 => 2026年11月26日
一九四五年八月 十五日 星期三 => 1945年8月 15日 星期三
你好 today is 三月五号 => 你好 today is 3月5号
早上八点十五分 => 早上8点15分
两点半开会 => 2点半开会
我买了两本书 hello world 一共二十五元 => 我买了两本书 hello world 一共¥25
一百二十块钱 => 120块钱
我有一百二十三块五毛 => 我有123块5毛
百分之二十 => 20%
二分之一 => 1/2
三点一四 => 3.14
五点七公里 => 5.7公里
二十公里 => 20公里
三十八度 => 38度
电话是一三八零零零零一二三四 => 电话是13800001234
幺幺零 => 110
第二十一条 => 第21条
两千零五 => 2005
两万五千里 => 25000里
一百万 => 100万
三百六十五天 => 365天
五十五岁 => 55岁
"""
CHINESE_STAYS = """
他有三个苹果
第一次
一心一意
一点也不
万一
十分高兴
千万不要
三三两两
乱七八糟
星期三
一下子
你好世界
"""
GOLDEN = [
    (language, *line.split(" => "))
    for language, lines in (("en", ENGLISH), ("zh", CHINESE))
    for line in lines.strip().split("\n")
] + [
    (language, line, line)
    for language, lines in (("en", ENGLISH_STAYS), ("zh", CHINESE_STAYS))
    for line in lines.strip().split("\n")
]
_WORD = re.compile(rf"{ALONE.pattern}|(?:(?!{ALONE.pattern})\S)+")


def write(normalizer: InverseNormalizer, text: str) -> str:
    """The text with its spans replaced; what lies between them is not touched."""
    places = [match.span() for match in _WORD.finditer(text)]
    result, at = "", 0
    for span in normalizer([text[slice(*place)] for place in places]):
        result += text[at : places[span.first][0]] + span.text
        at = places[span.stop - 1][1]
    return result + text[at:]


@pytest.fixture(scope="module")
def normalizers() -> dict[str, InverseNormalizer]:
    pytest.importorskip("wetext")
    return {language: InverseNormalizer(language) for language in ("en", "zh")}


@pytest.mark.parametrize(("language", "spoken", "written"), GOLDEN)
def test_golden(
    normalizers: dict[str, InverseNormalizer], language: str, spoken: str, written: str
) -> None:
    assert write(normalizers[language], spoken) == written


def test_what_is_far_from_a_number_is_not_read(
    normalizers: dict[str, InverseNormalizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(inverse, "_found", lambda snippet, language: seen.append(snippet) or ())
    words = ["w"] * 30 + ["five", "dollars"] + ["x"] * 30 + ["six"] + ["y"] * 30
    assert normalizers["en"](words) == []
    assert seen == ["w w w w five dollars x x x", "x x x x six y y y y"]
    seen.clear()
    normalizers["en"](["a", "five", "six", "b"], [False, True, False, False])
    assert seen == ["a five", "six b"], "nothing reaches across a border"
    seen.clear()
    normalizers["en"](["one"] * 1000)
    assert len(seen) == 50 and max(len(text.split()) for text in seen) == 20
    assert sum(len(text.split()) for text in seen) == 1000, "each word is read once"


def test_words_of_several_characters_are_taken_whole(
    normalizers: dict[str, InverseNormalizer],
) -> None:
    spans = normalizers["zh"](["我", "二十", "五岁", "了"])
    assert [(span.first, span.stop, span.text) for span in spans] == [(1, 3, "25岁")]
    spans = normalizers["zh"](["二零二六年十一月", "二十", "日"])
    assert [(span.first, span.stop, span.text) for span in spans] == [
        (0, 1, "2026年11月"), (1, 2, "20"),
    ]  # fmt: skip
    spans = normalizers["zh"](["共一", "百二十", "块钱吧"])
    assert [(span.first, span.stop, span.text) for span in spans] == [(0, 3, "共120块钱吧")]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_words(normalizers: dict[str, InverseNormalizer], language: str) -> None:
    normalizer = normalizers[language]
    assert normalizer([]) == [] and normalizer([""]) == [] and normalizer(["", "", ""]) == []
    for words in (
        ["🎉", "one", "🎉", "hundred"], ["twenty", "", "five"], ["二", "", "十"], ["x" * 10_000],
        ["one", "\x00", "two", "]]>", "{", "}", '"', "\\"], ["点", "点"], ["二点", "点五"],
        ["二" * 5000], ["twenty"] * 500,
    ):  # fmt: skip
        spans = normalizer(words)
        at = 0
        for span in spans:
            assert at <= span.first < span.stop <= len(words)
            at = span.stop


@pytest.mark.parametrize(
    ("numeral", "digits"),
    [
        ("二零二六", "2026"), ("十", "10"), ("十一", "11"), ("二十六", "26"), ("一百零五", "105"),
        ("一百五", "150"), ("两万五", "25000"), ("三千零二十", "3020"), ("一亿零三", "100000003"),
        ("十二万三千四百五十六", "123456"), ("五点七", "5.7"), ("二十点零五", "20.05"),
    ],
)  # fmt: skip
def test_chinese_numerals(numeral: str, digits: str) -> None:
    assert han_digits(numeral) == digits


def test_languages_without_grammars() -> None:
    pytest.importorskip("wetext")
    with pytest.raises(ConfigError, match="itn: there is none for 'fr', only for en and zh"):
        InverseNormalizer("fr")
    assert InverseNormalizer("zh-CN").language == InverseNormalizer("cmn").language == "zh"
    assert InverseNormalizer("en_US").language == "en"


@pytest.fixture
def without_wetext(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "wetext":
            raise ModuleNotFoundError("No module named 'wetext'", name="wetext")
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("without_wetext")
def test_missing_wetext_gets_one_line() -> None:
    with pytest.raises(MissingDependency, match=r"wetext is not installed.*mynah-speech\[text\]"):
        InverseNormalizer("en")


def test_neither_network_nor_disk(
    normalizers: dict[str, InverseNormalizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the network")

    monkeypatch.setattr(socket, "socket", refuse)
    plain = builtins.open

    def reading(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        assert not set(mode) & set("wax+"), f"{file} is written"
        return plain(file, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", reading)
    inverse._found.cache_clear()
    assert write(normalizers["en"], "forty four") == "44"
