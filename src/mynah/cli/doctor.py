"""What is installed, what will run, and what is missing.

Each missing library is named with what it is for and the command that adds it. The model is loaded
and a second of noise is transcribed; the exit code is 2 when that fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import sys
import time
from dataclasses import dataclass
from typing import Any

from mynah.cli import common
from mynah.errors import MynahError, install_command


@dataclass(frozen=True)
class Library:
    """A library that mynah can use; ``extra`` is empty for those that it always needs."""

    module: str
    distribution: str
    extra: str
    use: str


LIBRARIES = (
    Library("numpy", "numpy", "", "arrays"),
    Library("onnxruntime", "onnxruntime", "", "models on the CPU"),
    Library("soundfile", "soundfile", "", "wav, flac, mp3, ogg, opus"),
    Library("soxr", "soxr", "", "resampling"),
    Library("rich", "rich", "", "progress, the terminal"),
    Library("av", "av", "media", "m4a, aac, webm, video"),
    Library("sounddevice", "sounddevice", "mic", "the microphone"),
    Library("wetext", "wetext", "text", "numbers as in print"),
    Library("pypinyin", "pypinyin", "text", "how hanzi are read"),
    Library("opencc", "opencc", "text", "Chinese in one script"),
    Library("huggingface_hub", "huggingface_hub", "hub", "checkpoints by name (hf:...)"),
    Library("kaldifst", "kaldifst", "lm", "graphs of words (TLG)"),
    Library("kaldi_decoder", "kaldi-decoder", "lm", "searching them"),
    Library("torch", "torch", "train", "training, export, models on a GPU"),
    Library("safetensors", "safetensors", "train", "weights"),
    Library("sentencepiece", "sentencepiece", "train", "training BPE tokenizers"),
    Library("onnx", "onnx", "train", "export"),
    Library("onnxscript", "onnxscript", "train", "export"),
    Library("fsspec", "fsspec", "train", "data at a URL"),
    Library("tensorboard", "tensorboard", "train", "curves of a training"),
    Library("yaml", "pyyaml", "train", "import of WeNet checkpoints"),
)


SLOW = 2.0  # seconds; what takes so long is not tried again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model to try."""
    parser.add_argument("--json", action="store_true", help="as JSON")
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Report, try the model, and name what is missing."""
    from mynah import __version__

    libraries = [(library, version(library)) for library in LIBRARIES]
    trial = try_model(common.choice(args, threads=1))
    report = {
        "mynah": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": common.cores(),
        "home": _home(),
        "libraries": {library.distribution: found for library, found in libraries},
        "model": trial,
    }
    if args.json:
        import json

        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        _print(report, libraries)
    needed = [library for library, found in libraries if found is None and not library.extra]
    return 2 if needed or "problem" in trial else 0


def _home() -> str:
    from mynah.errors import ConfigError
    from mynah.model_folder import home

    try:
        return str(home())
    except ConfigError as error:
        return f"no place ({error})"


def version(library: Library) -> str | None:
    """The installed version of a library; ``None`` when it cannot be imported."""
    try:
        if importlib.util.find_spec(library.module) is None:
            return None
    except (ImportError, ValueError):
        return None
    try:
        return importlib.metadata.version(library.distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def try_model(choice: common.Choice) -> dict[str, Any]:
    """Load the model and transcribe a second of noise; what ran and how long it took."""
    try:
        import numpy as np

        from mynah.runtime.request import Request

        start = time.perf_counter()
        recognizer = choice.load()
        loaded = time.perf_counter()
        noise = np.random.default_rng(0).normal(0, 0.01, recognizer.sample_rate)
        for _ in range(2):  # the first loads what is needed but once
            begun = time.perf_counter()
            recognizer.transcribe(noise.astype(np.float32), Request(vad=False))
            took = time.perf_counter() - begun
            if took > SLOW:
                break
    except MynahError as error:
        return {"problem": str(error)}
    except ImportError as error:
        return {"problem": f"{error.name or error} cannot be imported"}
    return {
        "name": recognizer.info.name,
        "engine": recognizer.engine_name,
        "load_seconds": round(loaded - start, 3),
        "second_of_audio_seconds": round(took, 3),
    }


def _print(report: dict[str, Any], libraries: list[tuple[Library, str | None]]) -> None:
    print(f"mynah {report['mynah']}, Python {report['python']}, {report['system']}, ", end="")
    print(f"{report['cores']} cores; models and caches in {report['home']}")
    for library, found in libraries:
        mark = found or ("MISSING" if not library.extra else "not installed")
        print(f"  {library.distribution:<15} {mark:<18} {library.use}")
    model = report["model"]
    if "problem" in model:
        print(f"model: {model['problem']}")
    else:
        print(
            f"model: {model['name']} runs on {model['engine']}; loaded in "
            f"{model['load_seconds']:.2f} s, a second of audio takes "
            f"{model['second_of_audio_seconds']:.3f} s"
        )
    if sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
        print("this Python is not one that mynah is tested with (3.11 to 3.13)")
    missing = [library for library, found in libraries if found is None]
    for extra in dict.fromkeys(library.extra for library in missing):
        names = ", ".join(x.distribution for x in missing if x.extra == extra)
        print(f"to add {names}: {install_command(extra)}")
