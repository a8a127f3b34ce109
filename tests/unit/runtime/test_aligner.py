"""Word times by a CTC model: of a transcript that has them by guess, numbers and all."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import find_shared
from tests.tone_model import RATE, speak, write_tone_model

from mynah.audio import read
from mynah.errors import ConfigError, ModelError
from mynah.runtime.aligner import Aligner, Keep, load_aligner
from mynah.runtime.result import Segment, Transcript, Word, make_transcript

Samples = np.ndarray


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Aligner:
    return load_aligner(write_tone_model(tmp_path_factory.mktemp("aligner") / "tones"))


def spoken(words: list[str], gap: float = 0.3) -> tuple[Samples, list[tuple[float, float]]]:
    """The words with pauses between, and where each is."""
    samples, times, at = [np.zeros(int(gap * RATE), np.float32)], [], gap
    for word in words:
        piece = speak(word)
        times.append((at + 0.5, at + len(piece) / RATE - 0.15))
        samples += [piece, np.zeros(int(gap * RATE), np.float32)]
        at += len(piece) / RATE + gap
    return np.concatenate(samples), times


def guessed(texts: list[str], length: float, language: str = "en") -> Transcript:
    """A transcript with times that are evenly spread, as a decoder may have them."""
    step = length / len(texts)
    words = tuple(
        Word(text, n * step, (n + 1) * step, 0.7, "attention") for n, text in enumerate(texts)
    )
    segment = Segment(" ".join(texts), 0.0, length, 0.7, words)
    return make_transcript([segment], language=language, duration=length)


def aligned(aligner: Aligner, transcript: Transcript, samples: Samples) -> Transcript:
    kept = Keep(RATE)
    for _ in kept.pass_on(np.array_split(samples, 7)):
        pass
    found = aligner.transcript(transcript, kept)
    kept.close()
    return found


def check(words: tuple[Word, ...], times: list[tuple[float, float]], within: float = 0.13) -> None:
    for word, (start, end) in zip(words, times, strict=True):
        assert word.source == "aligned", word
        assert word.start == pytest.approx(start, abs=within), word
        assert word.end == pytest.approx(end, abs=within), word


def test_it_is_loaded_once(tmp_path: Path) -> None:
    folder = write_tone_model(tmp_path / "tones")
    first = load_aligner(folder)
    assert load_aligner(str(folder)) is first
    os.utime(folder / "model.toml", (1, 1))
    assert load_aligner(folder) is not first, "it was written anew"
    with pytest.raises(ModelError, match=r"it has no model\.toml"):
        load_aligner(tmp_path)


def test_words(tones: Aligner) -> None:
    samples, times = spoken(["abc", "de", "bad", "cab"])
    found = aligned(tones, guessed(["Abc,", "de", "(bad)", "cab!"], len(samples) / RATE), samples)
    check(found.words, times)
    assert [word.text for word in found.words] == ["Abc,", "de", "(bad)", "cab!"]
    assert [word.confidence for word in found.words] == [0.7] * 4  # the decoder's own
    assert found.segments[0].start == found.words[0].start
    assert found.segments[0].end == found.words[-1].end


@pytest.mark.parametrize("number", ["42", "$9", "№"])
def test_what_cannot_be_spelt_is_where_it_sounds(tones: Aligner, number: str) -> None:
    """The model has letters a to e: no numeral, and no word for one."""
    samples, times = spoken(["abc", "deed", "bad"])
    found = aligned(tones, guessed(["abc", number, "bad"], len(samples) / RATE), samples)
    if any(map(str.isalnum, number)):
        check(found.words, times)
    else:  # a sign is not said, and keeps to the gap
        assert found.words[1].source == "attention"
        assert found.words[0].end <= found.words[1].start <= found.words[2].start


def test_several_in_a_row_are_parted_at_the_pauses(tones: Aligner) -> None:
    samples, times = spoken(["abc", "deed", "ace", "bead", "cab"])
    texts = ["abc", "7", "19", "2.5", "cab"]
    found = aligned(tones, guessed(texts, len(samples) / RATE), samples)
    check(found.words, times)


def test_at_the_ends(tones: Aligner) -> None:
    samples, times = spoken(["deed", "abc", "bead"])
    found = aligned(tones, guessed(["7", "abc", "8"], len(samples) / RATE), samples)
    check(found.words, times)


def test_nothing_but_numbers(tones: Aligner) -> None:
    samples, times = spoken(["deed", "bead"])
    check(aligned(tones, guessed(["7", "8"], len(samples) / RATE), samples).words, times)


def test_a_word_that_is_not_heard_keeps_its_time(tones: Aligner) -> None:
    samples, times = spoken(["abc", "bad"])
    found = aligned(tones, guessed(["abc", "eeeee", "bad"], len(samples) / RATE), samples)
    check((found.words[0], found.words[2]), times)
    middle = found.words[1]
    assert middle.source == "attention"
    assert found.words[0].end <= middle.start <= middle.end <= found.words[2].start


def test_segments_stay_in_order_and_apart(tones: Aligner) -> None:
    first, times = spoken(["abc", "de"])
    second, more = spoken(["bad", "cab"])
    length = len(first) / RATE
    words = [("abc", 0.0, 1.0), ("de", 1.0, length), ("bad", length, length + 1),
             ("cab", length + 1, length + len(second) / RATE)]  # fmt: skip
    made = [Word(text, start, end, None, "attention") for text, start, end in words]
    segments = [
        Segment("abc de", 0.0, length, None, tuple(made[:2])),
        Segment("bad cab", length, made[3].end, None, tuple(made[2:])),
    ]
    transcript = make_transcript(segments, language="en", duration=made[3].end)
    found = aligned(tones, transcript, np.concatenate([first, second]))
    check(found.words, times + [(a + length, b + length) for a, b in more])
    assert all(word.confidence is not None for word in found.words)  # the aligner's


def test_without_times_before(tones: Aligner) -> None:
    samples, times = spoken(["abc", "de"])
    one = Segment("abc de", 0.0, len(samples) / RATE, None)
    transcript = make_transcript([one], language="en", duration=len(samples) / RATE)
    check(aligned(tones, transcript, samples).words, times)


def test_other_languages_are_left_alone_or_refused(tones: Aligner) -> None:
    samples, _ = spoken(["abc"])
    before = guessed(["abc"], len(samples) / RATE, "de")
    assert aligned(tones, before, samples) == before
    tones.check("en")
    with pytest.raises(ConfigError, match="the aligner tones knows en, not de"):
        tones.check("de")


def test_silence_and_too_little_sound(tones: Aligner) -> None:
    before = guessed(["abc"], 1.0)
    assert aligned(tones, before, np.zeros(RATE, np.float32)).words[0].text == "abc"
    assert aligned(tones, before, np.zeros(100, np.float32)) == before
    assert aligned(tones, before, np.zeros(0, np.float32)) == before


def test_keep_is_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mynah.runtime.aligner.MEMORY", 4000)  # most of it in a file
    samples = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    kept = Keep(RATE)
    assert np.array_equal(np.concatenate(list(kept.pass_on(np.array_split(samples, 9)))), samples)
    np.testing.assert_array_equal(kept.read(0.25, 0.5), samples[4000:8000])
    np.testing.assert_array_equal(kept.read(0.9, 5.0), samples[14400:])
    assert len(kept.read(2.0, 3.0)) == 0
    kept.close()


def test_real_digits() -> None:
    """Spoken digits with pauses between, given as numerals, by the bundled English recogniser."""
    shared = find_shared()
    if shared is None or not (shared / "data" / "fsdd").is_dir():
        pytest.skip("no ../shared/data/fsdd")
    folder = shared / "data" / "fsdd"
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    aligner = load_aligner()
    errors, words = [], 0
    rng = np.random.default_rng(3)
    for take in range(12):
        chosen = [rows[int(n)] for n in rng.choice(len(rows), 5, replace=False)]
        samples, times, at = [], [], 0.0
        for row in chosen:
            quiet = rng.normal(0, 1e-4, int(0.5 * RATE)).astype(np.float32)
            piece = read(folder / row["path"], rate=RATE).samples
            at += 0.5
            times.append((at, at + len(piece) / RATE))
            at += len(piece) / RATE
            samples += [quiet, piece]
        samples.append(np.zeros(RATE // 2, np.float32))
        sound = np.concatenate(samples)
        digits = [row["id"].split("_")[0] for row in chosen]
        found = aligned(aligner, guessed(digits, len(sound) / RATE), sound)
        for word, (start, end) in zip(found.words, times, strict=True):
            words += 1
            if word.source == "aligned":
                errors.append(max(start - word.start, word.end - end, 0.0))
                assert word.end > word.start, take
    assert len(errors) > 0.9 * words
    inside = [error < 0.25 for error in errors]
    assert np.median(errors) < 0.05
    assert np.mean(inside) > 0.85, np.quantile(errors, [0.5, 0.9, 0.95])
