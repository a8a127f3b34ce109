"""n-gram models of English: training, size, perplexity, and scoring beside kenlm.

    OMP_NUM_THREADS=1 python benchmarks/ngram.py ../shared/text/english.txt.xz

The text has a sentence a line, and a line ``# title`` before each book; it is normalised as for
scoring. Every 37th book is held out whole, and perplexities are on those. Training runs by itself
in a process of its own, under two limits of memory; kenlm's package has no trainer, so it has no
peer. Scores are compared on one ARPA file (kenlm's package has no binaries to build its own format
with), one word at a time as a search asks for them, and whole sentences; all on one thread, the
calls taking turns.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import json
import lzma
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from mynah.decoding.ngram import NgramModel, Trie, load_ngram, load_trie, save_ngram
from mynah.decoding.ngram.prune import prune
from mynah.decoding.ngram.train import TrainOptions, scratch_for, train
from mynah.text import normalize_for_scoring

THRESHOLDS = (0.0, 1e-8, 3e-8, 1e-7, 3e-7)

_CHILD = """
import json, resource, sys, time
from mynah.decoding.ngram.train import TrainOptions, scratch_for, train
path, order, vocab, memory = sys.argv[1], *map(int, sys.argv[2:])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
options = TrainOptions(order=order, limit=vocab, memory=memory << 20)
start, cpu = time.perf_counter(), time.process_time()
with scratch_for(options) as scratch, open(path, encoding="utf-8") as text:
    done = train(text, options, scratch)
    print(json.dumps({
        "tokens": done.tokens, "counts": done.trie.counts, "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu, "spilled": scratch.spilled, "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }))
"""


def report(name: str, ours: float, peer: float | None = None, *, faster: bool = True) -> None:
    """A figure as a JSON line; ``faster``: more is better."""
    ratio = None
    if peer:
        ratio = round(ours / peer if faster else peer / ours, 2)
    print(json.dumps({"name": name, "ours": round(ours, 4), "peer": peer, "ratio": ratio}))


def split_books(path: Path, folder: Path, most: int) -> tuple[Path, Path, list[str]]:
    """Normalised training and held-out text, and titles held out, of ``most`` lines."""
    training, held = folder / "training.txt", folder / "held.txt"
    titles: list[str] = []
    book = -1
    start = time.perf_counter()
    with (
        lzma.open(path, "rt", encoding="utf-8") as lines,
        training.open("w", encoding="utf-8") as rest,
        held.open("w", encoding="utf-8") as out,
    ):
        for line in itertools.islice(lines, most or None):
            if line.startswith("# "):
                book += 1
                if book % 37 == 17:
                    titles.append(line[2:].strip())
            elif text := normalize_for_scoring(line):
                (out if book % 37 == 17 else rest).write(text + "\n")
    print(f"held out, {len(titles)} of {book + 1}: {'; '.join(titles)}")
    print(f"normalised in {time.perf_counter() - start:.0f} s")
    return training, held, titles


def time_training(text: Path, order: int, vocab: int) -> None:
    """Tokens a second and peak memory, in a process of its own."""
    print(f"\ntraining, order {order}")
    for memory in (256, 2048):
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(text), str(order), str(vocab), str(memory)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        speed = found["tokens"] / found["cpu"]
        print(
            f"  --memory {memory}M: {found['tokens']} tokens, {found['counts']} n-grams, "
            f"{found['wall']:.1f} s ({found['cpu']:.1f} of CPU), peak {found['peak'] >> 10} MB "
            f"({found['before'] >> 10} before; mapped files count), "
            f"{found['spilled'] >> 20} MB in files"
        )
        report(f"lm train, order {order}, --memory {memory}M, tokens a CPU second", round(speed))


def sentences(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text("utf-8").splitlines()]


def perplexity(model: NgramModel, texts: list[list[str]]) -> tuple[float, float]:
    """Perplexity with sentence ends, and the share of unknown words; those count as ``<unk>``."""
    rows = [[*map(model.word_id, words), model.eos] for words in texts]
    ids = np.array([i for row in rows for i in row])
    scores = model.score_ids(ids, [len(row) for row in rows])
    return math.exp(-scores.mean()), float((ids == model.unk).sum()) / (len(ids) - len(rows))


def prunings(text: Path, order: int, vocab: int, held: list[list[str]], folder: Path) -> None:
    """Size and perplexity at several thresholds."""
    options = TrainOptions(order=order, limit=vocab, memory=4 << 30)
    print("\n threshold   n-grams       MB  bytes each  perplexity  in 8 bits  load, s")
    with scratch_for(options) as scratch, text.open(encoding="utf-8") as lines:
        done = train(lines, options, scratch)
        for threshold in THRESHOLDS:
            trie = done.trie
            if threshold:
                trie = prune(trie, threshold, history=done.estimate.history)
            file = folder / f"{threshold}.ngram"
            save_ngram(trie, file)
            start = time.perf_counter()
            model = load_ngram(file)
            took = time.perf_counter() - start
            exact, unknown = perplexity(NgramModel(trie), held)
            size, total = file.stat().st_size, sum(trie.counts)
            print(
                f"  {threshold:8.0e} {total:9d} {size / 1e6:8.2f} {size / total:11.2f} "
                f"{exact:11.2f} {perplexity(model, held)[0]:10.2f} {took:8.2f}"
            )
        print(f"  unknown words: {100 * unknown:.2f} %")
        by_chain = prune(done.trie, 1e-7)
        found = perplexity(NgramModel(by_chain), held)[0]
        print(f"  1e-7 without counts of contexts: {sum(by_chain.counts)} n-grams, {found:.2f}")


def alternate(calls: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The best seconds of each call, the calls taking turns."""
    best = dict.fromkeys(calls, math.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            gc.collect()
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def word_by_word(model: NgramModel, texts: list[list[int]]) -> float:
    total = 0.0
    for ids in texts:
        state = model.start()
        for word in ids:
            state, score = model.score(state, word)
            total += score
        total += model.end(state)
    return total


def kenlm_word_by_word(module: Any, model: Any, texts: list[list[str]]) -> float:
    total = 0.0
    state, after = module.State(), module.State()
    for words in texts:
        model.BeginSentenceWrite(state)
        for word in words:
            total += model.BaseScore(state, word, after)
            state, after = after, state
        total += model.BaseScore(state, "</s>", after)
    return total * math.log(10)


def compare_scoring(trie: Trie, held: list[list[str]], folder: Path, repeats: int) -> None:
    """Scores a second, ours and kenlm's."""
    if importlib.util.find_spec("kenlm") is None:
        print("kenlm is not installed (pip install kenlm): scoring is not compared")
        return
    import kenlm

    save_ngram(trie, folder / "model.arpa")
    save_ngram(trie, folder / "model.ngram")
    start = time.perf_counter()
    peer = kenlm.Model(str(folder / "model.arpa"))
    peer_load = time.perf_counter() - start
    start = time.perf_counter()
    quantised = load_ngram(folder / "model.ngram")
    load = time.perf_counter() - start
    exact = NgramModel(trie)
    random.Random(1).shuffle(held)
    texts = held[:4000]
    ids = [[exact.word_id(word) for word in words] for words in texts]
    joined = [" ".join(words) for words in texts]
    count = sum(map(len, texts)) + len(texts)
    flat = np.array([i for row in ids for i in (*row, exact.eos)])
    lengths = [len(row) + 1 for row in ids]
    ours, theirs = word_by_word(exact, ids), kenlm_word_by_word(kenlm, peer, texts)
    print(f"\nscoring {count} words; log P {ours:.3f} ours, {theirs:.3f} kenlm's")
    assert abs(ours - theirs) < 1e-4 * count
    times = alternate(
        {
            "ours, first time": lambda: word_by_word(NgramModel(trie), ids),
            "ours, remembered": lambda: word_by_word(exact, ids),
            "ours, quantised, remembered": lambda: word_by_word(quantised, ids),
            "kenlm, word by word": lambda: kenlm_word_by_word(kenlm, peer, texts),
            "ours, whole text": lambda: float(exact.score_ids(flat, lengths).sum()),
            "kenlm, sentences": lambda: sum(map(peer.score, joined)),
        },
        repeats,
    )
    start = time.process_time()
    NgramModel(trie)
    times["ours, first time"] -= time.process_time() - start  # its making is not scoring
    for name, took in times.items():
        print(f"  {name:28} {count / took / 1e3:8.0f} k scores/s")
    pairs = [
        ("word by word, first time", "ours, first time", "kenlm, word by word"),
        ("word by word, remembered", "ours, remembered", "kenlm, word by word"),
        ("whole text", "ours, whole text", "kenlm, sentences"),
    ]
    for name, a, b in pairs:
        report(f"n-gram scores/s, {name}; peer kenlm", round(count / times[a]),
               round(count / times[b]))  # fmt: skip
    report("load, s (ours .ngram, kenlm ARPA)", load, round(peer_load, 4), faster=False)
    file, text = folder / "model.ngram", folder / "model.arpa"
    print(f"  {file.stat().st_size / 1e6:.2f} MB; as ARPA {text.stat().st_size / 1e6:.2f} MB")


def batches(held: list[list[str]], model: NgramModel) -> Iterator[tuple[Any, Any]]:
    """States of a text, each with words that a search may ask for."""
    rng = np.random.default_rng(0)
    for words in held[:300]:
        state = model.start()
        for word in words:
            yield state, rng.integers(0, len(model.vocab), 64)
            state, _ = model.score(state, model.word_id(word))


def time_batches(model: NgramModel, held: list[list[str]]) -> None:
    """Many words of one state at a time, as a look-ahead asks for them."""
    work = list(batches(held, model))
    start = time.process_time()
    for state, words in work:
        model.score_many(state, words)
    took = time.process_time() - start
    print(f"  score_many, 64 words a state: {64 * len(work) / took / 1e3:.0f} k scores/s")


def main() -> None:
    parser = argparse.ArgumentParser(description="n-gram models of a text")
    parser.add_argument("text", type=Path, help="sentences, with '# title' lines, .xz")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--vocab", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=0, help="of the text that are used (0: all)")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, held_out, _ = split_books(arguments.text, folder, arguments.lines)
        held = sentences(held_out)
        for order in sorted({arguments.order, 5}):
            time_training(text, order, arguments.vocab)
        prunings(text, arguments.order, arguments.vocab, held, folder)
        trie = load_trie(folder / "1e-07.ngram")
        compare_scoring(trie, held, folder, arguments.repeats)
        time_batches(NgramModel(trie), held)


if __name__ == "__main__":
    main()
