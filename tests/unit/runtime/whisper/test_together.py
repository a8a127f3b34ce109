"""Recordings side by side: each as it is alone, whatever happens to the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.whisper_plain import Asked, Scripted, asked, blocks, plain_model, sound
from tests.whisper_reference import Reference
from tests.whisper_reference import ReferenceDecoder as Decoder

from mynah.errors import InputError, ModelError, MynahError
from mynah.runtime.offline import Cancelled
from mynah.runtime.request import Request
from mynah.runtime.result import Transcript
from mynah.runtime.whisper.language import language_probabilities
from mynah.runtime.whisper.model import WhisperModel
from mynah.runtime.whisper.plan import whisper_plan
from mynah.runtime.whisper.recognize import transcribe_recordings
from mynah.runtime.whisper.recording import Recording
from mynah.runtime.whisper.transcribe import transcribe, transcribe_together

MODEL = plain_model()
SHORT = {"max_new_tokens": 9}
Array = np.ndarray[Any, Any]


class Each(Scripted):
    """A detector whose streams are apart from each other."""

    def stream(self) -> Scripted:
        return Scripted().stream()


def talk(seconds: float, seed: int) -> Array:
    samples = sound(seconds, seed)
    samples[4 * 16_000 : 5 * 16_000] = 0  # a pause
    return samples


SOUNDS = [talk(6, 1), np.zeros(0, np.float32), talk(35, 0), talk(33, 3)]


def together(planned: Asked, model: WhisperModel = MODEL, **more: Any) -> list[Any]:
    recordings = (blocks(samples) for samples in SOUNDS)
    return transcribe_together(model, planned, recordings, **more)


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 2, "beam_size": 2},
        {},
        {"batched": True, "batch_size": 3, "detector": Each()},
        {"batched": True, "chunk_length": 8.0},
        {"temperature": (0.0, 0.7), "logprob_threshold": -0.05, "best_of": 2},
        {"multilingual": True, "language": None, "language_threshold": 0.6},
        {"language": None, "language_threshold": 0.9, "language_segments": 2},
        {"initial_prompt": "the cat", "hotwords": "mat", "prefix": "and"},
        {"word_timestamps": "attention", "hallucination_silence_threshold": 1.0},
        {"short_context": True, "clip_timestamps": (1.0, 5.0, 9.0)},
    ],
    ids=lambda values: ",".join(values) or "nothing",
)
def test_each_is_as_it_is_alone(values: dict[str, Any]) -> None:
    planned = asked(**{**SHORT, **values})
    wanted = [transcribe(MODEL, planned, blocks(samples)) for samples in SOUNDS]
    found = together(planned)
    assert [part.to_dict() for part in found] == [part.to_dict() for part in wanted]
    assert found[1].status == "no_speech"
    assert len({part.text for part in found}) > 2


def test_windows_of_several_recordings_are_one_batch() -> None:
    model = plain_model()
    engine = model.engine
    assert isinstance(engine, Reference)
    for samples in SOUNDS:
        transcribe(model, asked(**SHORT), blocks(samples))
    calls, engine.calls = engine.calls, 0
    sizes: list[int] = []
    encode = engine.encode

    def spy(mels: Any) -> Any:
        sizes.append(len(mels))
        return encode(mels)

    engine.encode = spy  # type: ignore[method-assign]
    together(asked(**SHORT), model)
    assert sizes[0] == 3 and engine.calls < 0.6 * calls
    sizes.clear()
    together(asked(**SHORT, batch_size=2), model)
    assert max(sizes) == 2
    sizes.clear()
    together(asked(**SHORT, batch_size=3, batched=True, chunk_length=5.0), model)
    assert max(sizes) == 3


@pytest.mark.parametrize("multilingual", [False, True])
def test_languages_of_several_recordings_are_one_batch(
    multilingual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_at_once: list[int] = []
    plain = language_probabilities

    def spy(model: Any, heard: Any, rows: Any, allowed: Any = ()) -> Any:
        asked_at_once.append(len(rows))
        found = plain(model, heard, rows, allowed)
        alone = [plain(model, heard, [row], allowed)[0] for row in rows]
        assert [list(one) for one in found] == [list(one) for one in alone]
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-6)
        return found

    monkeypatch.setattr("mynah.runtime.whisper.together.language_probabilities", spy)
    planned = asked(**SHORT, language=None, multilingual=multilingual)
    found = together(planned)
    assert asked_at_once[0] == 3, "one of the four recordings is empty"
    assert multilingual or len(asked_at_once) == 1, "a language is detected once"
    assert found == [transcribe(MODEL, planned, blocks(samples)) for samples in SOUNDS]


def test_a_language_that_cannot_be_found_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = asked(**SHORT, language=None)
    wanted = together(planned)
    bad = MODEL.engine.encode(Recording(MODEL.frontend, blocks(SOUNDS[0])).window(0, 600)[None])

    def failing(model: Any, heard: Any, rows: Any, allowed: Any = ()) -> Any:
        if any(np.array_equal(heard.output[row], bad.output[0]) for row in rows):
            raise ModelError("no numbers")
        return language_probabilities(model, heard, rows, allowed)

    monkeypatch.setattr("mynah.runtime.whisper.together.language_probabilities", failing)
    found = together(planned)
    assert isinstance(found[0], ModelError)
    assert found[1:] == wanted[1:]


def test_the_first_window_says_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[list[int]] = []

    def spy(model: Any, heard: Any, rows: Any, allowed: Any = ()) -> Any:
        asked_for.append(list(rows))
        return language_probabilities(model, heard, rows, allowed)

    monkeypatch.setattr("mynah.runtime.whisper.together.language_probabilities", spy)
    planned = asked(**SHORT, language=None, batched=True, batch_size=3, chunk_length=5.0)
    transcribe(MODEL, planned, blocks(SOUNDS[2]))
    assert asked_for == [[0]]


class Damaged:
    """A recording that breaks off."""

    def __init__(self, good: int) -> None:
        self._good = good

    def __call__(self) -> Iterator[Array]:
        yield from list(blocks(SOUNDS[2]))[: self._good]
        raise InputError("talk.wav: broken")


@pytest.mark.parametrize(
    ("good", "more"),
    [(0, {}), (11, {}), (11, {"batched": True}), (11, {"loudness": "recording"})],
    ids=str,
)
def test_what_cannot_be_read_spoils_no_other(good: int, more: dict[str, Any]) -> None:
    planned = asked(**SHORT, **more)
    wanted = [transcribe(MODEL, planned, blocks(SOUNDS[n])) for n in (0, 1)]
    three = iter([blocks(SOUNDS[0]), Damaged(good)(), blocks(SOUNDS[1])])
    found = transcribe_together(MODEL, planned, three)
    assert isinstance(found[1], InputError) and str(found[1]) == "talk.wav: broken"
    assert [found[0], found[2]] == wanted
    with pytest.raises(InputError, match="broken"):
        transcribe(MODEL, planned, Damaged(good)())


def test_a_window_that_fails_is_blamed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from mynah.runtime.whisper import window

    wanted = together(asked(**SHORT))
    plain = window.WindowDecoder.__call__

    def failing(self: Any, heard: Any, rows: Any, questions: Any) -> Any:
        if any(np.array_equal(heard.output[row], bad) for row in rows):
            raise ModelError("no numbers")
        return plain(self, heard, rows, questions)

    mels = Recording(MODEL.frontend, blocks(SOUNDS[0])).window(0, 600)
    bad = MODEL.engine.encode(mels[None]).output[0]
    monkeypatch.setattr(window.WindowDecoder, "__call__", failing)
    found = together(asked(**SHORT))
    assert isinstance(found[0], ModelError)
    assert found[1:] == wanted[1:]


def test_times_of_words_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = asked(**SHORT, word_timestamps="attention", batched=True, detector=Each())
    whole = together(planned)
    rows: list[int] = []
    align = Decoder.align

    def counted(self: Decoder, tokens: Array, heads: Any) -> Any:
        rows.append(len(tokens))
        return align(self, tokens, heads)

    monkeypatch.setattr(Decoder, "align", counted)
    assert together(planned) == whole and max(rows) > 1
    rows.clear()
    monkeypatch.setattr("mynah.runtime.whisper.words._LOGITS", 1)
    assert together(planned) == whole
    assert set(rows) == {1}


def test_stopped_and_told() -> None:
    told: list[tuple[float, float | None]] = []
    whole = together(
        asked(**SHORT, batch_size=2), progress=lambda d, t: told.append((d, t)), total=74.0
    )
    assert told[-1] == (74.0, 74.0)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    with pytest.raises(Cancelled) as stopped:
        together(asked(**SHORT, batch_size=2), stop=iter([False, True]).__next__)
    parts = stopped.value.transcripts
    assert len(parts) == 3, "the last was not begun"
    for part, one in zip(parts, whole, strict=False):
        assert part.segments == one.segments[: len(part.segments)]
    assert any(part.segments for part in parts)


def test_stopped_there_is_a_transcript_of_every_recording() -> None:
    def read(samples: Array) -> Iterator[Array]:
        if not len(samples):
            raise InputError("cannot be read")
        yield from blocks(samples)

    nothing = np.zeros(0, np.float32)
    audios = [nothing, *(talk(36, seed) for seed in range(3))]
    planned = dataclasses.replace(whisper_plan(MODEL, Request(language="en", vad=False)),
                                  options=asked(**SHORT, batch_size=2).options)  # fmt: skip
    with pytest.raises(Cancelled) as stopped:
        transcribe_recordings(planned, audios, read, stop=iter([False, False, True]).__next__)
    parts = stopped.value.transcripts
    assert len(parts) == 4
    assert not parts[0].segments and parts[1].segments, "in their order"
    assert not parts[3].segments and parts[3].duration == 0, "not begun"


def test_what_is_made_of_a_transcript_is_made_when_it_is_there() -> None:
    order: list[int] = []

    def finish(number: int, transcript: Transcript) -> Transcript:
        order.append(number)
        if number == 2:
            raise MynahError("cannot be aligned")
        return transcript

    found = together(asked(**SHORT), finish=finish)
    assert sorted(order) == [0, 1, 2, 3] and order[:2] == [1, 0], "the short ones come first"
    assert [isinstance(one, Transcript) for one in found] == [True, True, False, True]
