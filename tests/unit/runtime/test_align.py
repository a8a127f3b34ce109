"""A recording and its text: long, with faults, in other scripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mynah
from mynah.errors import ConfigError, InputError
from mynah.runtime import align as aligning
from mynah.runtime.align import align, encode_long, spell, split_sentences, split_words
from mynah.runtime.engine import Encoded, Engine
from mynah.runtime.model import Model
from mynah.runtime.unit_runs import unit_runs
from mynah.text import Tokenizer, UnitTokenizer
from tone_model import RATE, speak, write_tone_model

WORDS = ["abc", "de", "bad", "cab", "dad", "edda", "ace", "bee"]
TEXT = " ".join(WORDS)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return mynah.load(write_tone_model(tmp_path_factory.mktemp("align") / "tones")).model


def spoken(words: list[str]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The words, and where each is."""
    samples, times = [], []
    at = 0.0
    for word in words:
        piece = speak(word)
        # the pause and the tone of the space come first
        times.append((at + 0.5, at + len(piece) / RATE - 0.15))
        samples.append(piece)
        at += len(piece) / RATE
    return np.concatenate(samples), times


def check(found: aligning.AlignedText, said: list[str], times: list[tuple[float, float]]) -> None:
    """The words that were heard are where they are."""
    heard = [word for word in found.transcript.words if word.source == "aligned"]
    assert [word.text for word in heard] == said
    for word, (start, end) in zip(heard, times, strict=True):
        assert word.start == pytest.approx(start, abs=0.12)
        assert word.end == pytest.approx(end, abs=0.12)


def test_a_clean_text(tones: Model) -> None:
    samples, times = spoken(WORDS)
    found = align(tones, samples, f"{TEXT}\n")
    check(found, WORDS, times)
    assert (found.missing, found.foreign, found.exact) == ((), (), True)
    assert found.transcript.text == TEXT
    assert found.transcript.duration == pytest.approx(len(samples) / RATE)


def test_an_exact_text(tones: Model) -> None:
    samples, times = spoken(WORDS)
    found = align(tones, samples, TEXT, exact=True)
    check(found, WORDS, times)
    assert found.heard
    found = align(tones, samples, f"{TEXT} ade", exact=True)  # taken for said, and heard badly
    assert found.transcript.words[-1].source == "aligned"
    assert (found.transcript.words[-1].confidence or 0) < 0.1
    with pytest.raises(InputError, match="26 units need 27 encoder frames, the recording has 11"):
        align(tones, samples[: RATE // 2], "abcde abcde abcde abcde dd", exact=True)


def test_missing_and_foreign_words_shift_nothing(tones: Model) -> None:
    samples, times = spoken(WORDS)
    text = "abc de cede bad Edda, ace deeded bee"  # cab and dad are not there, two are not said
    found = align(tones, samples, text)
    kept = [0, 1, 2, 5, 6, 7]
    check(found, ["abc", "de", "bad", "Edda,", "ace", "bee"], [times[n] for n in kept])
    assert [word.text for word in found.missing] == ["cede", "deeded"]
    words = found.transcript.words
    for number in (2, 6):
        assert (words[number].source, words[number].confidence) == ("interpolated", 0.0)
        assert words[number - 1].end <= words[number].start <= words[number].end
        assert words[number].end <= words[number + 1].start
    ((start, end),) = found.foreign
    assert start == pytest.approx(times[3][0], abs=0.6)
    assert end == pytest.approx(times[4][1], abs=0.2)


def test_long_ones(tones: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many windows, a paragraph left out, another that was never said."""
    rng = np.random.default_rng(0)
    said = ["".join(rng.choice(list("abcde"), rng.integers(2, 6))) for _ in range(150)]
    samples, times = spoken(said)
    monkeypatch.setattr(aligning, "WINDOW", 7.0)
    other = ["".join(rng.choice(list("abcde"), rng.integers(3, 6))) for _ in range(30)]
    found = align(tones, samples, " ".join([*said[:50], *other, *said[50:90], *said[110:]]))
    heard = {w.text: w for w in found.transcript.words if w.source == "aligned"}
    near = [
        abs(heard[word].start - start) < 0.12
        for word, (start, _) in zip(said, times, strict=True)
        if word in heard and said.count(word) == 1 and word not in other
    ]
    assert len(near) > 80
    assert sum(near) / len(near) > 0.97
    assert len(found.missing) >= 25
    assert any(start > times[89][1] - 1 and end < times[110][0] + 1 for start, end in found.foreign)


def test_windows_are_the_whole(tones: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, _ = spoken(WORDS)
    feats = tones.frontend(samples)
    encoded = tones.engine.encode(feats[None], np.array([len(feats)]))
    whole = encoded.log_probs[0, : int(encoded.lens[0])]
    for window in (0.3, 1.0, 60.0):
        monkeypatch.setattr(aligning, "WINDOW", window)
        monkeypatch.setattr(aligning, "CONTEXT", 0.2)
        for size in (997, len(samples)):
            blocks = (samples[n : n + size] for n in range(0, len(samples), size))
            parts = list(encode_long(tones, blocks))
            assert np.concatenate(parts) == pytest.approx(whole, abs=1e-4)
            assert window > 3 or len(parts) > 1


def test_times_of_characters(tones: Model) -> None:
    samples, times = spoken(["abc", "de"])
    found = align(tones, samples, "“Abc” de!", chars=True)
    for word, text in zip(found.transcript.words, ["“Abc”", "de!"], strict=True):
        assert word.text == text
        assert len(word.chars) == len(text)
        assert word.chars[0][0] == word.start
        assert word.chars[-1][1] == word.end
        flat = [time for pair in word.chars for time in pair]
        assert flat == sorted(flat)
    b = found.transcript.words[0].chars[2]
    assert b[0] == pytest.approx(times[0][0] + 0.27, abs=0.1)


def test_words_without_units_lie_between(tones: Model) -> None:
    samples, _ = spoken(["abc", "de"])
    words = align(tones, samples, "abc 1984 de").transcript.words
    assert (words[1].source, words[1].confidence) == ("interpolated", None)
    assert words[0].end <= words[1].start <= words[1].end <= words[2].start


def test_progress_and_silence(tones: Model) -> None:
    told: list[float] = []
    found = align(tones, np.zeros(3 * RATE, np.float32), "abc de", progress=told.append)
    assert sum(told) == pytest.approx(3)
    assert [word.source for word in found.transcript.words] == ["interpolated"] * 2
    assert len(found.missing) == 2
    assert not found.heard
    assert align(tones, np.zeros(10, np.float32), "abc").missing
    # times without any sign of the words, however sure a map would make them
    found = align(tones, np.zeros(3 * RATE, np.float32), "abc de", exact=True)
    assert [word.source for word in found.transcript.words] == ["aligned"] * 2
    assert not found.heard


def test_what_is_refused(tones: Model, tmp_path: Path) -> None:
    samples, _ = spoken(["abc"])
    for text in ("", "1984 ?", "…"):
        with pytest.raises(InputError, match="the text has no word that the model can spell"):
            align(tones, samples, text)
    with pytest.raises(ConfigError, match="'de'"):
        align(tones, samples, "abc", language="de")
    with pytest.raises(InputError, match=r"none\.wav"):
        align(tones, tmp_path / "none.wav", "abc")


def test_words_of_a_text() -> None:
    assert split_words("“Hello, world” — she said 好的。我们 (well-known) 3 times!") == [
        "“Hello,", "world” —", "she", "said", "好", "的。", "我", "们",
        "(well-known)", "3", "times!",
    ]  # fmt: skip
    assert split_words(" … -- ") == []
    assert split_words("— yes") == ["—yes"]


def test_sentences_of_a_text() -> None:
    text = 'Dr. Who went. He came back!  "Is it true?" Yes, it was.\n\nNew line\n你好。再见。'
    assert split_sentences(text) == [
        "Dr. Who went.", "He came back!", '"Is it true?"', "Yes, it was.", "New line",
        "你好。再见。",
    ]  # fmt: skip
    assert split_sentences("今天天气很好。我们走吧！") == ["今天天气很好。", "我们走吧！"]


def test_spelling() -> None:
    units = ("<blank>", "<unk>", "▁", "a", "b", "好", "我", "<sos/eos>")
    tokenizer = UnitTokenizer(units)
    spelt = spell(tokenizer, ["A,", "ab", "好", "我", "x", "b"], "en")
    assert [item.units for item in spelt] == [(3,), (3, 4), (5,), (6,), (), (4,)]
    assert [item.gap for item in spelt] == [(), (2,), (2,), (), (), ()]


class Moved:
    """The units of a tokenizer, each a place further."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self.vocab_size = tokenizer, tokenizer.vocab_size
        self.units = (tokenizer.units[-1], *tokenizer.units[:-1])
        self.blank, self.unk = tokenizer.blank + 1, -1

    def encode(self, text: str) -> list[int]:
        return [(unit + 1) % self.vocab_size for unit in self._tokenizer.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([(unit - 1) % self.vocab_size for unit in ids])


class MovedEngine:
    """An engine whose outputs are a place further."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, *arguments: Any) -> Encoded:
        out = self._engine.encode(*arguments)
        return dataclasses.replace(out, log_probs=np.roll(out.log_probs, 1, axis=-1))


def test_units_of_a_model_whose_blank_is_not_the_first(tones: Model) -> None:
    tokenizer: Any = Moved(tones.tokenizer)
    engine: Any = MovedEngine(tones.engine)
    moved = dataclasses.replace(tones, tokenizer=tokenizer, engine=engine)
    found = unit_runs(tones, speak("abcab"), "abcab")
    assert unit_runs(moved, speak("abcab"), "abcab") == found
    assert [unit for unit, _ in found[0] if unit in "abc"] == list("abcab")
