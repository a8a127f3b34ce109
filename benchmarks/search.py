"""Prefix beam search on 10 s of speech: ours, flashlight-text (C++) and plain Python.

    OMP_NUM_THREADS=1 python benchmarks/search.py

All search the same log-probabilities (250 frames, 5000 units) on one thread and must find the best
units of each frame themselves. The calls take turns; shown are medians of the thread's CPU time,
which is the time on the wall where nothing else runs. The data are made up, see
``make_log_probs``; ``flat`` is there to show where ours is not the faster.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from mynah.decoding import PrefixBeamSearch

# Name, kind of data, beam and units of a frame.
CASES = (("speech", 10), ("hard", 10), ("flat", 10), ("hard", 50))


def make_log_probs(
    kind: str = "speech", *, frames: int = 250, vocab: int = 5000, seed: int = 1
) -> npt.NDArray[np.float32]:
    """Log-probabilities (T, V) as a CTC model gives them; the blank is unit 0.

    About 70 % of the frames are blank with more than 0.99. Units are spoken in runs of one to
    three frames, each run with ten rivals of its own that it does not drop from one frame to the
    next. What the blank leaves of a frame goes to the runs around it, fading over six frames, and
    to a background of all units, shaped by how frequent they are (Zipf).

    Kinds: ``speech``, the spoken unit leads its rivals clearly most of the time; ``hard``, it
    leads hardly, and the blank is among the rivals; ``flat``, no frame is sure of its blank either
    (a model that has not learnt, or noise): not what a search is built for.
    """
    rng = np.random.default_rng(seed)
    frequency = -np.log(np.arange(1, vocab, dtype=np.float64))
    background = rng.permutation(frequency) + rng.normal(0, 1.5, (frames, vocab - 1))
    background -= np.logaddexp.reduce(background, axis=1, keepdims=True)
    spoken = np.full((frames, vocab - 1), -np.inf)  # log of each unit's share, not yet a sum of 1
    lead, spread = {"speech": (2.5, 1.2), "hard": (0.4, 0.5), "flat": (0.4, 0.5)}[kind]
    active = np.zeros(frames, dtype=bool)
    time_ = 3
    while time_ < frames - 4:
        length = int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
        rivals = rng.choice(vocab - 1, 11, replace=False)
        scores = np.append(0.0, -lead - np.cumsum(rng.exponential(spread, 10)) / 2)
        for frame in range(max(time_ - 6, 0), min(time_ + length + 6, frames)):
            distance = max(time_ - frame, frame - (time_ + length - 1), 0)
            heard = scores + rng.normal(0, 0.4, 11) - 1.5 * distance
            spoken[frame, rivals] = np.logaddexp(spoken[frame, rivals], heard)
            active[frame] |= distance == 0
        time_ += length + 1 + int(rng.poisson(3.4))
    blank = 1 - 10 ** -rng.uniform(2.05, 4.0, frames)  # 0.991 .. 0.9999
    blank[active] = rng.beta(1, 8, frames)[active]
    if kind == "flat":
        blank = rng.uniform(0.05, 0.5, frames)
    units = np.logaddexp(spoken, background - 3.0)
    units -= np.logaddexp.reduce(units, axis=1, keepdims=True)
    units += np.log1p(-blank)[:, None]
    return np.concatenate([np.log(blank)[:, None], units], axis=1).astype(np.float32)


def collapse(path: Sequence[int]) -> tuple[int, ...]:
    """The tokens of a path: repeats merged, blanks dropped."""
    kept = [u for i, u in enumerate(path) if u > 0 and (i == 0 or u != path[i - 1])]
    return tuple(kept)


def ours(log_probs: npt.NDArray[np.float32], beam: int) -> Callable[[], tuple[int, ...]]:
    search = PrefixBeamSearch(beam=beam, top_units=beam)
    return lambda: search.nbest(search.advance(search.start(), log_probs))[0].tokens


def flashlight(log_probs: npt.NDArray[np.float32], beam: int) -> Callable[[], tuple[int, ...]]:
    """flashlight-text without a lexicon or a language model, adding paths as we do."""
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconFreeDecoder,
        LexiconFreeDecoderOptions,
        ZeroLM,
    )

    options = LexiconFreeDecoderOptions(
        beam_size=beam,
        beam_size_token=beam,
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    decoder = LexiconFreeDecoder(options, ZeroLM(), -1, 0, [])
    address, (frames, vocab) = log_probs.ctypes.data, log_probs.shape
    # The first and last of its path stand for the borders, not for frames.
    return lambda: collapse(list(decoder.decode(address, frames, vocab)[0].tokens)[1:-1])


def plain(log_probs: npt.NDArray[np.float32], beam: int) -> Callable[[], tuple[int, ...]]:
    """The search that the tests compare with: a table by prefix, as WeNet's in Python."""
    path = Path(__file__).resolve().parent.parent / "tests/unit/decoding/plain_search.py"
    spec = importlib.util.spec_from_file_location("plain_search", path)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["plain_search"] = module
    spec.loader.exec_module(module)
    return lambda: tuple(module.prefix_beam(log_probs, beam, beam)[0][0])


def medians(calls: dict[str, Callable[[], tuple[int, ...]]], repeats: int) -> dict[str, float]:
    """Milliseconds of each call, the calls taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            taken[name].append(1000 * (time.thread_time() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="time prefix beam searches")
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    makers = {"ours": ours, "flashlight-text": flashlight, "plain Python": plain}
    if importlib.util.find_spec("flashlight") is None:
        print("flashlight-text is not installed (pip install flashlight-text): not compared")
        del makers["flashlight-text"]
    for kind, beam in CASES:
        log_probs = make_log_probs(kind)
        calls = {name: make(log_probs, beam) for name, make in makers.items()}
        results = {name: call() for name, call in calls.items()}
        slow = {"plain Python": calls.pop("plain Python")}
        times = medians(calls, arguments.repeats) | medians(slow, 3)
        sure = float((np.exp(log_probs[:, 0]) > 0.99).mean())
        print(f"\n{kind}, beam {beam}: blank above 0.99 in {100 * sure:.0f} % of the frames")
        for name, taken in times.items():
            agrees = "" if results[name] == results["ours"] else "  another best"
            print(f"  {name:16} {taken:8.2f} ms{agrees}")
        for name in [name for name in times if name != "ours"]:
            line = {
                "name": f"prefix beam {beam}, 10 s, {kind}, one thread, ms; peer {name}",
                "ours": round(times["ours"], 2),
                "peer": round(times[name], 2),
                "ratio": round(times[name] / times["ours"], 2),
            }
            print(json.dumps(line))


if __name__ == "__main__":
    main()
