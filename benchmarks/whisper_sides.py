"""What the benchmarks of real Whisper checkpoints share: sides, each in a process of its own.

CHECKPOINT is a folder of CTranslate2's (``model.bin``, ``config.json``, ``tokenizer.json``), which
faster-whisper reads as it is, and ours and openai-whisper as ``mynah import whisper`` gives it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.corpus import matcher, read_manifest
from mynah.corpus.samples import load
from mynah.corpus.select import Conditions

RATE = 16000
OPENAI: dict[str, Any] = {  # what the original's command line decodes by
    "beam_size": 5,
    "best_of": 5,
    "fp16": False,
    "temperature": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
}

Samples = npt.NDArray[np.float32]
Measure = Callable[[str, argparse.Namespace], dict[str, Any]]


def arguments(
    description: str | None, sides: Sequence[str], usual: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A parser of a checkpoint and the sides that hear it, by default the ``usual`` ones or all."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="sides at once, a core each")
    parser.add_argument("--sides", nargs="+", default=list(usual or sides), choices=sides)
    parser.add_argument("--imported", type=Path, help="CHECKPOINT in both precisions, if there is")
    parser.add_argument("--side", choices=sides, help=argparse.SUPPRESS)
    return parser


def measured(
    parser: argparse.ArgumentParser, measure: Measure
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The arguments, and what ``measure`` gives for each of the sides, as JSON keeps it."""
    args = parser.parse_args()
    if args.side:  # a process of its own
        print(json.dumps(measure(args.side, args)))
        sys.exit()
    with tempfile.TemporaryDirectory() as work:
        imported = args.imported or Path(work) / "imported"
        if args.imported is None:
            command = [sys.executable, "-m", "mynah", "import", "whisper", str(args.checkpoint),
                       str(imported), "--precision", "both"]  # fmt: skip
            subprocess.run(command, check=True)

        def run(side: str) -> Any:
            command = [sys.executable, *sys.argv, "--imported", str(imported), "--side", side]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{side}: {done.stderr.strip()}")
            return json.loads(done.stdout.splitlines()[-1])

        with ThreadPoolExecutor(args.jobs) as pool:
            return args, dict(zip(args.sides, pool.map(run, args.sides), strict=True))


def clips(manifest: Path, count: int, where: Conditions) -> list[tuple[str, Samples]]:
    """Text and samples of ``count`` clips spread over a set (0: all)."""
    path = manifest / "manifest.tsv" if manifest.is_dir() else manifest
    meets = matcher(where, {})
    cuts = [c for c in read_manifest(str(path)) if meets(c)]
    step = max(1, len(cuts) // count) if count else 1
    return [(c.text, load(c, audio.read, rate=RATE)) for c in cuts[::step][: count or None]]


def our_recognizer(args: argparse.Namespace, side: str) -> Any:
    """mynah's recogniser in the precision that ``side`` names, on one thread."""
    import mynah

    return mynah.load(args.imported, threads=1, precision="int8" if "int8" in side else "fp32")


def faster_whisper_model(args: argparse.Namespace, side: str) -> Any:
    """faster-whisper's model in the precision that ``side`` names, on one thread."""
    from faster_whisper import WhisperModel

    kind = "float32" if "float32" in side else "int8"
    return WhisperModel(str(args.checkpoint), device="cpu", compute_type=kind, cpu_threads=1)


def openai_model(args: argparse.Namespace) -> Any:
    """The original model with the weights and alignment heads of the imported folder."""
    import tomllib

    import torch
    import whisper
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    config = tomllib.loads((args.imported / "model.toml").read_text())["config"]
    model = whisper.Whisper(whisper.model.ModelDimensions(**config["dims"]))
    model.load_state_dict(load_file(args.imported / "weights.safetensors"))
    if config.get("alignment_heads"):
        heads = torch.zeros(model.dims.n_text_layer, model.dims.n_text_head, dtype=torch.bool)
        heads[tuple(zip(*config["alignment_heads"], strict=True))] = True
        model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    return model.eval()
