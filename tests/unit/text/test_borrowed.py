"""Mandarin in the phones of English."""

from __future__ import annotations

from pathlib import Path

import pytest

from mynah.model_folder import known_models
from mynah.runtime.align import align, spell
from mynah.runtime.model import Model, load_model
from mynah.text import Tokenizer
from mynah.text.borrowed import borrowed_units, borrows, english_phones
from mynah.text.hanzi import MANDARIN_UNITS, TONES
from mynah.text.pronounce import PHONES

pytestmark = pytest.mark.skipif("mynah-en" not in known_models(), reason="mynah-en is not there")


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


def said(tokenizer: Tokenizer, *words: str) -> list[str]:
    return [tokenizer.decode(units) for units in borrowed_units(tokenizer, words)]


def test_every_sound_has_phones() -> None:
    for unit in MANDARIN_UNITS:
        found = english_phones([unit])
        assert set(found) <= set(PHONES)
        assert bool(found) == (unit not in TONES)


def test_who_borrows(model: Model) -> None:
    assert borrows(model.tokenizer, "zh")
    for language in ("en", "yue", "ja", None):
        assert not borrows(model.tokenizer, language)


def test_hanzi_are_read_in_their_words(model: Model) -> None:
    pytest.importorskip("pypinyin")
    assert said(model.tokenizer, *"银行行走。") == ["ih n", "hh aa ng", "sh ih ng", "z ow", ""]
    long, grown = said(model.tokenizer, "长", "城"), said(model.tokenizer, "长", "大")
    assert (long[0], grown[0]) == ("ch aa ng", "jh aa ng")
    assert said(model.tokenizer, "用", "Python,", "写") == ["y ow ng", "p ay th aa n", "sh y eh"]
    assert said(model.tokenizer, "AA制") == ["aa jh er"]
    # one that has no reading leaves the others theirs
    assert said(model.tokenizer, "\U00020000", "\U00020001", "好")[2] == "hh aw"
    assert not any(said(model.tokenizer, "42", "…"))
    spelt = spell(model.tokenizer, ["你", "好", "world"], "zh")
    assert [len(one.units) for one in spelt] == [2, 2, 4] and not any(one.gap for one in spelt)


def test_a_real_sentence(model: Model, shared: Path) -> None:
    pytest.importorskip("pypinyin")
    recording = shared / "data" / "aishell1_sample" / "audio" / "BAC009S0252W0169.opus"
    if not recording.is_file():
        pytest.skip("the AISHELL sample is not there")
    found = align(model, recording, "虽然清明节一般而言开发商都少有推货")
    assert found.transcript.language == "zh" and not found.missing
    # by an aligner that was trained on the speaker (benchmarks/mandarin_times.py)
    starts = [0.41, 0.62, 0.8, 1.03, 1.17, 1.38, 1.53, 1.62, 1.82, 2.11, 2.28, 2.42, 2.7, 2.9, 3.17,
              3.31, 3.45]  # fmt: skip
    for word, start in zip(found.transcript.words, starts, strict=True):
        assert word.start == pytest.approx(start, abs=0.1), word
