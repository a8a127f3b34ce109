"""Bring a checkpoint of another toolkit."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Toolkit, source and target."""
    parser.add_argument("toolkit", choices=("wenet",), help="where the checkpoint comes from")
    parser.add_argument(
        "source", metavar="DIR", help="folder with final.pt, train.yaml, units.txt, global_cmvn"
    )
    parser.add_argument("target", metavar="OUT", help="model folder to write")
    parser.add_argument("--name", default="", help="name of the model (default: that of OUT)")


def run(args: argparse.Namespace) -> int:
    """Write the model folder and say what it holds."""
    from mynah.model_folder import read_model_folder

    try:
        from mynah.models.u2.convert import import_wenet
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from mynah.errors import MissingDependency

        raise MissingDependency("torch", extra="train") from None
    folder = read_model_folder(import_wenet(args.source, args.target, name=args.name))
    live = "streams" if folder.info.streaming.get("chunk") else "does not stream"
    print(f"{folder.path}: {folder.info.family} model, {folder.info.sample_rate} Hz, {live}")
    return 0
