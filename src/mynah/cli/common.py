"""What the verbs that recognise speech have in common."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mynah.cli import company, speech, whisper_flags
from mynah.cli.whisper_flags import count
from mynah.errors import ConfigError, InputError
from mynah.text.script import SCRIPTS

if TYPE_CHECKING:
    from mynah.decoding import DecodingOptions, Hotwords
    from mynah.runtime.endpoint import Endpointing
    from mynah.runtime.recognizer import Recognizer
    from mynah.runtime.request import Request

log = logging.getLogger(__name__)

Number = TypeVar("Number", int, float)

# flags that a Whisper model has not, and what it has instead
WHISPER_HAS_NOT = {
    "method": " (--beam-size, --best-of, --temperature)",
    "beam": " (--beam-size)",
    "lm": ": its decoder is its language model",
    "lm_weight": ": its decoder is its language model",
    "rescorer": ": its decoder is its language model",
    "hotword_weight": ": hotwords are a prompt",
    "set": ": its options are flags of their own",
    "endpoint": ": it hears whole windows",
    "live": ": it hears whole windows, and cannot stream",
    "second_look": ": it hears whole windows",
    "chars": ": it has no times of characters",
}
HOTWORDS = company.needs(["hotword_weight"], "hotwords")
MOST_AT_ONCE = 256  # recordings or windows; memory grows with them
METHODS = ("greedy", "prefix_beam", "rescoring", "attention", "lexicon", "graph")
# names of Whisper models, and where they are published
WHISPERS = {
    name: f"openai/whisper-{name}"
    for name in (
        "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en", "large",
        "large-v2", "large-v3", "large-v3-turbo",
    )
} | {"large-v1": "openai/whisper-large", "turbo": "openai/whisper-large-v3-turbo"} | {
    name: f"distil-whisper/{name}"
    for name in (
        "distil-small.en", "distil-medium.en", "distil-large-v2", "distil-large-v3",
        "distil-large-v3.5",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which model to load, and how; it travels to worker processes."""

    model: str | None
    engine: str
    precision: str
    device: str
    threads: int
    folder: str | None = None  # of models, looked into first

    def load(self) -> Recognizer:
        """Load it.

        Raises:
            MynahError: it cannot be loaded.
        """
        from mynah.runtime.recognizer import load

        return load(
            self.find(),
            engine=self.engine,
            precision=self.precision,
            device=self.device,
            threads=self.threads,
        )

    def find(self) -> Path:
        """The folder of the model.

        Raises:
            ModelError: there is no such model; the line says how a Whisper is brought.
        """
        from mynah.errors import ModelError
        from mynah.model_folder import find_model, home

        name = self.model
        if not name or (not self.folder and Path(name).is_dir()):
            return find_model(name)
        short = name.removeprefix("openai/whisper-").removeprefix("whisper-")
        if self.folder:
            for inside in (name, f"whisper-{short}"):
                if (Path(self.folder) / inside).is_dir():
                    return Path(self.folder) / inside
        try:
            return find_model(name)
        except ModelError as error:
            if short not in WHISPERS:
                raise
            try:
                return find_model(f"whisper-{short}")
            except ModelError:
                source = WHISPERS[short]
                target = Path(self.folder or home() / "models") / f"whisper-{short}"
                raise ModelError(
                    f"{error}; mynah import whisper hf:{source} {target} brings it"
                ) from None


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def within(low: Number, high: Number) -> Callable[[str], Number]:
    """A number from ``low`` to ``high``, of their type, for argparse."""
    kind = type(low)

    def number(text: str) -> Number:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low:g}..{high:g}")
        return value

    return number


def workers(text: str) -> int:
    """Processes that each hold a model: at most twice the cores, and 8 anywhere; for argparse."""
    return within(1, max(2 * cores(), 8))(text)


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def not_negative(text: str) -> float:
    """A number of 0 or more, for argparse."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model runs, and on what."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="M", help="a name or folder (default: the bundled one)")
    group.add_argument("--engine", choices=("auto", "onnx", "torch"), default="auto")
    group.add_argument("--precision", choices=("auto", "int8", "fp32", "fp16", "bf16"),
                       default="auto", help="fp16 and bf16: Whisper on a GPU")  # fmt: skip
    group.add_argument("--device", default="auto", help="for the torch engine: cpu, cuda, cuda:1")
    group.add_argument("--threads", type=count, metavar="N", help="threads of one computation")


def add_decoding_arguments(parser: argparse.ArgumentParser, *, live: bool = True) -> None:
    """How units are searched, and what counts as speech; ``live``: of streams, too."""
    group = parser.add_argument_group("decoding")
    group.add_argument("--method", choices=METHODS, help="default: the model's own")
    group.add_argument("--beam", type=within(1, 1000), metavar="N",
                       help="hypotheses kept; of method lexicon the length of the n-best, whose "
                       "places kept a frame are --set tokens=N and --set margin=X")  # fmt: skip
    group.add_argument("--language", metavar="CODE", help="one of the model's languages")
    group.add_argument("--hotwords", action="append", default=[], metavar="FILE|A,B=3.5",
                       help="phrases to prefer: a file with one a line, or a list; "
                       "may be repeated")  # fmt: skip
    group.add_argument("--hotword-weight", type=above_zero, metavar="W",
                       help="of phrases that have none of their own (default: 1.5)")  # fmt: skip
    group.add_argument("--lm", metavar="FILE", help="an n-gram language model (ARPA or binary)")
    group.add_argument("--lm-weight", type=above_zero, metavar="W",
                       help="of the language model (default: the options, 0.3)")  # fmt: skip
    group.add_argument("--rescorer", metavar="M|off",
                       help="a neural language model that ranks what a lexicon search found "
                       "(default: the model's own)")  # fmt: skip
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="another option: blank_penalty, ctc_weight, reverse_weight, "
                       "length_penalty, blank_skip, top_units, word_bonus, lm_unknown, lm_level, "
                       "lm_pass, hotword_cap, tokens, margin, unknown_word, rescorer_share, nbest, "
                       "rescorer_bonus, risk_scale; may be repeated")  # fmt: skip
    if live:
        group.add_argument("--second-look", action=argparse.BooleanOptionalAction, default=None,
                           help="live: hear a segment once more, as a whole, when it has ended "
                           "(default: the model's own)")  # fmt: skip
    group = parser.add_argument_group("voice activity")
    group.add_argument("--no-vad", action="store_true", help="decode what is not speech, too")
    for name, meaning in speech.VAD.items():
        group.add_argument(f"--vad-{name.replace('_', '-')}", type=not_negative, metavar="X",
                           help=meaning)  # fmt: skip


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """How the text is written."""
    group = parser.add_argument_group("text")
    group.add_argument("--punctuate", action=argparse.BooleanOptionalAction, default=False,
                       help="restore punctuation and capitals")  # fmt: skip
    group.add_argument("--itn", action=argparse.BooleanOptionalAction, default=False,
                       help="write numbers and the like as in print")  # fmt: skip
    add_script_argument(group)


def add_script_argument(parser: argparse._ActionsContainer) -> None:
    """Which characters Chinese is written in."""
    parser.add_argument("--script", choices=SCRIPTS,
                        help="the characters of Chinese (default: as the model writes them, "
                        "which may be both in turns)")  # fmt: skip


def add_endpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the segments of a live stream end."""
    parser.add_argument("--endpoint", action="append", default=[], metavar="KEY=SECONDS",
                        help="when a live segment ends: nothing=5, after_speech=1, after_digit=2, "
                        "longest=20, search=5 (inf: never); may be repeated")  # fmt: skip


def choice(args: argparse.Namespace, *, workers: int = 1, threads: int | None = None) -> Choice:
    """The model that the arguments ask for; ``threads`` when they do not say (default: the cores,
    divided among the workers)."""
    default = threads or max(cores() // workers, 1)
    folder = getattr(args, "model_dir", None)
    return Choice(
        args.model, args.engine, args.precision, args.device, args.threads or default, folder
    )


def request(
    args: argparse.Namespace, recognizer: Recognizer, *, words: bool = True, chars: bool = False
) -> Request:
    """What the arguments ask for.

    Raises:
        ConfigError: the model cannot do it, or there is no such option.
        InputError: a list of hotwords cannot be read.
        ModelError: a language model or voice activity detector cannot be read.
    """
    from mynah.runtime.request import Request

    if recognizer.whisper is not None:
        return _whisper_request(args, recognizer, words)
    whisper_flags.refuse(args, recognizer.info.name)
    return Request(
        options=decoding_options(args, recognizer),
        hotwords=_hotwords(args),
        lm=args.lm,
        rescorer=False if args.rescorer == "off" else args.rescorer,
        words=words,
        chars=chars,
        language=args.language,
        endpointing=_endpointing(args),
        second_look=getattr(args, "second_look", None),
        vad=speech.wanted(args),
        punctuate=getattr(args, "punctuate", False),
        itn=getattr(args, "itn", False),
        script=args.script,
    )


def _whisper_request(args: argparse.Namespace, recognizer: Recognizer, words: bool) -> Request:
    """What the arguments ask of a Whisper model."""
    from mynah.runtime.request import Request

    name = recognizer.info.name
    for flag, instead in WHISPER_HAS_NOT.items():
        if getattr(args, flag, None):
            shown = flag.replace("_", "-")
            raise ConfigError(f"--{shown}: not with {name}, a Whisper model{instead}")
    align_model = getattr(args, "align_model", None)
    usual = "none" if not words else "attention" if align_model is None else "ctc"
    options = whisper_flags.options(args, words=usual)
    if align_model is not None and options.word_timestamps != "ctc":
        raise ConfigError("--align-model: needs --word-timestamps ctc")
    return Request(
        words=words or options.word_timestamps != "none",
        hotwords=_prompt(args.hotwords),
        language=args.language,
        vad=speech.wanted(args),
        punctuate=getattr(args, "punctuate", False),
        itn=getattr(args, "itn", False),
        script=args.script,
        whisper=options,
        aligner=align_model,
    )


def _prompt(given: list[str]) -> str | None:
    """The hotwords of a Whisper: a text, or the lines of a file."""
    texts = []
    for one in given:
        if _is_file(one):
            from mynah.decoding.hotwords import DEFAULT_WEIGHT, Hotwords

            phrases = Hotwords.read(one).phrases
            if any(weight != DEFAULT_WEIGHT for _, weight in phrases):
                raise ConfigError(f"--hotwords: {one} has weights; a Whisper model takes hotwords "
                                  "as a prompt, which has none")  # fmt: skip
            texts += [phrase for phrase, _ in phrases]
        elif one.endswith(".txt"):
            raise InputError(f"--hotwords: {one}: no such file")
        else:
            texts.append(one)
    return ", ".join(texts) or None


def _is_file(name: str) -> bool:
    """Whether ``name`` is that of a file.

    Raises:
        InputError: of a pipe or device, which cannot be read once a recording.
    """
    if os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name):
        raise InputError(f"--hotwords: {name}: not a regular file, and read once a recording")
    return os.path.isfile(name)


def decoding_options(args: argparse.Namespace, recognizer: Recognizer) -> DecodingOptions:
    """The model's options with what the arguments change.

    Raises:
        ConfigError: a wrong option, or one that cannot act.
    """
    import dataclasses

    from mynah.config import as_dict, build, override
    from mynah.decoding import DecodingOptions

    options = recognizer.model.decoding_options(method=args.method)
    if args.beam is not None:
        options = dataclasses.replace(options, beam=args.beam)
    if args.lm_weight is not None:
        options = dataclasses.replace(options, lm_weight=args.lm_weight)
    if args.set:
        try:
            options = build(DecodingOptions, override(as_dict(options), args.set))
        except ConfigError as error:
            raise ConfigError(f"--set: {error}") from None
        options = recognizer.model.decoding_options(options)
    _refuse_idle(args, recognizer, options)
    return options


def _refuse_idle(
    args: argparse.Namespace, recognizer: Recognizer, options: DecodingOptions
) -> None:
    """Refuse options of the search that cannot act with its method and company."""
    named = {name: f"--{name.replace('_', '-')}" for name in ("beam", "lm_weight")}
    flags = {named[name]: name for name in named if getattr(args, name) is not None}
    flags |= {f"--set {name}": name for name in (one.partition("=")[0].strip() for one in args.set)}
    if not flags:
        return
    from mynah.runtime.idle import company, idle

    rescorer = None if args.rescorer is None else args.rescorer != "off"
    beside = company(
        recognizer.model, hotwords=bool(args.hotwords), lm=args.lm is not None, rescorer=rescorer
    )
    for shown, name in flags.items():
        reason = idle(name, options, beside)
        if reason is not None:
            raise ConfigError(f"{shown}: {reason}")


def _hotwords(args: argparse.Namespace) -> Hotwords | None:
    """The phrases of all ``--hotwords``: a file where there is one of that name, or a list."""
    if not args.hotwords:
        return None
    from mynah.decoding.hotwords import DEFAULT_WEIGHT, Hotwords

    weight = args.hotword_weight or DEFAULT_WEIGHT
    phrases: list[tuple[str, float]] = []
    for given in args.hotwords:
        if _is_file(given):
            phrases += Hotwords.read(given, weight).phrases
        elif given.endswith(".txt") or os.sep in given:
            raise InputError(f"--hotwords: {given}: no such file")
        else:
            entries = [entry for entry in given.split(",") if entry.strip()]
            phrases += Hotwords.parse(entries, weight).phrases
    return Hotwords(tuple(phrases))


def _endpointing(args: argparse.Namespace) -> Endpointing | None:
    """The rules by which segments end; ``None`` where no argument says anything of them."""
    given = getattr(args, "endpoint", None)
    if not given:
        return None
    from mynah.config import as_dict, build, override
    from mynah.runtime.endpoint import Endpointing

    try:
        return build(Endpointing, override(as_dict(Endpointing()), given))
    except ConfigError as error:
        raise ConfigError(f"--endpoint: {error}") from None


def keep(option: str, target: str | os.PathLike[str], inputs: Iterable[str]) -> None:
    """Refuse to write over what is read.

    Raises:
        ConfigError: ``target``, which ``option`` names, is one of the files ``inputs``.
    """
    for one in inputs:
        with contextlib.suppress(OSError, ValueError):  # one of them is not there
            if os.path.isfile(one) and os.path.samefile(one, target):
                name = os.fspath(target)
                raise ConfigError(f"{option}: {name} would be written over; it is read")


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def speed(audio: float, took: float) -> str:
    """How fast it was, for people."""
    ratio = audio / took if took > 0 else 0.0
    return f"{audio:.1f} s of audio in {took:.1f} s, {ratio:.3g} times faster than real time"
