"""Word errors on the test texts that no language model of the bundled recogniser has learnt from.

    python benchmarks/unseen_texts.py DATA WORK ENGLISH

WORK is that of `benchmarks/figures.py DATA WORK`, ENGLISH the prose (`english.txt.xz`). Texts
that training speakers of speechocean762 read, too, and those that are whole lines of the prose are
left out.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import figures

from mynah.corpus import read_manifest


def plain(text: str) -> str:
    """Lower-case words alone."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("english", type=Path)
    args = parser.parse_args()
    cuts = list(read_manifest(str(args.data / "speechocean762" / "manifest.tsv")))
    test = [plain(cut.text or "") for cut in cuts if cut.columns["split"] == "test"]
    others = [cut for cut in cuts if cut.columns["split"] == "train"]
    read = {plain(cut.text or "") for cut in others if cut.speaker not in figures.DEVELOPMENT}
    wanted, prose = set(test), set()
    with lzma.open(args.english, "rt", encoding="utf-8") as lines:
        for line in lines:
            if (text := plain(line)) in wanted:
                prose.add(text)
    print(
        f"{len(test)} texts, {sum(text in read for text in test)} read by training speakers, "
        f"{sum(text in prose for text in test)} lines of the prose"
    )
    for name in figures.SETS:
        for way in figures.WAYS if "test" in name else ():
            found = figures.heard(args.work / f"{figures.slug(name, way)}.jsonl")
            kept = [line for line in found if plain(line["text"]) not in read | prose]
            rate = figures.rate_of(kept).total.rate
            print(f"{name}, {way}: {len(kept)} of {len(found)}, {100 * rate:.1f} % word errors")
            print(json.dumps({"name": f"word errors, unseen texts, {name}, {way}",
                              "ours": round(rate, 4)}))  # fmt: skip


if __name__ == "__main__":
    main()
