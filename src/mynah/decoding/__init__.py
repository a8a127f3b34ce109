"""From log-probabilities to units: CTC and attention searches, rescoring, forced alignment.

numpy only. A search that can be fed chunk by chunk has ``start``, ``advance`` and ``nbest``; its
state is a value, and any chunks give the result of one shot.
"""

from __future__ import annotations

from mynah.decoding.alignment import Alignment, TextAlignment, align_text, force_align
from mynah.decoding.autoregressive import attention_beam_search
from mynah.decoding.fusion import UnitFusion, WordFusion, fuse
from mynah.decoding.greedy import GreedySearch, GreedyState, ctc_greedy
from mynah.decoding.hotwords import Hotwords
from mynah.decoding.hypothesis import Hypothesis, token_spans
from mynah.decoding.options import DecodingOptions
from mynah.decoding.prefix_beam import PrefixBeamSearch, PrefixBeamState
from mynah.decoding.rescoring import add_scores, fewest_errors, rescore
from mynah.decoding.scorer import Scorer

__all__ = [
    "Alignment",
    "DecodingOptions",
    "GreedySearch",
    "GreedyState",
    "Hotwords",
    "Hypothesis",
    "PrefixBeamSearch",
    "PrefixBeamState",
    "Scorer",
    "TextAlignment",
    "UnitFusion",
    "WordFusion",
    "add_scores",
    "align_text",
    "attention_beam_search",
    "ctc_greedy",
    "fewest_errors",
    "force_align",
    "fuse",
    "rescore",
    "token_spans",
]
