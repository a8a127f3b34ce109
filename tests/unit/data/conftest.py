"""A small corpus of tones, and what a loader needs beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mynah import audio
from mynah.config import build
from mynah.corpus import write_tsv
from mynah.data.loader import DataConfig, Loader
from mynah.text import Tokenizer, char_tokenizer

RATE = 8000
COUNT = 23


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 recordings of 0.3 to 1.4 s at 8 kHz, the text of each a few letters."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(COUNT):
        seconds = 0.3 + 0.05 * number
        time = np.arange(round(seconds * RATE)) / RATE
        samples = 0.3 * np.sin(2 * np.pi * (200 + 20 * number) * time)
        samples += 0.01 * rng.standard_normal(len(time))
        soundfile.write(folder / f"u{number:02}.flac", samples, RATE)
        rows.append(
            {"id": f"u{number:02}", "path": f"u{number:02}.flac", "speaker": f"s{number % 3}",
             "duration": len(time) / RATE, "text": "AbC"[: 1 + number % 3],
             "split": "dev" if number % 5 == 0 else "train"}
        )  # fmt: skip
    write_tsv(folder / "manifest.tsv", rows)
    return folder


@pytest.fixture(scope="session")
def frontend() -> audio.Frontend:
    """Eight mel bins, so that features are small."""
    return audio.make_frontend({"kind": "fbank", "rate": RATE, "num_mels": 8, "high": 4000.0})


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The letters of the corpus."""
    return char_tokenizer(["AbC", "abc", "BCa"])


@pytest.fixture
def make(corpus: Path, frontend: audio.Frontend, tokenizer: Tokenizer) -> Callable[..., Loader]:
    """A loader over the corpus; ``data`` changes the table, the rest goes to the loader."""

    def maker(data: dict[str, Any] | None = None, **options: Any) -> Loader:
        values = {"train": [{"manifest": str(corpus)}], "max_frames": 400, "speed": []}
        config = build(DataConfig, values | (data or {}))
        which = options.pop("which", "train")
        return Loader(config, which, tokenizer, frontend, **({"seed": 7} | options))

    return maker
