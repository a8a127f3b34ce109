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
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.corpus import matcher, read_manifest
from mynah.corpus.samples import load
from mynah.evaluation import Utterance, score
from mynah.text.script import SCRIPTS, ScriptConverter

RATE = 16000
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
OPENAI: dict[str, Any] = {  # what the original's command line decodes by
    "beam_size": 5,
    "best_of": 5,
    "fp16": False,
    "temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
}

Samples = npt.NDArray[np.float32]
Hear = Callable[[Samples], str]


def clips(manifest: Path, count: int, where: dict[str, Any]) -> list[tuple[str, Samples]]:
    """Text and samples of ``count`` clips spread over a set (0: all)."""
    path = manifest / "manifest.tsv" if manifest.is_dir() else manifest
    meets = matcher(where, {})
    cuts = [c for c in read_manifest(str(path)) if meets(c)]
    step = max(1, len(cuts) // count) if count else 1
    return [(c.text, load(c, audio.read, rate=RATE)) for c in cuts[::step][: count or None]]


def ours(folder: Path, side: str, language: str) -> Hear:
    """mynah's recogniser in the precision and with the context that ``side`` names."""
    import mynah
    from mynah.runtime.request import Request
    from mynah.runtime.whisper.options import WhisperOptions

    precision: Any = "int8" if "int8" in side else "fp32"
    recognizer = mynah.load(folder, threads=1, precision=precision)
    options = WhisperOptions(
        short_context="short" in side,
        batched="batched" in side,
        without_timestamps="without" in side,
    )
    vad = "batched" in side or "detected" in side
    request = Request(language=language, whisper=options, vad=vad, words=False)
    return lambda sound: recognizer.transcribe(sound, request=request).text


def faster_whisper(folder: Path, side: str, language: str) -> Hear:
    """faster-whisper with its defaults."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    kind = "float32" if "float32" in side else "int8"
    model = WhisperModel(str(folder), device="cpu", compute_type=kind, cpu_threads=1)
    transcribe: Any = model.transcribe
    if "batched" in side:
        transcribe = BatchedInferencePipeline(model).transcribe

    def hear(sound: Samples) -> str:
        segments, _ = transcribe(sound, language=language)
        return "".join(segment.text for segment in segments).strip()

    return hear


def openai_model(folder: Path) -> Any:
    """The original model with the weights and alignment heads of an imported folder."""
    import tomllib

    import torch
    import whisper
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    config = tomllib.loads((folder / "model.toml").read_text())["config"]
    model = whisper.Whisper(whisper.model.ModelDimensions(**config["dims"]))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    if config.get("alignment_heads"):
        heads = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
        heads[tuple(zip(*config["alignment_heads"], strict=True))] = True
        model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    return model.eval()


def openai_whisper(folder: Path, language: str) -> Hear:
    """The original, as its command line decodes."""
    model = openai_model(folder)

    def hear(sound: Samples) -> str:
        return str(model.transcribe(sound, language=language, **OPENAI)["text"]).strip()

    return hear


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """What one side makes of all sets; runs in a process of its own."""
    if side.startswith("ours"):
        hear = ours(args.imported, side, args.language)
    elif side.startswith("faster"):
        hear = faster_whisper(args.checkpoint, side, args.language)
    else:
        hear = openai_whisper(args.imported, args.language)
    found: dict[str, Any] = {}
    written = ScriptConverter(args.script) if args.script else str
    for manifest in args.data:
        said = clips(manifest, args.clips, dict(args.where))
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


def run(side: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def condition(text: str) -> tuple[str, str]:
    column, _, value = text.partition("=")
    return column, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--language", default="en")
    parser.add_argument("--script", choices=SCRIPTS, help="the characters of Chinese")
    parser.add_argument("--where", type=condition, action="append", default=[])
    parser.add_argument("--clips", type=int, default=0, help="of each set; 0: all")
    parser.add_argument("--jobs", type=int, default=1, help="sides at once, a core each")
    parser.add_argument("--sides", nargs="+", default=list(USUAL), choices=SIDES)
    parser.add_argument("--imported", type=Path, help="CHECKPOINT in both precisions, if there is")
    parser.add_argument("--json", type=Path, help="all texts and figures")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.side, args)))
        return
    with tempfile.TemporaryDirectory() as work:
        if args.imported is None:
            imported = Path(work) / "imported"
            command = [sys.executable, "-m", "mynah", "import", "whisper", str(args.checkpoint),
                       str(imported), "--precision", "both"]  # fmt: skip
            subprocess.run(command, check=True)
            sys.argv += ["--imported", str(imported)]
        with ThreadPoolExecutor(args.jobs) as pool:
            found = dict(zip(args.sides, pool.map(run, args.sides), strict=True))
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
