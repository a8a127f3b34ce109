"""Features on one thread: ours (numpy) beside kaldi-native-fbank (C++), fetched as one array.

    python benchmarks/features.py [--rounds 31]

Prints a line for people and a line of JSON for each figure; a ratio above 1 means that ours is
faster. Both sides run alternately in one process on the same samples (noise shaped like speech, at
16 kHz, dither off), and the median round counts.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy, which reads them when it is imported

import argparse
import json
import statistics
import time
from collections.abc import Callable

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from mynah.audio import FbankConfig, MfccConfig, WhisperMelConfig, make_frontend

Array = npt.NDArray[np.float32]
RATE = 16_000


def signal(seconds: float) -> Array:
    """Noise with a falling spectrum and a syllable's rhythm."""
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(int(seconds * RATE))
    smooth = np.convolve(noise, np.ones(8) / 8, mode="same")
    rhythm = 0.6 + 0.4 * np.sin(2 * np.pi * 4.0 * np.arange(len(noise)) / RATE)
    return (0.1 * smooth * rhythm).astype(np.float32)


def fetch(computer: knf.OnlineFbank | knf.OnlineMfcc, samples: Array) -> Array:
    """All frames of kaldi-native-fbank as one array."""
    computer.accept_waveform(RATE, samples)
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def kaldi_fbank(samples: Array) -> Array:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80
    return fetch(knf.OnlineFbank(options), samples * np.float32(32_768))


def kaldi_mfcc(samples: Array) -> Array:
    options = knf.MfccOptions()
    options.frame_opts.dither = 0.0
    options.use_energy = False
    return fetch(knf.OnlineMfcc(options), samples * np.float32(32_768))


def kaldi_whisper(samples: Array) -> Array:
    return fetch(knf.OnlineWhisperFbank(knf.WhisperFeatureOptions()), samples)


def medians(sides: list[Callable[[], Array]], rounds: int) -> list[float]:
    """Median seconds of each side, run in turn."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds + 3):
        for side, taken in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[3:]) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    figures = [
        ("fbank 80", make_frontend(FbankConfig()), kaldi_fbank, 2e-3),
        ("mfcc 13", make_frontend(MfccConfig()), kaldi_mfcc, 2e-3),
        ("whisper log-mel 80", make_frontend(WhisperMelConfig()), kaldi_whisper, None),
    ]
    for name, frontend, peer, tolerance in figures:
        for seconds in (10, 30):
            samples = signal(seconds)
            if tolerance is not None:
                worst = float(np.abs(frontend(samples) - peer(samples)).max())
                assert worst < tolerance, f"{name}: the two differ by {worst}"
            ours, theirs = medians(
                [lambda f=frontend, s=samples: f(s), lambda p=peer, s=samples: p(s)], rounds
            )
            print(
                f"{name}, {seconds} s: ours {ours * 1e3:.2f} ms ({seconds / ours:.0f} x real time),"
                f" kaldi-native-fbank {theirs * 1e3:.2f} ms; {theirs / ours:.2f} times as fast"
            )
            record = {
                "name": f"features: {name}, {seconds} s, one thread",
                "ours": ours,
                "peer": theirs,
                "ratio": theirs / ours,
            }
            print(json.dumps(record))


if __name__ == "__main__":
    main()
