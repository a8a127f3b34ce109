"""The bundled detector: nothing in silence and noise, speech where it is, live as whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mynah import audio
from mynah.audio.segments import SegmentOptions, speech_segments
from mynah.cli import main
from mynah.errors import ConfigError, InputError, ModelError
from mynah.model_folder import find_model, known_models
from mynah.runtime.request import find_detector
from mynah.runtime.vad import BUNDLED, SegmentStream, Vad, load_vad

pytestmark = pytest.mark.skipif(
    BUNDLED not in known_models(), reason="the bundled detector is not there"
)
RATE = 16_000
SECONDS = 20
TIME = np.arange(SECONDS * RATE) / RATE


@pytest.fixture(scope="module")
def vad() -> Vad:
    return load_vad()


def clicks() -> np.ndarray:
    signal = np.zeros(SECONDS * RATE)
    signal[:: RATE // 2] = 0.9
    return signal


def walk() -> np.ndarray:
    steps = np.random.default_rng(2).standard_normal(SECONDS * RATE)
    brown = np.cumsum(steps)
    brown -= np.convolve(brown, np.ones(4001) / 4001, mode="same")
    return 0.2 * brown / np.abs(brown).max()


def test_a_damaged_detector_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> None:
        raise ModelError("mynah-vad: detector.fp32.onnx was altered")

    monkeypatch.setattr("mynah.runtime.vad.load_vad", damaged)
    for wanted in (None, True):
        with pytest.raises(ModelError, match="was altered"):
            find_detector(wanted, usual=True)
    monkeypatch.setattr("mynah.runtime.request.known_models", dict)
    assert find_detector(None, usual=True) == (None, None), "it is not installed"


NO_SPEECH = {
    "silence": np.zeros(SECONDS * RATE),
    "offset": np.full(SECONDS * RATE, 0.2),
    "one bit": np.where(np.random.default_rng(3).random(SECONDS * RATE) < 0.1, 2.0**-15, 0.0),
    "white noise": 0.1 * np.random.default_rng(1).standard_normal(SECONDS * RATE),
    "loud white noise": np.clip(np.random.default_rng(1).standard_normal(SECONDS * RATE), -1, 1),
    "brown noise": walk(),
    "hum": sum(0.2 / k * np.sin(2 * np.pi * 50 * k * TIME) for k in range(1, 8)),
    "tone": 0.3 * np.sin(2 * np.pi * 440 * TIME),
    "high tone": 0.3 * np.sin(2 * np.pi * 3000 * TIME),
    "beeps": 0.3 * np.sin(2 * np.pi * 1000 * TIME) * (TIME % 1.0 < 0.3),
    "clicks": clicks(),
}


@pytest.mark.parametrize("name", sorted(NO_SPEECH))
def test_no_speech(vad: Vad, name: str) -> None:
    samples = np.asarray(NO_SPEECH[name], np.float32)
    for gain in (1.0, 0.03):
        assert vad.segments(samples * np.float32(gain)) == [], f"at {gain}"


def recordings(speech: Path, repository: Path) -> list[Path]:
    return [*sorted(speech.glob("*.flac")), *sorted((repository / "examples").glob("*.flac"))]


def spoken(vad: Vad, samples: np.ndarray) -> float:
    """The share of the recording that is speech; none of these has a long pause."""
    return sum(end - start for start, end in vad.segments(samples)) / (len(samples) / RATE)


@pytest.mark.parametrize("change", ["as it is", "-30 dB", "8 kHz", "with silence"])
def test_speech_is_found(vad: Vad, speech: Path, repository: Path, change: str) -> None:
    for path in recordings(speech, repository):
        samples = audio.read(path, rate=RATE).samples
        if change == "-30 dB":
            samples = samples * np.float32(10 ** (-30 / 20))
        if change == "8 kHz":
            samples = audio.resample(audio.resample(samples, RATE, 8000), 8000, RATE)
        if change != "with silence":
            assert spoken(vad, samples) > 0.8, path.name
            continue
        quiet = np.zeros(2 * RATE, np.float32)
        spans = vad.segments(np.concatenate([quiet, samples, quiet]))
        assert 1.5 < spans[0][0] < 2.6, path.name
        assert abs(spans[-1][1] - 2.0 - len(samples) / RATE) < 0.6, path.name


def test_live_as_whole(vad: Vad, speech: Path) -> None:
    samples = audio.read(speech / "rms_2.flac", rate=RATE).samples
    whole, stream = vad.probabilities(samples), vad.stream()
    segments = SegmentStream(vad)
    rng = np.random.default_rng(4)
    for _ in range(2):  # the second time nothing of the first is left
        parts, spans, at = [], [], 0
        while at < len(samples):
            size = int(rng.choice([1, 7, 160, 512, 4000, 20_000]))
            chunk, last = samples[at : at + size], at + size >= len(samples)
            parts.append(stream.feed(chunk, last=last))
            spans += segments.feed(chunk, last=last)
            at += size
        assert np.allclose(np.concatenate(parts), whole, atol=1e-5)
        assert np.array(spans) == pytest.approx(np.array(vad.segments(samples)))
    assert whole.dtype == np.float32 and len(whole) == round(len(samples) / RATE / 0.016)


def test_what_a_stream_gave_stays_and_streams_are_apart(vad: Vad, speech: Path) -> None:
    samples = audio.read(speech / "awb_1.flac", rate=RATE).samples
    one, two = vad.stream(), vad.stream()
    first = [one.feed(samples[i : i + 1600]) for i in range(0, 16_000, 1600)]
    kept = [part.copy() for part in first]
    second = [two.feed(samples[i : i + 1600]) for i in range(0, 16_000, 1600)]
    one.feed(samples[:1600])
    for a, b, c in zip(first, kept, second, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)


def test_rows_of_a_batch_do_not_matter_to_each_other(vad: Vad, speech: Path) -> None:
    feats = [vad.frontend(audio.read(speech / f"{n}_1.flac", rate=RATE).samples)
             for n in ("awb", "slt")]  # fmt: skip
    lens = np.array([len(f) for f in feats])
    both = np.zeros((2, lens.max(), feats[0].shape[1]), np.float32)
    for row, f in enumerate(feats):
        both[row, : len(f)] = f
    probs, state = vad.step(both, lens, vad.init_state(2))
    for row, f in enumerate(feats):
        alone, own = vad.step(f[None], lens[row : row + 1], vad.init_state())
        assert np.allclose(probs[row, : len(f)], alone[0], atol=1e-5)
        for name, value in own.items():
            assert np.allclose(state[name][row], value[0], atol=1e-5)


def test_threads_share_it(vad: Vad, speech: Path) -> None:
    samples = audio.read(speech / "slt_2.flac", rate=RATE).samples
    expected, found = vad.probabilities(samples), []
    threads = [
        threading.Thread(target=lambda: found.append(vad.probabilities(samples))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(expected, other) for other in found) and len(found) == 4
    assert load_vad() is vad


def test_strange_input(vad: Vad) -> None:
    for count in (0, 1, 127, 128, 300):
        samples = np.zeros(count, np.float32)
        assert len(vad.probabilities(samples)) == (count + 128) // 256
        assert vad.segments(samples) == []
    loud = np.full(RATE, 1e10, np.float32)
    assert np.isfinite(vad.probabilities(loud)).all()
    with pytest.raises(InputError, match=r"as large as 1e\+30"):
        vad.probabilities(loud * np.float32(1e20))
    stereo = np.zeros((2, RATE), np.int16)
    assert len(vad.probabilities(stereo)) == 63
    with pytest.raises(InputError, match="not finite"):
        vad.probabilities(np.array([0.0, np.nan], np.float32))
    with pytest.raises(InputError, match="3 dimensions"):
        vad.segments(np.zeros((1, 2, 3), np.float32))


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        load_vad("mynah-vat")
    with pytest.raises(ModelError, match="family u2, no voice detector"):
        load_vad("mynah-en")
    for threads in (0, 100_000):  # ONNX Runtime would try to start as many
        with pytest.raises(ConfigError, match=f"threads: {threads} is"):
            load_vad(threads=threads)
    copy = shutil.copytree(find_model(BUNDLED), tmp_path / "copy")
    with (copy / "onnx" / "detector.fp32.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ModelError, match="was altered"):
        load_vad(copy)


def test_it_is_small() -> None:
    folder = find_model(BUNDLED)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 1_000_000


def test_recognisers_are_not_detectors(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = str(repository / "examples" / "mynah_bird.flac")
    assert main(["transcribe", recording, "--model", BUNDLED]) == 2
    said = capsys.readouterr().err
    assert "mynah-vad" in said and "mynah segments" in said and said.count("\n") == 1
    assert main(["models"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith(BUNDLED))
    assert "vad" in line and "live" in line
    assert main(["models", BUNDLED]) == 0
    assert "ESC-10" in capsys.readouterr().out


def test_segments_of_recordings(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bird = repository / "examples" / "mynah_bird.flac"
    quiet = tmp_path / "quiet file.wav"
    audio.write(quiet, np.zeros(RATE, np.float32), RATE)
    assert main(["segments", str(bird), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = [float(t) for t in lines[0].split()]
    assert 0.0 <= first[0] < first[1] <= 5.6

    assert main(["segments", str(bird), str(quiet), "--format", "json", "--quiet"]) == 0
    said = capsys.readouterr()
    entries = [json.loads(line) for line in said.out.splitlines()]
    assert [len(e["segments"]) > 0 for e in entries] == [True, False]
    assert entries[0]["segments"][0]["start"] == pytest.approx(first[0], abs=1e-3)
    assert said.err == f"{quiet}: no speech\n"

    assert main(["segments", str(bird), "--format", "tsv", "--quiet"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "recording\tstart\tend" and rows[0].startswith(f"{bird}\t")
    assert main(["segments", str(bird), "--format", "rttm", "--quiet"]) == 0
    assert capsys.readouterr().out.split()[4] == f"{first[1] - first[0]:.3f}"


def test_segments_options_and_errors(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bird = str(repository / "examples" / "mynah_bird.flac")
    missing = str(tmp_path / "no.wav")
    assert main(["segments", missing]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["segments", missing, bird, "--quiet"]) == 1
    capsys.readouterr()
    assert main(["segments", bird, "--longest", "0.2"]) == 2
    assert "longest: 0.2 is below" in capsys.readouterr().err
    assert main(["segments", bird, "--channel", "left"]) == 2
    assert "--channel: 'left'" in capsys.readouterr().err
    assert main(["segments", bird, "--longest", "2", "--quiet"]) == 0
    spans = [[float(t) for t in line.split()] for line in capsys.readouterr().out.splitlines()]
    assert len(spans) > 1 and all(end - start <= 2.001 for start, end in spans)
    assert main(["segments", bird, "--onset", "0.2", "--quiet"]) == 0, "its offset goes along"


def test_without_torch(repository: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from mynah.cli import main\n"
        f"sys.exit(main(['segments', {str(repository / 'examples' / 'mynah_bird.flac')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_segments_are_those_of_the_probabilities(vad: Vad, speech: Path) -> None:
    samples = audio.read(speech / "kal16_1.flac", rate=RATE).samples
    options = SegmentOptions(pad=0.0)
    probs = vad.probabilities(samples)
    expected = speech_segments(probs, vad.frame_seconds, options, len(samples) / RATE)
    assert vad.segments(samples, options) == expected
