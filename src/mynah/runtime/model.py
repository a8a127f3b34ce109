"""A loaded model: the engine, the tokenizer and the front end that belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mynah.audio.features import Frontend, make_frontend
from mynah.config import build
from mynah.decoding import DecodingOptions
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelFolder, find_model, read_model_folder
from mynah.runtime.confidence import Calibration, read_calibration
from mynah.runtime.engine import Engine, load_engine
from mynah.runtime.lexicon import GRAPH, LEXICON, WordParts
from mynah.text import Tokenizer, load_tokenizer

AnyTokenizer = TypeVar("AnyTokenizer")

RECOGNISER = "u2"
# families that are not recognisers, and what they are for
_OTHER_FAMILIES = {
    "lm": "it ranks what a recogniser found (--rescorer)",
    "vad": "it finds where there is speech (mynah segments)",
    "punctuation": "it makes plain text readable (mynah punctuate)",
    "whisper": "a Whisper model hears whole windows (mynah.load runs it)",
}


@dataclass(frozen=True)
class FrameClock:
    """Encoder frames to seconds.

    ``step`` is the time from one frame to the next, ``lead`` where the first begins: a frame sees
    more input than it advances by, and stands for the middle of what it sees. A word reaches from
    at most ``before`` its first frame to at most ``after`` its last, all of it ``late`` seconds
    earlier, since a model that looks ahead little marks its units when they have been said. Each
    model has its own (``[times]`` in its ``model.toml``).
    """

    step: float  # seconds
    lead: float
    before: float = 0.08
    after: float = 0.08
    late: float = 0.0

    def seconds(self, frame: float) -> float:
        """Where ``frame`` begins and the one before it ends."""
        return self.lead + frame * self.step

    def spoken(self, frame: float) -> float:
        """When what ``frame`` begins to mark was said."""
        return self.seconds(frame) - self.late


@dataclass(frozen=True)
class Model:
    """What decoding needs of a model; used by any number of threads and sessions."""

    engine: Engine
    tokenizer: Tokenizer
    frontend: Frontend
    parts: WordParts | None = None  # lexicon, language model and graph, where it has them

    @property
    def rate(self) -> int:
        """Samples a second that the model takes."""
        return self.frontend.rate

    @property
    def name(self) -> str:
        """The model's name."""
        return self.engine.info.name

    @cached_property
    def clock(self) -> FrameClock:
        """Times of encoder frames."""
        shift, engine = self.frontend.frame_shift, self.engine
        lead = (engine.overlap + 1 - engine.subsampling) / 2 * shift
        times = {"step": engine.subsampling * shift, "lead": lead}
        return build(FrameClock, {**engine.info.times, **times}, "times")

    @cached_property
    def calibration(self) -> Calibration | None:
        """What makes confidences probabilities; ``None`` where the model has no such thing."""
        return read_calibration(self.engine.info.confidence, self.name)

    def language(self, wanted: str | None = None) -> str | None:
        """The language of a transcript: the one asked for, or the only one of the model.

        Raises:
            ConfigError: the model does not know ``wanted``.
        """
        known = self.engine.info.languages
        if wanted is not None and known and wanted not in known:
            raise ConfigError(f"language: {self.name} knows {', '.join(known)}, not {wanted!r}")
        return wanted or (known[0] if len(known) == 1 else None)

    @property
    def words(self) -> WordParts:
        """Lexicon, language model and graph.

        Raises:
            ConfigError: the model was not loaded from a folder.
        """
        if self.parts is None:
            raise ConfigError(f"method: {self.name} has no lexicon")
        return self.parts

    @property
    def methods(self) -> tuple[str, ...]:
        """The searches that it can be asked for, its own first."""
        there = [("lexicon", LEXICON), ("graph", GRAPH)]
        parts = [name for name, part in there if self.parts and self.parts.has(part)]
        decoders = ("rescoring", "attention") if self.engine.has_decoder else ()
        own = self.decoding_options().method
        return tuple(dict.fromkeys([own, *parts, *decoders, "prefix_beam", "greedy"]))

    def decoding_options(
        self, options: DecodingOptions | None = None, method: str | None = None
    ) -> DecodingOptions:
        """The model's own options, or ``options``, with ``method`` in place of theirs.

        A model without attention decoders is searched by CTC prefix beam unless told otherwise.

        Raises:
            ConfigError: the method is unknown, or needs decoders that the model does not have.
        """
        asked = method or (options.method if options is not None else None)
        if options is None:
            options = build(DecodingOptions, self.engine.info.decoding, "decoding")
        if method is not None:
            values: dict[str, Any] = {"method": method}
            options = dataclasses.replace(options, **values)
        if options.method in ("rescoring", "attention") and not self.engine.has_decoder:
            if asked is not None:
                raise ConfigError(
                    f"method: {self.name} has no attention decoder ({self.engine.name}), which "
                    f"{options.method} needs; it has {', '.join(self.methods)}"
                )
            options = dataclasses.replace(options, method="prefix_beam")
        for wanted, part in (("lexicon", LEXICON), ("graph", GRAPH)):
            if options.method == wanted and not (self.parts and self.parts.has(part)):
                raise ConfigError(
                    f"method: {self.name} has no {wanted} ({part}); mynah lexicon adds one"
                )
        return options


def load_model(
    model: str | Path | ModelFolder | None = None,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    device: str = "auto",
) -> Model:
    """Load a model folder, a known name, or, for ``None``, the bundled recogniser.

    Raises:
        ModelError: no such model, or its parts do not fit together.
        ConfigError, MissingDependency: as :func:`mynah.runtime.engine.load_engine`.
    """
    folder = model if isinstance(model, ModelFolder) else read_model_folder(find_model(model))
    if folder.info.family in _OTHER_FAMILIES:
        other = _OTHER_FAMILIES[folder.info.family]
        raise ModelError(f"{folder.info.name}: no recogniser, {other}")
    if folder.info.family != RECOGNISER:
        known = sorted([RECOGNISER, *_OTHER_FAMILIES])
        raise ModelError(
            f"{folder.path}: family {folder.info.family!r} is none of {', '.join(known)}"
        )
    tokenizer, frontend = read_ends(folder, load_tokenizer)
    loaded = load_engine(folder, engine, precision=precision, threads=threads, device=device)
    found = Model(loaded, tokenizer, frontend, WordParts(folder, tokenizer))
    try:
        _ = found.clock, found.calibration  # what is wrong with them is said now
    except ConfigError as error:
        raise ModelError(f"{folder.path}: {error}") from None
    return found


def read_ends(
    folder: ModelFolder, load: Callable[[Path, Mapping[str, Any]], AnyTokenizer]
) -> tuple[AnyTokenizer, Frontend]:
    """What stands before and behind the engine of a model: the tokenizer, verified and made by
    ``load`` of its folder and its table in ``model.toml``, and the front end.

    Raises:
        ModelError: one of them is missing, altered or broken, or does not fit the model.
    """
    info = folder.info
    try:
        tokenizer = load(folder.part("tokenizer"), info.tokenizer)
        frontend = make_frontend(info.frontend)
    except ConfigError as error:
        raise ModelError(f"{folder.path}: {error}") from None
    if frontend.rate != info.sample_rate:
        raise ModelError(
            f"{folder.path}: the front end takes {frontend.rate} Hz, "
            f"the model {info.sample_rate} Hz"
        )
    return tokenizer, frontend
