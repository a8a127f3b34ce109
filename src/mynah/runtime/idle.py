"""Which options of a search can act: not all do with every method, and some need company.

:class:`mynah.decoding.DecodingOptions` are a model's or a caller's as a whole, and what a method
has no use for stands there unused. Where somebody names one option, it is refused if it is idle.
"""

from __future__ import annotations

from dataclasses import dataclass

from mynah.decoding import DecodingOptions
from mynah.model_folder import MODEL_FILE
from mynah.runtime.lexicon import NGRAM, RESCORER, WordParts
from mynah.runtime.model import Model

_UNITS = ("prefix_beam", "rescoring", "attention")
_WORDS = ("lexicon", "graph")

# the methods that have a use for an option; what is not here, all have
_METHODS: dict[str, tuple[str, ...]] = {
    "beam": (*_UNITS, "lexicon"),
    "top_units": (*_UNITS, "lexicon"),
    "ctc_weight": ("rescoring", "lexicon"),
    "reverse_weight": ("rescoring", "lexicon"),
    "length_penalty": ("attention",),
    "blank_skip": (*_UNITS, *_WORDS),
    "lm_weight": (*_UNITS, "lexicon"),
    "word_bonus": (*_UNITS, "lexicon"),
    "lm_unknown": (*_UNITS, "lexicon"),
    "lm_level": _UNITS,
    "lm_pass": (*_UNITS, "lexicon"),
    "hotword_cap": (*_UNITS, "lexicon"),
    "tokens": _WORDS,
    "margin": _WORDS,
    "unknown_word": ("lexicon",),
    "unknown_unit": ("lexicon",),
    "attention_pass": ("lexicon",),
    "rescorer_share": ("lexicon",),
    "nbest": ("lexicon",),
    "rescorer_bonus": ("lexicon",),
    "risk_scale": ("lexicon",),
}


@dataclass(frozen=True)
class Company:
    """What a search has beside it: phrases to prefer, a language model that was asked for or is the
    model's own, a neural one, attention decoders, and one from right to left."""

    hotwords: bool = False
    lm: bool = False
    own_lm: bool = False
    rescorer: bool = False
    decoder: bool = False
    reverse: bool = False


def company(model: Model, *, hotwords: bool, lm: bool, rescorer: bool | None) -> Company:
    """The company of a search of ``model``; ``rescorer``: whether one is asked for, ``None`` where
    nothing is said of it."""
    parts: WordParts | None = model.parts
    own = parts is not None and parts.has(f"{RESCORER}/{MODEL_FILE}")
    decoder = model.engine.info.config.get("decoder")
    layers = decoder.get("reverse_layers") if isinstance(decoder, dict) else None
    return Company(
        hotwords=hotwords,
        lm=lm,
        own_lm=parts is not None and parts.has(NGRAM),
        rescorer=own if rescorer is None else rescorer,
        decoder=model.engine.has_decoder,
        reverse=model.engine.has_decoder and layers != 0,
    )


def idle(name: str, options: DecodingOptions, beside: Company) -> str | None:
    """Why the option ``name`` of ``options`` cannot act, or ``None`` where it can."""
    methods = _METHODS.get(name)
    if methods is not None and options.method not in methods:
        return f"not with method {options.method}, only with {', '.join(methods)}"
    words = options.method == "lexicon"
    ngram = beside.lm or (words and beside.own_lm)
    attention = options.method == "rescoring" or (options.attention_pass and beside.decoder)
    missing: dict[str, tuple[bool, str]] = {
        "lm_weight": (ngram or beside.rescorer, "there is no language model (--lm)"),
        "lm_unknown": (ngram, "there is no language model (--lm)"),
        "word_bonus": (words or ngram, "there is no language model (--lm)"),
        "lm_level": (beside.lm, "needs --lm"),
        "lm_pass": (beside.lm, "needs --lm"),
        "hotword_cap": (beside.hotwords, "needs --hotwords"),
        "ctc_weight": (attention, "there is no attention decoder that scores the n-best"),
        "reverse_weight": (
            attention and beside.reverse,
            "there is no decoder from right to left that scores the n-best",
        ),
        "unknown_unit": (options.unknown_word is not None, "needs unknown_word"),
        "attention_pass": (beside.decoder, "the model has no attention decoder"),
        "rescorer_share": (beside.rescorer, "there is no neural language model (--rescorer)"),
        "rescorer_bonus": (beside.rescorer, "there is no neural language model (--rescorer)"),
        "nbest": (
            beside.rescorer or options.risk_scale > 0,
            "there is no neural language model (--rescorer), and no risk_scale",
        ),
    }
    acts, reason = missing.get(name, (True, ""))
    return None if acts else reason
