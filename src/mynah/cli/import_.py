"""Bring a checkpoint of another toolkit.

wenet: a folder with final.pt, train.yaml, units.txt and global_cmvn (needs PyTorch).

whisper: OpenAI's .pt, a Hugging Face folder, whisper.cpp's ggml .bin, a CTranslate2 folder, or a
name like hf:openai/whisper-small, which is downloaded. OpenAI files hold no vocabulary; --tokenizer
names a Hugging Face folder, a tokenizer.json, or openai-whisper's multilingual.tiktoken. No PyTorch
is needed (docs/whisper.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Toolkit, source and target."""
    parser.add_argument(
        "toolkit", choices=("wenet", "whisper"), help="where the checkpoint comes from"
    )
    parser.add_argument("source", metavar="SOURCE", help="file, folder or name, see above")
    parser.add_argument("target", metavar="OUT", help="model folder to write")
    parser.add_argument("--name", default="", help="name of the model (default: that of OUT)")
    parser.add_argument(
        "--tokenizer", metavar="PATH", help="whisper: file or folder with the vocabulary"
    )
    parser.add_argument(
        "--weights",
        choices=("keep", "fp16", "fp32"),
        help="whisper: numbers as in the checkpoint (default), or changed",
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "fp32", "both", "none"),
        help="whisper: what the CPU computes in; int8 (default) is 2 to 4 times as fast as fp32",
    )


def run(args: argparse.Namespace) -> int:
    """Write the model folder and say what it holds."""
    from mynah.model_folder import read_model_folder

    folder = read_model_folder(_import_whisper(args) if args.toolkit == "whisper" else _wenet(args))
    if folder.info.family == "whisper":
        languages = folder.info.languages
        known = f"{len(languages)} languages" if len(languages) > 1 else "English only"
        print(f"{folder.path}: whisper model, {known}; to use it:")
        print(f"mynah transcribe --model {folder.path} FILES")
        return 0
    live = "streams" if folder.info.streaming.get("chunk") else "does not stream"
    print(f"{folder.path}: {folder.info.family} model, {folder.info.sample_rate} Hz, {live}")
    return 0


def _import_whisper(args: argparse.Namespace) -> Path:
    from mynah.models.whisper.convert import import_whisper

    return import_whisper(
        args.source,
        args.target,
        tokenizer=args.tokenizer,
        name=args.name,
        weights=args.weights or "keep",
        precision=args.precision or "int8",
    )


def _wenet(args: argparse.Namespace) -> Path:
    from mynah.errors import ConfigError, MissingDependency

    for name in ("tokenizer", "weights", "precision"):
        if getattr(args, name):
            raise ConfigError(f"--{name}: not with wenet")
    try:
        from mynah.models.u2.convert import import_wenet
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependency("torch", extra="train") from None
    return import_wenet(args.source, args.target, name=args.name)
