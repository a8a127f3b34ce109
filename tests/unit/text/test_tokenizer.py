from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.config import dumps_toml
from mynah.errors import ConfigError, InputError, ModelError
from mynah.text import (
    Tokenizer,
    TokenizerConfig,
    UnitTokenizer,
    char_tokenizer,
    load_tokenizer,
    read_units,
    train_bpe,
    wenet_tokenizer,
)

TEXTS = [
    "the mynah listens and speaks",
    "a mynah is a bird that listens",
    "it speaks and the bird listens to it",
    "我们 说 speech and 听 speech",
]


def table(path: Path, units: list[str]) -> Path:
    path.write_text("".join(f"{u} {i}\n" for i, u in enumerate(units)), encoding="utf-8")
    return path


def bpe_tokenizer() -> UnitTokenizer:
    pytest.importorskip("sentencepiece")
    return train_bpe(TEXTS * 5, 32)


def test_characters_go_there_and_back() -> None:
    tokenizer = char_tokenizer(["hello world", "it's 今天"])
    assert tokenizer.units[:2] == ("<blank>", "<unk>")
    assert tokenizer.units[-1] == "<sos/eos>"
    assert (tokenizer.blank, tokenizer.unk) == (0, 1)
    assert tokenizer.sos == tokenizer.eos == tokenizer.vocab_size - 1
    assert tokenizer.decode(tokenizer.encode("it's low 天")) == "it's low 天"
    assert tokenizer.decode(tokenizer.encode("zoo")) == "<unk>oo"


@given(st.text(st.sampled_from("abc' 今天"), max_size=20))
@settings(deadline=None)
def test_characters_of_any_text(text: str) -> None:
    tokenizer = char_tokenizer(["abc' 今天"])
    assert tokenizer.decode(tokenizer.encode(text)) == text.strip()


@given(st.text(st.sampled_from("abc 今天"), max_size=20))
@settings(deadline=None)
def test_words_hold_all_that_is_decoded(text: str) -> None:
    tokenizer = char_tokenizer(["abc 今天"])
    ids = tokenizer.encode(text)
    words = tokenizer.words(ids)
    assert "".join(word for word, _, _ in words) == tokenizer.decode(ids).replace(" ", "")
    for word, first, end in words:
        assert "".join(tokenizer.units[i] for i in ids[first:end]) == word
        assert len(word) == 1 or not set(word) & set("今天")
    assert [w for w, _, _ in words] == text.replace("今", " 今 ").replace("天", " 天 ").split()


def test_bpe_goes_there_and_back(tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    assert tokenizer.vocab_size == 32
    assert set("我们说听") < set(tokenizer.units)
    for text in TEXTS[:3]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    ids = tokenizer.encode("我们 listens")
    words = tokenizer.words(ids)
    assert words == [("我", 0, 1), ("们", 1, 2), ("listens", 2, len(ids))]


def test_the_same_texts_train_the_same_model(tmp_path: Path) -> None:
    for name in "ab":
        bpe_tokenizer().save(tmp_path / name)
    assert (tmp_path / "a/bpe.model").read_bytes() == (tmp_path / "b/bpe.model").read_bytes()


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_training_on_too_little_is_refused(model_type: str) -> None:
    pytest.importorskip("sentencepiece")
    with pytest.raises(InputError, match="no text"):
        train_bpe(["", "今天"], 100)
    with pytest.raises(InputError, match=r"^5 units cannot be trained on these texts: "):
        train_bpe(TEXTS, 5, model_type)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no text"):
        char_tokenizer([" "])


def test_no_white_space_becomes_a_unit(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    odd = [text.replace(" ", "\x85\u2003\t") for text in TEXTS]
    for tokenizer in (train_bpe(odd * 5, 32), char_tokenizer(odd)):
        tokenizer.save(tmp_path)
        assert read_units(tmp_path / "units.txt") == tokenizer.units


def test_user_symbols_are_units() -> None:
    pytest.importorskip("sentencepiece")
    tokenizer = train_bpe(TEXTS * 5, 34, user_symbols=["<noise>", "bird"])
    ids = tokenizer.encode("a bird<noise>")
    assert [tokenizer.units[i] for i in ids][-2:] == ["bird", "<noise>"]
    assert tokenizer.decode(ids) == "a bird<noise>"
    with pytest.raises(ConfigError, match="'a bird' is empty or holds white space"):
        train_bpe(TEXTS, 34, user_symbols=["a bird"])


def test_saved_and_loaded(tmp_path: Path) -> None:
    made = [
        char_tokenizer(TEXTS, language="en"),
        bpe_tokenizer(),
        wenet_tokenizer(table(tmp_path / "t", ["<blank>", "<unk>", "A", "{X}", "B"]),
                        non_lang_syms=["{X}"], special_tokens={"<sos>": 4, "<eos>": 2}),
    ]  # fmt: skip
    for tokenizer in made:
        tokenizer.save(tmp_path / "tokenizer")
        values = tokenizer.to_dict()
        dumps_toml(values)
        loaded: Tokenizer = load_tokenizer(tmp_path / "tokenizer", values)
        copied = pickle.loads(pickle.dumps(tokenizer))
        for other in (loaded, copied):
            assert other.units == tokenizer.units
            assert other.to_dict() == values
            assert (other.sos, other.eos) == (tokenizer.sos, tokenizer.eos)
            for text in [*TEXTS, "{x} ab"]:
                assert other.encode(text) == tokenizer.encode(text)


def test_texts_are_normalised_when_a_language_is_named() -> None:
    tokenizer = char_tokenizer(["Hello, World!"], language="en", case="upper")
    assert tokenizer.units == ("<blank>", "<unk>", *"DEHLORW▁", "<sos/eos>")
    assert tokenizer.decode(tokenizer.encode("“Hello”—World")) == "HELLO WORLD"


def test_a_space_without_a_unit_is_left_out_or_unknown(tmp_path: Path) -> None:
    units = ["<blank>", "<unk>", "今", "天", "<sos/eos>"]
    assert UnitTokenizer(units).encode("今 天") == [2, 3]
    path = table(tmp_path / "units.txt", units)
    assert wenet_tokenizer(path).encode("今 天") == [2, 1, 3]


class TestWenet:
    """Facts of WeNet's tokenizers, taken by running them."""

    def test_characters(self, tmp_path: Path) -> None:
        units = ["<blank>", "<unk>", "▁", *"abcAB", "今", "天", "<sos/eos>"]
        tokenizer = wenet_tokenizer(table(tmp_path / "units.txt", units))
        assert tokenizer.pieces(" 今天ab  Bx ") == [*"今天ab", "▁", "▁", *"Bx"]
        assert tokenizer.encode(" 今天ab  Bx ") == [8, 9, 3, 4, 2, 2, 7, 1]
        assert tokenizer.decode([3, 2, 8, 1]) == "a 今<unk>"
        assert (tokenizer.sos, tokenizer.eos) == (10, 10)

    def test_symbols_make_texts_upper_case(self, tmp_path: Path) -> None:
        units = ["<blank>", "<unk>", "{NOISE}", *"AB", "▁", "[", "]", "<sos/eos>"]
        (tmp_path / "symbols").write_text("{NOISE}\n<X>\n", encoding="utf-8")
        tokenizer = wenet_tokenizer(
            table(tmp_path / "units.txt", units), non_lang_syms=tmp_path / "symbols"
        )
        assert tokenizer.pieces("a {noise} b<x>[a]") == [
            "A", "{NOISE}", "B", "<X>", "[", "A", "]",
        ]  # fmt: skip
        ids = tokenizer.encode("ab{noise}a")
        assert tokenizer.words(ids) == [("AB", 0, 2), ("{NOISE}", 2, 3), ("A", 3, 4)]
        with pytest.raises(ModelError, match="'NOISE' is not like"):
            wenet_tokenizer(tmp_path / "units.txt", non_lang_syms=["NOISE"])

    def test_words_as_units(self, tmp_path: Path) -> None:
        units = ["<blank>", "<unk>", "ni3", "hao3", "<sos/eos>"]
        tokenizer = wenet_tokenizer(
            table(tmp_path / "units.txt", units), split_with_space=True, connect_symbol=" "
        )
        ids = tokenizer.encode("ni3 hao3  ma")
        assert ids == [2, 3, 1]
        assert tokenizer.decode([0, *ids, 4]) == "ni3 hao3 <unk>"
        assert tokenizer.words([0, 2, 3]) == [("ni3", 1, 2), ("hao3", 2, 3)]

    def test_bpe(self, tmp_path: Path) -> None:
        sentencepiece = pytest.importorskip("sentencepiece")
        lines = [text.upper() for text in TEXTS[:3]] * 5
        with (tmp_path / "m").open("wb") as stream:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=stream, vocab_size=25, minloglevel=2
            )
        library = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m"))
        pieces = [library.id_to_piece(i) for i in range(3, 25)]
        units = ["<blank>", "<unk>", *pieces, "我", "<sos/eos>"]
        tokenizer = wenet_tokenizer(table(tmp_path / "u", units), bpe_model=tmp_path / "m")
        text = "我 say 一bird listens我"
        expected = ["我", *library.encode_as_pieces("SAY"), "一"]
        expected += [*library.encode_as_pieces("BIRD LISTENS"), "我"]
        assert tokenizer.pieces(text) == expected
        assert tokenizer.encode(text) == [
            units.index(p) if p in units else 1 for p in expected
        ]  # fmt: skip
        ids = tokenizer.encode("bird listens我")
        assert tokenizer.decode(ids) == "BIRD LISTENS我"
        assert [word for word, _, _ in tokenizer.words(ids)] == ["BIRD", "LISTENS", "我"]
        tokenizer.save(tmp_path / "saved")
        assert load_tokenizer(tmp_path / "saved", tokenizer.to_dict()).encode(text)

    def test_special_tokens_by_their_other_names(self, tmp_path: Path) -> None:
        path = table(tmp_path / "units.txt", ["<blank>", "a", "<s>", "</s>", "<x>"])
        tokenizer = wenet_tokenizer(path, special_tokens={"<s>": 2, "eos": 3, "<unk>": 4})
        assert (tokenizer.blank, tokenizer.unk, tokenizer.sos, tokenizer.eos) == (0, 4, 2, 3)


def test_byte_pieces_become_characters() -> None:
    units = ["<blank>", "<unk>", "▁", "a", *(f"<0x{i:02X}>" for i in range(256)), "<sos/eos>"]
    tokenizer = UnitTokenizer(units, TokenizerConfig(kind="bpe", bpe_model="bpe.model"), b"")
    ids = [2, 3, *(4 + byte for byte in "é今".encode()), 2, 3, 4 + 0xE4]
    assert tokenizer.decode(ids) == "aé今 a\ufffd"
    assert tokenizer.words(ids) == [("aé", 1, 4), ("今", 4, 7), ("a\ufffd", 8, 10)]


def test_a_unit_of_several_words_is_shared() -> None:
    tokenizer = UnitTokenizer(["<blank>", "▁of▁the", "▁day", "今天", "<sos/eos>"])
    assert tokenizer.words([1, 2, 3]) == [
        ("of", 0, 1), ("the", 0, 1), ("day", 1, 2), ("今", 2, 3), ("天", 2, 3),
    ]  # fmt: skip
    assert tokenizer.unk == -1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no units"),
        ("a 0\nb\n", r"units\.txt:2: expected a unit and its id, got 'b'"),
        ("a 0\nb x\n", "expected a unit and its id"),
        ("a 0\nb 0\n", "id 0 occurs twice"),
        ("a 99999999999\n", "absurd"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "units.txt").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=reason):
        load_tokenizer(tmp_path, {"kind": "char"})


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"units\.txt: no such file"):
        load_tokenizer(tmp_path, {"kind": "char"})
    path = table(tmp_path / "units.txt", ["<blank>", "a"])
    with pytest.raises(ModelError, match=r"bpe\.model: cannot be read"):
        load_tokenizer(tmp_path, {"kind": "bpe", "bpe_model": "bpe.model"})
    with pytest.raises(ModelError, match="bpe_model: missing"):
        load_tokenizer(tmp_path, {"kind": "bpe"})
    with pytest.raises(ModelError, match="not a plain file name"):
        load_tokenizer(tmp_path, {"kind": "bpe", "bpe_model": "../bpe.model"})
    with pytest.raises(ModelError, match=r"unknown key \(did you mean 'language'"):
        load_tokenizer(tmp_path, {"langauge": "en"})
    with pytest.raises(ModelError, match=r"eos 7 is not in 0\.\.1"):
        wenet_tokenizer(path, special_tokens={"<eos>": 7})


def test_gaps_in_a_table_are_kept(tmp_path: Path) -> None:
    (tmp_path / "units.txt").write_text("b 3\na 1\n", encoding="utf-8")
    assert read_units(tmp_path / "units.txt") == ("", "a", "", "b")


def test_the_core_needs_no_sentencepiece(tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    tokenizer.save(tmp_path)
    code = (
        "import sys; sys.modules['sentencepiece'] = None\n"
        "from mynah.text import load_tokenizer\n"
        f"print(load_tokenizer({str(tmp_path)!r}, {tokenizer.to_dict()!r}).encode({TEXTS[0]!r}))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == str(tokenizer.encode(TEXTS[0])), result.stderr
