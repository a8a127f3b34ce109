from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from mynah.errors import InputError, ModelError
from mynah.text.pronounce import (
    PHONES,
    LetterToSound,
    Pronouncer,
    align_letters,
    learn_letters,
    learn_pronouncer,
    read_dictionary,
)

LINES = """;;; a comment
cat K AE1 T
cats K AE1 T S
bat B AE1 T
rat R AE1 T
rate R EY1 T
late L EY1 T
bate B EY1 T # rare
tar T AA1 R
box B AA1 K S
fox F AA1 K S
the DH AH0
the(2) DH IY0
the(3) DH AH1
horse HH AO1 R S
dog D AO1 G
tab.let T AE1 B
two-tone T UW1 T OW1 N
"""


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "words.dict"
    path.write_text(LINES, encoding="utf-8")
    return path


def test_dictionary_without_stress_comments_and_what_is_not_a_word(dictionary: Path) -> None:
    found = read_dictionary(dictionary)
    assert found["cat"] == (("k", "ae", "t"),)
    assert found["bate"] == (("b", "ey", "t"),)
    assert found["the"] == (("dh", "ah"), ("dh", "iy"))  # the third is the first without stress
    assert "tab.let" not in found and "two-tone" not in found and ";;;" not in found
    packed = dictionary.with_suffix(".xz")
    packed.write_bytes(lzma.compress(LINES.encode()))
    assert read_dictionary(packed) == found


@pytest.mark.parametrize(("line", "what"), [("cat K QQ T", "'qq'"), ("cat", "no phones")])
def test_a_wrong_line_is_named(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "words.dict"
    path.write_text(f"bat B AE1 T\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"words\.dict:2: .*{what}"):
        read_dictionary(path)
    with pytest.raises(InputError, match=r"absent: cannot be read"):
        read_dictionary(tmp_path / "absent")


def test_letters_take_none_one_or_two_phones_by_their_neighbours(dictionary: Path) -> None:
    letters = learn_letters(read_dictionary(dictionary))
    assert letters("rat") == ("r", "ae", "t")  # as it was learned
    assert letters("gat") == ("g", "ae", "t")  # and by analogy
    assert letters("bate") == ("b", "ey", "t")  # the silent e lengthens the a
    assert letters("fox") == ("f", "aa", "k", "s")  # x is two phones
    assert letters("RAT! 7") == ()  # words are in scoring form: what is no letter is passed over
    assert letters("") == ()
    again = learn_letters(read_dictionary(dictionary))
    assert again.rules == letters.rules
    with pytest.raises(InputError, match="no word"):
        learn_letters({"c": (("k", "ae", "t"),)})  # a letter cannot be three phones


def test_a_phone_of_two_letters_that_no_word_shows_alone() -> None:
    """No word with dh has as many letters as phones; it is found by where it stands."""
    words = {
        "the": "dh ah", "then": "dh eh n", "other": "ah dh er", "bathe": "b ey dh", "ten": "t eh n",
        "hat": "hh ae t", "tan": "t ae n", "net": "n eh t", "bed": "b eh d", "her": "hh er",
        "late": "l ey t", "bet": "b eh t", "heat": "hh iy t", "tea": "t iy", "neat": "n iy t",
    }  # fmt: skip
    pairs = [(word, tuple(phones.split())) for word, phones in words.items()]
    for word, aligned in align_letters(pairs):
        assert "".join(letter for letter, _ in aligned) == word
        assert " ".join(sound for _, sound in aligned if sound) == words[word]
        if "dh" in words[word].split():
            assert {letter for letter, sound in aligned if sound == "dh"} <= {"t", "h"}
            assert any(sound == "dh" for _, sound in aligned), aligned


def test_words_of_the_dictionary_genitives_and_others(dictionary: Path) -> None:
    say = learn_pronouncer(dictionary)
    assert say("the") == (("dh", "ah"), ("dh", "iy"))
    assert say.known("cat's") and say("cat's") == (("k", "ae", "t", "s"),)
    assert say("dog's") == (("d", "ao", "g", "z"),)
    assert say("horse's") == (("hh", "ao", "r", "s", "ih", "z"),)
    assert say("cats'") == (("k", "ae", "t", "s"),)
    assert not say.known("gat's") and say("gat's") == (("g", "ae", "t", "s"),)
    assert say("7") == () and say("") == () and say("'s") == say("s")


def test_saved_and_loaded(dictionary: Path, tmp_path: Path) -> None:
    say = learn_pronouncer(dictionary)
    folder = tmp_path / "saved"
    folder.mkdir()
    say.save(folder)
    again = Pronouncer.load(folder)
    assert again.dictionary == say.dictionary and again.letters.rules == say.letters.rules
    (folder / "letters.tsv.xz").write_bytes(b"no xz")
    with pytest.raises(ModelError, match=r"letters\.tsv\.xz: cannot be read"):
        Pronouncer.load(folder)
    (folder / "letters.tsv.xz").write_bytes(lzma.compress(b"a\tae\nb"))
    with pytest.raises(ModelError, match=r"letters\.tsv\.xz:2: expected two columns"):
        LetterToSound.load(folder / "letters.tsv.xz")
    with pytest.raises(ModelError, match="no such file"):
        Pronouncer.load(tmp_path)


def test_there_are_39_phones() -> None:
    assert len(PHONES) == len(set(PHONES)) == 39
