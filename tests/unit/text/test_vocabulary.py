from __future__ import annotations

import argparse
import lzma
from pathlib import Path

import pytest

from mynah.cli import data_pronounce
from mynah.errors import InputError
from mynah.text.pronounce import learn_pronouncer
from mynah.text.vocabulary import VocabularyOptions, choose_words, count_words

TEXT = """# The cat
The cat sat. The cat's mat; the "CAT" sat, 7 times!
A rat sat; plan b: the tat, the tat - the tat.
"""
WORDS = """cat K AE1 T
the DH AH0
the(2) DH IY0
a AH0
b B IY1
sat S AE1 T
mat M AE1 T
rat R AE1 T
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "words.dict").write_text(WORDS, encoding="utf-8")
    with lzma.open(tmp_path / "text.xz", "wt", encoding="utf-8") as file:
        file.write(TEXT)
    return tmp_path / "text.xz", tmp_path / "words.dict"


def test_words_by_frequency(files: tuple[Path, Path]) -> None:
    text, dictionary = files
    counts = count_words([text])
    assert counts["the"] == 6 and counts["cat"] == 2 and counts["cat's"] == 1
    say = learn_pronouncer(dictionary)
    assert choose_words(counts, say) == ["the", "sat", "tat", "cat"]
    every = choose_words(counts, say, VocabularyOptions(known=1, others=1))
    assert "times" in every and "b" in every and "7" not in every
    assert choose_words(counts, say, VocabularyOptions(limit=1)) == ["the"]
    with pytest.raises(InputError, match="absent: cannot be read"):
        count_words([text.parent / "absent"])


def test_the_verb(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    text, dictionary = files
    parser = argparse.ArgumentParser()
    data_pronounce.add_pronounce_arguments(parser)
    out = text.parent / "lexicon.tsv"
    arguments = [str(text), "--dictionary", str(dictionary), "--out", str(out), "--others", "2"]
    assert data_pronounce.run_pronounce(parser.parse_args(arguments)) == 0
    assert out.read_text() == "the\tdh ah\nthe\tdh iy\nsat\ts ae t\ntat\tt ae t\ncat\tk ae t\n"
    assert "4 words in 5 pronunciations, 1 of them by rule" in capsys.readouterr().out
    rare = [*arguments[:-2], "--known", "50", "--others", "50"]
    with pytest.raises(InputError, match="no word is there often enough: .* the commonest 6 times"):
        data_pronounce.run_pronounce(parser.parse_args(rare))
