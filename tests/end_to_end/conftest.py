"""A tiny Whisper on the command line, and what it hears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tone_model import RATE, speak, write_tone_model
from tests.whisper_reference import DIMS, write_random

from mynah.audio import write
from mynah.cli import main
from mynah.models.whisper.convert import import_whisper

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models ``whisper-tiny`` and ``tones``."""
    folder = tmp_path_factory.mktemp("models")
    source = write_random(folder / "hf", "huggingface", DIMS, 4, end=-4.0, times=-4.0)
    import_whisper(source, folder / "whisper-tiny", precision="both")
    write_tone_model(folder / "tones")
    return folder


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tones") / "talk.wav"
    write(path, speak("abc de"), RATE)
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech, which a Whisper hears alone."""
    path = tmp_path_factory.mktemp("speech") / "talk.flac"
    source = Path(__file__).resolve().parents[1] / "data" / "speech" / "awb_1.flac"
    path.write_bytes(source.read_bytes())
    return path


@pytest.fixture
def call(
    models: Path, recording: Path, tones: Path, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Call:  # fmt: skip
    """Runs a command line on the recording; short texts, one try."""
    monkeypatch.chdir(tmp_path)

    def run(
        *flags: str, model: str = "whisper-tiny", language: bool = True
    ) -> tuple[int, str, str]:
        file = tones if model == "tones" else recording
        words = ["transcribe", str(file), "--model", str(models / model)]
        if model == "whisper-tiny":
            usual = {"--language": "en", "--max-new-tokens": "6", "--beam-size": "1",
                     "--temperature-increment-on-fallback": "None"}  # fmt: skip
            names = {flag.replace("_", "-") for flag in flags}
            names |= set() if language else {"--language"}
            for name, value in usual.items():
                words += [name, value] if name not in names else []
        code = main([*words, *flags])
        out, err = capsys.readouterr()
        return code, out, err

    return run
