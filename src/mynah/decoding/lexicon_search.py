"""CTC beam search over the words of a lexicon, with a language model; many tokens in numpy arrays.

A token stands at a node of the prefix tree, in a context (the states of the language model and
of other scorers of words) and after a unit; of all ways that come there only the best is kept
(Viterbi, token passing: Young, Russell and Thornton, 1989), once for those that end in a blank and
once for those that end in the unit. When a unit leads to a node with words, each of them ends
there and goes on from the root in its own context: homophones are told apart by the language model
alone. Until then a token's score holds the best unigram score under its node (look-ahead: Ortmanns,
Ney and Eiden, 1996), which is taken back when a word ends.

A frame is some two hundred small array operations, whatever the number of tokens: steps to the
children of all tokens at once, all words that may end scored at once, one sort that brings equal
tokens together. Their number, more than that of the tokens, is what a frame costs.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.lexicon import Lexicon
from mynah.decoding.lexicon_contexts import Contexts, make_contexts
from mynah.decoding.lexicon_merge import Stay, merge
from mynah.decoding.lexicon_scores import UNKNOWN, WordModel, WordScorer, WordScores
from mynah.decoding.lexicon_tokens import NEVER, NOTHING, New, Tokens, after_blank, join
from mynah.decoding.lexicon_trace import (
    BETWEEN,
    NO_WORD,
    FloatArray,
    IndexArray,
    Trace,
)
from mynah.decoding.lexicon_tree import SearchTree, make_search_tree, members
from mynah.decoding.options import check_beam
from mynah.decoding.units import Floats, as_frames, penalise_blank
from mynah.errors import ConfigError, ModelError

_BLOCK = 512  # frames prepared at once
_ROUNDING = 1e-6  # by how much sums of the same scores in another order may differ, and more

Spell = Callable[[tuple[int, ...]], tuple[str, float]]


class _Utterance:
    """What the states of an utterance share; it only grows."""

    def __init__(self, scores: WordScores) -> None:
        self.contexts = make_contexts(scores)
        self.trace = Trace()
        self.lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class LexiconState:
    """What a lexicon search knows after ``frames`` frames: a value."""

    frames: int
    tokens: Tokens
    utterance: _Utterance = field(repr=False)


@dataclass(frozen=True)
class LexiconSearch:
    """CTC search for words, fed chunk by chunk; any chunks give the result of one shot.

    A hypothesis' score is that of its best alignment: the log-probabilities of its frames, and for
    its words ``lm_weight`` times the natural log of the language model, the word bonus and what the
    scorers add. ``tokens`` are its units, ``words`` the words with their units, ``times`` the first
    frame of each unit's run, ``token_confidences`` the probability there.

    Attributes:
        lexicon: the words; its units are those of the model.
        model: language model of words; None takes all for equally probable.
        scorers: what else scores words (hotwords); states and scores as ``decoding.scorer``, a
            token being the text of a word.
        beam: tokens kept after every frame.
        margin: tokens whose score is so much below the best are dropped.
        surprise: a word is looked up in the language model where it would live if its context
            made it more probable by so much (nats, weighted) than it is by itself.
        top_units: units of a frame that may extend a token.
        lm_weight, word_bonus, lm_unknown: of the language model, as in :class:`DecodingOptions`.
        unknown: what a word that is not in the lexicon costs beside the language model's
            ``<unk>``; it has two units or more. None: there are no such words.
        unknown_unit: what each of its units costs.
        spell: the text of an unknown word's units, "" for none, and how probable it is (0..1);
            None writes ``<unk>``.
        blank, blank_penalty, blank_skip: as in :class:`DecodingOptions`.
        nbest_limit: hypotheses that :meth:`nbest` gives unless told otherwise.

    Raises:
        ConfigError: a value out of its range.
    """

    lexicon: Lexicon
    model: WordModel | None = None
    scorers: tuple[WordScorer, ...] = ()
    beam: int = 200
    margin: float = 10.0
    surprise: float = 4.0
    top_units: int = 20
    lm_weight: float = 1.0
    word_bonus: float = 0.0
    lm_unknown: float = 0.0
    unknown: float | None = None
    unknown_unit: float = 1.0
    spell: Spell | None = None
    blank: int = 0
    blank_penalty: float = 0.0
    blank_skip: float | None = None
    nbest_limit: int = 10
    tree: SearchTree = field(init=False, repr=False)
    scores: WordScores = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_beam(self.beam, self.top_units, self.blank_penalty, self.blank_skip)
        for name in ("margin", "surprise"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: {getattr(self, name)} is not above 0")
        for name in ("lm_weight", "unknown", "unknown_unit"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{name}: {value} is not a number of 0 or more")
        if not math.isfinite(self.word_bonus):
            raise ConfigError(f"word_bonus: {self.word_bonus} is not a number")
        tree = make_search_tree(
            self.lexicon,
            look_ahead=self.lm_weight if self.model is not None else 0.0,
            unknown=self.unknown,
            unknown_unit=self.unknown_unit,
        )
        scores = WordScores(
            self.lexicon,
            self.model,
            self.lm_weight,
            self.word_bonus,
            self.lm_unknown,
            tuple(self.scorers),
        )
        object.__setattr__(self, "tree", tree)
        object.__setattr__(self, "scores", scores)

    def start(self) -> LexiconState:
        """The state before the first frame: no word."""
        zero = np.zeros(1, np.int64)
        tokens = Tokens(zero, zero, zero, zero - 1, np.zeros(1), np.full(1, NEVER), zero, zero)
        return LexiconState(0, tokens, _Utterance(self.scores))

    def advance(self, state: LexiconState, log_probs: npt.ArrayLike) -> LexiconState:
        """The state after the frames ``log_probs`` (T, V); ``state`` itself stays as it is.

        Raises:
            ModelError: a frame of NaN, one that no word can go through, or V is not the
                lexicon's.
        """
        frames = as_frames(log_probs)
        if frames.shape[1] != self.lexicon.vocab_size:
            raise ModelError(
                f"lexicon: made for {self.lexicon.vocab_size} units, the model has "
                f"{frames.shape[1]}"
            )
        tokens, time = state.tokens, state.frames
        with state.utterance.lock:
            for first in range(0, len(frames), _BLOCK):
                block = penalise_blank(
                    frames[first : first + _BLOCK], self.blank, self.blank_penalty
                )
                tokens = self._advance(tokens, block, time + first, state.utterance)
        return LexiconState(time + len(frames), tokens, state.utterance)

    def _advance(
        self, tokens: Tokens, log_probs: Floats, first: int, utterance: _Utterance
    ) -> Tokens:
        if np.isnan(log_probs).any():
            raise ModelError("log-probabilities hold a frame that is not numbers")
        # One column more, of -inf: no unit, in which the start "ends".
        wide = np.full((len(log_probs), log_probs.shape[1] + 1), NEVER)
        wide[:, :-1] = log_probs
        steps = wide.copy()
        steps[:, self.blank] = NEVER
        if self.top_units < log_probs.shape[1] - 1:
            least = -np.partition(-steps, self.top_units - 1, axis=1)[:, self.top_units - 1]
            steps[steps < least[:, None]] = NEVER
        most = steps.max(axis=1).tolist()
        skipped = np.zeros(len(wide), bool)
        if self.blank_skip is not None:
            skipped = wide[:, self.blank] > math.log(self.blank_skip)
        for i, skip in enumerate(skipped.tolist()):
            if skip:
                tokens = after_blank(tokens, wide[i, self.blank], utterance.trace)
            else:
                tokens = self._step(tokens, wide[i], steps[i], most[i], first + i, utterance)
        return tokens

    def _step(
        self,
        tokens: Tokens,
        logs: FloatArray,
        steps: FloatArray,
        most: float,
        time: int,
        utterance: _Utterance,
    ) -> Tokens:
        """The tokens after a frame: ``logs`` of all units, ``steps`` of those that may be next."""
        total, entry = join(tokens, utterance.trace)
        stay_blank = total + logs[self.blank]
        stay_unit = tokens.unit + logs[tokens.last]
        stay = np.maximum(stay_blank, stay_unit)
        floor = float(stay.max()) - self.margin
        new = NOTHING
        if float(total.max()) + most >= floor:
            new, floor = self._spread(tokens, total, entry, stay, steps, floor)
            ended = self._end_words(new, floor, utterance.contexts)
            inside = self.tree.count[new.node].nonzero()[0]  # other nodes lead nowhere
            new = New(*(np.concatenate([a[inside], b]) for a, b in zip(new, ended, strict=True)))
        stays = Stay(stay_blank, stay_unit, entry)
        trace, beam, margin = utterance.trace, self.beam, self.margin
        after = merge(tokens, stays, new, trace, time, beam=beam, margin=margin)
        if after is None:
            raise ModelError(f"log-probabilities of frame {time} allow no word of the lexicon")
        return after

    def _spread(
        self,
        tokens: Tokens,
        total: FloatArray,
        entry: IndexArray,
        stay: FloatArray,
        steps: FloatArray,
        floor: float,
    ) -> tuple[New, float]:
        """The nodes that the units of a frame lead to, and what a token must score to be kept."""
        tree, beam = self.tree, self.beam
        if len(stay) >= beam:
            floor = max(floor, _least_of_best(stay, beam))
        rows, children, score = self._possible(tokens.node, total, steps, floor)
        units = tree.unit[children]
        logs = steps[units]
        again = units == tokens.last[rows]  # the same unit twice needs a blank between
        repeated = again.nonzero()[0]
        score[repeated] += tokens.blank[rows[repeated]] - total[rows[repeated]]
        floor = max(floor, float(score.max(initial=NEVER)) - self.margin)
        kept = (score >= floor).nonzero()[0]
        rivals = np.concatenate([stay, score[kept]])
        if len(rivals) > beam:
            floor = max(floor, _least_of_best(rivals, beam))
            kept = kept[score[kept] >= floor]
        rows, children = rows[kept], children[kept]
        before = np.where(again[kept], tokens.blank_entry[rows], entry[rows])
        word = np.full(len(kept), NO_WORD)
        if tree.between >= 0:
            word[children == tree.between] = BETWEEN
        context = tokens.context[rows]
        new = New(children, context, units[kept], score[kept], before, word, logs[kept])
        return new, floor

    def _possible(
        self, nodes: IndexArray, total: FloatArray, steps: FloatArray, floor: float
    ) -> tuple[IndexArray, IndexArray, FloatArray]:
        """Tokens with the children of their nodes and what they score there, without those that
        stay below a floor.

        Tokens of one node, five or so, stand side by side: what they have in common is asked once.
        """
        tree, floor = self.tree, floor - _ROUNDING
        new = np.empty(len(nodes), bool)
        new[0] = True
        np.not_equal(nodes[1:], nodes[:-1], out=new[1:])
        first = new.nonzero()[0]
        best = np.maximum.reduceat(total, first)
        alive = (best + steps.max() >= floor).nonzero()[0]
        node = nodes[first[alive]]
        owners, children = members(tree.first[node], tree.count[node], alive)
        step = steps[tree.unit[children]] + tree.gain[children]
        able = (step + best[owners] >= floor).nonzero()[0]
        owners, children, step = owners[able], children[able], step[able]
        size = np.empty_like(first)
        np.subtract(first[1:], first[:-1], out=size[:-1])
        size[-1] = len(nodes) - first[-1]
        which, rows = members(first[owners], size[owners], np.arange(len(owners)))
        score = total[rows] + step[which]
        able = (score >= floor).nonzero()[0]
        return rows[able], children[which[able]], score[able]

    def _end_words(self, new: New, floor: float, contexts: Contexts) -> New:
        """The tokens at the root after the words that end at the nodes of ``new``."""
        tree = self.tree
        ending = tree.word_count[new.node].nonzero()[0]
        nodes = new.node[ending]
        at, words = members(tree.word_first[nodes], tree.word_count[nodes], ending)
        bare = new.score[at] - tree.ahead[new.node[at]]
        likely = (bare + tree.hope[words] >= floor - self.surprise).nonzero()[0]
        if not len(likely):
            return NOTHING
        at, words = at[likely], tree.words[words[likely]]
        good, after, score = contexts.reach(new.context[at], words, bare[likely], floor)
        at = at[good]
        root = np.zeros(len(good), np.int64)
        return New(root, after, new.last[at], score, new.before[at], words[good], new.log_prob[at])

    def nbest(self, state: LexiconState, limit: int | None = None) -> list[Hypothesis]:
        """The hypotheses of ``state`` with different words, best first, at most ``limit``.

        They are those whose last word is complete, the end of the sentence counted. Where there is
        none, the last words begun are left out; see :meth:`partial`.
        """
        limit = self.nbest_limit if limit is None else limit
        tokens, utterance = state.tokens, state.utterance
        home = np.flatnonzero((tokens.node == 0) | (tokens.node == self.tree.between))
        if not len(home):
            return [self.partial(state)][:limit]
        ends: list[tuple[float, int]] = []
        for i in home.tolist():
            last = utterance.contexts.finish(int(tokens.context[i]))
            for scores, entries in (
                (tokens.blank, tokens.blank_entry),
                (tokens.unit, tokens.unit_entry),
            ):
                if scores[i] > NEVER:
                    ends.append((float(scores[i]) + last, int(entries[i])))
        found: dict[tuple[str, ...], Hypothesis] = {}
        tries = 20 * limit
        with utterance.lock:
            paths = utterance.trace.paths(ends)
            while (wanted := min(limit - len(found), tries)) > 0:
                some = list(itertools.islice(paths, wanted))
                tries -= wanted
                for hypothesis in self._read(utterance.trace, some, end=True):
                    found.setdefault(tuple([text for text, _, _ in hypothesis.words]), hypothesis)
                if len(some) < wanted:
                    break
        return list(found.values())

    def partial(self, state: LexiconState) -> Hypothesis:
        """The words of the best token so far, without one that has only begun.

        While somebody speaks this is steadier than the first of :meth:`nbest`, which takes the
        sentence to end here.
        """
        tokens, trace = state.tokens, state.utterance.trace
        i = int(np.maximum(tokens.blank, tokens.unit).argmax())
        blank, unit = float(tokens.blank[i]), float(tokens.unit[i])
        entry = tokens.blank_entry[i] if blank >= unit else tokens.unit_entry[i]
        with state.utterance.lock:
            paths = itertools.islice(trace.paths([(max(blank, unit), int(entry))]), 1)
            return self._read(trace, list(paths), end=False)[0]

    def _read(
        self, trace: Trace, paths: Sequence[tuple[float, list[int]]], *, end: bool
    ) -> list[Hypothesis]:
        """The hypotheses of paths and their scores, which are read all at once."""
        read = trace.read([path for _, path in paths])
        numbers = [[word for word in words if word >= 0] for _, _, words, _ in read]
        added = self.scores.whole(numbers, end=end)
        return [
            self._hypothesis(*ways, score, more)
            for ways, (score, _), more in zip(read, paths, added, strict=True)
        ]

    def _hypothesis(
        self,
        units: list[int],
        times: list[int],
        words: list[int],
        probabilities: list[float],
        score: float,
        added: float,
    ) -> Hypothesis:
        found: list[tuple[str, int, int]] = []
        sure: list[float] = []
        first = stop = 0  # of the word in progress, and of what is complete
        for i, word in enumerate(words):
            if word == BETWEEN:
                first = stop = i + 1
            elif word != NO_WORD:
                text, probability = self._text(word, tuple(units[first : i + 1]))
                found.append((text, first, i + 1))
                sure.append(probability)
                first = stop = i + 1
        return Hypothesis(
            tokens=tuple(units[:stop]),
            score=score,
            times=tuple(times[:stop]),
            token_confidences=tuple(probabilities[:stop]),
            words=tuple(found),
            added=added,
            spelled=tuple(sure) if len(self.lexicon.words) in words else (),
        )

    def _text(self, word: int, units: tuple[int, ...]) -> tuple[str, float]:
        if word < len(self.lexicon.words):
            return self.lexicon.words[word], 1.0
        text, probability = ("", 1.0) if self.spell is None else self.spell(units)
        return text or UNKNOWN, probability


def _least_of_best(scores: FloatArray, count: int) -> float:
    worst = len(scores) - count
    return float(np.partition(scores, worst)[worst])
