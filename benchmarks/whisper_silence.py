"""What a real Whisper checkpoint says where nobody speaks, beside its peers.

    python benchmarks/whisper_silence.py CHECKPOINT ESC10 [--clips 100] [--jobs 2]

CHECKPOINT is a folder of CTranslate2's, as for ``whisper_words.py``; ESC10 a manifest of sounds
without words (some are voices: babies that cry, people who laugh and sneeze), of which every
so-manieth clip is heard, and beside it what is made here: digital silence, white noise, a hum and a
tone, 20 s each, at three levels. Counted are clips with any text, words, and the longest text; the
language is given (English), one thread and a process of its own a side, all other options as they
are by default, but for voice activity detection, which a side names.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from whisper_sides import RATE, Samples, arguments, clips, measured
from whisper_words import hearer

SIDES = (
    "ours int8, speech detected",
    "ours int8",
    "ours int8, batched, speech detected",
    "faster-whisper int8, speech detected",
    "faster-whisper int8",
    "openai-whisper fp32",
)
SECONDS = 20
LEVELS = (0.001, 0.02, 0.3)  # of what is made, full scale being 1


def made() -> list[Samples]:
    """Silence, noise, a hum and a tone."""
    rng, time = np.random.default_rng(0), np.arange(SECONDS * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 8))
    kinds = [rng.standard_normal(len(time)) / 3, hum / 3, np.sin(2 * np.pi * 440 * time)]
    found = [np.zeros(len(time))] + [level * kind for level in LEVELS for kind in kinds]
    return [np.clip(sound, -1, 1).astype(np.float32) for sound in found]


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """The texts of one side, by set."""
    hear = hearer(side, args)
    sounds = {str(args.data): [sound for _, sound in clips(args.data, args.clips, {})]}
    return {name: [hear(one) for one in some] for name, some in (sounds | {"made": made()}).items()}


def main() -> None:
    parser = arguments(__doc__, SIDES, SIDES[:5])
    parser.set_defaults(language="en")
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=100, help="0: all")
    _, found = measured(parser, measure)
    for name, texts in next(iter(found.values())).items():
        print(f"{name}: {len(texts)} clips")
        for side, sets in found.items():
            spoken = [text for text in sets[name] if text.strip()]
            sizes = [len(text.split()) for text in spoken]
            print(f"  {side:38} {len(spoken):4} with text, {sum(sizes):5} words, "
                  f"{max(sizes, default=0):4} at most")  # fmt: skip


if __name__ == "__main__":
    main()
