"""Which tensors of a WeNet checkpoint make which tensor of a U2 model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mynah.models.u2.model import U2Config

_CMVN = {"mean": "encoder.global_cmvn.mean", "istd": "encoder.global_cmvn.istd"}


def sources(config: U2Config, *, cmvn: bool) -> dict[str, tuple[str, ...]]:
    """For each tensor of the model, the names that WeNet has for it or for its parts."""
    table: dict[str, tuple[str, ...]] = {}
    if cmvn:
        table |= {name: (theirs,) for name, theirs in _CMVN.items()}
    table |= _subsampling(config)
    for i in range(config.encoder.layers):
        table |= _encoder_layer(config, f"encoder.layers.{i}", f"encoder.encoders.{i}")
    if config.encoder.norm_first and config.encoder.final_norm:
        table |= _pair("encoder.norm", "encoder.after_norm")
    table |= _pair("ctc", "ctc.ctc_lo")
    if config.decoder.layers:
        both = config.decoder.reverse_layers > 0
        left = "decoder.left_decoder" if both else "decoder"
        table |= _decoder(config, "decoder", left, config.decoder.layers)
        if both:
            layers = config.decoder.reverse_layers
            table |= _decoder(config, "reverse_decoder", "decoder.right_decoder", layers)
    return table


def _pair(ours: str, *theirs: str) -> dict[str, tuple[str, ...]]:
    return {f"{ours}.{part}": tuple(f"{t}.{part}" for t in theirs) for part in ("weight", "bias")}


def _subsampling(config: U2Config) -> dict[str, tuple[str, ...]]:
    factor = config.encoder.subsampling
    table: dict[str, tuple[str, ...]] = {}
    for i in range({2: 1, 4: 2, 6: 2, 8: 3}[factor]):
        # an activation stands between two convolutions
        table |= _pair(f"encoder.subsampling.convolutions.{i}", f"encoder.embed.conv.{2 * i}")
    out = "encoder.embed.out.0" if factor in (2, 4) else "encoder.embed.linear"
    return table | _pair("encoder.subsampling.out", out)


def _encoder_layer(config: U2Config, ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    c = config.encoder
    attention = f"{theirs}.self_attn"
    table = _attention(f"{ours}.attention", attention)
    if c.positions.startswith("relative"):
        table[f"{ours}.attention.position.weight"] = (f"{attention}.linear_pos.weight",)
        table[f"{ours}.attention.bias_content"] = (f"{attention}.pos_bias_u",)
        table[f"{ours}.attention.bias_position"] = (f"{attention}.pos_bias_v",)
    table |= _feed_forward(f"{ours}.feed_forward", f"{theirs}.feed_forward")
    names = {"norm_attention": "norm_mha", "norm_feed_forward": "norm_ff"}
    if not c.macaron and c.convolution == "none":
        names = {"norm_attention": "norm1", "norm_feed_forward": "norm2"}
    if c.macaron:
        names["norm_macaron"] = "norm_ff_macaron"
        table |= _feed_forward(f"{ours}.macaron", f"{theirs}.feed_forward_macaron")
    if c.convolution != "none":
        names |= {"norm_convolution": "norm_conv", "norm_final": "norm_final"}
        pairs = {"gate": "pointwise_conv1", "depthwise": "depthwise_conv", "norm": "norm"}
        for mine, other in (pairs | {"out": "pointwise_conv2"}).items():
            table |= _pair(f"{ours}.convolution.{mine}", f"{theirs}.conv_module.{other}")
        if c.convolution_norm == "batch":
            for part in ("running_mean", "running_var", "num_batches_tracked"):
                table[f"{ours}.convolution.norm.{part}"] = (f"{theirs}.conv_module.norm.{part}",)
    for mine, other in names.items():
        table |= _pair(f"{ours}.{mine}", f"{theirs}.{other}")
    return table


def _attention(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    table = _pair(f"{ours}.qkv", *(f"{theirs}.linear_{part}" for part in "qkv"))
    return table | _pair(f"{ours}.out", f"{theirs}.linear_out")


def _feed_forward(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    return _pair(f"{ours}.inner", f"{theirs}.w_1") | _pair(f"{ours}.outer", f"{theirs}.w_2")


def _decoder(config: U2Config, ours: str, theirs: str, layers: int) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {f"{ours}.embedding.weight": (f"{theirs}.embed.0.weight",)}
    for i in range(layers):
        mine, other = f"{ours}.layers.{i}", f"{theirs}.decoders.{i}"
        table |= _attention(f"{mine}.attention", f"{other}.self_attn")
        table |= _pair(f"{mine}.cross.query", f"{other}.src_attn.linear_q")
        memory = (f"{other}.src_attn.linear_k", f"{other}.src_attn.linear_v")
        table |= _pair(f"{mine}.cross.memory", *memory)
        table |= _pair(f"{mine}.cross.out", f"{other}.src_attn.linear_out")
        table |= _feed_forward(f"{mine}.feed_forward", f"{other}.feed_forward")
        for j, norm in enumerate(("norm_attention", "norm_cross", "norm_feed_forward")):
            table |= _pair(f"{mine}.{norm}", f"{other}.norm{j + 1}")
    if config.decoder.norm_first:
        table |= _pair(f"{ours}.norm", f"{theirs}.after_norm")
    return table | _pair(f"{ours}.output", f"{theirs}.output_layer")


def combine(name: str, parts: Sequence[Tensor], config: U2Config) -> Tensor:
    """The model's tensor ``name`` from WeNet's ``parts`` of it."""
    whole = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    if name == "encoder.subsampling.out.weight":  # channels, then bins -> bins, then channels
        channels = config.encoder.subsampling_channels or config.encoder.dim
        return whole.reshape(whole.shape[0], channels, -1).transpose(1, 2).flatten(1)
    if name.endswith((".convolution.gate.weight", ".convolution.out.weight")):
        return whole.squeeze(2)  # a convolution over one frame is linear
    if name.endswith(".depthwise.weight"):
        return whole.unsqueeze(2)
    if name.endswith(".num_batches_tracked"):
        return whole.long()  # averaging checkpoints leaves a float
    return whole


def convert(tensors: Mapping[str, Tensor], config: U2Config, *, cmvn: bool) -> dict[str, Tensor]:
    """All of the model's tensors, normalisation of features included."""
    table = sources(config, cmvn=cmvn)
    state = {
        name: combine(name, [tensors[part] for part in parts], config)
        for name, parts in table.items()
    }
    if not cmvn:
        state["mean"], state["istd"] = (
            torch.zeros(config.feature_dim),
            torch.ones(config.feature_dim),
        )
    return state
