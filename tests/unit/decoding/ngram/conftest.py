"""The plain models that the tests compare with, and small texts."""

from __future__ import annotations

import importlib.util
import logging
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mynah.decoding.ngram import Trie
from mynah.decoding.ngram.scratch import Scratch
from mynah.decoding.ngram.train import Trained, TrainOptions, train

Sentences = list[list[str]]
# As the recogniser's own lower-case words, with one outside every vocabulary.
TOY = """\\data\\
ngram 1=6
ngram 2=6
ngram 3=3

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.4
-0.8\t</s>
-0.7\ta\t-0.3
-0.6\tb\t-0.2
-0.9\tc\t-0.25

\\2-grams:
-0.5\t<s> a\t-0.1
-0.4\ta b\t-0.15
-0.7\tb c\t-0.2
-0.3\tb </s>
-0.2\tc a
-0.6\tc b\t-0.12

\\3-grams:
-0.2\t<s> a b
-0.15\ta b </s>
-0.35\tb c a

\\end\\
"""


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """The module ``plain_ngram`` beside this file."""
    path = Path(__file__).with_name("plain_ngram.py")
    name = "mynah_tests_plain_ngram"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trigram model as an ARPA file."""
    path = tmp_path_factory.mktemp("toy") / "toy.arpa"
    path.write_text(TOY)
    return path


def _sentences(seed: int, words: str = "abcdefg", most: int = 60) -> Sentences:
    rng = random.Random(seed)
    words = words[: rng.randrange(2, len(words) + 1)]
    return [
        [rng.choice(words) for _ in range(rng.choice([1, 2, 3, 6, 15]))]
        for _ in range(rng.randrange(1, most))
    ]


@pytest.fixture(scope="session")
def sentences() -> Callable[..., Sentences]:
    """Random sentences of few words, from a seed."""
    return _sentences


@pytest.fixture(scope="session")
def trained() -> Callable[..., Trained]:
    """A model of sentences, all in memory; options as those of TrainOptions."""

    def make(sentences: Sequence[Sequence[str]], **options: Any) -> Trained:
        with Scratch(1 << 30) as scratch:
            return train((" ".join(s) for s in sentences), TrainOptions(**options), scratch)

    return make


@pytest.fixture(scope="session")
def grams() -> Callable[[Trie, Sequence[Any]], dict[tuple[str, ...], float]]:
    """The values (one array an order) of n-grams by their words."""

    def table(trie: Trie, values: Sequence[Any]) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for n, of_order in enumerate(values, start=1):
            rows = trie.rows(n, 0, len(trie.levels[n - 1])).tolist()
            texts = [tuple(trie.vocab[i] for i in row) for row in rows]
            found.update(zip(texts, np.asarray(of_order).tolist(), strict=True))
        return found

    return table


@pytest.fixture(scope="session")
def as_plain(plain: ModuleType, grams: Callable[..., Any]) -> Callable[[Trie], Any]:
    """A trie as a plain model."""

    def made(trie: Trie) -> Any:
        probs = grams(trie, [level.log_probs() for level in trie.levels])
        weights = grams(trie, [level.log_backoffs() for level in trie.levels[:-1]])
        return plain.Plain(list(trie.vocab), trie.order, probs, weights)

    return made


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Small texts have warnings that are not looked at."""
    caplog.set_level(logging.ERROR)
