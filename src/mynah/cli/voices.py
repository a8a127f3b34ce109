"""Speakers for transcripts on the command line: ``--diarization``."""

from __future__ import annotations

import argparse
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

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
    """The turns that the arguments name; read when it is made.

    Raises:
        InputError: the RTTM file cannot be read.
    """

    def __init__(self, source: str, name: str | None, alone: bool) -> None:
        from mynah.runtime.speakers import read_rttm

        self._folder = Path(source) if os.path.isdir(source) else None
        self._name, self._alone = name, alone
        self._turns: dict[str, tuple[Turn, ...]] = {} if self._folder else read_rttm(source)

    def __call__(self, recording: str, transcript: Transcript) -> Transcript:
        """The transcript with its speakers.

        Raises:
            InputError: there are no turns for the recording.
        """
        from mynah.runtime.speakers import read_rttm, turns_of, with_speakers

        if self._folder is not None:
            turns = turns_of(
                read_rttm(self._folder / f"{Path(recording).stem}.rttm"), recording, alone=True
            )
        else:
            turns = turns_of(self._turns, recording, alone=self._alone)
        renamed: dict[str, str] = {}
        name = self._name
        if name is not None:
            for speaker in {turn.speaker for turn in turns}:
                # a function, since a name is no template
                renamed[speaker] = _DEFAULT.sub(lambda _: name, speaker)
            if not any(_DEFAULT.match(speaker) for speaker in renamed):
                log.warning("%s: no speaker is called SPEAKER, --speaker-name renames none",
                            recording)  # fmt: skip
        return with_speakers(transcript, turns, renamed)
