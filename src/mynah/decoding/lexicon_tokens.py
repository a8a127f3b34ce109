"""The tokens of a lexicon search: arrays side by side, and what is done to all of them alike."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mynah.decoding.lexicon_trace import FloatArray, IndexArray, Trace

NEVER = -math.inf
_CONTEXT, _NODE = 16, 40  # bits of a key below a context, and below a node


class Tokens(NamedTuple):
    """N tokens, sorted by key."""

    key: IndexArray  # of node, context and last unit
    node: IndexArray
    context: IndexArray
    last: IndexArray  # unit, -1 at the start
    blank: FloatArray  # score of the best way that ends in a blank
    unit: FloatArray  # and in the last unit
    blank_entry: IndexArray  # where these ways are traced
    unit_entry: IndexArray


class New(NamedTuple):
    """Tokens that a unit led to."""

    node: IndexArray
    context: IndexArray
    last: IndexArray
    score: FloatArray
    before: IndexArray  # entry of the trace
    word: IndexArray  # that ends with the unit, or NO_WORD, BETWEEN
    log_prob: FloatArray  # of the unit


_EMPTY = np.zeros(0, np.int64)
NOTHING = New(_EMPTY, _EMPTY, _EMPTY, np.zeros(0), _EMPTY, _EMPTY, np.zeros(0))


def make_keys(new: New) -> IndexArray:
    """What stands for node, context and last unit of each."""
    return (new.node << _NODE) | (new.context << _CONTEXT) | (new.last + 1)


def read_keys(keys: IndexArray) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Nodes, contexts and last units."""
    context = (keys >> _CONTEXT) & ((1 << (_NODE - _CONTEXT)) - 1)
    return keys >> _NODE, context, (keys & ((1 << _CONTEXT) - 1)) - 1


def join(tokens: Tokens, trace: Trace) -> tuple[FloatArray, IndexArray]:
    """The better of the two ways of each token, and where it is traced."""
    blank, unit = tokens.blank, tokens.unit
    entry = np.where(blank >= unit, tokens.blank_entry, tokens.unit_entry)
    differ = tokens.blank_entry != tokens.unit_entry
    both = (differ & (np.minimum(blank, unit) > NEVER)).nonzero()[0]
    if len(both):
        one, other = tokens.blank_entry[both], tokens.unit_entry[both]
        apart = (trace.histories(one) != trace.histories(other)).nonzero()[0]
        both = both[apart]
        if len(both):
            loser = np.where(entry[both] == one[apart], other[apart], one[apart])
            alone = np.zeros(len(both), bool)
            behind = np.abs(blank[both] - unit[both])
            entry[both] = trace.meet(entry[both], alone, loser, behind)
    return np.maximum(blank, unit), entry


def after_blank(tokens: Tokens, log: float, trace: Trace) -> Tokens:
    """The tokens after a frame that is taken as blank."""
    if tokens.unit.max() == NEVER:
        return tokens._replace(blank=tokens.blank + log)
    total, entry = join(tokens, trace)
    return tokens._replace(
        blank=total + log, unit=np.full(len(total), NEVER), blank_entry=entry, unit_entry=entry
    )
