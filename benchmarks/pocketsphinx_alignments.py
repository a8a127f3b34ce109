"""A manifest with a column ``phones``: which phone sounds when, by pocketsphinx's forced alignment.

    python benchmarks/pocketsphinx_alignments.py MANIFEST OUT.tsv DICTIONARY [--only-aligned]

pocketsphinx finds where the known words are; the phones of a word share its time, vowels 1.4 times
as long as consonants. A cell reads ``sil 30 dh 5 ah 7``: units and frames of 10 ms, as
``data.alignment = "phones"`` of a recipe reads it. Recordings that cannot be aligned keep an empty
cell, or are left out. It is some hundred times faster than real time.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah import audio
from mynah.corpus import read_manifest
from mynah.corpus.samples import load
from mynah.text.pronounce import Phones, Pronouncer, learn_pronouncer
from mynah.text.scoring import normalize_for_scoring

RATE = 16000
VOWELS = frozenset(
    ("aa", "ae", "ah", "ao", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw")
)
PREFIX = "zq_"  # our words must not be those of pocketsphinx's own dictionary
MOST = 4  # pronunciations of a word


class Aligner:
    """A decoder that learns the words that it meets."""

    def __init__(self, say: Pronouncer) -> None:
        self.say = say
        self._renew()

    def _renew(self) -> None:
        from pocketsphinx import Decoder

        self.decoder = Decoder(
            loglevel="FATAL", samprate=RATE, lm=None, beam=1e-80, wbeam=1e-60, pbeam=1e-80,
            maxhmmpf=-1,
        )  # fmt: skip
        self.known: dict[str, tuple[Phones, ...]] = {}

    def __call__(self, sound: npt.NDArray[np.int16], text: str) -> str:
        """The cell of a recording, empty if its words cannot be found in it."""
        return " ".join(self._cell(name, n) for name, n in self.words(sound, text) if n > 0)

    def words(self, sound: npt.NDArray[np.int16], text: str) -> list[tuple[str, int]]:
        """Words (after ``PREFIX``) and pauses of a recording, one after the other, and how many
        frames of 10 ms each has; none if the words cannot be found in it."""
        words = normalize_for_scoring(text).split()
        if not all(self._learn(word) for word in words):
            return []
        try:
            self.decoder.set_align_text(" ".join(PREFIX + word for word in words))
            self.decoder.start_utt()
            self.decoder.process_raw(sound.tobytes(), full_utt=True)
            self.decoder.end_utt()
            found = [(s.word, s.end_frame - s.start_frame + 1) for s in self.decoder.seg()]
        except (RuntimeError, TypeError):  # no way through the words; it cannot be used again
            self._renew()
            return []
        return found if sum(n.startswith(PREFIX) for n, _ in found) == len(words) else []

    def _learn(self, word: str) -> bool:
        if word not in self.known:
            variants = self.say(word)[:MOST]
            for number, phones in enumerate(variants, 1):
                name = PREFIX + word if number == 1 else f"{PREFIX}{word}({number})"
                self.decoder.add_word(name, " ".join(phones).upper(), True)
            self.known[word] = variants
        return bool(self.known[word])

    def _cell(self, name: str, frames: int) -> str:
        if not name.startswith(PREFIX):
            return f"sil {frames}"
        word, _, number = name.removeprefix(PREFIX).partition("(")
        phones = self.known[word][int(number[:-1]) - 1 if number else 0]
        shares = np.cumsum([1.4 if phone in VOWELS else 1.0 for phone in phones])
        ends = np.round(frames * shares / shares[-1]).astype(int)
        lengths = np.diff(ends, prepend=0)
        return " ".join(f"{p} {n}" for p, n in zip(phones, lengths, strict=True) if n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="beside the manifest: paths are kept as they are")
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("--only-aligned", action="store_true", help="leave the others out")
    args = parser.parse_args()
    with args.manifest.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(
            csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        )
    cuts = {cut.id: cut for cut in read_manifest(str(args.manifest))}
    align = Aligner(learn_pronouncer(args.dictionary))
    lines, aligned = ["\t".join([*rows[0], "phones"])], 0
    for number, row in enumerate(rows, 1):
        cut, cell = cuts.get(row["id"]), ""
        if cut is not None and cut.text.strip():
            samples = load(cut, audio.read, rate=RATE)
            sound = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
            cell = align(sound, cut.text)
        aligned += bool(cell)
        if cell or not args.only_aligned:
            lines.append("\t".join([*row.values(), cell]))
        if number % 200 == 0:
            print(f"{number} of {len(rows)}, {aligned} aligned", file=sys.stderr)
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{args.out}: {aligned} of {len(rows)} aligned")


if __name__ == "__main__":
    main()
