"""Aligning a text that is not what was said: parts left out, and parts that nobody said.

    OMP_NUM_THREADS=1 python benchmarks/alignment_damaged.py --data FOLDER [--model M] [--tune]

FOLDER holds speechocean762. The utterances of each of the twelve development speakers, who are in
no training set, are one recording; runs of three to ten words are taken out of its text (speech
without text), and as many runs of another speaker's words are put in (text without speech). Where
the words are is known from aligning each utterance with its own text, exactly.

A word of the text is wrong when it was said and is not found within half a second of its place, or
was not said and is found. Speech without text is found as far as the stretches cover that are
reported as foreign. --tune tries other costs than those of `mynah align`, one after the other, and
prints what each gives.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from confidence import SET, development_speakers

from mynah.audio import read
from mynah.corpus import load, matcher, read_manifest
from mynah.decoding import align_text, force_align
from mynah.runtime.align import Spelt, encode_long, spell
from mynah.runtime.model import Model, load_model
from mynah.text import normalize_for_scoring

NEAR = 0.5  # seconds
RUNS = 4  # taken out and put in, of each recording
GRID = {
    "foreign": (0.75, 1.0, 1.5, 2.0, 3.0),
    "left_out": (0.5, 1.0, 1.5, 2.0, 3.0),
    "leap": (3.0, 6.0, 10.0, 15.0, 25.0),
}
NOW = {name: inspect.signature(align_text).parameters[name].default for name in GRID}

Frames = tuple[int, int]  # first, one past the last


@dataclass(frozen=True)
class Task:
    """A recording and its damaged text.

    ``words`` are those of the text, ``places`` where each is heard, None where it was not said;
    ``gone`` is where words are heard that are not in the text.
    """

    log_probs: npt.NDArray[np.float32]  # (T, V)
    words: tuple[Spelt, ...]
    places: tuple[Frames | None, ...]
    gone: tuple[Frames, ...]


@dataclass(frozen=True)
class Outcome:
    """Shares of words, and of frames of speech without text."""

    missed: float
    misplaced: float
    invented: float
    wrong: float
    foreign: float


def damaged(model: Model, data: Path, seed: int = 0) -> list[Task]:
    """A task of each development speaker."""
    speakers = development_speakers()
    texts: dict[str, list[str]] = {speaker: [] for speaker in speakers}
    sounds: dict[str, list[npt.NDArray[np.float32]]] = {speaker: [] for speaker in speakers}
    meets = matcher({"speaker": speakers}, {})
    for cut in read_manifest(str(data / SET)):
        if meets(cut):
            speaker = cut.value("speaker")
            texts[speaker].append(normalize_for_scoring(cut.text, "en"))
            sounds[speaker].append(load(cut, read, rate=model.rate))
    rng = np.random.default_rng(seed)
    tasks = []
    for number, speaker in enumerate(speakers):
        other = " ".join(texts[speakers[number - 1]]).split()
        tasks.append(_task(model, sounds[speaker], texts[speaker], other, rng))
    return tasks


def _task(
    model: Model,
    sounds: Sequence[npt.NDArray[np.float32]],
    texts: Sequence[str],
    other: list[str],
    rng: np.random.Generator,
) -> Task:
    step = model.clock.step
    unit = round(step * model.rate)
    words: list[str] = []
    places: list[Frames | None] = []
    parts, first = [], 0
    for sound, text in zip(sounds, texts, strict=True):
        sound = np.pad(sound, (0, -len(sound) % unit))  # whole frames, so that places add up
        spelt = [item.units for item in spell(model.tokenizer, text.split(), "en")]
        log_probs = np.concatenate(list(encode_long(model, [sound])))
        found = force_align(log_probs, [unit for units in spelt for unit in units])
        at = 0
        for word, units in zip(text.split(), spelt, strict=True):
            words.append(word)
            last = at + len(units)
            places.append((first + found.starts[at], first + found.ends[last - 1]))
            at = last
        parts.append(sound)
        first += len(sound) // unit
    gone: list[Frames] = []
    for _ in range(RUNS):
        count = int(rng.integers(3, 11))
        start = int(rng.integers(0, len(words) - count))
        inside = [place for place in places[start : start + count] if place is not None]
        gone.append((inside[0][0], inside[-1][1]))
        del words[start : start + count], places[start : start + count]
    for _ in range(RUNS):
        count = int(rng.integers(3, 11))
        start, place = int(rng.integers(0, len(other) - count)), int(rng.integers(0, len(words)))
        words[place:place] = other[start : start + count]
        places[place:place] = [None] * count
    log_probs = np.concatenate(list(encode_long(model, [np.concatenate(parts)])))
    spelt_words = spell(model.tokenizer, words, "en")
    return Task(log_probs, tuple(spelt_words), tuple(places), tuple(gone))


def outcome(tasks: Sequence[Task], step: float, costs: dict[str, float]) -> Outcome:
    """What aligning with ``costs`` gives."""
    said = missed = misplaced = unsaid = invented = silent = covered = 0
    for task in tasks:
        units = [[*word.gap, *word.units] for word in task.words]
        found = align_text(task.log_probs, units, **costs)  # type: ignore[arg-type]
        at = 0
        for word, place in zip(task.words, task.places, strict=True):
            begin, last = at + len(word.gap), at + len(word.gap) + len(word.units)
            at = last
            start, end = found.starts[begin], found.ends[last - 1]
            if place is None:
                unsaid += 1
                invented += start >= 0
                continue
            said += 1
            missed += start < 0
            off = max(abs(start - place[0]), abs(end - place[1])) * step
            misplaced += start >= 0 and off > NEAR
        foreign = np.zeros(len(task.log_probs), bool)
        for start, end in found.foreign:
            foreign[start:end] = True
        loud = task.log_probs[:, 0] < np.log(0.5)
        for start, end in task.gone:
            silent += int(loud[start:end].sum())
            covered += int((foreign & loud)[start:end].sum())
    wrong = missed + misplaced + invented
    return Outcome(
        missed / said, misplaced / said, invented / unsaid, wrong / (said + unsaid),
        covered / max(silent, 1),
    )  # fmt: skip


def show(costs: dict[str, float], found: Outcome) -> None:
    """A line of the table."""
    named = " ".join(f"{name} {value:g}" for name, value in costs.items())
    print(f"{named:<38}{found.wrong:>9.1%}{found.missed:>10.1%}{found.misplaced:>11.1%}"
          f"{found.invented:>10.1%}{found.foreign:>10.1%}", flush=True)  # fmt: skip


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--model", metavar="M")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tune", action="store_true")
    args = parser.parse_args()
    model = load_model(args.model)
    tasks = damaged(model, args.data, args.seed)
    said = sum(place is not None for task in tasks for place in task.places)
    unsaid = sum(place is None for task in tasks for place in task.places)
    seconds = sum(len(task.log_probs) for task in tasks) * model.clock.step
    print(f"{model.name}: {len(tasks)} recordings, {seconds / 60:.0f} min, {said} words said, "
          f"{unsaid} that were not")  # fmt: skip
    print(
        f"{'costs':<38}{'wrong':>9}{'missed':>10}{'misplaced':>11}{'invented':>10}{'foreign':>10}"
    )
    costs = dict(NOW)
    best = outcome(tasks, model.clock.step, costs)
    show(costs, best)
    line = {"name": "alignment.damaged_text_words_wrong", "ours": round(best.wrong, 4)}
    for name, values in GRID.items() if args.tune else ():
        for value in values:
            tried = {**costs, name: value}
            if value != costs[name]:
                found = outcome(tasks, model.clock.step, tried)
                show(tried, found)
                if found.wrong < best.wrong:
                    best, costs = found, tried
    if args.tune:
        print("best:", costs)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
