"""Words from their phones, against all ways to write them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from mynah.decoding.ngram import NgramModel, load_ngram, save_ngram
from mynah.decoding.ngram.train import TrainOptions, scratch_for, train
from mynah.errors import ModelError
from mynah.runtime.spelling import Speller, Spelling
from mynah.text.graphones import graphones, split_graphone

WORDS = {
    "night": "n ay t", "light": "l ay t", "knight": "n ay t", "bite": "b ay t", "kite": "k ay t",
    "box": "b aa k s", "fox": "f aa k s", "bat": "b ae t", "cat": "k ae t", "kit": "k ih t",
    "lit": "l ih t", "bit": "b ih t", "fit": "f ih t", "fight": "f ay t", "tin": "t ih n",
    "hi": "hh ay", "pi": "p ay", "xo": "k ow", "on": "aa n",
}  # fmt: skip


def make(folder: Path, lines: list[str], order: int = 3) -> NgramModel:
    options = TrainOptions(order=order)
    with scratch_for(options) as scratch:
        save_ngram(train(lines, options, scratch).trie, folder / "m.ngram", bits=32)
    return load_ngram(folder / "m.ngram")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    pairs = [(word, tuple(phones.split())) for word, phones in WORDS.items()]
    lines = [" ".join(names) for _, names in graphones(pairs, min_count=1)]
    return make(tmp_path_factory.mktemp("spelling"), lines)


def every_way(model: NgramModel, phones: tuple[str, ...]) -> dict[str, float]:
    """Probabilities of all spellings: every sequence of graphones with these phones."""
    names = [name for name in model.vocab if split_graphone(name)[1]]
    found: dict[str, float] = {}
    for count in range(1, len(phones) + 1):
        for chosen in itertools.product(names, repeat=count):
            parts = [split_graphone(name) for name in chosen]
            if tuple(p for _, sounds in parts for p in sounds) == phones:
                letters = "".join(text for text, _ in parts)
                score = model.score_sentence(chosen)
                found[letters] = float(np.logaddexp(found.get(letters, -math.inf), score))
    whole = np.logaddexp.reduce(list(found.values()))
    return {letters: math.exp(score - whole) for letters, score in found.items()}


@pytest.mark.parametrize("phones", [("k", "s"), ("b", "ay", "t"), ("n", "ay"), ("f", "ih", "t")])
def test_equals_enumeration(model: NgramModel, phones: tuple[str, ...]) -> None:
    every = every_way(model, phones)
    found = Speller(model, beam=10**6, margin=1e9)(phones)
    assert {s.letters: s.probability for s in found} == pytest.approx(every, abs=1e-6)
    assert [s.probability for s in found] == sorted(every.values(), reverse=True) or len(found) > 9
    assert found[0].letters == max(every, key=every.__getitem__)
    narrow = Speller(model, beam=4)(phones)
    assert narrow[0].letters == found[0].letters and len(narrow) <= 4


def test_ways_that_are_written_alike_add_up(tmp_path: Path) -> None:
    lines = ["i:ih g:g", "ig:ih_g", "i:ih g:g", "y:ih g:g", "y:ih g:g", "y:ih g:g"]
    model = make(tmp_path, lines, order=2)
    every = every_way(model, ("ih", "g"))
    found = Speller(model)(("ih", "g"))
    assert {s.letters: s.probability for s in found} == pytest.approx(every, abs=1e-6)
    assert set(every) == {"ig", "yg"}


def test_words_never_seen(model: NgramModel) -> None:
    speller = Speller(model)

    def spell(phones: str) -> tuple[Spelling, ...]:
        return speller(phones.split())

    assert spell("t ay t")[0].letters in ("tight", "tite", "tit")
    assert spell("l aa k s")[0].letters == "lox"
    assert spell("b ih n")[0].letters == "bin"
    assert spell("l aa k s") is spell("l aa k s"), "remembered"
    assert 0 < spell("t ay t")[0].probability < 1


def test_what_cannot_be_written_has_no_spelling(model: NgramModel) -> None:
    assert Speller(model)(["zh"]) == Speller(model)([]) == ()


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no graphones"):
        Speller(make(tmp_path, ["the cat sat", "a cat"]))
