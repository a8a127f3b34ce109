"""A U2++ model of AISHELL's size, offline and live: ours, sherpa-onnx and eager PyTorch.

    python benchmarks/inference.py [--rounds 7] [--threads 1 2]

12 causal conformer blocks, 256 wide, 4 heads, 2048 feed-forward, 4233 units, random weights, the
same for all sides; CTC greedy and features included everywhere. Offline: 10 s. Live: 30 s fed in
pieces of 640 ms (chunk 16, 4 chunks of left context), time of a chunk; and eight such streams
stepped together. Sides run alternately, the median round counts. Prints a line for people and a
line of JSON each; a ratio above 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peer_sherpa
import sherpa_onnx
import torch

import mynah
from mynah.audio import make_frontend
from mynah.config import as_dict
from mynah.export.folder import export_folder
from mynah.model_folder import ModelInfo, read_model_folder, write_model_folder
from mynah.models.load import write_weights
from mynah.models.u2.model import U2, DecoderConfig, U2Config
from mynah.runtime.request import Request
from mynah.runtime.session import Endpointing

RATE, UNITS, CHUNK, LEFT, STREAMS = 16_000, 4233, 16, 4, 8
PIECE = RATE * 64 // 100  # samples of a chunk
NEVER = Endpointing(nothing=1e9, after_speech=1e9, longest=1e9)
PLAIN = Request(method="greedy", words=False, vad=False)  # the noise is to be decoded
RNG = np.random.default_rng(0)
TEN = (RNG.standard_normal(10 * RATE) * 0.1).astype(np.float32)
THIRTY = (RNG.standard_normal(30 * RATE) * 0.1).astype(np.float32)


def make_model() -> U2:
    """Random weights; the blank is made likely, as in a trained model."""
    torch.manual_seed(0)
    model = U2(U2Config(UNITS, decoder=DecoderConfig(3, 3)))
    with torch.no_grad():
        model.ctc.bias[0] += 4.0
        model.mean.fill_(10.0)
        model.istd.fill_(0.3)
    return model.eval()


def write_ours(model: U2, folder: Path) -> Path:
    """The model as an exported folder."""
    info = ModelInfo(
        "u2", "aishell-size", RATE, config=as_dict(model.config), frontend={"kind": "fbank"},
        tokenizer={"kind": "units"}, streaming={"chunk": CHUNK, "left": LEFT},
    )  # fmt: skip
    with write_model_folder(folder / "model", info) as work:
        write_weights(model.state_dict(), work / "weights.safetensors")
        (work / "tokenizer").mkdir()
        names = ["<blank>", "<unk>", *(f"u{i}" for i in range(2, UNITS - 1)), "<sos/eos>"]
        table = "".join(f"{name} {i}\n" for i, name in enumerate(names))
        (work / "tokenizer" / "units.txt").write_text(table)
    export_folder(read_model_folder(folder / "model"), folder / "exported")
    return folder / "exported"


def ours_offline(recogniser: mynah.Recognizer) -> Callable[[], object]:
    return lambda: recogniser.transcribe(TEN, PLAIN)


def ours_live(recogniser: mynah.Recognizer, streams: int) -> Callable[[], object]:
    def run() -> None:
        batcher = recogniser.batcher()
        sessions = [recogniser.stream(PLAIN, endpointing=NEVER) for _ in range(streams)]
        for first in range(0, len(THIRTY), PIECE):
            piece = THIRTY[first : first + PIECE]
            batcher.feed_many([(session, piece) for session in sessions])
        batcher.finish_many(sessions)

    return run


def sherpa_offline(folder: Path, precision: str, threads: int) -> Callable[[], object]:
    recogniser = sherpa_onnx.OfflineRecognizer.from_wenet_ctc(
        str(folder / f"offline.{precision}.onnx"), str(folder / "tokens.txt"), num_threads=threads
    )

    def run() -> None:
        stream = recogniser.create_stream()
        stream.accept_waveform(RATE, TEN)
        recogniser.decode_stream(stream)

    return run


def sherpa_live(folder: Path, precision: str, threads: int, streams: int) -> Callable[[], object]:
    recogniser = sherpa_onnx.OnlineRecognizer.from_wenet_ctc(
        str(folder / "tokens.txt"), str(folder / f"online.{precision}.onnx"),
        chunk_size=CHUNK, num_left_chunks=LEFT, num_threads=threads,
    )  # fmt: skip

    def run() -> None:
        live = [recogniser.create_stream() for _ in range(streams)]
        for first in range(0, len(THIRTY), PIECE):
            for stream in live:
                stream.accept_waveform(RATE, THIRTY[first : first + PIECE])
            while ready := [s for s in live if recogniser.is_ready(s)]:
                recogniser.decode_streams(ready)

    return run


def eager_offline(model: U2) -> Callable[[], object]:
    frontend = make_frontend({"kind": "fbank"})

    def run() -> None:
        feats = torch.from_numpy(frontend(TEN))[None]
        with torch.inference_mode():
            encoded, _, _ = model(feats, torch.tensor([feats.shape[1]]))
            model.ctc_log_probs(encoded).argmax(-1)

    return run


def eager_live(model: U2) -> Callable[[], object]:
    frontend = make_frontend({"kind": "fbank"})

    def run() -> None:
        stream, state = frontend.stream(), model.init_state(1, capacity=CHUNK * LEFT)
        with torch.inference_mode():
            for first in range(0, len(THIRTY), PIECE):
                feats = torch.from_numpy(stream.feed(THIRTY[first : first + PIECE]))[None]
                encoded, _, after = model(feats, torch.tensor([feats.shape[1]]), state)
                assert after is not None
                state = after
                model.ctc_log_probs(encoded).argmax(-1)

    return run


def race(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each side, run alternately after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(name: str, seconds: dict[str, float], share: float) -> None:
    """A line a peer; ``share`` of the seconds is what one chunk or recording took."""
    for peer in list(seconds)[1:]:
        ours, theirs = seconds["ours"] * share * 1e3, seconds[peer] * share * 1e3
        print(f"{name:<34} ours {ours:7.1f} ms  {peer:<12} {theirs:7.1f} ms  {theirs / ours:5.2f}x")
        print(json.dumps({
            "name": f"{name}, {peer}", "ours": round(ours, 2), "peer": round(theirs, 2),
            "ratio": round(theirs / ours, 2),
        }))  # fmt: skip
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    chunks = len(THIRTY) / PIECE
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), make_model()
        exported = write_ours(model, folder)
        peer_sherpa.write(model, folder, CHUNK, LEFT)
        for threads in args.threads:
            torch.set_num_threads(threads)
            for precision in ("int8", "fp32"):
                ours = mynah.load(exported, engine="onnx", precision=precision, threads=threads)
                label = f"{precision}, {threads} thread{'s' if threads > 1 else ''}"
                sides = {"ours": ours_offline(ours)}
                sides["sherpa-onnx"] = sherpa_offline(folder, precision, threads)
                sides |= {"eager fp32": eager_offline(model)}
                report(f"offline 10 s, {label}", race(sides, args.rounds), 1.0)
                sides = {"ours": ours_live(ours, 1)}
                sides["sherpa-onnx"] = sherpa_live(folder, precision, threads, 1)
                sides |= {"eager fp32": eager_live(model)}
                report(f"chunk of 640 ms, {label}", race(sides, args.rounds), 1 / chunks)
                sides = {"ours": ours_live(ours, STREAMS)}
                sides["sherpa-onnx"] = sherpa_live(folder, precision, threads, STREAMS)
                each = 1 / chunks / STREAMS
                report(
                    f"a stream of {STREAMS}, {label}", race(sides, max(args.rounds // 2, 1)), each
                )


if __name__ == "__main__":
    main()
