"""Prose to batches: what is in them, their order, and going on from any place."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mynah.data.config import DataConfig, SourceConfig  # noqa: E402
from mynah.data.items import Batch  # noqa: E402
from mynah.data.prose import (  # noqa: E402
    BEGINS,
    CASE,
    MARK,
    Errors,
    Prose,
    ProseLoader,
    read_prose,
)
from mynah.errors import ConfigError, InputError  # noqa: E402
from mynah.text.prose import UNKNOWN  # noqa: E402
from mynah.text.punctuation import feature_rows, hash_units  # noqa: E402

FEATURES = {"word": 1 << 30}
NONE = Errors(substitute=0.0, delete=0.0, insert=0.0)


@pytest.fixture(scope="module")
def text(repository: Path) -> Path:
    return repository / "tests" / "data" / "prose" / "en.txt"


def read(path: Path, **source: object) -> Prose:
    config = DataConfig(train=(SourceConfig(str(path), **source),))  # type: ignore[arg-type]
    return read_prose(config, config.train, "en")


def loader(prose: Prose, errors: Errors | None = None, **options: int) -> ProseLoader:
    config = DataConfig(max_frames=options.pop("max_frames", 64))
    return ProseLoader(prose, FEATURES, config, length=16, seed=7, errors=errors, **options)


def words(prose: Prose, rows: np.ndarray) -> list[int]:
    """Types of units by their rows."""
    known = {int(row): n for n, row in enumerate(feature_rows(prose.hashes, FEATURES)[:, 0])}
    return [known[int(row)] for row in rows]


def same(one: Batch | None, other: Batch | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("feats", "feat_lens", "tokens", "token_lens")
    )


def test_books_are_chosen(text: Path, tmp_path: Path) -> None:
    whole = read(text)
    title = "A short trip"
    trip, rest = read(text, where={"title": title}), read(text, exclude={"title": title})
    assert len(trip) + len(rest) == len(whole) and len(trip) > 100
    assert len(read(text, where={"title": title, "line": "<2"})) == 26
    assert len(read(text, repeat=2)) == 2 * len(whole)
    assert read(text, limit=3).lines.sum() == 3
    for name, opener in (("a.xz", lzma.open), ("a.gz", gzip.open)):
        with opener(tmp_path / name, "wb") as file:
            file.write(text.read_bytes())
        assert (read(tmp_path / name).types == whole.types).all()


def test_a_fraction_is_always_the_same_blocks(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("# T\n" + "".join(f"line number{n}.\n" for n in range(64 * 200)))
    some, again = read(path, fraction=0.3), read(path, fraction=0.3)
    assert (some.types == again.types).all()
    assert some.lines.sum() % 64 == 0 and 0.2 < some.lines.sum() / (64 * 200) < 0.4


def test_what_is_wrong_gets_one_line(text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a text has title and line, no column 'speaker'"):
        read(text, where={"speaker": "x"})
    with pytest.raises(InputError, match="no word in what is chosen of it"):
        read(text, where={"title": "nothing"})
    with pytest.raises(InputError, match="no such manifest"):
        read(tmp_path / "nowhere.txt")
    (tmp_path / "bad.xz").write_bytes(b"not xz")
    with pytest.raises(InputError, match="bad.xz: cannot be read"):
        read(tmp_path / "bad.xz")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "latin.txt")
    with pytest.raises(ConfigError, match="errors.insert: must be from 0 to 1, got 2"):
        Errors(insert=2)
    with pytest.raises(ConfigError, match="task.length: must be from 8 to data.max_frames, got 4"):
        ProseLoader(read(text), FEATURES, DataConfig(), length=4, seed=1, errors=None)


def test_the_development_set_is_the_text_in_order(text: Path) -> None:
    prose = read(text)
    found, marks, cases = [], [], []
    for batch in loader(prose).epoch(0):
        assert batch is not None
        for row, count in enumerate(batch.feat_lens.tolist()):
            found += words(prose, batch.feats[row, :count, 0].numpy())
            marks += batch.tokens[row, :count, MARK].tolist()
            cases += batch.tokens[row, :count, CASE].tolist()
            assert (batch.tokens[row, count:, :2] == UNKNOWN).all()
    assert found == prose.types.tolist()
    assert marks == prose.marks.tolist() and cases == prose.cases.tolist()


def test_sentences_begin_where_they_do(text: Path) -> None:
    prose = read(text, limit=4)
    (batch,) = loader(prose, max_frames=4096).epoch(0)
    assert batch is not None
    begins = [
        batch.tokens[row, place, BEGINS].item()
        for row, count in enumerate(batch.feat_lens.tolist())
        for place in range(count)
    ]
    expected = prose.lines.copy()
    expected[1:] |= np.isin(prose.marks[:-1], (2, 3, 4))
    assert begins == expected.tolist() and sum(begins) == 4


@pytest.mark.parametrize("errors", [Errors(), NONE])
def test_any_round_is_found_at_once(text: Path, errors: Errors) -> None:
    prose = read(text)
    whole = list(loader(prose, errors).epoch(3))
    assert len(whole) == loader(prose, errors).num_rounds(3) > 5
    for start in (1, 4, len(whole) - 1, len(whole)):
        rest = list(loader(prose, errors).epoch(3, start))
        assert len(rest) == len(whole) - start
        assert all(same(a, b) for a, b in zip(rest, whole[start:], strict=True))
    other = list(loader(prose, errors).epoch(4))
    assert not all(same(a, b) for a, b in zip(whole, other, strict=False))


def test_ranks_share_the_batches(text: Path) -> None:
    prose = read(text)
    alone = list(loader(prose, Errors()).epoch(0))
    ranks = [list(loader(prose, Errors(), rank=rank, world=3).epoch(0)) for rank in range(3)]
    assert len({len(rank) for rank in ranks}) == 1
    together = [batch for row in zip(*ranks, strict=True) for batch in row]
    assert all(same(a, b) for a, b in zip(alone, together, strict=False))
    assert together[len(alone) :] == [None] * (len(together) - len(alone))


def test_without_errors_words_are_those_of_the_text(text: Path) -> None:
    prose = read(text)
    sizes, seen = set(), set()
    spoken = " ".join(map(str, prose.types.tolist()))
    for batch in loader(prose, NONE).epoch(1):
        assert batch is not None
        for row, count in enumerate(batch.feat_lens.tolist()):
            found = words(prose, batch.feats[row, :count, 0].numpy())
            assert " ".join(map(str, found)) in spoken
            seen.update(found)
            sizes.add(count)
    assert len(sizes) > 8 and max(sizes) <= 16
    assert len(seen) > 0.8 * len(prose.hashes)


def test_errors_are_as_frequent_as_said(tmp_path: Path) -> None:
    path = tmp_path / "count.txt"
    path.write_text("".join(f"a{n} b{n} c{n} d{n}.\n" for n in range(3000)))
    prose = read(path)
    for kind, expected in (("substitute", 1.0), ("delete", 0.8), ("insert", 1.2)):
        share = {"substitute": 0.0, "delete": 0.0, "insert": 0.0, kind: 0.2}
        batches = list(
            loader(prose, Errors(**share, whole=0, from_start=0), max_frames=16).epoch(0)
        )
        clean = list(loader(prose, Errors(0, 0, 0, whole=0, from_start=0), max_frames=16).epoch(0))
        counts = [sum(int(b.feat_lens.sum()) for b in some if b) for some in (batches, clean)]
        assert counts[0] / counts[1] == pytest.approx(expected, abs=0.05)
        ends = [sum(int((b.tokens[..., MARK] == 2).sum()) for b in some if b)
                for some in (batches, clean)]  # fmt: skip
        assert ends[0] / ends[1] == pytest.approx(1.0, abs=0.1), "lost words leave their marks"


def test_hashes_of_the_text_are_those_of_its_units(text: Path) -> None:
    assert (read(text, limit=1).hashes[:2] == hash_units(["every", "morning"])).all()
