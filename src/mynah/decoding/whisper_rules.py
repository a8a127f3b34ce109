"""What a Whisper model may say next, and the searches that choose among it.

The rules are those of the original (A. Radford et al., arXiv:2212.04356, and its program), for all
rows of a batch at once; what a row may say depends on that row alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.decoding.units import Floats, Ints

NEVER = np.float32(-np.inf)
NO_TIME = 1 << 30  # later than any timestamp
_LINE = 2048  # numbers that are added at once
_ROWS = 4  # are summed at once: with fewer operations threads wait less for one another


@dataclass(frozen=True)
class Rules:
    """What may come next, in numbers of tokens.

    Attributes:
        eot: the end of the text; the tokens before it are text.
        timestamp_begin: the first timestamp; all tokens from it on are timestamps.
        suppressed: tokens that never come.
        first_suppressed: tokens that do not come first.
        timestamps: whether there are timestamps, which come in pairs around text and do not
            decrease.
        no_timestamps: the token that says there are none, which never comes.
        latest_first: how far from the first timestamp a text may begin; ``None``: any.
        repetition_penalty: logits of tokens that the row has are divided by it, negative ones
            multiplied (N. Keskar et al., arXiv:1909.05858).
        no_repeat_ngram: no n-gram of this length comes twice; 0: any may.
    """

    eot: int
    timestamp_begin: int
    suppressed: tuple[int, ...] = ()
    first_suppressed: tuple[int, ...] = ()
    timestamps: bool = True
    no_timestamps: int | None = None
    latest_first: int | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def apply(self, logits: Floats, said: Ints, begun: int = 0) -> None:
        """Make impossible in ``logits`` (N, V) what may not follow ``said`` (N, n), in place.

        The first ``begun`` tokens of ``said`` were given and not chosen; they count as said.
        """
        if self.repetition_penalty != 1.0 and said.shape[1]:
            self._penalise(logits, said)
        if self.no_repeat_ngram:
            logits[self.repeating(said)] = NEVER
        self.forbid(logits, first=said.shape[1] == begun, nothing=said.shape[1] == 0)
        if self.timestamps and said.shape[1]:
            self._time(logits, said)

    def forbid(self, logits: Floats, *, first: bool, nothing: bool) -> None:
        """Make impossible in ``logits`` (N, V), in place, what no row may say: where a text
        begins (``first``), and where ``nothing`` is said yet, not even what was given."""
        if first and self.first_suppressed:
            logits[:, list(self.first_suppressed)] = NEVER
        if self.suppressed:
            logits[:, list(self.suppressed)] = NEVER
        if not self.timestamps:
            return
        if self.no_timestamps is not None:
            logits[:, self.no_timestamps] = NEVER
        if nothing:
            logits[:, : self.timestamp_begin] = NEVER
            if self.latest_first is not None:
                logits[:, self.timestamp_begin + self.latest_first + 1 :] = NEVER

    def repeating(self, said: Ints) -> tuple[Ints, Ints]:
        """Rows of ``said`` (N, n), and the tokens with which they would say an n-gram again."""
        size, count = self.no_repeat_ngram, said.shape[1]
        if count < size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        grams = np.lib.stride_tricks.sliding_window_view(said, size, axis=1)  # (N, count-size+1, n)
        newest = said[:, count - size + 1 :]
        rows, places = np.nonzero((grams[:, :, :-1] == newest[:, None]).all(axis=2))
        return rows, grams[rows, places, -1]

    def times(self, said: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Of each row of ``said`` (N, n), of which n is not 0: whether no text may follow, and the
        first timestamp that may, counted from the first of all; ``NO_TIME`` where none may."""
        last = said[:, -1] >= self.timestamp_begin
        before = said[:, -2] >= self.timestamp_begin if said.shape[1] > 1 else np.ones_like(last)
        # no earlier time than the last; the same only where a segment begins at once
        is_time = said >= self.timestamp_begin
        place = said.shape[1] - 1 - is_time[:, ::-1].argmax(axis=1)
        newest = said[np.arange(len(said)), place] - self.timestamp_begin
        no_text = last & ~before  # the next segment begins, or the text ends
        least = np.where(is_time.any(axis=1), newest + np.where(no_text, 0, 1), 0)
        return no_text, np.where(last & before, NO_TIME, least)  # text has to follow a pair

    def _penalise(self, logits: Floats, said: Ints) -> None:
        rows = np.arange(len(said))[:, None]
        values = logits[rows, said]
        penalty = np.float32(self.repetition_penalty)
        logits[rows, said] = np.where(values < 0, values * penalty, values / penalty)

    def _time(self, logits: Floats, said: Ints) -> None:
        begin, (no_text, least) = self.timestamp_begin, self.times(said)
        times = logits[:, begin:]
        logits[no_text, : self.eot] = NEVER
        times[np.arange(times.shape[1])[None] < least[:, None]] = NEVER
        # more probable together than any text: it is a timestamp
        together = log_sums(times)
        logits[together > logits[:, :begin].max(axis=1), :begin] = NEVER


def log_sums(values: Floats, best: Floats | None = None) -> Floats:
    """log(sum(exp(values))) of each row of (N, M); -inf where nothing is possible. ``best`` (N,)
    are the greatest of each row, where they are known."""
    if best is None:
        best = values.max(axis=1)
    safe = np.where(np.isfinite(best), best, np.float32(0.0))
    sums, size = np.empty(len(values), values.dtype), values.shape[1]
    some = np.empty((_ROWS, -(-size // _LINE), _LINE), values.dtype)
    exps, rest = np.split(some.reshape(_ROWS, -1), [size], axis=1)
    rest[:] = 0.0
    for start in range(0, len(values), _ROWS):  # what stays in cache
        few = values[start : start + _ROWS]
        kept = exps[: len(few)]
        np.subtract(few, safe[start : start + _ROWS, None], out=kept)
        np.exp(kept, out=kept)
        lines = some[: len(few)].sum(axis=1)  # lines added are faster than numbers
        sums[start : start + _ROWS] = lines.sum(axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(sums) + safe)
