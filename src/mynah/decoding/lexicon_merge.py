"""Old and new tokens of a frame made one set: equal ones one, and the best of them kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mynah.decoding.lexicon_tokens import NEVER, New, Tokens, make_keys, read_keys
from mynah.decoding.lexicon_trace import FloatArray, Histories, IndexArray, Trace


class Stay(NamedTuple):
    """What the tokens that were there come to when they stay where they are."""

    blank: FloatArray  # by a blank
    unit: FloatArray  # by their last unit again
    entry: IndexArray  # where the way that ends in the blank is traced


class _Sorted(NamedTuple):
    """Old and new tokens by key; of equal ones, a group, the best that ends in its unit first."""

    order: IndexArray  # their numbers: those of the old tokens, then of the new ones
    key: IndexArray
    first: IndexArray  # where each group begins
    rest: IndexArray  # the places of all others
    old: IndexArray  # of each group: the number of its old token, or of a new one


class _Ways(NamedTuple):
    """Old and new tokens, as the trace is to know them."""

    tokens: Tokens
    new: New
    histories: Histories  # of the new ones
    trace: Trace


def merge(
    tokens: Tokens, stay: Stay, new: New, trace: Trace, time: int, *, beam: int, margin: float
) -> Tokens | None:
    """The tokens after frame ``time``: at most ``beam``, within ``margin`` of the best.

    None when no token has a score.
    """
    unit = np.concatenate([stay.unit, new.score])
    together = _sort(np.concatenate([tokens.key, make_keys(new)]), unit)
    key, first = together.key, together.first
    lead = together.order[first]
    best = unit[lead]
    blank, blank_entry = _of_the_old(together, stay)
    kept = _survivors(np.maximum(blank, best), beam, margin)
    if not len(kept):
        return None
    ways = _Ways(tokens, new, trace.after(new.before, new.word), trace)
    lead = lead[kept]
    losers, winners, behind = _met(together, kept, unit, margin, ways)
    entries = _entries(np.concatenate([lead, losers]), ways, time)
    unit_entry, lost = entries[: len(lead)], entries[len(lead) :]
    if len(lost):
        _lead_to(unit_entry, winners, lost, behind, trace)
    key = key[first[kept]]
    return Tokens(key, *read_keys(key), blank[kept], best[kept], blank_entry[kept], unit_entry)


def _sort(key: IndexArray, unit: FloatArray) -> _Sorted:
    order = key.argsort(kind="stable")  # the old ones are sorted already, and come first
    key = key[order]
    opens = np.empty(len(key), bool)
    opens[0] = True
    np.not_equal(key[1:], key[:-1], out=opens[1:])
    first = opens.nonzero()[0]
    old = order[first]
    equal = ~opens
    rest = equal.nonzero()[0]
    if len(rest):
        equal[:-1] |= equal[1:]
        places = equal.nonzero()[0]
        which = order[places]
        order[places] = which[np.lexsort((-unit[which], key[places]))]
    return _Sorted(order, key, first, rest, old)


def _of_the_old(together: _Sorted, stay: Stay) -> tuple[FloatArray, IndexArray]:
    """The way that ends in a blank, of each group: that of its old token, if it has one."""
    old = together.old
    blank = np.where(old < len(stay.blank), stay.blank.take(old, mode="clip"), NEVER)
    return blank, stay.entry.take(old, mode="clip")  # any entry will do where there is no way


def _survivors(total: FloatArray, beam: int, margin: float) -> IndexArray:
    """Which scores are within ``margin`` of the best, ``beam`` at most, the first of equal ones."""
    floor = float(total.max()) - margin
    if floor == NEVER:
        return np.zeros(0, np.int64)
    kept = (total >= floor).nonzero()[0]
    if len(kept) > beam:
        among = total[kept]
        least = np.partition(among, len(kept) - beam)[len(kept) - beam]
        live = among >= least
        if (excess := np.count_nonzero(live) - beam) > 0:
            live[(among == least).nonzero()[0][-excess:]] = False
        kept = kept[live.nonzero()[0]]
    return kept


def _met(
    together: _Sorted, kept: IndexArray, unit: FloatArray, margin: float, ways: _Ways
) -> tuple[IndexArray, IndexArray, FloatArray]:
    """Ways of other words that ended in a token that is kept: whose they are, the token's place
    in ``kept``, and how far they fall behind; those of one token follow each other."""
    order, first, rest = together.order, together.first, together.rest
    row = np.full(len(first), -1)
    row[kept] = np.arange(len(kept))
    groups = rest - np.arange(1, len(rest) + 1)  # as many as begin before, less one
    losers, leads, rows = order[rest], order[first[groups]], row[groups]
    behind = unit[leads] - unit[losers]
    wanted = ((rows >= 0) & (behind < margin)).nonzero()[0]
    losers, leads = losers[wanted], leads[wanted]
    if len(wanted):
        differ = (_histories(losers, ways) != _histories(leads, ways)).nonzero()[0]
        losers, wanted = losers[differ], wanted[differ]
    return losers, rows[wanted], behind[wanted]


def _histories(chosen: IndexArray, ways: _Ways) -> Histories:
    """What stands for the words of old and new tokens, where there are new ones."""
    old = len(ways.tokens.key)
    before = ways.trace.histories(ways.tokens.unit_entry.take(chosen, mode="clip"))
    return np.where(chosen < old, before, ways.histories.take(chosen - old, mode="clip"))


def _entries(chosen: IndexArray, ways: _Ways, time: int) -> IndexArray:
    """The entries of old and new tokens, made for the new ones."""
    tokens, new, histories, trace = ways
    entries = tokens.unit_entry.take(chosen, mode="clip")
    born = (chosen >= len(tokens.key)).nonzero()[0]
    at = chosen[born] - len(tokens.key)
    entries[born] = trace.add(
        new.before[at], time, new.last[at], new.word[at], new.log_prob[at], histories[at]
    )
    return entries


def _lead_to(
    entries: IndexArray, winners: IndexArray, lost: IndexArray, behind: FloatArray, trace: Trace
) -> None:
    """Change the entries of ``winners`` (ascending) so that they lead to ``lost`` ones, too."""
    again = np.zeros(len(winners), bool)
    again[1:] = winners[1:] == winners[:-1]
    made = trace.meet(entries[winners], again, lost, behind)
    entries[winners] = made  # the last of a token's
