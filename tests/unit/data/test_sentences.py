"""Texts to batches of sentences: their units, what is in a batch, and going on from any place."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sentencepiece")

from mynah.data.config import DataConfig, SourceConfig  # noqa: E402
from mynah.data.items import Batch  # noqa: E402
from mynah.data.sentences import SentenceLoader, Sentences, encode, read_sentences  # noqa: E402
from mynah.errors import ConfigError, InputError  # noqa: E402
from mynah.text import Tokenizer, normalize_for_scoring, train_bpe  # noqa: E402
from mynah.text.characters import SPACE  # noqa: E402
from mynah.text.titles import as_said  # noqa: E402


@pytest.fixture(scope="module")
def text(repository: Path) -> Path:
    return repository / "tests" / "data" / "prose" / "en.txt"


@pytest.fixture(scope="module")
def tokenizer(text: Path) -> Tokenizer:
    return train_bpe(text.read_text("utf-8").splitlines(), 120, language="en")


@pytest.fixture(scope="module")
def sentences(text: Path, tokenizer: Tokenizer) -> Sentences:
    return encode(text.read_text("utf-8").splitlines(), tokenizer)


def loader(
    sentences: Sentences,
    tokenizer: Tokenizer,
    *,
    longest: int = 200,
    cut: float = 0.0,
    training: bool = True,
    rank: int = 0,
    world: int = 1,
) -> SentenceLoader:
    config = DataConfig(max_frames=600, max_items=12)
    return SentenceLoader(
        sentences, tokenizer, config, longest=longest, cut=cut, seed=7, training=training,
        rank=rank, world=world,
    )  # fmt: skip


def rows(batches: list[Batch | None]) -> list[tuple[int, ...]]:
    return [
        tuple(row[:length].tolist())
        for batch in batches
        if batch is not None
        for row, length in zip(batch.tokens, batch.token_lens.tolist(), strict=True)
    ]


def whole(sentences: Sentences) -> list[tuple[int, ...]]:
    edges = sentences.starts.tolist()
    return [tuple(sentences.units[a:b].tolist()) for a, b in pairwise(edges)]


def test_units_are_those_of_the_lines(text: Path, tokenizer: Tokenizer) -> None:
    lines = [*text.read_text("utf-8").splitlines(), "", "...", "Well-known  things, don't they?"]
    found = whole(encode(lines, tokenizer))
    said = [as_said(normalize_for_scoring(line), "en") for line in lines]
    assert any("mister" in line for line in said)
    expected = [tuple(tokenizer.encode(line)) for line in said]
    assert found == [units for units in expected if units]
    assert len(found) > 40


def test_every_sentence_comes_once_an_epoch(sentences: Sentences, tokenizer: Tokenizer) -> None:
    for training in (True, False):
        batches = list(loader(sentences, tokenizer, training=training).epoch(0))
        assert sorted(rows(batches)) == sorted(whole(sentences))
    for batch in batches:
        assert batch is not None
        size = batch.tokens.shape[1]
        assert len(batch.ids) * (size + 1) <= 600 and len(batch.ids) <= 12
        assert size == int(batch.token_lens.max())
        behind = torch.arange(size) >= batch.token_lens[:, None]
        assert not batch.tokens[behind].any()


def test_sentences_are_cut_before_words(sentences: Sentences, tokenizer: Tokenizer) -> None:
    begins = [unit.startswith(SPACE) for unit in tokenizer.units]
    cut = loader(sentences, tokenizer, cut=0.7)
    first, second = rows(list(cut.epoch(0))), rows(list(cut.epoch(1)))
    assert sorted(first) != sorted(second)  # other cuts
    assert 1.4 * len(sentences) < len(first) <= 1.7 * len(sentences) + 8
    for found in (first, second):
        assert sum(map(len, found)) == len(sentences.units)
        assert all(begins[row[0]] for row in found)
    every = rows(list(loader(sentences, tokenizer, longest=9).epoch(0)))
    assert max(map(len, every)) <= 9 and sum(map(len, every)) == len(sentences.units)
    assert sum(begins[row[0]] for row in every) > 0.95 * len(every)  # few words are longer
    assert cut.num_rounds(0) == len(list(cut.epoch(0)))
    # only training cuts
    assert rows(list(loader(sentences, tokenizer, cut=0.7, training=False).epoch(3))) == rows(
        list(loader(sentences, tokenizer, training=False).epoch(0))
    )


def test_a_place_is_found_at_once(sentences: Sentences, tokenizer: Tokenizer) -> None:
    batches = rows(list(loader(sentences, tokenizer, cut=0.3).epoch(2)))
    fresh = loader(sentences, tokenizer, cut=0.3)
    tail = rows(list(fresh.epoch(2, 3)))
    assert tail == batches[-len(tail) :] and len(tail) < len(batches)
    assert rows(list(fresh.epoch(1))) != batches
    ranks = (loader(sentences, tokenizer, cut=0.3, rank=rank, world=3) for rank in range(3))
    shares = [list(one.epoch(2)) for one in ranks]
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for share in shares for row in rows(share)) == sorted(batches)


def test_units_are_kept(text: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    copy = tmp_path / "some.txt"
    copy.write_text(text.read_text("utf-8"), "utf-8")
    config = DataConfig(root=str(tmp_path), train=(SourceConfig("some.txt", repeat=2),))
    first = read_sentences(config, config.train, tokenizer, tmp_path / "kept")
    copy.unlink()  # no longer needed
    second = read_sentences(config, config.train, tokenizer, tmp_path / "kept")
    assert np.array_equal(first.units, second.units)
    assert np.array_equal(first.starts, second.starts)
    other = (SourceConfig("some.txt"),)
    with pytest.raises(InputError, match="the set 'some.txt' is not under"):
        read_sentences(config, other, tokenizer, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    for damaged in (kept.read_bytes()[:-40], b"nonsense"):
        kept.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read") as caught:
            read_sentences(config, config.train, tokenizer, tmp_path / "kept")
        assert "\n" not in str(caught.value)


def test_wrong_values_get_one_line(sentences: Sentences, tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"task.longest: must be from 4 to data.max_frames"):
        loader(sentences, tokenizer, longest=600)
