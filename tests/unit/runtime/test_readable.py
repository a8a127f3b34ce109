"""Readable text: words rewritten with their times, windows, and texts that nobody expects."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.errors import ConfigError, ModelError
from mynah.model_folder import find_model, read_model_folder
from mynah.runtime.punctuator import Punctuator, load_punctuator, punctuation_models
from mynah.runtime.readable import Readable
from mynah.runtime.result import Segment, Transcript, Word, join_texts, make_transcript
from mynah.text.inverse import InverseNormalizer, Span
from mynah.text.punctuation import CHINESE, SENTENCE_ENDS, WESTERN
from mynah.text.script import ScriptConverter

# -- what stands in for the model and the grammars


class Script:
    """A punctuator that follows a script: ``{unit: (mark, case)}``."""

    def __init__(self, script: dict[str, tuple[str, int]], marks: Sequence[str] = WESTERN) -> None:
        self.script, self.marks = script, tuple(marks)
        self.seen: list[list[str]] = []

    def labels(
        self, units: Sequence[str], *, past: int = 0, begins: bool = True
    ) -> tuple[list[int], list[int]]:
        self.seen.append(list(units))
        marks, cases = [], []
        for unit in units[past:]:
            mark, case = self.script.get(unit, ("", 0))
            marks.append(self.marks.index(mark))
            cases.append(max(case, 1) if begins else case)
            begins = marks[-1] in SENTENCE_ENDS
        return marks, cases


class Numbers:
    """Grammars that know a few rows of words."""

    def __init__(self, known: dict[tuple[str, ...], str]) -> None:
        self.known, self.borders = known, [False]

    def __call__(self, words: Sequence[str], borders: Sequence[bool] = ()) -> list[Span]:
        self.borders = list(borders)
        spans = []
        for first in range(len(words)):
            for row, text in self.known.items():
                stop = first + len(row)
                if tuple(words[first:stop]) == row and not any(borders[first : stop - 1]):
                    spans.append(Span(first, stop, text))
        return spans


def scripted(
    script: dict[str, tuple[str, int]] | None = None,
    numbers: dict[tuple[str, ...], str] | None = None,
    language: str = "en",
) -> Readable:
    marks = CHINESE if language == "zh" else WESTERN
    punctuator: Any = None if script is None else Script(script, marks)
    inverse: Any = None if numbers is None else Numbers(numbers)
    return Readable(language, punctuator, inverse)


def heard(text: str, start: float = 0.0, *, alone: bool = False) -> Segment:
    """A segment of words half a second each; every character a word if ``alone``."""
    words = list(text) if alone else text.split()
    timed = tuple(
        Word(word, start + 0.5 * n, start + 0.5 * n + 0.4, 0.5 + 0.01 * n, "aligned")
        for n, word in enumerate(words)
    )
    end = timed[-1].end if timed else start
    return Segment(text, start, end, 0.7, timed)


# -- marks, casing, numbers

SCRIPT = {
    "you": ("?", 0), "fine": (".", 0), "i": ("", 1), "anna": (",", 1), "usa": ("", 2),
    "five": (",", 0), "march": ("", 1), "known": (".", 0), "m": (".", 0),
}  # fmt: skip


def test_marks_go_to_the_word_before_and_casing_changes_the_word() -> None:
    segment = heard("how are you i am fine anna says usa")
    result = scripted(SCRIPT)(segment)
    assert result.text == "How are you? I am fine. Anna, says USA"
    assert [word.text for word in result.words] == result.text.split()
    for before, after in zip(segment.words, result.words, strict=True):
        assert dataclasses.replace(after, text=before.text) == before
    assert dataclasses.replace(result, text=segment.text, words=segment.words) == segment


def test_a_number_takes_the_times_of_its_words() -> None:
    segment = heard("on march twenty five dollars anna")
    result = scripted(SCRIPT, {("twenty", "five", "dollars"): "$25"})(segment)
    assert result.text == "On March $25 Anna,"
    number = result.words[2]
    assert (number.text, number.start, number.end) == ("$25", 1.0, 2.4)
    assert number.confidence == pytest.approx((0.52 * 0.53 * 0.54) ** (1 / 3))
    assert number.source == "aligned" and len(result.words) == 4

    for speakers, speaker in (("AAAAAA", "A"), ("AAABBB", None)):
        words = tuple(dataclasses.replace(word, speaker=who)
                      for word, who in zip(segment.words, speakers, strict=True))  # fmt: skip
        number = scripted(None, {("twenty", "five", "dollars"): "$25"})(
            dataclasses.replace(segment, words=words)
        ).words[2]
        assert (number.text, number.speaker) == ("$25", speaker)

    unsure = dataclasses.replace(segment.words[3], confidence=None, source="interpolated")
    words = (*segment.words[:3], unsure, *segment.words[4:])
    number = scripted(None, {("twenty", "five", "dollars"): "$25"})(
        dataclasses.replace(segment, words=words)
    ).words[2]
    assert number.confidence is None and number.source == "interpolated"


def test_marks_in_a_number_are_dropped_and_the_last_stays() -> None:
    numbers = {("five", "five"): "55", ("five", "p", "m"): "5 p.m.", ("march", "five"): "march 5"}
    readable = scripted(SCRIPT, numbers)
    assert readable.text("five five and") == "55, and"
    assert readable.text("at five p m") == "At 5 p.m."
    assert readable.text("march five") == "March 5,"


def test_numbers_do_not_reach_across_a_sentence_or_a_segment() -> None:
    numbers = {("you", "you"): "2you", ("i", "i"): "ii"}
    readable = scripted(SCRIPT, numbers)
    assert readable.text("you you") == "You? You?"
    parts = [heard("a i"), heard("i b", 5.0)]
    transcript = make_transcript(parts, language="en", duration=9.0)
    assert readable.transcript(transcript).text == "A I I b"
    assert readable.text("a i i b") == "A ii b"


def test_sentences_go_on_from_segment_to_segment() -> None:
    readable = scripted(SCRIPT)
    parts = [heard("how are"), heard("you i", 2.0), heard("see", 4.0)]
    transcript = make_transcript(parts, language="en", duration=9.0, model="m")
    result = readable.transcript(transcript)
    assert [s.text for s in result.segments] == ["How are", "you? I", "see"]
    assert result.text == "How are you? I see"
    assert dataclasses.replace(result, text="", segments=()) == dataclasses.replace(
        transcript, text="", segments=()
    )
    assert readable(parts[2], before="How are you? I").text == "see"
    assert readable(parts[2], before="Are you fine.”").text == "See"
    assert readable(parts[2]).text == "See"
    empty = Transcript("", (), "en", "no_speech", 3.0)
    assert readable.transcript(empty) == empty


def test_the_context_is_what_the_model_sees() -> None:
    readable = scripted(SCRIPT)
    readable(heard("see"), before=" ".join(f"W{n}," for n in range(200)))
    punctuator: Any = readable.punctuator
    assert punctuator.seen[-1] == [*(f"w{n}" for n in range(136, 200)), "see"]


def test_text_that_has_marks_or_capitals() -> None:
    readable = scripted(SCRIPT, {("five", "five"): "55"})
    assert readable.text("Hello, how are you i") == "Hello, how are you i"
    assert readable.text("Well, five five.") == "Well, 55."
    assert readable.text("how are iPhones you") == "How are iPhones you?"
    assert readable.text("HOW ARE YOU I") == "How are you? I"
    assert readable.text("USA") == "USA"
    again = readable.text("how are you i am fine")
    assert readable.text(again) == again


def test_words_of_several_units() -> None:
    readable = scripted({**SCRIPT, "well": ("", 1)})
    assert readable.text("a well-known you") == "A Well-known. You?"


def test_segments_without_timed_words() -> None:
    readable = scripted(SCRIPT, {("five", "five"): "55"})
    bare = Segment("how are you five five", 0.0, 2.0, None)
    assert readable(bare) == Segment("How are you? 55,", 0.0, 2.0, None)
    partly = dataclasses.replace(heard("how are"), text="how are you")
    result = readable(partly)
    assert result.text == "How are you?" and result.words == partly.words


def test_chinese_words_stay_together() -> None:
    script = {"吗": ("？", 0), "好": ("。", 0)}
    numbers = {("二", "十"): "20"}
    readable = scripted(script, numbers, "zh")
    segment = heard("你好吗有二十个好", alone=True)
    assert readable(segment).text == "你好。吗？有20个好。"
    assert [w.text for w in readable(segment).words] == [
        "你",
        "好。",
        "吗？",
        "有",
        "20",
        "个",
        "好。",
    ]
    assert join_texts(word.text for word in readable(segment).words) == "你好。吗？有20个好。"
    assert readable.text("你 hello 二十个\n好") == "你 hello 20个\n好。"


def test_off_changes_nothing() -> None:
    segment = heard("how are you five")
    assert scripted()(segment) == segment
    assert scripted().text("  how \t are\n\nyou ") == "  how \t are\n\nyou "


HOSTILE = [
    "", " ", "\n", "...", "— ! ?", "🎉🎉 hello 👩‍👩‍👧 you", "x" * 20_000,
    "hello 你好 привет مرحبا you", "\x00 you \x07", "a\u0301 you", "1 2 3",
    "_ __ you", "'''", "you" * 3000, "\ufeffhello\u200byou",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts(text: str, language: str) -> None:
    for readable in (scripted(SCRIPT if language == "en" else {}, {}, language), _real(language)):
        result = readable.text(text)
        kept = [c for c in text.lower() if c.isalnum()]
        assert [c for c in result.lower() if c.isalnum()] == kept, "no letter is lost or added"
        segment = readable(heard(text))
        assert len(segment.words) == len(text.split())


# -- the bundled models


def _real(language: str) -> Readable:
    return Readable.load(language, True, False)


def test_bundled_models_are_whole() -> None:
    models = punctuation_models()
    assert {"en", "zh"} <= set(models)
    for language, path in models.items():
        folder = read_model_folder(path)
        folder.verify()
        assert folder.info.languages == (language,) and folder.info.training_data
        size = sum((path / name).stat().st_size for name in folder.files)
        assert size < 2.5e6, f"{language}: {size / 1e6:.1f} MB"
        assert folder.has("CARD.md") and any("F1" in key for key in folder.info.results)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("extra", [0, 5])
def test_windows_give_what_one_pass_gives(language: str, extra: int) -> None:
    folder = read_model_folder(find_model(f"mynah-punct-{language}"))
    wide = Punctuator(folder, window=5000)
    narrow = Punctuator(folder, window=wide.look_back + wide.look_ahead + 1 + extra)
    line = "the quick brown fox asked whether it was late and nobody knew why 你 好"
    words = line.split()
    rng = np.random.default_rng(3)
    units = [words[n] for n in rng.integers(len(words), size=700)]
    for count in (0, 1, 2, narrow.window - 1, narrow.window, narrow.window + 1, 700):
        one, other = wide.log_probs(units[:count]), narrow.log_probs(units[:count])
        for a, b in zip(one, other, strict=True):
            assert a.shape[0] == count
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_what_is_far_does_not_matter() -> None:
    punctuator = load_punctuator("en")
    units = [f"w{n}" for n in range(300)]
    place = 150
    whole = punctuator.log_probs(units)[0][place]
    start, stop = place - punctuator.look_back, place + punctuator.look_ahead + 1
    near = punctuator.log_probs(units[start:stop])[0][place - start]
    np.testing.assert_allclose(whole, near, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("how are you", "How are you?"),
        ("what is your name", "What is your name?"),
        ("i think i know", "I think I know."),
    ],
)
def test_english(text: str, expected: str) -> None:
    assert _real("en").text(text) == expected


def test_english_sentences() -> None:
    text = _real("en").text(
        "where are you going i am going to london with my brother he wants to see the river"
    )
    assert "London" in text and " I am" in text and text[0] == "W" and "?" in text


def test_chinese_sentences() -> None:
    text = _real("zh").text("你要去哪里呢我要去北京")
    assert "呢？我" in text


def test_a_long_text_at_once() -> None:
    line = "how are you i am fine thank you and where is your brother today"
    words = line.split()
    text = " ".join(words[n % len(words)] for n in range(100_000))
    result = _real("en").text(text)
    assert len(result.split()) == 100_000 and result.count("?") > 1000


def test_threads_do_not_matter() -> None:
    readable, results = _real("en"), {}
    texts = [f"where is number {n} i do not know" for n in range(24)]
    expected = [readable.text(text) for text in texts]

    def work(first: int) -> None:
        for number in range(first, 24, 3):
            results[number] = readable.text(texts[number])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[n] for n in range(24)] == expected


def test_the_script_of_chinese() -> None:
    pytest.importorskip("opencc")
    texts = {"zh": "他說國語", "ja": "国語と說", "yue": "講廣東話", "en": "說 is a word"}
    segments = [
        dataclasses.replace(heard(text, 5.0 * n, alone=True), language=language)
        for n, (language, text) in enumerate(texts.items())
    ]
    mixed = make_transcript(segments, language=None, duration=20.0)
    readable = Readable.load(None, False, False, script="simplified")
    found = readable.transcript(mixed)
    wanted = ["他说国语", "国語と說", "讲广东话", "說 is a word"]
    assert [s.text for s in found.segments] == wanted and found.text == join_texts(wanted)
    for before, after in zip(mixed.segments, found.segments, strict=True):
        assert [(w.start, w.end, w.confidence) for w in before.words] == [
            (w.start, w.end, w.confidence) for w in after.words
        ]
        assert "".join(w.text for w in after.words) == after.text
    one = make_transcript([heard("說", alone=True)], language="zh", duration=1.0)
    assert readable.transcript(one).text == "说"
    other = dataclasses.replace(one, language="ja")
    assert readable.transcript(other) == other


@pytest.mark.parametrize(
    ("script", "seen", "written"),
    [("simplified", "頭髮裏面", "头发里面。"), ("traditional", "头发里面", "頭髮裏面。")],
)
def test_the_model_sees_simplified_characters(script: Any, seen: str, written: str) -> None:
    pytest.importorskip("opencc")
    punctuator: Any = Script({"面": ("。", 0)}, CHINESE)
    readable = Readable("zh", punctuator, None, ScriptConverter(script))
    assert readable(heard(seen, alone=True)).text == written
    assert readable.text(f"{seen}\n") == f"{written}\n"
    assert punctuator.seen == [list("头发里面")] * 2


def test_characters_keep_their_times_where_they_are_as_many() -> None:
    class Longer:
        script = "taiwan"

        def __call__(self, text: str) -> str:
            return text.replace("长", "長長")

        def words(self, words: Sequence[str]) -> list[str]:
            return [self(word) for word in words]

    script: Any = Longer()
    words = tuple(
        Word(text, start, start + 1, 0.5, "aligned", ((start, start + 1),))
        for start, text in enumerate("很长")
    )
    segment = Segment("很长", 0.0, 2.0, 0.5, words)
    found = Readable("zh", script=script)(segment)
    assert found.text == "很長長"
    assert [(w.text, w.chars) for w in found.words] == [("很", ((0, 1),)), ("長長", ())]


def test_a_script_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(ConfigError, match="'en' is not written in Chinese"):
        Readable.load("en", False, False, script="simplified")
    with pytest.raises(ConfigError, match="which language"):
        Readable.load(None, True, False)


def test_what_a_language_does_not_have() -> None:
    with pytest.raises(ConfigError, match="punctuation: there is no model for 'fr', only for en"):
        Readable.load("fr", True, False)
    readable = Readable.load("fr", None, None)
    assert readable.text("ça va bien") == "ça va bien"
    with pytest.raises(ModelError, match="is a u2 model, not one for punctuation"):
        Readable.load("en", True, False, model=find_model("mynah-en"))


def test_both_at_once() -> None:
    pytest.importorskip("wetext")
    readable = Readable.load("en", True, True)
    assert isinstance(readable.inverse, InverseNormalizer)
    result = readable(heard("i paid twenty five dollars for it"))
    assert result.text == "I paid $25 for it."
    assert result.words[2].start == 1.0 and result.words[2].end == 2.4


def test_a_broken_model_gets_one_line(tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(find_model("mynah-punct-en"), copy)
    graph = next((copy / "onnx").iterdir())
    graph.write_bytes(graph.read_bytes()[:-10])
    with pytest.raises(ModelError, match="was altered"):
        Punctuator(read_model_folder(copy))
