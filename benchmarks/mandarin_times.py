"""Times of Mandarin words: by the bundled recogniser's English phones, by Whisper, by its peer.

    python benchmarks/mandarin_times.py CHECKPOINT AISHELL [--where split=test] [--jobs 2]

AISHELL is a manifest of one speaker, or of one that ``--where`` chooses; CHECKPOINT a folder of
CTranslate2's, as for ``whisper_words.py``. Where the characters are is an estimate: three states
for each initial and final, mixtures of Gaussians over MFCC, trained on this speaker's recordings
alone from an even division on (Viterbi training), in steps of 10 ms. It knows the texts, as the
first side does; the others are counted by the characters that they hear rightly, simplified.
Sentences with what has no reading (digits, letters) are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from whisper_sides import Samples, arguments, clips, faster_whisper_model, measured, our_recognizer
from whisper_words import condition

from mynah.audio import make_frontend
from mynah.evaluation import align
from mynah.text.hanzi import TONES, syllable_units
from mynah.text.pinyin import syllables
from mynah.text.script import ScriptConverter

SIDES = (
    "ours, text given",
    "ours int8, ctc",
    "ours int8, attention",
    "faster-whisper int8",
)
SILENCE, STATES, ROUNDS, SINGLE, MIXTURE = "sil", 3, 12, 6, 8
SHIFT = 0.01

Array = npt.NDArray[np.floating[Any]]
Places = npt.NDArray[np.int64]
Heard = list[tuple[str, float, float]]  # characters and their times
Hear = Callable[[str, Samples], Heard]


class Spoken(NamedTuple):
    """A sentence: its characters, features, and the chain of states that says it.

    ``chain`` are pairs of a unit and the number of its state; ``spans`` the states of each
    character; ``pauses`` those of the silences that may be passed over.
    """

    sound: Samples
    text: str
    feats: Array
    chain: list[tuple[str, int]]
    spans: list[tuple[int, int]]
    pauses: list[tuple[int, int]]


class Mixture(NamedTuple):
    """Diagonal Gaussians."""

    weights: Array
    means: Array
    variances: Array

    def __call__(self, feats: Array) -> Array:
        """Log-densities (T,) of ``feats`` (T, F)."""
        return np.asarray(np.logaddexp.reduce(self.parts(feats), axis=1))

    def parts(self, feats: Array) -> Array:
        """Those of each Gaussian, its weight with it (T, K)."""
        squares = ((feats[:, None] - self.means) ** 2 / self.variances).sum(axis=2)
        return np.log(self.weights) - (squares + np.log(self.variances).sum(axis=1)) / 2


def spoken(clips: Sequence[tuple[str, Samples]]) -> list[Spoken]:
    """The sentences that are hanzi alone."""
    mfcc = make_frontend({"kind": "mfcc"})
    found = []
    for text, sound in clips:
        said = [syllable_units(one) for one in syllables(text)]
        if len(said) != len(text) or not all(said):
            continue
        chain, spans, pauses = _states(SILENCE), [], []
        for units in said:
            first = len(chain)
            for unit in units:
                chain += _states(unit) if unit not in TONES else []
            spans.append((first, len(chain)))
            pauses.append((len(chain), len(chain) + STATES))
            chain += _states(SILENCE)
        feats = mfcc(sound)
        feats = _with_differences(feats - feats.mean(axis=0))
        found.append(Spoken(sound, text, feats, chain, spans, pauses))
    return found


def _states(unit: str) -> list[tuple[str, int]]:
    return [(unit, number) for number in range(STATES)]


def _with_differences(feats: Array) -> Array:
    parts = [feats]
    for _ in range(2):
        padded = np.pad(parts[-1], ((2, 2), (0, 0)), mode="edge")
        parts.append((2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10)
    return np.concatenate(parts, axis=1)


def places(sentences: Sequence[Spoken]) -> list[list[tuple[float, float]]]:
    """Start and end of each character of each sentence, in seconds."""
    paths = [_even(one) for one in sentences]
    whole = np.concatenate([one.feats for one in sentences])
    floor = 0.02 * whole.var(axis=0)
    for number in range(1, ROUNDS):
        frames: dict[tuple[str, int], list[Array]] = {}
        for one, path in zip(sentences, paths, strict=True):
            for state in np.unique(path):
                frames.setdefault(one.chain[state], []).append(one.feats[path == state])
        size = 1 if number <= SINGLE else MIXTURE
        models = {name: _fit(np.concatenate(parts), size, floor) for name, parts in frames.items()}
        paths = [_best(one, models) for one in sentences]
    return [
        [_span(path, first, stop) for first, stop in one.spans]
        for one, path in zip(sentences, paths, strict=True)
    ]


def _span(path: Places, first: int, stop: int) -> tuple[float, float]:
    inside = np.flatnonzero((path >= first) & (path < stop))
    return float(inside[0] * SHIFT), float((inside[-1] + 1) * SHIFT)


def _even(one: Spoken) -> Places:
    """All states for equally long, without the pauses between characters."""
    passed = {state for first, stop in one.pauses[:-1] for state in range(first, stop)}
    kept = np.array([state for state in range(len(one.chain)) if state not in passed])
    return kept[np.arange(len(one.feats)) * len(kept) // len(one.feats)]


def _fit(frames: Array, size: int, floor: Array) -> Mixture:
    size = int(np.clip(len(frames) // 40, 1, size))
    rng = np.random.default_rng(0)
    variance = np.maximum(frames.var(axis=0), floor)
    means = frames[rng.choice(len(frames), size, replace=False)] if size > 1 else frames.mean(0)
    found = Mixture(np.full(size, 1 / size), np.atleast_2d(means), np.tile(variance, (size, 1)))
    for _ in range(5 if size > 1 else 0):
        parts = found.parts(frames)
        shares = np.exp(parts - np.logaddexp.reduce(parts, axis=1)[:, None])
        counts = shares.sum(axis=0) + 1e-3
        means = (shares.T @ frames + 1e-3 * frames.mean(axis=0)) / counts[:, None]
        squares = shares.T @ frames**2 / counts[:, None] - means**2
        found = Mixture(counts / counts.sum(), means, np.maximum(squares, floor))
    return found


def _best(one: Spoken, models: dict[tuple[str, int], Mixture]) -> Places:
    """The most probable path; a state leads to itself and the next, and the pause behind a
    character may be passed over."""
    scores = {name: models[name](one.feats) if name in models else None for name in one.chain}
    never = np.full(len(one.feats), -1e30)
    local = np.stack([never if (s := scores[name]) is None else s for name in one.chain], axis=1)
    frames, states = local.shape
    before = np.full(states, -1)  # a state that leads here by passing over a pause
    for first, stop in one.pauses:
        if stop < states:
            before[stop] = first - 1
    total = np.full(states, -np.inf)
    total[[0, STATES]] = local[0, [0, STATES]]
    came = np.zeros((frames, states), np.int64)
    every = np.arange(states)
    for frame in range(1, frames):
        ways = np.stack([
            total, np.concatenate([[-np.inf], total[:-1]]),
            np.where(before >= 0, total[before], -np.inf),
        ])  # fmt: skip
        which = ways.argmax(axis=0)
        came[frame] = np.choose(which, [every, every - 1, before])
        total = ways[which, every] + local[frame]
    state = max(states - 1, one.pauses[-1][0] - 1, key=lambda last: total[last])
    path = np.zeros(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state = came[frame, state]
    return path


def given(args: argparse.Namespace) -> Hear:
    """The bundled recogniser, which is told what is said."""
    from mynah.runtime.align import align as align_text
    from mynah.runtime.model import load_model

    model = load_model(threads=1)

    def hear(text: str, sound: Samples) -> Heard:
        found = align_text(model, sound, text, language="zh", exact=True)
        return [(word.text, word.start, word.end) for word in found.transcript.words]

    return hear


def ours(args: argparse.Namespace, side: str) -> Hear:
    """mynah, with the source of times that ``side`` names."""
    from mynah.runtime.request import Request
    from mynah.runtime.whisper.options import WhisperOptions

    recognizer = our_recognizer(args, side)
    options = WhisperOptions(word_timestamps="ctc" if "ctc" in side else "attention")
    request = Request(language="zh", whisper=options, vad=False)

    def hear(text: str, sound: Samples) -> Heard:
        found = recognizer.transcribe(sound, request=request)
        return [(word.text, word.start, word.end) for word in found.words]

    return hear


def faster_whisper(args: argparse.Namespace, side: str) -> Hear:
    """faster-whisper with its defaults."""
    model = faster_whisper_model(args, side)

    def hear(text: str, sound: Samples) -> Heard:
        segments, _ = model.transcribe(sound, language="zh", word_timestamps=True)
        words = [word for segment in segments for word in segment.words or ()]
        return [(word.word, word.start, word.end) for word in words]

    return hear


def measure(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Found less true start and end of each character that was heard rightly."""
    sentences = spoken(clips(args.data, args.clips, args.where))
    truth = places(sentences)
    hear = given(args) if "given" in side else ours(args, side) if "ours" in side else None
    hear = hear or faster_whisper(args, side)
    simplified, found = ScriptConverter("simplified"), []
    for one, spans in zip(sentences, truth, strict=True):
        heard = [(simplified(text).strip(" ，。！？、,.?!"), start, end)
                 for text, start, end in hear(one.text, one.sound)]  # fmt: skip
        heard = [word for word in heard if word[0]]
        mine, true = iter(heard), iter(spans)
        for pair in align(list(one.text), [text for text, _, _ in heard]):
            span = next(true) if pair.ref is not None else None
            word = next(mine) if pair.hyp is not None else None
            if span and word and pair.ref == pair.hyp:
                found.append((word[1] - span[0], word[2] - span[1]))
    return {"words": sum(map(len, truth)), "differences": found}


def main() -> None:
    parser = arguments(__doc__, SIDES)
    parser.add_argument("data", type=Path)
    parser.add_argument("--where", type=condition, action="append", default=[])
    parser.add_argument("--clips", type=int, default=0, help="0: all")
    _, found = measured(parser, measure)
    count = next(iter(found.values()))["words"]
    print(f"{count} characters; ms: median and 90 % of starts and ends")
    for side, result in found.items():
        rows = 1000 * np.array(result["differences"])
        median, most = np.quantile(np.abs(rows), (0.5, 0.9))
        start, end = np.median(rows, axis=0)
        print(f"  {side:24} {len(rows):5} characters {median:6.0f} {most:6.0f}"
              f"   starts {start:+5.0f}, ends {end:+5.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
