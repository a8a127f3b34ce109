"""A model that hears tones: each letter is a tone, a gap is a blank. Known text, no training.

Its encoder is a real ONNX graph with the state that a real one has (frames that the subsampling
sees again, positions), so that engines, sessions and commands are tested on what they will run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser

from mynah.audio import make_frontend
from mynah.model_folder import ModelInfo, write_model_folder

RATE = 16000
UNITS = ("<blank>", "<unk>", "▁", "a", "b", "c", "d", "e", "<sos/eos>")
TONES = {"▁": 300.0, "a": 500.0, "b": 800.0, "c": 1250.0, "d": 2000.0, "e": 3200.0}  # hertz
FRONTEND = {"kind": "fbank", "rate": RATE, "num_mels": 40}

ENCODER = """
<ir_version: 9, opset_import: ["" : 18]>
encoder (float[B, T, 40] feats, int64[B] feat_lens, float[B, 6, 40] "state.overlap",
         int64[B] "state.overlap_lens", int64[B] "state.position")
    => (float[B, T2, 9] log_probs, float[B, T2, 40] encoded, int64[B] encoded_lens,
        float[B, 6, 40] "next.overlap", int64[B] "next.overlap_lens", int64[B] "next.position")
<int64 zero = {0}, int64 one = {1}, int64 three = {3}, int64 four = {4}, int64 six = {6},
 int64[1] axis1 = {1}, int64[2] last = {1, 2}, int64[6] back = {-6, -5, -4, -3, -2, -1}>
{
    joined = Concat <axis = 1> ("state.overlap", feats)
    joined_shape = Shape(joined)
    batch = Gather(joined_shape, zero)
    length = Gather(joined_shape, one)
    end = Sub(length, one)
    places = Range(zero, length, one)
    free = Sub(six, "state.overlap_lens")
    free_column = Unsqueeze(free, axis1)
    places_row = Unsqueeze(places, zero_axis)
    wanted = Add(places_row, free_column)
    clipped = Min(wanted, end)
    index = Unsqueeze(clipped, axis2)
    full_index = Expand(index, joined_shape)
    packed = GatherElements <axis = 1> (joined, full_index)
    count = Add("state.overlap_lens", feat_lens)
    more = Sub(count, three)
    enough = Max(more, zero)
    encoded_lens = Div(enough, four)
    by_bin = Transpose <perm = [0, 2, 1]> (packed)
    pooled = AveragePool <kernel_shape = [7], strides = [4]> (by_bin)
    encoded = Transpose <perm = [0, 2, 1]> (pooled)
    product = MatMul(encoded, weight)
    logits = Add(product, bias)
    log_probs = LogSoftmax <axis = -1> (logits)
    back_row = Unsqueeze(back, zero_axis)
    count_column = Unsqueeze(count, axis1)
    from_end = Add(back_row, count_column)
    kept = Max(from_end, zero)
    kept_index = Unsqueeze(kept, axis2)
    state_shape = Shape("state.overlap")
    kept_full = Expand(kept_index, state_shape)
    "next.overlap" = GatherElements <axis = 1> (packed, kept_full)
    used = Mul(encoded_lens, four)
    "next.overlap_lens" = Sub(count, used)
    "next.position" = Add("state.position", encoded_lens)
}
"""

# scores of tokens fall with their number: what it prefers is not the point
DECODER = """
<ir_version: 9, opset_import: ["" : 18]>
decoder (float[B, T, 40] encoded, int64[B] encoded_lens, int64[B, N, U] tokens,
         int64[B, N] token_lens) => (float[B, N, U1] scores, float[B, N, U1] reverse_scores)
<float rate = {-0.01}, int64[6] pads = {0, 0, 0, 0, 0, 1}>
{
    numbers = Cast <to = 1> (tokens)
    values = Mul(numbers, rate)
    scores = Pad(values, pads)
    reverse_scores = Identity(scores)
}
"""


def write_tone_model(path: Path, *, letters: str = "abcde", **changes: Any) -> Path:
    """Write the model folder ``path``, which writes ``letters`` for the five tones; ``changes``
    replace entries of its ``model.toml``."""
    values: dict[str, Any] = {
        "family": "u2",
        "name": "tones",
        "sample_rate": RATE,
        "languages": ("en",),
        "license": "Apache-2.0",
        "frontend": FRONTEND,
        "tokenizer": {"kind": "units"},
        "streaming": {"chunk": 4, "left": 2},
        "decoding": {"method": "rescoring", "ctc_weight": 0.5},
        "training_data": ("none",),
        "voice_activity": False,  # tones are no speech
    }
    with write_model_folder(path, ModelInfo(**(values | changes))) as folder:
        (folder / "onnx").mkdir()
        (folder / "tokenizer").mkdir()
        onnx.save(_encoder(), folder / "onnx" / "encoder.fp32.onnx")
        onnx.save(onnx.parser.parse_model(DECODER), folder / "onnx" / "decoder.fp32.onnx")
        written = dict(zip("abcde", letters, strict=True))
        lines = [f"{written.get(unit, unit)} {number}\n" for number, unit in enumerate(UNITS)]
        (folder / "tokenizer" / "units.txt").write_text("".join(lines), encoding="utf-8")
        (folder / "CARD.md").write_text("# tones\n\nHears tones.\n", encoding="utf-8")
    return path


def _encoder() -> onnx.ModelProto:
    frontend = make_frontend(FRONTEND)
    weight = np.zeros((frontend.dim, len(UNITS)), np.float32)
    bias = np.full(len(UNITS), -100.0, np.float32)
    bias[0] = 16.0  # a blank, unless a tone is louder
    for unit, hertz in TONES.items():
        number = UNITS.index(unit)
        weight[int(frontend(tone(hertz, 0.5)).mean(axis=0).argmax()), number] = 1.0
        bias[number] = 0.0
    model = onnx.parser.parse_model(ENCODER)
    for name, array in {
        "weight": weight,
        "bias": bias,
        "zero_axis": np.array([0]),
        "axis2": np.array([2]),
    }.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.helper.set_model_props(
        model, {"subsampling": "4", "overlap": "6", "feature_dim": "40", "layers": "0"}
    )
    return model


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    """A sine (S,) of amplitude 0.3."""
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def unigrams(words: Mapping[str, float]) -> str:
    """An ARPA file of single words with their log10 probabilities, beside an unknown one."""
    log_probs = {"<unk>": -2.0, "<s>": -99, "</s>": -0.9, **words}
    lines = "".join(f"{value}\t{word}\n" for word, value in log_probs.items())
    return f"\\data\\\nngram 1={len(log_probs)}\n\n\\1-grams:\n{lines}\n\\end\\\n"


def speak(text: str, rate: int = RATE, *, letter: float = 0.2, gap: float = 0.15) -> np.ndarray:
    """Samples of which the model hears ``text`` (letters a to e, spaces)."""
    pause = np.zeros(int(gap * rate), np.float32)
    parts = [pause]
    for word in text.split():
        for unit in "▁" + word:
            parts += [tone(TONES[unit], letter, rate), pause]
    return np.concatenate(parts)
