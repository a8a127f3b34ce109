"""A manifest from a folder of recordings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mynah.corpus.cut import Cut, Recording, Supervision
from mynah.corpus.lines import OnError
from mynah.corpus.parallel import ordered_map
from mynah.corpus.samples import Read, audio_bytes, load, probe
from mynah.corpus.shards import AUDIO
from mynah.corpus.storage import is_url
from mynah.errors import InputError


def collect(folder: str | Path) -> Iterator[Cut]:
    """The recordings under ``folder``, by name; their lengths are not known yet.

    The text is that of the ``.txt`` of the same name, or of the line that begins with the
    recording's name in a ``*.trans.txt`` beside it (as in LibriSpeech). The id is the path
    without its ending; the speaker is the folder where recordings lie in sub-folders.

    Raises:
        InputError: there is no recording, or a text is not UTF-8.
    """
    root = Path(folder)
    found = False
    for place, folders, files in os.walk(root):
        folders.sort()
        here = Path(place)
        lines = _transcripts(here, files)
        for name in sorted(files):
            path = here / name
            if path.suffix[1:].lower() not in AUDIO:
                continue
            found = True
            inside = path.relative_to(root).with_suffix("").as_posix()
            text = _text(path.with_suffix(".txt"), files) or lines.get(path.stem, "")
            speaker = inside.partition("/")[0] if "/" in inside else ""
            recording = Recording(inside, str(path))
            yield Cut(inside, recording, supervisions=(Supervision(text, speaker),))
    if not found:
        raise InputError(f"{root}: no recordings ({', '.join(AUDIO)})")


def _transcripts(folder: Path, files: list[str]) -> dict[str, str]:
    lines: dict[str, str] = {}
    for name in files:
        if name.endswith(".trans.txt"):
            for line in _read(folder / name).splitlines():
                key, _, text = line.strip().partition(" ")
                lines[key] = text.strip()
    return lines


def _text(path: Path, files: list[str]) -> str:
    return " ".join(_read(path).split()) if path.name in files else ""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def with_durations(
    cuts: Iterable[Cut], read: Read, on_error: OnError, *, jobs: int = 0
) -> Iterator[Cut]:
    """Cuts with their lengths and rates, from headers or by decoding; what cannot be opened goes
    to ``on_error``."""

    def measured(cut: Cut) -> tuple[Cut, str]:
        if cut.duration is not None:
            return cut, ""
        try:
            return measure(cut, read), ""
        except InputError as error:
            return cut, str(error)

    for cut, error in ordered_map(measured, cuts, jobs):
        if error:
            on_error(cut.id, error)
        else:
            yield cut


def measure(cut: Cut, read: Read) -> Cut:
    """The cut with its length, from the header where it says, else by decoding.

    Raises:
        InputError: it cannot be decoded.
    """
    recording = cut.recording
    in_memory = recording.data is not None or recording.in_archive or is_url(recording.source)
    rate, seconds = probe(audio_bytes(recording) if in_memory else recording.source)
    if seconds is None:
        whole = Cut(cut.id, recording, channel=cut.channel)
        seconds, rate = len(load(whole, read, rate=16000)) / 16000, None
    if seconds <= cut.start:
        reason = f"starts at {cut.start:g} s, the recording has {seconds:g} s"
        raise InputError(reason if cut.start else "has no samples")
    recording = dataclasses.replace(recording, duration=seconds, rate=rate)
    return dataclasses.replace(cut, recording=recording, duration=seconds - cut.start)
