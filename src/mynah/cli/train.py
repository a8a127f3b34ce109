"""Train or fine-tune a model from a recipe.

    mynah train recipes/english/small.toml --out runs/small
    mynah train recipes/finetune.toml init=my-model data.root=/data --out runs/mine

The same command again goes on where the run stopped, bit for bit. Ctrl-C and SIGTERM stop it at
the end of the step, saved; then the exit code is 130. Several processes: torchrun --nproc-per-node
2 -m mynah train ...
"""

from __future__ import annotations

import argparse
import os
import sys
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
    with _reporter() if first else _silent() as report:
        done = train(
            config,
            Path(args.out),
            device=args.device,
            threads=args.threads,
            fresh=args.fresh,
            report=report,
        )
    return 0 if done else 130


class _silent:
    def __enter__(self) -> Report:
        return lambda record: None

    def __exit__(self, *_: object) -> None:
        return None


class _reporter:
    """Lines on the terminal; where it is one, steps rewrite the last line."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._status: object = None

    def __enter__(self) -> Report:
        if self._live:
            from rich.console import Console

            self._console = Console(highlight=False)
            self._status = self._console.status("preparing")
            self._status.start()  # type: ignore[attr-defined]
        return self._say

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()  # type: ignore[attr-defined]

    def _say(self, record: Record) -> None:
        from mynah.training.progress import format_record

        text = format_record(record)
        if self._status is None:
            print(text, flush=True)
        elif record.get("event") == "step":
            self._status.update(text)  # type: ignore[attr-defined]
        else:
            self._console.print(text, markup=False)
