"""Scenes: what is speech in them is known, and the generator alone decides what they are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah import audio
from mynah.audio import augment
from mynah.audio.activity import Activity
from mynah.config import build
from mynah.corpus import write_tsv
from mynah.data.config import DataConfig
from mynah.data.scenes import (
    SceneConfig,
    Scenes,
    frame_labels,
    lone_word,
    sounding_level,
    tilted,
)
from mynah.errors import ConfigError, InputError

RATE = 16_000
FRONTEND = audio.make_frontend(
    {"kind": "fbank", "num_mels": 10, "frame_length": 32.0, "frame_shift": 16.0,
     "snip_edges": False}
)  # fmt: skip


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two noises, one of them half silent."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal((2, RATE))).astype(np.float32)
    samples[1, : RATE // 2] = 0.0
    for number in range(2):
        audio.write(folder / f"n{number}.wav", samples[number], RATE)
    rows = [{"id": f"n{n}", "path": f"n{n}.wav", "duration": 1.0, "text": ""} for n in range(2)]
    write_tsv(folder / "manifest.tsv", rows)
    return folder / "manifest.tsv"


def scenes(speech: Path, noise: Path, **changes: Any) -> Scenes:
    values = {"seconds": 4.0, "noise": {"manifest": str(noise)}} | changes
    data = build(DataConfig, {"train": [{"manifest": str(speech / "manifest.tsv")}]})
    return Scenes(build(SceneConfig, values), data.train, FRONTEND)


def nothing(name: str, reason: str) -> None:
    raise AssertionError(f"{name}: {reason}")


@pytest.fixture(scope="module")
def utterance(speech: Path) -> np.ndarray:
    return audio.read(speech / "slt_1.flac", rate=RATE).samples


def test_the_generator_alone_decides(speech: Path, noise: Path, utterance: np.ndarray) -> None:
    maker = scenes(speech, noise)
    again = pickle.loads(pickle.dumps(maker))
    for seed in range(8):
        feats, labels = maker(np.random.default_rng(seed), utterance, nothing)
        other, same = again(np.random.default_rng(seed), utterance, nothing)
        assert np.array_equal(feats, other) and labels == same
        assert feats.shape == (250, 10) and len(labels) == 250
        assert set(labels) <= {0, 1} and np.isfinite(feats).all()


def test_what_is_kept_in_memory_changes_nothing(
    speech: Path, noise: Path, utterance: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = scenes(speech, noise, silent=0.0, babble=0.5)
    first = [maker(np.random.default_rng(seed), utterance, nothing) for seed in range(4)]
    assert maker._voices
    again = [maker(np.random.default_rng(seed), utterance, nothing) for seed in range(4)]
    monkeypatch.setattr("mynah.data.scenes._HELD", 0)
    maker = scenes(speech, noise, silent=0.0, babble=0.5)
    unkept = [maker(np.random.default_rng(seed), utterance, nothing) for seed in range(4)]
    assert not maker._voices
    for one, two, three in zip(first, again, unkept, strict=True):
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[0], three[0])
        assert one[1] == two[1] == three[1]


def test_speech_is_where_the_labels_say(speech: Path, noise: Path, utterance: np.ndarray) -> None:
    maker = scenes(speech, noise, silent=0.0, clean=1.0, narrow=0.0)
    for seed in range(8):
        scene = maker.scene(np.random.default_rng(seed), utterance, nothing)
        assert scene.active.any() and not scene.active.all()
        loud = np.sqrt(np.mean(scene.samples[scene.active] ** 2))
        quiet = np.sqrt(np.mean(scene.samples[~scene.active] ** 2))
        assert loud > 5 * quiet
        assert 1e-3 <= loud <= 0.26, "levels from -60 to -12 dB"


def test_short_pauses_within_speech(speech: Path, noise: Path, utterance: np.ndarray) -> None:
    spoken = []
    for gap in (0.0, 0.06, 0.25):
        maker = scenes(speech, noise, silent=0.0, clean=1.0, narrow=0.0, gap=gap)
        made = [maker.scene(np.random.default_rng(seed), utterance, nothing) for seed in range(4)]
        spoken.append(sum(int(scene.active.sum()) for scene in made))
    assert spoken[0] < spoken[1] < spoken[2]


def test_noise_keeps_to_its_ratio(speech: Path, noise: Path, utterance: np.ndarray) -> None:
    plain = {"silent": 0.0, "clean": 0.0, "made": 0.0, "babble": 0.0, "narrow": 0.0,
             "level": [-20.0, -20.0]}  # fmt: skip
    ratios = []
    for snr in (0.0, 30.0):
        maker = scenes(speech, noise, snr=[snr, snr], **plain)
        for seed in range(6):
            scene = maker.scene(np.random.default_rng(seed), utterance, nothing)
            rest = scene.samples[~scene.active]
            ratios.append(-20 - 20 * np.log10(sounding_level(rest, RATE)))
    assert np.median(ratios[:6]) < 6, "speech and noise as loud as each other"
    assert np.median(ratios[6:]) > 20


def test_silence_has_no_speech(speech: Path, noise: Path, utterance: np.ndarray) -> None:
    maker = scenes(speech, noise, silent=1.0)
    for seed in range(6):
        _, labels = maker(np.random.default_rng(seed), utterance, nothing)
        assert not any(labels)


def test_made_noise_of_given_kinds_varied(
    speech: Path, noise: Path, utterance: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, ...]] = []

    def made(rng: np.random.Generator, count: int, rate: int, kinds: tuple[str, ...]) -> np.ndarray:
        drawn.append(kinds)
        return np.ones(count, np.float32)

    monkeypatch.setattr("mynah.data.scenes.made_noise", made)
    changes = {"made": 1.0, "babble": 0.0, "clean": 0.0, "silent": 1.0, "second": 1.0}
    for remade in (0.0, 1.0):
        maker = scenes(speech, noise, kinds=["saw", "cries"], remade=remade, **changes)
        maker._varied = lambda rng, noise, count, reject: drawn.append(()) or noise  # type: ignore
        drawn.clear()
        maker.scene(np.random.default_rng(0), utterance, nothing)
        assert drawn == [("saw", "cries"), ()] * 2 if remade else [("saw", "cries")] * 2


def runs(active: np.ndarray) -> list[tuple[float, float]]:
    """Stretches of speech in seconds, pauses below 80 ms closed: a word may have parts."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    found: list[tuple[float, float]] = []
    for start, end in edges.reshape(-1, 2) / RATE:
        if found and start - found[-1][1] < 0.08:
            start = found.pop()[0]
        found.append((start, end))
    return found


def test_words_stand_alone(speech: Path, noise: Path, utterance: np.ndarray) -> None:
    maker = scenes(speech, noise, seconds=8.0, silent=0.0, clean=1.0, narrow=0.0, words=1.0)
    first = last = 0
    words: list[tuple[float, float]] = []
    for seed in range(30):
        scene = maker.scene(np.random.default_rng(seed), utterance, nothing)
        found = runs(scene.active)
        assert found and all(end - start <= 0.92 for start, end in found)
        words += found
        first += found[0][0] < 0.09
        last += found[-1][1] > 7.9
        loud = np.sqrt(np.mean(scene.samples[scene.active] ** 2))
        near = np.convolve(scene.active, np.ones(2 * RATE // 10 + 1), "same") > 0.5
        assert np.sqrt(np.mean(scene.samples[~near] ** 2)) < 0.03 * loud, "nothing else is said"
    assert 60 < len(words) < 200
    assert 4 <= first < 26 and 6 <= last < 28, "streams that begin or end with one"
    assert np.median([end - start for start, end in words]) < 0.7


def test_no_words_asked_for_draw_nothing(
    speech: Path, noise: Path, utterance: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, drawn = scenes(speech, noise, silent=0.0), []
    monkeypatch.setattr(maker, "_fill", lambda rng, *rest: drawn.append(rng.random()))
    maker.scene(np.random.default_rng(5), utterance, nothing)
    assert drawn == [np.random.default_rng(5).random(2)[1]], "only whether there is speech before"


def test_a_lone_word_is_cut_between_its_neighbours() -> None:
    spans = ((0.2, 0.5), (0.52, 0.8), (1.5, 4.0), (4.1, 4.2), (6.0, 6.4))
    samples = np.zeros(7 * RATE, np.float32)
    for number, (start, end) in enumerate(spans):  # each has its own value; the fourth is weak
        samples[round(start * RATE) : round(end * RATE)] = 0.01 if number == 3 else number + 1
    found = Activity(spans, 60.0)
    seen = set()
    for seed in range(60):
        piece, spoken = lone_word(np.random.default_rng(seed), samples, found, RATE)
        values = tuple(sorted(set(piece[piece > 0].tolist())))
        seen.add(values)
        seconds = len(piece) / RATE
        assert 0.15 <= seconds <= 0.9 + 0.16
        told = np.zeros(len(piece), bool)
        for start, end in spoken.segments:
            told[round(start * RATE) : round(end * RATE)] = True
        assert np.sum(told != (piece > 0)) <= 4, "the truth is where the samples are"
    assert seen == {(1.0,), (2.0,), (1.0, 2.0), (3.0,), (5.0,)}
    piece, spoken = lone_word(np.random.default_rng(0), samples, Activity((), 60.0), RATE)
    assert not len(piece) and not spoken.segments


def test_a_recording_that_is_not_clean_is_refused(speech: Path, noise: Path) -> None:
    rng = np.random.default_rng(1)
    hiss = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    with pytest.raises(InputError, match="not clean: . dB"):
        scenes(speech, noise, silent=0.0)(rng, hiss, nothing)
    with pytest.raises(InputError, match="not clean: . dB"):
        scenes(speech, noise, silent=0.0, words=1.0)(rng, hiss, nothing)


def test_labels_of_frames() -> None:
    active = np.zeros(256 * 4, bool)
    active[256 + 100 : 3 * 256 + 100] = True  # 156, 256 and 100 samples of three frames
    assert frame_labels(active, 4, FRONTEND).tolist() == [0, 1, 1, 0]
    assert frame_labels(active[:300], 4, FRONTEND).tolist() == [0, 0, 0, 0]


def test_sounding_level_passes_over_silence() -> None:
    rng = np.random.default_rng(2)
    hiss = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
    gaps = np.concatenate([hiss, np.zeros(3 * RATE, np.float32)])
    assert sounding_level(hiss, RATE) == pytest.approx(0.1, rel=0.05)
    assert sounding_level(gaps, RATE) == pytest.approx(0.1, rel=0.05)
    assert sounding_level(np.zeros(RATE, np.float32), RATE) == 0.0
    assert sounding_level(np.zeros(0, np.float32), RATE) == 0.0


def test_filters() -> None:
    rng = np.random.default_rng(3)
    hiss = rng.standard_normal(RATE).astype(np.float32)
    narrow = augment.narrowed(np.random.default_rng(4), hiss, RATE)
    assert narrow.shape == hiss.shape and narrow.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(narrow))
    assert spectrum[7600:].max() < 0.02 * spectrum[1000:2000].max()
    assert tilted(rng, hiss).shape == hiss.shape


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seconds": 0.1}, "seconds"),
        ({"silent": 1.5}, "silent"),
        ({"words": -0.5}, "words"),
        ({"made": 0.8, "babble": 0.3}, "made"),
        ({"gap": -0.1}, "gap"),
        ({"snr": [5.0, 1.0]}, "snr"),
        ({"kinds": ["hun"]}, "did you mean 'hum'"),
        ({"snrr": [5.0, 1.0]}, "did you mean 'snr'"),
    ],
)
def test_wrong_settings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(SceneConfig, values)
