"""The decoder's graph: n more tokens of N hypotheses.

Legend as in :mod:`mynah.models.whisper.graph_parts`; C capacity of the past, G hypotheses a window
(N = R G, those of a window next to each other). Inputs and outputs::

    tokens                (N, n, D) float32, vectors of the tokens: see write_embedding
    lasts                 (N,) int32, the place of the last token: past + n - 1
    total                 () int32, past + n
    place                 (1,) int64, the place of the first token: past
    keep                  (1,) int64, logits are given from here on: -1 the last token, -n all
    past_keys.<layer>     (N, H, C, d) float32, and past_values.<layer>
    cross_*.<layer>       (R, ...): see the encoder's graph
    unheard               (T+,) float32, 0 for a frame and UNHEARD beyond; with int8 alone

    logits                (N, kept, V)
    next_keys.<layer>, next_values.<layer>  to be bound to the past's own buffers, where only the
                          new slice is written
    heard.<layer>         (R, H, G n, T' or T+) softmax of the attention to what is heard

The attention to the past takes n > 1 tokens of N > 1 hypotheses only where there is no past.
With int8 the weights of the attention to what is heard go into their sum in two parts of 8 bits,
since one large weight and many small ones are common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mynah.models.whisper.graph_encoder import query_scale
from mynah.models.whisper.graph_parts import UNIT, Array, Parts, row_scales, to_int8
from mynah.runtime.onnx_writer import MICROSOFT, GraphWriter
from mynah.runtime.whisper.config import WhisperDims

_FINE = 254  # steps of the second part of a weight in one step of the first
_EMBEDDING = "decoder.token_embedding.weight"
_END = np.iinfo(np.int64).max
_SOME = 4096  # vectors that are made int8 at once


@dataclass
class _Decoder:
    parts: Parts
    dims: WhisperDims

    @property
    def size(self) -> int:
        return self.dims.n_text_state // self.dims.n_text_head

    def split(self) -> str:
        """The shape (R, G n, H, d)."""
        graph, heads = self.parts.graph, self.dims.n_text_head
        rows = graph.node("Shape", ["cross_keys.0"], "rows", {"end": 1})
        rest = graph.constant("split_rest", np.array([-1, heads, self.size], np.int64))
        return graph.node("Concat", [rows, rest], "split", {"axis": 0})


def decoder_graph(tensors: Mapping[str, Array], dims: WhisperDims, *, int8: bool) -> GraphWriter:
    """The graph of a checkpoint's decoder; values are read when it is written."""
    graph = GraphWriter("decoder")
    parts = Parts(graph, tensors, int8)
    maker = _Decoder(parts, dims)
    _inputs(maker)
    x = _placed(maker)
    shape = graph.node("Shape", [x], "shape")
    split = maker.split()
    h = parts.norm(x, "decoder.blocks.0.attn_ln", "decoder.first")
    for layer in range(dims.n_text_layer):
        block = f"decoder.blocks.{layer}"
        y = _past_attention(maker, h, layer)
        h, x = parts.added_norm(x, y, f"{block}.cross_attn_ln", f"{block}.spoken")
        y = _heard_attention(maker, h, layer, split, shape)
        h, x = parts.added_norm(x, y, f"{block}.mlp_ln", f"{block}.heard")
        y = parts.feed_forward(h, block)
        last = layer == dims.n_text_layer - 1
        after = "decoder.ln" if last else f"decoder.blocks.{layer + 1}.attn_ln"
        h, x = parts.added_norm(x, y, after, f"{block}.end")
    _logits(maker, h)
    return graph


def write_embedding(tensors: Mapping[str, Array], path: Path, *, int8: bool) -> None:
    """Write the vectors of the tokens to a ``.npy`` file, which is mapped and not read: a row a
    token, of float32 or of (scale, values in int8).

    The decoder's graph has them, too, packed for the product that ends it; rows cannot be taken
    from there.
    """
    table = tensors[_EMBEDDING]
    kind: Any = np.float32
    if int8:
        kind = np.dtype([("scale", "<f4"), ("values", "i1", (table.shape[1],))])
    out = np.lib.format.open_memmap(path, "w+", kind, (len(table),) if int8 else table.shape)
    for start in range(0, len(table), _SOME):
        rows = np.asarray(table[start : start + _SOME], np.float32)
        if int8:
            out["scale"][start : start + _SOME] = row_scales(rows)
            out["values"][start : start + _SOME] = to_int8(rows)
        else:
            out[start : start + _SOME] = rows
    out.flush()


def _inputs(maker: _Decoder) -> None:
    graph, heads, size = maker.parts.graph, maker.dims.n_text_head, maker.size
    graph.input("tokens", "float32", ["N", "n", maker.dims.n_text_state])
    graph.input("lasts", "int32", ["N"])
    graph.input("total", "int32", [])
    graph.input("place", "int64", [1])
    graph.input("keep", "int64", [1])
    kind, length = ("int8", "T+") if maker.parts.int8 else ("float32", "T")
    if maker.parts.int8:
        graph.input("unheard", "float32", [length])
    for layer in range(maker.dims.n_text_layer):
        for part in ("keys", "values"):
            graph.input(f"past_{part}.{layer}", "float32", ["N", heads, "C", size])
        graph.input(f"cross_keys.{layer}", kind, ["R", heads, size, length])
        graph.input(f"cross_values.{layer}", kind, ["R", heads, length, size])
        if maker.parts.int8:
            graph.input(f"cross_key_scales.{layer}", "float32", ["R", heads, 1, size])
            graph.input(f"cross_value_scales.{layer}", "float32", ["R", heads, 1, size])


def _placed(maker: _Decoder) -> str:
    """The vectors of tokens (N, n, D), positions added."""
    parts, graph, node = maker.parts, maker.parts.graph, maker.parts.graph.node
    zero = graph.constant("zero", np.zeros(1, np.int64))
    count = node("Shape", ["tokens"], "count", {"start": 1, "end": 2})
    end = node("Add", ["place", count], "place_end")
    positions = parts.tensor("decoder.positional_embedding")
    positions = node("Slice", [positions, "place", end, zero], "positions")
    return node("Add", ["tokens", positions], "placed")


def _past_attention(maker: _Decoder, h: str, layer: int) -> str:
    """Attention to the tokens before."""
    parts, dims, node = maker.parts, maker.dims, maker.parts.graph.node
    name, width = f"decoder.blocks.{layer}.attn", maker.dims.n_text_state
    weights = [f"{name}.{part}.weight" for part in ("query", "key", "value")]

    def load() -> Array:
        bias = np.zeros(3 * width, np.float32)  # that of the values comes after the attention
        bias[:width] = parts.tensors[f"{name}.query.bias"]
        return bias

    bias = parts.made(f"{name}.all_bias", (3 * width,), load)
    x = parts.product(h, f"{name}.all", weights, bias=bias)
    made = [f"{name}.seen", f"next_keys.{layer}", f"next_values.{layer}"]
    past = [f"past_keys.{layer}", f"past_values.{layer}"]
    heads = dims.n_text_head
    node(
        "GroupQueryAttention",
        [x, "", "", *past, "lasts", "total"],
        made,
        {"num_heads": heads, "kv_num_heads": heads},
        domain=MICROSOFT,
    )
    for out in made[1:]:
        parts.graph.output(out, "float32", ["N", heads, "C", maker.size])
    bias = parts.output_bias(name)
    return parts.product(made[0], f"{name}.out", [f"{name}.out.weight"], bias=bias)


def _heard_attention(maker: _Decoder, h: str, layer: int, split: str, shape: str) -> str:
    """Attention to what is heard -> (N, n, D)."""
    parts, graph, node = maker.parts, maker.parts.graph, maker.parts.graph.node
    name, scale = f"decoder.blocks.{layer}.cross_attn", query_scale(maker.dims)
    bias = parts.scaled(f"{name}.query.bias", scale)
    q = parts.product(h, f"{name}.query", [f"{name}.query.weight"], scale=scale, bias=bias)
    q = node("Transpose", [node("Reshape", [q, split], f"{q}.split")], f"{q}.heads", _SWAP)
    weights = f"heard.{layer}"
    if parts.int8:
        graph.constant("one", np.float32(1))
        q = node("Mul", [q, f"cross_key_scales.{layer}"], f"{q}.by_channel")
        scores = parts.rows_product(q, f"{name}.scores", f"cross_keys.{layer}", "one", "unheard")
        node("Softmax", [scores], weights, {"axis": -1})
        x = _weighted_sum(parts, weights, layer, name)
    else:
        scores = node("MatMul", [q, f"cross_keys.{layer}"], f"{name}.scores")
        node("Softmax", [scores], weights, {"axis": -1})
        x = node("MatMul", [weights, f"cross_values.{layer}"], f"{name}.sum")
    graph.output(
        weights, "float32", ["R", maker.dims.n_text_head, "Gn", "T+" if parts.int8 else "T"]
    )
    x = node("Reshape", [node("Transpose", [x], f"{x}.rows", _SWAP), shape], f"{name}.seen")
    bias = parts.output_bias(name)
    return parts.product(x, f"{name}.out", [f"{name}.out.weight"], bias=bias)


_SWAP = {"perm": [0, 2, 1, 3]}


def _weighted_sum(parts: Parts, weights: str, layer: int, name: str) -> str:
    """Weights (R, H, G n, T') times values in int8: what 127 steps leave of a weight is a second
    row, in steps 254 times as fine."""
    graph, node = parts.graph, parts.graph.node
    fine = graph.constant("fine", np.float32(UNIT / _FINE))
    high = node("QuantizeLinear", [weights, "unit", "middle"], f"{name}.high")
    rest = node("DequantizeLinear", [high, "unit", "middle"], f"{name}.coarse")
    rest = node("Sub", [weights, rest], f"{name}.rest")
    low = node("QuantizeLinear", [rest, fine, "middle"], f"{name}.low")
    both = node("Concat", [high, low], f"{name}.both", {"axis": 2})
    inputs = [both, f"cross_values.{layer}", "unit", "one", "middle"]
    sums = node("MatMulIntegerToFloat", inputs, f"{name}.sums", domain=MICROSOFT)
    node("Split", [sums], [f"{name}.coarse_sum", f"{name}.fine_sum"], {"axis": 2, "num_outputs": 2})
    share = graph.constant("fine_share", np.float32(1 / _FINE))
    x = node("Mul", [f"{name}.fine_sum", share], f"{name}.fine_part")
    x = node("Add", [f"{name}.coarse_sum", x], f"{name}.sum")
    return node("Mul", [x, f"cross_value_scales.{layer}"], f"{name}.sum.scaled")


def _logits(maker: _Decoder, h: str) -> None:
    parts, graph, node = maker.parts, maker.parts.graph, maker.parts.graph.node
    end = graph.constant("end", np.array([_END], np.int64))
    axis = graph.constant("token_axis", np.array([1], np.int64))
    h = node("Slice", [h, "keep", end, axis], "kept")
    if parts.int8:  # by rows, whose operators are few beside what reading the table takes
        parts.rows_product(h, "logits", *parts.matrix("logits", [_EMBEDDING]))
    else:
        table = parts.tensor(_EMBEDDING)
        node("FusedMatMul", [h, table], "logits", {"transB": 1}, domain=MICROSOFT)
    graph.output("logits", "float32", ["N", "kept", maker.dims.n_vocab])
