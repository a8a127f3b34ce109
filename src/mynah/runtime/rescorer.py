"""A neural language model at work: how probable whole sentences are, to choose among hypotheses.

A sentence is scored from its start to its end. Its words are cut into the model's own pieces, so
any word has a score. Sentences are scored in batches, a row each, and no row depends on the others.
Runs on ONNX Runtime; may be used from several threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mynah.errors import ModelError
from mynah.model_folder import ModelFolder, find_model, read_model_folder
from mynah.runtime.engine import Graph
from mynah.text import load_tokenizer

Floats = npt.NDArray[np.float64]

FAMILY = "lm"
PRECISIONS = ("int8", "fp32")
_PIECES = 2048  # of a batch, padding counted: what the output takes is this times the vocabulary
_MEMO = 1 << 18  # words whose pieces are remembered


class Rescorer:
    """One model folder of the family ``lm``.

    Raises:
        ModelError: the folder is of another family, a part of it is missing or altered, or its
            tokenizer is of another model.
    """

    def __init__(self, folder: ModelFolder, *, precision: str = "auto", threads: int = 1) -> None:
        info = folder.info
        if info.family != FAMILY:
            raise ModelError(f"{folder.path}: is a {info.family} model, not a language model")
        if precision == "auto":
            there = (p for p in PRECISIONS if folder.has(f"onnx/lm.{p}.onnx"))
            precision = next(there, PRECISIONS[0])
        for name in folder.files:
            if name.startswith("tokenizer/"):
                folder.file(name)  # verified
        self.info = info
        self.tokenizer = load_tokenizer(folder.path / "tokenizer", info.tokenizer)
        self._graph = Graph(folder.file(f"onnx/lm.{precision}.onnx"), threads)
        size = self._graph.fact("vocab_size")
        if size != self.tokenizer.vocab_size:
            raise ModelError(
                f"{folder.path}: the graph has {size} pieces, the tokenizer "
                f"{self.tokenizer.vocab_size}"
            )
        self._memo: dict[str, list[int]] = {}

    def scores(self, sentences: Sequence[Sequence[str]]) -> list[float]:
        """The natural logarithm of the probability of each sentence, its end included."""
        return [float(scores.sum()) for scores in self.word_scores(sentences)]

    def word_scores(self, sentences: Sequence[Sequence[str]]) -> list[Floats]:
        """The natural logarithms of the probabilities of the words of each sentence (W + 1,), the
        end of the sentence last."""
        pieces = [[self._pieces(word) for word in words] for words in sentences]
        rows = [[piece for word in words for piece in word] for words in pieces]
        logs = self._log_probs(rows)
        found = []
        for words, log in zip(pieces, logs, strict=True):
            edges = np.cumsum([0, *map(len, words), 1])
            sums = np.concatenate([[0.0], np.cumsum(log)])
            found.append(np.diff(sums[edges]))
        return found

    def _pieces(self, word: str) -> list[int]:
        found = self._memo.get(word)
        if found is None:
            found = self.tokenizer.encode(word)
            if len(self._memo) < _MEMO:
                self._memo[word] = found
        return found

    def _log_probs(self, rows: Sequence[Sequence[int]]) -> list[Floats]:
        """The log-probabilities of each row's pieces and of its end: (U + 1,) each."""
        sos, eos = self.tokenizer.sos, self.tokenizer.eos
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[Floats] = [np.zeros(0)] * len(rows)
        while order:
            size = len(rows[order[-1]]) + 2  # the longest that is left
            some = order[-max(_PIECES // size, 1) :]
            del order[-len(some) :]
            tokens = np.full((len(some), size), eos, np.int64)
            tokens[:, 0] = sos
            for place, row in enumerate(some):
                tokens[place, 1 : len(rows[row]) + 1] = rows[row]
            log_probs = self._graph.run({"tokens": tokens})["log_probs"]
            for place, row in enumerate(some):
                found[row] = log_probs[place, : len(rows[row]) + 1].astype(np.float64)
        return found


def load_rescorer(model: str | os.PathLike[str]) -> Rescorer:
    """The language model of a folder or name, which all that ask for it share.

    Raises:
        ModelError: it cannot be used.
    """
    path = find_model(model if isinstance(model, str) else Path(model))
    return _load(path.resolve(), (path / "model.toml").stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> Rescorer:
    return Rescorer(read_model_folder(path))
