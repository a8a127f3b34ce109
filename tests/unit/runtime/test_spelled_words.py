"""Words outside the lexicon of a model of phones: written by its model of graphones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.cli import main
from mynah.decoding import DecodingOptions, Hypothesis
from mynah.decoding.lexicon import make_lexicon
from mynah.decoding.lexicon_search import LexiconSearch
from mynah.errors import ModelError
from mynah.model_folder import read_model_folder
from mynah.runtime.lexicon import SPELLING, WordParts, lexicon_search
from mynah.runtime.lexicon_folder import add_lexicon
from mynah.runtime.model import FrameClock
from mynah.runtime.words import TokenSpan, make_words
from mynah.text.phones import PhoneTokenizer
from mynah.text.pronounce import LetterToSound, Pronouncer
from tone_model import write_tone_model

COSTS: dict[str, Any] = {
    "unknown_word": 2.0, "unknown_unit": 1.0, "top_units": 20, "margin": 30.0
}  # fmt: skip
WORDS = "cat k ae t|cot k aa t|tip t ih p|pin p ih n|nip n ih p|tan t ae n|pat p ae t|on aa n"
WORDS += "|tin t ih n|not n aa t|kin k ih n|pot p aa t|kit k ih t|nap n ae p|pan p ae n"


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of graphones, made by the commands."""
    place = tmp_path_factory.mktemp("spelling")
    (place / "words.dict").write_text(WORDS.replace("|", "\n") + "\n", "utf-8")
    made = ["data", "graphones", str(place / "words.dict"), "--min-count", "1"]
    assert main([*made, "--out", str(place / "graphones.txt")]) == 0
    assert "c:k a:ae t:t" in (place / "graphones.txt").read_text("utf-8").splitlines()
    trained = ["lm", "train", str(place / "graphones.txt"), "--out", str(place / "spelling.ngram")]
    assert main(trained) == 0
    return place / "spelling.ngram"


@pytest.fixture
def parts(spelling: Path, tmp_path: Path) -> WordParts:
    """The words of a model folder; its units are put in the place of phones."""
    write_tone_model(tmp_path / "plain")
    (tmp_path / "table.txt").write_text("ab\ta b\n", "utf-8")
    source = read_model_folder(tmp_path / "plain")
    table = tmp_path / "table.txt"
    add_lexicon(source, tmp_path / "words", table=table, spelling=spelling)
    folder = read_model_folder(tmp_path / "words")
    assert SPELLING in folder.files
    folder.verify()
    add_lexicon(folder, tmp_path / "again", table=table)
    assert SPELLING not in read_model_folder(tmp_path / "again").files, "it was replaced by none"
    tokenizer = PhoneTokenizer(Pronouncer({}, LetterToSound({})))
    found = WordParts(folder, tokenizer)
    every = tuple(range(1, tokenizer.vocab_size - 1))  # the units that words are made of
    entries = [("cat", ids(tokenizer, "k ae t")), ("all", every)]
    lexicon = make_lexicon(entries, tokenizer.units)
    found._parts["lm/lexicon.bin"] = lexicon
    return found


def ids(tokenizer: PhoneTokenizer, phones: str) -> tuple[int, ...]:
    return tuple(tokenizer.units.index(phone) for phone in phones.split())


def spoken(tokenizer: PhoneTokenizer, phones: str) -> np.ndarray:
    units = [unit for phone in ids(tokenizer, phones) for unit in (phone, tokenizer.blank)]
    probs = np.full((len(units), tokenizer.vocab_size), 0.1 / tokenizer.vocab_size)
    probs[np.arange(len(units)), units] += 0.9
    return np.log(probs)


def best(search: LexiconSearch, log_probs: np.ndarray) -> Hypothesis:
    return search.nbest(search.advance(search.start(), log_probs))[0]


def test_a_name_is_written_by_its_phones(parts: WordParts) -> None:
    tokenizer = PhoneTokenizer(Pronouncer({}, LetterToSound({})))
    options = DecodingOptions(method="lexicon", **COSTS)
    search = lexicon_search(parts, tokenizer, options)
    found = best(search, spoken(tokenizer, "k ae t k ae p"))
    assert [text for text, _, _ in found.words] in (["cat", "cap"], ["cat", "kap"])
    assert found.spelled[0] == 1.0 and 0.4 < found.spelled[1] < 1.0
    assert best(search, spoken(tokenizer, "k ae t")).spelled == ()
    assert parts.spelling is parts.spelling, "read once"
    # off, as it is by default: nothing but the lexicon
    plain = lexicon_search(parts, tokenizer, DecodingOptions(method="lexicon", margin=90.0))
    assert {text for text, _, _ in best(plain, spoken(tokenizer, "k ae t p ae n")).words} <= {"cat"}


def test_what_no_graphone_has_stays_unknown(parts: WordParts) -> None:
    tokenizer = PhoneTokenizer(Pronouncer({}, LetterToSound({})))
    options = DecodingOptions(method="lexicon", **COSTS)
    found = best(lexicon_search(parts, tokenizer, options), spoken(tokenizer, "zh zh w zh"))
    assert [text for text, _, _ in found.words] == ["<unk>"] and found.spelled == (0.0,)


def test_a_spelled_word_is_less_sure() -> None:
    pieces = [("cat", 0, 2), ("pan", 2, 4)]
    spans = [TokenSpan(time, time + 1, 0.81, "aligned") for time in range(4)]
    clock = FrameClock(0.04, 0.0, 0.04, 0.02)
    words = make_words(pieces, spans, clock=clock, start=0.0, end=1.0, spelled=(1.0, 0.5))
    assert [word.confidence for word in words] == pytest.approx([0.81, 0.405])
    words = make_words(pieces, spans, clock=clock, start=0.0, end=1.0)
    assert [word.confidence for word in words] == pytest.approx([0.81, 0.81])


def test_a_model_of_words_is_no_spelling(spelling: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the cat sat\na cat\n", "utf-8")
    assert main(["lm", "train", str(tmp_path / "t.txt"), "--out", str(tmp_path / "m.ngram")]) == 0
    write_tone_model(tmp_path / "plain")
    (tmp_path / "table.txt").write_text("ab\ta b\n", "utf-8")
    with pytest.raises(ModelError, match="no graphones"):
        add_lexicon(
            read_model_folder(tmp_path / "plain"), tmp_path / "out",
            table=tmp_path / "table.txt", spelling=tmp_path / "m.ngram",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
