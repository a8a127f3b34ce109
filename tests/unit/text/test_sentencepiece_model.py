"""Our encoder against the sentencepiece library, on models trained here."""

from __future__ import annotations

import functools
import io
import lzma
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mynah.errors import ModelError
from mynah.text import SentencePieceModel, read_sentencepiece

WORDS = re.findall(
    r"\S+",
    """
    the a of and to in that was his he it with is for as had you not be her on at by which have or
    from this him but all she they were my are me one their so an said them we who would been
    nation national international rational ration able unable enable stable table tabled 1,000
    bird birds mynah mynahs talking talked talks walk walked listen listens listening speech
    """,
)
HANZI = "今天气很好我们去公园看鸟说话学语音识别的了是不在有人这中大为上个国说"
ODD = [
    "éÅﬁ①½…　ＡＢＣ\u0301\u0308\u200b\t\n\x00\x07\u00ad",
    "e\u0301 a\u030a ｶﾞか\u3099가ᄀ",
    "▁▁ <s></s><unk> <0x41>",
    "🙂👩‍👩‍👧 \U0001d400 ﷺ ",
    "01,. $",
]

MODELS: dict[str, tuple[tuple[str, Any], ...]] = {
    "unigram": (("vocab_size", 120),),
    "unigram, byte fallback, symbols": (
        ("vocab_size", 400),
        ("byte_fallback", True),
        ("user_defined_symbols", ["{NOISE}", "the ", "{", " x", "00", "01", "10", "ta"]),
    ),
    "unigram, identity": (
        ("vocab_size", 120),
        ("normalization_rule_name", "identity"),
        ("remove_extra_whitespaces", False),
        ("add_dummy_prefix", False),
    ),
    "unigram, suffix": (("vocab_size", 120), ("treat_whitespace_as_suffix", True)),
    "unigram over spaces": (
        ("vocab_size", 150),
        ("split_by_whitespace", False),
        ("normalization_rule_name", "nmt_nfkc_cf"),
    ),
    "bpe": (("vocab_size", 150), ("model_type", "bpe")),
    "bpe, byte fallback, symbols": (
        ("vocab_size", 420),
        ("model_type", "bpe"),
        ("byte_fallback", True),
        ("user_defined_symbols", ["{NOISE}", "the ", "{", "ta"]),
    ),
    "bpe, suffix": (
        ("vocab_size", 150),
        ("model_type", "bpe"),
        ("treat_whitespace_as_suffix", True),
    ),
    "bpe over spaces": (
        ("vocab_size", 150),
        ("model_type", "bpe"),
        ("split_by_whitespace", False),
        ("normalization_rule_name", "nfkc"),
    ),
}


@functools.cache
def sentences() -> list[str]:
    rng = random.Random(0)
    made = [" ".join(rng.choices(WORDS, k=rng.randrange(3, 12))) for _ in range(400)]
    return made + ["".join(rng.choices(HANZI, k=rng.randrange(2, 12))) for _ in range(200)]


@functools.cache
def odd_texts(count: int) -> list[str]:
    """Random mixtures: real words, cut words, ties, spaces, code points of all kinds."""
    rng = random.Random(1)
    pool = [*WORDS, *"abcdefgh", " ", "  ", "{NOISE}", "{NOI", "A", "ß", *ODD]
    made = ["", " ", "▁", "\u200b", " \u200b ", "　", "\u00ad \x07", "a\u200b", "\ufffd", "\x00"]
    for _ in range(count):
        kind = rng.randrange(3)
        if kind == 0:
            text = " ".join(rng.choices(WORDS, k=rng.randrange(12)))
            text = text.upper() if rng.random() < 0.2 else text
        elif kind == 1:
            parts = rng.choices(pool, k=rng.randrange(12))
            text = "".join(rng.choice(p) if p and rng.random() < 0.5 else p for p in parts)
        else:
            units = ["".join(rng.choices("01,aet $", k=rng.randrange(1, 5))) for _ in range(2)]
            text = "".join(rng.choices(units, k=rng.randrange(1, 25)))
        made.append(text + "".join(rng.choices(HANZI, k=rng.randrange(4))))
    return made


@functools.cache
def trained(name: str) -> bytes:
    sentencepiece = pytest.importorskip("sentencepiece")
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=stream,
        num_threads=1,
        minloglevel=2,
        character_coverage=1.0,
        **dict(MODELS[name]),
    )
    return stream.getvalue()


def assert_same(data: bytes, texts: list[str]) -> None:
    library = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=data)
    ours = SentencePieceModel(data)
    for text in texts:
        expected = list(zip(library.encode(text, out_type=str), library.encode(text), strict=True))
        assert ours.encode(text) == expected, text


@pytest.mark.parametrize("name", MODELS)
def test_pieces_are_those_of_the_library(name: str) -> None:
    assert_same(trained(name), sentences() + odd_texts(1200))


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_pieces_of_prose(shared: Path, model_type: str) -> None:
    texts: list[str] = []
    for name, step in (("english", 400), ("chinese", 40)):
        with lzma.open(shared / "text" / f"{name}.txt.xz", "rt", encoding="utf-8") as stream:
            lines = (line.strip() for i, line in enumerate(stream) if i % step == 0)
            texts.extend(line for line, _ in zip(lines, range(800), strict=False))
    sentencepiece, data = pytest.importorskip("sentencepiece"), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts[::2]),
        model_writer=data,
        vocab_size=3000,
        model_type=model_type,
        num_threads=1,
        minloglevel=2,
    )
    assert_same(data.getvalue(), texts + [text.upper() for text in texts])


def test_half_a_surrogate_is_replaced() -> None:
    model = SentencePieceModel(trained("unigram"))
    assert model.encode("a\ud800b") == model.encode("a\ufffdb")


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def message(*fields: tuple[int, int | bytes]) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def tiny(model_type: int = 1) -> bytes:
    """A model written by hand, without normalisation rules and with all scores 0."""
    pieces = [message((1, p.encode())) for p in ("▁", "a", "b", "▁a", "ab")]
    unknown = message((1, b"<unk>"), (3, 2))
    parts: list[tuple[int, int | bytes]] = [(1, unknown), *((1, p) for p in pieces)]
    return message(*parts, (2, message((3, model_type))))


def test_a_model_written_by_hand() -> None:
    model = SentencePieceModel(tiny())
    assert model.pieces == ("<unk>", "▁", "a", "b", "▁a", "ab")
    assert model.encode(" ab  cc b") == [
        ("▁", 1), ("ab", 5), ("▁", 1), ("cc", 0), ("▁", 1), ("b", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "exactly one unknown piece"),
        (b"this is a text, not a model", "not a sentencepiece model"),
        (tiny()[:-3], "not a sentencepiece model"),
        (tiny(model_type=3), "type word and char"),
        (tiny() + message((3, message((2, b"\x10\x00\x00\x00short")))), "rules are damaged"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bpe.model").write_bytes(data)
    with pytest.raises(ModelError, match=rf"bpe\.model: .*{reason}"):
        read_sentencepiece(tmp_path / "bpe.model")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.model: cannot be read"):
        read_sentencepiece(tmp_path / "none.model")
