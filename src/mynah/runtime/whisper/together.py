"""Recordings that are heard side by side: windows of all of them are decoded at once.

Each goes its own way and gives what it would give alone; what fails of one spoils no other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mynah.errors import MynahError
from mynah.runtime.whisper.engine import Heard
from mynah.runtime.whisper.language import Probabilities, language_probabilities
from mynah.runtime.whisper.longform import Job, Lane, LongForm
from mynah.runtime.whisper.recording import WINDOW
from mynah.runtime.whisper.window import Found


class Together:
    """Hears recordings, which are begun as there is room for their windows; at most ``width`` are
    decoded at once. All are asked the same of the same model."""

    def __init__(self, waiting: Iterator[LongForm], width: int) -> None:
        self._waiting, self._width = waiting, width
        self._open: list[LongForm] = []

    def step(self) -> list[LongForm] | None:
        """Decode the next windows; the recordings that are over now, or ``None`` when all were."""
        jobs = self._jobs()
        if not self._open:
            return None
        _decode(jobs, self._open)
        over = [run for run in self._open if run.over]
        self._open = [run for run in self._open if not run.over]
        return over

    def _jobs(self) -> list[Job]:
        """The next windows of those that are open, and of others as long as there is room."""
        jobs: list[Job] = []
        for run in self._open:
            with run.blamed():
                jobs += run.jobs(self._room + run.open)
        while self._room > 0:
            begun = next(self._waiting, None)
            if begun is None:
                break
            room = self._room
            self._open.append(begun)
            with begun.blamed():
                jobs += begun.jobs(room)
        return [job for job in jobs if not job.run.over]

    @property
    def _room(self) -> int:
        return self._width - sum(run.open for run in self._open if not run.over)


def _decode(jobs: Sequence[Job], runs: Sequence[LongForm]) -> None:
    """Decode windows of ``runs``; those of the same length are encoded at once.

    What a short context does not say to be trusted is encoded anew in the whole one."""
    parts = _encoded(jobs, [job.context for job in jobs])
    _find_languages(parts, runs)
    doubtful = [job for group, heard in parts for job in _take(group, heard, runs)]
    for group, heard in _encoded(doubtful, [WINDOW] * len(doubtful)):
        _take(group, heard, runs)
    for run in runs:
        if not run.over:
            run.settle()


def _encoded(jobs: Sequence[Job], contexts: Sequence[int]) -> list[tuple[list[Job], Heard]]:
    """Windows, each encoded in as many frames as ``contexts`` says."""
    groups: dict[int, list[Job]] = {}
    for job, context in zip(jobs, contexts, strict=True):
        groups.setdefault(context, []).append(job)
    parts: list[tuple[list[Job], Heard]] = []
    for context, group in groups.items():
        mels, kept = [], []
        for job in group:
            with job.run.blamed():
                mels.append(job.run.mels(job, context))
                kept.append(job)
        if kept:
            parts.append((kept, kept[0].run.model.engine.encode(np.stack(mels))))
    return parts


def _take(group: Sequence[Job], heard: Heard, runs: Sequence[LongForm]) -> list[Job]:
    """Decode a group, and go on after its windows but those given back, whose context is short and
    whose text is not to be trusted."""
    results = _results(group, heard, [row for row, job in enumerate(group) if not job.run.over])
    short = 2 * heard.frames < WINDOW
    doubtful = {row for row, found in results.items() if short and _is_doubtful(group[row], found)}
    for run in runs:
        few, rows = _of(run, group)
        trusted = [(job, row) for job, row in zip(few, rows, strict=True) if row not in doubtful]
        if trusted and not run.over:
            with run.blamed():
                some = [row for _, row in trusted]
                run.take([job for job, _ in trusted], some, heard, [results[row] for row in some])
    return [group[row] for row in sorted(doubtful)]


def _is_doubtful(job: Job, found: Found) -> bool:
    """Whether what a short context gave is not to be trusted, as text or as silence."""
    return found.failed or job.run.decoder.is_silent(found)


def _find_languages(parts: Sequence[tuple[list[Job], Heard]], runs: Sequence[LongForm]) -> None:
    """Say which language each window is in; those of all recordings are asked at once."""
    asked: dict[int, LongForm] = {}
    for run in runs:
        jobs = [job for group, _ in parts for job in _of(run, group)[0]]
        asked |= {id(job.lane): run for job in run.undetected(jobs)}
    found: list[tuple[Lane, Probabilities]] = []
    for group, heard in parts:
        rows = [row for row, job in enumerate(group) if id(job.lane) in asked]
        for row, probabilities in _probabilities(group, heard, rows).items():
            found.append((group[row].lane, probabilities))
    for run in runs:
        jobs = [job for group, _ in parts for job in _of(run, group)[0]]
        if jobs and not run.over:
            with run.blamed():
                run.find_languages(jobs, [one for one in found if asked[id(one[0])] is run])


def _probabilities(
    group: Sequence[Job], heard: Heard, rows: Sequence[int]
) -> dict[int, Probabilities]:
    """Of the languages of ``rows`` of what was heard; one by one where they fail, so that one
    spoils no other."""
    if not rows:
        return {}
    run = group[rows[0]].run
    ask = functools.partial(language_probabilities, run.model, heard)
    if len(rows) == 1:
        with run.blamed():
            return {rows[0]: ask(rows, run.options.languages)[0]}
        return {}
    try:
        return dict(zip(rows, ask(rows, run.options.languages), strict=True))
    except MynahError:
        apart = [_probabilities(group, heard, [row]) for row in rows]
        return {row: found for one in apart for row, found in one.items()}


def _results(group: Sequence[Job], heard: Heard, rows: Sequence[int]) -> dict[int, Found]:
    """What was found in ``rows`` of what was heard; where they fail, they are decoded one by one,
    so that one spoils no other."""
    if not rows:
        return {}
    asked = [group[row].run.asked(group[row].lane) for row in rows]
    decode: Callable[..., list[Found]] = group[rows[0]].run.decoder
    if 2 * heard.frames < WINDOW:
        sizes = [group[row].size for row in rows]
        decode = functools.partial(group[rows[0]].run.decoder.once, sizes=sizes)
    if len(rows) == 1:
        with group[rows[0]].run.blamed():
            return {rows[0]: decode(heard, rows, asked)[0]}
        return {}
    try:
        return dict(zip(rows, decode(heard, rows, asked), strict=True))
    except MynahError:
        apart = [_results(group, heard, [row]) for row in rows]
        return {row: found for one in apart for row, found in one.items()}


def _of(run: LongForm, group: Sequence[Job]) -> tuple[list[Job], list[int]]:
    """The windows of one recording, and which of a group they are."""
    found = [(job, row) for row, job in enumerate(group) if job.run is run]
    return [job for job, _ in found], [row for _, row in found]
