"""Recordings whose language changes from sentence to sentence, by a real Whisper checkpoint.

    python benchmarks/whisper_mixed.py CHECKPOINT FIRST SECOND [--first zh] [--second en] [--jobs 2]

CHECKPOINT is a folder of CTranslate2's, as for ``whisper_words.py``. FIRST and SECOND are sets
(manifests, or folders with a ``manifest.tsv``) in two languages, by default Mandarin and English.
``--recordings`` are made of each kind, of ten sentences with 0.3 to 1 s of silence between: mixed
(one to three sentences of a language in a row) and of each language alone. No side is told the
language; ours is told which two there may be. Errors are of words, in Chinese of characters, which
are simplified for all sides; sentences of Chinese digits alone are left out, as a Whisper writes
figures. One thread and a process of its own a side.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from whisper_sides import (
    RATE,
    Samples,
    arguments,
    clips,
    faster_whisper_model,
    measured,
    our_recognizer,
)

from mynah.evaluation import Utterance, score
from mynah.text.script import ScriptConverter

SENTENCES = 10
DIGITS = frozenset("零一幺二三四五六七八九")
SIDES = (
    "ours int8",
    "ours int8, batched",
    "ours int8, nothing detected",
    "faster-whisper int8",
    "faster-whisper int8, speech detected",
    "faster-whisper int8, batched",
)
Kind = list[tuple[str, Samples]]  # texts and recordings


def ours(args: argparse.Namespace, side: str) -> Callable[[Samples], str]:
    """mynah; without speech detection windows alone are told apart."""
    from mynah.runtime.request import Request
    from mynah.runtime.whisper.options import WhisperOptions

    recognizer = our_recognizer(args, side)
    options = WhisperOptions(
        multilingual=True, languages=(args.first, args.second), batched="batched" in side
    )
    request = Request(whisper=options, vad="nothing" not in side, words=False)
    return lambda sound: recognizer.transcribe(sound, request=request).text


def faster_whisper(args: argparse.Namespace, side: str) -> Callable[[Samples], str]:
    """faster-whisper, its language detected for every window."""
    from faster_whisper import BatchedInferencePipeline

    model = faster_whisper_model(args, side)
    transcribe: Any = model.transcribe
    more: dict[str, Any] = {"vad_filter": "detected" in side}
    if "batched" in side:
        transcribe, more = BatchedInferencePipeline(model).transcribe, {}

    def hear(sound: Samples) -> str:
        segments, _ = transcribe(sound, multilingual=True, **more)
        return "".join(segment.text for segment in segments).strip()

    return hear


def kinds(args: argparse.Namespace) -> dict[str, Kind]:
    """All recordings, by what they are of; the same for every side."""
    rng = np.random.default_rng(args.seed)
    sets = [clips(path, 0, {}) for path in (args.first_set, args.second_set)]
    sets = [[(t, s) for t, s in one if not DIGITS.issuperset(t)] for one in sets]
    for one in sets:
        rng.shuffle(one)  # type: ignore[arg-type]
    heard = [iter(one) for one in sets]

    def recording(choose: Callable[[], int]) -> tuple[str, Samples]:
        texts, parts, language, left = [], [], choose(), 0
        for _ in range(SENTENCES):
            if left == 0:
                language, left = choose(), int(rng.integers(1, 4))
            left -= 1
            text, sound = next(heard[language])
            texts.append(text)
            pause = np.zeros(int(rng.uniform(0.3, 1.0) * RATE), np.float32)
            parts += [sound * np.float32(0.3 / max(np.abs(sound).max(), 1e-3)), pause]
        return " ".join(texts), np.concatenate(parts)

    turn = iter(range(1 << 30))
    count = args.recordings
    return {
        "mixed": [recording(lambda: next(turn) % 2) for _ in range(count)],
        args.first: [recording(lambda: 0) for _ in range(count // 2)],
        args.second: [recording(lambda: 1) for _ in range(count // 2)],
    }


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """The errors of one side; runs in a process of its own."""
    hear = (ours if side.startswith("ours") else faster_whisper)(args, side)
    simplified = ScriptConverter("simplified")
    found: dict[str, Any] = {}
    for kind, recordings in kinds(args).items():
        start = time.process_time()
        texts = [hear(sound) for _, sound in recordings]
        took = time.process_time() - start
        pairs = enumerate(zip(recordings, texts, strict=True))
        report = score(
            [Utterance(str(i), text, simplified(heard)) for i, ((text, _), heard) in pairs],
            unit="mixed",
        )
        total = report.total
        found[kind] = {
            "rate": total.rate, "units": total.total, "deletions": total.deletions,
            "seconds": sum(len(s) for _, s in recordings) / RATE, "took": took, "texts": texts,
        }  # fmt: skip
    return found


def main() -> None:
    parser = arguments(__doc__, SIDES)
    parser.add_argument("first_set", type=Path)
    parser.add_argument("second_set", type=Path)
    parser.add_argument("--first", default="zh")
    parser.add_argument("--second", default="en")
    parser.add_argument("--recordings", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="all texts and figures")
    args, found = measured(parser, measure)
    for kind, first in next(iter(found.values())).items():
        print(f"{kind}: {first['seconds']:.0f} s, {first['units']} units")
        for side, rows in found.items():
            row = rows[kind]
            lost = row["deletions"] / row["units"]
            print(f"  {side:38} {100 * row['rate']:6.2f} %, {100 * lost:5.2f} % left out"
                  f"  {row['took']:7.1f} s of CPU")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(found, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
