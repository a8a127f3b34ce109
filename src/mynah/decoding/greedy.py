"""CTC greedy search: the best unit of each frame, repeats merged, blanks dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mynah.decoding.hypothesis import Hypothesis
from mynah.decoding.options import check_blank_penalty
from mynah.decoding.units import as_frames, penalise_blank


@dataclass(frozen=True, slots=True)
class GreedyState:
    """What a greedy search knows after ``frames`` frames; the last run may still go on."""

    frames: int = 0
    last: int = -1  # unit of the last frame, blank included; -1 before the first
    tokens: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    peaks: tuple[float, ...] = ()
    score: float = 0.0


@dataclass(frozen=True)
class GreedySearch:
    """CTC greedy search fed chunk by chunk; any chunks give the result of one shot.

    Each token stands at the frame of its run where it is most probable (the first such), and has
    that probability as its confidence. The score is that of the best path.

    Raises:
        ConfigError: ``blank_penalty`` is not finite.
    """

    blank: int = 0
    blank_penalty: float = 0.0

    def __post_init__(self) -> None:
        check_blank_penalty(self.blank_penalty)

    def start(self) -> GreedyState:
        """The state before the first frame."""
        return GreedyState()

    def advance(self, state: GreedyState, log_probs: npt.ArrayLike) -> GreedyState:
        """The state after the frames ``log_probs`` (T, V); ``state`` itself stays as it is."""
        frames = as_frames(log_probs)
        if len(frames) == 0:
            return state
        frames = penalise_blank(frames, self.blank, self.blank_penalty)
        best = frames.argmax(axis=1)
        values = np.take_along_axis(frames, best[:, None], axis=1)[:, 0].astype(np.float64)
        tokens, times, peaks = list(state.tokens), list(state.times), list(state.peaks)
        last = state.last
        # Only frames with a unit are looked at; a gap between them is a run of blanks.
        previous = -1
        for frame in np.flatnonzero(best != self.blank).tolist():
            unit, value = int(best[frame]), float(values[frame])
            if frame != previous + 1:
                last = self.blank
            if unit != last:
                tokens.append(unit)
                times.append(state.frames + frame)
                peaks.append(value)
            elif value > peaks[-1]:
                times[-1], peaks[-1] = state.frames + frame, value
            last, previous = unit, frame
        return GreedyState(
            frames=state.frames + len(frames),
            last=int(best[-1]),
            tokens=tuple(tokens),
            times=tuple(times),
            peaks=tuple(peaks),
            score=float(np.cumsum(np.append(state.score, values))[-1]),  # in order, as in one shot
        )

    def partial(self, state: GreedyState) -> Hypothesis:
        """The best so far, while the utterance goes on."""
        return self.nbest(state, 1)[0]

    def nbest(self, state: GreedyState, limit: int | None = None) -> list[Hypothesis]:
        """The one hypothesis of a greedy search, as a list; ``limit`` as in the others."""
        return [
            Hypothesis(
                tokens=state.tokens,
                score=state.score,
                times=state.times,
                token_confidences=tuple(min(1.0, math.exp(peak)) for peak in state.peaks),
            )
        ]


def ctc_greedy(
    log_probs: npt.ArrayLike, *, blank: int = 0, blank_penalty: float = 0.0
) -> Hypothesis:
    """The greedy hypothesis of whole log-probabilities (T, V); see :class:`GreedySearch`."""
    search = GreedySearch(blank, blank_penalty)
    return search.nbest(search.advance(search.start(), log_probs))[0]
