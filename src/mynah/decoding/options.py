"""Settings of a search, as they stand in a configuration file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mynah.errors import ConfigError

Method = Literal["greedy", "prefix_beam", "rescoring", "attention", "lexicon", "graph"]
METHODS: tuple[Method, ...] = (
    "greedy",
    "prefix_beam",
    "rescoring",
    "attention",
    "lexicon",
    "graph",
)
LmLevel = Literal["auto", "word", "unit"]
LM_LEVELS: tuple[LmLevel, ...] = ("auto", "word", "unit")
LmPass = Literal["first", "second"]
LM_PASSES: tuple[LmPass, ...] = ("first", "second")
HOTWORD_CAP = 20.0
# more than these need memory without end, and find nothing that fewer do not
MOST = {"beam": 1000, "nbest": 1000, "tokens": 20_000}


@dataclass(frozen=True)
class DecodingOptions:
    """How log-probabilities become text.

    Attributes:
        method: ``greedy`` (CTC), ``prefix_beam`` (CTC), ``rescoring`` (CTC n-best scored by the
            attention decoders), ``attention`` (beam search of the decoder alone), ``lexicon``
            (CTC, words of the model's lexicon), ``graph`` (CTC, words of a TLG graph).
        beam: prefixes kept after every frame or step; of ``lexicon``, the length of the n-best. At
            most 1000, as ``nbest``.
        top_units: units of a frame that may extend a prefix.
        ctc_weight: weight of the CTC score in rescoring.
        reverse_weight: share of the right-to-left decoder in rescoring, 0..1.
        length_penalty: attention scores are divided by length ** length_penalty.
        blank_penalty: taken from the blank's logit: above 0 deletes less and inserts more.
        blank_skip: frames whose blank is more probable than this are taken as blank only
            (faster, no longer exact); None looks at every frame.
        lm_weight: weight of a language model's logarithms.
        word_bonus: added for each word (of a model of units: each unit) that a language model
            scores; against the shorter texts that it likes.
        lm_unknown: added, before the weight, to the logarithm of a word that it does not know.
        lm_level: whether the language model is one of ``word`` or of ``unit``; ``auto`` finds out.
        lm_pass: ``first``, it takes part in the search; ``second``, it scores the n-best only.
        hotword_cap: the most that a phrase of hotwords can add.
        tokens: places in the lexicon or graph that are kept after every frame; at most 20000.
        margin: those whose score is so much below the best are dropped (natural log).
        unknown_word: what a word costs that the lexicon does not have; None: there are none.
        unknown_unit: what each of its units costs: about the surprise of a unit, or long stretches
            become one unknown word.
        attention_pass: the n-best of ``lexicon`` are scored by the attention decoders too.
        rescorer_share: what a neural language model has of ``lm_weight``, 0..1, when it scores the
            hypotheses of ``lexicon``; the n-gram model has the rest.
        nbest: how many hypotheses of ``lexicon`` it scores, or are looked at for ``risk_scale``.
        rescorer_bonus: added for each word then.
        risk_scale: of the hypotheses of ``lexicon``, however ranked, the one is taken of which the
            fewest words should be wrong; their scores are divided by this to be logarithms of
            probabilities. 0: the one with the best score is taken.

    Raises:
        ConfigError: a value out of its range.
    """

    method: Method = "rescoring"
    beam: int = 10
    top_units: int = 10
    ctc_weight: float = 0.5
    reverse_weight: float = 0.0
    length_penalty: float = 0.0
    blank_penalty: float = 0.0
    blank_skip: float | None = None
    lm_weight: float = 0.3
    word_bonus: float = 0.0
    lm_unknown: float = -5.0
    lm_level: LmLevel = "auto"
    lm_pass: LmPass = "first"
    hotword_cap: float = HOTWORD_CAP
    tokens: int = 200
    margin: float = 10.0
    unknown_word: float | None = None
    unknown_unit: float = 3.0
    attention_pass: bool = False
    rescorer_share: float = 0.5
    nbest: int = 50
    rescorer_bonus: float = 0.0
    risk_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method: {self.method!r} is not one of {', '.join(METHODS)}")
        check_beam(self.beam, self.top_units, self.blank_penalty, self.blank_skip)
        if not (math.isfinite(self.ctc_weight) and self.ctc_weight >= 0):
            raise ConfigError(f"ctc_weight: {self.ctc_weight} is not a number of 0 or more")
        if not 0 <= self.reverse_weight <= 1:
            raise ConfigError(f"reverse_weight: {self.reverse_weight} is not between 0 and 1")
        if not math.isfinite(self.length_penalty):
            raise ConfigError(f"length_penalty: {self.length_penalty} is not a number")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise ConfigError(f"{name}: {getattr(self, name)} is more than {most}")
        self._check_scorers()
        check_tokens(self.tokens, self.margin, self.unknown_word, self.unknown_unit)
        if not 0 <= self.rescorer_share <= 1:
            raise ConfigError(f"rescorer_share: {self.rescorer_share} is not between 0 and 1")
        if self.nbest < 1:
            raise ConfigError(f"nbest: {self.nbest} is not 1 or more")
        if not 0 <= self.risk_scale < math.inf:
            raise ConfigError(f"risk_scale: {self.risk_scale} is not a number of 0 or more")
        if not math.isfinite(self.rescorer_bonus):
            raise ConfigError(f"rescorer_bonus: {self.rescorer_bonus} is not a number")

    def _check_scorers(self) -> None:
        if not (math.isfinite(self.lm_weight) and self.lm_weight >= 0):
            raise ConfigError(f"lm_weight: {self.lm_weight} is not a number of 0 or more")
        if not math.isfinite(self.word_bonus):
            raise ConfigError(f"word_bonus: {self.word_bonus} is not a number")
        if not -math.inf < self.lm_unknown <= 0:
            raise ConfigError(f"lm_unknown: {self.lm_unknown} is not a number of 0 or less")
        if self.lm_level not in LM_LEVELS:
            raise ConfigError(f"lm_level: {self.lm_level!r} is not one of {', '.join(LM_LEVELS)}")
        if self.lm_pass not in LM_PASSES:
            raise ConfigError(f"lm_pass: {self.lm_pass!r} is not one of {', '.join(LM_PASSES)}")
        check_cap(self.hotword_cap)


def check_beam(beam: int, top_units: int, blank_penalty: float, blank_skip: float | None) -> None:
    """Refuse settings with which no beam search can run.

    Raises:
        ConfigError: a value out of its range.
    """
    for name, value in (("beam", beam), ("top_units", top_units)):
        if value < 1:
            raise ConfigError(f"{name}: {value} is not 1 or more")
    check_blank_penalty(blank_penalty)
    if blank_skip is not None and not 0 < blank_skip <= 1:
        raise ConfigError(f"blank_skip: {blank_skip} is not a probability above 0")


def check_blank_penalty(blank_penalty: float) -> None:
    """Refuse a penalty that leaves nothing but blanks or none.

    Raises:
        ConfigError: not from -100 to 100.
    """
    if not -100 <= blank_penalty <= 100:
        raise ConfigError(f"blank_penalty: {blank_penalty} is not from -100 to 100")


def check_cap(cap: float) -> None:
    """Refuse a cap of hotwords that bounds nothing or forbids them all.

    Raises:
        ConfigError: not a number above 0.
    """
    if not (math.isfinite(cap) and cap > 0):
        raise ConfigError(f"hotword_cap: {cap} is not a number above 0")


def check_tokens(
    tokens: int, margin: float, unknown_word: float | None, unknown_unit: float
) -> None:
    """Refuse settings with which no search for words can run.

    Raises:
        ConfigError: a value out of its range.
    """
    if tokens < 1:
        raise ConfigError(f"tokens: {tokens} is not 1 or more")
    if not 0 < margin < math.inf:
        raise ConfigError(f"margin: {margin} is not a number above 0")
    for name, cost in (("unknown_word", unknown_word), ("unknown_unit", unknown_unit)):
        if cost is not None and not 0 <= cost < math.inf:
            raise ConfigError(f"{name}: {cost} is not a number of 0 or more")
