"""Texts of windows and of long recordings as openai-whisper and CTranslate2 find them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_original import original
from tests.whisper_plain import TOKENIZER, asked, blocks, decoded, plain_model, sound
from tests.whisper_reference import DIMS, Reference, random_whisper

from mynah.audio.features import make_frontend
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.recording import Recording
from mynah.runtime.whisper.window import Asked, Found, WindowDecoder

pytestmark = pytest.mark.filterwarnings("ignore")  # what the originals think of each other

FIRST = (*TOKENIZER.encode(" "), TOKENIZER.eos)
FRONTEND = make_frontend({"kind": "whisper", "num_mels": 80})
MELS = np.stack([FRONTEND(sound(seed=n)).T for n in range(2)])
BEGINNINGS: list[dict[str, Any]] = [
    {},
    {"prompt": " the cat sat on the mat"},
    {"task": "translate", "language": "de"},
    {"without_timestamps": True},
    {"without_timestamps": True, "prefix": "the cat"},
    {"max_initial_timestamp": None},
    {"suppress_tokens": "", "suppress_blank": False},
    {"sample_len": 20},
    {"suppress_tokens": "-1,273,99"},
]
SEARCHES: list[dict[str, Any]] = [
    {"beam_size": 5, "prompt": " the cat sat on the mat"},
    {"beam_size": 3, "patience": 2.0},
    {"beam_size": 4, "length_penalty": 0.6},
]


def ours(engine: Reference, heard: Any, rows: list[int], values: dict[str, Any]) -> list[Found]:
    values = dict(values)
    prompt = values.pop("prompt", "")
    start = TOKENIZER.sot_sequence(
        values.pop("language", "en"),
        values.get("task", "transcribe"),
        timestamps=not values.get("without_timestamps", False),
    )
    before = (TOKENIZER.special.sot_prev, *TOKENIZER.encode(prompt)) if prompt else ()
    given = tuple(TOKENIZER.encode(" " + values.pop("prefix"))) if "prefix" in values else ()
    if "sample_len" in values:
        values["max_new_tokens"] = values.pop("sample_len")
    values.setdefault("beam_size", 1)
    decode = WindowDecoder(engine, TOKENIZER, WhisperOptions(temperature=0.0, **values), FIRST)
    return decode(heard, rows, [Asked(start, before, given)] * len(rows))


@functools.cache
def listened() -> tuple[Reference, Any]:
    """An engine, and what it heard."""
    engine = Reference(*random_whisper(DIMS, 2))
    return engine, engine.encode(MELS)


@pytest.mark.parametrize("values", [*BEGINNINGS, *SEARCHES], ids=str)
def test_windows(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    model = original(monkeypatch, *random_whisper(DIMS, 2))
    import whisper

    engine, heard = listened()
    found = ours(engine, heard, [0, 1], values)
    options = {"language": "en", "fp16": False, **values}
    if "prefix" in options:
        options["prefix"] = " " + options["prefix"]
    for mel, one in zip(MELS, found, strict=True):
        wanted = whisper.decode(model, torch.from_numpy(mel), whisper.DecodingOptions(**options))
        assert list(one.tokens) == wanted.tokens
        assert one.avg_logprob == pytest.approx(wanted.avg_logprob, abs=1e-4)
        assert one.no_speech_prob == pytest.approx(wanted.no_speech_prob, rel=1e-3)
        assert one.compression_ratio == pytest.approx(wanted.compression_ratio)


# words of letters alone; what halves of characters are is another question
PIECES = enumerate(files.vocabulary().tokens)
LETTERS = ",".join(["-1", *(str(n) for n, piece in PIECES if not piece.strip().isalpha())])
WORDS: dict[str, Any] = {
    "word_timestamps": "attention",
    "suppress_tokens": LETTERS,
    "condition_on_previous_text": False,
}
LONG: list[dict[str, Any]] = [
    {},
    {"beam_size": 3},
    {"condition_on_previous_text": False, "initial_prompt": "that hat"},
    {"initial_prompt": "the cat sat", "carry_initial_prompt": True},
    {"clip_timestamps": (3.2, 40.0, 50.5), "without_timestamps": True},
    {"no_speech_threshold": 1e-7, "logprob_threshold": -0.7},
    WORDS,
    {**WORDS, "hallucination_silence_threshold": 1.0},
]


@pytest.mark.parametrize("values", LONG, ids=lambda values: ",".join(values) or "plain")
def test_long_recordings(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    """The same windows, segments, times and tokens as the original, with previous text."""
    # with word times the original never ends with most random models
    seed = 5 if "word_timestamps" in values else 2
    model = plain_model(seed)
    found = original(monkeypatch, *random_whisper(DIMS, seed))
    samples = sound(75)
    options = {**values, "temperature": 0.0, "language": "en", "fp16": False, "verbose": None}
    options.setdefault("no_speech_threshold", None)
    options["clip_timestamps"] = list(values.get("clip_timestamps", [0]))
    options["word_timestamps"] = "word_timestamps" in values
    if "beam_size" not in values:
        options["beam_size"] = None
    from whisper.transcribe import transcribe

    wanted = transcribe(found, samples, **options)["segments"]
    run, windows = decoded(model, asked(**values), samples)
    assert bool(run.dropped) == ("hallucination_silence_threshold" in values)
    pieces = [(window, piece) for window in windows for piece in window.pieces]
    assert len(wanted) == len(pieces) > 3
    assert len({window.seek for window in windows}) > 2
    for other, (window, piece) in zip(wanted, pieces, strict=True):
        assert other["seek"] == window.seek
        assert other["tokens"] == list(piece.tokens)
        if piece.text or "word_timestamps" not in values:
            times = (piece.start, piece.end)
            assert (other["start"], other["end"]) == pytest.approx(times, abs=1e-6)
        assert other["text"] == piece.text
        assert other["avg_logprob"] == pytest.approx(window.found.avg_logprob, abs=1e-4)
        words = [word for word in other.get("words", []) if word["word"].strip()]
        for word, mine in zip(words, piece.words, strict=True):
            assert word["word"].strip() == mine.text
            times = (mine.start, mine.end)
            assert (word["start"], word["end"]) == pytest.approx(times, abs=1e-6)


@pytest.mark.parametrize("which", ["window", "recording"])
def test_features_of_a_long_recording(which: str) -> None:
    """Within 1e-5 of the original's, which are relative to the loudest of the whole recording:
    where that is in the window, or where it is asked for."""
    whisper = pytest.importorskip("whisper")
    samples = np.random.default_rng(0).normal(0, 0.1, 75 * 16_000).astype(np.float32)
    samples[8_000::16_000] += 3.0  # the loudest of all, in each second
    if which == "recording":
        samples[: 40 * 16_000] *= 1e-4
    wanted = whisper.audio.log_mel_spectrogram(samples, padding=whisper.audio.N_SAMPLES).numpy()
    recording = Recording(FRONTEND, blocks(samples), whole=which == "recording")
    for start, size in ((0, 3000), (2718, 3000), (6000, 1500)):
        mel = recording.window(start, size)
        np.testing.assert_allclose(mel[:, :size], wanted[:, start : start + size], atol=1e-5)
        assert not mel[:, size:].any()


CTRANSLATE2: list[dict[str, Any]] = [
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2},
    {"repetition_penalty": 0.8, "no_repeat_ngram_size": 3},
]


@pytest.mark.parametrize("values", CTRANSLATE2, ids=str)
def test_penalties_as_ctranslate2(values: dict[str, Any], tmp_path: Path) -> None:
    """Greedy search with the options that the original does not have."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    dims, tensors = random_whisper(DIMS, 2)
    folder = files.write_ctranslate2(tmp_path / "ct2", tensors, "float32", dims)
    (folder / "config.json").write_text(
        json.dumps({"suppress_ids": [], "suppress_ids_begin": [32, 300], "alignment_heads": [],
                    "lang_ids": [302, 303, 304]}), "utf-8"
    )  # fmt: skip
    model = ctranslate2.models.Whisper(str(folder), compute_type="float32")
    engine = Reference(dims, tensors)
    decode = WindowDecoder(
        engine, TOKENIZER, WhisperOptions(temperature=0.0, beam_size=1, **values), FIRST
    )
    start = TOKENIZER.sot_sequence("en")
    mine = decode(engine.encode(MELS[:1]), [0], [Asked(start)])[0]
    found = model.generate(
        ctranslate2.StorageView.from_array(np.ascontiguousarray(MELS[:1])),
        [list(start)],
        beam_size=1,
        max_length=128,
        suppress_blank=True,
        max_initial_timestamp_index=50,
        suppress_tokens=list(WhisperOptions().suppressed(TOKENIZER)),
        **values,
    )[0]
    wanted = found.sequences_ids[0][:64]
    assert list(mine.tokens) == wanted
