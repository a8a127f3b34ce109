"""A large Whisper on a GPU: ours (PyTorch, captured graphs), transformers (sdpa, compiled) and
faster-whisper's engine (CTranslate2, fp16).

    python benchmarks/whisper_gpu.py                        # large-v3, 1 and 16 windows at once
    python benchmarks/whisper_gpu.py --shape test --device cpu --tokens 5     # does it run?

One random model in all of them. Each encodes windows of 30 s and says a fixed number of tokens,
greedily, the end being forbidden; shown are medians of the wall-clock time, features and start
left out. Without a GPU there is nothing to measure, and the script says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mynah.export.whisper_torch import PRECISIONS, TorchWhisper
from mynah.models.whisper.checkpoints.names import to_huggingface
from mynah.models.whisper.model import Whisper
from mynah.runtime.whisper.config import WhisperConfig, WhisperDims
from mynah.text.byte_bpe import to_unicode
from mynah.text.whisper_languages import LANGUAGES

SHAPES = {
    "large-v3": WhisperDims(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 32),
    "turbo": WhisperDims(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 4),
    "test": WhisperDims(128, 1500, 64, 1, 1, 51_866, 448, 64, 1, 1),
}
EOT, SOT, PROMPT = 50_257, 50_258, (50_258, 50_259, 50_360, 50_364)  # en, transcribe, no times
Array = npt.NDArray[Any]
Call = Callable[[Array, int], list[list[int]]]  # windows and tokens to say -> what was said


def random_model(dims: WhisperDims) -> Whisper:
    """Weights as before training, on the CPU."""
    torch.manual_seed(0)
    return Whisper(WhisperConfig(dims)).eval()


def ours(model: Whisper, device: torch.device, precision: str) -> Call:
    """The PyTorch engine, driven as by a greedy search on the host."""
    copy = Whisper(model.config).to(device, PRECISIONS[precision])
    copy.load_state_dict(model.state_dict())
    engine = TorchWhisper(copy, precision)

    def call(mels: Array, count: int) -> list[list[int]]:
        rows = len(mels)
        decoder = engine.decoder(engine.encode(mels), range(rows), len(PROMPT) + count)
        logits = decoder(np.tile(np.array(PROMPT), (rows, 1)))
        said = []
        for number in range(count):
            logits[:, EOT] = -np.inf
            best = logits.argmax(-1)
            said.append(best)
            if number + 1 < count:
                logits = decoder(best[:, None])
        return np.stack(said, 1).tolist()  # type: ignore[no-any-return]

    return call


def huggingface_model(model: Whisper) -> Any:
    """The same model in transformers."""
    import transformers

    dims = model.config.dims
    config = transformers.WhisperConfig(
        vocab_size=dims.n_vocab, num_mel_bins=dims.n_mels, d_model=dims.n_audio_state,
        encoder_layers=dims.n_audio_layer, encoder_attention_heads=dims.n_audio_head,
        decoder_layers=dims.n_text_layer, decoder_attention_heads=dims.n_text_head,
        encoder_ffn_dim=4 * dims.n_audio_state, decoder_ffn_dim=4 * dims.n_text_state,
        pad_token_id=EOT, bos_token_id=EOT, eos_token_id=EOT, decoder_start_token_id=SOT,
        attn_implementation="sdpa",
    )  # fmt: skip
    theirs = transformers.WhisperForConditionalGeneration(config).eval()
    named = {to_huggingface(name): value for name, value in model.state_dict().items()}
    theirs.load_state_dict(named, strict=False)
    theirs.tie_weights()
    return theirs


def transformers_call(model: Whisper, device: torch.device, precision: str) -> Call:
    """transformers with sdpa; on a GPU with a static cache and a compiled step."""
    theirs = huggingface_model(model).to(device, PRECISIONS[precision])
    if device.type == "cuda":
        theirs.generation_config.cache_implementation = "static"
        theirs.forward = torch.compile(theirs.forward, mode="reduce-overhead", fullgraph=True)
    prompt = torch.tensor([PROMPT], device=device)

    def call(mels: Array, count: int) -> list[list[int]]:
        feats = torch.from_numpy(mels).to(device, PRECISIONS[precision])
        with torch.inference_mode():
            found = super(type(theirs), theirs).generate(  # without Whisper's own rules
                input_features=feats, decoder_input_ids=prompt.repeat(len(mels), 1),
                max_new_tokens=count, min_new_tokens=count, do_sample=False, num_beams=1,
            )  # fmt: skip
        return found[:, -count:].tolist()  # type: ignore[no-any-return]

    return call


def ctranslate2_call(model: Whisper, device: torch.device, precision: str) -> Call:
    """CTranslate2, which faster-whisper runs on."""
    import ctranslate2
    import transformers

    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "hf"
        huggingface_model(model).save_pretrained(source)
        table = {to_unicode(bytes([byte])): byte for byte in range(256)}
        table |= {f"filler{number}": number for number in range(256, EOT)}
        tokenizer = transformers.WhisperTokenizer(vocab=table, merges=[])
        names = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe",
                 "startoflm", "startofprev", "nospeech", "notimestamps",
                 *(f"{i / 50:.2f}" for i in range(1501))]  # fmt: skip
        tokenizer.add_tokens([f"<|{name}|>" for name in names], special_tokens=True)
        tokenizer.save_pretrained(source)
        kind = "float16" if precision == "fp16" else "float32"
        ctranslate2.converters.TransformersConverter(str(source)).convert(
            f"{work}/ct2", quantization=kind
        )
        where = "cuda" if device.type == "cuda" else "cpu"
        theirs = ctranslate2.models.Whisper(f"{work}/ct2", device=where, compute_type=kind)

    def call(mels: Array, count: int) -> list[list[int]]:
        feats = ctranslate2.StorageView.from_array(np.ascontiguousarray(mels))
        found = theirs.generate(
            feats, [list(PROMPT)] * len(mels), beam_size=1, max_length=len(PROMPT) + count,
            suppress_blank=False, suppress_tokens=[EOT],
        )  # fmt: skip
        return [result.sequences_ids[0] for result in found]

    return call


PEERS = {"transformers": transformers_call, "ctranslate2": ctranslate2_call}


def measure(call: Call, mels: Array, count: int, repeats: int) -> tuple[float, list[list[int]]]:
    """Median seconds of a call, after two to warm up, and what was said."""
    for _ in range(2):
        said = call(mels, count)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        said = call(mels, count)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), said


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="time a large Whisper on a GPU")
    parser.add_argument("--shape", choices=SHAPES, default="large-v3")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    args = parser.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("whisper_gpu: torch sees no GPU here, so there is nothing to measure")
    device = torch.device(args.device)
    precision = "fp16" if device.type == "cuda" else "fp32"
    model = random_model(SHAPES[args.shape])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{args.shape}, {precision}, {name}: {dataclasses.asdict(model.config.dims)}")
    calls = {"ours": ours(model, device, precision)}
    for peer in args.peers:
        if importlib.util.find_spec(peer) is None:
            print(f"{peer} is not installed: not compared")
        else:
            calls[peer] = PEERS[peer](model, device, precision)
    rng = np.random.default_rng(0)
    for batch in args.batch:
        shape = (batch, model.config.dims.n_mels, 2 * model.config.dims.n_audio_ctx)
        mels = rng.standard_normal(shape).astype(np.float32)
        found = {n: measure(call, mels, args.tokens, args.repeats) for n, call in calls.items()}
        seconds, said = found["ours"]
        print(f"\n{batch} windows of 30 s, {args.tokens} tokens each")
        for peer, (taken, theirs) in found.items():
            same = np.mean([a == b for x, y in zip(said, theirs, strict=True)
                            for a, b in zip(x, y, strict=False)])  # fmt: skip
            print(f"  {peer:14} {1000 * taken:9.1f} ms   {100 * same:.0f} % of the tokens as ours")
            if peer != "ours":
                line = {
                    "name": f"whisper {args.shape} {precision}, {name}, batch {batch}, s; {peer}",
                    "ours": round(seconds, 4),
                    "peer": round(taken, 4),
                    "ratio": round(taken / seconds, 2),
                }
                print(json.dumps(line))


if __name__ == "__main__":
    main()
