"""Language model files: written and read, damaged, hostile, and quantised."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mynah.decoding.ngram import Trie, load_ngram, load_trie, save_ngram
from mynah.decoding.ngram import arpa as arpa_module
from mynah.decoding.ngram import binary as binary_module
from mynah.decoding.ngram.coding import (
    codebook,
    pack_bits,
    pack_children,
    pack_numbers,
    unpack_bits,
    unpack_children,
    unpack_numbers,
)
from mynah.decoding.ngram.train import TrainOptions, scratch_for, train
from mynah.errors import ConfigError, InputError, ModelError


@pytest.fixture(scope="module")
def trie(trained: Callable[..., Any], sentences: Callable[..., Any]) -> Trie:
    return trained([s for i in range(20) for s in sentences(i, "abcdefghijk")], order=4).trie


def assert_same(a: Trie, b: Trie, tolerance: float) -> None:
    assert list(a.vocab) == list(b.vocab)
    assert a.counts == b.counts
    for x, y in zip(a.levels, b.levels, strict=True):
        np.testing.assert_array_equal(x.words, y.words)
        np.testing.assert_array_equal(x.first, y.first)
        np.testing.assert_allclose(x.log_probs(), y.log_probs(), atol=tolerance)
        np.testing.assert_allclose(x.log_backoffs(), y.log_backoffs(), atol=tolerance)


@pytest.mark.parametrize("name", ["m.arpa", "m.arpa.gz"])
def test_arpa_written_and_read(
    trie: Trie, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_ngram(trie, tmp_path / name)
    assert_same(trie, load_trie(tmp_path / name), 2e-5)
    first = (tmp_path / name).read_bytes()
    write = arpa_module.write_arpa
    monkeypatch.setattr("mynah.decoding.ngram.files.write_arpa", lambda t, s: write(t, s, block=3))
    save_ngram(trie, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    text = gzip.decompress(first) if name.endswith("gz") else first
    assert b"\n-99\t<s>\t" in text


@pytest.mark.parametrize("compact", [True, False])
def test_binary_without_loss(trie: Trie, tmp_path: Path, compact: bool) -> None:
    save_ngram(trie, tmp_path / "m.ngram", bits=32, compact=compact)
    assert_same(trie, load_trie(tmp_path / "m.ngram"), 0)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(("bits", "bound"), [(8, 0.02), (6, 0.1), (4, 0.5)])
def test_quantised_is_close(
    trie: Trie, tmp_path: Path, compact: bool, bits: int, bound: float
) -> None:
    """Every value within ``bound`` nats; a weight of 0 stays 0."""
    save_ngram(trie, tmp_path / "m.ngram", bits=bits, compact=compact)
    found = load_trie(tmp_path / "m.ngram")
    assert_same(trie, found, bound)
    for x, y in zip(trie.levels, found.levels, strict=True):
        np.testing.assert_array_equal(x.log_backoffs() == 0, y.log_backoffs() == 0)


def test_weights_of_nodes_without_children_are_kept(toy: Path, tmp_path: Path) -> None:
    """Other toolkits may write some; ``c b`` of the toy has one."""
    trie = load_trie(toy)
    save_ngram(trie, tmp_path / "m.ngram")
    assert_same(trie, load_trie(tmp_path / "m.ngram"), 1e-6)


@pytest.mark.parametrize("name", ["m.ngram", "m.arpa"])
@pytest.mark.parametrize("order", [1, 3])
def test_models_without_longer_ngrams(
    trained: Callable[..., Any], tmp_path: Path, name: str, order: int
) -> None:
    trie = trained([["a", "b"], ["b"]], order=order, prune=1e9).trie
    assert trie.counts == (5, 0, 0)[:order]
    for compact in (True, False):
        save_ngram(trie, tmp_path / name, compact=compact)
        assert_same(trie, load_trie(tmp_path / name), 1e-5)
        model = load_ngram(tmp_path / name)
        assert model.score_sentence(["a", "q"]) == pytest.approx(
            sum(model.score((), model.word_id(w))[1] for w in ("a", "q", "</s>"))
        )


def test_the_same_model_is_the_same_file(trie: Trie, tmp_path: Path) -> None:
    for name in ("a.ngram", "a.arpa.gz"):
        save_ngram(trie, tmp_path / name)
        once = (tmp_path / name).read_bytes()
        save_ngram(trie, tmp_path / name)
        assert (tmp_path / name).read_bytes() == once


def test_nothing_half_written(trie: Trie, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bits: must be 2 to 8, or 32, got 9"):
        save_ngram(trie, tmp_path / "m.ngram", bits=9)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_ngram(trie, tmp_path / "file" / "m.arpa")
    if Path("/dev/full").is_char_device():  # a device stays one, whatever is written to it
        with pytest.raises(InputError, match="/dev/full: cannot be written"):
            save_ngram(trie, "/dev/full")
        assert Path("/dev/full").is_char_device()


GRAMS = ["-1\t<unk>", "-99\t<s>\t-0.5", "-1\t</s>", "-1\ta\t-0.5", "\n\\2-grams:", "-1\t<s> a"]


def arpa(grams: list[str] = GRAMS, counts: str = "ngram 1=4\nngram 2=1\n") -> str:
    return "\\data\\\n" + counts + "\n\\1-grams:\n" + "\n".join(grams) + "\n\n\\end\\\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"no \\data\\: not an ARPA file"),
        ("hello\n" * 2000, "not an ARPA file"),
        (arpa()[:-8], "the file ends before"),
        (arpa(counts="ngram 1=4\nngram 2=2\n"), "line 13: 2 2-grams were announced, 1 are there"),
        (arpa(counts="ngram 1=4\nngram 2=0\n"), r"\\end\\ was expected"),
        (arpa(counts="ngram 1=999999999999999\nngram 2=1\n"), "999999999999999 1-grams were"),
        (arpa(counts="ngram 1=4\nngram 3=1\n"), "'ngram 2=COUNT' was expected"),
        (arpa(counts="ngram 1=-4\n"), "'ngram 1=COUNT' was expected"),
        (arpa(counts=""), "'ngram 1=COUNT' was expected"),
        (arpa(counts="".join(f"ngram {n}=1\n" for n in range(1, 99))), "orders above 16"),
        (arpa([g.replace("-1\ta", "one\ta") for g in GRAMS]), "line 9: no number: 'one'"),
        (arpa([g.replace("-1\ta", "nan\ta") for g in GRAMS]), "above 1, or no number"),
        (arpa([g.replace("-1\ta", "0.1\ta") for g in GRAMS]), "above 1, or no number"),
        (arpa([g.replace("-0.5", "inf") for g in GRAMS]), "above 1, or no number"),
        (arpa([g.replace("<s> a", "<s> b") for g in GRAMS]), "line 12: 'b' is no unigram"),
        (arpa([g.replace("<s> a", "a") for g in GRAMS]), "line 12: not a 2-gram: 2 fields"),
        (arpa([g.replace("<s> a", "<s> a 1 2") for g in GRAMS]), "not a 2-gram"),
        (arpa([g.replace("<unk>", "a") for g in GRAMS]), "unigram 'a' is there twice"),
        (arpa([g.replace("</s>", "x") for g in GRAMS]), "</s> is no unigram"),
        (arpa([*GRAMS, "-1\t<s> a"], "ngram 1=4\nngram 2=2\n"), "2-gram '<s> a' is there twice"),
        (arpa([*GRAMS, "\n\\3-grams:", "-1\ta a a"], "ngram 1=4\nngram 2=1\nngram 3=1\n"),
         "3-gram 'a a a': its first 2 words are no n-gram"),
        (arpa([*GRAMS[:3], "-1\t" + "a" * 70_000]), "longer than 65536 bytes"),
        (arpa([*GRAMS[:3], "-1\t\udc80", *GRAMS[4:5], "-1\t<s> </s>"]), "is not UTF-8"),
    ],
)  # fmt: skip
def test_hostile_arpa(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(text, "utf-8", errors="surrogateescape")
    with pytest.raises(ModelError, match=reason) as caught:
        load_ngram(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_arpa_in_other_spelling(tmp_path: Path) -> None:
    """Spaces for tabs, other line ends, -inf, blank lines before a section, no <unk>."""
    text = arpa(GRAMS[1:], "ngram  1 = 3\nngram 2=1\n").replace("\t", " ").replace("\n", "\r\n")
    path = tmp_path / "m.arpa"
    path.write_bytes(("a comment\n\n" + text.replace("-99", "-inf")).encode())
    model = load_ngram(path)
    assert model.score(model.null(), model.unk)[1] == pytest.approx(-230.26, abs=0.01)
    assert model.score(model.start(), model.word_id("a"))[1] == pytest.approx(-2.3026, abs=1e-4)


def test_damaged_gzip(tmp_path: Path, trie: Trie) -> None:
    save_ngram(trie, tmp_path / "m.arpa.gz")
    data = (tmp_path / "m.arpa.gz").read_bytes()
    (tmp_path / "m.arpa.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged gzip file"):
        load_ngram(tmp_path / "m.arpa.gz")


def attempt(path: Path) -> tuple[str, Trie | None]:
    try:
        return "", load_trie(path)
    except ModelError as error:
        return str(error), None


@pytest.mark.parametrize("compact", [True, False])
def test_any_damage_is_noticed(trie: Trie, tmp_path: Path, compact: bool) -> None:
    path = tmp_path / "m.ngram"
    save_ngram(trie, path, bits=7 if compact else 8, compact=compact)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [*range(64), *rng.integers(0, len(data), 300).tolist()]:
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        error, found = attempt(path)
        if found is None:
            assert len(error.splitlines()) == 1
        else:
            assert_same(trie, found, 0.1)  # what fills up a section
    for length in [0, 7, 8, 20, 64, len(data) // 2, len(data) - 64]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            load_trie(path)


def read_header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    found: dict[str, Any] = json.loads(data[16 : 16 + struct.unpack("<I", data[8:12])[0]])
    return found


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a binary file, its checksum made right."""
    data = path.read_bytes()
    length = struct.unpack("<I", data[8:12])[0]
    header = json.loads(data[16 : 16 + length])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-(16 + len(text)) % 64)
    head = data[:8] + struct.pack("<II", len(text), zlib.crc32(text))
    path.write_bytes(head + text + data[16 + length :])


def says(header: dict[str, Any], length: int) -> None:
    """A section that is said to have such a length before it was compressed."""
    header["sections"]["2.words"] = [*header["sections"]["2.words"][:3], length]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h.update(version=99), "format 99; this version reads 1 and 2"),
        (lambda h: h.update(counts=[10**15] * 4), "announced"),
        (lambda h: h.update(counts=[10**15]), "announced"),
        (lambda h: h.update(counts=[-1]), "whole numbers"),
        (lambda h: h.update(counts="many"), "no counts"),
        (lambda h: h.update(counts=[]), "no counts"),
        (lambda h: h.update(bits=0), "0 bits"),
        (lambda h: h.update(bits="8"), "'8' bits"),
        (lambda h: h.update(vocab_bytes=10**12), "absurd"),
        (lambda h: h.update(vocab_bytes=3), "another length"),
        (lambda h: h.pop("bits"), "no header"),
        (lambda h: h.update(sections=[1]), "no header"),
        (lambda h: h["sections"].pop("vocab"), "no section vocab"),
        (lambda h: h["sections"].update({"2.words": [0, 10**15, 0]}), "outside the file"),
        (lambda h: h["sections"].update({"2.words": [-64, 8, 0]}), "no section"),
        (lambda h: says(h, 10**12), "an absurd length"),
        (lambda h: says(h, -1), "no section"),
        (lambda h: says(h, 9), "2.words"),
        (lambda h: h["sections"].update({"2.words": h["sections"]["3.words"]}), "numbers instead"),
        (lambda h: h["sections"].update({"1.first": h["sections"]["2.first"]}), "-grams"),
        (lambda h: h["sections"].update({"1.prob_book": [0, 0, 0]}), "outside its book"),
    ],
)
def test_hostile_header(
    trie: Trie, tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    path = tmp_path / "m.ngram"
    save_ngram(trie, path)
    rewrite(path, change)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=reason) as caught:
            load_ngram(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1


def test_sections_are_compressed_where_that_is_worth_it(tmp_path: Path) -> None:
    text = [f"w{i % 50} w{i * 7 % 50} w{i * i % 50}" for i in range(3000)]
    options = TrainOptions(order=3)
    with scratch_for(options) as scratch:
        model = train(text, options, scratch).trie
    path, mapped = tmp_path / "m.ngram", tmp_path / "mapped.ngram"
    save_ngram(model, path, bits=4)
    save_ngram(model, mapped, bits=4, compact=False)
    lengths = [len(entry) for entry in read_header(path)["sections"].values()]
    assert 4 in lengths and {len(e) for e in read_header(mapped)["sections"].values()} == {3}
    assert_same(load_trie(path), load_trie(mapped), 1e-6)


def test_the_format_before_is_read(
    trie: Trie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.ngram"
    with monkeypatch.context() as patched:
        patched.setattr(binary_module, "_smaller", lambda data: data)
        save_ngram(trie, path)
    rewrite(path, lambda header: header.update(version=1))
    assert_same(trie, load_trie(path), 0.1)


def test_a_bomb_of_words_is_not_unpacked(trie: Trie, tmp_path: Path) -> None:
    path = tmp_path / "m.ngram"
    save_ngram(trie, path)
    bomb = zlib.compress(b"a" * (1 << 26))
    place = -(-path.stat().st_size // 64) * 64

    def change(header: dict[str, Any]) -> None:
        header["sections"]["vocab"] = [place, len(bomb), zlib.crc32(bomb)]

    rewrite(path, change)
    data = path.read_bytes()
    start = 16 + struct.unpack("<I", data[8:12])[0]
    path.write_bytes(data.ljust(start + place, b"\0") + bomb)
    tracemalloc.start()
    with pytest.raises(ModelError, match="another length"):
        load_ngram(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@given(st.integers(2, 8), st.lists(st.integers(0, 255)))
def test_bit_fields(bits: int, values: list[int]) -> None:
    codes = np.array(values, dtype=np.uint8) & ((1 << bits) - 1)
    packed = pack_bits(codes, bits)
    assert len(packed) == -(-len(codes) * bits // 8)
    np.testing.assert_array_equal(unpack_bits(packed, bits, len(codes)), codes)


@given(arrays(np.uint64, st.integers(0, 50), elements=st.integers(0, (1 << 35) - 1)))
def test_numbers(values: Any) -> None:
    packed = pack_numbers(values)
    np.testing.assert_array_equal(unpack_numbers(packed, len(values)), values)
    assert len(packed) == sum(max(-(-int(v).bit_length() // 7), 1) for v in values)


@pytest.mark.parametrize(
    ("packed", "count"), [([128], 1), ([1], 2), ([1, 1], 1), ([255] * 5 + [1], 1), ([1], 0)]
)
def test_numbers_that_are_none(packed: list[int], count: int) -> None:
    with pytest.raises(ValueError):
        unpack_numbers(np.array(packed, dtype=np.uint8), count)


@given(st.lists(st.sets(st.integers(0, 100_000), max_size=6), max_size=8))
def test_children(groups: list[set[int]]) -> None:
    words = np.array([w for group in groups for w in sorted(group)], dtype=np.int64)
    counts = np.array([len(group) for group in groups], dtype=np.int64)
    found = unpack_children(pack_children(words, counts), counts)
    np.testing.assert_array_equal(found, words)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_codebook(seed: int, bits: int) -> None:
    """As many values as were asked for, each value by the nearest; 0 is exact."""
    rng = np.random.default_rng(seed)
    values = -rng.exponential(3, 2000).astype(np.float32)
    values[rng.random(2000) < 0.1] = 0
    book, codes = codebook(values, bits, zero=True)
    assert len(book) <= 1 << bits
    assert ((book[codes] == 0) == (values == 0)).all()
    nearest = np.abs(values[:, None] - book[1:]).min(axis=1)
    error = np.abs(book[codes] - values)
    np.testing.assert_allclose(error[values != 0], nearest[values != 0], atol=1e-5)
    assert error.std() < 8 / (1 << bits)  # the best for this distribution is about 4.5


def test_codebook_of_few_values_is_exact() -> None:
    values = np.array([-1, -2, -2, -228, -1], dtype=np.float32)
    book, codes = codebook(values, 2)
    np.testing.assert_array_equal(book[codes], values)
