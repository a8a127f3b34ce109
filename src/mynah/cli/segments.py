"""Where there is speech in recordings.

FILES are recordings, directories (searched for recordings) or - for a recording on standard input.
A line a stretch of speech, with start and end in seconds; a recording without speech has none. One
that cannot be read is reported and passed over; the exit code is then 1, and 2 when nothing was
read.

    mynah segments examples/mynah_bird.flac --min-silence 0.5 --format tsv
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from mynah.cli import common, speech
from mynah.errors import ConfigError, InputError, MissingDependency

if TYPE_CHECKING:
    from mynah.audio.segments import SegmentOptions
    from mynah.runtime.vad import Vad

FORMATS = ("txt", "tsv", "json", "rttm")
_OPTIONS = {
    "onset": "probability at which speech begins",
    "offset": "probability below which it may end",
    "min_speech": "shorter stretches are dropped (seconds)",
    "min_silence": "shorter pauses do not part stretches (seconds)",
    "pad": "kept before and after a stretch (seconds)",
    "longest": "longer stretches are cut at their best pause (seconds, inf: never)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recordings, and what a segment is."""
    parser.add_argument("files", nargs="+", metavar="FILES", help="recordings, directories or -")
    parser.add_argument("--format", choices=FORMATS, default="txt", help="default: txt")
    parser.add_argument("--channel", help="number of one channel (default: mix all)")
    parser.add_argument("--partial", action="store_true",
                        help="take what can be decoded of a damaged recording")  # fmt: skip
    parser.add_argument("--max-hours", type=common.above_zero, metavar="H",
                        default=24.0, help="refuse longer recordings (default: 24)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no summary")
    group = parser.add_argument_group("segments (default: the model's own)")
    for name, text in _OPTIONS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=text)
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="M", help="a name or folder (default: the bundled one)")
    group.add_argument("--threads", type=common.positive, default=1, metavar="N",
                       help="threads of one computation (default: 1)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the segments, and say what failed."""
    from mynah.cli.transcribe import find_recordings
    from mynah.runtime.vad import load_vad

    if args.channel is not None and not args.channel.isdecimal():
        raise ConfigError(f"--channel: {args.channel!r} is not a number")
    vad = load_vad(args.model, threads=args.threads)
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    options = speech.changed(vad.options, given)
    names, failed = find_recordings(args.files)
    for line in failed:
        print(line, file=sys.stderr)
    start, seconds, done = time.perf_counter(), 0.0, 0
    if args.format == "tsv":
        print("recording\tstart\tend")
    for name in names:
        try:
            duration, spans = find(vad, name, options, args)
        except (InputError, MissingDependency) as error:
            if args.debug:
                raise
            line = str(error)
            failed.append(line if name == "-" or name in line else f"{name}: {line}")
            print(failed[-1], file=sys.stderr)
            continue
        print(render(name, duration, spans, args.format, len(names) > 1), end="", flush=True)
        if not spans:
            print(f"{name}: no speech", file=sys.stderr)
        seconds, done = seconds + duration, done + 1
    if done and not args.quiet:
        print(common.speed(seconds, time.perf_counter() - start), file=sys.stderr)
    return 2 if not done else 1 if failed else 0


def find(
    vad: Vad, name: str, options: SegmentOptions, args: argparse.Namespace
) -> tuple[float, list[tuple[float, float]]]:
    """The length of a recording and its segments, seconds; a part of it is in memory at a time.

    Raises:
        InputError: it cannot be read.
        MissingDependency: a library that its format needs is not installed.
    """
    import numpy as np

    from mynah.runtime.sound import sound_blocks
    from mynah.runtime.vad import SegmentStream

    channel: Any = "mix" if args.channel is None else int(args.channel)
    stream, spans, count = SegmentStream(vad, options), [], 0
    blocks = sound_blocks(
        name, vad.rate, channel=channel, max_seconds=args.max_hours * 3600, partial=args.partial
    )
    for block in blocks:
        count += len(block)
        spans += stream.feed(block)
    spans += stream.feed(np.zeros(0, np.float32), last=True)
    return count / vad.rate, spans


def render(
    name: str, duration: float, spans: list[tuple[float, float]], kind: str, several: bool
) -> str:
    """The segments of a recording as text."""
    import json

    if kind == "json":
        segments = [{"start": round(a, 3), "end": round(b, 3)} for a, b in spans]
        entry = {"recording": name, "duration": round(duration, 3), "segments": segments}
        return json.dumps(entry, ensure_ascii=False) + "\n"
    if kind == "tsv":
        return "".join(f"{name}\t{a:.3f}\t{b:.3f}\n" for a, b in spans)
    if kind == "rttm":  # fields are parted by spaces
        label = "_".join(name.split())
        fields = "<NA> <NA> speech <NA> <NA>"
        return "".join(f"SPEAKER {label} 1 {a:.3f} {b - a:.3f} {fields}\n" for a, b in spans)
    lines = [f"{a:9.3f} {b:9.3f}\n" for a, b in spans]
    if several:
        return f"{name}:\n" + "".join(f"  {line}" for line in lines)
    return "".join(lines)
