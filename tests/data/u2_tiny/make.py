"""How the tiny WeNet checkpoints were made: random weights in WeNet's layout.

Three kinds: U2++ beside this file, and beside this folder a U2 transformer with absolute positions
and a conformer with batch norm and symmetric convolution. Run from this directory; their
`reference.npz` are written by tests/unit/models/wenet_float64.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import torch

DIM, HEADS, HIDDEN, KERNEL, BINS, VOCAB, LAYERS = 12, 2, 20, 5, 16, 14, 2
TRAIN_YAML = f"""\
cmvn: global_cmvn
cmvn_conf:
  cmvn_file: global_cmvn
  is_json_cmvn: true
ctc_conf:
  ctc_blank_id: 0
dataset_conf:
  fbank_conf:
    dither: 1.0
    frame_length: 25
    frame_shift: 10
    num_mel_bins: {BINS}
  resample_conf:
    resample_rate: 8000
decoder: bitransformer
decoder_conf:
  attention_heads: {HEADS}
  linear_units: {HIDDEN}
  num_blocks: 2
  r_num_blocks: 1
encoder: conformer
encoder_conf:
  activation_type: swish
  attention_heads: {HEADS}
  causal: true
  cnn_module_kernel: {KERNEL}
  cnn_module_norm: layer_norm
  input_layer: conv2d
  linear_units: {HIDDEN}
  num_blocks: {LAYERS}
  output_size: {DIM}
  pos_enc_layer_type: rel_pos
  selfattention_layer_type: rel_selfattn
  use_dynamic_chunk: true
input_dim: {BINS}
model: asr_model
model_conf:
  ctc_weight: 0.3
  reverse_weight: 0.3
output_dim: {VOCAB}
tokenizer: char
"""

TRANSFORMER = TRAIN_YAML.replace("conformer", "transformer").replace("bitransformer", "transformer")
TRANSFORMER = TRANSFORMER.replace("rel_pos", "abs_pos").replace("rel_selfattn", "selfattn")
BATCHNORM = TRAIN_YAML.replace("bitransformer", "transformer").replace("conv2d", "conv2d6")
BATCHNORM = BATCHNORM.replace("layer_norm", "batch_norm").replace("causal: true", "causal: false")
BATCHNORM = BATCHNORM.replace("use_dynamic_chunk: true", "use_dynamic_chunk: false")
WITHOUT = re.compile(r"  (r_num_blocks|reverse_weight|activation_type|causal|cnn_module\w+): .*\n")
KINDS = {
    "u2_tiny": TRAIN_YAML,
    "transformer_tiny": WITHOUT.sub("", TRANSFORMER),
    "batchnorm_tiny": re.sub("  (r_num_blocks|reverse_weight): .*\n", "", BATCHNORM),
}


def linear(table: dict[str, tuple[int, ...]], name: str, out: int, *into: int) -> None:
    table |= {f"{name}.weight": (out, *into), f"{name}.bias": (out,)}


def norm(table: dict[str, tuple[int, ...]], name: str) -> None:
    table |= {f"{name}.weight": (DIM,), f"{name}.bias": (DIM,)}


def attention(table: dict[str, tuple[int, ...]], name: str) -> None:
    for part in ("q", "k", "v", "out"):
        linear(table, f"{name}.linear_{part}", DIM, DIM)


def encoder_layer(table: dict[str, tuple[int, ...]], layer: str, kind: str) -> None:
    attention(table, f"{layer}.self_attn")
    if kind == "transformer_tiny":
        linear(table, f"{layer}.feed_forward.w_1", HIDDEN, DIM)
        linear(table, f"{layer}.feed_forward.w_2", DIM, HIDDEN)
        norm(table, f"{layer}.norm1")
        norm(table, f"{layer}.norm2")
        return
    table[f"{layer}.self_attn.linear_pos.weight"] = (DIM, DIM)
    table[f"{layer}.self_attn.pos_bias_u"] = (HEADS, DIM // HEADS)
    table[f"{layer}.self_attn.pos_bias_v"] = (HEADS, DIM // HEADS)
    for part in ("feed_forward", "feed_forward_macaron"):
        linear(table, f"{layer}.{part}.w_1", HIDDEN, DIM)
        linear(table, f"{layer}.{part}.w_2", DIM, HIDDEN)
    linear(table, f"{layer}.conv_module.pointwise_conv1", 2 * DIM, DIM, 1)
    linear(table, f"{layer}.conv_module.depthwise_conv", DIM, 1, KERNEL)
    norm(table, f"{layer}.conv_module.norm")
    if kind == "batchnorm_tiny":
        table[f"{layer}.conv_module.norm.running_mean"] = (DIM,)
        table[f"{layer}.conv_module.norm.running_var"] = (DIM,)
    linear(table, f"{layer}.conv_module.pointwise_conv2", DIM, DIM, 1)
    for part in ("ff", "mha", "ff_macaron", "conv", "final"):
        norm(table, f"{layer}.norm_{part}")


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {}
    linear(table, "encoder.embed.conv.0", DIM, 1, 3, 3)
    bins = (BINS - 1) // 2
    if kind == "batchnorm_tiny":
        linear(table, "encoder.embed.conv.2", DIM, DIM, 5, 5)
        linear(table, "encoder.embed.linear", DIM, DIM * ((bins - 2) // 3))
    else:
        linear(table, "encoder.embed.conv.2", DIM, DIM, 3, 3)
        linear(table, "encoder.embed.out.0", DIM, DIM * ((bins - 1) // 2))
    for i in range(LAYERS):
        encoder_layer(table, f"encoder.encoders.{i}", kind)
    norm(table, "encoder.after_norm")
    linear(table, "ctc.ctc_lo", VOCAB, DIM)
    sides = (("decoder.left_decoder", 2), ("decoder.right_decoder", 1))
    for decoder, layers in sides if kind == "u2_tiny" else (("decoder", 2),):
        table[f"{decoder}.embed.0.weight"] = (VOCAB, DIM)
        for i in range(layers):
            layer = f"{decoder}.decoders.{i}"
            attention(table, f"{layer}.self_attn")
            attention(table, f"{layer}.src_attn")
            linear(table, f"{layer}.feed_forward.w_1", HIDDEN, DIM)
            linear(table, f"{layer}.feed_forward.w_2", DIM, HIDDEN)
            for j in (1, 2, 3):
                norm(table, f"{layer}.norm{j}")
        norm(table, f"{decoder}.after_norm")
        linear(table, f"{decoder}.output_layer", VOCAB, DIM)
    return table


def make(kind: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    tensors = {}
    for name, shape in shapes(kind).items():
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 8
        value = rng.standard_normal(shape) / np.sqrt(fan)
        if "norm" in name and name.endswith("weight"):
            value = 1 + 0.3 * value
        if name.endswith("running_var"):
            value = 0.5 + value**2
        tensors[name] = torch.from_numpy(value.astype(np.float32))
    tensors["encoder.embed.pos_enc.pe"] = torch.zeros(1, 3, DIM)  # a table, which is not needed
    if kind == "batchnorm_tiny":
        for i in range(LAYERS):  # an average of checkpoints makes it a number with a fraction
            name = f"encoder.encoders.{i}.conv_module.norm.num_batches_tracked"
            tensors[name] = torch.tensor(12.5)
    torch.save(tensors, folder / "final.pt")
    (folder / "train.yaml").write_text(KINDS[kind])
    units = ["<blank>", "<unk>", *"abcdefghijk", "<sos/eos>"]
    (folder / "units.txt").write_text("".join(f"{u} {i}\n" for i, u in enumerate(units)))
    frames = rng.standard_normal((500, BINS)) * rng.uniform(0.5, 3, BINS) + rng.uniform(-2, 2, BINS)
    stats = {
        "mean_stat": frames.sum(0).tolist(),
        "var_stat": (frames**2).sum(0).tolist(),
        "frame_num": 500,
    }
    (folder / "global_cmvn").write_text(json.dumps(stats))


def main() -> None:
    here = Path(__file__).resolve().parent
    for kind in KINDS:
        make(kind, here.parent / kind)


if __name__ == "__main__":
    main()
