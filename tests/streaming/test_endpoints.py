"""Where segments end: the three rules, in any pieces, live and offline."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import mynah
from mynah.decoding import GreedySearch, PrefixBeamSearch
from mynah.errors import ConfigError
from mynah.runtime.decode import Search
from mynah.runtime.endpoint import Endpointer, Endpointing, goes_on, split
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.session import Endpoint, Event, Final
from mynah.text import char_tokenizer
from tone_model import RATE, speak, write_tone_model

STEP = 0.04  # seconds
TOKENIZER = char_tokenizer(["abcdefghijklmnopqrstuvwxyz 0123456789 零一二三四五六七八九"])
SPACE = TOKENIZER.encode("a b")[1]
SEARCHES: list[Search] = [GreedySearch(), PrefixBeamSearch(4, 4)]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return mynah.load(write_tone_model(tmp_path_factory.mktemp("endpoints") / "tones"))


def said(*parts: str | float, blank: float = 0.99) -> np.ndarray:
    """Log-probabilities (T, V): a text of a unit every third frame, a number of silent seconds."""
    rows: list[int] = []
    for part in parts:
        if isinstance(part, str):
            for character in part:
                rows += [0, SPACE if character == " " else TOKENIZER.encode(character)[0], 0]
        else:
            rows += [0] * round(part / STEP)
    probs = np.full((len(rows), TOKENIZER.vocab_size), (1 - blank) / (TOKENIZER.vocab_size - 1))
    probs[np.arange(len(rows)), rows] = blank
    return np.log(probs).astype(np.float32)


def texts(log_probs: np.ndarray, rules: Endpointing, search: Search = SEARCHES[0]) -> list[str]:
    found = []
    for first, stop in split(log_probs, rules, search, TOKENIZER, STEP):
        state = search.advance(search.start(), log_probs[first:stop])
        found.append(TOKENIZER.decode(list(search.nbest(state, 1)[0].tokens)).strip())
    return found


def plainly(log_probs: np.ndarray, rules: Endpointing, search: Search) -> list[int]:
    """The ends of segments by the first two rules, every frame looked at with all before it."""
    ends, first = [], 0
    quiet = np.exp(log_probs[:, 0]) >= rules.blank
    for end in range(1, len(log_probs) + 1):
        state = search.advance(search.start(), log_probs[first:end])
        tokens = search.nbest(state, 1)[0].tokens
        silence = 0
        while silence < end - first and quiet[end - 1 - silence]:
            silence += 1
        words = [text for text, _, _ in TOKENIZER.words(list(tokens))]
        limit = rules.nothing
        if tokens:
            number = bool(words) and goes_on(words[-1])
            limit = rules.after_digit if number else rules.after_speech
        if silence * STEP >= limit - 1e-9:
            ends.append(end)
            first = end
    return ends


@pytest.mark.parametrize("search", SEARCHES)
def test_as_when_every_frame_is_looked_at_and_in_any_pieces(search: Search) -> None:
    rng = np.random.default_rng(0)
    rules = Endpointing(nothing=0.5, after_speech=0.2, after_digit=0.4, longest=float("inf"))
    for _ in range(8):
        parts: list[str | float] = []
        for _ in range(12):
            parts += [str(rng.choice(["ab", "c", "seven", "7", "d e"])), float(rng.uniform(0, 0.7))]
        log_probs = said(*parts)
        log_probs[rng.random(len(log_probs)) < 0.1, 0] -= 0.5  # not all silence is sure
        segments = split(log_probs, rules, search, TOKENIZER, STEP)
        ends = [stop for _, stop in segments]
        assert [e for e in ends if e < len(log_probs)] == [
            e for e in plainly(log_probs, rules, search) if e < len(log_probs)
        ]
        for first, stop in segments:
            pieces = np.split(
                log_probs[first:], np.sort(rng.integers(0, len(log_probs) - first, 9))
            )
            endpointer = Endpointer(rules, search, TOKENIZER, STEP)
            cuts = [cut for piece in pieces if (cut := endpointer.feed(piece)) is not None]
            assert (cuts[0].frames if cuts else len(log_probs) - first) == stop - first


@pytest.mark.parametrize("pause", [0.2, 0.6, 1.0, 1.4, 1.8])
@pytest.mark.parametrize("digits", [("four", "one", "seven"), ("4", "1", "7"), ("四", "一", "七"),
                                    ("d", "a", "g"), ("twenty", "zero", "nine")])  # fmt: skip
def test_digits_with_pauses_stay_together(digits: tuple[str, ...], pause: float) -> None:
    spaced = " " if digits[0].isascii() else ""
    log_probs = said(*itertools.chain(*((digit + spaced, pause) for digit in digits)), "end")
    assert len(texts(log_probs, Endpointing())) == 1
    assert len(texts(log_probs, Endpointing(after_digit=1.0))) == (3 if pause >= 1.0 else 0) + 1


@pytest.mark.parametrize("word", ["ab", "sevens", "an", "九月"])
def test_other_words_end_after_a_second(word: str) -> None:
    if word == "九月":
        assert not goes_on("月")
        return
    assert texts(said(word, 0.9, "end"), Endpointing()) == [word + "end"]
    assert texts(said(word, 1.1, "end"), Endpointing()) == [word, "end"]


def test_what_goes_on() -> None:
    for word in ("7", "42", "Seven", "TWENTY", "a", "Z", "é", "七", "两", "x.", "7,"):
        assert goes_on(word), word
    for word in ("", "the", "ab", "好", "seventh", ".", "1st"):
        assert not goes_on(word), word


@pytest.mark.parametrize("search", SEARCHES)
def test_the_third_rule_cuts_at_the_longest_pause(search: Search) -> None:
    rules = Endpointing(longest=4.0, search=2.0)
    log_probs = said("abcd ", 0.4, "efgh ", 0.1, "abcd ", 0.3, "ef ", 0.1, "ghi", 0.1, "klmno")
    assert texts(log_probs, rules, search) == ["abcd efgh abcd", "ef ghiklmno"]
    (_, stop), *_ = split(log_probs, rules, search, TOKENIZER, STEP)
    silence = len(said("abcd ", 0.4, "efgh ", 0.1, "abcd "))
    assert silence <= stop <= silence + 8


@pytest.mark.parametrize("search", SEARCHES)
def test_the_third_rule_never_cuts_a_word(search: Search) -> None:
    rng = np.random.default_rng(1)
    for _ in range(12):
        words = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 9))) for _ in range(40)]
        parts: list[str | float] = []
        for word in words:
            parts += [f"{word} ", float(rng.choice([0.0, 0.0, 0.1, 0.3]))]
            if rng.random() < 0.3:  # a silence within the word
                parts[-2:] = [word[: len(word) // 2], 0.28, f"{word[len(word) // 2 :]} "]
        blank = float(rng.choice([0.99, 0.7]))  # 0.7: nothing counts as silence
        found = texts(said(*parts, blank=blank), Endpointing(longest=6.0, search=3.0), search)
        assert len(found) > 2
        assert " ".join(found).split() == words


def test_without_a_pause_at_the_most_probable_blank_between_words() -> None:
    log_probs = said("abcdefgh ijkl mnop qrst uvwxyz", blank=0.7)
    between = len(said("abcdefgh ijkl mnop")) + 2  # the third frame of the space
    log_probs[between, 0] = np.log(0.75)
    rules = Endpointing(longest=len(log_probs) * STEP - 0.2, search=2.0)
    assert split(log_probs, rules, SEARCHES[0], TOKENIZER, STEP)[0] == (0, between)


def test_one_long_word_is_cut_before_it_or_at_last_within() -> None:
    rules = Endpointing(longest=4.0, search=1.0)
    assert texts(said("ab cd ", "e" + "fghij" * 9), rules)[0] == "ab cd"
    found = texts(said("abcde" * 20), rules)
    assert len(found) > 2
    assert "".join(found) == "abcde" * 20


def test_no_speech_is_not_searched_for_a_pause() -> None:
    rules = Endpointing(nothing=float("inf"), longest=2.0)
    segments = split(said(7.0), rules, SEARCHES[0], TOKENIZER, STEP)
    assert segments == [(0, 50), (50, 100), (100, 150), (150, 175)]


@pytest.mark.parametrize(
    "wrong", [{"nothing": 0}, {"after_digit": -1}, {"search": float("nan")}, {"blank": 1.0}]
)
def test_wrong_rules(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="endpointing"):
        Endpointing(**wrong)


# live


def pause(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def run(
    recognizer: Recognizer, rules: Endpointing, samples: np.ndarray, sizes: np.ndarray | list[int],
    method: str = "greedy",
) -> list[Event]:  # fmt: skip
    session, events = recognizer.stream(method=method, endpointing=rules), list[Event]()
    cuts = np.cumsum(sizes)
    for part in np.split(samples, cuts[cuts < len(samples)]):
        events += session.feed(part)
    return events + session.feed(samples[:0], last=True)


def finals(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


@pytest.mark.parametrize("seconds", [0.2, 0.7, 1.2, 1.8])
def test_letters_spoken_with_pauses(tones: Recognizer, seconds: float) -> None:
    letters = [speak(letter, gap=0.1) for letter in "abcde"]
    silence = pause(seconds - 0.2)
    sound = np.concatenate([part for letter in letters for part in (letter, silence)])
    assert finals(run(tones, Endpointing(), sound, [1600] * 200)) == ["a b c d e"]
    joined = ["a b c d e"] if seconds < 1.0 else list("abcde")
    assert finals(run(tones, Endpointing(after_digit=1.0), sound, [1600] * 200)) == joined
    words = np.concatenate([speak("ab", gap=0.1), silence, speak("cd", gap=0.1)])
    expected = ["ab cd"] if seconds < 1.0 else ["ab", "cd"]
    assert finals(run(tones, Endpointing(), words, [1600] * 200)) == expected


def long_talk() -> np.ndarray:
    rng = np.random.default_rng(4)
    parts = []
    for _ in range(40):
        word = "".join(rng.choice(list("abcde"), rng.integers(1, 5)))
        parts += [speak(word, gap=0.06, letter=0.14), pause(float(rng.choice([0.0, 0.1, 0.3])))]
    return np.concatenate(parts)


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "rescoring"])
def test_the_third_rule_in_any_pieces(tones: Recognizer, method: str) -> None:
    samples, rules = long_talk(), Endpointing(longest=6.0, search=2.0)
    whole = run(tones, rules, samples, [len(samples)], method)
    reasons = [event.reason for event in whole if isinstance(event, Endpoint)]
    assert reasons.count("longest") >= 4
    heard = " ".join(finals(whole)).split()
    assert heard == tones.transcribe(samples, method=method, longest=600.0).text.split()
    rng = np.random.default_rng(5)
    for largest in (900, 7000, 50_000):
        sizes = rng.integers(0, largest, 1 + 2 * len(samples) // largest)
        assert run(tones, rules, samples, sizes, method) == whole


@pytest.mark.parametrize("live", [False, True])
def test_segments_that_are_cut_without_a_pause_do_not_overlap(
    tones: Recognizer, live: bool
) -> None:
    request = Request(words=True, endpointing=Endpointing(longest=1.3, search=0.5))
    hear = tones.transcribe_live if live else tones.transcribe
    found = hear(speak("abcde" * 8, gap=0.0, letter=0.1), request)
    assert len(found.segments) > 3
    for spans in (found.segments, found.words):
        for before, after in itertools.pairwise(spans):
            assert before.start < before.end <= after.start + 1e-6


def test_a_session_of_any_chunk_cuts_at_the_same_places(tones: Recognizer) -> None:
    samples, rules = long_talk(), Endpointing(longest=6.0, search=2.0)
    expected = finals(run(tones, rules, samples, [1600] * 900))
    for chunk in (1, 7, 50):
        session, events = tones.stream(method="greedy", endpointing=rules, chunk=chunk), []
        events += session.feed(samples, last=True)
        assert finals(events) == expected


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "rescoring"])
@pytest.mark.parametrize(
    "rules", [Endpointing(after_speech=0.5), Endpointing(longest=5.0, search=2.0)]
)
def test_offline_by_the_same_rules(tones: Recognizer, rules: Endpointing, method: str) -> None:
    samples = np.concatenate([speak("abc de"), pause(1.7), speak("bad cab"), pause(0.3),
                              speak("a"), pause(1.5), speak("b ce bad cab")])  # fmt: skip
    request = Request(method=method, endpointing=rules)
    offline, live = tones.transcribe(samples, request), tones.transcribe_live(samples, request)
    assert [s.text for s in offline.segments] == [s.text for s in live.segments]
    assert len(offline.segments) > 2
    for one, other in zip(offline.words, live.words, strict=True):
        assert (one.start, one.end) == (
            pytest.approx(other.start, abs=0.05), pytest.approx(other.end, abs=0.05)
        )  # fmt: skip
