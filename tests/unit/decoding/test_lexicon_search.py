"""The search for words against enumeration of all word sequences and alignments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest

from mynah.decoding import Hypothesis
from mynah.decoding.lexicon import Lexicon, make_lexicon
from mynah.decoding.lexicon_scores import rescore_words
from mynah.decoding.lexicon_search import LexiconSearch
from mynah.decoding.lexicon_tree import members
from mynah.errors import ConfigError, ModelError

UNITS = ("<blank>", "x", "y", "z")
ENTRIES = [("a", (1,)), ("b", (1, 2)), ("c", (2, 2)), ("d", (1, 2)), ("d", (3,)), ("e", (2, 3))]


class Model:
    """An n-gram model of random numbers."""

    def __init__(self, words: Sequence[str], seed: int, order: int) -> None:
        self.ids = {word: i for i, word in enumerate(["<s>", "</s>", "<unk>", *words])}
        shape = (len(self.ids),) * (order - 1)
        probs = np.random.default_rng(seed).dirichlet(np.ones(len(self.ids)), shape)
        self.table, self.order = np.log(probs), order

    def word_id(self, word: str) -> int:
        return self.ids.get(word, 2)

    def start(self) -> tuple[int, ...]:
        return (0,) * (self.order - 1)

    def score(self, state: tuple[int, ...], word: int) -> tuple[tuple[int, ...], float]:
        return (*state, word)[1:], float(self.table[(*state, word)])

    def end(self, state: tuple[int, ...]) -> float:
        return float(self.table[(*state, 1)])

    def sentence(self, words: Sequence[str]) -> float:
        state, total = self.start(), 0.0
        for word in words:
            state, score = self.score(state, self.word_id(word))
            total += score
        return total + self.end(state)

    def unigram(self, word: str) -> float:
        return float(np.logaddexp.reduce(self.table[..., self.word_id(word)].ravel()) - 2)


class Liking:
    """Scores a word by the word before it."""

    def start(self) -> str:
        return ""

    def extend(self, state: str, token: str) -> tuple[str, float]:
        return token, 2.0 if (state, token) == ("a", "e") else -0.5 * (token == "d")

    def finish(self, state: str) -> float:
        return 0.7 * (state == "b")

    def sentence(self, words: Sequence[str]) -> float:
        total = sum(self.extend(*pair)[1] for pair in zip(("", *words), words, strict=False))
        return total + self.finish(words[-1] if words else "")


def random_log_probs(seed: int, frames: int, vocab: int = 4, scale: float = 1.5) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, scale, (frames, vocab))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def make(lexicon: Lexicon, model: Model | None = None, **values: object) -> LexiconSearch:
    """A search that loses nothing."""
    wide = {"beam": 10**6, "margin": 1e9, "surprise": 1e9, "top_units": 99, "nbest_limit": 60}
    return LexiconSearch(lexicon, model, **(wide | values))  # type: ignore[arg-type]


def run(search: LexiconSearch, log_probs: np.ndarray) -> list[Hypothesis]:
    return search.nbest(search.advance(search.start(), log_probs))


def texts(hypothesis: Hypothesis) -> tuple[str, ...]:
    return tuple(text for text, _, _ in hypothesis.words)


@pytest.mark.parametrize("seed", range(14))
def test_equals_enumeration(plain_words: ModuleType, seed: int) -> None:
    boundary = 3 if seed % 5 == 1 else None
    lexicon = make_lexicon(ENTRIES, UNITS, boundary=boundary)
    model = Model(lexicon.words, seed, 2 + seed % 2) if seed % 3 else None
    if model is not None and seed % 4:
        lexicon = lexicon.with_costs(model.unigram)
    scorers = (Liking(),) if seed % 2 else ()

    def score(words: tuple[str, ...]) -> float:
        language = 0.0 if model is None else 1.3 * model.sentence(words)
        return language + 0.2 * len(words) + sum(s.sentence(words) for s in scorers)

    log_probs = random_log_probs(seed, 4)
    every = plain_words.all_words(log_probs, ENTRIES, score, boundary=boundary)
    search = make(lexicon, model, lm_weight=1.3, word_bonus=0.2, scorers=scorers)
    found = run(search, log_probs)
    assert found[0].score == pytest.approx(max(every.values()), abs=1e-9)
    assert every[texts(found[0])] == pytest.approx(found[0].score, abs=1e-9)
    scores = [hypothesis.score for hypothesis in found]
    assert scores == sorted(scores, reverse=True)
    assert len({texts(hypothesis) for hypothesis in found}) == len(found)
    best = sorted(every, key=every.__getitem__, reverse=True)[:10]
    assert len({texts(hypothesis) for hypothesis in found}.intersection(best)) >= 8
    for hypothesis in found:
        assert hypothesis.score <= every[texts(hypothesis)] + 1e-9
        assert hypothesis.added == pytest.approx(score(texts(hypothesis)))
        check_spans(hypothesis, lexicon)


def test_the_list_is_nearly_complete(plain_words: ModuleType) -> None:
    """An n-best list comes from what tokens left behind where they met: little is lost by that."""
    wanted = there = 0
    for seed in range(14):
        lexicon = make_lexicon(ENTRIES, UNITS, boundary=3 if seed % 5 == 1 else None)
        model = Model(lexicon.words, seed, 2 + seed % 2) if seed % 3 else None
        log_probs = random_log_probs(seed, 4)
        every = plain_words.all_words(
            log_probs,
            ENTRIES,
            lambda words, model=model: 0.0 if model is None else 1.3 * model.sentence(words),
            boundary=lexicon.boundary,
        )
        best = sorted(every, key=every.__getitem__, reverse=True)[:30]
        found = run(make(lexicon, model, lm_weight=1.3), log_probs)
        wanted += len(best)
        there += len({texts(hypothesis) for hypothesis in found}.intersection(best))
    assert there >= 0.96 * wanted


def check_spans(hypothesis: Hypothesis, lexicon: Lexicon) -> None:
    assert list(hypothesis.times) == sorted(set(hypothesis.times))
    assert len(hypothesis.times) == len(hypothesis.tokens) == len(hypothesis.token_confidences)
    at = 0
    for text, first, stop in hypothesis.words:
        assert all(token == lexicon.boundary for token in hypothesis.tokens[at:first])
        assert hypothesis.tokens[first:stop] in lexicon.units_of(text)
        at = stop
    assert all(token == lexicon.boundary for token in hypothesis.tokens[at:])


@pytest.mark.parametrize("blank_skip", [None, 0.6])
@pytest.mark.parametrize("beam", [5, 40])
def test_any_chunks_give_the_result_of_one_shot(beam: int, blank_skip: float | None) -> None:
    lexicon = make_lexicon(ENTRIES, UNITS, boundary=3)
    model = Model(lexicon.words, 1, 3)
    search = LexiconSearch(
        lexicon.with_costs(model.unigram), model, (Liking(),), beam=beam, unknown=2.0,
        blank_skip=blank_skip, blank_penalty=0.3,
    )  # fmt: skip
    rng = np.random.default_rng(beam)
    for seed in range(6):
        log_probs = random_log_probs(seed, 40, scale=2.5).astype(np.float32)
        whole = run(search, log_probs)
        assert run(search, log_probs) == whole
        state, first = search.start(), 0
        states = [state]
        while first < 40:
            stop = first + int(rng.integers(0, 7))
            state = search.advance(state, log_probs[first:stop])
            states.append(state)
            first = min(stop, 40)
        assert search.nbest(state) == whole
        # a state is a value: going on from an old one again changes neither
        middle = states[len(states) // 2]
        again = search.advance(middle, log_probs[middle.frames :])
        assert search.nbest(again)[0].score == pytest.approx(whole[0].score, abs=1e-9)
        assert search.nbest(state) == whole


def spoken(*units: int, vocab: int = 4, sure: float = 0.96) -> np.ndarray:
    """Frames that say ``units``, 0 being the blank."""
    probs = np.full((len(units), vocab), (1 - sure) / (vocab - 1))
    probs[np.arange(len(units)), units] = sure
    return np.log(probs)


def test_homophones_are_told_apart_by_the_model() -> None:
    lexicon = make_lexicon([("two", (1,)), ("too", (1,)), ("me", (2,)), ("one", (3,))], UNITS)
    model = Model(lexicon.words, 0, 2)
    model.table[:] = math.log(0.02)
    two, too, me, one = (model.word_id(word) for word in ("two", "too", "me", "one"))
    model.table[me, too] = model.table[one, two] = math.log(0.8)
    search = LexiconSearch(lexicon, model)
    assert texts(run(search, spoken(2, 0, 1, 0))[0]) == ("me", "too")
    assert texts(run(search, spoken(3, 0, 1, 0))[0]) == ("one", "two")
    assert texts(run(search, spoken(3, 0, 1, 0))[1]) == ("one", "too")


def test_a_word_that_the_lexicon_lacks_is_spelled() -> None:
    units = (*UNITS, "w")
    lexicon = make_lexicon([("a", (1,)), ("b", (2, 1)), ("w", (4, 4, 4))], units)
    log_probs = spoken(1, 0, 2, 2, 0, 4, 0, 2, 0, 1, vocab=5)
    assert "yw" not in texts(run(LexiconSearch(lexicon), log_probs)[0])

    def spell(spelled: tuple[int, ...]) -> tuple[str, float]:
        return "".join(units[unit] for unit in spelled), 0.5

    best = run(LexiconSearch(lexicon, unknown=2.0, unknown_unit=0.1, spell=spell), log_probs)[0]
    assert best.words == (("a", 0, 1), ("yw", 1, 3), ("b", 3, 5))
    assert best.spelled == (1.0, 0.5, 1.0)
    assert best.tokens == (1, 2, 4, 2, 1)
    assert best.times == (0, 2, 5, 7, 9)
    assert texts(run(LexiconSearch(lexicon, unknown=2.0), log_probs)[0]) == ("a", "<unk>", "b")
    dear = LexiconSearch(lexicon, unknown=40.0, margin=99.0)
    assert "<unk>" not in texts(run(dear, log_probs)[0]) and run(dear, log_probs)[0].spelled == ()
    nothing = LexiconSearch(lexicon, unknown=2.0, spell=lambda _: ("", 0.0))
    assert texts(run(nothing, log_probs)[0]) == ("a", "<unk>", "b")


@pytest.mark.parametrize("seed", range(12))
def test_unknown_words_equal_enumeration(plain_words: ModuleType, seed: int) -> None:
    """Any two units or more are a word too, at its price; the model knows it as <unk>."""
    entries = [("a", (1,)), ("b", (1, 2)), ("c", (2, 2, 1))]
    lexicon = make_lexicon(entries, UNITS[:3])
    model = Model(lexicon.words, seed, 2) if seed % 3 else None
    if model is not None and seed % 2:
        lexicon = lexicon.with_costs(model.unigram)
    price, unit_price = (0.3, 0.2) if seed % 4 else (2.0, 0.0)
    free = [("?" + "".join(map(str, units)), units)
            for size in (2, 3) for units in itertools.product((1, 2), repeat=size)]  # fmt: skip

    def score(words: tuple[str, ...]) -> float:
        language = 0.0 if model is None else 0.8 * model.sentence(words)
        unknown = [word for word in words if word[0] == "?"]
        language -= 0.8 * 0.5 * len(unknown) if model is not None else 0.0
        return language - sum(price + unit_price * (len(word) - 1) for word in unknown)

    log_probs = random_log_probs(seed, 3, vocab=3, scale=2.0)
    every = plain_words.all_words(log_probs, entries + free, score)

    def spell(units: tuple[int, ...]) -> tuple[str, float]:
        return "?" + "".join(map(str, units)), 0.5

    search = make(
        lexicon, model, lm_weight=0.8, lm_unknown=-0.5, unknown=price, unknown_unit=unit_price,
        spell=spell,
    )  # fmt: skip
    found = run(search, log_probs)
    assert found[0].score == pytest.approx(max(every.values()), abs=1e-9)
    assert any("?" in "".join(texts(hypothesis)) for hypothesis in found)
    for hypothesis in found:
        assert hypothesis.score <= every[texts(hypothesis)] + 1e-9
        expected = tuple(0.5 if text[0] == "?" else 1.0 for text in texts(hypothesis))
        assert hypothesis.spelled == (expected if 0.5 in expected else ())


def test_the_unit_between_words_belongs_to_none() -> None:
    lexicon = make_lexicon([("a", (1,)), ("b", (2,))], UNITS, boundary=3)
    best = run(LexiconSearch(lexicon), spoken(3, 1, 3, 3, 0, 3, 2, 0))[0]
    assert best.words == (("a", 1, 2), ("b", 4, 5))
    assert best.tokens == (3, 1, 3, 3, 2)
    assert best.token_confidences == pytest.approx((0.96,) * 5)


def test_a_word_that_has_only_begun_is_left_out() -> None:
    lexicon = make_lexicon([("a", (1,)), ("long", (2, 2, 3))], UNITS)
    search = LexiconSearch(lexicon, margin=3.0)
    state = search.advance(search.start(), spoken(1, 0, 2, 0))
    assert search.nbest(state) == [search.partial(state)]
    assert search.partial(state).words == (("a", 0, 1),)
    state = search.advance(state, spoken(2, 3))
    assert texts(search.nbest(state)[0]) == texts(search.partial(state)) == ("a", "long")


def test_nothing_gives_no_word() -> None:
    search = make(make_lexicon(ENTRIES, UNITS))
    assert search.nbest(search.start()) == [Hypothesis((), 0.0)]
    (best, *_) = run(search, spoken(0, 0, 0))
    assert best.tokens == () and best.words == ()
    assert search.nbest(search.start(), 0) == []
    assert len(run(make(make_lexicon(ENTRIES, UNITS), nbest_limit=3), spoken(1, 2, 3))) == 3


def test_skipping_sure_blanks_changes_little() -> None:
    lexicon = make_lexicon(ENTRIES, UNITS)
    log_probs = np.concatenate([spoken(0, 0, 0, sure=0.995), spoken(1, 2), spoken(0, sure=0.99)])
    exact = run(LexiconSearch(lexicon), log_probs)[0]
    skipped = run(LexiconSearch(lexicon, blank_skip=0.98), log_probs)[0]
    assert skipped.words == exact.words
    assert skipped.score == pytest.approx(exact.score)
    assert run(LexiconSearch(lexicon, blank_skip=1.0), log_probs)[0] == exact


def test_a_larger_model_scores_the_list_again() -> None:
    lexicon = make_lexicon(ENTRIES, UNITS)
    small, large = Model(lexicon.words, 1, 2), Model(lexicon.words, 2, 3)
    log_probs = random_log_probs(3, 5)
    with_small = run(make(lexicon, small, lm_weight=0.7), log_probs)
    again = rescore_words(with_small, large, 0.9, used=small, used_weight=0.7)
    assert [h.score for h in again] == sorted((h.score for h in again), reverse=True)
    direct = {texts(h): h for h in run(make(lexicon, large, lm_weight=0.9), log_probs)}
    for hypothesis in again:
        assert hypothesis.added == pytest.approx(0.9 * large.sentence(texts(hypothesis)))
    assert again[0].score == pytest.approx(direct[texts(again[0])].score)
    assert texts(again[0]) == texts(max(direct.values(), key=lambda h: h.score))


@pytest.mark.parametrize("beam", [4, 12, 60])
def test_what_is_left_out_early_would_not_be_kept(
    beam: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as when all children of all tokens are made."""

    def everything(
        search: LexiconSearch, nodes: np.ndarray, total: np.ndarray, steps: np.ndarray, _: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tree, owners = search.tree, np.arange(len(nodes))
        rows, children = members(tree.first[nodes], tree.count[nodes], owners)
        return rows, children, total[rows] + (steps[tree.unit[children]] + tree.gain[children])

    for seed in range(8):
        lexicon = make_lexicon(ENTRIES, UNITS, boundary=3 if seed % 2 else None)
        model = Model(lexicon.words, seed, 3)
        search = LexiconSearch(lexicon.with_costs(model.unigram), model, beam=beam, margin=6.0)
        log_probs = random_log_probs(seed, 40, scale=2.5)
        found = run(search, log_probs)
        with monkeypatch.context() as patch:
            patch.setattr(LexiconSearch, "_possible", everything)
            assert run(search, log_probs) == found


def test_a_small_beam_finds_clear_speech() -> None:
    lexicon = make_lexicon(ENTRIES, UNITS)
    for beam in (1, 2, 5):
        assert texts(run(LexiconSearch(lexicon, beam=beam), spoken(2, 3, 0, 2, 0, 2))[0]) == (
            "e",
            "c",
        )


@pytest.mark.parametrize(
    ("log_probs", "line"),
    [
        (np.full((2, 4), math.nan), "not numbers"),
        (np.full((2, 4), -math.inf), "frame 0 allow no word"),
        (np.zeros((2, 5)), "made for 4 units, the model has 5"),
    ],
)
def test_wrong_numbers_are_refused(log_probs: np.ndarray, line: str) -> None:
    with pytest.raises(ModelError, match=line):
        run(LexiconSearch(make_lexicon(ENTRIES, UNITS)), log_probs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam", 0),
        ("margin", 0.0),
        ("surprise", math.nan),
        ("top_units", 0),
        ("lm_weight", -1.0),
        ("word_bonus", math.inf),
        ("unknown", -1.0),
        ("unknown_unit", math.inf),
        ("blank_skip", 0.0),
        ("blank_penalty", math.nan),
    ],
)
def test_wrong_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        LexiconSearch(make_lexicon(ENTRIES, UNITS), **{name: value})  # type: ignore[arg-type]
