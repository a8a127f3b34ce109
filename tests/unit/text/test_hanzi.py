from __future__ import annotations

import lzma
import pickle
from pathlib import Path

import pytest

from mynah.cli import main
from mynah.errors import InputError, ModelError
from mynah.runtime.lexicon_folder import spellings
from mynah.text import load_tokenizer
from mynah.text.hanzi import (
    FINALS,
    INITIALS,
    MANDARIN_UNITS,
    HanziPronouncer,
    read_hanzi_dictionary,
    syllable_units,
)
from mynah.text.phones import PhoneTokenizer
from mynah.text.tokenizer import TokenizerConfig

TABLE = "中\tzh ong 1\n中\tzh ong 4\n国\tg uo 2\n行\tx ing 2\n行\th ang 2\n银\tin 2\n的\td e\n"
TABLE += "银行\tin 2 h ang 2\n"


@pytest.mark.parametrize(
    ("pinyin", "units"),
    [
        ("zhong1", "zh ong 1"), ("zhi2", "zh ir 2"), ("si4", "s iz 4"), ("ri4", "r ir 4"),
        ("qi1", "q i 1"), ("men5", "m en"), ("men", "m en"), ("er4", "er 4"), ("wo3", "uo 3"),
        ("wu3", "u 3"), ("wei4", "uei 4"), ("wen2", "uen 2"), ("weng1", "ong 1"), ("yi1", "i 1"),
        ("you3", "iou 3"), ("yong4", "iong 4"), ("yu2", "v 2"), ("yue4", "ve 4"),
        ("yuan2", "van 2"), ("yun2", "vn 2"), ("yan2", "ian 2"), ("ying1", "ing 1"),
        ("liu4", "l iou 4"), ("gui4", "g uei 4"), ("lun2", "l uen 2"), ("ju4", "j v 4"),
        ("xue2", "x ve 2"), ("quan2", "q van 2"), ("jun1", "j vn 1"), ("lü4", "l v 4"),
        ("lv4", "l v 4"), ("nüe4", "n ve 4"), ("nu3", "n u 3"), ("bo1", "b uo 1"),
        ("jiong3", "j iong 3"), ("o4", "uo 4"), ("ng2", "en 2"), ("", ""), ("xyz1", ""),
        ("V", ""), ("7", ""), ("zh1", ""), ("m2", ""),
    ],
)  # fmt: skip
def test_syllables(pinyin: str, units: str) -> None:
    assert syllable_units(pinyin) == tuple(units.split())


def test_units_are_different_and_few() -> None:
    assert len(MANDARIN_UNITS) == len(set(MANDARIN_UNITS)) == 61
    assert (len(INITIALS), len(FINALS)) == (21, 36)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "hanzi.tsv"
    path.write_text(TABLE, "utf-8")
    return path


def test_words_in_which_a_hanzi_is_read_otherwise(table: Path, tmp_path: Path) -> None:
    say = read_hanzi_dictionary(table)
    assert say("中") == (("zh", "ong", "1"), ("zh", "ong", "4"))
    assert say("银行") == (("in", "2", "h", "ang", "2"),)
    whole = say("中国银行行")
    assert [" ".join(units) for units in whole] == ["zh ong 1 g uo 2 in 2 h ang 2 x ing 2"]
    assert list(say.cut("行银行7")) == ["行", "银行", "7"]
    assert say("7V") == () and say("7国") == (("g", "uo", "2"),)
    assert say.known("银行") and not say.known("国行")
    say.save(tmp_path)
    assert HanziPronouncer.load(tmp_path).dictionary == say.dictionary
    packed = tmp_path / "hanzi.tsv.xz"
    packed.write_bytes(lzma.compress(TABLE.encode()))
    assert read_hanzi_dictionary(packed).dictionary == say.dictionary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("中\tzh ong1\n", "hanzi.tsv:1: unknown unit 'ong1'"),
        ("中\tzh ong 1\n国\n", "hanzi.tsv:2: expected a word"),
        ("", "no words"),
    ],
)
def test_damaged_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "hanzi.tsv").write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        read_hanzi_dictionary(tmp_path / "hanzi.tsv")
    with pytest.raises(InputError, match="absent.tsv: cannot be read"):
        read_hanzi_dictionary(tmp_path / "absent.tsv")


def test_the_tokenizer_of_phones_in_chinese(table: Path, tmp_path: Path) -> None:
    shape = TokenizerConfig(kind="phone", language="zh")
    tokenizer = PhoneTokenizer(read_hanzi_dictionary(table), config=shape)
    assert tokenizer.vocab_size == 63
    assert tokenizer.decode(tokenizer.encode("中国 银行！7")) == "zh ong 1 g uo 2 in 2 h ang 2"
    assert len(spellings("中", tokenizer)) == 2 and spellings("V", tokenizer) == []
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path, tokenizer.to_dict())
    assert again.to_dict() == {"kind": "phone", "language": "zh"}
    sent = pickle.loads(pickle.dumps(again))
    assert sent.encode("中国银行") == tokenizer.encode("中国银行")
    with pytest.raises(ModelError, match="no unit 'b'"):
        PhoneTokenizer(read_hanzi_dictionary(table), ("<blank>", "<sos/eos>"), shape)


def test_a_dictionary_from_texts(tmp_path: Path) -> None:
    pytest.importorskip("pypinyin")
    text = "# 重庆\n他在银行行走，行不行？\n中国银行 V 7\n他们的音乐，快乐。\n"
    (tmp_path / "t.txt").write_text(text, "utf-8")
    arguments = ["data", "pronounce", str(tmp_path / "t.txt"), "--language", "zh", "--out"]
    assert main([*arguments, str(tmp_path / "hanzi.tsv")]) == 0
    say = read_hanzi_dictionary(tmp_path / "hanzi.tsv")
    assert "重" not in say.dictionary and "V" not in say.dictionary
    assert say("行")[0] == ("x", "ing", "2") and ("h", "ang", "2") in say("行")
    assert say("银行") == (("in", "2", "h", "ang", "2"),)
    assert "中国" not in say.dictionary, "read as its hanzi are"
    (tmp_path / "t.txt").write_text("none\n", "utf-8")
    assert main([*arguments, str(tmp_path / "none.tsv")]) == 2


def test_readings_with_sandhi() -> None:
    pytest.importorskip("pypinyin")
    from mynah.text.pinyin import syllables

    assert syllables("你好不乱") == ["ni3", "hao3", "bu4", "luan4"]
    assert syllables("你好不乱", sandhi=True) == ["ni2", "hao3", "bu4", "luan4"]
    assert syllables("绿的V") == ["lv4", "de5", "V"]
