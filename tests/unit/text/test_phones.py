from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mynah.errors import ModelError
from mynah.text import Tokenizer, load_tokenizer
from mynah.text.phones import PhoneTokenizer
from mynah.text.pronounce import PHONES, LetterToSound, Pronouncer

CAT, THE = ("k", "ae", "t"), ("dh", "ah")


@pytest.fixture
def tokenizer() -> PhoneTokenizer:
    rules = LetterToSound({"m": "m", "e": "eh", "t": "t"})
    return PhoneTokenizer(Pronouncer({"cat": (CAT,), "the": (THE, ("dh", "iy"))}, rules))


def test_words_become_phones_and_phones_a_line(tokenizer: PhoneTokenizer) -> None:
    same: Tokenizer = tokenizer  # it keeps the interface
    ids = same.encode("The cat, 7 met!")  # digits cannot be said; "met" is said by rule
    assert tokenizer.decode(ids) == "dh ah k ae t m eh t"
    assert same.words(ids)[:2] == [("dh", 0, 1), ("ah", 1, 2)]
    assert tokenizer.decode([tokenizer.blank, *ids[:2], tokenizer.eos]) == "dh ah"
    assert same.encode("7 %") == [] and same.encode("") == []
    assert tokenizer.pronunciations("the") == (THE, ("dh", "iy"))


def test_units(tokenizer: PhoneTokenizer) -> None:
    assert tokenizer.vocab_size == 41 and tokenizer.units[1:40] == PHONES
    assert (tokenizer.blank, tokenizer.unk, tokenizer.sos, tokenizer.eos) == (0, -1, 40, 40)
    with pytest.raises(ModelError, match="'zh'"):
        PhoneTokenizer(Pronouncer({}, LetterToSound({})), ("<blank>", *PHONES[:-1], "<sos/eos>"))


def test_saved_loaded_and_sent(tokenizer: PhoneTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert tokenizer.to_dict() == {"kind": "phone", "language": "en"}
    again = load_tokenizer(tmp_path, tokenizer.to_dict())
    assert isinstance(again, PhoneTokenizer) and again.units == tokenizer.units
    assert again.encode("the cat met") == tokenizer.encode("the cat met")
    sent = pickle.loads(pickle.dumps(again))
    assert sent.encode("the cat met") == tokenizer.encode("the cat met")
    # Recognition needs no dictionary: it is read when a text is first encoded.
    (tmp_path / "words.tsv.xz").unlink()
    bare = load_tokenizer(tmp_path, tokenizer.to_dict())
    assert bare.decode([1, 2]) == "aa ae"
    with pytest.raises(ModelError, match=r"words\.tsv\.xz: no such file"):
        bare.encode("cat")
