"""Search for words: our lexicon search, kaldi-decoder on a TLG graph, flashlight-text with kenlm.

    OMP_NUM_THREADS=1 python benchmarks/lexicon.py ../shared/text

All have the same lexicon (CMUdict without stress, the words that occur twice in the text), the
same 3-gram (trained here on the head of english.txt.xz, pruned, 8 bits), the same weights and the
same log-probabilities: those of a made-up phone recogniser (see ``make_log_probs``) that heard
sentences which were held out. Everything runs on one thread, the calls taking turns; shown are
milliseconds of the thread's CPU time a second of audio, word errors, and how often a peer finds
our words; at the end, for each setting of a peer, our errors where we take no more time, and our
time where we make no more errors. With ``--ngram``, ``--lexicon`` (word, tab, phones) and
``--sentences`` other files are taken. flashlight-text keeps at most six words of the same sound,
and would say so of each.

Language model and graph take minutes to make; they are kept in a folder of their own within the
temporary folder (``--cache``), and ``--make`` does no more than that.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import lzma
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from mynah.decoding.lexicon import Lexicon, make_lexicon
from mynah.decoding.lexicon_file import load_lexicon, save_lexicon
from mynah.decoding.lexicon_search import LexiconSearch
from mynah.decoding.ngram import NgramModel, load_ngram, save_ngram
from mynah.evaluation import error_rate
from mynah.text import normalize_for_scoring

FRAME = 0.04  # seconds
WEIGHT, BONUS = 0.7, 0.5
SKIP = 0.98  # blanks above are skipped, by ours and kaldi-decoder (flashlight-text cannot)
# settings that are compared: tokens kept, and how far below the best
OURS = ((30, 6.0), (60, 8.0), (120, 10.0), (200, 12.0), (500, 14.0), (1000, 18.0))
KALDI = ((300, 6.0), (1000, 8.0), (2000, 10.0), (7000, 15.0))
FLASHLIGHT = ((30, 6.0), (100, 10.0), (500, 14.0))
Words = tuple[str, ...]
Find = Callable[[npt.NDArray[np.float32]], Words]


def make_log_probs(
    units: Sequence[int], vocab: int, *, noise: float, seed: int, blank: int = 0
) -> npt.NDArray[np.float32]:
    """Log-probabilities (T, V) as a CTC model of phones gives them, 25 frames a second.

    Every unit has a place in a space of six dimensions, the same for all sentences; what is heard
    of it is its place and ``noise``, and the units share a frame by how near they are: so a unit
    has rivals of its own, and is sometimes lost to them. Runs have one or two frames; between them
    lie blanks, a Poisson number such that 12 units make a second, more or less sure of themselves.
    """
    places = np.random.default_rng(7).normal(size=(vocab, 6))
    rng = np.random.default_rng(seed)
    rows: list[npt.NDArray[np.float64]] = []

    def hear(unit: int, share: float) -> npt.NDArray[np.float64]:
        logits = -((places[unit] + rng.normal(0, noise, 6) - places) ** 2).sum(axis=1)
        logits[blank] = -np.inf
        logits -= np.logaddexp.reduce(logits)
        logits = np.logaddexp(logits + np.log(0.97), np.log(0.03 / (vocab - 1)))
        logits += np.log1p(-share)
        logits[blank] = np.log(share)
        return logits

    for unit in units:
        rows += [hear(unit, 1 - 10 ** -rng.uniform(1.0, 4.0)) for _ in range(rng.poisson(0.75))]
        rows.append(hear(unit, 10 ** -rng.uniform(0.5, 3.0)))
        if rng.random() < 0.3:
            again = rows[-1] + rng.normal(0, 0.3, vocab)
            rows.append(again - np.logaddexp.reduce(again))
    rows += [hear(units[-1], 0.999) for _ in range(3)]
    return np.array(rows, np.float32)


@dataclass(frozen=True)
class Task:
    """What all searches have in common."""

    lexicon: Lexicon
    model: NgramModel
    units: tuple[str, ...]
    folder: Path
    heard: list[npt.NDArray[np.float32]]
    said: list[Words]

    @property
    def seconds(self) -> float:
        """Of audio."""
        return sum(map(len, self.heard)) * FRAME


def read_dictionary(path: Path) -> list[tuple[str, list[str]]]:
    """Words and phones of CMUdict or of a table."""
    data = path.read_bytes()
    text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
    found = []
    for line in text.splitlines():
        word, *phones = line.split("#")[0].split()
        found.append((re.sub(r"\(\d+\)$", "", word), [re.sub(r"\d", "", p) for p in phones]))
    return found


def train_model(text: Path, words: set[str], lines: int, folder: Path) -> tuple[Path, list[str]]:
    """A pruned 3-gram of the head of a text, and the sentences held out of it."""
    from mynah.decoding.ngram.train import TrainOptions, scratch_for, train

    path, sentences = folder / "words.ngram", folder / "sentences.txt"
    if path.is_file():
        return path, sentences.read_text("utf-8").splitlines()
    say(f"training a 3-gram on {lines} lines")
    kept, held = list[str](), list[str]()
    with lzma.open(text, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream):
            if number == lines:
                break
            if not line.startswith("#"):
                sentence = normalize_for_scoring(line, "en")
                (held if number % 50 == 0 else kept).append(sentence)
    seen = Counter(word for sentence in kept for word in sentence.split())
    vocabulary = tuple(sorted(word for word in words if seen[word] > 1))
    options = TrainOptions(order=3, words=vocabulary, min_count=2, prune=1e-7)
    sentences.write_text("\n".join(held), "utf-8")
    with scratch_for(options) as scratch:
        save_ngram(train(kept, options, scratch).trie, folder / "new.ngram")
    (folder / "new.ngram").rename(path)
    return path, held


def say(what: str) -> None:
    """What takes long."""
    print(f"{time.strftime('%H:%M:%S')} {what} ...", flush=True)


def cache_folder(arguments: argparse.Namespace) -> Path:
    """Where what these arguments ask for is kept."""
    if arguments.ngram:
        name = f"{Path(arguments.ngram).resolve()} {os.stat(arguments.ngram).st_mtime_ns}"
        name += f" {arguments.lexicon}"
    else:
        name = f"{Path(arguments.text).resolve()} {arguments.lines} {arguments.lexicon}"
    digest = hashlib.sha256(f"{name} {WEIGHT} {BONUS}".encode()).hexdigest()[:16]
    folder = Path(arguments.cache or Path(tempfile.gettempdir()) / "mynah-lexicon") / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def prepare(arguments: argparse.Namespace, folder: Path) -> Task:
    entries = read_dictionary(Path(arguments.lexicon or f"{arguments.text}/cmudict.dict.xz"))
    known = {word for word, _ in entries}
    if arguments.ngram:
        ngram, held = Path(arguments.ngram), Path(arguments.sentences).read_text().splitlines()
    else:
        text = Path(arguments.text) / "english.txt.xz"
        ngram, held = train_model(text, known, arguments.lines, folder)
    start = time.perf_counter()
    model = load_ngram(ngram)
    print(f"language model: {model.trie.counts} n-grams, {ngram.stat().st_size / 1e6:.2f} MB, "
          f"loaded in {time.perf_counter() - start:.2f} s")  # fmt: skip
    units = ("<blank>", *sorted({phone for _, phones in entries for phone in phones}))
    ids = {unit: number for number, unit in enumerate(units)}
    spelled = [(w, [ids[p] for p in phones]) for w, phones in entries if w in model.vocab]
    lexicon = make_lexicon(spelled, units)
    scores = model.score_many(model.null(), np.array(list(map(model.word_id, lexicon.words))))
    lexicon = lexicon.with_costs(dict(zip(lexicon.words, scores.tolist(), strict=True)).get)  # type: ignore[arg-type]
    path = folder / "lexicon.bin"
    save_lexicon(lexicon, path)
    start = time.perf_counter()
    lexicon = load_lexicon(path)
    loaded = time.perf_counter() - start
    _ = lexicon.tree
    print(f"lexicon: {len(lexicon.words)} words, {len(lexicon.spellings)} spellings, "
          f"{path.stat().st_size / 1e6:.2f} MB, loaded in {loaded:.2f} s, tree of "
          f"{len(lexicon.tree)} nodes in {time.perf_counter() - start - loaded:.2f} s")  # fmt: skip
    said = [tuple(sentence.split()) for sentence in held]
    said = [words for words in said if 6 <= len(words) <= 25 and all(map(lexicon.units_of, words))]
    said = said[:: max(len(said) // arguments.count, 1)][: arguments.count]
    heard = []
    for seed, words in enumerate(said):
        spelling = [unit for word in words for unit in lexicon.units_of(word)[0]]
        heard.append(make_log_probs(spelling, len(units), noise=arguments.noise, seed=seed))
    return Task(lexicon, model, units, folder, heard, said)


def ours(task: Task, **settings: Any) -> Find:
    search = LexiconSearch(
        task.lexicon, task.model, lm_weight=WEIGHT, word_bonus=BONUS, nbest_limit=1, **settings
    )

    def find(log_probs: npt.NDArray[np.float32]) -> Words:
        best = search.nbest(search.advance(search.start(), log_probs))[0]
        return tuple(text for text, _, _ in best.words)

    return find


def kaldi(task: Task, **settings: Any) -> Find:
    from mynah.decoding.graph import GraphSearch
    from mynah.decoding.graph_build import build_graph

    files = task.folder / "TLG.fst", task.folder / "words.txt"
    if not files[0].is_file():
        say("building the graph")
        start = time.perf_counter()
        new = task.folder / "new.fst"
        states, arcs = build_graph(
            task.lexicon, task.model, new, files[1], lm_weight=WEIGHT, word_bonus=BONUS
        )
        new.rename(files[0])
        print(f"graph: {states} states, {arcs} arcs, {files[0].stat().st_size / 1e6:.0f} MB, "
              f"built in {time.perf_counter() - start:.0f} s")  # fmt: skip
    search = GraphSearch(_graph(*files), **settings)

    def find(log_probs: npt.NDArray[np.float32]) -> Words:
        best = search.nbest(search.advance(search.start(), log_probs))[0]
        return tuple(text for text, _, _ in best.words)

    return find


@functools.lru_cache
def _graph(fst: Path, words: Path) -> Any:
    from mynah.decoding.graph import load_graph

    return load_graph(fst, words)


def flashlight(task: Task, **settings: Any) -> Find:
    from flashlight.lib.text.decoder import (
        CriterionType,
        KenLM,
        LexiconDecoder,
        LexiconDecoderOptions,
        SmearingMode,
        Trie,
    )
    from flashlight.lib.text.dictionary import Dictionary

    arpa = task.folder / "words.arpa"
    if not arpa.is_file():
        say("writing the ARPA file")
        save_ngram(task.model.trie, task.folder / "new.arpa")
        (task.folder / "new.arpa").rename(arpa)
    words = Dictionary()
    for word in (*task.lexicon.words, "<unk>"):
        words.add_entry(word)
    lm = KenLM(str(arpa), words)
    trie, start = Trie(len(task.units), 0), lm.start(False)
    told = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    for word, units in task.lexicon.entries():
        number = words.get_index(word)
        trie.insert(list(units), number, lm.score(start, number)[1])
    os.dup2(told, 2)
    trie.smear(SmearingMode.MAX)
    options = LexiconDecoderOptions(
        beam_size_token=20,
        lm_weight=WEIGHT * np.log(10),  # its scores are of base 10
        word_score=BONUS,
        unk_score=-np.inf,
        sil_score=0.0,
        log_add=False,
        criterion_type=CriterionType.CTC,
        **settings,
    )
    unknown = words.get_index("<unk>")
    decoder = LexiconDecoder(options, trie, lm, -1, 0, unknown, [], False)

    def find(log_probs: npt.NDArray[np.float32]) -> Words:
        found = decoder.decode(log_probs.ctypes.data, *log_probs.shape)
        return tuple(words.get_entry(n) for n in found[0].words if n >= 0) if found else ()

    return find


def percent(pairs: Iterable[tuple[str, str]]) -> float:
    rate = error_rate(pairs)
    return 100 * rate.errors / max(rate.total, 1)


def measure(task: Task, searches: dict[str, Find], repeats: int) -> None:
    """Run all searches in turns and print what came out."""
    taken = {name: [0.0] * repeats for name in searches}
    found: dict[str, list[Words]] = {name: [] for name in searches}
    for repeat in range(repeats):
        say(f"{len(task.heard)} sentences, turn {repeat + 1} of {repeats}")
        for log_probs in task.heard:
            for name, find in searches.items():
                start = time.thread_time()
                words = find(log_probs)
                taken[name][repeat] += time.thread_time() - start
                if repeat == 0:
                    found[name].append(words)
    first = next(iter(searches))
    figures = {}
    for name in searches:
        pairs = zip(task.said, found[name], strict=True)
        errors = percent((" ".join(said), " ".join(words)) for said, words in pairs)
        agree = sum(a == b for a, b in zip(found[name], found[first], strict=True))
        speed = 1000 * sorted(taken[name])[repeats // 2] / task.seconds
        figures[name] = speed, errors
        print(f"  {name:34} {speed:8.2f} ms a second   {errors:6.2f} % word errors"
              f"   {agree:3} of {len(task.said)} as the first")  # fmt: skip
    compare(figures)


def compare(figures: dict[str, tuple[float, float]]) -> None:
    """For each setting of a peer: our errors at its time, our time at its errors."""
    ours_ = [pair for name, pair in figures.items() if name.startswith("lexicon")]
    for name, (speed, errors) in figures.items():
        if name.startswith("lexicon"):
            continue
        at_time = [e for s, e in ours_ if s <= speed]
        at_errors = [s for s, e in ours_ if e <= errors]
        for what, mine, theirs in (
            ("% word errors at its time", at_time, errors),
            ("ms a second at its errors", at_errors, speed),
        ):
            if not mine:
                print(f"  {name}: none of our settings is as {'fast' if '%' in what else 'good'}")
                continue
            line = {"name": f"lexicon search, {what}; peer {name}", "ours": round(min(mine), 2)}
            line |= {"peer": round(theirs, 2), "ratio": round(theirs / max(min(mine), 1e-9), 2)}
            print(json.dumps(line))


def main() -> None:
    parser = argparse.ArgumentParser(description="search for words, ours and peers'")
    parser.add_argument("text", nargs="?", help="folder of english.txt.xz and cmudict.dict.xz")
    parser.add_argument("--lexicon", metavar="TABLE")
    parser.add_argument("--ngram", metavar="FILE")
    parser.add_argument("--sentences", metavar="FILE", help="with --ngram")
    parser.add_argument("--lines", type=int, default=60_000, help="of the text to train on")
    parser.add_argument("--count", type=int, default=40, help="sentences")
    parser.add_argument("--cache", metavar="FOLDER", help="keeps language model and graph")
    parser.add_argument("--make", action="store_true", help="make what is kept, measure nothing")
    parser.add_argument("--noise", type=float, default=0.35)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--without", nargs="*", default=[], choices=("kaldi", "flashlight"))
    arguments = parser.parse_args()
    if arguments.text is None and not (arguments.lexicon and arguments.ngram):
        parser.error("give the folder of texts, or --lexicon, --ngram and --sentences")
    task = prepare(arguments, cache_folder(arguments))
    describe(task)
    searches = {
        f"lexicon, {beam} tokens, margin {margin:.0f}": ours(
            task, beam=beam, margin=margin, blank_skip=SKIP
        )
        for beam, margin in OURS
    }
    if "kaldi" in arguments.without or not importlib.util.find_spec("kaldi_decoder"):
        print("kaldi-decoder: not compared")
    else:
        for tokens, margin in KALDI:
            name = f"kaldi-decoder, {tokens}, beam {margin:.0f}"
            searches[name] = kaldi(task, tokens=tokens, margin=margin, blank_skip=SKIP)
    if "flashlight" in arguments.without or not importlib.util.find_spec("flashlight"):
        print("flashlight-text: not compared")
    else:
        for beam, margin in FLASHLIGHT:
            name = f"flashlight-text + kenlm, {beam}, {margin:.0f}"
            searches[name] = flashlight(task, beam_size=beam, beam_threshold=margin)
    if not arguments.make:
        measure(task, searches, arguments.repeats)


def describe(task: Task) -> None:
    """Print how hard the task is."""
    best = [x.argmax(axis=1).tolist() for x in task.heard]
    frames = np.concatenate(task.heard)
    sure = float((frames[:, 0] > np.log(SKIP)).mean())
    greedy = [[u for i, u in enumerate(p) if u and (i == 0 or p[i - 1] != u)] for p in best]
    units = [[u for w in said for u in task.lexicon.units_of(w)[0]] for said in task.said]
    pairs = zip(units, greedy, strict=True)
    wrong = percent((" ".join(map(str, a)), " ".join(map(str, b))) for a, b in pairs)
    print(f"{task.seconds:.0f} s of audio, blank above {SKIP} in {100 * sure:.0f} % of the "
          f"frames, {wrong:.1f} % phone errors of the best path", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
