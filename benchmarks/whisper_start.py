"""Cold start: from the command to the first text, tiny, on the CPU.

    python benchmarks/whisper_start.py [--runs 5] [--threads 2]

Each run is a process of its own that loads what it needs, reads the recording, hears 30 s of
context and says twenty tokens by greedy search; it is timed from its start to its end. The
checkpoint is random (``benchmarks/whisper_models.py``), so the text means nothing. Ours is the
command ``mynah transcribe`` on an imported folder (int8); faster-whisper (int8) and openai-whisper
are scripts of the fewest lines that do it. Shown are medians; the programs take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "examples" / "mynah_bird.flac"
TOKENS = 20

OURS = """
import sys
from mynah.cli import main
model, recording, tokens, threads = sys.argv[1:]
sys.exit(main(["transcribe", recording, "--model", model, "--language", "en", "--threads", threads,
    "--beam_size", "1", "--temperature_increment_on_fallback", "None", "--max_new_tokens", tokens,
    "--without_timestamps", "True", "--no_speech_threshold", "None", "--guards", "off",
    "--quiet"]))
"""
FASTER = """
import sys
from faster_whisper import WhisperModel
folder, recording, tokens, threads = sys.argv[1:]
model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=int(threads))
segments, _ = model.transcribe(recording, language="en", beam_size=1, temperature=0.0,
    max_new_tokens=int(tokens), without_timestamps=True, no_speech_threshold=None)
print(next(iter(segments)).text)
"""
OPENAI = """
import sys, numpy, soundfile, torch, whisper
path, recording, tokens, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
model = whisper.load_model(path, device="cpu")
samples, rate = soundfile.read(recording, dtype="float32")
assert rate == 16000 or rate % 16000 == 0
samples = samples[:: rate // 16000]
found = whisper.transcribe(model, samples, language="en", temperature=0.0, sample_len=int(tokens),
    without_timestamps=True, fp16=False, no_speech_threshold=None)
print(found["segments"][0]["text"])
"""


def main() -> None:
    """Make the checkpoint, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="tiny")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        programs = _programs(args.size, Path(work))
        times: dict[str, list[float]] = {name: [] for name in programs}
        work_done: dict[str, list[float]] = {name: [] for name in programs}
        for run in range(args.runs + 1):  # the first fills the caches of the disk
            for name, (program, model) in programs.items():
                before = _cpu_seconds()
                seconds = _run(program, [model, str(RECORDING), str(TOKENS), str(args.threads)])
                if run:
                    times[name].append(seconds)
                    work_done[name].append(_cpu_seconds() - before)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        shown = " ".join(f"{value:.2f}" for value in times[name])
        cpu = statistics.median(work_done[name])
        print(f"{name:<16} {seconds:6.2f} s to the first text ({shown}), {cpu:.2f} s of the CPU")
    for name, seconds in medians.items():
        if name != "mynah":
            figure = {
                "name": f"whisper start, {args.size}, against {name}",
                "ours": round(medians["mynah"], 3),
                "peer": round(seconds, 3),
                "ratio": round(seconds / medians["mynah"], 2),
            }
            print(json.dumps(figure))


def _programs(size: str, work: Path) -> dict[str, tuple[str, str]]:
    """Each program and its model."""
    from benchmarks import whisper_models as models

    folder = models.write_huggingface(size, work / "hf")
    subprocess.run(
        [sys.executable, "-m", "mynah", "import", "whisper", str(folder), str(work / "mynah")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = {"mynah": (OURS, str(work / "mynah"))}
    try:
        found["faster-whisper"] = (FASTER, str(models.write_ctranslate2(folder, work / "ct2")))
        (work / "ct2" / "preprocessor_config.json").write_text("{}", "utf-8")
        _tokenizer_file(folder, work / "ct2")
    except ImportError as error:
        print(f"faster-whisper is left out: {error}", file=sys.stderr)
    try:
        found["openai-whisper"] = (OPENAI, str(models.write_openai(size, work / "openai.pt")))
    except ImportError as error:
        print(f"openai-whisper is left out: {error}", file=sys.stderr)
    return found


def _tokenizer_file(source: Path, target: Path) -> None:
    """``tokenizer.json``, without which faster-whisper would go to the network."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab = json.loads((source / "vocab.json").read_text("utf-8"))
    lines = (source / "merges.txt").read_text("utf-8").splitlines()[1:]
    merges = [tuple(line.split(" ", 1)) for line in lines]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    added = json.loads((source / "added_tokens.json").read_text("utf-8"))
    names = sorted(added, key=added.__getitem__)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    tokenizer.save(str(target / "tokenizer.json"))


def _cpu_seconds() -> float:
    """Of all processes that have ended, and were started here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(program: str, arguments: list[str]) -> float:
    """Seconds from the start of a process to its end; it must have said something."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("OMP_NUM_THREADS", None)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    took = time.perf_counter() - start
    if done.returncode or not done.stdout.strip():
        raise SystemExit(f"{done.stdout}\n{done.stderr}")
    return took


if __name__ == "__main__":
    main()
