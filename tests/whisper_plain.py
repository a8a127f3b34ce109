"""A Whisper model of the tests' own engine, and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tests import whisper_files as files
from tests.whisper_reference import DIMS, Reference, random_whisper

from mynah.audio.features import make_frontend
from mynah.audio.segments import SegmentOptions
from mynah.model_folder import ModelInfo
from mynah.runtime.voice import Detector
from mynah.runtime.whisper.config import WhisperConfig
from mynah.runtime.whisper.longform import LongForm, Window
from mynah.runtime.whisper.model import WhisperModel
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.together import Together
from mynah.runtime.whisper.transcribe import make_run
from mynah.text.whisper_tokenizer import WhisperTokenizer, standard_tokens

Array = npt.NDArray[Any]
TOKENIZER = WhisperTokenizer(files.vocabulary(), standard_tokens(300, files.TOKENS))
PLAIN = {"temperature": 0.0, "beam_size": 1, "guards": "off", "no_speech_threshold": None}


def plain_model(seed: int = 2, **how: float) -> WhisperModel:
    """A tiny random model of the languages en, zh and de."""
    dims, tensors = random_whisper(DIMS, seed, **how)
    frontend = {"kind": "whisper", "num_mels": dims.n_mels}
    info = ModelInfo("whisper", "tiny", 16_000, tuple(files.LANGUAGES), frontend=frontend)
    config = WhisperConfig(dims, alignment_heads=((1, 0), (1, 1)))
    return WhisperModel(Reference(dims, tensors), TOKENIZER, make_frontend(frontend), config, info)


@dataclass(frozen=True)
class Asked:
    """What is asked of a model."""

    options: WhisperOptions
    language: str | None = "en"
    detector: Detector | None = None
    speech: SegmentOptions | None = None


def asked(language: str | None = "en", detector: Detector | None = None, **values: Any) -> Asked:
    """Greedy search without other temperatures and guards, unless ``values`` say otherwise."""
    return Asked(WhisperOptions(**{**PLAIN, **values}), language, detector)


def sound(seconds: float = 30, seed: int = 0) -> Array:
    """Tones that change every second; each has the same loudest moment."""
    rng = np.random.default_rng(seed)
    time = np.arange(16_000) / 16_000
    parts = [
        np.sin(2 * np.pi * rng.uniform(100, 3000) * time) * rng.uniform(0, 1)
        + 0.1 * rng.standard_normal(16_000)
        for _ in range(int(np.ceil(seconds)))
    ]
    samples = 0.3 * np.concatenate(parts)[: int(seconds * 16_000)]
    samples[8_000::16_000] += 3.0  # what features are relative to is the same in each window
    return samples.astype(np.float32)


def blocks(samples: Array, size: int = 48_000) -> Iterator[Array]:
    """A recording as it is read."""
    for first in range(0, len(samples), size):
        yield samples[first : first + size]


def decoded(model: WhisperModel, planned: Asked, samples: Array) -> tuple[LongForm, list[Window]]:
    """The windows of a recording."""
    run = make_run(model, planned, blocks(samples))
    together = Together(iter([run]), planned.options.batch_size)
    while together.step() is not None:
        pass
    if run.error is not None:
        raise run.error
    return run, run.windows


class Scripted:
    """A detector that hears speech where samples are not zero."""

    rate, frame_seconds = 16_000, 0.016

    def stream(self) -> Scripted:
        self._rest = np.zeros(0, np.float32)
        return self

    def feed(self, samples: Array, last: bool = False) -> Array:
        samples = np.concatenate([self._rest, samples])
        count = len(samples) // 256
        self._rest = samples[count * 256 :]
        return (np.abs(samples[: count * 256]).reshape(count, 256).max(axis=1) > 0).astype(float)
