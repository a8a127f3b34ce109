"""Prefix beam search with a 3-gram of units on 10 s of speech: ours and flashlight-text with kenlm.

    OMP_NUM_THREADS=1 python benchmarks/fusion.py

The data are those of ``benchmarks/search.py`` (250 frames, 5000 units, one thread, beam 10), the
3-gram is counted from made-up text over the same units (see ``write_arpa``), and both read the same
ARPA file. The calls take turns; shown are medians of the thread's CPU time. Ours is shown without a
language model, too, and with a model of words: pieces of the units are then put together to words.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from search import collapse, make_log_probs, medians, ours

from mynah.decoding import PrefixBeamSearch, fuse
from mynah.decoding.ngram import load_ngram
from mynah.decoding.options import LmLevel

WEIGHT, BONUS = 0.3, 0.0
KINDS = ("speech", "hard", "flat")
Log = npt.NDArray[np.float32]


class Units:
    """Units 1 .. 4999 beside the blank: every third begins a word."""

    def __init__(self, vocab: int) -> None:
        names = [("▁" if n % 3 == 0 else "") + f"u{n}" for n in range(1, vocab)]
        self.units = ("<blank>", *names)
        self.blank, self.unk, self.sos, self.eos = 0, -1, 0, 0
        self.config = SimpleNamespace(kind="bpe")

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError("texts are not cut here")


def write_arpa(path: Path, words: list[str], *, length: int = 400_000, seed: int = 2) -> None:
    """A 3-gram of relative frequencies in a text of frequent and rare words (Zipf), each of which
    prefers some followers; back-off weights are constant, which changes nothing of the work."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, len(words) + 1)
    order = rng.permutation(len(words))
    drawn = order[rng.choice(len(words), length, p=frequency / frequency.sum())]
    follow = rng.random(length) < 0.5
    for i in range(1, length):
        if follow[i]:
            drawn[i] = (drawn[i - 1] * 31 + int(drawn[i]) % 7) % len(words)
    text = [words[n] for n in drawn.tolist()]
    tables = [Counter(zip(*(text[k:] for k in range(n)), strict=False)) for n in (1, 2, 3)]
    for word in words:
        tables[0][word,] += 1
    lines = ["\\data\\", *(f"ngram {n}={len(t)}" for n, t in enumerate(tables, 1)), ""]
    lines[1] = f"ngram 1={len(tables[0]) + 3}"
    total = sum(tables[0].values())
    for n, table in enumerate(tables, 1):
        lines.append(f"\\{n}-grams:")
        if n == 1:
            lines += ["-5\t<unk>", "-99\t<s>\t-0.3", "-2\t</s>"]
        for gram, count in table.items():
            of = total if n == 1 else tables[n - 2][gram[:-1]]
            backoff = "" if n == 3 else "\t-0.3"
            lines.append(f"{math.log10(0.7 * count / of):.5f}\t{' '.join(gram)}{backoff}")
        lines.append("")
    path.write_text("\n".join([*lines, "\\end\\", ""]), encoding="utf-8")


def fused(log_probs: Log, arpa: Path, level: LmLevel) -> Callable[[], tuple[int, ...]]:
    units = Units(log_probs.shape[1])
    model = load_ngram(arpa)
    scorer = fuse(
        model, units, weight=WEIGHT, bonus=BONUS, level="unit" if level == "unit" else "word"
    )
    search = PrefixBeamSearch(scorers=(scorer,))
    return lambda: search.nbest(search.advance(search.start(), log_probs))[0].tokens


def flashlight(log_probs: Log, arpa: Path) -> Callable[[], tuple[int, ...]]:
    """flashlight-text without a lexicon, kenlm's 3-gram over the units, adding paths as we do."""
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconFreeDecoder,
        LexiconFreeDecoderOptions,
    )
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    units = Dictionary()
    for unit in Units(log_probs.shape[1]).units:
        units.add_entry(unit)
    options = LexiconFreeDecoderOptions(
        beam_size=10,
        beam_size_token=10,
        beam_threshold=1e9,
        lm_weight=WEIGHT * math.log(10),  # kenlm's logarithms are of base 10
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    decoder = LexiconFreeDecoder(options, KenLM(str(arpa), units), -1, 0, [])
    address, (frames, vocab) = log_probs.ctypes.data, log_probs.shape
    return lambda: collapse(list(decoder.decode(address, frames, vocab)[0].tokens)[1:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="time prefix beam searches with a language model")
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    peer = all(importlib.util.find_spec(name) for name in ("flashlight", "kenlm"))
    if not peer:
        print("flashlight-text and kenlm are not installed: not compared")
    with tempfile.TemporaryDirectory() as folder:
        names = list(Units(5000).units[1:])
        by_unit, by_word = Path(folder) / "units.arpa", Path(folder) / "words.arpa"
        write_arpa(by_unit, names)
        write_arpa(by_word, [name.removeprefix("▁") for name in names if name.startswith("▁")])
        for kind in KINDS:
            log_probs = make_log_probs(kind)
            calls = {
                "ours": fused(log_probs, by_unit, "unit"),
                "ours, words": fused(log_probs, by_word, "word"),
                "ours, none": ours(log_probs, 10),
            }
            if peer:
                calls["flashlight-text + kenlm"] = flashlight(log_probs, by_unit)
            report(kind, calls, arguments.repeats)


def report(kind: str, calls: dict[str, Callable[[], tuple[int, ...]]], repeats: int) -> None:
    results = {name: call() for name, call in calls.items()}
    times = medians(calls, repeats)
    print(f"\n{kind}, beam 10")
    for name, taken in times.items():
        same = results[name] == results["ours"]
        note = "" if same or name.startswith("ours,") else "  another best"
        print(f"  {name:24} {taken:8.2f} ms  {len(results[name])} units{note}")
    for name in [name for name in times if not name.startswith("ours")]:
        line = {
            "name": f"prefix beam 10 with a 3-gram, 10 s, {kind}, one thread, ms; peer {name}",
            "ours": round(times["ours"], 2),
            "peer": round(times[name], 2),
            "ratio": round(times[name] / times["ours"], 2),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
