"""A manifest whose texts are what pocketsphinx hears, with a lexicon and language model of mynah's.

    python benchmarks/pocketsphinx_labels.py MANIFEST OUT.tsv lexicon.tsv en3.arpa.gz

Labels by another recogniser are worth having beside those of ``mynah data label``: their errors are
others. ``lexicon.tsv`` is by ``mynah data pronounce``, the n-gram model by ``mynah lm train --out
en3.arpa.gz``. A run that was stopped goes on. It takes a sixth of the time of the recordings.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mynah import audio
from mynah.corpus import read_manifest
from mynah.corpus.samples import load

RATE = 16000
LEAST = 1.2  # words a second; less is not worth training on


def dictionary(lexicon: Path, out: Path) -> None:
    """The lexicon as pocketsphinx reads it: further pronunciations of a word are numbered."""
    seen: dict[str, int] = {}
    with lexicon.open(encoding="utf-8") as lines, out.open("w", encoding="utf-8") as file:
        for line in lines:
            word, phones = line.rstrip("\n").split("\t")
            seen[word] = seen.get(word, 0) + 1
            name = word if seen[word] == 1 else f"{word}({seen[word]})"
            file.write(f"{name} {phones.upper()}\n")


def decoder(lexicon: Path, arpa: Path, scratch: Path) -> Any:
    """A pocketsphinx decoder with wide beams."""
    from pocketsphinx import Decoder

    words, plain = scratch / "words.dict", scratch / "words.arpa"
    dictionary(lexicon, words)
    reader = gzip.open if arpa.suffix == ".gz" else open
    with reader(arpa, "rb") as source, plain.open("wb") as target:
        shutil.copyfileobj(source, target)
    return Decoder(
        loglevel="FATAL", samprate=RATE, lm=str(plain), dict=str(words), lw=8.0, maxhmmpf=6000,
        maxwpf=10, fwdflat=True, bestpath=True, beam=1e-50, wbeam=1e-30, pbeam=1e-50,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="beside the manifest: paths are kept as they are")
    parser.add_argument("lexicon", type=Path)
    parser.add_argument("arpa", type=Path)
    args = parser.parse_args()
    with args.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    cuts = {cut.id: cut for cut in read_manifest(str(args.manifest))}
    part = args.out.with_name(f".{args.out.name}.part")
    texts = dict(line.split("\t", 1) for line in _lines(part) if "\t" in line)
    with tempfile.TemporaryDirectory() as scratch, part.open("a", encoding="utf-8") as kept:
        decode = decoder(args.lexicon, args.arpa, Path(scratch))
        for number, row in enumerate(rows, 1):
            if row["id"] not in texts:
                samples = load(cuts[row["id"]], audio.read, rate=RATE)
                sound = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
                decode.start_utt()
                decode.process_raw(sound.tobytes(), full_utt=True)
                decode.end_utt()
                found = decode.hyp()
                texts[row["id"]] = found.hypstr if found else ""
                kept.write(f"{row['id']}\t{texts[row['id']]}\n")
                kept.flush()
            if number % 20 == 0:
                print(f"{number} of {len(rows)}", file=sys.stderr)
    lines = ["\t".join(rows[0])]
    for row in rows:
        row["text"] = texts[row["id"]]
        if len(row["text"].split()) >= LEAST * float(row["duration"]):
            lines.append("\t".join(row.values()))
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.unlink()
    print(f"{args.out}: {len(lines) - 1} of {len(rows)}")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
