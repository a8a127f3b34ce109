"""What may be asked of a Whisper model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files

from mynah.errors import ConfigError
from mynah.runtime.whisper.options import WhisperOptions
from mynah.text.whisper_tokenizer import WhisperTokenizer, standard_tokens

TOKENIZER = WhisperTokenizer(files.vocabulary(), standard_tokens(300, files.TOKENS))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"task": "sing"}, "task: 'sing' is none of transcribe, translate"),
        ({"languages": ("en", "klingon")}, "language: 'klingon' is not known"),
        ({"beam_size": 0}, "beam_size: 0 is not in 1..100"),
        ({"patience": 0.05}, "patience: 0.05 leaves no hypothesis of 5"),
        ({"length_penalty": 1.5}, "length_penalty: 1.5 is not in 0..1"),
        ({"temperature": ()}, "temperature"),
        ({"temperature": (0.0, -0.2)}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"logprob_threshold": 1.0}, "logprob_threshold: 1.0"),
        ({"chunk_length": 31.0}, "chunk_length: 31.0 is not in 1..30"),
        ({"clip_timestamps": (1.0, 1.0)}, "an end is not after its start"),
        ({"clip_timestamps": (-1.0,)}, "clip_timestamps"),
        ({"suppress_tokens": "1,x"}, "suppress_tokens: '1,x' is not numbers"),
        ({"batched": True, "condition_on_previous_text": True}, "there is no previous text"),
        ({"hallucination_silence_threshold": 2.0}, "needs word_timestamps"),
        ({"carry_initial_prompt": True}, "there is no initial_prompt"),
        ({"prefix": " "}, "prefix: empty"),
        ({"seed": -1}, "seed: -1"),
    ],
)
def test_refused(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        WhisperOptions(**values)
    assert line in str(error.value)


def test_previous_text_is_a_prompt_where_it_can_be() -> None:
    assert WhisperOptions().conditions
    assert not WhisperOptions(batched=True).conditions
    assert not WhisperOptions(condition_on_previous_text=False).conditions


def test_suppressed_tokens() -> None:
    special = TOKENIZER.special
    marks = {special.sot, special.sot_prev, special.sot_lm, special.no_speech}
    marks |= {special.transcribe, special.translate}
    symbols = set(TOKENIZER.non_speech_tokens)
    assert set(WhisperOptions().suppressed(TOKENIZER)) == marks | symbols
    assert set(WhisperOptions(suppress_tokens="").suppressed(TOKENIZER)) == set()
    assert set(WhisperOptions(suppress_tokens=(7,)).suppressed(TOKENIZER)) == marks | {7}
    assert set(WhisperOptions(suppress_tokens=(7, -1)).suppressed(TOKENIZER)) == (
        marks | symbols | {7}
    )
    with pytest.raises(ConfigError, match="suppress_tokens: 99999 is not in"):
        WhisperOptions(suppress_tokens="99999").suppressed(TOKENIZER)


def test_temperatures() -> None:
    assert WhisperOptions(temperature=0.4).temperatures == (0.4,)
    assert WhisperOptions().temperatures[0] == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam_size", 2.5), ("beam_size", "5"), ("beam_size", True), ("beam_size", None),
        ("temperature", "0"), ("temperature", (0.0, None)), ("initial_prompt", 3),
        ("initial_prompt", (1, "a")), ("hotwords", ["a", "b"]), ("prefix", 5),
        ("max_new_tokens", 3.5), ("patience", "1"), ("languages", "en"), ("batched", 1),
        ("clip_timestamps", 3.0), ("suppress_tokens", 7), ("no_speech_threshold", "0.6"),
    ],
)  # fmt: skip
def test_values_of_other_types_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name}: .* is not "):
        WhisperOptions(**{name: value})  # type: ignore[arg-type]


def test_what_other_programs_take_for_lists_and_word_times() -> None:
    given: dict[str, Any] = {
        "temperature": [0.0, 0.4], "initial_prompt": [5, 6], "clip_timestamps": [0, 2.5],
        "suppress_tokens": [-1, 7], "languages": ["en"], "word_timestamps": True,
    }  # fmt: skip
    options = WhisperOptions(**given)
    assert (options.temperature, options.initial_prompt) == ((0.0, 0.4), (5, 6))
    assert (options.clip_timestamps, options.suppress_tokens) == ((0, 2.5), (-1, 7))
    assert (options.languages, options.word_timestamps) == (("en",), "attention")
    assert WhisperOptions(word_timestamps=False).word_timestamps == "none"  # type: ignore[arg-type]
    assert WhisperOptions(beam_size=np.int64(3), patience=np.float32(1)).beam_size == 3  # type: ignore[arg-type]
