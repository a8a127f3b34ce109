"""A trained model to ONNX, in fp32 and int8.

The folder that is written holds the graphs that the core install runs, the tokenizer and the card;
with --weights it can be trained further, too.

    mynah export runs/mine/model my-model --precision int8
"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``mynah export``."""
    parser.add_argument("model", help="a model folder with weights, or a known name")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("fp32", "int8"),
        help="which graphs (default: all that the family has)",
    )
    parser.add_argument("--weights", action="store_true", help="keep weights.safetensors, too")


def run(args: argparse.Namespace) -> int:
    """Export and print what was written."""
    try:
        from mynah.export.folder import export_folder
    except ModuleNotFoundError as error:
        from mynah.errors import MissingDependency

        raise MissingDependency(str(error.name), extra="train") from None
    from mynah.model_folder import find_model, read_model_folder

    def progress(line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    source = read_model_folder(find_model(args.model))
    written = export_folder(
        source, args.out, precisions=args.precision, weights=args.weights, progress=progress
    )
    progress("")
    print(f"{args.out}: {source.info.name} ({source.info.family})")
    for graph in written:
        print(
            f"  {graph.name:<26} {graph.bytes / 1e6:7.2f} MB   "
            f"differs from PyTorch by {graph.difference:.0e} on an example"
        )
    return 0
