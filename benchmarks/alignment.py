"""Word times: how far from the truth, and how fast beside ctc-segmentation.

    OMP_NUM_THREADS=1 python benchmarks/alignment.py [--model M] [--fsdd FOLDER] [--record]

Truth: espeak-ng reports the sample at which each word and pause of its own speech begins (two
halves of twelve sentences, each by four of eight voices); real digits (fsdd) were recorded one by
one, so that their times are known once they are joined with pauses of 0.2 to 0.8 s (the first and
last sample of a recording that rises above a hundredth of its peak are taken for its edges; the
pauses are silent, which makes them easy to see). The text is taken for exact (`mynah align
--exact`). How far a word reaches beyond the frames that CTC gives it is fitted on the first half of
the synthetic sentences; --record keeps it in the model's own ``model.toml``. Errors are of starts
and ends alike.

Speed: log-probabilities of ten minutes (15000 frames, 32 units, 2400 of them in a row), one thread;
CPU time of this thread, medians of calls that take turns.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from mynah.audio import Resampler
from mynah.decoding import force_align
from mynah.model_folder import find_model, read_model_folder, update_calibration
from mynah.runtime.align import align
from mynah.runtime.model import Model, load_model

Span = tuple[float, float]
Spoken = tuple[npt.NDArray[np.float32], str, list[Span]]  # samples, text, start and end of words

RATE = 16000
VOICES = ("en-us", "en-gb", "en-us+f2", "en-gb+m3", "en-gb-scotland", "en-us+m7", "en-029+f4",
          "en-gb-x-rp+f5")  # fmt: skip
SENTENCES = (
    "a letter came for you this morning",
    "they sold apples and pears near the bridge",
    "nobody wanted to leave before sunset",
    "her brother builds small wooden boats",
    "snow covered every roof in town",
    "please close both windows when it rains",
    "seven geese crossed the frozen lake",
    "he found his glasses under a newspaper",
    "old songs sound better around fires",
    "my neighbour grows tomatoes behind the garage",
    "children ran down towards the beach",
    "she plays chess with her grandfather on sundays",
)
# the second half, on which errors are measured
OTHERS = (
    "two painters were working on the ceiling",
    "we drank cold water from a spring",
    "bread smells best early in the morning",
    "their train stopped beside an empty field",
    "a grey cat sleeps on our doorstep",
    "carry those boxes up to the attic",
    "strong winds blew the fence over",
    "his uncle repairs clocks and watches",
    "lamps were burning in every window",
    "she counted coins at the kitchen table",
    "music drifted across the quiet square",
    "farmers hope for rain before june",
)


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int), ("identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    )  # fmt: skip


class Espeak:
    """espeak-ng as a library: speech, and the samples at which words and pauses begin."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = int(self._library.espeak_Initialize(2, 0, None, 1))
        assert self.rate > 0, "espeak-ng cannot be started"
        self._pcm: list[npt.NDArray[np.int16]] = []
        self._events: list[tuple[int, bool]] = []  # sample, whether a word (else a pause)
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
        )
        self._callback = kind(self._take)
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, wave: Any, count: int, events: Any) -> int:
        if count > 0 and wave:
            self._pcm.append(np.ctypeslib.as_array(wave, (count,)).copy())
        number = 0
        while events[number].type:
            event = events[number]
            pause = event.type == 7 and event.id.string.startswith(b"_")
            if event.type == 1 or pause:
                self._events.append((event.sample, not pause))
            number += 1
        return 0

    def say(self, text: str, voice: str) -> Spoken | None:
        """``text`` at ``RATE``; None where it does not report every word by itself."""
        self._pcm, self._events = [], []
        self._library.espeak_SetVoiceByName(voice.encode())
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, 1, None, None)
        pcm = np.concatenate(self._pcm).astype(np.float32) / 32768
        pad = np.zeros(self.rate // 4, np.float32)
        pcm = np.concatenate([pad, pcm, pad])
        edges = [(sample + len(pad)) / self.rate for sample, _ in self._events]
        spans = [
            (edges[n], edges[n + 1] if n + 1 < len(edges) else len(pcm) / self.rate)
            for n, (_, word) in enumerate(self._events)
            if word
        ]
        if len(spans) != len(text.split()):
            return None
        samples = Resampler(self.rate, RATE).feed(pcm, last=True)
        return np.asarray(samples * (0.4 / np.abs(samples).max()), np.float32), text, spans


def synthetic(sentences: tuple[str, ...]) -> list[Spoken]:
    """Every sentence by four of the voices."""
    espeak = Espeak()
    found = []
    for number, sentence in enumerate(sentences):
        for turn in range(4):
            spoken = espeak.say(sentence, VOICES[(number + 2 * turn) % len(VOICES)])
            if spoken is not None:
                found.append(spoken)
    return found


def digits(folder: Path, count: int = 60, seed: int = 1) -> list[Spoken]:
    """Five to nine digits of one speaker, joined with pauses."""
    from mynah.audio import read
    from mynah.corpus import load, read_manifest

    speakers: dict[str, list[Any]] = {}
    for cut in read_manifest(folder / "manifest.tsv"):
        speakers.setdefault(cut.value("speaker"), []).append(cut)
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        cuts = speakers[sorted(speakers)[number % len(speakers)]]
        parts, spans, at = [], [], 0
        texts = []
        for index in rng.choice(len(cuts), rng.integers(5, 10), replace=False):
            pause = np.zeros(int(rng.uniform(0.2, 0.8) * RATE), np.float32)
            sound = load(cuts[index], read, rate=RATE)
            loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
            first, last = int(loud[0]), int(loud[-1]) + 1
            at += len(pause)
            spans.append(((at + first) / RATE, (at + last) / RATE))
            parts += [pause, sound]
            at += len(sound)
            texts.append(cuts[index].text)
        samples = np.concatenate([*parts, np.zeros(RATE // 2, np.float32)])
        found.append((samples * (0.4 / np.abs(samples).max()), " ".join(texts), spans))
    return found


def differences(model: Model, spoken: list[Spoken]) -> tuple[list[Span], int]:
    """Found less true start and end of each word that was found, and how many words there were."""
    found, count = [], 0
    for samples, text, spans in spoken:
        words = align(model, samples, text, exact=True).transcript.words
        count += len(words)
        for word, (start, end) in zip(words, spans, strict=True):
            if word.source == "aligned":
                found.append((word.start - start, word.end - end))
    return found, count


def fitted(model: Model, spoken: list[Spoken]) -> dict[str, float]:
    """Where words lie about their frames: the best of a grid, by the mean error."""
    engine = _Engine(model.engine)
    best, kept = float("inf"), {"late": 0.0, "before": 0.08, "after": 0.08}
    for step in (0.04, 0.02, 0.01):
        for name in ("late", "before", "after"):
            middle = kept[name]
            for number in range(-3, 4):
                times = {**kept, name: round(middle + number * step, 3)}
                errors, _ = differences(engine.at(model, times), spoken)
                mean = float(np.abs(errors).mean())
                if mean < best:
                    best, kept = mean, times
    return kept


class _Engine:
    """An engine whose model says other ``[times]``, and which computes nothing twice."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.info = engine, engine.info
        self._known: dict[bytes, Any] = {}

    def at(self, model: Model, times: dict[str, float]) -> Model:
        """``model`` with these times."""
        self.info = dataclasses.replace(self.info, times=times)
        return dataclasses.replace(model, engine=self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, feats: Any, feat_lens: Any) -> Any:
        key = feats.tobytes()
        if key not in self._known:
            self._known[key] = self._engine.encode(feats, feat_lens)
        return self._known[key]


def row(name: str, model: Model, spoken: list[Spoken]) -> list[str]:
    """Print the errors of a set; the JSON lines of its figures."""
    found, count = differences(model, spoken)
    errors = np.abs(np.array(found)).reshape(-1)
    median, nine = (float(np.quantile(errors, share)) for share in (0.5, 0.9))
    print(f"{name:<22}{len(found):>8} of {count:<6}{1000 * median:>10.0f}{1000 * nine:>10.0f}")
    return [
        json.dumps({"name": f"alignment.{name.replace(' ', '_')}_{key}", "ours": round(value, 4),
                    "unit": "s"})
        for key, value in (("median", median), ("p90", nine))
    ]  # fmt: skip


def make_log_probs(
    frames: int, count: int, vocab: int = 32, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Log-probabilities (T, V) that speak ``count`` units; the units, and their frames."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, vocab, count)
    places = np.sort(rng.choice(np.arange(0, frames - 2, 2), count, replace=False))
    path = np.zeros(frames, np.int64)
    path[places] = tokens
    logits = rng.normal(0, 1, (frames, vocab)).astype(np.float32)
    logits[np.arange(frames), path] += 6
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return logits, tokens, places


def speed(repeats: int) -> str:
    """Ours and ctc-segmentation on the same ten minutes; the JSON line."""
    import ctc_segmentation

    log_probs, tokens, places = make_log_probs(15000, 2400)
    parameters = ctc_segmentation.CtcSegmentationParameters()
    parameters.char_list = [str(unit) for unit in range(log_probs.shape[1])]
    parameters.min_window_size = 16000  # the whole: with less it fails first and starts again
    truth, _ = ctc_segmentation.prepare_token_list(parameters, [tokens])

    def peer() -> Any:
        return ctc_segmentation.ctc_segmentation(parameters, log_probs, truth)

    def ours() -> Any:
        return force_align(log_probs, tokens.tolist())

    calls: dict[str, Callable[[], Any]] = {"ours": ours, "peer": peer}
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.thread_time()
            result = call()
            took[name].append(time.thread_time() - start)
            if name == "ours":
                assert np.mean(np.array(result.starts) == places) > 0.99
    mine, other = (statistics.median(took[name]) for name in ("ours", "peer"))
    print(f"\n10 minutes, 2400 units: {mine:.3f} s, ctc-segmentation {other:.3f} s")
    return json.dumps({"name": "alignment.ten_minutes", "ours": round(mine, 4),
                       "peer": round(other, 4), "ratio": round(other / mine, 2)})  # fmt: skip


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="M", help="a name or folder (default: the bundled one)")
    parser.add_argument("--fsdd", type=Path, metavar="FOLDER", help="the digits, with manifest.tsv")
    parser.add_argument("--record", action="store_true", help="keep the fitted times in the model")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = load_model(args.model)
    times = fitted(model, synthetic(SENTENCES))
    if args.record:
        confidence = read_model_folder(find_model(args.model)).info.confidence
        update_calibration(find_model(args.model), confidence, times)
    engine = _Engine(model.engine)
    print(f"{model.name} ({model.engine.name}), times {times}")
    print(f"{'errors, ms':<22}{'words':>18}{'median':>10}{'90 %':>10}")
    lines = []
    other = synthetic(OTHERS)
    lines += row("synthetic unfitted", engine.at(model, {}), other)
    lines += row("synthetic", engine.at(model, times), other)
    if args.fsdd:
        lines += row("digits", engine.at(model, times), digits(args.fsdd))
    lines.append(speed(args.repeats))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
