"""The lexicon: its tree against a plain one, its file, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.decoding.lexicon import Lexicon, make_lexicon, read_table
from mynah.decoding.lexicon_file import load_lexicon, save_lexicon
from mynah.decoding.lexicon_tree import make_search_tree
from mynah.errors import InputError, ModelError

UNITS = ("<blank>", "x", "y", "z", "|")
ENTRIES = [("b", (1, 2)), ("a", (1,)), ("c", (2, 2)), ("a", (3,)), ("two", (1, 2)), ("a", (1,))]

entries_of_any_kind = st.lists(
    st.tuples(
        st.text("abä", min_size=1, max_size=3),
        st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=12,
)


def walk(lexicon: Lexicon) -> set[tuple[str, tuple[int, ...]]]:
    """All words and spellings, read from the tree by its children alone."""
    tree, found = lexicon.tree, set()
    waiting: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while waiting:
        node, units = waiting.pop()
        for word in tree.word_ids[tree.word_first[node] : tree.word_first[node + 1]]:
            found.add((lexicon.words[word], units))
        children = range(tree.first[node], tree.first[node] + tree.count[node])
        assert [tree.parent[child] for child in children] == [node] * len(children)
        assert list(tree.unit[children.start : children.stop]) == sorted(
            {int(tree.unit[child]) for child in children}
        )
        waiting += [(child, (*units, int(tree.unit[child]))) for child in children]
    return found


@settings(max_examples=30, deadline=None)
@given(entries_of_any_kind)
def test_the_tree_holds_what_it_was_given(entries: list[tuple[str, tuple[int, ...]]]) -> None:
    lexicon = make_lexicon(entries, UNITS)
    assert walk(lexicon) == set(entries)
    prefixes = {units[:n] for _, units in entries for n in range(len(units) + 1)}
    assert len(lexicon.tree) == len(prefixes)
    assert set(lexicon.entries()) == set(entries)


@settings(max_examples=30, deadline=None)
@given(entries=entries_of_any_kind, random=st.randoms(use_true_random=False))
def test_order_does_not_matter_and_files_keep_all(entries, random, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.bin"
    lexicon = make_lexicon(entries, UNITS, boundary=4).with_costs(lambda word: -float(len(word)))
    save_lexicon(lexicon, path)
    again = load_lexicon(path)
    assert (again.words, again.spellings) == (lexicon.words, lexicon.spellings)
    assert again.owners.tolist() == lexicon.owners.tolist()
    assert (again.boundary, again.vocab_size) == (4, 5)
    assert again.vocab_check == lexicon.vocab_check
    assert again.costs is not None and lexicon.costs is not None
    assert again.costs.tolist() == lexicon.costs.tolist()
    random.shuffle(entries)
    shuffled = make_lexicon(entries, UNITS)
    assert shuffled.words == lexicon.words
    assert walk(shuffled) == walk(lexicon)


def test_look_ahead_is_the_best_word_below() -> None:
    scores = {"a": -2.0, "b": -1.0, "c": -4.0, "two": -3.0}
    lexicon = make_lexicon(ENTRIES, UNITS).with_costs(scores.__getitem__)
    tree, ahead = lexicon.tree, lexicon.look_ahead()
    below: dict[tuple[int, ...], float] = {}
    for word, units in ENTRIES:
        for n in range(len(units) + 1):
            below[units[:n]] = max(below.get(units[:n], -99.0), scores[word])
    for node in range(len(tree)):
        units, at = [], node
        while at:
            units.append(int(tree.unit[at]))
            at = int(tree.parent[at])
        assert ahead[node] == pytest.approx(below[tuple(units[::-1])], abs=1e-6)


@pytest.mark.parametrize("boundary", [None, 4])
@pytest.mark.parametrize("unknown", [None, 3.0])
def test_tree_of_a_search_keeps_the_words(boundary: int | None, unknown: float | None) -> None:
    lexicon = make_lexicon(ENTRIES, UNITS, boundary=boundary).with_costs(lambda word: -1.0)
    tree = make_search_tree(lexicon, look_ahead=1.0, unknown=unknown, unknown_unit=0.5)
    found, prices = set(), set()
    waiting: list[tuple[int, tuple[int, ...], float]] = [(0, (), 0.0)]
    while waiting:
        node, units, gained = waiting.pop()
        for word in tree.words[tree.word_first[node] :][: tree.word_count[node]]:
            if word == len(lexicon.words):
                prices.add((len(units), round(gained, 6)))
            else:
                found.add((lexicon.words[word], units))
        for child in range(tree.first[node], tree.first[node] + tree.count[node]):
            if child != tree.between and len(units) < 3:
                gain = gained + float(tree.gain[child])
                waiting.append((child, (*units, int(tree.unit[child])), gain))
    assert found == set(ENTRIES)
    assert prices == ({(2, -4.0), (3, -4.5)} if unknown is not None else set())
    assert (tree.between >= 0) == (boundary is not None)


def test_a_table_of_words(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("a\tx y\n\nb x\nnew york\tz\n", "utf-8")
    assert read_table(path, UNITS) == [("a", (1, 2)), ("b", (1,)), ("new york", (3,))]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a\tx q\n", "1: the model has no unit 'q'"),
        (b"a\tx\nb\n", "2: no units after 'b'"),
        (b"\xff\xfe\n", "cannot be read"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, content: bytes, line: str) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=line):
        read_table(path, UNITS)
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none", UNITS)


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ([], "no words"),
        ([("", (1,))], "'' cannot be a word"),
        ([("a\n", (1,))], "cannot be a word"),
        ([("a", ())], "'a' has 0 units"),
        ([("a", (1,) * 256)], "'a' has 256 units"),
        ([("a", (5,))], "'a' has a unit that is not in 0..4"),
        ([("a", (-1,))], "'a' has a unit that is not in 0..4"),
    ],
)
def test_impossible_words_are_refused(entries, line: str) -> None:
    with pytest.raises(InputError, match=line):
        make_lexicon(entries, UNITS)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.bin"
    save_lexicon(make_lexicon(ENTRIES, UNITS), path)
    return path


def test_a_damaged_file_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for place in range(len(whole)):
        saved.write_bytes(whole[:place])
        with pytest.raises(ModelError, match="lexicon.bin: not a lexicon of mynah, or damaged"):
            load_lexicon(saved)
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ModelError, match="damaged"):
            load_lexicon(saved)


def test_a_file_that_lies_is_refused(saved: Path) -> None:
    """Every byte changed in every way, with a checksum that is right again: a line or a lexicon."""
    whole = saved.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(400):
        body = bytearray(whole[16:])
        for place in rng.integers(0, len(body), rng.integers(1, 4)):
            body[place] = rng.integers(256)
        saved.write_bytes(whole[:12] + struct.pack("<I", zlib.crc32(body)) + body)
        line, lexicon = "", None
        try:
            lexicon = load_lexicon(saved)
        except ModelError as error:
            line = str(error)
        assert "\n" not in line
        assert line or (lexicon is not None and walk(lexicon))
    saved.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_lexicon(saved)


def test_a_bomb_is_not_unpacked(saved: Path) -> None:
    body = bytearray(saved.read_bytes()[16:])
    packed = zlib.compress(bytes(1 << 24))
    sizes = list(struct.unpack_from("<16I", body, 20))
    first = sizes[0]
    sizes[0] = len(packed)
    body[20:84] = struct.pack("<16I", *sizes)
    body[84 : 84 + first] = packed
    head = saved.read_bytes()[:12]
    saved.write_bytes(head + struct.pack("<I", zlib.crc32(body)) + body)
    with pytest.raises(ModelError, match="sizes that do not fit"):
        load_lexicon(saved)
