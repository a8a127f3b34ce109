"""A punctuation model at work: the mark after each unit of a text of any length, and its casing.

An output of the model sees a bounded number of units on either side. A long text is read in windows
that overlap by that much, and each unit's output is taken from the window that sees all that it
needs: the result is that of one pass. Runs on ONNX Runtime; may be used from several threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelFolder, find_model, known_models, read_model_folder
from mynah.runtime.engine import Graph
from mynah.text.punctuation import (
    CAPITAL,
    CASES,
    FEATURES,
    SENTENCE_ENDS,
    feature_rows,
    hash_units,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

FAMILY = "punctuation"
WINDOW = 384  # units read at once
_BATCH = 8  # windows in one call
# Nine texts in ten end with a sentence; in training six inputs in ten did.
END_ODDS = (0.9 / 0.1) / (0.6 / 0.4)


class Punctuator:
    """One model folder of the family ``punctuation``.

    Raises:
        ModelError: the folder is of another family, or a part of it is missing or altered.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        precision: str = "auto",
        threads: int = 1,
        window: int = WINDOW,
    ) -> None:
        info = folder.info
        if info.family != FAMILY:
            raise ModelError(f"{folder.path}: is a {info.family} model, not one for punctuation")
        if precision == "auto":
            precision = "int8" if folder.has("onnx/punctuation.int8.onnx") else "fp32"
        self.info = info
        self.marks = _marks(folder)
        self.features = _features(folder)
        self._graph = Graph(folder.file(f"onnx/punctuation.{precision}.onnx"), threads)
        self.look_back = self._graph.fact("look_back")
        self.look_ahead = self._graph.fact("look_ahead")
        self.window = max(window, self.look_back + self.look_ahead + 1)

    @property
    def language(self) -> str:
        """The code of its language."""
        return self.info.languages[0] if self.info.languages else ""

    def log_probs(self, units: Sequence[str]) -> tuple[Floats, Floats]:
        """Log-probabilities of the marks after units (T, M), and of their casing (T, 2, C):
        within a sentence, and at the beginning of one."""
        rows = feature_rows(hash_units(units), self.features)
        marks = np.zeros((len(units), len(self.marks)), np.float32)
        cases = np.zeros((len(units), 2, CASES), np.float32)
        windows = self._windows(len(units))
        for first in range(0, len(windows), _BATCH):
            some = windows[first : first + _BATCH]
            lens = np.array([stop - start for start, stop, _, _ in some], np.int64)
            batch = np.zeros((len(some), int(lens.max()), rows.shape[1]), np.int64)
            for row, (start, stop, _, _) in enumerate(some):
                batch[row, : stop - start] = rows[start:stop]
            out = self._graph.run({"rows": batch, "lens": lens})
            for row, (start, _, begin, end) in enumerate(some):
                marks[begin:end] = out["marks"][row, begin - start : end - start]
                cases[begin:end] = out["cases"][row, begin - start : end - start]
        return marks, cases

    def labels(
        self, units: Sequence[str], *, past: int = 0, begins: bool = True
    ) -> tuple[list[int], list[int]]:
        """Classes of mark and casing of the units after the first ``past``.

        ``begins`` says whether a sentence begins with the first of them. What begins one is not
        lower case. A text ends with a sentence more often than the inputs of training did, so
        that is made more likely after the last unit.
        """
        if len(units) <= past:
            return [], []
        log_marks, log_cases = self.log_probs(units)
        log_marks[-1, list(SENTENCE_ENDS)] += math.log(END_ODDS)
        marks: list[int] = log_marks[past:].argmax(-1).tolist()
        within, first = log_cases[past:].argmax(-1).T.tolist()
        ended = [begins, *(mark in SENTENCE_ENDS for mark in marks[:-1])]
        cases = [max(b, CAPITAL) if e else a for e, a, b in zip(ended, within, first, strict=True)]
        return marks, cases

    def _windows(self, count: int) -> list[tuple[int, int, int, int]]:
        """(first, stop) of what is read and (begin, end) of what is taken from it, for each."""
        if count <= self.window:
            return [(0, count, 0, count)] if count else []
        step = self.window - self.look_back - self.look_ahead
        return [
            (max(at - self.look_back, 0), min(at + step + self.look_ahead, count), at,
             min(at + step, count))
            for at in range(0, count, step)
        ]  # fmt: skip


def _marks(folder: ModelFolder) -> tuple[str, ...]:
    value = folder.info.config.get("marks")
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ModelError(f"{folder.path}: config.marks is not a list of marks")
    return tuple(value)


def _features(folder: ModelFolder) -> dict[str, int]:
    value = folder.info.config.get("features")
    if not isinstance(value, dict) or not value:
        raise ModelError(f"{folder.path}: config.features is not a table")
    for name, size in value.items():
        if name not in FEATURES or not isinstance(size, int) or size < 1:
            raise ModelError(f"{folder.path}: config.features: {name} = {size!r} cannot be")
    return dict(value)


def punctuation_models() -> dict[str, Path]:
    """Languages with a model in MYNAH_HOME or in the package, and the folder of each."""
    found: dict[str, Path] = {}
    for name, path in sorted(known_models().items()):
        if name.startswith("mynah-punct-"):
            found[name.removeprefix("mynah-punct-")] = path
    return found


def load_punctuator(language: str, *, model: str | Path | None = None) -> Punctuator:
    """The model of a language (``en``, ``zh-CN``), or the one that ``model`` names.

    Raises:
        ConfigError: there is none for the language.
        ModelError: the folder cannot be used.
    """
    if model is not None:
        return _load(find_model(model))
    base = language.lower().replace("_", "-").split("-")[0]
    base = {"cmn": "zh"}.get(base, base)
    models = punctuation_models()
    if base not in models:
        known = ", ".join(models) or "no language"
        raise ConfigError(f"punctuation: there is no model for {language!r}, only for {known}")
    return _load(models[base])


@lru_cache(maxsize=8)
def _load(path: Path) -> Punctuator:
    return Punctuator(read_model_folder(path))
