"""The bundled English model where the sound is worse: telephones, levels, noise, edges, words.

    OMP_NUM_THREADS=1 python benchmarks/conditions.py DATA [--peer] [--digits DIGITS]

DATA holds `native` (`benchmarks/native_stretches.py`): native readers, heard as they are and
changed in one way each. DIGITS holds the Free Spoken Digit Dataset, single words of 0.2 to 1 s at
8 kHz whose edges are cut tight; every twelfth clip is heard alone, and strings of five from one
speaker with pauses of 0.2 to 1.8 s. With ``--peer`` pocketsphinx hears the same. Rates are of word
errors.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import soxr
from recogniser import Hear, clips, line, ours, pocketsphinx

from mynah import audio
from mynah.audio.augment import Band, through
from mynah.corpus import read_manifest
from mynah.corpus.samples import load
from mynah.evaluation import Utterance, score

RATE = 16000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TELEPHONE = Band(250, 3500, True)
DEVELOPMENT = ("george", "jackson", "lucas")  # the speakers of digits that may be looked at
Samples = npt.NDArray[np.float32]
Said = list[tuple[str, Samples]]


def at_8_khz(samples: Samples) -> Samples:
    """As if it had been recorded at 8 kHz."""
    narrow = soxr.resample(soxr.resample(samples, RATE, 8000), 8000, RATE)
    return np.asarray(narrow, np.float32)


def in_16_bits(samples: Samples) -> Samples:
    """What a file keeps."""
    return np.asarray(np.round(samples * 32767) / 32767, np.float32)


def noisy(samples: Samples) -> Samples:
    """White noise 15 dB below the speech."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    noise = np.random.default_rng(len(samples)).standard_normal(len(samples))
    return np.asarray(samples + noise * np.sqrt(power) * 10 ** (-15 / 20), np.float32)


def tight(samples: Samples) -> Samples:
    """Without what is 35 dB below the loudest 10 ms at both ends."""
    power = np.convolve(np.square(samples), np.ones(160) / 160, "same")
    loud = np.flatnonzero(power > power.max() * 10**-3.5)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


CONDITIONS: dict[str, Callable[[Samples], Samples]] = {
    "as recorded": lambda samples: samples,
    "at 8 kHz": at_8_khz,
    "by telephone": lambda samples: through(TELEPHONE, samples, RATE),
    "34 dB quieter": lambda samples: in_16_bits(samples * np.float32(0.02)),
    "six times too loud, clipped": lambda samples: np.clip(6 * samples, -0.5, 0.5),
    "white noise, 15 dB": noisy,
    "without the lowest 200 Hz": lambda samples: through(Band(200, RATE / 2, False), samples, RATE),
    "edges cut tight": tight,
}


def digits(folder: Path, speakers: Callable[[str], bool]) -> tuple[Said, Said]:
    """Single digits, and strings of five with pauses."""
    cuts = [c for c in read_manifest(str(folder / "manifest.tsv")) if speakers(c.speaker)]
    alone: Said = [_digit(cut.text, load(cut, audio.read, rate=RATE)) for cut in cuts[::12]]
    rng = np.random.default_rng(0)
    strings: Said = []
    for speaker in sorted({cut.speaker for cut in cuts}):
        of_one = [cut for cut in cuts if cut.speaker == speaker]
        for _ in range(8):
            words, parts = [], [hiss(rng, 0.5)]
            for number in rng.integers(len(of_one), size=5):
                word, samples = _digit(
                    of_one[number].text, load(of_one[number], audio.read, rate=RATE)
                )
                words.append(word)
                parts += [samples, hiss(rng, rng.uniform(0.2, 1.8))]
            strings.append((" ".join(words), np.concatenate(parts)))
    return alone, strings


def _digit(text: str, samples: Samples) -> tuple[str, Samples]:
    return (DIGITS[int(text)] if text.isdecimal() else text), samples


def hiss(rng: np.random.Generator, seconds: float) -> Samples:
    """The floor of a microphone."""
    return 3e-4 * rng.standard_normal(round(seconds * RATE), dtype=np.float32)


def rate(hear: Hear, said: Sequence[tuple[str, Samples]]) -> float:
    """Word errors in per cent."""
    texts = hear([samples for _, samples in said])
    utterances = [
        Utterance(str(i), text, heard)
        for i, ((text, _), heard) in enumerate(zip(said, texts, strict=True))
    ]
    return 100 * (score(utterances, unit="word").total.rate or 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", help="a folder or name (default: the bundled one)")
    parser.add_argument("--peer", action="store_true", help="pocketsphinx too")
    parser.add_argument("--digits", type=Path, help="folder of spoken digits, with a manifest")
    args = parser.parse_args()
    native = clips(args.data, "native", {}, 0)
    sets = {
        f"native readers, {name}": [(text, change(samples)) for text, samples in native]
        for name, change in CONDITIONS.items()
    }
    if args.digits:
        for name, of in {
            "development": lambda speaker: speaker in DEVELOPMENT,
            "test": lambda speaker: speaker not in DEVELOPMENT,
        }.items():
            alone, strings = digits(args.digits, of)
            sets |= {f"single digits, {name}": alone, f"strings of digits, {name}": strings}
    mine, peer = ours(False, args.model), pocketsphinx() if args.peer else None
    for name, said in sets.items():
        found = rate(mine, said)
        if peer is not None:
            line(name, found, rate(peer, said), "%")
        else:
            print(f"{name:<46} {found:8.2f} % of {len(said)} clips", flush=True)
            print(json.dumps({"name": name, "ours": round(found, 2)}), flush=True)


if __name__ == "__main__":
    main()
