"""A loaded Whisper model: the engine, the tokenizer and the front end that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mynah.audio.features import Frontend
from mynah.config import build
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelFolder, ModelInfo, find_model, read_model_folder
from mynah.runtime.model import read_ends
from mynah.runtime.whisper.config import WhisperConfig
from mynah.runtime.whisper.engine import WhisperEngine
from mynah.text.whisper_languages import language_code
from mynah.text.whisper_tokenizer import WhisperTokenizer, load_whisper_tokenizer

FAMILY = "whisper"


@dataclass(frozen=True)
class WhisperModel:
    """What decoding needs of a Whisper model; used by any number of threads."""

    engine: WhisperEngine
    tokenizer: WhisperTokenizer
    frontend: Frontend
    config: WhisperConfig
    info: ModelInfo

    @property
    def rate(self) -> int:
        """Samples a second that the model takes."""
        return self.frontend.rate

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that it knows."""
        special = self.tokenizer.special
        return tuple(special.languages) if special.multilingual else ("en",)

    def language(self, wanted: str | None) -> str | None:
        """The code of the language asked for, or the only one of the model; else ``None``, as for
        ``"auto"``.

        Raises:
            ConfigError: the model does not know ``wanted``.
        """
        if wanted is None or wanted == "auto":
            return self.languages[0] if len(self.languages) == 1 else None
        code = language_code(wanted)
        if code not in self.languages:
            if self.languages == ("en",):
                raise ConfigError(f"language: {self.name} knows English alone, not {wanted!r}")
            raise ConfigError(f"language: {self.name} does not know {wanted!r}")
        return code


def load_whisper_model(
    model: str | Path | ModelFolder,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    device: str = "auto",
) -> WhisperModel:
    """Load a model folder of the family ``whisper``.

    Raises:
        ModelError: no such model, or its parts do not fit together.
        ConfigError: a wrong engine, precision, device or number of threads.
        MissingDependency: the engine needs a library that is not installed.
    """
    from mynah.runtime.whisper.engine import load_whisper_engine

    folder = model if isinstance(model, ModelFolder) else read_model_folder(find_model(model))
    info = folder.info
    if info.family != FAMILY:
        raise ModelError(f"{info.name}: a model of the family {info.family}, no Whisper")
    try:
        config = build(WhisperConfig, info.config, "config")
    except ConfigError as error:
        raise ModelError(f"{folder.path}: {error}") from None
    tokenizer, frontend = read_ends(folder, load_whisper_tokenizer)
    if frontend.dim != config.dims.n_mels:
        sizes = f"{frontend.dim} features, the model takes {config.dims.n_mels}"
        raise ModelError(f"{folder.path}: the front end gives {sizes}")
    if tokenizer.vocab_size != config.dims.n_vocab:
        sizes = f"{tokenizer.vocab_size} tokens, the model {config.dims.n_vocab}"
        raise ModelError(f"{folder.path}: the tokenizer has {sizes}")
    loaded = load_whisper_engine(
        folder, engine=engine, precision=precision, threads=threads, device=device
    )
    return WhisperModel(loaded, tokenizer, frontend, config, info)
