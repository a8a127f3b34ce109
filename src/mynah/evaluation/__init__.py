"""How good a result is: error rates, with the alignment behind them."""

from __future__ import annotations

from mynah.evaluation.alignment import AlignedPair, align, count_edits, format_alignment
from mynah.evaluation.error_rate import (
    ErrorRate,
    Interval,
    Report,
    Unit,
    Utterance,
    error_rate,
    error_rates,
    rate_to_dict,
    score,
    split_tokens,
    unit_of,
)

__all__ = [
    "ErrorRate",
    "Interval",
    "Report",
    "Unit",
    "Utterance",
    "error_rate",
    "error_rates",
    "score",
    "split_tokens",
    "unit_of",
    "rate_to_dict",
    "AlignedPair",
    "align",
    "count_edits",
    "format_alignment",
]
