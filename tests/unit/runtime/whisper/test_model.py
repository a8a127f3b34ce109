"""Imported folders, loaded and run by ONNX Runtime in single precision."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import whisper_files as files
from tests.whisper_plain import asked, blocks, decoded, plain_model, sound
from tests.whisper_reference import random_whisper, write_random

from mynah.errors import ConfigError, ModelError
from mynah.model_folder import read_model_folder
from mynah.models.whisper.convert import import_whisper
from mynah.runtime.whisper.model import WhisperModel, load_whisper_model
from mynah.runtime.whisper.transcribe import transcribe
from mynah.text import load_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whisper")
    source = write_random(path / "hf", "huggingface", seed=2)
    return import_whisper(source, path / "tiny", precision="fp32")


@pytest.fixture(scope="module")
def model(folder: Path) -> WhisperModel:
    return load_whisper_model(folder, precision="fp32")


@pytest.mark.parametrize("beam", [1, 3])
def test_as_the_reference(model: WhisperModel, beam: int) -> None:
    samples = sound(40)
    planned = asked(beam_size=beam, max_new_tokens=20)
    _, wanted = decoded(plain_model(), planned, samples)
    _, found = decoded(model, planned, samples)
    assert [(w.seek, w.found.tokens) for w in found] == [(w.seek, w.found.tokens) for w in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.found.avg_logprob == pytest.approx(theirs.found.avg_logprob, abs=1e-3)


def test_what_the_model_is(model: WhisperModel) -> None:
    assert (model.name, model.rate, model.languages) == ("tiny", 16_000, files.LANGUAGES)
    assert model.language("German") == "de"
    assert model.language(None) is None
    with pytest.raises(ConfigError, match="does not know 'french'"):
        model.language("french")
    assert model.info.voice_activity


def test_words_by_attention(model: WhisperModel) -> None:
    planned = asked(word_timestamps="attention", max_new_tokens=20)
    found = transcribe(model, planned, blocks(sound(10)))
    words = [word for segment in found.segments for word in segment.words]
    assert words
    assert {word.source for word in words} == {"attention"}
    assert all(0 <= word.start <= word.end <= 10 for word in words)


def test_the_tokenizer_of_a_folder(folder: Path) -> None:
    values = read_model_folder(folder).info.tokenizer
    tokenizer = load_tokenizer(folder / "tokenizer", values)
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"
    with pytest.raises(ModelError, match="unknown key"):
        load_tokenizer(folder / "tokenizer", {**values, "sott": 1})


def test_another_family() -> None:
    with pytest.raises(ModelError, match="a model of the family vad, no Whisper"):
        load_whisper_model("mynah-vad")


def test_the_random_model_is_the_same_every_time() -> None:
    first, again = random_whisper(seed=4)[1], random_whisper(seed=4)[1]
    assert all((first[name] == again[name]).all() for name in first)
