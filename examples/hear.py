"""Recordings to text in a few lines: offline, then as a live stream.

python examples/hear.py RECORDING ...
"""

from __future__ import annotations

import sys
import time

import mynah
from mynah.audio import read


def main(paths: list[str]) -> int:
    """Transcribe each recording twice and say how fast it was."""
    recogniser = mynah.load()
    for path in paths:
        try:
            sound = read(path, rate=recogniser.sample_rate)
        except mynah.MynahError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"\n{path}  ({sound.seconds:.1f} s)")
        offline(recogniser, sound.samples)
        live(recogniser, sound.samples)
    return 0


def offline(recogniser: mynah.Recognizer, samples) -> None:  # type: ignore[no-untyped-def]
    """The whole recording at once, with a time for each word."""
    start = time.perf_counter()
    result = recogniser.transcribe(samples)
    took = time.perf_counter() - start
    print(f"  offline  {result.text or '(no speech)'}")
    for word in result.words:
        print(f"           {word.start:6.2f} - {word.end:5.2f}  {word.text}")
    print(f"           {took:.2f} s, {result.duration / took:.0f} times faster than real time")


def live(recogniser: mynah.Recognizer, samples) -> None:  # type: ignore[no-untyped-def]
    """The same as it would come from a microphone, a tenth of a second at a time."""
    block, spent, shown = recogniser.sample_rate // 10, 0.0, ""
    session = recogniser.stream()
    for first in range(0, len(samples), block):
        start = time.perf_counter()
        events = session.feed(samples[first : first + block])
        spent += time.perf_counter() - start
        for event in events:
            if event.text and event.text != shown:
                shown = event.text
                print(f"  {(first + block) / recogniser.sample_rate:5.1f} s  {shown}")
    start = time.perf_counter()
    result = session.finish()
    spent += time.perf_counter() - start
    print(f"  live     {result.text or '(no speech)'}")
    print(f"           {spent:.2f} s of work, {result.duration / spent:.0f} times real time")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
