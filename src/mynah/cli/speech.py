"""What is taken for speech, on the command line: ``--vad-onset`` and the like."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mynah.errors import ConfigError

if TYPE_CHECKING:
    from mynah.audio.segments import SegmentOptions

VAD = {
    "onset": "probability at which speech begins",
    "offset": "probability below which it may end",
    "min_speech": "seconds; shorter speech is dropped",
    "min_silence": "seconds; shorter pauses are part of the speech",
    "pad": "seconds kept before and after speech",
}


def wanted(args: argparse.Namespace) -> bool | SegmentOptions | None:
    """What is taken for speech; ``None`` where no argument says anything of it.

    Raises:
        ConfigError: values out of their range, or arguments that contradict each other.
    """
    names = (*VAD, "longest")
    changes = {n: value for n in names if (value := getattr(args, f"vad_{n}", None)) is not None}
    if getattr(args, "vad_filter", None) and (args.no_vad or not changes):
        if args.no_vad:
            raise ConfigError("--no-vad: --vad-filter says the contrary")
        return True
    if args.no_vad and changes:
        raise ConfigError("--no-vad: the other options of voice activity have no effect then")
    if args.no_vad or not changes:
        return False if args.no_vad else None
    from mynah.runtime.vad import load_vad

    try:
        return changed(load_vad().options, changes)
    except ConfigError as error:
        raise ConfigError(f"--vad: {error}") from None


def changed(options: SegmentOptions, changes: dict[str, float]) -> SegmentOptions:
    """Options of voice activity with some of them changed.

    An onset takes the offset with it, as far below as it was, where that is not among them.

    Raises:
        ConfigError: a value out of its range.
    """
    import dataclasses

    if "onset" in changes and "offset" not in changes:
        offset = max(changes["onset"] - (options.onset - options.offset), 0.0)
        changes = {**changes, "offset": offset}
    return dataclasses.replace(options, **changes)
