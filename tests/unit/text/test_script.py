"""Chinese characters in one script."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mynah.errors import ConfigError, MissingDependency
from mynah.text import script as module
from mynah.text.script import SCRIPTS, Script, ScriptConverter, is_chinese


@pytest.mark.parametrize(
    ("script", "text", "wanted"),
    [
        ("simplified", "上海孙中山古居紀念館", "上海孙中山古居纪念馆"),
        ("simplified", "看著 著名 裡面 裏面 皇后 乾隆 乾燥", "看着 著名 里面 里面 皇后 乾隆 干燥"),
        ("traditional", "后面里面头发发展皇后干部", "後面裏面頭髮發展皇后幹部"),
        ("taiwan", "里面为什么", "裡面為什麼"),
        ("hongkong", "里面为什么着", "裏面為什麼着"),
        ("simplified", "Mynah 2.0, é\n", "Mynah 2.0, é\n"),
        ("simplified", "为什么那么坏，怎么办？", "为什么那么坏，怎么办？"),
        ("taiwan", "為什麼那麼壞", "為什麼那麼壞"),
    ],
)
def test_scripts(script: Script, text: str, wanted: str) -> None:
    pytest.importorskip("opencc")
    assert ScriptConverter(script)(text) == wanted
    assert ScriptConverter(script)(wanted) == wanted


def test_words_are_rewritten_as_they_stand_in_their_text() -> None:
    pytest.importorskip("opencc")
    to_traditional = ScriptConverter("traditional")
    assert to_traditional.words([]) == []
    assert to_traditional.words(["头", "发", "", "发展"]) == ["頭", "髮", "", "發展"]
    assert [to_traditional(word) for word in "头发"] == ["頭", "發"]  # alone it is another


@given(st.lists(st.text(st.characters(min_codepoint=0x3000, max_codepoint=0x9FFF), max_size=8)))
@pytest.mark.parametrize("script", SCRIPTS)
def test_words_stay_words(script: Script, words: list[str]) -> None:
    pytest.importorskip("opencc")
    converter = ScriptConverter(script)
    found = converter.words(words)
    assert "".join(found) == converter("".join(words)) and len(found) == len(words)


def test_a_text_that_gets_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer:
        def convert(self, text: str) -> str:
            return text.replace("x", "yy")

    monkeypatch.setattr(module, "_converter", lambda name: Longer())
    assert ScriptConverter("simplified").words(["ax", "b"]) == ["ayy", "b"]


def test_languages() -> None:
    assert all(map(is_chinese, ("zh", "zh-TW", "ZH_cn", "yue", "cmn-Hant")))
    assert not any(map(is_chinese, ("ja", "en", "", "zhx")))


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'simple' is none of simplified, traditional"):
        ScriptConverter("simple")  # type: ignore[arg-type]
    module._converter.cache_clear()
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(MissingDependency, match=r"opencc is not installed.*\[text\]"):
        ScriptConverter("simplified")


def test_files_of_the_working_directory_are_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("opencc")
    (tmp_path / "tw2s.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    module._converter.cache_clear()
    assert ScriptConverter("simplified")("說") == "说"
