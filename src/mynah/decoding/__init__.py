"""From log-probabilities to units: CTC and attention searches, rescoring, forced alignment.

numpy only. A search that can be fed chunk by chunk has ``start``, ``advance`` and ``nbest``; its
state is a value, and any chunks give the result of one shot.
"""

from __future__ import annotations

from mynah.decoding.greedy import GreedySearch, GreedyState, ctc_greedy
from mynah.decoding.hypothesis import Hypothesis, token_spans
from mynah.decoding.options import DecodingOptions
from mynah.decoding.prefix_beam import PrefixBeamSearch, PrefixBeamState

__all__ = [
    "DecodingOptions",
    "GreedySearch",
    "GreedyState",
    "Hypothesis",
    "PrefixBeamSearch",
    "PrefixBeamState",
    "ctc_greedy",
    "token_spans",
]
