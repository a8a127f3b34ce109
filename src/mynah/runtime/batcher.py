"""Steps several live sessions as one batch.

The rows of the batch's state are the sessions'. As long as the same sessions step together, the
state is handed from step to step untouched, between two sets of arrays that the engine writes in
turn; when the company changes, rows are copied, once. What steps beside a session does not change
its results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mynah.errors import InputError
from mynah.runtime.decode import pad
from mynah.runtime.engine import Array, Engine, State
from mynah.runtime.sound import as_samples

if TYPE_CHECKING:
    from mynah.runtime.result import Transcript
    from mynah.runtime.session import Event, Session


@dataclass
class Row:
    """Where the encoder state of a session is.

    Attributes:
        capacity: encoder frames of left context.
        fresh: whether the next chunk begins with an empty state.
        home: the batcher that holds the state as a row, if one does.
        parked: the state as a batch of one, otherwise.
    """

    capacity: int
    fresh: bool = True
    home: Batcher | None = field(default=None, repr=False)
    parked: State | None = field(default=None, repr=False)


class Batcher:
    """Steps sessions of one engine together; belongs to one thread at a time.

    At most ``max_rows`` sessions are computed at once, more in turns.
    """

    def __init__(self, engine: Engine, max_rows: int = 32) -> None:
        self._engine = engine
        self._max_rows = max(max_rows, 1)
        self._sessions: list[Session] = []  # whose states are the rows of _state
        self._state: State = {}
        self._spare: State | None = None

    def feed_many(
        self, pairs: Sequence[tuple[Session, npt.ArrayLike]], *, last: bool = False
    ) -> list[list[Event]]:
        """Give each session its samples and compute all that is ready; ``last`` ends the streams.

        Returns the events of each pair's session. A session may be there once.

        Raises:
            InputError: a session is there twice, has ended or has another left context than the
                rest, or its samples are not finite numbers. No session has taken any then.
        """
        sessions = [session for session, _ in pairs]
        if len(set(map(id, sessions))) != len(sessions):
            raise InputError("a session is there twice; join its samples")
        # all are sound before one is taken
        if any(session.closed for session in sessions):
            raise InputError("the session has ended; start another")
        if len({session.row.capacity for session in sessions}) > 1:
            raise InputError("sessions with different left context cannot step together")
        arrays = [as_samples(samples) for _, samples in pairs]
        for session, array in zip(sessions, arrays, strict=True):
            session.push(array, last)
        events: list[list[Event]] = [[] for _ in pairs]
        active = list(range(len(pairs)))
        while active:
            stepped = self._step([sessions[n] for n in active])
            for number, new in zip(active, stepped, strict=True):
                events[number] += new or []
            active = [n for n, new in zip(active, stepped, strict=True) if new is not None]
        for session, found in zip(sessions, events, strict=True):
            found += session.waited()
            if session.closed:
                found += session.close()
        return events

    def finish_many(self, sessions: Sequence[Session]) -> list[Transcript]:
        """End the streams that have not ended, and return what each heard."""
        nothing = np.zeros(0, np.float32)
        self.feed_many(
            [(session, nothing) for session in sessions if not session.closed], last=True
        )
        return [session.transcript() for session in sessions]

    def _step(self, sessions: Sequence[Session]) -> list[list[Event] | None]:
        """One chunk of each session that has one; ``None`` for those that have none."""
        events: list[list[Event] | None] = [None] * len(sessions)
        ready = [
            (n, chunk) for n, s in enumerate(sessions) if (chunk := s.next_chunk()) is not None
        ]
        held = {id(session): place for place, session in enumerate(self._sessions)}
        # those that stepped together last time come first and in that order: nothing moves then
        ready.sort(key=lambda item: held.get(id(sessions[item[0]]), len(held)))
        for first in range(0, len(ready), self._max_rows):
            part = ready[first : first + self._max_rows]
            rows = [sessions[n] for n, _ in part]
            log_probs, encoded, lens = self._encode(rows, [chunk for _, chunk in part])
            for row, (number, _) in enumerate(part):
                length = int(lens[row])
                # copies: what a session keeps must not hold the whole batch
                events[number] = sessions[number].absorb(
                    log_probs[row, :length].copy(), encoded[row, :length].copy()
                )
        return events

    def _encode(self, sessions: list[Session], chunks: list[Array]) -> tuple[Array, Array, Array]:
        self._arrange(sessions)
        for place, session in enumerate(sessions):
            if session.row.fresh:
                for name, empty in self._engine.init_state(1, session.row.capacity).items():
                    self._state[name][place] = empty[0]
                session.row.fresh = False
        feats, feat_lens = pad(chunks)
        out = self._engine.encode(feats, feat_lens, self._state, next_state=self._spare)
        self._state, self._spare = out.state, self._state
        return out.log_probs, out.encoded, out.lens

    def _arrange(self, sessions: list[Session]) -> None:
        """Make the rows of the state those of ``sessions``, in their order."""
        if len(sessions) == len(self._sessions) and all(map(_same, sessions, self._sessions)):
            return
        places = {id(session): place for place, session in enumerate(self._sessions)}
        staying = {id(session) for session in sessions}
        for session in self._sessions:
            if id(session) not in staying:
                self._park(session, places[id(session)])
        state = self._engine.init_state(len(sessions), sessions[0].row.capacity)
        for place, session in enumerate(sessions):
            row = session.row
            if row.home is not None and row.home is not self:
                row.home.release(session)
            source, at = row.parked, 0
            if row.home is self:
                source, at = self._state, places[id(session)]
            if source is not None and not row.fresh:
                for name, array in state.items():
                    array[place] = source[name][at]
            row.home, row.parked = self, None
        self._sessions, self._state = sessions, state
        self._spare = {name: np.empty_like(array) for name, array in state.items()}

    def release(self, session: Session) -> None:
        """Let go of a session: its state moves to the session."""
        for place, held in enumerate(self._sessions):
            if held is session:
                self._park(session, place)
                kept = [n for n in range(len(self._sessions)) if n != place]
                self._sessions = [self._sessions[n] for n in kept]
                self._state = {name: array[kept] for name, array in self._state.items()}
                self._spare = {name: np.empty_like(a) for name, a in self._state.items()}
                return

    def _park(self, session: Session, place: int) -> None:
        row = session.row
        row.home = None
        if not session.closed and not row.fresh:
            row.parked = {
                name: array[place : place + 1].copy() for name, array in self._state.items()
            }


def _same(one: Session, other: Session) -> bool:
    return one is other
