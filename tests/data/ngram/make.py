"""Makes tiny.arpa, and tiny.kenlm.json: what kenlm, another program, gives its sentences.

python tests/data/ngram/make.py      (kenlm has no wheel: it needs a compiler)
"""

from __future__ import annotations

import importlib.metadata
import json
import random
from pathlib import Path

import kenlm

from mynah.decoding.ngram import save_ngram
from mynah.decoding.ngram.train import TrainOptions, scratch_for, train

WORDS = ["birds", "come", "back", "when", "the", "sun", "is", "out", "and", "rain", "stays", "away"]
FOLDER = Path(__file__).parent


def main() -> None:
    """Write both files."""
    rng = random.Random(11)
    weights = range(len(WORDS), 0, -1)
    texts = [" ".join(rng.choices(WORDS, weights, k=rng.randrange(2, 9))) for _ in range(150)]
    options = TrainOptions(order=3, prune=2e-3)
    arpa = FOLDER / "tiny.arpa"
    with scratch_for(options) as scratch:
        save_ngram(train(texts, options, scratch).trie, arpa)
    model = kenlm.Model(str(arpa))
    rows = []
    for _ in range(40):
        text = " ".join(rng.choices([*WORDS, "snow", "<unk>"], k=rng.randrange(9)))
        row = {
            "text": text,
            "words": [round(score, 6) for score, _, _ in model.full_scores(text)],
            "without_start": round(model.score(text, bos=False, eos=True), 6),
            "without_end": round(model.score(text, bos=True, eos=False), 6),
        }
        rows.append("    " + json.dumps(row))
    what = f"log10 by kenlm {importlib.metadata.version('kenlm')}; words: each, and the end"
    text = f'{{"what": {json.dumps(what)},\n  "sentences": [\n' + ",\n".join(rows) + "\n]}\n"
    (FOLDER / "tiny.kenlm.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
