"""Speakers for transcripts on the command line: ``--diarization``."""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mynah.errors import InputError

if TYPE_CHECKING:
    from mynah.runtime.result import Transcript
    from mynah.runtime.speakers import Turn

log = logging.getLogger(__name__)

_DEFAULT = re.compile(r"^SPEAKER(?=_|\d|$)")  # what diarization calls who has no name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Who speaks when."""
    group = parser.add_argument_group("speakers")
    group.add_argument("--diarization", metavar="FILE|DIR",
                       help="RTTM file, or folder with a NAME.rttm a recording")  # fmt: skip
    group.add_argument("--speaker-name", metavar="NAME",
                       help="in place of SPEAKER in SPEAKER_00, SPEAKER_01, ...")  # fmt: skip


class Voices:
    """The turns that the arguments name for ``recordings``, read when it is made.

    Attributes:
        missing: why there are none for a recording.

    Raises:
        InputError: the RTTM file cannot be read.
    """

    def __init__(self, source: str, name: str | None, recordings: Sequence[str]) -> None:
        from mynah.runtime.speakers import read_rttm, turns_of

        folder = Path(source) if os.path.isdir(source) else None
        known = {} if folder else read_rttm(source)
        self._name = name
        self._turns: dict[str, tuple[Turn, ...]] = {}
        self.missing: dict[str, str] = {}
        for recording in recordings:
            try:
                own = read_rttm(folder / f"{Path(recording).stem}.rttm") if folder else known
                alone = folder is not None or len(recordings) == 1
                self._turns[recording] = turns_of(own, recording, alone=alone)
            except InputError as error:
                self.missing[recording] = str(error)

    def __call__(self, recording: str, transcript: Transcript) -> Transcript:
        """The transcript with its speakers."""
        from mynah.runtime.speakers import with_speakers

        turns, name = self._turns[recording], self._name
        renamed: dict[str, str] = {}
        if name is not None:
            for speaker in {turn.speaker for turn in turns}:
                # a function, since a name is no template
                renamed[speaker] = _DEFAULT.sub(lambda _: name, speaker)
            if not any(_DEFAULT.match(speaker) for speaker in renamed):
                log.warning("%s: no speaker is called SPEAKER, --speaker-name renames none",
                            recording)  # fmt: skip
        return with_speakers(transcript, turns, renamed)
