"""What was probably not said."""

from __future__ import annotations

import pytest

from mynah.runtime.result import Decoded, Segment, Word
from mynah.runtime.whisper.guards import Loop, find_loop, guarded, normalised
from mynah.runtime.whisper.options import WhisperOptions

SURE = Decoded(0.0, -0.2, 1.2, 0.01)
REPORT = WhisperOptions(guards="report")


def segment(text: str, start: float = 0.0, end: float = 2.0, decoded: Decoded = SURE) -> Segment:
    return Segment(text, start, end, 0.9, decoded=decoded)


def test_ordinary_text_stays() -> None:
    segments = [
        segment("Thank you."),
        segment("No, no, no, he said, that is not very very good.", 2, 4),
        segment("Yes.", 4, 5),
        segment("Yes.", 5, 6),
        segment("Yes.", 6, 7),
        segment("ha ha ha ha", 7, 8),
    ]
    assert guarded(segments, WhisperOptions(), [(0.0, 8.0)]) == (segments, [])


def test_text_where_nobody_speaks() -> None:
    segments = [segment("hello", 0, 2), segment("and more", 10, 12), segment("end", 12.2, 13)]
    speech = [(0.5, 1.5), (12.5, 13.0)]
    kept, suspected = guarded(segments, WhisperOptions(), speech)
    assert [s.text for s in kept] == ["hello", "end"]
    assert [(s.text, s.reason, s.removed) for s in suspected] == [("and more", "no_speech", True)]
    kept, suspected = guarded(segments, REPORT, speech)
    assert kept == segments
    assert not suspected[0].removed
    assert guarded(segments, WhisperOptions(guards="off"), speech) == (segments, [])


@pytest.mark.parametrize(
    ("decoded", "reported", "removed"),
    [
        (SURE, 0, 0),
        (Decoded(0.0, -0.8, 1.0, 0.1), 1, 0),
        (Decoded(0.0, -0.4, 1.0, 0.45), 1, 0),
        (Decoded(0.0, -0.4, 1.0, 0.7), 1, 1),
    ],
)
@pytest.mark.parametrize("text", ["Thanks for watching!", "谢谢观看", " Продолжение следует..."])
def test_phrases_of_silence(decoded: Decoded, reported: int, removed: int, text: str) -> None:
    kept, suspected = guarded([segment(text, decoded=decoded)], WhisperOptions())
    assert len(suspected) == reported
    assert len(kept) == 1 - removed


SQUIRES = "There is a great troop of people not far off."


@pytest.mark.parametrize(
    ("text", "start", "end", "removed"),
    [
        (SQUIRES, 4.0, 4.1, True),  # again, in a tenth of a second
        ("not far off the people say so", 4.0, 4.0, False),  # perhaps its times are wrong
        ("not far off the people say so", 9.9, 10.0, True),  # where the recording ends
        ("一大群人正在走来", 9.9, 10.0, True),
        (SQUIRES, 4.0, 7.0, None),  # again, as one says it
        ("That is it.", 9.9, 10.0, None),
    ],
)
def test_more_than_can_be_said(text: str, start: float, end: float, removed: bool | None) -> None:
    said = [segment(SQUIRES, 0, 4), segment(text, start, end)]
    kept, suspected = guarded(said, WhisperOptions(), seconds=10.0)
    assert kept == (said[:1] if removed else said)
    wanted = [] if removed is None else [(text, "too_fast", removed)]
    assert [(s.text, s.reason, s.removed) for s in suspected] == wanted


def test_the_longest_loop_is_found() -> None:
    assert find_loop(["a", "b", "c", "a", "b", "c", "a", "b", "c", "a", "b", "c", "d"]) == Loop(
        0, 3, 4
    )
    assert find_loop(["x", "a", "b", "a", "b", "a", "b", "a", "b", "a"]) == Loop(1, 2, 4)
    assert find_loop(["no"] * 5) is None, "too short to be one"
    assert find_loop(["no"] * 6) == Loop(0, 1, 6)
    assert find_loop(["a", "b", "c", "d", "e", "f"]) is None
    assert find_loop([]) is None


def test_loops_are_collapsed() -> None:
    again = ", and then we go" * 8
    text = "It begins here" + again + " and it ends."
    kept, suspected = guarded([segment(text)], WhisperOptions())
    assert kept[0].text == "It begins here, and then we go, and it ends."
    assert suspected[0].reason == "repeated_phrase"
    assert suspected[0].removed
    hanzi = segment("我们" * 12 + "走")
    assert guarded([hanzi], WhisperOptions())[0][0].text == "我们走"
    few = segment("again and again " * 3 + "again and again")
    assert guarded([few], WhisperOptions())[0] == [few], "not certain"
    assert [s.removed for s in guarded([few], WhisperOptions())[1]] == [False]


@pytest.mark.parametrize(
    ("size", "count", "certain"),
    [(2, 8, True), (2, 7, False), (3, 7, False), (1, 15, False), (1, 16, True)],
)
def test_so_often_nobody_says_it(size: int, count: int, certain: bool) -> None:
    phrase = ["no", "and", "then"][:size]
    assert find_loop(phrase * count) == Loop(0, size, count)
    given = segment(" ".join(["well", *phrase * count]))
    kept, suspected = guarded([given], WhisperOptions())
    assert [one.removed for one in suspected] == [certain]
    assert kept[0].text == (" ".join(["well", *phrase]) if certain else given.text)


def test_words_of_a_loop_go_with_it() -> None:
    units = ["so", *["we", "go"] * 9, "on"]
    words = tuple(Word(t, n, n + 0.9, 0.5, "attention") for n, t in enumerate(units))
    given = Segment(" ".join(units), 0, 20, 0.5, words, decoded=SURE)
    kept = guarded([given], WhisperOptions())[0][0]
    assert kept.text == "so we go on"
    assert [word.text for word in kept.words] == ["so", "we", "go", "on"]
    assert kept.words[-1].start == 19


@pytest.mark.parametrize(
    ("loop", "once"),
    [
        ("ha" * 200, "ha"),
        ("haha-" * 100, "haha-"),
        ("1,2," * 100, "1,2,"),
        ("P.I." * 80, "P.I."),
        ("A-" * 100, "A-"),
        ("아" * 100, "아"),
        ("www." * 80, "www."),
        ("0" * 400, "0"),
        ("H" + "aH" * 20, "Ha"),
    ],
    ids=lambda text: text[:5],
)
@pytest.mark.parametrize("text", ["{}", "Well, {}! And so on."])
def test_loops_without_spaces_are_collapsed(loop: str, once: str, text: str) -> None:
    given = segment(text.format(loop))
    kept, suspected = guarded([given], WhisperOptions())
    assert kept[0].text.lower() in [text.format(once + rest).lower() for rest in ("", once[:-1])]
    assert [(s.reason, s.removed) for s in suspected] == [("repeated_phrase", True)]
    kept, suspected = guarded([given], REPORT)
    assert kept == [given]
    assert [(s.reason, s.removed) for s in suspected] == [("repeated_phrase", False)]


@pytest.mark.parametrize(
    "text",
    [
        "https://www.example.com/a/a/a/b?first=1&second=22&third=333&fourth=4444&fifth=55555",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "ສະບາຍດີຂ້ອຍຊື່ວ່າສົມສັກຂ້ອຍມາຈາກວຽງຈັນຍິນດີທີ່ໄດ້ຮູ້ຈັກກັບເຈົ້າ",
        "ខ្ញុំសូមស្វាគមន៍អ្នកទាំងអស់គ្នាមកកាន់ប្រទេសកម្ពុជាយើងខ្ញុំរីករាយណាស់",
        "ကျွန်တော်တို့မြန်မာနိုင်ငံမှကြိုဆိုပါတယ်အားလုံးမင်္ဂလာပါခင်ဗျာ",
        "ผมชื่อสมศักดิ์มาจากกรุงเทพมหานครยินดีที่ได้รู้จักครับ",
        "3.14159265358979323846264338327950288419716939937510",
        "1,000,000,000,000,000,000,000,000 and 1" + "0" * 40,
        "hahahahahahaha",
        "A" + "a" * 24 + "h!",
    ],
    ids=lambda text: text[:8],
)
def test_long_words_stay(text: str) -> None:
    given = segment(text, 0, 6)
    assert guarded([given], WhisperOptions()) == ([given], [])


def timed(*texts: str) -> tuple[Word, ...]:
    return tuple(Word(text, 4.0 * n, 4.0 * n + 4, 0.5, "attention") for n, text in enumerate(texts))


def test_a_word_that_holds_a_loop_keeps_its_begin() -> None:
    given = Segment("Oh " + "ha" * 200 + ".", 0, 8, 0.5, timed("Oh", "ha" * 200 + "."))
    kept = guarded([given], WhisperOptions())[0][0]
    assert kept.text == "Oh ha."
    assert [word.text for word in kept.words] == ["Oh", "ha."]
    assert kept.words[1].start == 4 and kept.words[1].end == kept.end == pytest.approx(
        4.02, abs=0.01
    )
    given = Segment("Oh " + "ha" * 200 + "llo", 0, 8, 0.5, timed("Oh", "ha" * 200 + "llo"))
    kept = guarded([given], WhisperOptions())[0][0]
    assert [(word.text, word.end) for word in kept.words] == [("Oh", 4), ("hallo", 8)]


def test_words_that_a_loop_cuts() -> None:
    texts = ["1", *[",2", ",1"] * 99, ",2", ",more"]
    given = Segment("".join(texts), 0, 4.0 * len(texts), 0.5, timed(*texts))
    kept = guarded([given], WhisperOptions())[0][0]
    assert kept.text == "1,2,more"
    assert [word.text for word in kept.words] == ["1", ",2,", "more"]
    assert (kept.words[2].start, kept.words[2].end) == (pytest.approx(given.end - 3.2), given.end)


def test_the_same_segment_over_and_over() -> None:
    low = Decoded(0.0, -1.5, 1.0, 0.1)
    same = [segment("I don't know.", n, n + 1, low) for n in range(5)]
    kept, suspected = guarded([*same, segment("Well.", 5, 6)], WhisperOptions())
    assert [s.text for s in kept] == ["I don't know.", "Well."]
    assert len(suspected) == 4
    sure = [segment("I don't know.", n, n + 1) for n in range(5)]
    kept, suspected = guarded(sure, WhisperOptions())
    assert kept == sure
    assert [s.removed for s in suspected] == [False] * 4


def test_normalised() -> None:
    assert normalised("  Don't, STOP!  ") == "don't stop"


def test_segments_that_come_in_turn() -> None:
    def turns(count: int, decoded: Decoded = SURE) -> list[Segment]:
        texts = ["Before.", *["Thank you.", "Thanks for watching."] * count, "After."]
        return [segment(text, n, n + 1, decoded) for n, text in enumerate(texts)]

    kept, suspected = guarded(turns(8), WhisperOptions())
    assert [s.text for s in kept] == ["Before.", "Thank you.", "Thanks for watching.", "After."]
    assert len(suspected) == 14
    assert {(s.reason, s.removed) for s in suspected} == {("repeated_segment", True)}
    kept, suspected = guarded(turns(4), WhisperOptions())  # perhaps they do
    assert kept == turns(4)
    assert len(suspected) == 6 and not any(s.removed for s in suspected)
    kept, _ = guarded(turns(4, Decoded(0.0, -0.2, 2.9, 0.01)), WhisperOptions())
    assert len(kept) == 4
    assert guarded(turns(3), WhisperOptions()) == (turns(3), [])
