"""Memory over hours of streamed audio: is it flat?

    python benchmarks/soak.py --hours 2
    python benchmarks/soak.py --hours 2 --model tones --json

A stream of speech, pauses and noise, made from the committed recordings (or tones), goes through
one live session that keeps nothing and, beside it, through sessions that come and go in a batch.
Prints the resident memory for every ten minutes of audio, and a JSON line with the growth after
the first tenth. There is no peer here: the figure is flat or it is not.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import mynah
from mynah.audio import read
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.session import Final

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "tests"))
BLOCK = 0.5  # seconds fed at once


def resident() -> float:
    """Resident memory of this process, in MB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def material(tones: bool) -> list[np.ndarray]:
    """Utterances at 16 kHz."""
    if tones:
        from tone_model import speak

        return [speak(text) for text in ("abc de", "bad cab", "a b c", "eda", "cab")]
    folder = REPOSITORY / "tests" / "data" / "speech"
    return [read(path, rate=16000).samples for path in sorted(folder.glob("*.flac"))]


def stream(utterances: list[np.ndarray], seconds: float, seed: int = 0) -> Iterator[np.ndarray]:
    """Blocks of so much audio: utterances, pauses, now and then a minute of noise."""
    rng = np.random.default_rng(seed)
    size = int(BLOCK * 16000)
    rest, made, wanted = np.zeros(0, np.float32), 0, int(seconds * 16000)
    while made < wanted:
        while len(rest) < size:
            pause = rng.uniform(0.2, 3.0) if rng.random() < 0.97 else 60.0
            noise = rng.standard_normal(int(pause * 16000)).astype(np.float32) * np.float32(1e-3)
            rest = np.concatenate([rest, utterances[int(rng.integers(len(utterances)))], noise])
        yield rest[:size].copy()
        rest, made = rest[size:].copy(), made + size


def soak(
    recogniser: Recognizer, utterances: list[np.ndarray], seconds: float, every: float = 600.0
) -> list[tuple[float, float, int]]:
    """Stream it; (seconds of audio, MB, segments) at the start and every so many seconds."""
    session, batcher = recogniser.stream(keep=False), recogniser.batcher()
    guest, segments, done = None, 0, 0.0
    curve = []
    for number, block in enumerate(stream(utterances, seconds)):
        pairs = [(session, block)]
        if number % 40 < 20:  # a guest of ten seconds, in the same batch
            guest = guest or recogniser.stream()
            pairs.append((guest, block))
        elif guest is not None:
            batcher.finish_many([guest])
            guest = None
        segments += sum(isinstance(e, Final) for e in batcher.feed_many(pairs)[0])
        if done % every < BLOCK:
            gc.collect()
            curve.append((done, resident(), segments))
        done += BLOCK
    gc.collect()
    curve.append((done, resident(), segments))
    return curve


def main() -> None:
    """Run it and print the curve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--model", default=None, help="tones, a name or folder (default: bundled)")
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    args = parser.parse_args()
    tones = args.model == "tones"
    with tempfile.TemporaryDirectory() as folder:
        if tones:
            from tone_model import write_tone_model

            recogniser = mynah.load(write_tone_model(Path(folder) / "tones"))
        else:
            recogniser = mynah.load(args.model)
        start = time.perf_counter()
        curve = soak(recogniser, material(tones), args.hours * 3600)
        took = time.perf_counter() - start
    if not args.json:
        for done, memory, segments in curve:
            print(f"{done / 60:6.0f} min  {memory:8.1f} MB  {segments:6d} segments")
    settled = [memory for done, memory, _ in curve if done >= 0.1 * curve[-1][0]]
    line = {
        "name": f"soak {recogniser.info.name}",
        "hours": args.hours,
        "growth_mb": round(settled[-1] - settled[0], 2),
        "resident_mb": round(settled[-1], 1),
        "segments": curve[-1][2],
        "times_real_time": round(args.hours * 3600 / took, 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
