"""Hotwords: what a text gains, however it is spelled, streamed or interrupted; and their lists."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.decoding import Hotwords, Hypothesis, PrefixBeamSearch, attention_beam_search
from mynah.decoding.hotwords import HotwordScorer
from mynah.decoding.scorer import score_tokens
from mynah.decoding.unit_text import ALONE, stands_alone
from mynah.errors import ConfigError, InputError
from mynah.text import characters
from spelling import Pieces, letters, pieces

CHARS, BPE = letters(), pieces()


def gain(hotwords: Sequence[str], text: str, table: Pieces = CHARS, cap: float = 1000.0) -> float:
    """What hotwords of weight 1 a unit give to the whole of a text."""
    scorer = Hotwords.parse(hotwords, weight=1.0).scorer(table, cap)
    return score_tokens(scorer, table.encode(text))


def test_a_whole_phrase_has_its_weight_for_each_unit_and_a_part_nothing() -> None:
    assert gain(["new york"], "new york") == pytest.approx(8)  # the space is a unit
    assert gain(["new york=2.5"], "in new york now") == pytest.approx(20)
    for text in ("new", "new yor", "new yorker", "ew york", "anew york", "newyork", "york new", ""):
        assert gain(["new york"], text) == pytest.approx(0), text
    assert gain(["york"], "york york") == pytest.approx(8)


def test_what_is_lent_before_the_end_is_given_back() -> None:
    scorer = Hotwords.parse(["cat"], 1.0).scorer(CHARS)
    state, sums = scorer.start(), [0.0]
    for token in CHARS.encode("cate a cat"):
        state, score = scorer.extend(state, token)
        sums.append(sums[-1] + score)
    assert sums[1:] == pytest.approx([1, 2, 3, 0, 0, 0, 0, 1, 2, 3])
    assert scorer.finish(state) == pytest.approx(0)


def test_nested_and_overlapping_phrases_give_a_letter_once() -> None:
    nested = ["new york city", "new york", "york"]
    for text, expected in [
        ("new york city", 13),
        ("new york", 8),
        ("york", 4),
        ("york city", 4),
        ("new york new york city", 21),
        ("new york citys", 8),
    ]:
        assert gain(nested, text) == pytest.approx(expected), text
    assert gain(["a b", "b c"], "a b c") == pytest.approx(3 * 1.5)  # three units on two letters
    assert gain(["a b", "b c=2"], "a b c") == pytest.approx(1.5 + 3 + 3)


def test_words_begin_and_end_where_words_do() -> None:
    for text in ("category", "bobcat", "bobcats", "concatenate"):
        assert gain(["cat"], text) == 0, text
    assert gain(["cat"], "cat's cat") == pytest.approx(6)  # an apostrophe ends a word
    assert gain(["york"], "new-york".replace("-", " ")) == pytest.approx(4)


def test_hanzi_begin_and_end_anywhere() -> None:
    assert gain(["北京"], "上海北京人民", BPE) == pytest.approx(2 * len(BPE.encode("北京")) / 2)
    assert gain(["北 京"], "北京", BPE) == pytest.approx(len(BPE.encode("北 京")))
    assert gain(["京人"], "北京人", BPE) == gain(["京人"], "京人", BPE) > 0
    assert gain(["北京 cat"], "北京cat", BPE) == pytest.approx(len(BPE.encode("北京 cat")))


def test_all_ways_to_write_a_phrase_are_the_same() -> None:
    scorer = Hotwords.parse(["new york", "cat"], 1.0).scorer(BPE)
    cuts = list(BPE.all_cuts("▁new▁york"))
    assert len(cuts) > 10
    for cut in cuts:
        assert score_tokens(scorer, cut) == pytest.approx(len(BPE.encode("new york")))
    for cut in islice(BPE.all_cuts("▁category"), 40):
        assert score_tokens(scorer, cut) == pytest.approx(0)
    as_bytes = BPE.spell("<0x20>", *(f"<0x{byte:02X}>" for byte in b"new"), "▁york")
    assert score_tokens(scorer, as_bytes) == pytest.approx(len(BPE.encode("new york")))


def test_characters_of_several_bytes() -> None:
    scorer = Hotwords.parse(["café"], 1.0).scorer(BPE)
    whole = BPE.encode("café")
    assert len(whole) > 3  # é is two bytes
    assert score_tokens(scorer, whole) == pytest.approx(len(whole))
    assert score_tokens(scorer, whole[:-1]) == pytest.approx(0)  # half a character
    assert score_tokens(scorer, [*whole[:-1], *BPE.spell("a")]) == pytest.approx(0)


def test_the_cap() -> None:
    for cap in (1.0, 5.0, 100.0):
        assert gain(["new york", "york"], "new york", cap=cap) == pytest.approx(
            # york alone may give its letters more than the long phrase does
            sum(max(min(8, cap) / 7, min(4, cap) / 4 * (i >= 3)) for i in range(7))
        )
        assert gain(["new york"], "new york", cap=cap) == pytest.approx(min(8, cap))
    for cap in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="hotword_cap"):
            Hotwords.parse(["a"]).scorer(CHARS, cap)


WORDS = ("a", "ab", "ba", "b", "abc", "cab")
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
lists = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
        st.sampled_from([0.5, 1.0, 2.5]),
    ),
    min_size=1,
    max_size=5,
)


def by_hand(phrases: Sequence[tuple[str, float]], text: str, cap: float) -> float:
    """Letters covered by whole occurrences, each worth the best of them."""
    worth = [0.0] * len(text)
    for phrase, weight in phrases:
        count = len(phrase.replace(" ", ""))
        share = min(weight * len(CHARS.encode(phrase)), cap) / count
        for match in re.finditer(rf"(?<!\S)(?={re.escape(phrase)}(?!\S))", text):
            for i in range(match.start(), match.start() + len(phrase)):
                worth[i] = max(worth[i], share if text[i] != " " else 0.0)
    return sum(worth)


@settings(max_examples=300, deadline=None)
@given(phrases=lists, text=texts, cap=st.sampled_from([2.0, 100.0]))
def test_against_looking_for_whole_words(
    phrases: list[tuple[str, float]], text: str, cap: float
) -> None:
    scorer = Hotwords(tuple(phrases)).scorer(CHARS, cap)
    assert score_tokens(scorer, CHARS.encode(text)) == pytest.approx(by_hand(phrases, text, cap))
    backwards = Hotwords(tuple(reversed(phrases))).scorer(CHARS, cap)
    assert backwards is not scorer or len(phrases) == 1 or phrases == phrases[::-1]
    state, other = scorer.start(), backwards.start()
    for token in CHARS.encode(text):
        state, score = scorer.extend(state, token)
        other, again = backwards.extend(other, token)
        assert again == pytest.approx(score)
        assert score <= scorer.most + 1e-9


@settings(max_examples=200, deadline=None)
@given(phrases=lists, text=texts)
def test_whole_words_as_tokens(phrases: list[tuple[str, float]], text: str) -> None:
    scorer = Hotwords(tuple(phrases)).word_scorer(CHARS, 1000.0)
    words, worth = text.split(), [0.0] * len(text.split())
    for phrase, weight in phrases:
        parts = phrase.split()
        share = weight * len(CHARS.encode(phrase)) / len(parts)
        for start in range(len(words) - len(parts) + 1):
            if words[start : start + len(parts)] == parts:
                for i in range(start, start + len(parts)):
                    worth[i] = max(worth[i], share)
    state, total = scorer.start(), 0.0
    for word in words:
        state, score = scorer.extend(state, word)
        total += score
        assert score <= scorer.most + 1e-9
    assert total + scorer.finish(state) == pytest.approx(sum(worth))


def test_words_in_another_form() -> None:
    scorer = Hotwords.parse(["New York", "北京"], 1.0).word_scorer()
    assert scorer.words == ("new", "york", "北", "京")
    state, score = scorer.extend(scorer.start(), "new")
    assert score == pytest.approx(1)  # without a tokenizer, a weight is for a word
    state, score = scorer.extend(state, "york")
    assert score == pytest.approx(1) and scorer.finish(state) == pytest.approx(0)
    state, score = scorer.extend(scorer.start(), "北")
    assert score == pytest.approx(1)
    with pytest.raises(InputError, match="no word"):
        Hotwords.parse(["?"]).word_scorer(normalize=lambda text: text.strip("?"))


# --- in searches


def log_probs_of(*frames: dict[str, float]) -> np.ndarray:
    """Frames of given probabilities, the rest spread over all units."""
    rows = np.full((len(frames), len(CHARS.units)), 1e-5)
    for row, frame in zip(rows, frames, strict=True):
        for unit, prob in frame.items():
            row[CHARS.ids[unit]] = prob
    return np.log(rows / rows.sum(axis=1, keepdims=True))


def heard(first: str, second: str, share: float = 0.7) -> np.ndarray:
    """Both words at once, the first louder, a blank between letters."""
    frames: list[dict[str, float]] = []
    for one, other in zip(first, second, strict=True):
        frames += [{one: share, other: 1 - share}, {"<blank>": 0.9}]
    return log_probs_of(*frames)


def decode(log_probs: np.ndarray, hotwords: Sequence[str]) -> list[str]:
    search = PrefixBeamSearch(scorers=(Hotwords.parse(hotwords, 2.0).scorer(CHARS),))
    found = search.nbest(search.advance(search.start(), log_probs))
    return ["".join(CHARS.units[t] for t in h.tokens).replace("▁", " ") for h in found]


def test_a_search_prefers_the_phrase() -> None:
    log_probs = heard("cat▁sat", "bat▁cap")
    plain = PrefixBeamSearch()
    best = plain.nbest(plain.advance(plain.start(), log_probs))[0]
    assert "".join(CHARS.units[t] for t in best.tokens) == "cat▁sat"
    assert decode(log_probs, ["bat"])[0] == "bat sat"
    assert decode(log_probs, ["cat cap", "ca"])[0] == "cat cap"
    assert decode(log_probs, ["ba", "bats", "sa"])[0] == "cat sat"  # parts of words


def test_streamed_equals_whole() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(80, len(BPE.units))) * 2
    logits[:, 0] += 4
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    hotwords = Hotwords.parse(["new york", "北京", "cat", "the"], 3.0)
    search = PrefixBeamSearch(scorers=(hotwords.scorer(BPE),))
    whole = search.nbest(search.advance(search.start(), log_probs))
    for cuts in ([40], [1, 2, 3, 50], list(range(80))):
        state = search.start()
        for chunk in np.split(log_probs, cuts):
            state = search.advance(state, chunk)
            search.nbest(state, 1)
        assert search.nbest(state) == whole


def test_in_attention_search() -> None:
    def step(tokens: np.ndarray, parents: np.ndarray) -> np.ndarray:
        logits = np.full((len(tokens), len(CHARS.units)), -20.0)
        for row, token in zip(logits, tokens.tolist(), strict=True):
            follows = {CHARS.eos: "cb", CHARS.ids["c"]: "a", CHARS.ids["b"]: "a"}
            for n, unit in enumerate(follows.get(token, ["t"])):
                row[CHARS.ids[unit]] = -float(n)
            if token == CHARS.ids["t"]:
                row[CHARS.eos] = 0.0
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def best(*scorers: HotwordScorer) -> Hypothesis:
        options = {"sos": CHARS.eos, "eos": CHARS.eos, "max_len": 8}
        return attention_beam_search(step, **options, beam=4, scorers=scorers)[0]

    def text(found: Hypothesis) -> str:
        return "".join(CHARS.units[t] for t in found.tokens)

    assert text(best())[0] == "c"
    preferred = best(Hotwords.parse(["bat"], 2.0).scorer(CHARS))
    assert text(preferred) == "bat" and preferred.added == pytest.approx(6)
    assert preferred.confidence is not None and 0 < preferred.confidence <= 1


# --- lists


def test_lists() -> None:
    found = Hotwords.parse(["New  York", "Shenzhen=3.5", " ada "], weight=1.5)
    assert found.phrases == (("New York", 1.5), ("Shenzhen", 3.5), ("ada", 1.5))
    assert len(found) == 3 and not Hotwords() and found == Hotwords(found.phrases)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# names\nNew York\n\n北京\t4\n  ada  \n", encoding="utf-8")
    assert Hotwords.read(path, 1.0).phrases == (("New York", 1.0), ("北京", 4.0), ("ada", 1.0))
    path.write_text("ada\nbob\tx\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"words\.txt:2: 'x' is not a weight"):
        Hotwords.read(path)
    path.write_text("ada\nbob\t-3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"words\.txt:2: hotwords: 'bob': weight -3.0"):
        Hotwords.read(path)
    for line in ("bob=3", "bob = 3.5", "bob=inf"):  # as on the command line
        path.write_text(f"ada\n{line}\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"words\.txt:2: .* a weight stands behind a tab"):
            Hotwords.read(path)
    path.write_text("e=mc\na=1\t2\n", encoding="utf-8")
    assert Hotwords.read(path, 1.0).phrases == (("e=mc", 1.0), ("a=1", 2.0))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        Hotwords.read(path)
    with pytest.raises(InputError, match="no such file"):
        Hotwords.read(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "an empty phrase"),
        ("  ", "an empty phrase"),
        ("=3", "an empty phrase"),
        ("ada=", "'' is not a weight"),
        ("ada=x", "'x' is not a weight"),
        ("ada=nan", "'nan' is not a weight"),
        ("ada=inf", "'inf' is not a weight"),
        ("ada=0", "weight 0.0 is not above 0"),
        ("ada=-1", "weight -1.0 is not above 0"),
        ("ada=1000", "weight 1000.0 is not above 0 and at most 100"),
        ("a" * 201, "has 201 characters"),
    ],
)
def test_wrong_entries(entry: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^hotwords: .*{re.escape(message)}"):
        Hotwords.parse([entry])


def test_what_a_model_cannot_write_is_refused() -> None:
    for table in (CHARS, letters(unknown=False)):
        with pytest.raises(InputError, match="'café' has characters that this model cannot write"):
            Hotwords.parse(["ada", "café"]).scorer(table)
    with pytest.raises(InputError, match="nothing of it can be written"):
        Hotwords.parse(["?!"]).scorer(letters(unknown=False))
    phones = Pieces(["AA", "B"], "phone")
    with pytest.raises(ConfigError, match="phones"):
        Hotwords.parse(["ada"]).scorer(phones)


def test_a_set_is_compiled_once() -> None:
    table = letters()
    one = Hotwords.parse(["ada", "bob"]).scorer(table)
    assert Hotwords.parse(["ada", "bob"]).scorer(table) is one
    assert Hotwords.parse(["ada", "bob"]).scorer(table, cap=5.0) is not one
    assert Hotwords.parse(["ada", "bob=3"]).scorer(table) is not one
    for n in range(20):
        Hotwords.parse([f"ada{'b' * n}"]).scorer(table)
    assert Hotwords.parse(["ada", "bob"]).scorer(table) is not one  # only the last are kept


def test_characters_are_those_of_the_text_room() -> None:
    every = "".join(map(chr, (c for c in range(0x30000) if not 0xD800 <= c < 0xE000)))
    assert ALONE.findall(every) == characters.ALONE.findall(every)
    assert stands_alone("-") and stands_alone("ไ") and not stands_alone("é")
    assert not stands_alone("\u0301") and not stands_alone("7")
