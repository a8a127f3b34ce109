"""A trained model to ONNX, in fp32 and int8.

The folder that is written holds the graphs that the core install runs, the tokenizer and the card;
with --weights it can be trained further, too.

    mynah export runs/mine/model my-model --precision int8
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mynah.cli import common, company

if TYPE_CHECKING:
    from mynah.model_folder import ModelFolder

RULES = (
    company.needs(["prior_weight", "root", "where", "limit"], "priors"),
    company.Rule(
        ("pack",), lambda args: "int8" in (args.precision or ["int8"]), "needs --precision int8"
    ),
)


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
    parser.add_argument(
        "--pack", action="store_true", help="wide layers of int8 graphs in 4 bits: smaller files"
    )
    parser.add_argument(
        "--priors",
        metavar="MANIFEST",
        help="divide by how often units are heard in these",
    )
    parser.add_argument(
        "--prior-weight", type=common.within(0.0, 10.0), metavar="W", help="power (0.5)"
    )
    parser.add_argument("--root", metavar="DIR", help="where sets are (default: MYNAH_DATA)")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION")
    parser.add_argument("--limit", type=common.positive, metavar="N", help="recordings (300)")


def run(args: argparse.Namespace) -> int:
    """Export and print what was written."""
    company.refuse(args, RULES)
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
    with tempfile.TemporaryDirectory(prefix="mynah-") as folder:
        if args.priors:
            source = _divided(args, source, Path(folder) / "model")
        written = export_folder(
            source,
            args.out,
            precisions=args.precision,
            weights=args.weights,
            pack=args.pack,
            progress=progress,
        )
    progress("")
    print(f"{args.out}: {source.info.name} ({source.info.family})")
    for graph in written:
        print(
            f"  {graph.name:<26} {graph.bytes / 1e6:7.2f} MB   "
            f"differs from PyTorch by {graph.difference:.0e} on an example"
        )
    return 0


def _divided(args: argparse.Namespace, source: ModelFolder, folder: Path) -> ModelFolder:
    """The model divided by the priors of its units, in ``folder``."""
    from mynah.audio import read
    from mynah.cli.evaluate import parse_conditions
    from mynah.corpus import load, read_manifest
    from mynah.export.priors import fold_priors
    from mynah.model_folder import read_model_folder

    cuts = list(read_manifest(args.priors, root=args.root, where=parse_conditions(args.where)))
    step = max(1, len(cuts) // (args.limit or 300))  # spread over the set
    sounds = (load(cut, read, rate=source.info.sample_rate) for cut in cuts[::step])
    weight = 0.5 if args.prior_weight is None else args.prior_weight
    fold_priors(source, folder, sounds, weight)
    return read_model_folder(folder)
