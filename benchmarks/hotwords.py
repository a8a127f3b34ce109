"""Hotwords on real speech: how many rare words they bring, what they do to others, what they cost.

    OMP_NUM_THREADS=1 python benchmarks/hotwords.py [--model FOLDER] [--method METHOD]

Data: the test speakers of speechocean762 under ``MYNAH_DATA``. Hotwords are the words of the chosen
utterances that no training speaker says, with 0 to 5000 words of a dictionary beside them that
nobody says (``../text/cmudict.dict.xz``, seen from the data). The weight is swept: one half of the
speakers chooses it (fewest word errors with 1000 words beside them), the other half gives the
numbers and the plot: the share of the hotwords that was recognised, and the errors among all other
words, insertions among them.

The cost is that of decoding 10 s with none, 100 and 5000 phrases in turns, and of a list that is
seen for the first time.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import lzma
import os
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from search import make_log_probs

from mynah.audio import read
from mynah.decoding import Hotwords, PrefixBeamSearch
from mynah.evaluation.alignment import align
from mynah.runtime.decode import Decoder, Heard
from mynah.runtime.model import Model, load_model
from mynah.text import char_tokenizer, normalize_for_scoring

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
BESIDE = (0, 100, 1000, 5000)


@dataclass(frozen=True)
class Spoken:
    """An utterance: what was said, by whom, and what the encoder made of it."""

    words: list[str]
    speaker: str
    heard: Heard


@dataclass(frozen=True)
class Point:
    """Recognised shares of one setting."""

    weight: float
    beside: int
    recall: float  # of hotwords that were said
    others: float  # errors per other word
    total: float  # word error rate
    false: int  # hotwords of the list that nobody said


def read_rows(data: Path) -> list[dict[str, str]]:
    path = data / "speechocean762" / "manifest.tsv"
    with path.open(encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def listen(model: Model, data: Path, rows: list[dict[str, str]]) -> list[Spoken]:
    found = []
    for row in rows:
        sound = read(data / "speechocean762" / row["path"])
        samples = np.ascontiguousarray(sound.samples).reshape(-1)
        feats = model.frontend(samples)
        encoded = model.engine.encode(feats[None], np.array([len(feats)]))
        frames = int(encoded.lens[0])
        heard = Heard(encoded.log_probs[0, :frames], encoded.encoded[0, :frames])
        words = normalize_for_scoring(row["text"]).split()
        found.append(Spoken(words, row["speaker"], heard))
    return found


def dictionary(data: Path, without: set[str]) -> list[str]:
    """Words of five letters or more that nobody says here, in random order."""
    path = data.parent / "text" / "cmudict.dict.xz"
    with lzma.open(path, "rt", encoding="utf-8") as file:
        words = {line.split()[0] for line in file if line[0].isalpha()}
    kept = sorted(w for w in words if w.isalpha() and len(w) >= 5 and w not in without)
    return random.Random(1).sample(kept, max(BESIDE))


def text_of(model: Model, hypothesis: Any) -> list[str]:
    words = hypothesis.words or model.tokenizer.words(hypothesis.tokens)
    return normalize_for_scoring(" ".join(word for word, _, _ in words)).split()


def measure(
    decoder: Decoder, spoken: list[Spoken], hot: set[str], all_: set[str]
) -> tuple[int, ...]:
    """Hotwords said and recognised, other words said and errors, words and errors, false ones."""
    said = right = others = wrong = false = errors = 0
    for item in spoken:
        (best,) = decoder.best([item.heard])
        for pair in align(item.words, text_of(decoder.model, best)):
            errors += pair.kind != "="
            false += pair.kind in "SI" and pair.hyp in all_
            if pair.ref in hot:
                said += 1
                right += pair.kind == "="
            else:
                others += pair.ref is not None
                wrong += pair.kind != "="
    return said, right, others, wrong, errors, false


def sweep(
    model: Model, method: str | None, spoken: list[Spoken], hot: list[str], distractors: list[str]
) -> list[Point]:
    options, points = model.decoding_options(None, method), []
    for beside in BESIDE:
        words = [*hot, *distractors[:beside]]
        for weight in WEIGHTS:
            if weight == 0 and beside:
                continue
            hotwords = Hotwords.parse(words, weight) if weight else None
            decoder = Decoder(model, options, hotwords)
            said, right, others, wrong, errors, false = measure(
                decoder, spoken, set(hot), set(words)
            )
            total = errors / (said + others)
            points.append(Point(weight, beside, right / said, wrong / others, total, false))
            print(
                f"  weight {weight:3.1f}, {beside:4} beside: {100 * right / said:5.1f} % of {said} "
                f"hotwords, errors of others {100 * wrong / others:5.1f} %, of all "
                f"{100 * total:5.1f} %, {false} that nobody said",
                flush=True,
            )
    return points


def plot(points: list[Point], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    start = points[0]
    for beside in BESIDE:
        line = [start, *(p for p in points if p.beside == beside and p.weight)]
        axes.plot(
            [100 * p.others for p in line],
            [100 * p.recall for p in line],
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            label=f"{beside} words beside",
        )
        if beside == BESIDE[-1]:
            for p in line:
                axes.annotate(
                    f"{p.weight:g}", (100 * p.others, 100 * p.recall), fontsize=7, xytext=(3, -8),
                    textcoords="offset points",
                )  # fmt: skip
    axes.set_xlabel("errors of all other words, %")
    axes.set_ylabel("hotwords recognised, %")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def costs(repeats: int, words: list[str]) -> None:
    """Milliseconds of a search of 10 s; phrases of one to three words of letters."""
    units = 5000
    letters = "abcdefghijklmnopqrstuvwxyz' "
    tokenizer = char_tokenizer([letters])
    rng = np.random.default_rng(0)
    cases = {"250 frames of 5000 pieces": (make_log_probs("speech"), Pieces(units, words, rng))}
    log_probs = make_log_probs("hard", vocab=tokenizer.vocab_size)
    cases[f"250 frames of {tokenizer.vocab_size} letters"] = (log_probs, tokenizer)
    for name, (frames, table) in cases.items():
        searches = {0: PrefixBeamSearch()}
        for count in (1, 100, 5000):
            phrases = [" ".join(words[i : i + 1 + i % 3]) for i in range(count)]
            start = time.thread_time()
            scorer = Hotwords.parse(phrases).scorer(table)
            first = 1000 * (time.thread_time() - start)
            start = time.thread_time()
            Hotwords.parse(phrases).scorer(table)
            again = 1000 * (time.thread_time() - start)
            print(f"{name}: list of {count}: {first:.1f} ms at first, {again:.2f} ms again")
            searches[count] = PrefixBeamSearch(scorers=(scorer,))
        taken: dict[int, list[float]] = {count: [] for count in searches}
        for _ in range(repeats):
            for count, search in searches.items():
                start = time.thread_time()
                search.nbest(search.advance(search.start(), frames))
                taken[count].append(1000 * (time.thread_time() - start))
        times = {count: statistics.median(values) for count, values in taken.items()}
        for count, value in times.items():
            print(f"{name}: {count:4} phrases {value:6.2f} ms")
        for count in (100, 5000):
            line = {
                "name": f"prefix beam with {count} hotwords, 10 s, {name}, ms; peer: none",
                "ours": round(times[count], 2),
                "peer": round(times[0], 2),
                "ratio": round(times[0] / times[count], 2),
            }
            print(json.dumps(line))


class Pieces:
    """Made-up pieces of words as BPE has them: beginnings, middles and letters."""

    def __init__(self, count: int, words: list[str], rng: np.random.Generator) -> None:
        cut = Counter[str]()
        for word in words:
            for n in range(2, 6):
                cut["▁" + word[:n]] += 1
                cut[word[-n:]] += 1
        letters = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz'" for mark in ("", "▁")]
        common = [piece for piece, _ in cut.most_common(count - 1 - len(letters))]
        names = list(dict.fromkeys([*letters, *common]))
        names += [f"x{n}" for n in range(count - 1 - len(names))]
        self.units = ("<blank>", *(names[n] for n in rng.permutation(len(names)).tolist()))
        self.blank, self.unk, self.sos, self.eos = 0, -1, 0, 0
        self.ids = {unit: index for index, unit in enumerate(self.units)}

    def encode(self, text: str) -> list[int]:
        text, found = "".join("▁" + word for word in text.split()), []
        while text:
            longest = next((n for n in range(8, 0, -1) if text[:n] in self.ids), 0)
            if longest:
                found.append(self.ids[text[:longest]])
            text = text[longest or 1 :]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="measure hotwords")
    parser.add_argument("--model", help="a model folder; the bundled model by default")
    parser.add_argument("--method", help="of decoding; the model's own by default")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MYNAH_DATA", "data")))
    parser.add_argument("--utterances", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--plot", type=Path, help="write the trade-off there, such as a .png")
    arguments = parser.parse_args()
    rows = read_rows(arguments.data)
    trained = {
        w for r in rows if r["split"] == "train" for w in normalize_for_scoring(r["text"]).split()
    }
    test = [row for row in rows if row["split"] == "test"]
    said = {w for r in rows for w in normalize_for_scoring(r["text"]).split()}
    distractors = dictionary(arguments.data, said)
    costs(arguments.repeats, distractors)

    model = load_model(arguments.model)
    step = max(len(test) // arguments.utterances, 1)
    spoken = listen(model, arguments.data, test[::step][: arguments.utterances])
    speakers = sorted({item.speaker for item in spoken})
    halves = [
        [s for s in spoken if (speakers.index(s.speaker) % 2 == 0) is first]
        for first in (True, False)
    ]
    results = []
    for name, half in zip(("choosing", "reporting"), halves, strict=True):
        hot = sorted({w for s in half for w in s.words if w not in trained and len(w) > 2})
        print(f"\n{model.name}, {name} half: {len(half)} utterances, {len(hot)} hotwords")
        results.append(sweep(model, arguments.method, half, hot, distractors))
    chosen = min((p for p in results[0] if p.beside == 1000), key=lambda p: p.total).weight
    print(f"\nchosen weight: {chosen}")
    for point in results[1]:
        if point.weight in (0.0, chosen):
            print(json.dumps({"name": "hotwords on real speech", **dataclasses.asdict(point)}))
    if arguments.plot:
        plot(results[1], arguments.plot, f"{model.name}, speechocean762 test, weight at the points")


if __name__ == "__main__":
    main()
