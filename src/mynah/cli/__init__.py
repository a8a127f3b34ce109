"""The command ``mynah``: one module a verb, imported when that verb is used.

A verb is a module with ``add_arguments(parser)`` and ``run(args) -> int``; the first line of its
docstring is its line in the help. Only its own module is imported when it runs, so that
``mynah --help`` stays fast.

Exit codes: 0 when everything was done, 1 when some of it failed, 2 when nothing could be done or
the arguments were wrong, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from mynah.errors import MynahError, nearest

# verb: (module, help). The help is the first line of the module's docstring (a test compares).
VERBS: dict[str, tuple[str, str]] = {
    "transcribe": ("mynah.cli.transcribe", "Recordings to text, with times."),
    "align": ("mynah.cli.align", "Where each word of a text is heard in its recording."),
    "listen": ("mynah.cli.listen", "Live words from the microphone or from raw PCM."),
    "punctuate": (
        "mynah.cli.punctuate",
        "Make plain text readable: punctuation, casing, and, if asked, numbers and script.",
    ),
    "segments": ("mynah.cli.segments", "Where there is speech in recordings."),
    "evaluate": ("mynah.cli.evaluate", "Error rate and speed of a model on a manifest."),
    "models": ("mynah.cli.models", "The models that are installed, and what each is."),
    "doctor": ("mynah.cli.doctor", "What is installed, what will run, and what is missing."),
    "data": ("mynah.cli.data", "Make, check, shard and summarise training data."),
    "train": ("mynah.cli.train", "Train or fine-tune a model from a recipe."),
    "lexicon": (
        "mynah.cli.lexicon",
        "A lexicon of words, and a language model, for a model folder.",
    ),
    "lm": ("mynah.cli.lm", "Train, mix, prune, convert and measure n-gram language models."),
    "export": ("mynah.cli.export", "A trained model to ONNX, in fp32 and int8."),
    "import": ("mynah.cli.import_", "Bring a checkpoint of another toolkit."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name) and return its exit code."""
    _open_streams()
    _printable()
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _top_parser()
    if not arguments or (arguments[0] in ("-h", "--help", "help") and len(arguments) == 1):
        parser.print_help()
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from mynah import __version__

        print(f"mynah {__version__}")
        return 0
    if arguments[0] not in VERBS:
        hint = nearest(arguments[0], VERBS)
        print(f"mynah: unknown verb {arguments[0]!r}{hint}; see mynah --help", file=sys.stderr)
        return 2
    module = importlib.import_module(VERBS[arguments[0]][0])
    return _run(module, arguments[0], arguments[1:])


def _open_streams() -> None:
    """Where the shell has closed standard output or error, what is written there goes nowhere; no
    file that is opened later takes its number either."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # the places of those that are closed are taken now
    os.close(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def _printable() -> None:
    """Make any text printable: pipes and files get UTF-8 on every system, a terminal that lacks a
    character gets its number, and so does UTF-8 for what is no character (of a file's name)."""
    for stream in (sys.stdout, sys.stderr):
        if not hasattr(stream, "reconfigure"):
            continue
        encoding = (stream.encoding or "utf-8").lower().replace("-", "")
        if encoding == "utf8":
            if stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        elif stream.isatty() or "PYTHONIOENCODING" in os.environ:
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    return argparse.ArgumentParser(
        prog="mynah",
        usage="mynah VERB [...]    mynah VERB --help",
        description=f"mynah hears, learns, speaks and changes voices.\n\nverbs:\n{verbs}",
        epilog="Environment: MYNAH_HOME (models and caches), MYNAH_DATA (corpora).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the list of all options is what --help is for."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _add_common_arguments(parser: argparse.ArgumentParser, default: bool | str) -> None:
    parser.add_argument("--debug", action="store_true", default=default,
                        help="show the trace of an error")  # fmt: skip
    parser.add_argument("--verbose", action="store_true", default=default,
                        help="show what the library logs")  # fmt: skip


def _finish_actions(parser: argparse.ArgumentParser) -> bool:
    """Give the sub-commands of a verb its own options, and their line in its help as the head of
    theirs; whether there are any."""
    if parser._subparsers is None:
        return False
    for action in parser._subparsers._group_actions:
        assert isinstance(action, argparse._SubParsersAction)
        for line in action._choices_actions:
            one = action.choices[line.dest]
            one.description = one.description or f"{str(line.help).capitalize()}."
            _add_common_arguments(one, argparse.SUPPRESS)  # said before or behind its name
    return True


def _run(module: ModuleType, verb: str, arguments: list[str]) -> int:
    parser = _Parser(
        prog=f"mynah {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    if hasattr(module, "prepare"):  # a command line that other programs' users know
        arguments = module.prepare(arguments)
    _add_common_arguments(parser, False)
    try:
        # options may stand between positional arguments, which sub-commands and -- cannot take
        mixed = not _finish_actions(parser) and "--" not in arguments
        args = (parser.parse_intermixed_args if mixed else parser.parse_args)(arguments)
    except SystemExit as stop:  # argparse has said what is wrong, or printed the help
        return int(stop.code or 0)
    logging.basicConfig(
        level=logging.DEBUG if args.debug else logging.INFO if args.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        code = int(module.run(args))
        sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
        return code
    except BrokenPipeError:  # python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MynahError, OSError) as error:
        if args.debug:
            import traceback

            traceback.print_exc()
        print(f"mynah {verb}: {_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
