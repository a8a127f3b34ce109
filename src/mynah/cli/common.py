"""What the verbs that recognise speech have in common."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mynah.errors import ConfigError

if TYPE_CHECKING:
    from mynah.decoding import DecodingOptions
    from mynah.runtime.recognizer import Recognizer

METHODS = ("greedy", "prefix_beam", "rescoring", "attention", "lexicon", "graph")


@dataclass(frozen=True)
class Choice:
    """Which model to load, and how; it travels to worker processes."""

    model: str | None
    engine: str
    precision: str
    device: str
    threads: int

    def load(self) -> Recognizer:
        """Load it.

        Raises:
            MynahError: it cannot be loaded.
        """
        from mynah.runtime.recognizer import load

        return load(
            self.model,
            engine=self.engine,
            precision=self.precision,
            device=self.device,
            threads=self.threads,
        )


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and on what."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="M", help="a name or folder (default: the bundled one)")
    group.add_argument("--engine", choices=("auto", "onnx", "torch"), default="auto")
    group.add_argument("--precision", choices=("auto", "int8", "fp32"), default="auto")
    group.add_argument("--device", default="auto", help="for the torch engine: cpu, cuda, cuda:1")
    group.add_argument("--threads", type=positive, metavar="N", help="threads of one computation")


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """How units are searched."""
    group = parser.add_argument_group("decoding")
    group.add_argument("--method", choices=METHODS, help="default: the model's own")
    group.add_argument("--beam", type=positive, metavar="N", help="hypotheses kept")
    group.add_argument("--language", metavar="CODE", help="one of the model's languages")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="another option: blank_penalty, ctc_weight, reverse_weight, "
                       "length_penalty, blank_skip, top_units; may be repeated")  # fmt: skip


def choice(args: argparse.Namespace, *, workers: int = 1, threads: int | None = None) -> Choice:
    """The model that the arguments ask for; ``threads`` when they do not say (default: the cores,
    divided among the workers)."""
    default = threads or max(cores() // workers, 1)
    return Choice(args.model, args.engine, args.precision, args.device, args.threads or default)


def decoding_options(args: argparse.Namespace, recognizer: Recognizer) -> DecodingOptions:
    """The model's options with what the arguments change.

    Raises:
        ConfigError: the model cannot be decoded so, or there is no such option.
    """
    import dataclasses

    from mynah.config import as_dict, build, override
    from mynah.decoding import DecodingOptions

    options = recognizer.model.decoding_options(method=args.method)
    if args.beam is not None:
        options = dataclasses.replace(options, beam=args.beam)
    if not args.set:
        return options
    try:
        options = build(DecodingOptions, override(as_dict(options), args.set))
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from None
    return recognizer.model.decoding_options(options)


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def speed(audio: float, took: float) -> str:
    """How fast it was, for people."""
    ratio = audio / took if took > 0 else 0.0
    return f"{audio:.1f} s of audio in {took:.1f} s, {ratio:.3g} times faster than real time"
