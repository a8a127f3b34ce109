"""Several sentences in a recording: word errors beside those of each sentence alone.

    OMP_NUM_THREADS=1 python benchmarks/joined.py DATA [--together 4] [--pauses 0.5] [--live]

The development sets of `benchmarks/figures.py`, which DATA holds, by the bundled recogniser: each
utterance alone, and so many of them, in the order of their speakers, in one recording with pauses
of digital silence between.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))

import figures

import mynah
from mynah import audio
from mynah.corpus import load
from mynah.evaluation import Utterance, score

RATE = figures.RATE
SETS = [name for name in figures.SETS if "development" in name]
Sound = npt.NDArray[np.float32]


def joined(sounds: list[Sound], pause: float) -> Sound:
    """The sounds one after the other, with a pause behind each."""
    silence = np.zeros(round(RATE * pause), np.float32)
    return np.concatenate([part for sound in sounds for part in (sound, silence)])


def texts(recognizer: Any, sounds: list[Sound], live: bool) -> list[str]:
    """What is heard of each."""
    if live:
        return [recognizer.transcribe_live(sound, words=False).text for sound in sounds]
    return [result.text for result in recognizer.transcribe(sounds, words=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--together", type=int, nargs="+", default=[4])
    parser.add_argument("--pauses", type=float, nargs="+", default=[0.3, 0.5, 0.8])
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    recognizer = mynah.load(args.model, threads=1)
    cases = [(1, 0.0), *((count, pause) for count in args.together for pause in args.pauses)]
    for name in SETS:
        cuts = sorted(figures.cuts(args.data, name), key=lambda cut: str(cut.speaker))
        sounds = [load(cut, audio.read, rate=RATE) for cut in cuts]
        for count, pause in cases:
            groups = [range(n, min(n + count, len(cuts))) for n in range(0, len(cuts), count)]
            heard = texts(
                recognizer, [joined([sounds[n] for n in g], pause) for g in groups], args.live
            )
            said = [" ".join(cuts[n].text or "" for n in group) for group in groups]
            pairs = enumerate(zip(said, heard, strict=True))
            rate = score([Utterance(str(n), *pair) for n, pair in pairs], unit="word").total.rate
            how = "alone" if count == 1 else f"{count} together, pauses of {pause:g} s"
            how = f"live, {how}" if args.live else how
            print(f"{name}, {how}: {100 * rate:.1f} % word errors", flush=True)
            print(json.dumps({"name": f"word errors, {name}, {how}", "ours": round(rate, 4)}))


if __name__ == "__main__":
    main()
