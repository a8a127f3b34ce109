"""CTC search in a graph of words (TLG), by kaldi-decoder: Viterbi beam search, fed chunk by chunk.

The graph is one that :func:`mynah.decoding.graph_build.build_graph` made, or WeNet's ``TLG.fst``
with its ``words.txt``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.decoding.graph_build import import_kaldifst
from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.lexicon import Lexicon, read_lines
from mynah.decoding.options import check_beam, check_tokens
from mynah.decoding.units import Floats, as_frames, penalise_blank
from mynah.errors import InputError, MissingDependency, ModelError


@dataclass(frozen=True, eq=False)
class Graph:
    """A decoding graph: the FST, its words by output label, and, where it is known, their
    lexicon, which tells the units of a word."""

    fst: Any
    words: dict[int, str]
    lexicon: Lexicon | None = None


@dataclass(eq=False)
class _Utterance:
    """The decoder of an utterance, and what it was given."""

    decoder: Any
    times: list[int] = field(default_factory=list)  # frames that the decoder was given
    seen: int = 0  # all frames
    skipped: float = 0.0  # log-probability of the frames that the decoder was not given
    last: int = -1  # best unit of the last frame that it was given
    pending: tuple[int, Floats] | None = None  # a blank that may be needed


@dataclass(frozen=True)
class GraphState:
    """Where a graph search stands after ``frames`` frames.

    The library's decoder goes on by itself, so a state can be advanced once: here a state is no
    value, as it is in the other searches.
    """

    frames: int
    utterance: _Utterance = field(repr=False)


@dataclass(frozen=True)
class GraphSearch:
    """The best way through a graph; each utterance has one decoder object.

    A hypothesis' score is that of its best path: log-probabilities of the frames and the graph's
    weights. ``times`` are the first frames of the units' runs.

    Attributes:
        graph: what is searched.
        tokens: places of the graph that are kept after every frame.
        margin: those that cost so much more than the best are dropped.
        blank, blank_penalty: as in :class:`DecodingOptions`.
        blank_skip: frames whose blank is more probable are not decoded, but for one between two
            runs of the same unit.

    Raises:
        ConfigError: a value out of its range.
        MissingDependency: kaldi-decoder is not installed.
    """

    graph: Graph
    blank: int = 0
    tokens: int = 7000
    margin: float = 15.0
    blank_penalty: float = 0.0
    blank_skip: float | None = None

    def __post_init__(self) -> None:
        check_beam(1, 1, self.blank_penalty, self.blank_skip)
        check_tokens(self.tokens, self.margin, None, 0.0)
        _import_decoder()

    def start(self) -> GraphState:
        """The state before the first frame."""
        library = _import_decoder()
        options = library.FasterDecoderOptions(
            beam=min(self.margin, 1e9), max_active=self.tokens, min_active=min(20, self.tokens)
        )
        decoder = library.FasterDecoder(self.graph.fst, options)
        decoder.init_decoding()
        return GraphState(0, _Utterance(decoder))

    def advance(self, state: GraphState, log_probs: npt.ArrayLike) -> GraphState:
        """The state after the frames ``log_probs`` (T, V); ``state`` is used up.

        Raises:
            ModelError: a frame of NaN, or no way leads on.
            ValueError: the state was advanced before.
        """
        utterance = state.utterance
        if state.frames != utterance.seen:
            raise ValueError("a state of a graph search can be advanced once")
        frames = penalise_blank(as_frames(log_probs), self.blank, self.blank_penalty)
        if np.isnan(frames).any():
            raise ModelError("log-probabilities hold a frame that is not numbers")
        kept = self._kept(frames, utterance)
        utterance.seen += len(frames)
        if kept:
            times, rows = zip(*kept, strict=True)
            array = np.ascontiguousarray(np.stack(rows), np.float32)
            done = len(utterance.times)
            utterance.decoder.advance_decoding(_import_decoder().DecodableCtc(array, offset=done))
            utterance.times.extend(times)
            if utterance.decoder.num_frames_decoded() != len(utterance.times):
                raise ModelError("log-probabilities leave no way through the graph")
        return GraphState(utterance.seen, utterance)

    def _kept(self, frames: Floats, utterance: _Utterance) -> list[tuple[int, Floats]]:
        """The frames that are decoded, with their times."""
        first = utterance.seen
        if self.blank_skip is None:
            return list(enumerate(frames, first))
        skip = (frames[:, self.blank] > math.log(self.blank_skip)).tolist()
        best = frames.argmax(axis=1).tolist()
        kept = list[tuple[int, Floats]]()
        for i, frame in enumerate(frames):
            if skip[i]:
                if utterance.pending is not None:
                    utterance.skipped += float(utterance.pending[1][self.blank])
                utterance.pending = (first + i, frame.copy())
                continue
            if utterance.pending is not None:
                if best[i] == utterance.last:
                    kept.append(utterance.pending)
                else:
                    utterance.skipped += float(utterance.pending[1][self.blank])
                utterance.pending = None
            utterance.last = best[i]
            kept.append((first + i, frame))
        return kept

    def partial(self, state: GraphState) -> Hypothesis:
        """The best so far, while the utterance goes on."""
        return self.nbest(state, 1)[0]

    def nbest(self, state: GraphState, limit: int | None = None) -> list[Hypothesis]:
        """The best hypothesis of ``state``, as a list: FasterDecoder keeps no other."""
        utterance = state.utterance
        pending = utterance.pending
        score = utterance.skipped
        score += 0.0 if pending is None else float(pending[1][self.blank])
        if not utterance.times:
            return [Hypothesis((), score)][:limit]
        found, path = utterance.decoder.get_best_path(use_final_probs=True)
        if not found:
            raise ModelError("log-probabilities leave no way through the graph")
        arcs, cost = _arcs(path)
        tokens, times, words = list[int](), list[int](), list[tuple[int, int]]()
        frame, last = 0, 0
        for label, word in arcs:
            if label and label != last and label - 1 != self.blank:
                tokens.append(label - 1)
                times.append(utterance.times[frame])
            if label:
                last = label
                frame += 1
            if word:
                words.append((word, len(tokens)))
        spans = self._spans(words, tuple(tokens))
        return [Hypothesis(tuple(tokens), score - cost, tuple(times), words=spans)][:limit]

    def _spans(
        self, words: Sequence[tuple[int, int]], tokens: tuple[int, ...]
    ) -> tuple[tuple[str, int, int], ...]:
        """Each word with its tokens. The lexicon tells them; without one a word begins with the
        token at which the graph told it, which may be late."""
        texts = [self.graph.words[label] for label, _ in words]
        spans = None
        if self.graph.lexicon is not None:
            spans = fit_words(self.graph.lexicon, texts, tokens)
        if spans is None:
            begins = [max(at - 1, 0) for _, at in words]
            ends = [*begins[1:], len(tokens)]
            spans = list(zip(begins, map(max, begins, ends), strict=True))
        return tuple((text, *span) for text, span in zip(texts, spans, strict=True))


def fit_words(
    lexicon: Lexicon, words: Sequence[str], tokens: tuple[int, ...]
) -> list[tuple[int, int]] | None:
    """First and one past the last token of each word, boundaries between them; None where the
    words do not spell the tokens."""
    ways: dict[int, list[tuple[int, int]]] = {0: []}  # where a word may begin, and the words so far
    for word in words:
        after: dict[int, list[tuple[int, int]]] = {}
        for at, spans in ways.items():
            start = at
            while True:
                for spelling in lexicon.units_of(word):
                    stop = start + len(spelling)
                    if tokens[start:stop] == spelling:
                        after.setdefault(stop, [*spans, (start, stop)])
                if start >= len(tokens) or tokens[start] != lexicon.boundary:
                    break
                start += 1
        ways = after
    for at, spans in ways.items():
        if all(token == lexicon.boundary for token in tokens[at:]):
            return spans
    return None


def load_graph(fst: str | Path, words: str | Path, lexicon: Lexicon | None = None) -> Graph:
    """Read a graph and its table of lines ``word label``.

    Raises:
        ModelError: a file is missing, or not what it should be.
        MissingDependency: kaldifst is not installed.
    """
    kaldifst = import_kaldifst()
    path = Path(fst)
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    with path.open("rb") as stream:
        if stream.read(4) != _OPENFST:
            raise ModelError(f"{path}: not an FST of OpenFst")
    loaded = kaldifst.StdVectorFst.read(str(path))
    if loaded is None or loaded.start < 0:
        raise ModelError(f"{path}: cannot be read, or an empty graph")
    table: dict[int, str] = {}
    try:
        lines = read_lines(words)
    except InputError as error:
        raise ModelError(str(error)) from None
    for number, line in lines:
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdecimal():
            raise ModelError(f"{words}:{number}: expected a word and its label")
        table[int(fields[1])] = fields[0]
    return Graph(loaded, table, lexicon)


_OPENFST = bytes.fromhex("d6fdb27e")


def _arcs(path: Any) -> tuple[list[tuple[int, int]], float]:
    """Labels (input, output) of the arcs of a linear lattice, and its cost."""
    kaldifst = import_kaldifst()
    linear, _, _, weight = kaldifst.get_linear_symbol_sequence(path)
    assert linear
    arcs = dict[int, tuple[int, int, int]]()
    for line in path.to_str().splitlines():
        fields = line.split()
        if len(fields) >= 4:  # state, next state, labels, weight; else a final state
            arcs[int(fields[0])] = (int(fields[1]), int(fields[2]), int(fields[3]))
    state, labels = path.start, list[tuple[int, int]]()
    while state in arcs:
        state, label, word = arcs[state]
        labels.append((label, word))
    return labels, weight.value1 + weight.value2


def _import_decoder() -> Any:
    import_kaldifst()  # its classes are those of the decoder's arguments
    try:
        import kaldi_decoder
    except ModuleNotFoundError:
        raise MissingDependency("kaldi-decoder", extra="lm") from None
    return kaldi_decoder
