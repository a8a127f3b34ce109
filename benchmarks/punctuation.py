"""Punctuation and casing of books that no model was trained on: ours, two baselines, a truecaser.

    OMP_NUM_THREADS=1 python benchmarks/punctuation.py --text ../shared/text

F1 of each mark after each word, and of all marks; errors of casing among the words whose casing is
known; words a second of one thread's CPU time; sizes. Every book is one text without marks and
capitals. Baselines: nothing (every word plain), and word pairs (the mark most often seen between
these two words in two million words of the training books; where they were never seen, after the
first one).

No package with a punctuation model inside was found on PyPI: those that restore punctuation
download it. truecase 0.0.14 (76 MB) carries the statistics of a truecaser and is compared, a
sentence a call, where it is installed; its tokenizer needs a download too, so the words are given
to it as they are.
"""

from __future__ import annotations

import argparse
import importlib
import json
import lzma
import os
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from mynah.model_folder import find_model, read_model_folder
from mynah.runtime.punctuator import Punctuator
from mynah.text.prose import UNKNOWN, Line, Pieces, books, pieces
from mynah.text.punctuation import CAPITAL, UPPER, with_case

ROOT = Path(__file__).resolve().parent.parent
FILES = {"en": "english.txt.xz", "zh": "chinese.txt.xz"}
# What neither training nor development saw: titles, and lines of titles that come in parts.
TEST: dict[str, dict[str, tuple[int, int]]] = {
    "en": dict.fromkeys(
        [
            "Almayer (1895)", "The Rough Riders", "The Story of the Amulet (1906)",
            "Gemini 4 voice transcript (TEC)", "Inaugural address 2021", "Inaugural address 2009",
            "Common Voice sentences: bavencope", "Common Voice sentences: jf99",
        ],
        (0, 10**9),
    ),
    "zh": {
        "鲁迅: 朝花夕拾": (0, 10**9),
        "Common Voice zh-CN: wiki.zh-cn": (44000, 46000),
        "Common Voice zh-CN: cn": (2600, 2900),
    },
}  # fmt: skip


def lines(folder: Path, language: str) -> Iterator[Line]:
    with lzma.open(folder / FILES[language], "rt", encoding="utf-8") as file:
        yield from books(file)


def joined(parts: Sequence[Pieces]) -> Pieces:
    whole = Pieces([], [], [])
    for part in parts:
        whole.units.extend(part.units)
        whole.marks.extend(part.marks)
        whole.cases.extend(part.cases)
    return whole


def held_out(folder: Path, language: str) -> dict[str, list[Pieces]]:
    """The test books, sentence by sentence."""
    found: dict[str, list[Pieces]] = {title: [] for title in TEST[language]}
    for line in lines(folder, language):
        first, stop = TEST[language].get(line.title, (0, 0))
        if first <= line.number < stop:
            found[line.title].append(pieces(line.text, language))
    return found


class Pairs:
    """The mark most often seen between two words, or, for an unseen pair, after the first."""

    def __init__(self, folder: Path, language: str, most: int = 2_000_000) -> None:
        recipe = tomllib.loads((ROOT / f"recipes/punctuation/{language}.toml").read_text("utf-8"))
        unused = set(TEST[language])
        for source in recipe["data"]["dev"]:
            titles = source["where"]["title"]
            unused.update([titles] if isinstance(titles, str) else titles)
        pairs: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        ones: dict[str, Counter[int]] = defaultdict(Counter)
        count, last, mark = 0, "", UNKNOWN
        for number, line in enumerate(lines(folder, language)):
            if line.title in unused or (language == "en" and number % 640 >= 64):
                continue
            found = pieces(line.text, language)
            for one, following in zip(found.units, found.marks, strict=True):
                if mark != UNKNOWN:
                    pairs[last, one][mark] += 1
                    ones[last][mark] += 1
                last, mark = one, following
            count += len(found.units)
            if count > most:
                break
        self.pairs = {key: seen.most_common(1)[0][0] for key, seen in pairs.items()}
        self.ones = {key: seen.most_common(1)[0][0] for key, seen in ones.items()}

    def __call__(self, units: Sequence[str]) -> list[int]:
        followers = [*units[1:], ""]
        return [
            self.pairs.get(pair, self.ones.get(pair[0], 0))
            for pair in zip(units, followers, strict=True)
        ]


def f1(said: Sequence[int], true: Sequence[int], marks: Sequence[str]) -> dict[str, float]:
    """F1 in per cent of each mark that occurs, and of all of them."""
    kept = [(s, t) for s, t in zip(said, true, strict=True) if t != UNKNOWN]
    scores, hits, total = {}, 0, 0
    for number, mark in enumerate(marks[1:], 1):
        hit = sum(s == t == number for s, t in kept)
        both = sum(s == number for s, _ in kept) + sum(t == number for _, t in kept)
        hits, total = hits + hit, total + both
        if both:
            scores[mark] = 200 * hit / both
    return scores | {"all": 200 * hits / max(total, 1)}


def case_errors(said: Sequence[int], true: Sequence[int]) -> float:
    """Per cent of the words of known casing."""
    kept = [(s, t) for s, t in zip(said, true, strict=True) if t != UNKNOWN]
    return 100 * sum(s != t for s, t in kept) / max(len(kept), 1)


def shown(scores: dict[str, float]) -> str:
    return "  ".join(f"{mark} {value:5.1f}" for mark, value in scores.items())


def speed(call: Callable[[Sequence[str]], object], units: Sequence[str], repeats: int) -> float:
    """Words a second of this thread's CPU time; the best of the repeats."""
    taken = []
    for _ in range(repeats):
        start = time.thread_time()
        call(units)
        taken.append(time.thread_time() - start)
    return len(units) / min(taken)


def figure(name: str, ours: float, peer: float, *, lower: bool = False) -> None:
    ratio = (peer / ours if lower else ours / peer) if ours and peer else 0.0
    line = {"name": name, "ours": round(ours, 2), "peer": round(peer, 2), "ratio": round(ratio, 2)}
    print(json.dumps(line, ensure_ascii=False))


def compare_casing(punctuator: Punctuator, sentences: Sequence[Pieces]) -> None:
    """Ours beside truecase, a sentence a call, without marks."""
    try:
        module = importlib.import_module("truecase.TrueCaser")
    except ImportError:
        print("truecase is not installed (pip install truecase): casing is not compared")
        return
    module.word_tokenize = str.split
    caser = module.TrueCaser()
    ours, theirs, true = [], [], []
    spent = [0.0, 0.0]
    for sentence in sentences:
        start = time.thread_time()
        written = caser.get_true_case(" ".join(sentence.units)).split()
        middle = time.thread_time()
        cases = punctuator.labels(sentence.units)[1]
        spent[0], spent[1] = spent[0] + time.thread_time() - middle, spent[1] + middle - start
        if len(written) == len(sentence.units):
            ours += cases
            theirs += [class_of(word, unit) for word, unit in zip(written, sentence.units,
                                                                  strict=True)]  # fmt: skip
            true += sentence.cases
    print(f"  casing of {len(true)} words in {len(sentences)} sentences")
    figure("casing errors, sentences, %; peer truecase", case_errors(ours, true),
           case_errors(theirs, true), lower=True)  # fmt: skip
    figure("casing, words a second, sentence by sentence; peer truecase", len(true) / spent[0],
           len(true) / spent[1])  # fmt: skip


def class_of(word: str, unit: str) -> int:
    return next((case for case in (CAPITAL, UPPER) if with_case(unit, case) == word), 0)


def run(language: str, folder: Path, model: str, repeats: int) -> None:
    where = read_model_folder(find_model(model or f"mynah-punct-{language}"))
    texts = held_out(folder, language)
    pairs = Pairs(folder, language)
    whole = joined([part for parts in texts.values() for part in parts])
    for precision in ("int8", "fp32"):
        if not where.has(f"onnx/punctuation.{precision}.onnx"):
            continue
        punctuator = Punctuator(where, precision=precision)
        size = (where.path / f"onnx/punctuation.{precision}.onnx").stat().st_size / 1e6
        print(f"\n{where.info.name} {precision}, {size:.2f} MB, {len(whole.units)} test words")
        for title, parts in texts.items():
            book = joined(parts)
            marks, cases = punctuator.labels(book.units)
            rest = f"  casing errors {case_errors(cases, book.cases):.2f} %"
            print(
                f"  {title[:36]:36} {shown(f1(marks, book.marks, punctuator.marks))}"
                f"{rest if language == 'en' else ''}"
            )
        marks, cases = punctuator.labels(whole.units)
        guessed = pairs(whole.units)
        ours, peer = (f1(said, whole.marks, punctuator.marks) for said in (marks, guessed))
        print(f"  {'all':36} {shown(ours)}")
        print(f"  {'word pairs':36} {shown(peer)}")
        name = f"{language} {precision}"
        for mark in [m for m in ours if ours[m] and peer.get(m)]:
            figure(f"F1 {mark}, {name}, %; peer word pairs", ours[mark], peer[mark])
        if language == "en":
            plain, wrong = (case_errors(said, whole.cases) for said in ([0] * len(cases), cases))
            figure(f"casing errors, {name}, %; peer nothing", wrong, plain, lower=True)
        rate = speed(punctuator.labels, whole.units[:20_000], repeats)
        print(f"  {rate:.0f} words a second")
        if language == "en" and precision == "int8":
            compare_casing(punctuator, [p for parts in texts.values() for p in parts if p.units
                                        ][::20])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--text", type=Path, default=ROOT.parent / "shared" / "text")
    parser.add_argument("--language", choices=sorted(FILES), nargs="*", default=sorted(FILES))
    parser.add_argument("--model", default="", help="a folder, in place of the bundled model")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for language in arguments.language:
        run(language, arguments.text, arguments.model, arguments.repeats)


if __name__ == "__main__":
    main()
