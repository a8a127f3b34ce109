"""Times of words by a real Whisper checkpoint, beside those of its peers.

    python benchmarks/whisper_times.py CHECKPOINT DICTIONARY [DATA...] [--fsdd FOLDER] [--jobs 2]

CHECKPOINT is a folder of CTranslate2's, as for ``whisper_words.py``. Truth: espeak-ng says when its
words begin and end; real digits are joined with pauses (both as in ``alignment.py``); and of the
clips of DATA (manifests, or folders with a ``manifest.tsv``; ``--clips`` of each) the places where
pocketsphinx aligns the known words, by a DICTIONARY as CMUdict has it, which is an estimate in
steps of 10 ms and no side's own. Counted are words that a side heard rightly, in scoring form; a
digit counts as its word. One thread and a process of its own a side, a beam of 5, English, voice
activity detection off where a side does not say so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from alignment import OTHERS, Spoken, digits, synthetic
from pocketsphinx_alignments import PREFIX, Aligner
from whisper_sides import (
    OPENAI,
    Samples,
    arguments,
    clips,
    faster_whisper_model,
    measured,
    openai_model,
    our_recognizer,
)

from mynah.evaluation import align
from mynah.text.pronounce import learn_pronouncer
from mynah.text.scoring import normalize_for_scoring

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIDES = (
    "ours int8, attention",
    "ours fp32, attention",
    "ours int8, ctc",
    "ours int8, attention, speech detected",
    "ours int8, ctc, speech detected",
    "faster-whisper int8",
    "faster-whisper float32",
    "openai-whisper fp32",
)


class Word(NamedTuple):
    """A word in scoring form, and where it is in seconds."""

    text: str
    start: float
    end: float


Hear = Callable[[Samples], list[Word]]


def ours(args: argparse.Namespace, side: str) -> Hear:
    """mynah, with the precision and the source of times that ``side`` names."""
    from mynah.runtime.request import Request
    from mynah.runtime.whisper.options import WhisperOptions

    recognizer = our_recognizer(args, side)
    options = WhisperOptions(word_timestamps="ctc" if "ctc" in side else "attention")
    request = Request(language="en", whisper=options, vad="detected" in side)

    def hear(sound: Samples) -> list[Word]:
        found = recognizer.transcribe(sound, request=request)
        return [word for w in found.words for word in scored(w.text, w.start, w.end)]

    return hear


def faster_whisper(args: argparse.Namespace, side: str) -> Hear:
    """faster-whisper with its defaults."""
    model = faster_whisper_model(args, side)

    def hear(sound: Samples) -> list[Word]:
        segments, _ = model.transcribe(sound, language="en", word_timestamps=True)
        words = [w for segment in segments for w in segment.words or ()]
        return [word for w in words for word in scored(w.word, w.start, w.end)]

    return hear


def openai_whisper(args: argparse.Namespace) -> Hear:
    """The original, as its command line decodes."""
    model = openai_model(args)

    def hear(sound: Samples) -> list[Word]:
        found = model.transcribe(sound, language="en", word_timestamps=True, **OPENAI)
        words = [w for segment in found["segments"] for w in segment["words"]]
        return [word for w in words for word in scored(w["word"], w["start"], w["end"])]

    return hear


def scored(text: str, start: float, end: float) -> list[Word]:
    """A word that was heard; several at once have no times of their own and are left out."""
    parts = normalize_for_scoring(text).split()
    words = [DIGITS[int(p)] if p.isascii() and p.isdigit() and len(p) == 1 else p for p in parts]
    return [Word(words[0], start, end)] if len(words) == 1 else []


def aligned(manifest: Path, count: int, aligner: Aligner) -> list[Spoken]:
    """Clips whose words pocketsphinx finds."""
    found: list[Spoken] = []
    for text, sound in clips(manifest, count, {}):
        pcm = np.clip(sound * 32768.0, -32768, 32767).astype(np.int16)
        at, words, spans = 0, [], []
        for name, frames in aligner.words(pcm, text):
            if name.startswith(PREFIX):
                words.append(name.removeprefix(PREFIX).partition("(")[0])
                spans.append((at / 100, (at + frames) / 100))
            at += frames
        if words:
            found.append((sound, " ".join(words), spans))
    return found


def truths(args: argparse.Namespace) -> dict[str, list[Spoken]]:
    """All sets, by their names."""
    found = {"synthetic": synthetic(OTHERS)}
    if args.fsdd:
        found["digits"] = digits(args.fsdd)
    aligner = Aligner(learn_pronouncer(args.dictionary))
    return found | {str(m): aligned(m, args.clips, aligner) for m in args.data}


def differences(heard: list[Word], spoken: Spoken) -> list[tuple[float, float]]:
    """Found less true start and end of each word that was heard rightly."""
    _, text, spans = spoken
    pairs = align(text.split(), [word.text for word in heard])
    found, truth, mine = [], iter(spans), iter(heard)
    for pair in pairs:
        span = next(truth) if pair.ref is not None else None
        word = next(mine) if pair.hyp is not None else None
        if span and word and pair.ref == pair.hyp:
            found.append((word.start - span[0], word.end - span[1]))
    return found


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """The differences of one side in all sets."""
    if side.startswith("ours"):
        hear = ours(args, side)
    elif side.startswith("faster"):
        hear = faster_whisper(args, side)
    else:
        hear = openai_whisper(args)
    return {
        name: {
            "words": sum(len(spans) for _, _, spans in spoken),
            "differences": [d for one in spoken for d in differences(hear(one[0]), one)],
        }
        for name, spoken in truths(args).items()
    }


def show(found: dict[str, dict[str, Any]]) -> None:
    """A table of each set."""
    for name, first in next(iter(found.values())).items():
        print(f"{name}: {first['words']} words; ms: median and 90 % of starts and ends, and by how")
        print("  much half of the starts and of the ends are later than the truth")
        for side, sets in found.items():
            rows = 1000 * np.array(sets[name]["differences"])
            median, most = np.quantile(np.abs(rows), (0.5, 0.9))
            start, end = np.median(rows, axis=0)
            print(
                f"  {side:38} {len(rows):5} words {median:6.0f} {most:6.0f}"
                f"   starts {start:+5.0f}, ends {end:+5.0f}"
            )


def main() -> None:
    parser = arguments(__doc__, SIDES)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--fsdd", type=Path, help="the digits, with manifest.tsv")
    parser.add_argument("--clips", type=int, default=0, help="of each set; 0: all")
    show(measured(parser, measure)[1])


if __name__ == "__main__":
    main()
