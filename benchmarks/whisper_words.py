"""Word errors of a real Whisper checkpoint: int8, the short context, and faster-whisper beside.

    python benchmarks/whisper_words.py CHECKPOINT DATA... [--language en] [--clips 0] [--jobs 2]

CHECKPOINT is a folder of CTranslate2's (``model.bin``, ``config.json``, ``tokenizer.json``), which
faster-whisper reads as it is and ours by ``mynah import whisper``. DATA are manifests, or folders
with a ``manifest.tsv``; of each every so-manieth clip is heard (``--clips 0``: all), by a beam of 5
with the fall-backs of temperature, voice activity detection off (batched: on, as they do by
default), the language given, one thread and a process of its own a side. Errors are counted in
scoring form (case and punctuation aside; digits and abbreviations as they are written, which costs
all sides alike), in Chinese with ``--script simplified`` in simplified characters. Beside them: how
many texts are the very ones of faster-whisper in float32, and CPU seconds.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whisper_sides import (
    OPENAI,
    RATE,
    Samples,
    arguments,
    clips,
    faster_whisper_model,
    measured,
    openai_model,
    our_recognizer,
)

from mynah.evaluation import Utterance, score
from mynah.text.script import SCRIPTS, ScriptConverter

REFERENCE = "faster-whisper float32"
SIDES = (
    "ours fp32",
    "ours int8",
    "ours fp32, short context",
    "ours int8, short context",
    REFERENCE,
    "faster-whisper int8",
    "ours int8, speech detected",
    "ours int8, batched",
    "ours int8, batched, without timestamps",
    "faster-whisper int8, batched",
    "openai-whisper fp32",
)
USUAL = SIDES[:6]

Hear = Callable[[Samples], str]


def ours(args: argparse.Namespace, side: str) -> Hear:
    """mynah with the precision and the context that ``side`` names."""
    from mynah.runtime.request import Request
    from mynah.runtime.whisper.options import WhisperOptions

    recognizer = our_recognizer(args, side)
    options = WhisperOptions(
        short_context="short" in side,
        batched="batched" in side,
        without_timestamps="without" in side,
    )
    vad = "batched" in side or "detected" in side
    request = Request(language=args.language, whisper=options, vad=vad, words=False)
    return lambda sound: recognizer.transcribe(sound, request=request).text


def faster_whisper(args: argparse.Namespace, side: str) -> Hear:
    """faster-whisper with its defaults, but for what ``side`` names."""
    from faster_whisper import BatchedInferencePipeline

    model = faster_whisper_model(args, side)
    transcribe: Any = functools.partial(model.transcribe, vad_filter="detected" in side)
    if "batched" in side:
        transcribe = BatchedInferencePipeline(model).transcribe

    def hear(sound: Samples) -> str:
        segments, _ = transcribe(sound, language=args.language)
        return "".join(segment.text for segment in segments).strip()

    return hear


def openai_whisper(args: argparse.Namespace) -> Hear:
    """The original, as its command line decodes."""
    model = openai_model(args)

    def hear(sound: Samples) -> str:
        return str(model.transcribe(sound, language=args.language, **OPENAI)["text"]).strip()

    return hear


def hearer(side: str, args: argparse.Namespace) -> Hear:
    """The text that a side makes of a clip in ``args.language``."""
    if side.startswith("ours"):
        return ours(args, side)
    return faster_whisper(args, side) if side.startswith("faster") else openai_whisper(args)


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """What one side makes of all sets; runs in a process of its own."""
    hear = hearer(side, args)
    found: dict[str, Any] = {}
    written = ScriptConverter(args.script) if args.script else str
    for manifest in args.data:
        said = clips(manifest, args.clips, args.where)
        start = time.process_time()
        texts = [hear(sound) for _, sound in said]
        took = time.process_time() - start
        pairs = enumerate(zip(said, texts, strict=True))
        report = score([Utterance(str(i), text, written(heard)) for i, ((text, _), heard) in pairs],
                       unit="char" if args.language == "zh" else "word")  # fmt: skip
        found[str(manifest)] = {
            "rate": report.total.rate,
            "words": report.total.total,
            "seconds": sum(len(sound) for _, sound in said) / RATE,
            "took": took,
            "texts": texts,
        }
    return found


def condition(text: str) -> tuple[str, str]:
    column, _, value = text.partition("=")
    return column, value


def main() -> None:
    parser = arguments(__doc__, SIDES, USUAL)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--language", default="en")
    parser.add_argument("--script", choices=SCRIPTS, help="the characters of Chinese")
    parser.add_argument("--where", type=condition, action="append", default=[])
    parser.add_argument("--clips", type=int, default=0, help="of each set; 0: all")
    parser.add_argument("--json", type=Path, help="all texts and figures")
    args, found = measured(parser, measure)
    for manifest in map(str, args.data):
        first = next(iter(found.values()))[manifest]
        texts, seconds = found.get(REFERENCE, {}).get(manifest, {}).get("texts"), first["seconds"]
        print(f"{manifest}: {len(first['texts'])} clips, {seconds:.0f} s, {first['words']} units")
        for side, sets in found.items():
            row = sets[manifest]
            same = sum(map(str.__eq__, row["texts"], texts)) if texts else None
            print(f"  {side:26} {100 * row['rate']:6.2f} %  same as the reference: {same}"
                  f"  {row['took']:7.1f} s of CPU")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(found, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
