"""A neural language model at work: how probable whole sentences are, to choose among hypotheses.

A sentence is scored from its start to its end. Its words are cut into the model's own pieces, so
any word has a score. What a search finds is much alike, so sentences are put into a tree, in which
those that begin alike share what they begin with; a piece sees those on its way to the root alone,
and no sentence depends on the others. Runs on ONNX Runtime; may be used from several threads.
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
_PIECES = 112  # of a tree: attention takes the square of it, and larger ones share little more
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
        self.info = info
        self.tokenizer = load_tokenizer(folder.part("tokenizer"), info.tokenizer)
        self._graph = Graph(folder.file(f"onnx/lm.{precision}.onnx"), threads)
        size = self._graph.fact("vocab_size")
        if size != self.tokenizer.vocab_size:
            raise ModelError(
                f"{folder.path}: the graph has {size} pieces, the tokenizer "
                f"{self.tokenizer.vocab_size}"
            )
        self._context = self._graph.fact("context")
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
        found: list[Floats] = [np.zeros(0)] * len(rows)
        tree = _Tree(self.tokenizer.sos, self.tokenizer.eos)
        places: list[tuple[int, list[int]]] = []

        def run() -> None:
            nonlocal tree
            log_probs = self._graph.run(tree.feed(self._context))["log_probs"]
            for row, steps in places:
                found[row] = log_probs[steps].astype(np.float64)
            places.clear()
            tree = _Tree(self.tokenizer.sos, self.tokenizer.eos)

        # neighbours in this order have the longest common beginnings
        for row in sorted(range(len(rows)), key=lambda row: list(rows[row])):
            if places and len(tree.tokens) + tree.needs(rows[row]) > _PIECES:
                run()
            places.append((row, tree.add(rows[row])))
        if places:
            run()
        return found


class _Tree:
    """Sentences that share their beginnings; each must follow the one before it in order."""

    def __init__(self, sos: int, eos: int) -> None:
        self.tokens, self.parents, self._eos = [sos], [0], eos
        self._row: Sequence[int] = ()
        self._path = [0]  # pieces of the last sentence, from the root
        self._ends: list[int] = []  # the last piece of each sentence

    def needs(self, row: Sequence[int]) -> int:
        """How many pieces a sentence would add."""
        return len(row) - self._common(row)

    def _common(self, row: Sequence[int]) -> int:
        pairs = enumerate(zip(row, self._row, strict=False))
        return next((n for n, (a, b) in pairs if a != b), min(len(row), len(self._row)))

    def add(self, row: Sequence[int]) -> list[int]:
        """Add a sentence; gives the numbers of its steps, the one to its end last, counted from the
        back, since how many steps between pieces there will be is not known yet."""
        common = self._common(row)
        del self._path[common + 1 :]
        for piece in row[common:]:
            self.parents.append(self._path[-1])
            self._path.append(len(self.tokens))
            self.tokens.append(piece)
        self._row = row
        self._ends.append(self._path[-1])
        return [*(place - 1 for place in self._path[1:]), -len(self._ends)]

    def feed(self, context: int) -> dict[str, npt.NDArray[np.generic]]:
        """What the graph takes; steps between pieces, then to the ends, the last sentence first."""
        count = len(self.tokens)
        tokens, parents = np.array(self.tokens), np.array(self.parents)
        positions = np.zeros(count, np.int64)
        mask = np.zeros((count, count), np.bool_)
        mask[0, 0] = True
        for place in range(1, count):
            parent = self.parents[place]
            positions[place] = positions[parent] + 1
            mask[place] = mask[parent]
            mask[place, place] = True
        mask &= positions[:, None] - positions < context
        ends = np.array(self._ends[::-1])
        return {
            "tokens": tokens,
            "positions": positions,
            "mask": mask,
            "before": np.concatenate([parents[1:], ends]),
            "after": np.concatenate([tokens[1:], np.full(len(ends), self._eos)]),
        }


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
