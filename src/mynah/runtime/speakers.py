"""Who speaks: turns from an RTTM file, given to the words and segments of a transcript.

RTTM is NIST's "rich transcription time marked" format (The 2009 RT evaluation plan, appendix A), a
line a turn: ``SPEAKER recording channel start duration <NA> <NA> name <NA> <NA>``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mynah.errors import InputError
from mynah.runtime.result import Transcript

_SPEAKER = "SPEAKER"
# lines of an RTTM that say other things
_OTHERS = frozenset({
    "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT",
    "IP", "SU", "CB", "A/P", "SPKR-INFO",
})  # fmt: skip
_MOST_BYTES = 64_000_000
_LONGEST_NAME = 200  # characters
_LATEST = 1e7  # seconds


@dataclass(frozen=True)
class Turn:
    """Someone speaks from ``start`` to ``end`` seconds."""

    start: float
    end: float
    speaker: str


def read_rttm(path: str | Path) -> dict[str, tuple[Turn, ...]]:
    """The turns of each recording in an RTTM file, in order of time.

    Raises:
        InputError: the file cannot be read, or a line of it is wrong; the line is named.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: more than {_MOST_BYTES // 1_000_000} MB, no RTTM")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from None
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";"):
            continue
        try:
            if fields[0] in _OTHERS:
                continue
            turn = _turn(fields)
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        found.setdefault(fields[1], []).append(turn)
    return {name: tuple(sorted(turns, key=_order)) for name, turns in found.items()}


def _order(turn: Turn) -> tuple[float, float, str]:
    return turn.start, turn.end, turn.speaker


def _turn(fields: list[str]) -> Turn:
    if fields[0] != _SPEAKER:
        raise ValueError(f"begins with {_short(fields[0])}, not SPEAKER")
    if not 8 <= len(fields) <= 10:
        raise ValueError(f"{len(fields)} fields; a line of RTTM has 10")
    name = fields[7]
    if name == "<NA>":
        raise ValueError("the speaker has no name")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"the name of the speaker is {_short(name)}")
    start, length = _seconds(fields[3], "start"), _seconds(fields[4], "duration")
    return Turn(start, start + length, name)


def _seconds(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LATEST:
        raise ValueError(f"{what} is {_short(text)}, not seconds of 0 or more")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def turns_of(
    rttm: Mapping[str, tuple[Turn, ...]], recording: str, *, alone: bool = False
) -> tuple[Turn, ...]:
    """The turns of a recording, found by its name without folder and suffix.

    ``alone`` says that there is no other recording: the only one of the RTTM is then meant,
    whatever it is called.

    Raises:
        InputError: the RTTM does not have it.
    """
    stem = Path(recording).stem
    for name in (recording, Path(recording).name, stem):
        if name in rttm:
            return rttm[name]
    if alone and len(rttm) < 2:
        return next(iter(rttm.values()), ())
    known = ", ".join(_short(name) for name in list(rttm)[:3]) + (", ..." if len(rttm) > 3 else "")
    raise InputError(f"{recording}: the diarization has no {stem!r}, but {known or 'nobody'}")


def with_speakers(
    transcript: Transcript, turns: Sequence[Turn], rename: Mapping[str, str] | None = None
) -> Transcript:
    """The transcript with the speaker of each word and segment: who speaks longest during it.

    Where nobody does, there is none. ``rename`` gives speakers other names.
    """
    names = rename or {}
    who = _Who([replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in turns])
    segments = tuple(
        replace(
            segment,
            speaker=who(segment.start, segment.end),
            words=tuple(replace(w, speaker=who(w.start, w.end)) for w in segment.words),
        )
        for segment in transcript.segments
    )
    return replace(transcript, segments=segments)


class _Who:
    """Who speaks longest in a stretch of time; of two, who began first."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = sorted(turns, key=_order)
        self._starts = np.array([turn.start for turn in self._turns])
        self._ends = np.maximum.accumulate(np.array([turn.end for turn in self._turns]))

    def __call__(self, start: float, end: float) -> str | None:
        if end <= start:  # a word of no length is where it is
            end = math.nextafter(start, math.inf)
        if not self._turns:
            return None
        first = int(np.searchsorted(self._ends, start, side="right"))
        stop = int(np.searchsorted(self._starts, end))
        total: defaultdict[str, float] = defaultdict(float)
        for turn in self._turns[first:stop]:
            total[turn.speaker] += max(min(turn.end, end) - max(turn.start, start), 0.0)
        best = max(total, key=total.__getitem__, default=None)
        return best if best is not None and total[best] > 0 else None
