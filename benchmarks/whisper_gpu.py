"""A large Whisper on a GPU, in fp16: ours (PyTorch, captured graphs; with the search on the device
and on the host), transformers (sdpa; compiled with a static cache) and CTranslate2, which
faster-whisper runs on.

    python benchmarks/whisper_gpu.py                        # large-v3, 1 and 16 windows at once
    python benchmarks/whisper_gpu.py --shape test --device cpu --tokens 5     # does it run?

One random model in all of them, made on the device. Each encodes windows of 30 s and says a fixed
number of tokens, greedily and (not transformers) by a beam of 5, the end being forbidden. Shown are
medians of the wall-clock time, with the way of the features to the device and of the tokens back,
without start, front end and compilation. Every system runs in a process of its own, one after the
other, and what fails or no longer fits into ``--seconds`` is left out. A small model checks the
engine on the device. Without a GPU there is nothing to measure, and the script says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.whisper_files import hf_name

from mynah.decoding.whisper_prediction import HostPrediction, Prediction
from mynah.decoding.whisper_rules import Rules
from mynah.decoding.whisper_search import beam_search, sample
from mynah.export.whisper_torch import PRECISIONS, TorchTextDecoder, TorchWhisper
from mynah.models.whisper.model import Whisper
from mynah.runtime.whisper.config import WhisperConfig, WhisperDims
from mynah.text.whisper_languages import LANGUAGES

SHAPES = {
    "large-v3": WhisperDims(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 32),
    "turbo": WhisperDims(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 4),
    "test": WhisperDims(128, 1500, 64, 1, 1, 51_866, 448, 64, 1, 1),
}
# for the checks: heads as wide as those of the large ones, windows of 2 s
SMALL = WhisperDims(80, 100, 128, 2, 2, 1000, 128, 128, 2, 2)
SMALL_EOT, SMALL_PROMPT = 999, (1, 2, 3, 4)
EOT, SOT, PROMPT = 50_257, 50_258, (50_258, 50_259, 50_360, 50_364)  # en, transcribe, no times
NAMES = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{name}|>" for name in LANGUAGES),
         "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>",
         "<|notimestamps|>", *(f"<|{i / 50:.2f}|>" for i in range(1501))]  # fmt: skip
RULES = Rules(eot=EOT, timestamp_begin=PROMPT[-1] + 1, suppressed=(EOT,), timestamps=False)
Array = npt.NDArray[Any]
Said = list[list[int]]


def random_model(dims: WhisperDims, device: torch.device, dtype: torch.dtype) -> Whisper:
    """Weights as before training, the same for every system on one device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Whisper(WhisperConfig(dims))
    return model.to(device, dtype).eval().requires_grad_(False)


def windows(dims: WhisperDims, count: int) -> Array:
    shape = (count, dims.n_mels, 2 * dims.n_audio_ctx)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


class Ours:
    """The PyTorch engine and the search that transcription uses."""

    def __init__(self, args: argparse.Namespace) -> None:
        device = torch.device(args.device)
        model = random_model(SHAPES[args.shape], device, PRECISIONS[args.precision])
        self.engine = TorchWhisper(model, args.precision)

    def encode(self, mels: Array) -> None:
        self.engine.encode(mels)

    def __call__(self, mels: Array, count: int, beam: int) -> Said:
        rows = len(mels)
        step = self.engine.decoder(self.engine.encode(mels), range(rows))
        first = self.predict(step, np.tile(np.array(PROMPT), (rows, 1)))
        given = np.zeros((rows, 0), np.int64)

        def after(tokens: Array, parents: Array) -> Prediction:
            return self.predict(step, tokens[:, None], parents)

        if beam > 1:
            texts = beam_search(first, after, RULES, given, limit=count, beam=beam)
        else:
            texts = sample(first, after, RULES, given, limit=count)
        return [list(found[0].tokens) for found in texts]

    def predict(
        self, step: TorchTextDecoder, tokens: Array, parents: Array | None = None
    ) -> Prediction:
        return step.predict(tokens, parents)


class OnHost(Ours):
    """The same with all logits on their way to the host, where the tokens are chosen."""

    def predict(
        self, step: TorchTextDecoder, tokens: Array, parents: Array | None = None
    ) -> Prediction:
        return HostPrediction(step(tokens, parents))


class Transformers:
    """transformers with sdpa."""

    static = False

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.dtype = torch.device(args.device), PRECISIONS[args.precision]
        own = random_model(SHAPES[args.shape], self.device, self.dtype)
        self.model = huggingface_model(own)
        del own

    def encode(self, mels: Array) -> None:
        with torch.inference_mode():
            self.model.get_encoder()(self._feats(mels))

    def __call__(self, mels: Array, count: int, beam: int) -> Said:
        prompt = torch.tensor([PROMPT], device=self.device).repeat(len(mels), 1)
        cache = {"cache_implementation": "static"} if self.static else {}
        with torch.inference_mode():
            found = super(type(self.model), self.model).generate(  # without Whisper's own rules
                input_features=self._feats(mels), decoder_input_ids=prompt, do_sample=False,
                max_new_tokens=count, min_new_tokens=count, num_beams=beam, **cache,
            )  # fmt: skip
        return found[:, -count:].tolist()  # type: ignore[no-any-return]

    def _feats(self, mels: Array) -> torch.Tensor:
        return torch.from_numpy(mels).to(self.device).to(self.dtype)


class Compiled(Transformers):
    """The same with a static cache, for which it compiles a step and captures it."""

    static = True


def huggingface_model(model: Whisper, eot: int = EOT) -> Any:
    """The same model in transformers, where it is."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    dims, weight = model.config.dims, model.decoder.token_embedding.weight
    config = transformers.WhisperConfig(
        vocab_size=dims.n_vocab, num_mel_bins=dims.n_mels, d_model=dims.n_audio_state,
        encoder_layers=dims.n_audio_layer, encoder_attention_heads=dims.n_audio_head,
        decoder_layers=dims.n_text_layer, decoder_attention_heads=dims.n_text_head,
        encoder_ffn_dim=4 * dims.n_audio_state, decoder_ffn_dim=4 * dims.n_text_state,
        max_source_positions=dims.n_audio_ctx, max_target_positions=dims.n_text_ctx,
        pad_token_id=eot, bos_token_id=eot, eos_token_id=eot, decoder_start_token_id=eot,
        attn_implementation="sdpa",
    )  # fmt: skip
    with torch.device(weight.device):
        theirs = transformers.WhisperForConditionalGeneration(config)
    theirs = theirs.to(weight.device, weight.dtype).eval()
    named = {hf_name(name): value for name, value in model.state_dict().items()}
    rest = theirs.load_state_dict(named, strict=False)
    assert not rest.unexpected_keys and set(rest.missing_keys) <= {"proj_out.weight"}
    theirs.tie_weights()
    return theirs


class CTranslate2:
    """What faster-whisper runs on."""

    def __init__(self, args: argparse.Namespace) -> None:
        import ctranslate2

        self.library = ctranslate2
        place = torch.device(args.device)
        self.device, index = place.type, place.index or 0
        self.model = ctranslate2.models.Whisper(
            str(args.work / "ct2"), device=self.device, device_index=index,
            compute_type=KINDS[args.precision], intra_threads=args.threads,
        )  # fmt: skip

    def encode(self, mels: Array) -> None:
        self.model.encode(self._feats(mels), to_cpu=False)

    def __call__(self, mels: Array, count: int, beam: int) -> Said:
        found = self.model.generate(
            self._feats(mels), [list(PROMPT)] * len(mels), beam_size=beam,
            max_length=2 * count,  # a text takes half of it
            suppress_blank=False, suppress_tokens=[EOT],
        )  # fmt: skip
        return [result.sequences_ids[0] for result in found]

    def _feats(self, mels: Array) -> Any:
        return self.library.StorageView.from_array(np.ascontiguousarray(mels))


def convert(args: argparse.Namespace) -> None:
    """Put the model where CTranslate2 reads it, by its own converter."""
    import ctranslate2.converters.transformers as converters

    device = torch.device(args.device)
    own = random_model(SHAPES[args.shape], device, PRECISIONS[args.precision])
    spec = converters.WhisperLoader().get_model_spec(huggingface_model(own).cpu())
    spec.register_vocabulary([*(f"filler{number}" for number in range(EOT)), *NAMES])
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids, spec.config.alignment_heads = [SOT + 1], [[0, 0]]
    spec.validate()
    spec.optimize(quantization=KINDS[args.precision])
    target = args.work / "ct2"
    target.mkdir(parents=True, exist_ok=True)
    spec.save(str(target))


KINDS = {"fp16": "float16", "fp32": "float32", "bf16": "bfloat16"}
SYSTEMS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "ours": Ours, "host": OnHost, "transformers": Transformers, "ctranslate2": CTranslate2,
    "compiled": Compiled,
}  # fmt: skip


def check(args: argparse.Namespace) -> None:
    """What the engine says on the device, against itself in float32 on the CPU, uncaptured, alone
    and in transformers, on a small model with large logits."""
    device, cpu = torch.device(args.device), torch.device("cpu")
    plain = random_model(SMALL, cpu, torch.float32)
    plain.decoder.token_embedding.weight.mul_(20)
    weights = plain.state_dict()
    theirs = huggingface_model(plain, SMALL_EOT)  # before the engine joins weights
    mels, count = windows(SMALL, 16), 80

    def engine(where: torch.device, precision: str) -> TorchWhisper:
        copy = Whisper(plain.config)
        copy.load_state_dict(weights)
        return TorchWhisper(copy.to(where, PRECISIONS[precision]).eval(), precision)

    def say(one: TorchWhisper, given: Array, forced: Array | None = None) -> tuple[Array, Array]:
        """Tokens (rows, count) and the logits before each."""
        step = one.decoder(one.encode(given), range(len(given)))
        logits = [step(np.tile(np.array(SMALL_PROMPT), (len(given), 1)))]
        tokens: list[Array] = []
        for number in range(count):
            logits[-1][:, SMALL_EOT] = -np.inf
            tokens.append(logits[-1].argmax(1) if forced is None else forced[:, number])
            if number + 1 < count:
                logits.append(step(tokens[-1][:, None]))
        return np.stack(tokens, 1), np.stack(logits, 1)

    def far(a: Array, b: Array) -> float:
        finite = np.isfinite(b)
        return float(np.abs(a[finite] - b[finite]).max() / b[finite].std())

    def report(name: str, tokens: float, logits: float = 0.0) -> None:
        say_line(f"check {name}: {100 * tokens:.2f} % of tokens equal, logits {logits:.1e} off")
        say_json(args, {"name": f"check {name}", "tokens": tokens, "logits": logits})

    wanted, truth = say(engine(cpu, "fp32"), mels)
    for precision in ("fp32", "fp16") if device.type == "cuda" else ("fp32",):
        torch.backends.cudnn.allow_tf32 = False
        one = engine(device, precision)
        runs = [say(one, mels, wanted) for _ in range(3)]  # captured from the second on
        report(f"{precision} {device}, against fp32 cpu", (runs[0][1].argmax(2) == wanted).mean(),
               far(runs[0][1], truth))  # fmt: skip
        report(f"{precision} {device}, captured against the first run",
               (runs[2][1].argmax(2) == runs[0][1].argmax(2)).mean(),
               far(runs[2][1], runs[0][1]))  # fmt: skip
        alone = [say(one, mels[i : i + 1], wanted[i : i + 1])[1] for i in range(4)]
        report(f"{precision} {device}, alone against in a batch of 16",
               (np.concatenate(alone).argmax(2) == runs[2][1][:4].argmax(2)).mean(),
               far(np.concatenate(alone), runs[2][1][:4]))  # fmt: skip
        free, _ = say(one, mels)
        report(f"{precision} {device}, greedy against fp32 cpu", (free == wanted).mean())
    with torch.inference_mode():
        found = super(type(theirs), theirs).generate(
            input_features=torch.from_numpy(mels), do_sample=False, num_beams=1,
            decoder_input_ids=torch.tensor([SMALL_PROMPT] * 16), max_new_tokens=count,
            min_new_tokens=count,
        )[:, -count:].numpy()  # fmt: skip
    report("transformers fp32 cpu, greedy against ours fp32 cpu", (found == wanted).mean())


def one(args: argparse.Namespace) -> None:
    """Time one system; a JSON line for each figure."""
    device = torch.device(args.device)
    start = time.perf_counter()
    system = SYSTEMS[args.one](args)
    say_line(f"{args.one}: ready after {time.perf_counter() - start:.1f} s")
    dims, count = SHAPES[args.shape], args.tokens
    known = args.one != "ctranslate2" and device.type == "cuda"  # its memory is PyTorch's
    for batch in args.compiled_batch if args.one == "compiled" else args.batch:
        mels = windows(dims, batch)

        def encode(mels: Array = mels) -> None:
            system.encode(mels)
            if device.type == "cuda":
                torch.cuda.synchronize()  # the whole device, whoever uses it

        encoder, first = timed(encode, args.repeats)
        show(args, batch, "encoder", encoder, first)
        for beam in [1] if isinstance(system, Transformers) else args.beams:
            if known:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            with used_memory(device) as used:
                said = system(mels, count, beam)
            assert all(len(row) == count for row in said), [len(row) for row in said]
            total, first = timed(lambda m=mels, b=beam: system(m, count, b), args.repeats)
            gib = round(torch.cuda.max_memory_allocated() / 2**30, 2) if known else None
            show(
                args, batch, f"total, beam {beam}", total, first, said=said[0],
                token_ms=round(1000 * (total - encoder) / count, 3),
                device_gib=used.get("gib"), torch_gib=gib,
            )  # fmt: skip
    if args.profile and args.out and args.one == "ours":
        profile(system, args)


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median seconds of a call, after one to warm up, and that one's."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:]), taken[0]


def show(args: argparse.Namespace, batch: int, what: str, seconds: float, first: float,
         **more: Any) -> None:  # fmt: skip
    text = ", ".join(f"{k} {v}" for k, v in more.items() if k != "said" and v is not None)
    say_line(f"{args.one:13} batch {batch:2} {what:14} {1000 * seconds:9.1f} ms "
             f"(first {1000 * first:.0f}) {text}")  # fmt: skip
    say_json(args, {"system": args.one, "batch": batch, "what": what, "s": seconds, **more})


@contextlib.contextmanager
def used_memory(device: torch.device) -> Iterator[dict[str, float]]:
    """The most that is in use of the device while the body runs, by its driver; GiB."""
    found: dict[str, float] = {}
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
    except Exception:  # there is no such library or no such device
        yield found
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            now = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30
            found["gib"] = round(max(found.get("gib", 0.0), now), 2)

    thread = threading.Thread(target=watch)
    thread.start()
    yield found
    done.set()
    thread.join()


def profile(system: Ours, args: argparse.Namespace) -> None:
    """Where the device's time goes while texts are decoded."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    kind = ProfilerActivity.CPU if args.device == "cpu" else ProfilerActivity.CUDA
    for batch in args.batch:
        mels = windows(SHAPES[args.shape], batch)
        for beam in args.beams:
            system(mels, 4, beam)
            with profiler(activities=[kind]) as found:
                system(mels, min(args.tokens, 20), beam)
            events = [
                ((e.self_device_time_total or e.self_cpu_time_total) / 1000, e.count, e.key)
                for e in found.key_averages()
            ]
            total = sum(taken for taken, _, _ in events)
            lines = [f"batch {batch}, beam {beam}: {total:.1f} ms of kernels"]
            for taken, count, key in sorted(events, reverse=True)[:25]:
                lines.append(f"{taken:9.2f} ms {count:6} x  {key[:100]}")
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / f"profile.{batch}.{beam}.txt").write_text("\n".join(lines) + "\n")


def say_line(text: str) -> None:
    print(text, flush=True)


def say_json(args: argparse.Namespace, line: dict[str, Any]) -> None:
    with (args.work / "lines.json").open("a") as file:
        file.write(json.dumps(line) + "\n")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "whisper_gpu.json").open("a") as file:
            file.write(json.dumps(line) + "\n")


def compare(args: argparse.Namespace, name: str) -> None:
    """Ours beside each other system, of what both did."""
    path = args.work / "lines.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    figures = {(x["system"], x["batch"], x["what"]): x for x in lines if "system" in x}
    for (system, batch, what), theirs in figures.items():
        ours = figures.get(("ours", batch, what))
        if system == "ours" or ours is None:
            continue
        line = {
            "name": f"whisper {args.shape} {args.precision}, {name}, batch {batch}, {what}, s; "
            f"{system}",
            "ours": round(ours["s"], 4),
            "peer": round(theirs["s"], 4),
            "ratio": round(theirs["s"] / ours["s"], 2),
        }
        if "said" in theirs:
            pairs = list(zip(ours["said"], theirs["said"], strict=True))
            line["equal_from_start"] = next(
                (i for i, (a, b) in enumerate(pairs) if a != b), len(pairs)
            )
        print(json.dumps(line), flush=True)


def run_all(args: argparse.Namespace, given: list[str]) -> None:
    """Each system in a process of its own, while there is time."""
    end = time.monotonic() + args.seconds
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    say_line(f"{args.shape}, {args.precision}, {name}, torch {torch.__version__}")
    for part in args.parts:
        left = end - time.monotonic()
        if left < 5:
            say_line(f"{part}: no time left")
            continue
        command = [sys.executable, __file__, *given, "--one", part, "--work", str(args.work)]
        start = time.monotonic()
        try:
            code = subprocess.run(command, timeout=left, check=False).returncode
        except subprocess.TimeoutExpired:
            say_line(f"{part}: stopped after {left:.0f} s")
            continue
        say_line(f"{part}: {'done' if code == 0 else f'failed ({code})'}, "
                 f"{time.monotonic() - start:.1f} s")  # fmt: skip
    compare(args, name)


PARTS = ("ours", "host", "check", "convert", "ctranslate2", "transformers", "compiled")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="time a large Whisper on a GPU")
    parser.add_argument("--shape", choices=SHAPES, default="large-v3")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=KINDS, help="fp16 on a GPU, else fp32")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--compiled-batch", type=int, nargs="+", default=[1])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=4, help="of CTranslate2 on a CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=600, help="for all parts together")
    parser.add_argument("--profile", action="store_true", help="write profiles of ours to --out")
    parser.add_argument("--out", type=Path, help="a folder for the figures as JSON lines")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help="where parts of several calls meet")
    args = parser.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("whisper_gpu: torch sees no GPU here, so there is nothing to measure")
    if args.precision is None:
        args.precision = "fp16" if args.device.startswith("cuda") else "fp32"
    if args.one is not None:
        {"check": check, "convert": convert}.get(args.one, one)(args)
        return
    with tempfile.TemporaryDirectory() as work:
        args.work = args.work or Path(work)
        args.work.mkdir(parents=True, exist_ok=True)
        run_all(args, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    main()
