"""n-gram models in searches: against all texts with the model's scores of whole sentences."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mynah.decoding import (
    Hypothesis,
    PrefixBeamSearch,
    UnitFusion,
    WordFusion,
    add_scores,
    attention_beam_search,
    fuse,
)
from mynah.decoding.ngram import NgramModel, load_ngram
from mynah.decoding.scorer import score_tokens
from mynah.errors import ConfigError
from spelling import BYTES, Pieces, letters, pieces

WORDS = """\\data\\
ngram 1={n1}
ngram 2={n2}

\\1-grams:
-1.5\t<unk>
0\t<s>\t-0.4
-1.1\t</s>
{unigrams}

\\2-grams:
{bigrams}

\\end\\
"""


def arpa(path: Path, unigrams: dict[str, tuple[float, float]], bigrams: dict[str, float]) -> Path:
    ones = [f"{log}\t{word}\t{backoff}" for word, (log, backoff) in unigrams.items()]
    twos = [f"{log}\t{pair}" for pair, log in bigrams.items()]
    text = WORDS.format(
        n1=len(ones) + 3, n2=len(twos), unigrams="\n".join(ones), bigrams="\n".join(twos)
    )
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    unigrams = {"a": (-0.7, -0.2), "ab": (-1.2, -0.5), "ba": (-0.9, 0.0), "北": (-1.0, -0.1)}
    bigrams = {"<s> ab": -0.3, "ab a": -0.2, "a </s>": -0.25, "ba ba": -0.6, "北 ab": -0.1}
    return load_ngram(arpa(tmp_path_factory.mktemp("lm") / "words.arpa", unigrams, bigrams))


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    unigrams = {"a": (-0.7, -0.2), "b": (-1.2, -0.5), "▁": (-0.9, 0.0)}
    bigrams = {"<s> b": -0.3, "b a": -0.2, "a </s>": -0.25, "▁ ▁": -3.0}
    return load_ngram(arpa(tmp_path_factory.mktemp("lm") / "units.arpa", unigrams, bigrams))


def expected_words(model: NgramModel, text: str, weight: float, bonus: float, unk: float) -> float:
    parts = text.split()
    unknown = sum(part not in model.vocab for part in parts)
    return weight * (model.score_sentence(parts) + unknown * unk) + bonus * len(parts)


@pytest.mark.parametrize(
    ("units_of_text", "text"),
    [
        ("", ""),
        ("a", "a"),
        ("▁ a b ▁ ▁ a", "ab a"),
        ("▁ca t ▁ b a ▁ba", "cat ba ba"),
        ("北 北 a b 北", "北 北 ab 北"),
        ("▁ab ▁", "ab"),
        ("<0x61> <0xE5> <0x8C> <0x97> b", "a 北 b"),
        ("a <unk> b", "a \ufffd b"),
    ],
)
def test_words_are_put_together(words: NgramModel, units_of_text: str, text: str) -> None:
    table = Pieces([*"abt", "北", "▁", "▁ca", "▁ba", "▁ab", *BYTES])
    scorer = WordFusion(words, table, weight=0.7, bonus=0.9, unknown=-2.0)
    tokens = table.spell(*units_of_text.split())
    expected = expected_words(words, text, 0.7, 0.9, -2.0)
    assert score_tokens(scorer, tokens) == pytest.approx(expected)
    state = scorer.start()
    for token in tokens:
        state, score = scorer.extend(state, token)
        assert score <= scorer.most


@pytest.mark.parametrize("level", ["word", "unit"])
@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_is_all_texts(
    plain: ModuleType, words: NgramModel, units: NgramModel, level: str, seed: int
) -> None:
    table = Pieces(["a", "b", "▁"], "char")  # with blank, unknown and the end: six units
    logits = np.random.default_rng(seed).normal(size=(4, len(table.units))) * 1.5
    logits[:, [table.unk, table.eos]] = -50.0
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    model = words if level == "word" else units
    scorer = fuse(model, table, weight=0.8, bonus=0.5, unknown=-1.0)
    assert isinstance(scorer, WordFusion if level == "word" else UnitFusion)  # found out
    every: dict[tuple[int, ...], float] = {}
    for tokens, entry in plain.all_prefixes(log_probs).items():
        if table.unk in tokens or table.eos in tokens:
            continue
        spelled = [table.units[token] for token in tokens]
        if level == "word":
            text = "".join(spelled).replace("▁", " ")
            lm = expected_words(model, text, 0.8, 0.5, -1.0)
        else:
            lm = 0.8 * model.score_sentence(spelled) + 0.5 * len(spelled)
        every[tokens] = entry["score"] + lm
    search = PrefixBeamSearch(5000, 6, scorers=(scorer,))
    found = search.nbest(search.advance(search.start(), log_probs))
    known = {h.tokens: h for h in found if h.tokens in every}
    assert len(known) == len(every)
    for tokens, score in every.items():
        assert known[tokens].score == pytest.approx(score, abs=1e-9)
    assert found[0].tokens == max(every, key=every.__getitem__)


@pytest.mark.parametrize("level", ["word", "unit"])
def test_attention_search_and_second_pass(words: NgramModel, units: NgramModel, level: str) -> None:
    table = Pieces(["a", "b", "▁"], "char")
    scorer = fuse(words if level == "word" else units, table, weight=0.8, bonus=0.5)

    def step(tokens: np.ndarray, parents: np.ndarray) -> np.ndarray:
        logits = np.stack([np.random.default_rng((7, t)).normal(size=6) for t in tokens])
        logits[:, :2] = -math.inf
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    options = {"sos": table.eos, "eos": table.eos, "max_len": 4, "beam": 500}
    alone = attention_beam_search(step, **options)
    found = attention_beam_search(step, **options, scorers=(scorer,))
    ranked = add_scores(alone, (scorer,))
    assert len(ranked) == len(found) > 80
    assert found[0].tokens == ranked[0].tokens
    assert [h.tokens for h in ranked] != [h.tokens for h in alone]
    expected = {h.tokens: h for h in ranked}
    for hypothesis in found:
        same = expected[hypothesis.tokens]
        assert hypothesis.score == pytest.approx(same.score)
        assert hypothesis.added == pytest.approx(same.added)
        assert hypothesis.confidence == pytest.approx(same.confidence)
    assert add_scores(alone, ()) == alone


def test_second_pass_keeps_what_was_added(words: NgramModel) -> None:
    table = letters()
    scorer = fuse(words, table, weight=1.0)
    first = Hypothesis(tuple(table.encode("ab a")), -3.0, added=2.0)
    (second,) = add_scores([first], [scorer])
    more = words.score_sentence(["ab", "a"])
    assert second.score == pytest.approx(-3.0 + more)
    assert second.added == pytest.approx(2.0 + more)


def test_streamed_equals_whole(words: NgramModel) -> None:
    table = pieces()
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(70, len(table.units))) * 2
    logits[:, 0] += 4
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    search = PrefixBeamSearch(scorers=(fuse(words, table, weight=0.5, bonus=1.0),))
    whole = search.nbest(search.advance(search.start(), log_probs))
    state = search.start()
    for chunk in np.split(log_probs, [1, 2, 30, 31, 69]):
        state = search.advance(state, chunk)
        search.nbest(state)
    assert search.nbest(state) == whole


def test_case_follows_the_vocabulary(words: NgramModel) -> None:
    table = Pieces(["A", "B", "▁"], "char")
    scorer = fuse(words, table, weight=1.0)
    found = score_tokens(scorer, table.spell("A", "B", "▁", "A"))
    assert found == pytest.approx(words.score_sentence(["ab", "a"]))


def test_models_that_do_not_fit(words: NgramModel, units: NgramModel) -> None:
    phones = Pieces(["AA", "B"], "phone")
    with pytest.raises(ConfigError, match="phones"):
        fuse(words, phones, weight=1.0)
    with pytest.raises(ConfigError, match="none of its words is a unit"):
        fuse(words, phones, weight=1.0, level="unit")
    assert isinstance(fuse(units, letters(), weight=1.0, level="word"), WordFusion)
