"""Native readers' speech with known words out of two-speaker mixtures: where one is alone.

    python benchmarks/native_stretches.py DATA/libri2mix_32 OUT/native DICTIONARY

pocketsphinx aligns each speaker's known words with the mixture; kept are the runs of three words
and more that lie where the other speaker is silent, without the word at the border. DICTIONARY is
one as CMUdict has it. The result is a set of its own: ``audio/*.wav`` and ``manifest.tsv``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from mynah import audio
from mynah.text.pronounce import Pronouncer, learn_pronouncer

RATE = 16000
MARGIN = 0.15  # seconds kept around the words, where there are so many
SHORTEST, FEWEST = 1.5, 3  # seconds alone, words


class Word(NamedTuple):
    """A word of the alignment, in seconds of the recording."""

    text: str
    start: float
    end: float


def aligned(
    sound: npt.NDArray[np.int16], turn: dict[str, Any], say: Pronouncer
) -> list[Word] | None:
    """The words of a turn where they were heard, or None where they cannot be found."""
    from pocketsphinx import Decoder

    words = turn["words"].split()
    decoder = Decoder(loglevel="FATAL", samprate=RATE)
    for word in sorted(set(words)):
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, " ".join(say(word)[0]).upper(), True)
    first, last = (int(turn[key] * RATE) for key in ("start_time", "end_time"))
    try:
        decoder.set_align_text(turn["words"])
        decoder.start_utt()
        decoder.process_raw(sound[first:last].tobytes(), full_utt=True)
        decoder.end_utt()
        heard = [s for s in decoder.seg() if s.word[0] not in "<[("]
    except (RuntimeError, TypeError):  # no way through the words
        return None
    if [s.word.partition("(")[0] for s in heard] != words:
        return None
    begin = turn["start_time"]
    return [
        Word(word, begin + s.start_frame / 100, begin + (s.end_frame + 1) / 100)
        for word, s in zip(words, heard, strict=True)
    ]


def alone(turn: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """Where a speaker speaks and the other does not, in seconds."""
    if turn["start_time"] < other["start_time"]:
        yield turn["start_time"], min(turn["end_time"], other["start_time"])
    if turn["end_time"] > other["end_time"]:
        yield max(turn["start_time"], other["end_time"]), turn["end_time"]


def stretches(
    words: list[Word], turn: dict[str, Any], other: dict[str, Any]
) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of what a speaker says alone."""
    for low, high in alone(turn, other):
        inside = [i for i, w in enumerate(words) if w.start >= low - 1e-6 and w.end <= high + 1e-6]
        if low > turn["start_time"]:
            inside = inside[1:]
        if high < turn["end_time"]:
            inside = inside[:-1]
        if high - low <= SHORTEST or len(inside) < FEWEST:
            continue
        first, last = inside[0], inside[-1]
        before = words[first - 1].end if first else turn["start_time"]
        after = words[last + 1].start if last + 1 < len(words) else turn["end_time"]
        start = max(low, words[first].start - MARGIN, min(before, words[first].start))
        end = min(high, words[last].end + MARGIN, max(after, words[last].end))
        yield start, end, " ".join(w.text for w in words[first : last + 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mixtures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("dictionary", type=Path)
    args = parser.parse_args()
    say = learn_pronouncer(args.dictionary)
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    rows = ["id\tpath\tspeaker\tduration\ttext\tsplit"]
    for turns_file in sorted((args.mixtures / "seglst").glob("*.json")):
        name = turns_file.name.partition(".")[0]
        mixture = audio.read(args.mixtures / "audio" / f"{name}.opus", rate=RATE).samples
        sound = np.clip(mixture * 32768.0, -32768, 32767).astype(np.int16)
        turns = json.loads(turns_file.read_text("utf-8"))
        for turn, other in (turns, turns[::-1]):
            words = aligned(sound, turn, say)
            for start, end, text in stretches(words, turn, other) if words else ():
                key = f"{name}_{turn['speaker']}_{len(rows) - 1}"
                part = sound[int(start * RATE) : int(end * RATE)]
                soundfile.write(str(args.out / "audio" / f"{key}.wav"), part, RATE)
                fields = (key, f"audio/{key}.wav", turn["speaker"], f"{end - start:.3f}", text)
                rows.append("\t".join((*fields, "dev")))
    (args.out / "manifest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{args.out}: {len(rows) - 1} stretches")


if __name__ == "__main__":
    main()
