from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.text import normalize_for_scoring
from mynah.text.characters import columns, is_alone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  many\t\n spaces ", "many spaces"),
        ("don’t ‘quote’ 'this' o'clock dogs'", "don't quote this o'clock dogs"),
        ("it´s it`s it＇s", "it's it's it's"),
        ("rock 'n' roll", "rock n roll"),
        ("well-known — e–mail", "well known e mail"),
        ("3.5 1,000 10:30 1/2", "3.5 1,000 10:30 1/2"),
        ("in 2020, 2021. It", "in 2020 2021 it"),
        ("ＡＢＣ１２３！", "abc123"),
        ("5% of $3 & C#", "5% of $3 & c#"),
        ("ﬁne Ⅳ", "fine iv"),
        ("café CAFE\u0301", "café café"),
        ("zero\u200bwidth soft\u00adhyphen", "zerowidth softhyphen"),
        ("wait...what?!", "wait what"),
        ("<unk> [noise] {x}", "unk noise x"),
        ("हिन्दी।", "हिन्दी"),
        ("İstanbul", "i̇stanbul"),
        ("", ""),
        ("?!", ""),
    ],
)
def test_english(text: str, expected: str) -> None:
    assert normalize_for_scoring(text, "en") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天，天气：很好。", "今天天气很好"),
        ("今天 天气 很 好", "今天天气很好"),
        ("我 用 WeNet 和 Kaldi 吗？", "我用wenet和kaldi吗"),
        ("ＯＫ　全角", "ok全角"),
        ("hello world 你 好", "hello world你好"),
        ("《书名》“引”", "书名引"),
        ("三〇一 2.5", "三〇一2.5"),
    ],
)
@pytest.mark.parametrize("language", ["zh", "zh-CN", "yue_HK"])
def test_chinese(text: str, expected: str, language: str) -> None:
    assert normalize_for_scoring(text, language) == expected


def test_spaces_between_hanzi_stay_in_other_languages() -> None:
    assert normalize_for_scoring("今 天", "en") == "今 天"


@given(st.text(max_size=40), st.sampled_from(["en", "zh"]))
@settings(max_examples=60, deadline=None)
def test_twice_is_once(text: str, language: str) -> None:
    once = normalize_for_scoring(text, language)
    assert normalize_for_scoring(once, language) == once
    assert once == once.strip()
    assert "  " not in once


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("今天", 4), ("ｶ", 1), ("Ａ", 2), ("e\u0301", 1), ("🙂", 2)]
)
def test_columns(text: str, width: int) -> None:
    assert columns(text) == width


def test_characters_that_stand_alone() -> None:
    assert all(map(is_alone, "今㐀〇𠀀豈カひー"))
    assert not any(map(is_alone, "aé 1。가"))
