"""Hotwords on real speech: how many rare words they bring, what they do to others, what they cost.

    OMP_NUM_THREADS=1 python benchmarks/hotwords.py [--model FOLDER] [--method METHOD]

Data: the test speakers of speechocean762 under ``MYNAH_DATA``. Hotwords are the words of the chosen
utterances that no training speaker says, with 0 to 5000 words of a dictionary beside them that
nobody says (``text/cmudict.dict.xz``, among the data or beside them). The weight is swept: one half
of the speakers chooses it (fewest word errors with 1000 words beside them), the other half gives
the numbers and the plot: the share of the hotwords that was recognised, and the errors among all
other words, insertions among them. Beside it, WeNet's context graph on the same search: units
wherever they stand, all phrases of a list adding up (``tests/wenet_context.py``; in
``tests/parity`` it gives WeNet's own results). Its figure is the most that it finds at any weight
with no more other errors.

The cost is that of decoding 10 s with none, 100 and 5000 phrases in turns, and of a list that is
seen for the first time.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from search import make_log_probs

from mynah.audio import read
from mynah.decoding import DecodingOptions, Hotwords, Hypothesis, PrefixBeamSearch
from mynah.evaluation.alignment import align
from mynah.runtime.decode import Decoder, Heard
from mynah.runtime.model import Model, load_model
from mynah.text import char_tokenizer, normalize_for_scoring

# where the rules of WeNet are kept, and shown to give its results
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from wenet_context import WenetContext

Best = Callable[[Heard], Hypothesis]
WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
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

    rules: str
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
    places = [folder / "text" / "cmudict.dict.xz" for folder in (data, data.parent)]
    path = next((place for place in places if place.is_file()), places[0])
    with lzma.open(path, "rt", encoding="utf-8") as file:
        words = {line.split()[0] for line in file if line[0].isalpha()}
    kept = sorted(w for w in words if w.isalpha() and len(w) >= 5 and w not in without)
    return random.Random(1).sample(kept, max(BESIDE))


def text_of(model: Model, hypothesis: Hypothesis) -> list[str]:
    words = hypothesis.words or model.tokenizer.words(hypothesis.tokens)
    return normalize_for_scoring(" ".join(word for word, _, _ in words)).split()


def measure(
    best: Best, model: Model, spoken: list[Spoken], hot: set[str], listed: set[str]
) -> tuple[float, float, float, int]:
    """Share of hotwords recognised, errors of other words, of all, and hotwords nobody said."""
    said = right = others = wrong = false = errors = 0
    for item in spoken:
        for pair in align(item.words, text_of(model, best(item.heard))):
            errors += pair.kind != "="
            false += pair.kind in "SI" and pair.hyp in listed
            if pair.ref in hot:
                said += 1
                right += pair.kind == "="
            else:
                others += pair.ref is not None
                wrong += pair.kind != "="
    return right / said, wrong / others, errors / (said + others), false


def mynahs(model: Model, options: DecodingOptions, words: list[str], weight: float) -> Best:
    hotwords = Hotwords.parse(words, weight) if weight else None
    decoder = Decoder(model, options, hotwords)
    return lambda heard: decoder.best([heard])[0]


def wenets(model: Model, options: DecodingOptions, words: list[str], weight: float) -> Best:
    tokenizer = model.tokenizer
    context = WenetContext([tokenizer.encode(word) for word in words], weight)
    search = PrefixBeamSearch(options.beam, options.top_units, tokenizer.blank, scorers=(context,))
    return lambda heard: search.nbest(search.advance(search.start(), heard.log_probs))[0]


def sweep(
    model: Model, options: DecodingOptions, spoken: list[Spoken], hot: list[str], more: list[str]
) -> list[Point]:
    points = []
    settings = [("mynah", n, weight) for n in BESIDE for weight in WEIGHTS if weight or not n]
    if options.method == "prefix_beam":
        settings += [("WeNet", n, weight) for n in (0, 1000) for weight in WEIGHTS if weight]
    for rules, beside, weight in settings:
        words = [*hot, *more[:beside]]
        make = mynahs if rules == "mynah" else wenets
        best = make(model, options, words, weight)
        found = Point(rules, weight, beside, *measure(best, model, spoken, set(hot), set(words)))
        points.append(found)
        print(
            f"  {rules}, weight {weight:3.1f}, {beside:4} beside: hotwords {found.recall:6.1%}, "
            f"errors of others {found.others:6.1%}, of all {found.total:6.1%}, "
            f"{found.false} that nobody said",
            flush=True,
        )
    return points


def compare(points: list[Point], chosen: float) -> None:
    """Lines of JSON: the hotwords recognised at the chosen weight, without them, and by WeNet's
    rules at no greater harm."""
    none = points[0]
    ours = next(p for p in points if p.weight == chosen and p.rules == "mynah")
    peers = {"no hotwords": none.recall}
    rivals = [p.recall for p in points if p.rules == "WeNet" and p.others <= ours.others]
    if any(p.rules == "WeNet" for p in points):
        peers["WeNet's rules at no greater harm"] = max(rivals, default=none.recall)
    for peer, recall in peers.items():
        line = {
            "name": f"hotwords found, {ours.beside} words beside, weight {chosen}; peer {peer}",
            "ours": round(ours.recall, 3),
            "peer": round(recall, 3),
            "ratio": round(ours.recall / recall, 2) if recall else None,
            "errors of others": [round(none.others, 3), round(ours.others, 3)],
        }
        print(json.dumps(line))


def plot(points: list[Point], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    start = points[0]
    for rules, beside in dict.fromkeys((p.rules, p.beside) for p in points):
        line = [p for p in points if (p.rules, p.beside) == (rules, beside) and p.weight]
        line = [start, *line]
        axes.plot(
            [100 * p.others for p in line],
            [100 * p.recall for p in line],
            "o-" if rules == "mynah" else "s:",
            markersize=3.5,
            linewidth=1.2,
            label=f"{rules}, {beside} words beside",
        )
        for p in line[1:]:
            place = 100 * p.others, 100 * p.recall
            axes.annotate(f"{p.weight:g}", place, fontsize=6, alpha=0.7)
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
    options = model.decoding_options(None, arguments.method)
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
        results.append(sweep(model, options, half, hot, distractors))
    rivals = [p for p in results[0] if p.beside == 1000 and p.rules == "mynah"]
    chosen = min(rivals, key=lambda p: p.total).weight
    print(f"\nchosen weight: {chosen}")
    for beside in BESIDE:
        compare([p for p in results[1] if p.beside == beside or not p.weight], chosen)
    if arguments.plot:
        plot(results[1], arguments.plot, f"{model.name}, speechocean762 test, weight at the points")


if __name__ == "__main__":
    main()
