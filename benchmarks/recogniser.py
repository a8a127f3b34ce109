"""The bundled English model and pocketsphinx's on the same recordings: words, speed, memory, size.

    OMP_NUM_THREADS=1 python benchmarks/recogniser.py DATA [--clips 60] [--live]

DATA holds the sets (`speechocean762`, and `native` where `benchmarks/native_stretches.py` made it).
Of each set every so-manieth clip is taken, so that all its speakers are heard. Each side runs in a
process of its own, with one thread: its seconds are CPU time without reading the recordings, its
memory the greatest of the whole process. pocketsphinx is used as it comes from pip, with its own
model, dictionary and language model. Error rates are of words, both texts in scoring form.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.corpus import matcher, read_manifest
from mynah.corpus.samples import load
from mynah.evaluation import Utterance, score

RATE = 16000
# Name, manifest, and which of its rows.
SETS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("speechocean762 test, adults", "speechocean762", {"split": "test", "age": ">=18"}),
    ("speechocean762 test, children", "speechocean762", {"split": "test", "age": "<18"}),
    ("native readers", "native", {}),
)
_VARIANT = re.compile(r"\(\d+\)")

Samples = npt.NDArray[np.float32]
Hear = Callable[[Sequence[Samples]], list[str]]


def clips(data: Path, name: str, where: dict[str, Any], count: int) -> list[tuple[str, Samples]]:
    """Text and samples of ``count`` clips spread over a set (0: all)."""
    meets = matcher(where, {})
    cuts = [c for c in read_manifest(str(data / name / "manifest.tsv")) if meets(c)]
    step = max(1, len(cuts) // count) if count else 1
    chosen = cuts[::step][: count or None]
    return [(cut.text, load(cut, audio.read, rate=RATE)) for cut in chosen]


def ours(live: bool, model: str | None) -> Hear:
    """mynah's recogniser, offline or as a live stream."""
    import mynah

    recognizer = mynah.load(model, threads=1) if model else mynah.load(threads=1)
    if live:
        return lambda sounds: [recognizer.transcribe_live(sound).text for sound in sounds]
    return lambda sounds: [recognizer.transcribe(sound).text for sound in sounds]


def pocketsphinx() -> Hear:
    """pocketsphinx with its defaults."""
    from pocketsphinx import Decoder

    decoder = Decoder(loglevel="FATAL", samprate=RATE)

    def hear(sounds: Sequence[Samples]) -> list[str]:
        texts = []
        for sound in sounds:
            steps = np.clip(sound * 32768.0, -32768, 32767).astype(np.int16)
            decoder.start_utt()
            decoder.process_raw(steps.tobytes(), full_utt=True)
            decoder.end_utt()
            found = decoder.hyp()
            texts.append(_VARIANT.sub("", found.hypstr) if found else "")
        return texts

    return hear


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """What one side makes of all sets; runs in a process of its own."""
    hear = ours(args.live, args.model) if side == "mynah" else pocketsphinx()
    found: dict[str, Any] = {}
    for name, manifest, where in SETS:
        if not (args.data / manifest / "manifest.tsv").is_file():
            continue
        said = clips(args.data, manifest, where, args.clips)
        start = time.process_time()
        texts = hear([samples for _, samples in said])
        took = time.process_time() - start
        report = score(
            [Utterance(str(i), text, heard)
             for i, ((text, _), heard) in enumerate(zip(said, texts, strict=True))],
            unit="word",
        )  # fmt: skip
        found[name] = {
            "rate": report.total.rate,
            "words": report.total.total,
            "clips": len(said),
            "seconds": sum(len(samples) for _, samples in said) / RATE,
            "took": took,
        }
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB, as Linux counts
    return {"sets": found, "memory": memory, "size": size(side, args.model)}


def size(side: str, model: str | None) -> float:
    """Megabytes of the files that a side needs for this language: model, dictionary, LM."""
    if side == "mynah":
        from mynah.model_folder import find_model

        folder = Path(model) if model else find_model()
    else:
        import pocketsphinx

        folder = Path(pocketsphinx.get_model_path()) / "en-us"
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def line(name: str, mine: float, theirs: float, unit: str, *, higher: bool = False) -> None:
    """A line for people and one of JSON; a ratio above 1 is better for us."""
    ratio = mine / theirs if higher else theirs / mine if mine else float("inf")
    print(
        f"{name:<46} ours {mine:8.2f} {unit:<5} pocketsphinx {theirs:8.2f} {unit:<5} {ratio:.2f}x"
    )
    print(json.dumps({"name": name, "ours": round(mine, 4), "peer": round(theirs, 4),
                      "ratio": round(ratio, 3)}))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=60, help="of each set; 0: all")
    parser.add_argument("--model", help="a model folder (default: the bundled one)")
    parser.add_argument("--live", action="store_true", help="ours in chunks, as a live stream")
    parser.add_argument("--side", choices=("mynah", "pocketsphinx"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args)))
        return
    found = {}
    for side in ("mynah", "pocketsphinx"):
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{side}: {done.stderr.strip()}")
        found[side] = json.loads(done.stdout.splitlines()[-1])
    mine, theirs = found["mynah"], found["pocketsphinx"]
    for name, a in mine["sets"].items():
        b = theirs["sets"][name]
        label = f"{name} ({a['clips']} clips, {a['words']} words)"
        line(f"word errors, {label}", 100 * a["rate"], 100 * b["rate"], "%")
    rates = [
        sum(s["seconds"] for s in side["sets"].values())
        / sum(s["took"] for s in side["sets"].values())
        for side in (mine, theirs)
    ]
    line("times faster than real time, one thread", rates[0], rates[1], "x", higher=True)
    line("memory of the process", mine["memory"], theirs["memory"], "MiB")
    line("model, dictionary and language model", mine["size"], theirs["size"], "MB")


if __name__ == "__main__":
    main()
