"""Byte-level BPE: cutting, merging, files, and the originals where they are installed."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import json
import pickle
import random
from pathlib import Path

import pytest
from tests import whisper_files as files

from mynah.errors import ModelError
from mynah.text.byte_bpe import (
    ByteBpe,
    Vocabulary,
    find_vocabulary,
    from_unicode,
    load_vocabulary,
    pieces,
    read_vocabulary,
    save_vocabulary,
    to_unicode,
)

TEXTS = [
    "",
    " ",
    "Hello, world's  fine:  1234½ isn't it?\n\n x\t y",
    " don't we'll  'sfoo I'VE they'd've '' 's",
    "五十二 你好，世界。 ありがとう 감사합니다 ②",
    "ñandú Straße naïve İstanbul ΑΒΓ привет",
    "नमस्ते สวัสดีครับ မြန်မာ ລາວ שלום مرحبا ١٢٣",
    "😀👩‍👩‍👧 🇩🇪 ♪♪♪ 「x」 <<< --- ((( <|endoftext|>",
    "a\x85b \x1c\x1d c\u3000全角\xa0\u200b\u2009.",
    "   leading and trailing   ",
    "x" * 3000 + " " + "の" * 500,
    "\U0001d7d8\U0001d400 Ⅷ ¾ ٠ ߀",
]


def random_texts(count: int) -> list[str]:
    rng = random.Random(7)
    alphabet = "abcdeé'  \n\t.,12½五の😀ß-sSt" + "\u3000\xa0ก่\u0301"
    return ["".join(rng.choices(alphabet, k=rng.randrange(1, 40))) for _ in range(count)]


def test_unions_of_lowest_rank_first() -> None:
    singles = tuple(bytes([b]) for b in range(256))
    bpe = ByteBpe(Vocabulary((*singles, b"bc", b"ab", b"abc", b"cab")))
    assert bpe.encode("abc") == [258]  # a whole word is looked up
    assert bpe.encode("abca") == [258, 97]  # bc, then a+bc
    assert bpe.encode("cab") == [259]
    assert bpe.encode("ccab") == [99, 259]
    merged = ByteBpe(Vocabulary((*singles, b"bc", b"ab", b"abc"), ((b"a", b"b"), (b"b", b"c"))))
    assert merged.encode("abc") == [257, 99]  # by the list: a+b first, and ab+c is not in it


def brute_force(bpe: ByteBpe, data: bytes) -> list[int]:
    """Merge the leftmost pair of lowest rank, over and over."""
    ids = {token: i for i, token in enumerate(bpe.tokens) if token}
    parts = [data[i : i + 1] for i in range(len(data))]
    if data in ids:
        return [ids[data]]
    while True:
        ranks = [ids.get(a + b, 1 << 30) for a, b in itertools.pairwise(parts)]
        if not ranks or min(ranks) == 1 << 30:
            return [ids[part] for part in parts]
        at = ranks.index(min(ranks))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_merging_equals_brute_force() -> None:
    bpe = ByteBpe(Vocabulary(files.vocabulary().tokens))
    rng = random.Random(3)
    for _ in range(300):
        data = "".join(rng.choices("thecats onmr", k=rng.randrange(1, 30))).encode()
        assert list(bpe._encode_piece(data)) == brute_force(bpe, data)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_decoding_gives_the_text_back(text: str) -> None:
    bpe = ByteBpe(files.vocabulary())
    assert bpe.decode(bpe.encode(text)) == text
    assert "".join(pieces(text)) == text


def test_pieces() -> None:
    found = list(pieces("I've  12 cats'... \n ok '' 's"))
    assert found == ["I", "'ve", " ", " 12", " cats", "'...", " \n", " ok", " ''", " '", "s"]
    assert list(pieces("a \n")) == ["a", " \n"]
    assert list(pieces("a\n b")) == ["a", "\n", " b"]
    assert list(pieces("'s'sa")) == ["'s", "'s", "a"]


def test_long_words_take_linear_time() -> None:
    bpe = ByteBpe(Vocabulary(files.vocabulary().tokens))
    assert len(bpe.encode("thecatsat" * 20_000)) > 10_000  # 180 kB: seconds if it were quadratic


def test_processes() -> None:
    bpe = pickle.loads(pickle.dumps(ByteBpe(files.vocabulary())))
    assert bpe.encode("the cat") == ByteBpe(files.vocabulary()).encode("the cat")


def test_unicode_of_bytes_goes_both_ways() -> None:
    every = bytes(range(256))
    assert from_unicode(to_unicode(every)) == every
    assert len(set(to_unicode(every))) == 256
    assert to_unicode(b" a\n") == "ĠaĊ"
    assert from_unicode("a b") is None


def test_every_file_gives_the_same_tokens(tmp_path: Path) -> None:
    wanted = files.vocabulary()
    specials = files.special_tokens()
    hf = tmp_path / "hf"
    hf.mkdir()
    files.write_vocab_json(hf, wanted)
    assert find_vocabulary(hf) == Vocabulary(wanted.tokens, wanted.merges, specials)
    table = json.loads((hf / "vocab.json").read_text("utf-8"))
    merges = (hf / "merges.txt").read_text("utf-8").split("\n")[1:-1]
    added = [{"id": i, "content": n, "special": True} for n, i in specials.items()]
    for form in (merges, [m.split(" ") for m in merges]):  # older and newer
        values = {"model": {"vocab": table, "merges": form}, "added_tokens": added}
        (tmp_path / "tokenizer.json").write_text(json.dumps(values), "utf-8")
        assert find_vocabulary(tmp_path) == Vocabulary(wanted.tokens, wanted.merges, specials)
    ranks = tmp_path / "x.tiktoken"
    lines = [f"{base64.b64encode(t).decode() or '='} {i}\n" for i, t in enumerate(wanted.tokens)]
    ranks.write_text("".join(lines))
    assert read_vocabulary(ranks) == Vocabulary(wanted.tokens)
    names = json.dumps([*table, *specials])
    (tmp_path / "vocabulary.json").write_text(names, "utf-8")
    assert read_vocabulary(tmp_path / "vocabulary.json") == Vocabulary(wanted.tokens, (), specials)
    assert find_vocabulary(tmp_path / "hf" / "none") is None


def test_saved_and_loaded(tmp_path: Path) -> None:
    wanted = files.vocabulary()
    gap = Vocabulary((*wanted.tokens, b""))
    for vocabulary in (wanted, gap):
        save_vocabulary(vocabulary, tmp_path / str(len(vocabulary.tokens)))
        assert load_vocabulary(tmp_path / str(len(vocabulary.tokens))) == vocabulary


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.tiktoken", "YQ== 0\nYQ== x\n", ":2: not a token"),
        ("x.tiktoken", "YQ== 0\nYg== 0\n", ":2: rank 0 occurs twice"),
        ("x.tiktoken", "YQ== 9999999\n", "1 tokens numbered|tokens numbered"),
        ("tokenizer.json", "{", "not JSON"),
        ("tokenizer.json", "[1, 2]", "not a vocabulary"),
        ("tokenizer.json", '{"model": {"vocab": {"a": "b"}}}', "not a table of tokens"),
        ("tokenizer.json", '{"model": {"vocab": {"a": -1}}}', "numbered -1"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0, "b": 0}}}', "token 0 occurs twice"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 1073741824}}}', "numbered"),
        ("tokenizer.json", '{"model": {"vocab": {}}}', "no tokens"),
        ("tokenizer.json", '{"model": {"vocab": {}, "merges": ["a"]}}', "'a' is not a merge"),
        ("tokenizer.json", '{"model": {"vocab": {}, "merges": 3}}', "not a tokenizer"),
        ("tokenizer.json", "[" * 100_000, "not JSON"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ModelError, match=reason) as caught:
            read_vocabulary(path)
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_vocabulary(tmp_path / "x")
    with pytest.raises(ModelError, match="has no vocabulary"):
        read_vocabulary(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ModelError, match="not text"):
        read_vocabulary(tmp_path / "x")
    with pytest.raises(ModelError, match="no token for the byte 0x61"):
        ByteBpe(Vocabulary(tuple(bytes([b]) for b in range(256) if b != 97)))


def assets() -> Path:
    """The vocabularies of the package openai-whisper; nothing of it is imported."""
    found = importlib.util.find_spec("whisper")
    if found is None or not found.submodule_search_locations:
        pytest.skip("openai-whisper is not installed")
    return Path(found.submodule_search_locations[0]) / "assets"


@pytest.mark.parametrize("name", ["gpt2", "multilingual"])
def test_equal_to_tiktoken(name: str) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    vocabulary = read_vocabulary(assets() / f"{name}.tiktoken")
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    ranks = {token: rank for rank, token in enumerate(vocabulary.tokens)}
    original = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    bpe = ByteBpe(vocabulary)
    for text in TEXTS + random_texts(400):
        assert bpe.encode(text) == original.encode(text, disallowed_special=()), text


@pytest.mark.parametrize("name", ["tiny", "gpt2"])
def test_equal_to_tokenizers(name: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = files.vocabulary()
    if name != "tiny":
        vocabulary = read_vocabulary(assets() / f"{name}.tiktoken")
        vocabulary = Vocabulary(vocabulary.tokens, merges_of(vocabulary))
    table = {to_unicode(token): i for i, token in enumerate(vocabulary.tokens)}
    merges = [(to_unicode(a), to_unicode(b)) for a, b in vocabulary.merges]
    original = tokenizers.Tokenizer(tokenizers.models.BPE(table, merges))
    original.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe = ByteBpe(vocabulary)
    for text in TEXTS + random_texts(400):
        assert bpe.encode(text) == original.encode(text).ids, text


def merges_of(vocabulary: Vocabulary) -> tuple[tuple[bytes, bytes], ...]:
    """The pair that makes each token, of the tokens before it."""
    ranks = {token: i for i, token in enumerate(vocabulary.tokens) if token}
    result = []
    for rank, token in enumerate(vocabulary.tokens):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(a + b, rank) for a, b in itertools.pairwise(parts)]
            at = found.index(min(found))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            result.append((parts[0], parts[1]))
    return tuple(result)
