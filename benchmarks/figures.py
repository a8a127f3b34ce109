"""All figures of the bundled recogniser in one run: errors by set, offline and live, speed, size.

    OMP_NUM_THREADS=1 python benchmarks/figures.py DATA WORK [--peer] [--write] [--markdown FILE]

DATA holds the sets (`speechocean762`, and `native` from `benchmarks/native_stretches.py`). What was
heard is kept in WORK, a file a set, so that a run that was stopped goes on where it was; with
`--peer`, pocketsphinx beside it too (`benchmarks/recogniser.py --clips 60`). Each set is heard in a
process of its own, with one thread; seconds are CPU time without reading. The tables come as
Markdown. `--write` puts the rates into the model's own `model.toml`, and the tables into its card;
`--markdown` puts them into other files: between lines `<!-- figures -->` and `<!-- /figures -->`.

On a free core it takes about fifteen minutes, and four more with the peer.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from mynah import audio
from mynah.corpus import Cut, load, matcher, read_manifest
from mynah.evaluation import Report, Utterance, score
from mynah.model_folder import (
    MODEL_FILE,
    ModelFolder,
    find_model,
    read_model_folder,
    write_model_file,
)

RATE = 16000
AT_ONCE = 16
# the speakers of the development set, as the recipes of the model have them
DEVELOPMENT = ("0026", "1447", "2034", "3049", "5418", "6048",
               "2168", "2242", "9607", "2430", "9624", "1309")  # fmt: skip
_DEV = {"split": "train", "speaker": list(DEVELOPMENT)}
# Name, manifest, and which of its rows.
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "speechocean762 test, age >= 18": ("speechocean762", {"split": "test", "age": ">=18"}),
    "speechocean762 test, age < 18": ("speechocean762", {"split": "test", "age": "<18"}),
    "native readers (development)": ("native", {}),
    "speechocean762 development, age >= 18": ("speechocean762", {**_DEV, "age": ">=18"}),
    "speechocean762 development, age < 18": ("speechocean762", {**_DEV, "age": "<18"}),
}
WAYS = ("offline", "live")
_BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)


def identity(folder: ModelFolder) -> str:
    """What changes when a part of the model other than its card does."""
    parts = {name: digest for name, digest in folder.files.items() if name != "CARD.md"}
    facts = json.dumps([parts, folder.info.decoding], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def slug(name: str, way: str) -> str:
    """The name of the file in which what was heard of a set is kept."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {way}".lower().replace("<", "below").replace(
        ">=", "from"))  # fmt: skip


def heard(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of :func:`hear`, without one that was cut off."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def cuts(data: Path, name: str) -> list[Cut]:
    """The recordings of a set."""
    manifest, where = SETS[name]
    meets = matcher(where, {})
    return [cut for cut in read_manifest(str(data / manifest / "manifest.tsv")) if meets(cut)]


def batches(items: list[Cut]) -> Iterator[list[Cut]]:
    """So many at a time."""
    for first in range(0, len(items), AT_ONCE):
        yield items[first : first + AT_ONCE]


def hear(data: Path, model: Path, name: str, way: str, path: Path, limit: int) -> None:
    """Recognise what is left of a set, a line of JSON an utterance; in a process of its own."""
    import mynah

    done = heard(path)
    path.write_text("".join(json.dumps(line) + "\n" for line in done), "utf-8")
    known = {line["id"] for line in done}
    every = cuts(data, name)
    every = every[:: max(1, len(every) // limit)][:limit] if limit else every
    recognizer = mynah.load(model, threads=1)
    with path.open("a", encoding="utf-8") as file:
        for batch in batches([cut for cut in every if cut.id not in known]):
            sounds = [load(cut, audio.read, rate=RATE) for cut in batch]
            start = time.process_time()
            if way == "live":
                batcher = recognizer.batcher()
                sessions = [recognizer.stream(words=False) for _ in sounds]
                batcher.feed_many(list(zip(sessions, sounds, strict=True)), last=True)
                texts = [session.transcript().text for session in sessions]
            else:
                texts = [result.text for result in recognizer.transcribe(sounds, words=False)]
            took = time.process_time() - start
            seconds = sum(map(len, sounds)) / RATE
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux
            for cut, sound, text in zip(batch, sounds, texts, strict=True):
                length = len(sound) / RATE
                line = {"id": cut.id, "text": cut.text, "heard": text, "seconds": length,
                        "took": took * length / seconds, "memory": memory}  # fmt: skip
                file.write(json.dumps(line) + "\n")
            file.flush()
            print(f"{name}, {way}: {len(known) + 1} ...", file=sys.stderr)
            known |= {cut.id for cut in batch}


def rate_of(lines: list[dict[str, Any]]) -> Report:
    """The word error rate of what was heard."""
    return score([Utterance(line["id"], line["text"], line["heard"]) for line in lines],
                 unit="word")  # fmt: skip


def table(found: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Word error rates by set."""
    rows = ["| set | utterances | words | offline | live (640 ms) | 95 % of resampled sets |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for name, ways in found.items():
        reports = [rate_of(ways[way]) for way in WAYS]
        low, high = reports[0].interval().low, reports[0].interval().high
        rates = " | ".join(f"{100 * report.total.rate:.1f}" for report in reports)
        rows.append(
            f"| {name} | {len(ways['offline'])} | {reports[0].total.total} | {rates} "
            f"| {100 * low:.1f} to {100 * high:.1f} |"
        )
    return rows


def costs(found: dict[str, dict[str, list[dict[str, Any]]]], size: float) -> list[str]:
    """Speed, memory and size."""
    rows = ["", "| | offline | live |", "|---|---|---|"]
    every = [[line for ways in found.values() for line in ways[way]] for way in WAYS]
    speeds = [sum(x["seconds"] for x in one) / sum(x["took"] for x in one) for one in every]
    memory = [max(x["memory"] for x in one) for one in every]
    rows.append("| times faster than real time, one thread | "
                + " | ".join(f"{x:.1f}" for x in speeds) + " |")  # fmt: skip
    rows.append("| memory of the process, MiB | " + " | ".join(f"{x:.0f}" for x in memory) + " |")
    rows.append(f"| files of the model, MB | {size:.1f} | |")
    return rows


def beside(data: Path, model: Path, work: Path) -> list[str]:
    """The table of `benchmarks/recogniser.py`, made now or kept from before."""
    path = work / "peer.jsonl"
    if not path.is_file():
        script = Path(__file__).with_name("recogniser.py")
        command = [sys.executable, str(script), str(data), "--clips", "60", "--model", str(model)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr.strip())
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    rows = ["", "| beside pocketsphinx 5, one run | mynah-en | pocketsphinx |", "|---|---|---|"]
    units = {"word errors": ", %", "memory": ", MiB", "model,": ", MB"}
    for line in map(json.loads, path.read_text("utf-8").splitlines()):
        unit = next((unit for start, unit in units.items() if line["name"].startswith(start)), "")
        rows.append(f"| {line['name']}{unit} | {line['ours']:.1f} | {line['peer']:.1f} |")
    return rows


def put(path: Path, text: str) -> None:
    """The figures in place of those between the marks of a file."""
    old = path.read_text("utf-8")
    if not _BLOCK.search(old):
        sys.exit(f"{path}: has no lines <!-- figures --> and <!-- /figures -->")
    path.write_text(_BLOCK.sub(lambda match: f"{match[1]}{text}{match[2]}", old), "utf-8")


def run_all(args: argparse.Namespace, model: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What was heard, by set and way."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, (manifest, _) in SETS.items():
        if not (args.data / manifest / "manifest.tsv").is_file():
            print(f"{name}: left out, {args.data / manifest} is not there", file=sys.stderr)
            continue
        for way in WAYS:
            command = [sys.executable, __file__, str(args.data), str(args.work), "--model",
                       str(model), "--limit", str(args.limit), "--only", name, way]  # fmt: skip
            if code := subprocess.run(command, check=False).returncode:
                sys.exit(code)
            found.setdefault(name, {})[way] = heard(args.work / f"{slug(name, way)}.jsonl")
    if not found:
        sys.exit(f"{args.data}: no set is there")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path, help="folder of what was heard; made, or gone on in")
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled one)")
    parser.add_argument("--limit", type=int, default=0, help="of each set so many (0: all)")
    parser.add_argument("--peer", action="store_true", help="pocketsphinx beside it, 60 clips")
    parser.add_argument("--write", action="store_true", help="into model.toml and the card")
    parser.add_argument("--markdown", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = read_model_folder(args.model or find_model())
    if args.only:
        name, way = args.only
        target = args.work / f"{slug(name, way)}.jsonl"
        hear(args.data, folder.path, name, way, target, args.limit)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    mark = args.work / "model"
    if mark.is_file() and mark.read_text("utf-8") != identity(folder):
        sys.exit(f"{args.work}: holds what another model heard; choose another folder")
    mark.write_text(identity(folder), "utf-8")
    found = run_all(args, folder.path)
    files = (file for file in folder.path.rglob("*") if file.is_file())
    size = sum(file.stat().st_size for file in files) / 1e6
    rows = ["Word errors in percent:", "", *table(found), *costs(found, size)]
    if args.peer:
        rows += beside(args.data, folder.path, args.work)
    text = "\n".join(rows) + "\n"
    print(text)
    for name, ways in found.items():
        for way in WAYS:
            rate = rate_of(ways[way]).total.rate
            print(json.dumps({"name": f"word errors, {name}, {way}", "ours": round(rate, 4)}))
    if args.write:
        results = {
            f"{name}, {'live, ' if way == 'live' else ''}WER": round(
                rate_of(ways[way]).total.rate, 4)
            for name, ways in found.items() for way in WAYS
        }  # fmt: skip
        put(folder.path / "CARD.md", text)
        info = dataclasses.replace(folder.info, results={**folder.info.results, **results})
        write_model_file(folder.path, info)
        print(f"{folder.path / MODEL_FILE}: written", file=sys.stderr)
    for path in args.markdown:
        put(path, text)


if __name__ == "__main__":
    main()
