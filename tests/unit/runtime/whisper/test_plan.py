"""What is asked of a Whisper model, made ready or refused."""

from __future__ import annotations

from typing import Any

import pytest
from tests.whisper_plain import plain_model

from mynah.errors import ConfigError
from mynah.runtime.request import Request
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.plan import WhisperPlan, whisper_plan

MODEL = plain_model()


def translated(language: str | None, times: Any = "none", **values: Any) -> WhisperPlan:
    options = WhisperOptions(task="translate", word_timestamps=times)
    request = Request(language=language, whisper=options, vad=False, **values)
    return whisper_plan(MODEL, request)


@pytest.mark.parametrize("language", ["zh", "de", None])
def test_a_translation_is_english_in_print(language: str | None) -> None:
    pytest.importorskip("wetext")
    planned = translated(language, punctuate=True, itn=True)
    assert planned.language == language, "that is spoken"
    assert planned.readable is not None
    assert planned.readable.text("i have twenty five cats") == "I have 25 cats."


@pytest.mark.parametrize("language", ["zh", None])
def test_a_translation_has_no_chinese_script(language: str | None) -> None:
    with pytest.raises(ConfigError, match="script: 'en' is not written in Chinese characters"):
        translated(language, script="simplified")


@pytest.mark.parametrize("language", ["zh", None])
def test_a_translation_is_not_aligned_to_what_is_said(language: str | None) -> None:
    with pytest.raises(ConfigError, match="word_timestamps: 'ctc' aligns what is said"):
        translated(language, times="ctc")
    assert translated(language, times="attention").aligner is None
    assert translated("en", times="ctc").aligner is not None
