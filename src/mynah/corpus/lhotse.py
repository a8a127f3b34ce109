"""Manifests of lhotse: cuts, or recordings with supervisions, as JSON lines (``.gz`` or not).

Shar folders (``cuts.000000.jsonl.gz`` beside ``recording.000000.tar``) are read too, the recordings
as ranges of bytes of their tars. Only what a Cut of ours can say is read: one recording a cut
(``MonoCut``, ``MultiCut`` with one channel), from files, URLs or ``memory``. Mixed and padded cuts,
lazy transforms, and sources that are commands are refused with the reason.
"""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mynah.corpus.cut import Cut, Recording, Supervision
from mynah.corpus.lines import OnError
from mynah.corpus.shards import tar_rows
from mynah.corpus.storage import exists, is_url, join, open_lines
from mynah.errors import InputError


def lhotse_cuts(path: str, base: str, on_error: OnError | None = None) -> Iterator[Cut]:
    """The cuts of a ``cuts.jsonl[.gz]``.

    Raises:
        InputError: a cut that cannot be read, without ``on_error``.
    """
    for place, values in _objects(path):
        try:
            yield _cut(values, base)
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            _refuse(place, error, on_error)


def lhotse_pairs(
    recordings: str, supervisions: str, base: str, on_error: OnError | None = None
) -> Iterator[Cut]:
    """A cut for each line of ``supervisions.jsonl[.gz]``, with its recording.

    Raises:
        InputError: a line that cannot be read, without ``on_error``.
    """
    known: dict[str, Mapping[str, Any]] = {v["id"]: v for _, v in _objects(recordings) if "id" in v}
    for place, values in _objects(supervisions):
        try:
            if values.get("recording_id") not in known:
                raise InputError(f"its recording {values.get('recording_id')!r} is not listed")
            start = float(values["start"])
            cut = {"id": values["id"], "start": start, "duration": values["duration"]}
            cut["recording"] = known[values["recording_id"]]
            cut["supervisions"] = [{**values, "start": 0.0}]
            cut["channel"] = values.get("channel", 0)
            yield _cut(cut, base)
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            _refuse(place, error, on_error)


def shar_rows(files: Sequence[str], on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
    """The manifest rows of a Shar folder: what its ``cuts`` say, where its ``recording`` tars have
    the audio. The audio of a cut is that of the cut alone, so it starts at zero.

    Raises:
        InputError: a cut without a recording, without ``on_error``; or a part is missing.
    """
    tars = {_shard(f): f for f in files if posixpath.basename(f).startswith("recording.")}
    for path in files:
        if not posixpath.basename(path).startswith("cuts."):
            continue
        if _shard(path) not in tars:
            raise InputError(f"{path}: has no recording tar beside it")
        audio = {row["id"]: row for row in tar_rows(tars[_shard(path)], on_error, texts=False)}
        for place, values in _objects(path):
            row = audio.get(str(values.get("id")))
            if row is None:
                _refuse(place, InputError(f"{values.get('id')} is not in the tar"), on_error)
                continue
            supervisions = [
                {k: s.get(k) for k in ("text", "speaker", "language", "start", "duration")}
                for s in values.get("supervisions") or ()
            ]
            kept = ("id", "path", "byte_start", "byte_size", "duration", "rate")
            yield {**_custom(values), **{k: row.get(k) for k in kept}, "supervisions": supervisions}


def is_shar(files: Sequence[str]) -> bool:
    """Whether these are the files of a Shar folder."""
    names = [posixpath.basename(f) for f in files]
    return any(n.startswith("cuts.") and n[5:6].isdigit() for n in names) and any(
        n.startswith("recording.") and n.endswith(".tar") for n in names
    )


def _shard(path: str) -> str:
    return posixpath.basename(path).split(".")[1]


def _refuse(place: str, error: Exception, on_error: OnError | None) -> None:
    reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
    if on_error is None:
        raise InputError(f"{place}: {reason}") from None
    on_error(place, reason)


def _objects(path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with open_lines(path) as stream:
        number = 0
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    value = json.loads(line)
                    if not isinstance(value, dict):
                        raise ValueError
                    yield f"{path}:{number}", value
        except (ValueError, EOFError, OSError, RecursionError):
            raise InputError(f"{path}:{number + 1}: is not a line of JSON") from None


def _cut(values: Mapping[str, Any], base: str) -> Cut:
    kind = values.get("type", "MonoCut")
    if kind not in ("MonoCut", "MultiCut"):
        raise InputError(f"{kind} {values.get('id', '')} is not a stretch of one recording")
    if "recording" not in values:
        raise InputError(f"the cut {values.get('id', '')} has no recording (features alone)")
    recording = _recording(values["recording"], base)
    channel = values.get("channel", 0)
    channels = channel if isinstance(channel, list) else [channel]
    several = len(values["recording"].get("channel_ids") or range(_channels(values))) > 1
    if len(channels) > 1:
        raise InputError(f"the cut {values.get('id', '')} has {len(channels)} channels")
    return Cut(
        id=str(values["id"]),
        recording=recording,
        start=float(values.get("start", 0.0)),
        duration=float(values["duration"]),
        channel=int(channels[0]) if several and channels else None,
        supervisions=tuple(_supervision(s) for s in values.get("supervisions") or ()),
        columns=_custom(values),
    )


def _channels(values: Mapping[str, Any]) -> int:
    return sum(len(s.get("channels", ())) for s in values["recording"]["sources"])


def _supervision(values: Mapping[str, Any]) -> Supervision:
    return Supervision(
        text=values.get("text") or "",
        speaker=values.get("speaker") or "",
        language=values.get("language") or "",
        start=float(values.get("start", 0.0)),
        duration=float(values["duration"]) if "duration" in values else None,
    )


def _custom(values: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, Any] = {}
    for supervision in values.get("supervisions") or ():
        found |= supervision.get("custom") or {}
        found |= {k: supervision[k] for k in ("gender",) if supervision.get(k)}
    found |= values.get("custom") or {}
    return {k: str(v) for k, v in found.items() if isinstance(v, (str, int, float))}


def _recording(values: Mapping[str, Any], base: str) -> Recording:
    if values.get("transforms"):
        raise InputError(f"the recording {values['id']} has transforms; save it as audio first")
    sources = values["sources"]
    if len(sources) != 1:
        raise InputError(f"the recording {values['id']} has {len(sources)} sources, not one")
    kind, source = sources[0]["type"], sources[0]["source"]
    duration, rate = float(values["duration"]), int(values["sampling_rate"])
    if kind == "memory":
        data = base64.b64decode(source)
        return Recording(str(values["id"]), "memory", duration, rate, data=data)
    if kind == "command":
        raise InputError(f"{source!r} is a command; mynah runs none: convert it to files")
    if kind not in ("file", "url"):
        raise InputError(f"the recording {values['id']} is of the kind {kind!r}, not a file")
    if not is_url(source) and exists(join(base, source)):
        source = join(base, source)  # otherwise from the working directory, as lhotse does
    return Recording(str(values["id"]), source, duration, rate)
