"""Live words from the microphone or from raw PCM.

Reads the microphone, or raw signed 16-bit little-endian samples from standard input when that is
not a terminal and no --microphone is named, or with --pcm. Words appear as they are heard and are
printed for good when a pause comes; Ctrl-C ends.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from mynah.cli import common, company
from mynah.errors import InputError, MissingDependency

if TYPE_CHECKING:
    from mynah.runtime.session import Event

BLOCK = 0.1  # seconds read at once
RULES = (
    common.HOTWORDS,
    company.unless(["microphone"], "pcm"),
    company.Rule(("words",), lambda args: not args.json, "JSON has the words already"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the sound comes from, and what is shown."""
    parser.add_argument("--pcm", action="store_true", help="raw 16-bit samples on standard input")
    parser.add_argument("--rate", type=common.positive, default=16000, metavar="HZ",
                        help="samples a second (default: 16000)")  # fmt: skip
    parser.add_argument("--channels", type=common.within(1, 64), default=1, metavar="N",
                        help="interleaved channels, which are mixed (default: 1)")  # fmt: skip
    parser.add_argument("--microphone", metavar="NAME", help="number or part of the name of one")
    parser.add_argument("--words", action="store_true", help="a line a word, with times")
    parser.add_argument("--json", action="store_true", help="a line of JSON an event")
    parser.add_argument("--chunk", type=common.positive, metavar="N",
                        help="encoder frames computed at once (default: the model's)")  # fmt: skip
    common.add_endpoint_arguments(parser)
    common.add_model_arguments(parser)
    common.add_decoding_arguments(parser)
    common.add_text_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Listen until the sound ends or Ctrl-C."""
    import numpy as np

    company.refuse(args, RULES)
    recognizer = common.choice(args, threads=1).load()
    request = common.request(args, recognizer)
    session = recognizer.stream(request, rate=args.rate, chunk=args.chunk, keep=False)
    if args.pcm and sys.stdin is None:
        raise InputError("standard input: is closed")
    piped = sys.stdin is not None and not sys.stdin.isatty()
    if args.pcm or (args.microphone is None and piped):
        source = pcm_blocks(sys.stdin.fileno(), args.rate, args.channels)
    else:
        source = microphone_blocks(args.rate, args.channels, args.microphone)
    with _shown(args) as show:
        try:
            for samples in source:
                show(session.feed(samples))
        except KeyboardInterrupt:
            pass
        finally:  # what was heard is shown even when the source fails
            source.close()
            show(session.feed(np.zeros(0, np.float32), last=True))
    return 0


def pcm_blocks(descriptor: int, rate: int, channels: int) -> Generator[Any]:
    """Samples (channels, S) int16 as they arrive on a file descriptor.

    Raises:
        InputError: the bytes end within a sample.
    """
    import numpy as np

    size = 2 * channels
    rest = b""
    while data := os.read(descriptor, max(int(rate * BLOCK), 1) * size):
        data = rest + data
        whole = len(data) - len(data) % size
        rest = data[whole:]
        if whole:
            yield np.frombuffer(data[:whole], "<i2").astype(np.int16).reshape(-1, channels).T
    if rest:
        raise InputError(f"standard input: {len(rest)} bytes are left over; raw 16-bit PCM?")


def microphone_blocks(rate: int, channels: int, name: str | None) -> Generator[Any]:
    """Samples (channels, S) int16 from a microphone, until the caller stops.

    Raises:
        MissingDependency: sounddevice is not installed.
        InputError: there is no such microphone, or it does not work.
    """
    import queue

    try:
        import sounddevice
    except ImportError:
        raise MissingDependency("sounddevice", extra="mic") from None
    except OSError as error:  # its PortAudio library
        raise InputError(f"microphone: {error}") from None
    blocks: queue.Queue[Any] = queue.Queue()
    device: int | str | None = int(name) if name is not None and name.isdecimal() else name
    try:
        stream = sounddevice.InputStream(
            rate,
            int(rate * BLOCK),
            device,
            channels,
            "int16",
            callback=lambda data, frames, time, status: blocks.put(data.T.copy()),
        )
        with stream:
            while True:
                yield blocks.get()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(f"microphone: {error}") from None


class _shown:
    """How events are shown: JSON lines, plain lines, or live in the terminal."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._live: Any = None

    def __enter__(self) -> Callable[[list[Event]], None]:
        if self._args.json:
            return self._json
        if not sys.stdout.isatty():
            return self._lines
        from rich.console import Console
        from rich.live import Live

        print("listening; Ctrl-C ends", file=sys.stderr)
        self._live = Live(console=Console(), auto_refresh=False, transient=True)
        self._live.start()
        return self._terminal

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _json(self, events: list[Event]) -> None:
        for event in events:
            print(json.dumps(event_dict(event), ensure_ascii=False), flush=True)

    def _final(self, event: Event) -> list[str]:
        if self._args.words:
            return [f"{word.start:8.2f} {word.end:8.2f}  {word.text}" for word in event.words]
        return [event.text]

    def _lines(self, events: list[Event]) -> None:
        from mynah.runtime.session import Final

        for event in events:
            if isinstance(event, Final):
                print("\n".join(self._final(event)), flush=True)

    def _terminal(self, events: list[Event]) -> None:
        from rich.text import Text

        from mynah.runtime.session import Final, Partial

        for event in events:
            if isinstance(event, Partial):
                self._live.update(Text(event.text, style="dim"), refresh=True)
            elif isinstance(event, Final):
                self._live.update(Text(""), refresh=True)
                self._live.console.print(Text("\n".join(self._final(event))), soft_wrap=True)


def event_dict(event: Event) -> dict[str, Any]:
    """An event as a JSON object."""
    from mynah.runtime.session import Endpoint, Final

    if isinstance(event, Endpoint):
        return {"event": "endpoint", "time": round(event.time, 4), "reason": event.reason}
    return {
        "event": "final" if isinstance(event, Final) else "partial",
        "text": event.text,
        "words": [
            {"text": word.text, "start": round(word.start, 4), "end": round(word.end, 4)}
            for word in event.words
        ],
    }
