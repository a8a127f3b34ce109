"""A context as long as the window: how long it is, and when it is not trusted."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.whisper_plain import (
    TOKENIZER,
    asked,
    blocks,
    plain_model,
    sound,
)

from mynah.runtime.result import Transcript
from mynah.runtime.whisper.model import WhisperModel
from mynah.runtime.whisper.transcribe import make_run, transcribe

MODEL = plain_model()


def heard(samples: Any, model: WhisperModel = MODEL, **values: Any) -> Transcript:
    return transcribe(model, asked(**{"max_new_tokens": 9, **values}), blocks(samples))


def contexts(model: WhisperModel, seconds: float, **values: Any) -> tuple[list[int], Transcript]:
    """Frames of each encoding of a window with a short context, and what was heard."""
    engine, frames = model.engine, []
    encode = engine.encode

    def spy(mels: Any) -> Any:
        frames.append(mels.shape[2])
        return encode(mels)

    engine.encode = spy  # type: ignore[method-assign]
    found = heard(sound(seconds), model, short_context=True, **values)
    return frames, found


def test_a_short_context_is_as_long_as_the_window_needs() -> None:
    assert contexts(plain_model(), 4.2, without_timestamps=True)[0] == [600]


def test_a_text_of_a_short_context_that_is_not_to_be_trusted_is_heard_in_the_whole() -> None:
    doubt = {"compression_ratio_threshold": 0.01, "no_speech_threshold": None}  # whatever is said
    values: dict[str, Any] = {"temperature": (0.0, 0.4), "max_new_tokens": 4}
    frames, found = contexts(plain_model(end=0.0), 4.2, **values, **doubt)
    assert frames == [600, 3000]
    whole = heard(sound(4.2), plain_model(end=0.0), **values, **doubt)
    assert contexts(plain_model(end=0.0), 4.2, **values)[0] == [600]
    assert found.text == whole.text != ""
    assert found.segments[0].decoded == whole.segments[0].decoded


def test_what_is_left_at_an_end_has_no_short_context() -> None:
    run = make_run(MODEL, asked(short_context=True), blocks(sound(4)))
    (job,) = run.jobs(1)
    assert job.context == 500
    assert dataclasses.replace(job, size=60).context == 200  # a short recording
    job.lane.first = False
    assert dataclasses.replace(job, size=60).context == 3000
    assert dataclasses.replace(job, size=100).context == 200


def test_silence_of_a_short_context_is_heard_in_the_whole() -> None:
    silent = {"no_speech_threshold": 0.0, "logprob_threshold": None, "max_new_tokens": 4}
    frames, found = contexts(plain_model(), 4.2, **silent)
    assert frames == [600, 3000]
    assert found.status == "no_speech"


def test_a_text_of_a_short_context_that_does_not_end_is_heard_in_the_whole() -> None:
    endless: dict[str, Any] = {
        "suppress_tokens": (TOKENIZER.eos,),
        "compression_ratio_threshold": None,
    }
    longest = 20 + 25 * 3
    frames, found = contexts(plain_model(), 1.2, **endless, max_new_tokens=longest + 5)
    assert frames == [300, 3000]
    assert found.text == heard(sound(1.2), **endless, max_new_tokens=longest + 5).text != ""
