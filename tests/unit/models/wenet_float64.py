"""WeNet's models written a second time: plain numpy in float64, one utterance, no cache, no batch.

Independent of the package: it reads WeNet's tensors by WeNet's names and follows the papers and
the behaviour that the parity folders describe. Whether a model is a conformer or a transformer,
causal or not, is told by the names. Run as a program, it writes the reference numbers of
tests/data/*_tiny.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class Reference:
    """``weights`` by WeNet's names; the attributes say what train.yaml says."""

    def __init__(self, weights: Mapping[str, Array], heads: int, sos: int) -> None:
        self.w = {k: np.asarray(v, dtype=np.float64) for k, v in weights.items()}
        self.heads, self.sos = heads, sos

    @property
    def both_sides(self) -> bool:
        return "decoder.right_decoder.after_norm.weight" in self.w

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0.0)

    def norm(self, name: str, x: Array) -> Array:
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return y * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def conv2d(self, name: str, x: Array) -> Array:
        """(channels, time, bins), no padding; kernels of 3 go by 2, of 5 by 3."""
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        k = weight.shape[2]
        stride = {3: 2, 5: 3}[k]
        times, bins = ((n - k) // stride + 1 for n in x.shape[1:])
        y = np.empty((len(weight), times, bins))
        for t in range(times):
            for f in range(bins):
                patch = x[:, t * stride : t * stride + k, f * stride : f * stride + k]
                y[:, t, f] = (weight * patch).sum((1, 2, 3)) + bias
        return np.maximum(y, 0)

    def heads_of(self, x: Array) -> Array:
        return x.reshape(len(x), self.heads, -1).transpose(1, 0, 2)

    def attention(self, name: str, x: Array, memory: Array, mask: Array) -> Array:
        q, k, v = (
            self.heads_of(self.linear(f"{name}.linear_{part}", y))
            for part, y in (("q", x), ("k", memory), ("v", memory))
        )
        if f"{name}.linear_pos.weight" in self.w:
            p = self.heads_of(self.linear(f"{name}.linear_pos", sinusoid(len(memory), x.shape[1])))
            u, w = (self.w[f"{name}.pos_bias_{b}"][:, None] for b in "uv")
            scores = (q + u) @ k.swapaxes(1, 2) + (q + w) @ p.swapaxes(1, 2)
        else:
            scores = q @ k.swapaxes(1, 2)
        scores = np.where(mask, scores / math.sqrt(q.shape[-1]), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self.linear(f"{name}.linear_out", (weights @ v).swapaxes(0, 1).reshape(x.shape))

    def feed_forward(self, name: str, x: Array, act: Any) -> Array:
        return self.linear(f"{name}.w_2", act(self.linear(f"{name}.w_1", x)))

    def convolution(self, name: str, x: Array) -> Array:
        """Causal: zeros come before the first frame, and pass through the gate.

        Symmetric (those with batch norm): zeros come on both sides, after the gate.
        """
        kernel = self.w[f"{name}.depthwise_conv.weight"][:, 0]  # (D, K)
        causal = f"{name}.norm.running_mean" not in self.w
        if causal:
            x = np.concatenate((np.zeros((kernel.shape[1] - 1, x.shape[1])), x))
        gate = x @ self.w[f"{name}.pointwise_conv1.weight"][:, :, 0].T
        a, b = np.split(gate + self.w[f"{name}.pointwise_conv1.bias"], 2, axis=-1)
        x = a / (1 + np.exp(-b))
        if not causal:
            x = np.pad(x, ((kernel.shape[1] // 2,) * 2, (0, 0)))
        y = np.stack(
            [
                (x[t : t + kernel.shape[1]].T * kernel).sum(1)
                for t in range(len(x) - kernel.shape[1] + 1)
            ]
        )
        y = y + self.w[f"{name}.depthwise_conv.bias"]
        if causal:
            y = swish(self.norm(f"{name}.norm", y))
        else:
            mean, var = (self.w[f"{name}.norm.running_{part}"] for part in ("mean", "var"))
            y = (y - mean) / np.sqrt(var + 1e-5) * self.w[f"{name}.norm.weight"]
            y = swish(y + self.w[f"{name}.norm.bias"])
        y = y @ self.w[f"{name}.pointwise_conv2.weight"][:, :, 0].T
        return y + self.w[f"{name}.pointwise_conv2.bias"]

    def encode(self, feats: Array, chunk: int = 0, left: int = -1) -> Array:
        """(T, F) -> (T', D). Chunks of ``chunk`` frames see ``left`` before them (-1: all)."""
        x = (feats - self.w["encoder.global_cmvn.mean"]) * self.w["encoder.global_cmvn.istd"]
        x = self.conv2d("encoder.embed.conv.2", self.conv2d("encoder.embed.conv.0", x[None]))
        out = (
            "encoder.embed.linear"
            if "encoder.embed.linear.weight" in self.w
            else "encoder.embed.out.0"
        )
        x = self.linear(out, x.transpose(1, 0, 2).reshape(x.shape[1], -1))
        x *= math.sqrt(x.shape[1])
        block = np.arange(len(x)) // (chunk or len(x))
        behind = block[:, None] - block
        mask = (behind >= 0) & ((left < 0) | (behind <= left))
        if "encoder.encoders.0.norm1.weight" in self.w:
            x = self.transformer(x + sinusoid(*x.shape), mask)
        else:
            x = self.conformer(x, mask)
        return self.norm("encoder.after_norm", x)

    def conformer(self, x: Array, mask: Array) -> Array:
        layer = 0
        while f"encoder.encoders.{layer}.norm_ff.weight" in self.w:
            name = f"encoder.encoders.{layer}"
            y = self.norm(f"{name}.norm_ff_macaron", x)
            x = x + 0.5 * self.feed_forward(f"{name}.feed_forward_macaron", y, swish)
            y = self.norm(f"{name}.norm_mha", x)
            x = x + self.attention(f"{name}.self_attn", y, y, mask)
            x = x + self.convolution(f"{name}.conv_module", self.norm(f"{name}.norm_conv", x))
            y = self.norm(f"{name}.norm_ff", x)
            x = x + 0.5 * self.feed_forward(f"{name}.feed_forward", y, swish)
            x = self.norm(f"{name}.norm_final", x)
            layer += 1
        return x

    def transformer(self, x: Array, mask: Array) -> Array:
        layer = 0
        while f"encoder.encoders.{layer}.norm1.weight" in self.w:
            name = f"encoder.encoders.{layer}"
            y = self.norm(f"{name}.norm1", x)
            x = x + self.attention(f"{name}.self_attn", y, y, mask)
            y = self.norm(f"{name}.norm2", x)
            x = x + self.feed_forward(f"{name}.feed_forward", y, lambda z: np.maximum(z, 0))
            layer += 1
        return x

    def ctc(self, encoded: Array) -> Array:
        return log_softmax(self.linear("ctc.ctc_lo", encoded))

    def decode(self, encoded: Array, tokens: list[int], side: str) -> Array:
        """Logits (U + 1, V) after <sos> and each token, in the order that the side reads."""
        name = f"decoder.{side}_decoder" if self.both_sides else "decoder"
        inputs = [self.sos, *(tokens if side == "left" else tokens[::-1])]
        x = self.w[f"{name}.embed.0.weight"][inputs]
        x = x * math.sqrt(x.shape[1]) + sinusoid(*x.shape)
        causal = np.tril(np.ones((len(x), len(x)), bool))
        layer = 0
        while f"{name}.decoders.{layer}.norm1.weight" in self.w:
            prefix = f"{name}.decoders.{layer}"
            y = self.norm(f"{prefix}.norm1", x)
            x = x + self.attention(f"{prefix}.self_attn", y, y, causal)
            y = self.norm(f"{prefix}.norm2", x)
            x = x + self.attention(f"{prefix}.src_attn", y, encoded, np.ones((1, 1), bool))
            y = self.norm(f"{prefix}.norm3", x)
            x = x + self.feed_forward(f"{prefix}.feed_forward", y, lambda z: np.maximum(z, 0))
            layer += 1
        return self.linear(f"{name}.output_layer", self.norm(f"{name}.after_norm", x))


def sinusoid(size: int, dim: int) -> Array:
    angles = np.arange(size)[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    return np.stack((np.sin(angles), np.cos(angles)), -1).reshape(size, dim)


def swish(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


def log_softmax(x: Array) -> Array:
    x = x - x.max(-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))


def load(folder: Path) -> Reference:
    import torch

    weights = torch.load(folder / "final.pt", weights_only=True)
    stats = json.loads((folder / "global_cmvn").read_text())
    mean = np.array(stats["mean_stat"]) / stats["frame_num"]
    var = np.array(stats["var_stat"]) / stats["frame_num"] - mean**2
    table = {k: v.numpy() for k, v in weights.items()}
    table |= {"encoder.global_cmvn.mean": mean, "encoder.global_cmvn.istd": 1 / np.sqrt(var)}
    return Reference(table, heads=2, sos=13)


def numbers(reference: Reference) -> dict[str, Array]:
    """What a folder's reference.npz holds."""
    rng = np.random.default_rng(11)
    feats = (rng.standard_normal((91, 16)) * 2).astype(np.float32)
    tokens = [2, 7, 7, 4, 12]
    whole = reference.encode(feats)
    found = {
        "feats": feats,
        "tokens": np.array(tokens),
        "encoded": whole,
        "log_probs": reference.ctc(whole),
        "logits": reference.decode(whole, tokens, "left"),
    }
    if "encoder.encoders.0.conv_module.norm.running_mean" not in reference.w:
        found["encoded_chunk4_left2"] = reference.encode(feats, 4, 2)
        found["encoded_chunk3"] = reference.encode(feats, 3)
    if reference.both_sides:
        found["reverse_logits"] = reference.decode(whole, tokens, "right")
    return found


if __name__ == "__main__":
    for tiny in sorted((Path(__file__).parents[2] / "data").glob("*_tiny")):
        np.savez_compressed(tiny / "reference.npz", **numbers(load(tiny)))
