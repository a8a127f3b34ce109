"""The model folder: one directory that holds everything a model is.

``model.toml`` names the family, its configuration, the front end, the tokenizer, where the model
comes from, and the SHA-256 of every other file. Nothing in a folder is code and nothing is pickled.
The format is described in ``docs/model_folder.md``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mynah.config import as_dict, build, dumps_toml, read_toml
from mynah.errors import ConfigError, ModelError, nearest

FORMAT = 1
DEFAULT_MODEL = "mynah-en"
MODEL_FILE = "model.toml"
# what a terminal would obey: control characters, halves of pairs, ends of lines, directions
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk answers that takes no more


@dataclass(frozen=True)
class ModelInfo:
    """What ``model.toml`` says of a model, hashes aside."""

    family: str
    name: str
    sample_rate: int  # hertz
    languages: tuple[str, ...] = ()
    license: str = ""
    config: dict[str, Any] = field(default_factory=dict)  # of the family
    frontend: dict[str, Any] = field(default_factory=dict)  # audio.features.make_frontend
    tokenizer: dict[str, Any] = field(default_factory=dict)  # text.load_tokenizer
    # chunk (encoder frames) and left (chunks) for live use; empty where the model cannot stream
    streaming: dict[str, Any] = field(default_factory=dict)
    decoding: dict[str, Any] = field(default_factory=dict)  # defaults of DecodingOptions
    # runtime.confidence.Calibration; empty: confidences are means of probabilities
    confidence: dict[str, Any] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)  # before, after, late: of FrameClock
    voice_activity: bool = True  # whether what is not speech is to be left out before it hears
    training_data: tuple[str, ...] = ()
    results: dict[str, Any] = field(default_factory=dict)  # measured, with the set's name


@dataclass(frozen=True)
class ModelFolder:
    """A folder whose ``model.toml`` was read; files are verified when they are asked for."""

    path: Path
    info: ModelInfo
    files: dict[str, str]  # relative POSIX path -> SHA-256

    def has(self, name: str) -> bool:
        """Whether the folder lists the file ``name``."""
        return name in self.files

    def file(self, name: str) -> Path:
        """The path of a listed file, its content verified.

        Raises:
            ModelError: the file is not listed, missing, no file of the folder, or altered.
        """
        if name not in self.files:
            raise ModelError(f"{self.path}: has no {name}{nearest(name, self.files)}")
        path = self.path / name
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ModelError(f"{self.path}: {name} is no file")
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise ModelError(f"{path}: a link that leaves the model folder")
        try:
            digest = sha256(path)
        except OSError:
            raise ModelError(f"{self.path}: {name} is missing") from None
        if digest != self.files[name]:
            raise ModelError(f"{self.path}: {name} was altered (its SHA-256 does not match)")
        return path

    def part(self, name: str) -> Path:
        """The folder ``name`` inside, all that is listed of it verified.

        Raises:
            ModelError: as :meth:`file`.
        """
        for file in self.files:
            if file.startswith(f"{name}/"):
                self.file(file)
        return self.path / name

    def verify(self) -> None:
        """Check every listed file.

        Raises:
            ModelError: as :meth:`file`.
        """
        for name in self.files:
            self.file(name)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_model_folder(path: str | Path) -> ModelFolder:
    """Read ``model.toml`` of the folder ``path``.

    Raises:
        ModelError: no such folder, no ``model.toml``, a newer format, or a malformed entry.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    if not (folder / MODEL_FILE).is_file():
        raise ModelError(f"{folder}: not a model folder (it has no {MODEL_FILE})")
    try:
        values = read_toml(folder / MODEL_FILE)
        version, files = values.pop("format", None), values.pop("files", {})
        if version != FORMAT:
            raise ModelError(f"{folder}: format {version!r}, this version of mynah reads {FORMAT}")
        info = build(ModelInfo, values)
    except ConfigError as error:
        line = str(error).removeprefix(f"{folder / MODEL_FILE}: ")
        raise ModelError(f"{folder / MODEL_FILE}: {line}") from None
    _check_names(folder, info)
    if not isinstance(files, dict):
        raise ModelError(f"{folder / MODEL_FILE}: files is not a table")
    for name, digest in files.items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
            raise ModelError(f"{folder}: the file name {name!r} leaves the folder")
        if not isinstance(digest, str):
            raise ModelError(f"{folder}: the hash of {name} is not a string")
    return ModelFolder(folder, info, dict(files))


def _check_names(folder: Path, info: ModelInfo) -> None:
    if not re.fullmatch("[a-z0-9_]+", info.family):
        raise ModelError(f"{folder / MODEL_FILE}: family: {info.family!r} is no name of one")
    for key, value in (("name", info.name), *(("languages", v) for v in info.languages)):
        if CONTROL.search(value):
            raise ModelError(f"{folder / MODEL_FILE}: {key}: {value!r} has control characters")


@contextlib.contextmanager
def write_model_folder(path: str | Path, info: ModelInfo) -> Iterator[Path]:
    """Write a model folder whole or not at all.

    Yields a temporary directory beside ``path`` to put the parts into. When the block ends without
    an error, the parts are hashed, ``model.toml`` is written, and the directory takes the place of
    ``path``; an existing model folder there is replaced, anything else is refused.

    Raises:
        ModelError: ``path`` exists and is not a model folder, or cannot be written.
    """
    target = Path(path).resolve()
    if target.exists() and not (target / MODEL_FILE).is_file() and not _is_empty(target):
        raise ModelError(f"{target}: exists and is not a model folder; choose another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelError(f"{target}: cannot be written ({error.strerror})") from None
    try:
        yield work
        write_model_file(work, info)
        work.chmod(0o755)  # mkdtemp makes it private
        _replace(work, target)
    except OSError as error:
        if error.errno in _FULL:  # said of the file that is copied, if of any
            raise ModelError(f"{target}: cannot be written ({error.strerror})") from None
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_model_file(folder: Path, info: ModelInfo) -> None:
    """Hash every file under ``folder`` and write its ``model.toml``."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {name: sha256(folder / name) for name in names if name != MODEL_FILE}
    text = dumps_toml({"format": FORMAT, **as_dict(info), "files": files})
    work = folder / f".{MODEL_FILE}-{os.getpid()}"
    work.write_text(text, encoding="utf-8")
    os.replace(work, folder / MODEL_FILE)


def update_results(path: str | Path, results: dict[str, Any]) -> None:
    """Merge measured ``results`` into ``model.toml``.

    Raises:
        ModelError: a part of the folder is missing or altered.
    """
    folder = read_model_folder(path)
    folder.verify()
    info = dataclasses.replace(folder.info, results={**folder.info.results, **results})
    write_model_file(folder.path, info)


def update_calibration(
    path: str | Path, confidence: dict[str, Any], times: dict[str, float] | None = None
) -> None:
    """Replace the tables ``confidence`` and, if given, ``times`` of ``model.toml``.

    Raises:
        ModelError: a part of the folder is missing or altered.
    """
    folder = read_model_folder(path)
    folder.verify()
    kept = folder.info.times if times is None else times
    info = dataclasses.replace(folder.info, confidence=confidence, times=kept)
    write_model_file(folder.path, info)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _replace(work: Path, target: Path) -> None:
    if not target.exists():
        os.replace(work, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    os.replace(target, old / "folder")
    try:
        os.replace(work, target)
    except OSError as error:
        os.replace(old / "folder", target)
        raise ModelError(f"{target}: cannot be replaced ({error.strerror})") from None
    shutil.rmtree(old, ignore_errors=True)


def home() -> Path:
    """Where downloads and caches live: ``MYNAH_HOME``, or ``~/.cache/mynah``.

    Raises:
        ConfigError: neither is known, as of a user whom the system does not know.
    """
    try:
        return Path(os.environ.get("MYNAH_HOME") or Path.home() / ".cache" / "mynah")
    except RuntimeError:
        raise ConfigError("MYNAH_HOME: not set, and there is no home directory") from None


def model_places() -> tuple[Path, ...]:
    """The directories whose sub-folders are models known by name."""
    bundled = Path(__file__).parent / "bundled"
    try:
        return (home() / "models", bundled)
    except ConfigError:
        return (bundled,)


def known_models() -> dict[str, Path]:
    """Names of the models in ``MYNAH_HOME`` and in the package, with their folders."""
    found: dict[str, Path] = {}
    for place in reversed(model_places()):
        if place.is_dir():
            found |= {p.name: p for p in sorted(place.iterdir()) if (p / MODEL_FILE).is_file()}
    return found


def find_model(name: str | Path | None = None) -> Path:
    """The folder of a model: a path, a known name, or, for ``None``, the bundled recogniser.

    Raises:
        ModelError: neither a folder nor a known name.
    """
    if name and Path(name).is_dir():
        return Path(name)
    wanted, known = str(DEFAULT_MODEL if name is None else name), known_models()
    if wanted in known:
        return known[wanted]
    raise ModelError(f"{wanted or repr(wanted)}: no such model or folder{nearest(wanted, known)}")
