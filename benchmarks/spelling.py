"""How well words outside a dictionary are written from their phones, and said from their letters.

    python benchmarks/spelling.py cmudict.dict.xz [--every 32] [--limit 4000]

Every so-manieth word is held out; a model of graphones is made from the rest as `mynah data
graphones` and `mynah lm train` do, pruned as the bundled one is. A word is right when it is
written as the dictionary has it; where several words sound alike, any of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from mynah.decoding.ngram import load_ngram, save_ngram
from mynah.decoding.ngram.train import TrainOptions, scratch_for, train
from mynah.evaluation import count_edits
from mynah.runtime.spelling import Speller
from mynah.text.graphones import graphones
from mynah.text.pronounce import learn_letters, read_dictionary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary")
    parser.add_argument("--every", type=int, default=32)
    parser.add_argument("--limit", type=int, default=4000, help="held-out words measured")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--prune", type=float, default=2e-6)
    args = parser.parse_args()
    words = {w: v for w, v in read_dictionary(args.dictionary).items() if w.isalpha()}
    held = set(sorted(words)[:: args.every])
    pairs = [(w, p) for w, v in sorted(words.items()) if w not in held for p in v]
    options = TrainOptions(order=args.order, prune=args.prune)
    with tempfile.TemporaryDirectory() as folder, scratch_for(options) as scratch:
        done = train((" ".join(names) for _, names in graphones(pairs)), options, scratch)
        path = Path(folder) / "spelling.ngram"
        save_ngram(done.trie, path)
        size, speller = path.stat().st_size, Speller(load_ngram(path))
    alike = defaultdict(set)
    for word, variants in words.items():
        for phones in variants:
            alike[phones].add(word)
    chosen = sorted(held)[: args.limit]
    wrong = total = exact = among = 0
    start = time.process_time()
    for word in chosen:
        phones = words[word][0]
        found = [spelling.letters for spelling in speller(phones)] or [""]
        wrong += int(count_edits([(word, found[0])]).sum())
        total += len(word)
        exact += found[0] in alike[phones]
        among += bool(alike[phones].intersection(found[:5]))
    took = time.process_time() - start
    heard = phones_wrong = phones_total = 0
    letters = learn_letters({word: v for word, v in words.items() if word not in held})
    for word in chosen:
        found = letters(word)
        edits = [int(count_edits([(phones, found)]).sum()) for phones in words[word]]
        best = min(range(len(edits)), key=edits.__getitem__)
        phones_wrong += edits[best]
        phones_total += len(words[word][best])
        heard += edits[best] == 0
    figures = {
        "letter errors, %": 100 * wrong / total,
        "words written right, %": 100 * exact / len(chosen),
        "words right among the first five, %": 100 * among / len(chosen),
        "letters to sounds: phone errors, %": 100 * phones_wrong / phones_total,
        "letters to sounds: words right, %": 100 * heard / len(chosen),
        "milliseconds a word": 1000 * took / len(chosen),
        "size of the model, MB": size / 1e6,
    }
    for name, value in figures.items():
        print(f"{name:<40} {value:8.2f}")
        print(json.dumps({"name": f"spelling: {name}", "ours": round(value, 4)}))


if __name__ == "__main__":
    main()
