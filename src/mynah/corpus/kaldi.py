"""Kaldi data directories: ``wav.scp``, ``segments``, ``text``, ``utt2spk``, ``utt2dur``.

Entries of ``wav.scp`` that are commands (``... |``) are refused, never run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mynah.corpus.lines import OnError
from mynah.corpus.storage import exists, join, open_lines
from mynah.errors import InputError


def kaldi_rows(folder: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
    """The manifest rows of a Kaldi directory, in the order of ``segments`` or ``wav.scp``.

    Relative paths in ``wav.scp`` are taken from the directory where there is such a file, and from
    the working directory, as Kaldi does, otherwise.

    Raises:
        InputError: no ``wav.scp``; a malformed line or a command, without ``on_error``.
    """

    def refuse(place: str, reason: str) -> None:
        if on_error is None:
            raise InputError(f"{place}: {reason}")
        on_error(place, reason)

    recordings: dict[str, str] = {}
    for place, key, value in _pairs(join(folder, "wav.scp")):
        if value.endswith("|") or value.startswith("|"):
            refuse(place, f"{value!r} is a command; mynah runs none: convert it to files")
        elif not value:
            refuse(place, "names no file")
        else:
            recordings[key] = value
    texts, speakers, languages, durations = (
        {key: value for _, key, value in _pairs(join(folder, name), missing_ok=True)}
        for name in ("text", "utt2spk", "utt2lang", "utt2dur")
    )

    def row(utterance: str, recording: str) -> dict[str, Any]:
        path = recordings[recording]
        path = join(folder, path) if exists(join(folder, path)) else path
        row: dict[str, Any] = {"id": utterance, "path": path}
        row["speaker"], row["text"] = speakers.get(utterance, ""), texts.get(utterance, "")
        if utterance in languages:
            row["language"] = languages[utterance]
        return row

    segments = join(folder, "segments")
    if not exists(segments):
        for key in recordings:
            yield row(key, key) | ({"duration": durations[key]} if key in durations else {})
        return
    for place, utterance, value in _pairs(segments):
        parts = value.split()
        if len(parts) < 3:
            refuse(place, "is not 'utterance recording start end'")
        elif parts[0] not in recordings:
            refuse(place, f"{parts[0]} is not a usable line of wav.scp")
        else:
            end = {} if parts[2] == "-1" else {"end": parts[2]}  # -1: up to the end
            yield row(utterance, parts[0]) | {"start": parts[1]} | end


def _pairs(path: str, missing_ok: bool = False) -> Iterator[tuple[str, str, str]]:
    if missing_ok and not exists(path):
        return
    with open_lines(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                key, _, value = line.decode("utf-8").strip().partition(" ")
            except UnicodeDecodeError:
                raise InputError(f"{path}:{number}: is not UTF-8") from None
            if "\t" in key:  # tabs separate in some directories
                key, _, rest = key.partition("\t")
                value = f"{rest} {value}"
            if key:
                yield f"{path}:{number}", key, value.strip()
