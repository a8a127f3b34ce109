"""Texts of windows and of long recordings as openai-whisper and CTranslate2 find them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_original import original
from tests.whisper_reference import DIMS, Reference, random_whisper

from mynah.audio.features import make_frontend
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.window import Asked, Found, WindowDecoder
from mynah.text.whisper_tokenizer import WhisperTokenizer, standard_tokens

pytestmark = pytest.mark.filterwarnings("ignore")  # what the originals think of each other

TOKENIZER = WhisperTokenizer(files.vocabulary(), standard_tokens(300, files.TOKENS))
FIRST = (*TOKENIZER.encode(" "), TOKENIZER.eos)


def sound(seconds: int = 30, seed: int = 0) -> np.ndarray[Any, Any]:
    """Tones that change every second; each has the same loudest moment."""
    rng = np.random.default_rng(seed)
    time = np.arange(16_000) / 16_000
    parts = [
        np.sin(2 * np.pi * rng.uniform(100, 3000) * time) * rng.uniform(0, 1)
        + 0.1 * rng.standard_normal(16_000)
        for _ in range(seconds)
    ]
    samples = 0.3 * np.concatenate(parts)
    samples[::16_000] += 3.0  # so that what the features are relative to is the same in each window
    return samples.astype(np.float32)


def mels(count: int = 2) -> np.ndarray[Any, Any]:
    frontend = make_frontend({"kind": "whisper", "num_mels": 80})
    return np.stack([frontend(sound(seed=n)).T for n in range(count)])


MELS = mels()
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
    {},
    {"beam_size": 5},
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


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("beginning", BEGINNINGS, ids=str)
def test_windows(
    monkeypatch: pytest.MonkeyPatch, beginning: dict[str, Any], search: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    if search and len(beginning) > 1:
        pytest.skip("told by the others")
    dims, tensors = random_whisper(DIMS, 2)
    model = original(monkeypatch, dims, tensors)
    import whisper

    engine = Reference(dims, tensors)
    heard = engine.encode(MELS)
    found = ours(engine, heard, [0, 1], {**beginning, **search})
    options = {"language": "en", "fp16": False, **beginning, **search}
    if "prefix" in options:
        options["prefix"] = " " + options["prefix"]
    for mel, one in zip(MELS, found, strict=True):
        wanted = whisper.decode(model, torch.from_numpy(mel), whisper.DecodingOptions(**options))
        assert list(one.tokens) == wanted.tokens
        assert one.avg_logprob == pytest.approx(wanted.avg_logprob, abs=1e-4)
        assert one.no_speech_prob == pytest.approx(wanted.no_speech_prob, rel=1e-3)
        assert one.compression_ratio == pytest.approx(wanted.compression_ratio)
