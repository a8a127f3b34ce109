"""Train or fine-tune a model from a recipe.

    mynah train recipes/english/small.toml --out runs/small
    mynah train recipes/own/finetune.toml init=my-model data.root=/data --out runs/mine

The same command again goes on where the run stopped, bit for bit. Ctrl-C and SIGTERM stop it at
the end of the step, saved; then the exit code is 130. Several processes: torchrun --nproc-per-node
2 -m mynah train ...
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mynah.errors import ConfigError, MissingDependency

if TYPE_CHECKING:
    from mynah.training.progress import Record, Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this verb."""
    parser.add_argument("recipe", help="a TOML file, as those in recipes/")
    parser.add_argument("assignments", nargs="*", metavar="key=value", help="over the recipe's own")
    parser.add_argument("--out", required=True, metavar="RUN", help="the folder of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    parser.add_argument("--fresh", action="store_true", help="remove the run that RUN holds first")


def run(args: argparse.Namespace) -> int:
    """Train; 0 when the recipe's end was reached, 130 when stopped before."""
    if args.threads < 0:
        raise ConfigError(f"--threads: must not be negative, got {args.threads}")
    if args.threads:  # before torch starts its pool
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingDependency("torch", extra="train") from None
    from mynah.training.config import read_recipe
    from mynah.training.run import train

    config = read_recipe(args.recipe, args.assignments)
    first = os.environ.get("RANK", "0") == "0"
    with _terminal() if first else contextlib.nullcontext(_say_nothing) as report:
        done = train(
            config,
            Path(args.out),
            device=args.device,
            threads=args.threads,
            fresh=args.fresh,
            report=report,
        )
    return 0 if done else 130


def _say_nothing(record: Record) -> None:
    return None


@contextlib.contextmanager
def _terminal() -> Iterator[Report]:
    """Lines on standard output; where that is a terminal, steps rewrite one line at the bottom."""
    from mynah.training.progress import format_record

    if not sys.stdout.isatty():
        yield lambda record: print(format_record(record), flush=True)
        return
    from rich.console import Console

    console = Console(highlight=False)
    with console.status("preparing") as status:

        def say(record: Record) -> None:
            text = format_record(record)
            if record.get("event") == "step":
                status.update(text)
            else:
                console.print(text, markup=False)

        yield say
