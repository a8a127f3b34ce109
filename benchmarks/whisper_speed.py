"""Whisper on the CPU: ours in int8 and its peers, the same random checkpoints and the same audio.

    python benchmarks/whisper_speed.py --sizes tiny base small --threads 2 --work whisper

Every system hears the same noise and says 100 tokens (the end of the text is forbidden), its own
front end included, in a process of its own that first does all once; shown are medians. What a
window costs does not depend on what the weights are. 5 s clips are as long as the others make
them, 30 s; ours also by ``short_context``, which encodes 6 s. Peers that are not installed are left
out: faster-whisper, pywhispercpp, openai-whisper, transformers (the last two make their
checkpoints, too, and need PyTorch). The cores must not be used by anything else; where others share
the machine, give ``--rounds``: the systems take turns, and ratios are those within a round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
RATE, WINDOW, WORDS, BATCH = 16_000, 30, 100, 8
SOT, ENGLISH, TRANSCRIBE, NO_TIMES, EOT = 50258, 50259, 50359, 50363, 50257
PROMPT = [SOT, ENGLISH, TRANSCRIBE, NO_TIMES]

Audio = npt.NDArray[np.float32]
Call = Callable[[], int]  # -> tokens said of the last window


@dataclass(frozen=True)
class Case:
    """What is timed: seconds of audio, hypotheses, windows, whether the context is short."""

    name: str
    seconds: int
    beam: int = 1
    batch: int = 1
    short: bool = False


CASES = (
    Case("30 s, greedy", 30),
    Case("30 s, beam 5", 30, beam=5),
    Case("5 s, greedy", 5),
    Case("5 s, greedy, short context", 5, short=True),
    Case("5 s, beam 5, short context", 5, beam=5, short=True),
    Case("8 x 30 s, greedy", 30, batch=BATCH),
    Case("8 x 30 s, beam 5", 30, beam=5, batch=BATCH),
)


def audio(seconds: int) -> Audio:
    """Noise that comes and goes."""
    rng = np.random.default_rng(seconds)
    samples = 0.1 * rng.standard_normal(seconds * RATE)
    return (samples * np.abs(np.sin(np.arange(len(samples)) / RATE))).astype(np.float32)


def padded(samples: Audio, seconds: int = WINDOW) -> Audio:
    return np.pad(samples, (0, seconds * RATE - len(samples)))


class Ours:
    """mynah's engine, front end and search."""

    def __init__(self, size: str, work: Path, threads: int) -> None:
        from mynah.audio.features import make_frontend
        from mynah.decoding.whisper_rules import Rules
        from mynah.model_folder import read_model_folder
        from mynah.runtime.whisper.engine import load_whisper_engine

        folder = read_model_folder(work / f"{size}.mynah")
        self._engine = load_whisper_engine(folder, threads=threads, precision="int8")
        self._frontend = make_frontend(folder.info.frontend)
        self._rules = Rules(EOT, NO_TIMES + 1, suppressed=(EOT,), timestamps=False)

    def _mels(self, samples: Audio, seconds: int) -> npt.NDArray[np.float32]:
        mels = self._frontend(padded(samples, seconds))
        return np.ascontiguousarray(np.asarray(mels, np.float32).T[:, : 100 * seconds])

    def call(self, case: Case) -> Call:
        from mynah.decoding.whisper_search import beam_search, sample

        samples = audio(case.seconds)
        seconds = case.seconds + 1 if case.short else WINDOW

        def run() -> int:
            mels = np.stack([self._mels(samples, seconds) for _ in range(case.batch)])
            heard = self._engine.encode(mels)
            decoder = self._engine.decoder(heard, range(case.batch))
            given = np.tile(PROMPT, (case.batch, 1))
            first = decoder.predict(given)

            def step(tokens: Any, parents: Any) -> Any:
                return decoder.predict(tokens[:, None], parents)

            nothing = np.zeros((case.batch, 0), np.int64)
            if case.beam == 1:
                texts = sample(first, step, self._rules, nothing, limit=WORDS)
            else:
                texts = beam_search(first, step, self._rules, nothing, limit=WORDS, beam=case.beam)
            return len(texts[-1][0].tokens)

        return run


class FasterWhisper:
    """CTranslate2 in int8, as faster-whisper calls it."""

    kind = "int8"

    def __init__(self, size: str, work: Path, threads: int) -> None:
        import ctranslate2
        from faster_whisper.feature_extractor import FeatureExtractor

        self._lib = ctranslate2
        self._model = ctranslate2.models.Whisper(
            str(work / f"{size}.ct2"), device="cpu", compute_type=self.kind, intra_threads=threads
        )
        self._extract = FeatureExtractor()

    def call(self, case: Case) -> Call:
        samples = audio(case.seconds)

        def run() -> int:
            mels = [self._extract(padded(samples))[:, : 100 * WINDOW] for _ in range(case.batch)]
            features = self._lib.StorageView.from_array(np.stack(mels).astype(np.float32))
            heard = self._model.encode(features)
            found = self._model.generate(
                heard,
                [PROMPT] * case.batch,
                beam_size=case.beam,
                max_length=2 * WORDS,  # of which half are for the prompt
                suppress_tokens=[EOT],
                suppress_blank=False,
            )
            return len(found[-1].sequences_ids[0])

        return run


class OpenAiWhisper:
    """The original."""

    def __init__(self, size: str, work: Path, threads: int) -> None:
        import torch
        import whisper

        torch.set_num_threads(threads)
        self._lib = whisper
        self._model = whisper.load_model(str(work / f"{size}.pt"), device="cpu").eval()

    def call(self, case: Case) -> Call:
        import torch

        samples = audio(case.seconds)
        options = self._lib.DecodingOptions(
            language="en",
            without_timestamps=True,
            beam_size=case.beam if case.beam > 1 else None,
            sample_len=WORDS,
            suppress_tokens=[EOT],
            suppress_blank=False,
            fp16=False,
        )

        def run() -> int:
            mels = [
                self._lib.log_mel_spectrogram(self._lib.pad_or_trim(samples))
                for _ in range(case.batch)
            ]
            found = self._lib.decode(self._model, torch.stack(mels), options)
            return len(found[-1].tokens)

        return run


class Transformers:
    """transformers with scaled dot-product attention."""

    def __init__(self, size: str, work: Path, threads: int) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        torch.set_num_threads(threads)
        kind = transformers.WhisperForConditionalGeneration
        self._model = kind.from_pretrained(work / f"{size}.hf", attn_implementation="sdpa").eval()
        self._model.generation_config.suppress_tokens = None
        self._model.generation_config.begin_suppress_tokens = None
        self._extract = transformers.WhisperFeatureExtractor()

    def call(self, case: Case) -> Call:
        import torch

        samples = audio(case.seconds)

        @torch.no_grad()
        def run() -> int:
            mels = self._extract(
                [samples] * case.batch, sampling_rate=RATE, return_tensors="pt"
            ).input_features
            found = super(type(self._model), self._model).generate(
                mels,
                decoder_input_ids=torch.tensor([PROMPT] * case.batch),
                max_new_tokens=WORDS + len(PROMPT),  # the prompt counts as new
                min_new_tokens=WORDS + len(PROMPT),
                num_beams=case.beam,
                do_sample=False,
            )
            return int(found.shape[1]) - len(PROMPT)

        return run


class WhisperCpp:
    """whisper.cpp by pywhispercpp, weights in f16."""

    kind = "f16"

    def __init__(self, size: str, work: Path, threads: int) -> None:
        import _pywhispercpp as lib

        self._lib, self._threads = lib, threads
        params = lib.whisper_context_default_params()
        params.use_gpu = False
        path = str(work / f"{size}.{self.kind}.ggml")
        self._context = lib.whisper_init_from_file_with_params(path, params)

    def call(self, case: Case) -> Call:
        lib, samples = self._lib, audio(case.seconds)
        beam = lib.whisper_sampling_strategy.WHISPER_SAMPLING_BEAM_SEARCH
        greedy = lib.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY
        params = lib.whisper_full_default_params(beam if case.beam > 1 else greedy)
        params.n_threads, params.language, params.no_context = self._threads, "en", True
        params.single_segment, params.max_tokens, params.no_timestamps = True, WORDS, True
        params.suppress_blank, params.temperature_inc = False, 0.0
        params.print_progress = params.print_realtime = params.print_timestamps = False
        params.logprob_thold, params.entropy_thold, params.no_speech_thold = -1e9, -1e9, 1e9
        if case.beam > 1:
            params.beam_search = {"beam_size": case.beam, "patience": -1.0}
        else:
            params.greedy = {"best_of": 1}

        def run() -> int:
            said = 0
            for _ in range(case.batch):
                if lib.whisper_full(self._context, params, samples, len(samples)):
                    raise RuntimeError("whisper.cpp failed")
                segments = range(lib.whisper_full_n_segments(self._context))
                said = sum(lib.whisper_full_n_tokens(self._context, i) for i in segments)
            return said

        return run


class WhisperCppQ8(WhisperCpp):
    """The same with q8_0."""

    kind = "q8_0"


SYSTEMS: dict[str, tuple[type[Any], str]] = {
    "ours int8": (Ours, "numpy"),
    "faster-whisper int8": (FasterWhisper, "faster_whisper"),
    "whisper.cpp f16": (WhisperCpp, "_pywhispercpp"),
    "whisper.cpp q8_0": (WhisperCppQ8, "_pywhispercpp"),
    "openai-whisper fp32": (OpenAiWhisper, "whisper"),
    "transformers fp32": (Transformers, "transformers"),
}


def measure(name: str, size: str, cases: list[str], options: argparse.Namespace) -> None:
    """In a process of its own: a JSON object a case, then the most memory that was used."""
    system = SYSTEMS[name][0](size, options.work, options.threads)
    for case in CASES:
        if case.name not in cases or (case.short and name != "ours int8"):
            continue
        call, times = system.call(case), []
        words = call()
        for _ in range(options.repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        line = {"case": case.name, "seconds": statistics.median(times), "words": words}
        print(json.dumps(line), flush=True)
    print(json.dumps({"case": "memory", "seconds": peak_memory(), "words": 0}), flush=True)


def peak_memory() -> float:
    """The most memory that this process has used, MB."""
    status = Path("/proc/self/status")  # getrusage counts what the parent had used, too
    if status.exists():
        line = next(v for v in status.read_text().splitlines() if v.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def prepare(size: str, work: Path) -> None:
    """Write the checkpoint in every layout that is needed and not there."""
    sys.path.insert(0, str(HERE))
    import whisper_models as models

    from mynah.models.whisper.convert import import_whisper

    work.mkdir(parents=True, exist_ok=True)
    source = work / f"{size}.hf"
    if not (source / "added_tokens.json").exists():
        models.write_huggingface(size, source)
    if not (work / f"{size}.mynah" / "model.toml").exists():
        import_whisper(source, work / f"{size}.mynah")
    if installed("ctranslate2") and not (work / f"{size}.ct2" / "model.bin").exists():
        models.write_ctranslate2(source, work / f"{size}.ct2")
    if installed("whisper") and not (work / f"{size}.pt").exists():
        models.write_openai(size, work / f"{size}.pt")
    for kind in ("f16", "q8_0"):
        path = work / f"{size}.{kind}.ggml"
        if installed("_pywhispercpp") and not path.exists():
            models.write_ggml(size, path, kind)


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run(name: str, size: str, options: argparse.Namespace) -> dict[str, tuple[float, int]]:
    """Measure a system in a process of its own."""
    command = [sys.executable, __file__, "--system", name, "--sizes", size]
    command += ["--work", str(options.work), "--threads", str(options.threads)]
    command += ["--repeats", str(options.repeats), "--cases", *options.cases]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith('{"case"'):
            values = json.loads(line)
            found[values["case"]] = values["seconds"], values["words"]
    if done.returncode:
        print(f"  {name}: {done.stderr.strip().splitlines()[-1:]}", flush=True)
    return found


Results = dict[str, dict[str, tuple[float, int]]]  # by system and case: seconds, tokens


def show(size: str, rounds: list[Results]) -> None:
    """A table for people and a line a figure: medians over the rounds, ratios within them."""
    for case in [*(c.name for c in CASES), "memory"]:
        if case not in rounds[0]["ours int8"]:
            continue
        like = case.replace(", short context", "")
        unit = "MB" if case == "memory" else "s"
        print(f"{size}, {case}")
        ours = [results["ours int8"][case][0] for results in rounds]
        for name in rounds[0]:
            values = [results[name].get(case) or results[name].get(like) for results in rounds]
            found = [value for value in values if value is not None]
            if len(found) < len(rounds):
                continue
            seconds, words = statistics.median(s for s, _ in found), found[0][1]
            note = f"  ({words} tokens)" if words != WORDS and case != "memory" else ""
            print(f"  {name:22} {seconds:9.3f} {unit}{note}")
            if name != "ours int8":
                ratios = sorted(peer / own for (peer, _), own in zip(found, ours, strict=True))
                line = {
                    "name": f"whisper {size}, {case}, {unit}; peer {name}",
                    "ours": round(statistics.median(ours), 4),
                    "peer": round(seconds, 4),
                    "ratio": round(statistics.median(ratios), 2),
                    "from": round(ratios[0], 2),
                    "to": round(ratios[-1], 2),
                }
                print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="time Whisper on the CPU")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base", "small"])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--cases", nargs="+", default=[c.name for c in CASES])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1, help="through all systems, in turns")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "whisper")
    parser.add_argument("--prepare", action="store_true", help="only write the checkpoints")
    parser.add_argument("--system", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.system:
        measure(options.system, options.sizes[0], options.cases, options)
        return
    for size in options.sizes:
        prepare(size, options.work)
        if options.prepare:
            continue
        names = [n for n in options.systems if installed(SYSTEMS[n][1])]
        for name in sorted(set(options.systems) - set(names)):
            print(f"{name}: not installed, not compared")
        rounds = range(options.rounds)
        show(size, [{name: run(name, size, options) for name in names} for _ in rounds])


if __name__ == "__main__":
    main()
