"""From what the encoder gives to the units that were said, by any of the decoding methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np

from mynah.decoding import (
    DecodingOptions,
    GreedySearch,
    Hotwords,
    Hypothesis,
    PrefixBeamSearch,
    Scorer,
    add_scores,
    attention_beam_search,
    fewest_errors,
    fuse,
    rescore,
)
from mynah.decoding.fusion import Ngram
from mynah.decoding.lexicon_scores import WordModel, rescore_sentences, rescore_words
from mynah.errors import ConfigError
from mynah.runtime.confidence import find_evidence
from mynah.runtime.engine import Array
from mynah.runtime.lexicon import graph_search, lexicon_search
from mynah.runtime.model import Model
from mynah.runtime.rescorer import Rescorer

# Rescoring a batch needs (hypotheses x tokens x units) numbers; more than this many hypotheses are
# scored in turns.
SCORED_AT_ONCE = 64
# Tokens of a search for words that is done again, and how far they may be behind the best.
QUICK, QUICK_MARGIN = 200, 12.0


class Search(Protocol):
    """An incremental search; its state is a value."""

    def start(self) -> Any: ...
    def advance(self, state: Any, log_probs: Array) -> Any: ...
    def nbest(self, state: Any, limit: int | None = None) -> list[Hypothesis]: ...
    def partial(self, state: Any) -> Hypothesis: ...


@dataclass(frozen=True)
class Heard:
    """The encoder's output for one utterance, padding cut off.

    Where not all frames are speech, the others are blank in ``log_probs``, and ``encoded`` is
    without them: an attention decoder has no blank, and would make words of noise.
    """

    log_probs: Array  # (T', V)
    encoded: Array  # (T'', D), T'' <= T'


@dataclass(frozen=True)
class Decoder:
    """Decodes utterances of one model with one set of options.

    Attributes:
        model, options: what is decoded, and how.
        hotwords: phrases to prefer.
        lm: an n-gram model of words or units; its weights stand in the options.
        rescorer: a neural language model that ranks what a lexicon search found.

    Raises:
        ConfigError: the method takes no hotwords or language model, or they do not fit the units.
        InputError: the model cannot write a phrase of the hotwords.
    """

    model: Model
    options: DecodingOptions
    hotwords: Hotwords | None = None
    lm: Ngram | None = None
    rescorer: Rescorer | None = None

    def __post_init__(self) -> None:
        if self.rescorer is not None:
            check_rescored(self.options.method)
        if self.options.method == "greedy":
            for name, given in (("hotwords", self.hotwords), ("language model", self.lm)):
                if given is not None and not (isinstance(given, Hotwords) and not given):
                    raise ConfigError(
                        f"method: greedy search takes no {name}; "
                        "use prefix_beam, rescoring or attention"
                    )
        _ = self.scorers, self.second_pass  # what does not fit is refused before any work
        if self._finds_words:
            _ = self._word_search

    @cached_property
    def scorers(self) -> tuple[Scorer, ...]:
        """What takes part in the search, unit by unit; a search for words has its own."""
        scorers: list[Scorer] = []
        if self._finds_words:
            return ()
        if self.hotwords:
            scorers.append(self.hotwords.scorer(self.model.tokenizer, self.options.hotword_cap))
        if self.options.lm_pass == "first":
            scorers.extend(self._lm_scorer)
        return tuple(scorers)

    @cached_property
    def second_pass(self) -> tuple[Scorer, ...]:
        """What scores the n-best that the search found."""
        return self._lm_scorer if self.options.lm_pass == "second" else ()

    @cached_property
    def _lm_scorer(self) -> tuple[Scorer, ...]:
        options = self.options
        if self.lm is None or self._finds_words:
            return ()
        scorer = fuse(
            self.lm,
            self.model.tokenizer,
            weight=options.lm_weight,
            bonus=options.word_bonus,
            unknown=options.lm_unknown,
            level=options.lm_level,
        )
        return (scorer,)

    @property
    def _finds_words(self) -> bool:
        return self.options.method in ("lexicon", "graph")

    @cached_property
    def _word_search(self) -> Search:
        model, options = self.model, self.options
        if options.method == "graph":
            return graph_search(
                model.words, model.tokenizer, options, hotwords=self.hotwords, lm=self.lm
            )
        lm = self.lm if options.lm_pass == "first" else None
        if self.rescorer is not None or options.risk_scale:  # the n-best is as long as it is to be
            options = replace(options, beam=max(options.beam, options.nbest))
        return lexicon_search(model.words, model.tokenizer, options, hotwords=self.hotwords, lm=lm)

    @property
    def takes_sentences(self) -> bool:
        """Whether what is heard should be a sentence: the search has the words of a lexicon, and
        its language model knows how sentences begin and end."""
        return self.options.method == "lexicon"

    def quick_search(self) -> Search:
        """As :meth:`search`, for what is shown only until it is searched for again: of the tokens
        of a search for words fewer are kept."""
        if self.options.method != "lexicon":
            return self.search()
        return self._quick_words

    @cached_property
    def _quick_words(self) -> Search:
        tokens, margin = min(self.options.tokens, QUICK), min(self.options.margin, QUICK_MARGIN)
        options = replace(self.options, tokens=tokens, margin=margin)
        lm = self.lm if options.lm_pass == "first" else None
        model = self.model
        return lexicon_search(model.words, model.tokenizer, options, hotwords=self.hotwords, lm=lm)

    @cached_property
    def _word_model(self) -> WordModel | None:
        """The language model that knows how probable words are."""
        return self.model.words.ngram if self.lm is None else cast(WordModel, self.lm)

    def search(self) -> Search:
        """The incremental search over CTC log-probabilities that comes first."""
        options, blank = self.options, self.model.tokenizer.blank
        if self._finds_words:
            return self._word_search
        if options.method == "greedy":
            return GreedySearch(blank, options.blank_penalty)
        return PrefixBeamSearch(
            options.beam,
            options.top_units,
            blank,
            options.blank_penalty,
            options.blank_skip,
            self.scorers,
        )

    def best(self, heard: Sequence[Heard]) -> list[Hypothesis]:
        """The best hypothesis of each utterance."""
        if self.options.method == "attention":
            return [self._attention(item) for item in heard]
        search = self.search()
        nbests = [search.nbest(search.advance(search.start(), item.log_probs)) for item in heard]
        return self.choose(heard, nbests)

    def choose(
        self, heard: Sequence[Heard], nbests: Sequence[Sequence[Hypothesis]]
    ) -> list[Hypothesis]:
        """The best of each n-best list that :meth:`search` gave, rescored where asked for; of a
        search for words with the evidence for each."""
        if self.options.method != "attention":
            nbests = self._ranked(nbests)
        chosen = self._choose(heard, nbests)
        if not self._finds_words:
            return chosen
        return [
            replace(best, evidence=find_evidence(best, nbest, self._word_model))
            for best, nbest in zip(chosen, nbests, strict=True)
        ]

    def _ranked(self, nbests: Sequence[Sequence[Hypothesis]]) -> Sequence[Sequence[Hypothesis]]:
        """The hypotheses in the order of the language models that look at them after the search."""
        options = self.options
        if self.second_pass:
            nbests = [add_scores(nbest, self.second_pass) for nbest in nbests]
        if options.method == "lexicon" and options.lm_pass == "second" and self.lm is not None:
            used, weight = self.model.words.ngram, options.lm_weight
            nbests = [rescore_words(n, self.lm, weight, used=used) for n in nbests]
        if self.rescorer is not None:
            nbests = self._by_sentences(self.rescorer, nbests)
        if options.method == "lexicon" and options.risk_scale:
            nbests = [fewest_errors(nbest, options.risk_scale) for nbest in nbests]
        return nbests

    def _by_sentences(
        self, rescorer: Rescorer, nbests: Sequence[Sequence[Hypothesis]]
    ) -> list[list[Hypothesis]]:
        options = self.options
        sentences = [[text for text, _, _ in h.words] for nbest in nbests for h in nbest]
        logs = iter(rescorer.scores(sentences))
        return [
            rescore_sentences(
                nbest,
                [next(logs) for _ in nbest],
                weight=options.lm_weight,
                share=options.rescorer_share,
                bonus=options.rescorer_bonus,
                used=self._word_model,
            )
            for nbest in nbests
        ]

    def _choose(
        self, heard: Sequence[Heard], nbests: Sequence[Sequence[Hypothesis]]
    ) -> list[Hypothesis]:
        options = self.options
        if options.method == "attention":
            return [self._attention(item) for item in heard]
        attention = options.method == "rescoring" or (
            options.method == "lexicon" and options.attention_pass and self.model.engine.has_decoder
        )
        if not attention:
            return [nbest[0] for nbest in nbests]
        # an empty hypothesis alone leaves nothing to choose
        chosen = [nbest[0] for nbest in nbests]
        nbests = [nbest[: options.beam] for nbest in nbests]
        open_ = [n for n, nbest in enumerate(nbests) if any(h.tokens for h in nbest)]
        per_call = max(SCORED_AT_ONCE // self.options.beam, 1)
        for first in range(0, len(open_), per_call):
            numbers = open_[first : first + per_call]
            ranked = self._rescored([heard[n] for n in numbers], [nbests[n] for n in numbers])
            for number, best in zip(numbers, ranked, strict=True):
                chosen[number] = best
        return chosen

    def _rescored(
        self, heard: Sequence[Heard], nbests: Sequence[Sequence[Hypothesis]]
    ) -> list[Hypothesis]:
        count = max(map(len, nbests))
        longest = max(len(h.tokens) for nbest in nbests for h in nbest)
        tokens = np.zeros((len(nbests), count, longest), np.int64)  # (B, N, U)
        token_lens = np.zeros((len(nbests), count), np.int64)
        for row, nbest in enumerate(nbests):
            for column, hypothesis in enumerate(nbest):
                tokens[row, column, : len(hypothesis.tokens)] = hypothesis.tokens
                token_lens[row, column] = len(hypothesis.tokens)
        encoded, lens = pad([item.encoded for item in heard])
        scores, reverse = self.model.engine.score(encoded, lens, tokens, token_lens)
        chosen = []
        for row, nbest in enumerate(nbests):
            ranked = rescore(
                list(nbest),
                scores[row, : len(nbest)],
                None if reverse is None else reverse[row, : len(nbest)],
                ctc_weight=self.options.ctc_weight,
                reverse_weight=0.0 if reverse is None else self.options.reverse_weight,
            )
            chosen.append(ranked[0])
        return chosen

    def _attention(self, heard: Heard) -> Hypothesis:
        frames, tokenizer = len(heard.encoded), self.model.tokenizer
        if frames == 0:
            return Hypothesis((), 0.0)
        found = attention_beam_search(
            self.model.engine.attention(heard.encoded, frames + 1),
            beam=self.options.beam,
            sos=tokenizer.sos,
            eos=tokenizer.eos,
            max_len=frames,
            length_penalty=self.options.length_penalty,
            scorers=self.scorers,
        )
        return add_scores(found, self.second_pass)[0]


def check_rescored(method: str) -> None:
    """Refuse a neural language model for a search that has no words.

    Raises:
        ConfigError: ``method`` is not ``lexicon``.
    """
    if method != "lexicon":
        raise ConfigError(f"rescorer: ranks words of a lexicon, not of {method}")


def pad(arrays: Sequence[Array]) -> tuple[Array, Array]:
    """Stack arrays (T, F) of different T: (B, max T, F) with zeros behind, and the lengths (B,)."""
    lens = np.array([len(array) for array in arrays], np.int64)
    stacked = np.zeros((len(arrays), int(lens.max(initial=0)), arrays[0].shape[1]), np.float32)
    for row, array in enumerate(arrays):
        stacked[row, : len(array)] = array
    return stacked, lens
