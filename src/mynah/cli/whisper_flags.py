"""The flags of whisper, faster-whisper and whisper-ctranslate2, with their meaning.

They may be written with ``_`` or ``-``. Those that only mean what a flag of mynah means become
that flag; those of decoding become :class:`mynah.runtime.whisper.options.WhisperOptions`; what
cannot be honoured is refused with the reason.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mynah.errors import ConfigError

if TYPE_CHECKING:
    from mynah.runtime.whisper.options import WhisperOptions

log = logging.getLogger(__name__)

FILES = ("txt", "vtt", "srt", "tsv", "json")  # of whisper's "all"


def truth(text: str) -> bool:
    """``True`` or ``False``, for argparse."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() == "true"


def optional(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """What ``kind`` reads, or ``None``, as whisper's command lines have it."""

    def read(text: str) -> Any:
        if text == "None":
            return "None"  # not None, which is "not given"
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor None") from None

    return read


def count(text: str) -> int | None:
    """Threads; 0 and ``None`` mean the default."""
    value = 0 if text == "None" else int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value or None


def clips(text: str) -> tuple[float, ...]:
    """``start,end,start,end,...`` in seconds."""
    try:
        times = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not start,end,start,...") from None
    return () if times == (0.0,) else times


def word_times(text: str) -> str:
    """Where word times come from; whisper's ``True`` is ``attention``."""
    known = {"true": "attention", "false": "none", "attention": "attention", "ctc": "ctc",
             "aligned": "ctc", "none": "none"}  # fmt: skip
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is none of True, False, attention, ctc")
    return known[text.lower()]


@dataclass(frozen=True)
class Flag:
    """A flag of decoding; ``field`` is that of ``WhisperOptions``, where it is called otherwise."""

    name: str
    kind: Callable[[str], Any]
    help: str
    metavar: str = "X"
    field: str = ""

    @property
    def dest(self) -> str:
        """The attribute in the parsed arguments."""
        return self.name.replace("-", "_")


_INT, _FLOAT = optional(int), optional(float)
GROUPS: dict[str, tuple[Flag, ...]] = {
    "Whisper models: what is said": (
        Flag("task", str, "transcribe, or translate into English", "T"),
        Flag("languages", str, "only these are detected: en,zh,de", "A,B"),
        Flag("multilingual", truth, "detect the language of every window", "BOOL"),
        Flag("language-detection-threshold", _FLOAT, "probability to be sure (default: 0.5)",
             field="language_threshold"),
        Flag("language-detection-segments", int, "windows looked at (default: 1)", "N",
             "language_segments"),
        Flag("initial-prompt", str, "text before the first window", "TEXT"),
        Flag("carry-initial-prompt", truth, "before every window", "BOOL"),
        Flag("prefix", str, "how the first window's text begins", "TEXT"),
        Flag("condition-on-previous-text", truth, "prompt with what was said before", "BOOL"),
        Flag("prompt-reset-on-temperature", float, "not from such text (default: 0.5)"),
        Flag("clip-timestamps", clips, "hear only start,end,start,... (seconds)", "S,S"),
    ),
    "Whisper models: search": (
        Flag("beam-size", _INT, "hypotheses at temperature 0 (default: 5; 1: greedy)", "N"),
        Flag("best-of", _INT, "samples at other temperatures (default: 5)", "N"),
        Flag("patience", _FLOAT, "of the beam (default: 1)"),
        Flag("length-penalty", _FLOAT, "0 to 1 (default: by mean log-probability)"),
        Flag("repetition-penalty", float, "above 1: against repeated tokens"),
        Flag("no-repeat-ngram-size", int, "no n-gram twice in a window", "N"),
        Flag("temperature", float, "first temperature (default: 0)"),
        Flag("temperature-increment-on-fallback", _FLOAT, "next ones (default: 0.2; None: none)"),
        Flag("compression-ratio-threshold", _FLOAT, "failed above (default: 2.4)"),
        Flag("logprob-threshold", _FLOAT, "failed below (default: -1)"),
        Flag("no-speech-threshold", _FLOAT, "silence above (default: 0.6)"),
        Flag("suppress-tokens", str, "never chosen (default: -1, symbols)", "N,N"),
        Flag("suppress-blank", truth, "no empty beginning (default: True)", "BOOL"),
        Flag("without-timestamps", truth, "a window is one segment", "BOOL"),
        Flag("max-initial-timestamp", _FLOAT, "of a window (default: 1)"),
        Flag("max-new-tokens", _INT, "of a window", "N"),
        Flag("seed", int, "of the sampling (default: 0)", "N"),
    ),
    "Whisper models: words": (
        Flag("word-timestamps", word_times, "True or attention, ctc, or False", "BOOL"),
        Flag("prepend-punctuations", str, "go with the next word", "CHARS"),
        Flag("append-punctuations", str, "go with the word before", "CHARS"),
        Flag("hallucination-silence-threshold", _FLOAT, "skip longer silences (needs words)", "S"),
        Flag("guards", str, "unsaid text: remove, report or off (default: remove)", "G"),
    ),
    "Whisper models: speed": (
        Flag("batched", truth, "hear stretches of speech together", "BOOL"),
        Flag("batch-size", _INT, "so many at once, of several recordings if given (8)", "N"),
        Flag("chunk-length", _FLOAT, "seconds of a window (default: 30)", "S"),
        Flag("short-context", truth, "encode short windows shortly, see docs/whisper.md", "BOOL"),
        Flag("loudness", str, "relative to window (default) or recording", "L"),
    ),
}  # fmt: skip
FLAGS = tuple(flag for flags in GROUPS.values() for flag in flags)

# What is not there, and why. A value that asks for nothing passes.
REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "print-colors": ("use --words, which prints confidences", ("false",)),
    "local-files-only": ("", ("true", "false")),  # nothing is ever downloaded here
    "hf-token": ("mynah does not diarize yet; --diarization takes an RTTM file", ("",)),
    "speaker-num": ("mynah does not diarize yet; --diarization takes an RTTM file", ("none",)),
    "live-transcribe": ("use mynah listen, with a model that streams", ("false",)),
    "live-volume-threshold": ("use mynah listen", ()),
    "live-input-device": ("use mynah listen --microphone", ("none",)),
    "live-input-device-sample-rate": ("use mynah listen", ()),
}
_BOOLEANS = {f"--{flag.name}" for flag in FLAGS if flag.kind is truth} | {
    "--vad-filter", "--word-timestamps", "--fp16", "--pretty-json", "-p", "--print-colors",
    "--local-files-only", "--live-transcribe",
}  # fmt: skip
_SWITCHES = {"--highlight-words": None, "--verbose": "--quiet"}  # and what False is
_VAD = {
    "vad-threshold": ("onset", 1.0),
    "vad-neg-threshold": ("offset", 1.0),
    "vad-min-speech-duration-ms": ("min_speech", 1000.0),
    "vad-max-speech-duration-s": ("longest", 1.0),
    "vad-min-silence-duration-ms": ("min_silence", 1000.0),
    "vad-speech-pad-ms": ("pad", 1000.0),
}
_PRECISIONS = {
    "default": "auto", "auto": "auto", "int8": "int8", "int8_float32": "int8", "float32": "fp32",
    "float16": "fp16", "bfloat16": "bf16",
}  # fmt: skip


def prepare(arguments: Sequence[str]) -> list[str]:
    """The command line with ``-`` for ``_`` in the names of flags, and ``--flag=True`` where a flag
    that whisper's command lines give a value stands alone or before one."""
    found: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*found, word, *rest]
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            word = name.replace("_", "-") + equals + value
        name, equals, value = word.partition("=")
        if name in _BOOLEANS or name in _SWITCHES:
            if not equals:
                value = rest.pop(0) if rest and _is_value(name, rest[0]) else "True"
            if name in _SWITCHES and value.lower() in ("true", "false"):
                other = _SWITCHES[name]
                found += [name] if value.lower() == "true" else [other] if other else []
                continue
            word = f"{name}={value}" if name.startswith("--") else f"{name}{value}"
        elif name == "--suppress-tokens" and not equals and rest:
            word = f"{name}={rest.pop(0)}"  # -1,5 would be taken for a flag
        found.append(word)
    return found


def _is_value(name: str, word: str) -> bool:
    words = {"true", "false"}
    if name == "--word-timestamps":
        words |= {"attention", "ctc", "none", "aligned"}
    return word.lower() in words


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    """How a Whisper model decodes."""
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            group.add_argument(f"--{flag.name}", type=flag.kind, metavar=flag.metavar,
                               help=flag.help)  # fmt: skip
    group.add_argument("--align-model", metavar="M",
                       help="CTC model for --word-timestamps ctc")  # fmt: skip


def add_other_arguments(parser: argparse.ArgumentParser) -> None:
    """Other names of flags that mynah has, and flags that are refused."""
    group = parser.add_argument_group("by the names that whisper's command lines have")
    group.add_argument("--output-format", "-f", metavar="F", choices=(*FILES, "all"),
                       help="files as whisper writes them, into --output-dir (default: .); all: "
                       + " ".join(FILES))  # fmt: skip
    group.add_argument("--model-dir", metavar="DIR", help="a folder of models, looked into first")
    group.add_argument("--model-directory", metavar="DIR", help="a model folder, as --model")
    group.add_argument(
        "--compute-type", metavar="T", help="int8, float32, auto; float16, bfloat16: on a GPU"
    )
    group.add_argument("--fp16", type=truth, metavar="BOOL",
                       help="of a GPU; on a CPU there is none")  # fmt: skip
    group.add_argument("--pretty-json", "-p", type=truth, metavar="BOOL",
                       help="False: JSON on one line")  # fmt: skip
    group.add_argument("--device-index", type=int, metavar="N", help="--device cuda:N")
    group.add_argument("--vad-filter", type=truth, metavar="BOOL",
                       help="hear only speech; False: --no-vad")  # fmt: skip
    for name, (ours, _) in _VAD.items():
        group.add_argument(f"--{name}", type=optional(float), metavar="X",
                           help="--" + f"vad-{ours}".replace("_", "-")
                           if ours != "longest" else "longest stretch of speech")  # fmt: skip
    for name in REFUSED:
        group.add_argument(f"--{name}", help=argparse.SUPPRESS)


def settle(args: argparse.Namespace) -> None:
    """Put what other names say into the arguments that mynah has, and refuse what cannot be done.

    Raises:
        ConfigError: what is asked for is not there, or said twice.
    """
    for name, (reason, harmless) in REFUSED.items():
        value = getattr(args, name.replace("-", "_"), None)
        if value is None or str(value).lower() in harmless:
            continue
        raise ConfigError(f"--{name}: {value!r} cannot be honoured: {reason}")
    on_gpu = args.device.startswith("cuda")
    if args.fp16 is False and on_gpu:
        _once(args, "fp16 False", "precision", "fp32", "auto")
    elif args.fp16 is False and args.precision in ("fp16", "bf16"):
        raise ConfigError(f"--fp16 False: --precision says {args.precision!r}")
    elif args.fp16 and on_gpu:
        _once(args, "fp16 True", "precision", "fp16", "auto")
    elif args.fp16:  # whisper's default, which it sets aside without a GPU, too
        log.warning("--fp16 True: is for a GPU (--device cuda); on a CPU it changes nothing")
    if args.compute_type is not None:
        if args.compute_type not in _PRECISIONS:
            raise ConfigError(
                f"--compute-type: {args.compute_type!r} cannot be honoured: "
                f"one of {', '.join(_PRECISIONS)}"
            )
        _once(args, "compute-type", "precision", _PRECISIONS[args.compute_type], "auto")
    if args.device_index:
        _once(args, "device-index", "device", f"cuda:{args.device_index}", ("auto", "cuda"))
    if args.model_directory is not None:
        _once(args, "model-directory", "model", args.model_directory, None)
    if args.language in ("auto", "None"):  # of whisper.cpp and whisper: to be detected
        args.language = None
    if args.output_format is not None and args.output_dir is None:
        from pathlib import Path

        args.output_dir = Path(".")
    _settle_vad(args)


def _once(args: argparse.Namespace, name: str, ours: str, value: Any, unset: Any) -> None:
    now = getattr(args, ours)
    if now != value and now not in (unset if isinstance(unset, tuple) else (unset,)):
        raise ConfigError(f"--{name}: --{ours} says {now!r}")
    setattr(args, ours, value)


def _settle_vad(args: argparse.Namespace) -> None:
    if args.vad_filter is False:
        args.no_vad = True
    for name, (ours, scale) in _VAD.items():
        value = getattr(args, name.replace("-", "_"))
        if value is None or value == "None":
            continue
        if getattr(args, f"vad_{ours}", None) is not None:
            raise ConfigError(f"--{name}: --vad-{ours.replace('_', '-')} says the same")
        setattr(args, f"vad_{ours}", value / scale)
    if args.vad_threshold not in (None, "None") and args.vad_offset is None:
        args.vad_offset = max(args.vad_threshold - 0.15, 0.01)  # as there


def given(args: argparse.Namespace) -> list[Flag]:
    """The flags of decoding that the arguments have."""
    return [flag for flag in FLAGS if getattr(args, flag.dest, None) is not None]


def refuse(args: argparse.Namespace, model: str) -> None:
    """Refuse flags of decoding for a model that is no Whisper.

    Raises:
        ConfigError: one was given.
    """
    found = [flag.name for flag in given(args)]
    if getattr(args, "align_model", None) is not None:
        found.append("align-model")
    if found:
        names = ", ".join(f"--{name}" for name in found[:3]) + (", ..." if len(found) > 3 else "")
        raise ConfigError(f"{names}: only for Whisper models, and {model} is none")


def options(args: argparse.Namespace, *, words: str) -> WhisperOptions:
    """The options that the arguments ask for; ``words`` is where times of words come from when no
    flag says it.

    Raises:
        ConfigError: a value out of its range, or options that exclude each other.
    """
    from mynah.runtime.whisper.options import WhisperOptions

    values: dict[str, Any] = {"word_timestamps": words}
    for flag in given(args):
        value = getattr(args, flag.dest)
        values[flag.field or flag.dest] = None if value == "None" else value
    for name in ("beam_size", "best_of"):  # None is greedy search, or one sample
        if name in values and values[name] is None:
            values[name] = 1
    for name in ("patience", "batch_size", "chunk_length"):
        if name in values and values[name] is None:
            del values[name]
    if "languages" in values:
        from mynah.text.whisper_languages import language_code

        names = [part for part in values["languages"].split(",") if part.strip()]
        values["languages"] = tuple(language_code(name) for name in names)
    step: Any = values.pop("temperature_increment_on_fallback", 0.2)
    values["temperature"] = temperatures(values.get("temperature", 0.0), step)
    try:
        found = WhisperOptions(**values)
    except ConfigError as error:
        raise ConfigError(f"--{_spelled(str(error))}") from None
    _refuse_idle(args, found)
    return found


_LANGUAGE = "is for detecting the language, which --language names"
# flags that act only with others: their values are passed where they are what is done anyway
_ACTS: dict[str, tuple[Callable[[argparse.Namespace, WhisperOptions], bool], str]] = {
    "language_detection_threshold": (lambda args, _: args.language is None, _LANGUAGE),
    "language_detection_segments": (lambda args, _: args.language is None, _LANGUAGE),
    "beam_size": (
        lambda _, options: options.beam_size == 1 or 0.0 in options.temperatures,
        "there is no temperature of 0, at which beams are searched",
    ),
    "patience": (
        lambda _, options: options.beam_size > 1 and 0.0 in options.temperatures,
        "there is no beam",
    ),
    "length_penalty": (
        lambda _, options: options.beam_size > 1 or (options.best_of > 1 and _samples(options)),
        "there is one hypothesis, which competes with none",
    ),
    "best_of": (
        lambda _, options: options.best_of == 1 or _samples(options),
        "there is no temperature above 0 to sample at",
    ),
    "seed": (lambda _, options: _samples(options), "there is no temperature above 0 to sample at"),
    "prompt_reset_on_temperature": (
        lambda _, options: options.conditions,
        "needs --condition-on-previous-text True",
    ),
    "max_initial_timestamp": (
        lambda _, options: not options.without_timestamps,
        "not with --without-timestamps True",
    ),
    "prepend_punctuations": (
        lambda _, options: options.word_timestamps != "none",
        "needs --word-timestamps True",
    ),
    "append_punctuations": (
        lambda _, options: options.word_timestamps != "none",
        "needs --word-timestamps True",
    ),
}


def _samples(options: WhisperOptions) -> bool:
    return any(temperature > 0 for temperature in options.temperatures)


def _refuse_idle(args: argparse.Namespace, options: WhisperOptions) -> None:
    """Refuse flags that cannot act beside the others.

    Raises:
        ConfigError: there is one, and it does not say what is so without it.
    """
    from mynah.runtime.whisper.options import WhisperOptions

    usual = WhisperOptions()
    for flag in given(args):
        acts, reason = _ACTS.get(flag.dest, (None, ""))
        field = flag.field or flag.dest
        if acts and getattr(options, field) != getattr(usual, field) and not acts(args, options):
            raise ConfigError(f"--{flag.name}: {reason}")


def _spelled(line: str) -> str:
    """A line about an option, with the flag that it has here."""
    name, colon, rest = line.partition(":")
    flags = {flag.field: flag.name for flag in FLAGS if flag.field}
    return flags.get(name, name.replace("_", "-")) + colon + rest


def temperatures(first: float, step: float | None) -> tuple[float, ...]:
    """Temperatures from ``first`` to 1 in steps, or ``first`` alone.

    Raises:
        ConfigError: a step that is not above 0.
    """
    if step is None:
        return (first,)
    if not step > 0:
        raise ConfigError(f"--temperature-increment-on-fallback: {step} is not above 0")
    count = max(int((1.0 - first + 1e-6) / step), 0) + 1
    if count > 1000:
        raise ConfigError(f"--temperature-increment-on-fallback: {step} makes {count} tries")
    return tuple(round(first + n * step, 6) for n in range(count))
