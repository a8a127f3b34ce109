from __future__ import annotations

import json

import pytest

from mynah.errors import InputError
from mynah.evaluation import (
    ErrorRate,
    Unit,
    Utterance,
    error_rate,
    error_rates,
    score,
    split_tokens,
    unit_of,
)


def test_words_by_hand() -> None:
    rate = error_rate([("the cat sat", "the cat sits now"), ("hello", "")])
    assert rate == ErrorRate(substitutions=1, deletions=1, insertions=1, total=4)
    assert rate.errors == 3
    assert rate.rate == 0.75
    assert str(rate) == "75.00 % (1 substituted, 1 deleted, 1 inserted, of 4)"


@pytest.mark.parametrize(
    ("text", "unit", "tokens"),
    [
        ("我爱 wenet 吗", "word", ["我爱", "wenet", "吗"]),
        ("我爱 we 吗", "char", ["我", "爱", "w", "e", "吗"]),
        ("我爱wenet吗 it's", "mixed", ["我", "爱", "wenet", "吗", "it's"]),
        ("カタカナ desu", "mixed", ["カ", "タ", "カ", "ナ", "desu"]),
        ("  ", "word", []),
    ],
)
def test_tokens(text: str, unit: Unit, tokens: list[str]) -> None:
    assert split_tokens(text, unit) == tokens


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(InputError, match=r"'words' .*did you mean 'word'"):
        split_tokens("a", "words")  # type: ignore[arg-type]


def test_without_reference() -> None:
    assert error_rate([]).rate == 0.0
    assert error_rate([("", "")]).rate == 0.0
    assert error_rate([("", "a")]).rate == float("inf")


def test_each_utterance_and_the_sum() -> None:
    pairs = [("a b c", "a c"), ("d", "d"), ("e f", "f e")]
    rates = error_rates(pairs)
    assert [r.errors for r in rates] == [1, 0, 2]
    assert sum(rates, ErrorRate()) == error_rate(pairs)


def utterances() -> list[Utterance]:
    return [
        Utterance("u1", "Hello, World!", "hello world", {"speaker": "s2", "age": "7"}),
        Utterance("u2", "It’s well-known.", "its well known", {"speaker": "s1"}),
        Utterance("u3", "one two three four", "one", {"speaker": "s2"}),
    ]


def test_report() -> None:
    report = score(utterances())
    assert report.name == "WER"
    assert report.total == ErrorRate(1, 3, 0, 9)
    by_speaker = report.by("speaker")
    assert list(by_speaker) == ["s1", "s2"]
    assert by_speaker["s2"] == ErrorRate(0, 3, 0, 6)
    assert report.by("age")[""].total == 7
    assert [u.id for u, _ in report.worst(5)] == ["u3", "u2"]
    assert report.alignment(1).startswith("REF:  it's well known\nHYP:  its  well known\n")
    values = json.loads(json.dumps(report.to_dict()))
    assert values["total"]["errors"] == 4
    assert values["utterances"][2]["speaker"] == "s2"
    assert values["utterances"][2]["rate"] == 0.75


def test_texts_can_be_scored_as_they_are() -> None:
    assert score(utterances(), language=None).total.errors > score(utterances()).total.errors


def test_chinese() -> None:
    report = score(
        [Utterance("a", "今天 天气，好ＯＫ吗？", "今天天汽好 ok")], unit="mixed", language="zh-CN"
    )
    assert report.total == ErrorRate(1, 1, 0, 7)
    assert (unit_of("zh"), unit_of("yue-HK"), unit_of("en")) == ("mixed", "mixed", "word")


def test_the_interval_holds_the_rate_and_is_repeatable() -> None:
    made = [
        Utterance(f"{s}-{i}", "a b c d", "a b c d" if s % 2 else "a b c", {"speaker": str(s)})
        for s in range(10)
        for i in range(20)
    ]
    report = score(made)
    plain, clustered = report.interval(), report.interval(by="speaker")
    assert plain == report.interval()
    assert plain.low < report.total.rate < plain.high
    # Errors go by speaker here: the interval that draws whole speakers is wider.
    assert clustered.high - clustered.low > 2 * (plain.high - plain.low)
    # The standard error of the mean of 200 draws of 0 or 1/4 is 0.0088.
    assert plain.high - plain.low == pytest.approx(2 * 1.96 * 0.0088, rel=0.15)
    assert score([]).interval().high == 0.0
