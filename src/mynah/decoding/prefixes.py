"""Prefixes of a CTC prefix beam search, and what one frame makes of them.

Shared by the search without scorers (``prefix_beam``) and with them (``fused_beam``). A prefix is a
tuple, never changed, so that a state of the search is a value.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from mynah.decoding.hypothesis import Hypothesis

NEVER = -math.inf

# The best probability of a beam is kept within these, far above underflow for the others.
LOWEST, USUAL, HIGHEST = 1e50, 1e150, 1e250


class Node:
    """A prefix: its last token and the prefix before it. ``key`` stands for the whole."""

    __slots__ = ("key", "parent", "parent_key", "token")
    added: float = 0.0  # by scorers, where there are any

    def __init__(self, token: int, parent: Node | None) -> None:
        self.token = token
        self.parent = parent
        self.parent_key: int = parent.key if parent is not None else 0
        self.key: int = hash((self.parent_key, token))


# Frame and log-probability of the last token, then those of the tokens before.
Times: TypeAlias = "tuple[int, float, Times] | None"

# total (the sum of the next two), probability ending in blank, ending in the last token,
# log-probability of the best path ending in blank, ending in the last token, times of these two.
Prefix: TypeAlias = tuple[float, float, float, float, float, Times, Times, Node]

total_of = itemgetter(0)
ROOT = Node(-1, None)


class Frame(NamedTuple):
    """The best units of a frame, best first."""

    time: int
    units: list[int]
    logs: list[float]
    probs: list[float]  # relative to that of the best unit
    base: float  # log-probability of the best unit


def after_blank(prefix: Prefix) -> Prefix:
    """A prefix after a frame of nothing but blank."""
    total, _, _, blank_best, unit_best, blank_times, unit_times, node = prefix
    if blank_best > unit_best:
        return (total, total, 0.0, blank_best, NEVER, blank_times, None, node)
    return (total, total, 0.0, unit_best, NEVER, unit_times, None, node)


def carry(beam: list[Prefix], frame: Frame, repeated: set[int], blank: int) -> list[Prefix]:
    """The prefixes of the beam after a frame, each with all that it receives, in the same order.

    Some may have become impossible (a total of 0). ``repeated`` are the last tokens that are among
    the best units of the frame.
    """
    time, units, logs, probs, base = frame
    hits = {unit: (probs[at := units.index(unit)], logs[at]) for unit in repeated}
    blank_prob, blank_log = 0.0, NEVER
    if blank in units:
        at = units.index(blank)
        blank_prob, blank_log = probs[at], logs[at] - base
    places: dict[int, int] | None = None
    carried: list[Prefix] = []
    for place, prefix in enumerate(beam):
        total, _, in_unit, best, unit_best, times, unit_times, node = prefix
        hit = hits.get(node.token)
        if hit is None and in_unit == 0.0 and blank_prob == 1.0:
            carried.append(prefix)  # a sure blank after a blank changes nothing
            continue
        ending, ending_times = unit_best, unit_times
        if unit_best >= best:
            best, times = unit_best, unit_times
        best += blank_log
        in_blank = total * blank_prob
        if hit is None:
            carried.append((in_blank, in_blank, 0.0, best, NEVER, times, None, node))
            continue
        prob, log = hit
        ending += log - base
        in_unit *= prob
        if ending_times is not None:
            peak = ending_times[1]
            ending_times = (time, log if log > peak else peak, ending_times[2])
        if places is None:
            places = {other[7].key: i for i, other in enumerate(beam)}
        above = places.get(node.parent_key)
        if above is not None and same(beam[above][7], node.parent):
            arriving, arriving_best, arriving_times = arrive(beam[above], node.token, prob)
            arriving_best += log - base
            in_unit += arriving
            # A prefix reached again from a better one takes its times, as in WeNet.
            if arriving > 0.0 and (above < place or arriving_best > ending):
                ending_times = (time, log, arriving_times)
            if arriving_best > ending:
                ending = arriving_best
        total = in_blank + in_unit
        carried.append((total, in_blank, in_unit, best, ending, times, ending_times, node))
    return carried


def arrive(parent: Prefix, token: int, prob: float) -> tuple[float, float, Times]:
    """What leaves a prefix by a unit: probability, log of the best path before, its times."""
    total, in_blank, _, best, unit_best, times, unit_times, node = parent
    if node.token == token:  # the same unit twice needs a blank between
        return in_blank * prob, best, times
    if best > unit_best:
        return total * prob, best, times
    return total * prob, unit_best, unit_times


def born(parent: Prefix, frame: Frame, at: int, total: float, node: Node) -> Prefix:
    """The prefix ``node``: its ``parent``, longer by the unit ``at`` of the frame."""
    log = frame.logs[at]
    _, best, times = arrive(parent, node.token, 1.0)
    arrived = (frame.time, log, times)
    return (total, 0.0, total, NEVER, best + log - frame.base, None, arrived, node)


def same(one: Node | None, other: Node | None) -> bool:
    """Whether two nodes stand for the same tokens."""
    while one is not other:
        if one is None or other is None or one.token != other.token:
            return False
        one, other = one.parent, other.parent
    return True


def scaled(prefix: Prefix, factor: float) -> Prefix:
    """``prefix`` with all its sums times ``factor``."""
    return (prefix[0] * factor, prefix[1] * factor, prefix[2] * factor, *prefix[3:])


def hypothesis(prefix: Prefix, log_scale: float) -> Hypothesis:
    """What a prefix stands for; the score is the log of its total."""
    total, _, _, blank_best, unit_best, blank_times, unit_times, last = prefix
    tokens, times, peaks = [], [], []
    node: Node | None = last
    while node is not None and node.parent is not None:
        tokens.append(node.token)
        node = node.parent
    cell = blank_times if blank_best > unit_best else unit_times
    while cell is not None:
        times.append(cell[0])
        peaks.append(min(1.0, math.exp(cell[1])))
        cell = cell[2]
    return Hypothesis(
        tokens=tuple(reversed(tokens)),
        score=math.log(total) + log_scale,
        times=tuple(reversed(times)),
        token_confidences=tuple(reversed(peaks)),
    )
