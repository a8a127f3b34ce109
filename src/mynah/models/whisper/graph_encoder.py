"""The encoder's graph: mels to what is heard, and the keys and values that the decoder attends to.

Legend as in :mod:`mynah.models.whisper.graph_parts`. Inputs and outputs::

    mels                  (B, n_mels, 2 T') float32, T' up to n_audio_ctx
    output                (B, T', D)
    cross_keys.<layer>    (B, H, d, T'), cross_values.<layer> (B, H, T', d): float32; or int8 with
                          T+, T' rounded up to a multiple of FRAMES, in place of T'
    cross_key_scales.<layer> (B, H, 1, d), cross_value_scales.<layer> (B, H, 1, d), with int8

Beyond T' there are zeros: the products with them are twice as fast where rows have a round length.
Keys and values have a scale for each of the d numbers of a head, over the frames of a window: that
of the keys is multiplied into the query, which is short. Keys are of what is heard less its mean
over the frames, which would add the same number to all scores of a query and so nothing to the
attention, but take a part of the 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mynah.models.whisper.graph_parts import Array, Parts
from mynah.runtime.onnx_writer import MICROSOFT, GraphWriter
from mynah.runtime.whisper.config import FRAMES, WhisperDims


def encoder_graph(tensors: Mapping[str, Array], dims: WhisperDims, *, int8: bool) -> GraphWriter:
    """The graph of a checkpoint's encoder; values are read when it is written."""
    graph = GraphWriter("encoder")
    parts = Parts(graph, tensors, int8, many=True)
    width = dims.n_audio_state
    mels = graph.input("mels", "float32", ["B", dims.n_mels, "2T"])
    x = _convolutions(parts, mels)
    h = parts.norm(x, "encoder.blocks.0.attn_ln", "encoder.first")
    for layer in range(dims.n_audio_layer):
        block = f"encoder.blocks.{layer}"
        y = _attention(parts, h, f"{block}.attn", dims.n_audio_head, width)
        h, x = parts.added_norm(x, y, f"{block}.mlp_ln", f"{block}.middle")
        y = parts.feed_forward(h, block)
        last = layer == dims.n_audio_layer - 1
        after = "encoder.ln_post" if last else f"encoder.blocks.{layer + 1}.attn_ln"
        h, x = parts.added_norm(x, y, after, f"{block}.end")
    graph.node("Identity", [h], "output")
    graph.output("output", "float32", ["B", "T", width])
    centred = h
    if int8:
        axis = graph.constant("frame_axis", np.array([1], np.int64))
        mean = graph.node("ReduceMean", [h, axis], "encoder.mean")
        centred = graph.node("Sub", [h, mean], "encoder.centred")
        fill = _fill(graph)
        centred, h = (graph.node("Pad", [x, fill], f"{x}.filled") for x in (centred, h))
        parts.other_rows()
    for layer in range(dims.n_text_layer):
        _cross(parts, {"key": centred, "value": h}, layer, dims)
    return graph


def _convolutions(parts: Parts, mels: str) -> str:
    """(B, n_mels, 2 T') -> (B, T', D), positions added."""
    node = parts.graph.node
    x = mels
    for name, stride in (("conv1", 1), ("conv2", 2)):
        weights = [parts.tensor(f"encoder.{name}.{leaf}") for leaf in ("weight", "bias")]
        attributes = {"kernel_shape": [3], "pads": [1, 1], "strides": [stride]}
        x = node("Conv", [x, *weights], f"encoder.{name}", attributes)
        x = parts.gelu(x, f"encoder.{name}.active")
    x = node("Transpose", [x], "encoder.frames", {"perm": [0, 2, 1]})
    count = node("Shape", [x], "encoder.count", {"start": 1, "end": 2})
    zero = parts.graph.constant("zero", np.zeros(1, np.int64))
    table = parts.tensor("encoder.positional_embedding")
    positions = node("Slice", [table, zero, count, zero], "encoder.positions")
    return node("Add", [x, positions], "encoder.placed")


def _fill(graph: GraphWriter) -> str:
    """What makes T' frames T+: how much is put before and behind each axis of (B, T', D)."""
    frames = graph.constant("fill.frames", np.array([FRAMES], np.int64))
    less = graph.node("Neg", ["encoder.count"], "fill.less")
    lacking = graph.node("Mod", [less, frames], "fill.lacking")
    nothing = graph.constant("fill.nothing", np.zeros(4, np.int64))
    return graph.node("Concat", [nothing, lacking, "zero"], "fill", {"axis": 0})


def _attention(parts: Parts, x: str, name: str, heads: int, width: int) -> str:
    """Every frame attends to every frame."""
    made = [parts.product(x, f"{name}.{p}", [f"{name}.{p}.weight"]) for p in _PARTS]
    bias = parts.made(
        f"{name}.query_bias",
        (3 * width,),
        lambda: np.concatenate(
            [
                np.asarray(parts.tensors[f"{name}.query.bias"], np.float32),
                np.zeros(2 * width, np.float32),
            ]
        ),
    )
    seen = parts.graph.node(
        "MultiHeadAttention", [*made, bias], f"{name}.seen", {"num_heads": heads}, domain=MICROSOFT
    )
    bias = parts.output_bias(name)
    return parts.product(seen, f"{name}.out", [f"{name}.out.weight"], bias=bias)


_PARTS = ("query", "key", "value")


def _cross(parts: Parts, given: Mapping[str, str], layer: int, dims: WhisperDims) -> None:
    """Keys and values of a decoder layer. Biases: keys have none, that of the values is in the
    bias after the attention."""
    graph, node = parts.graph, parts.graph.node
    heads, size = dims.n_text_head, dims.n_text_state // dims.n_text_head
    name = f"decoder.blocks.{layer}.cross_attn"
    split = graph.constant("split_heads", np.array([0, 0, heads, size], np.int64))
    kind, length = ("int8", "T+") if parts.int8 else ("float32", "T")
    for part, h in given.items():
        out, keys = f"cross_{part}s.{layer}", part == "key"
        x = parts.product(h, f"{name}.{part}", [f"{name}.{part}.weight"])
        x = node("Reshape", [x, split], f"{x}.split")
        shape: list[int | str] = ["B", heads, size, length] if keys else ["B", heads, length, size]
        if parts.int8:
            scales = f"cross_{part}_scales.{layer}"
            _quantised_heads(parts, x, out, scales, keys=keys)
            graph.output(scales, "float32", ["B", heads, 1, size])
        else:
            node("Transpose", [x], out, {"perm": _KEYS if keys else _VALUES})
        graph.output(out, kind, shape)


_KEYS, _VALUES = [0, 2, 3, 1], [0, 2, 1, 3]
_INT8 = 3  # TensorProto.DataType
_BLOCKS = {"axis": -1, "block_size": 1 << 20, "output_dtype": _INT8}  # a block is a row


def _quantised_heads(parts: Parts, x: str, out: str, scales: str, *, keys: bool) -> None:
    """x (B, T+, H, d) as int8, (B, H, d, T+) for keys or (B, H, T+, d) for values, with a scale a
    channel, (B, H, 1, d)."""
    node = parts.graph.node
    x = node("Transpose", [x], f"{x}.heads", {"perm": _KEYS if keys else _VALUES})
    over = "last_axis" if keys else parts.graph.constant("places_axis", np.array([2], np.int64))
    largest = node("ReduceMax", [node("Abs", [x], f"{x}.abs"), over], f"{x}.largest")
    if keys:  # a channel is a row, which one operator quantises
        step = node("Mul", [largest, "unit"], f"{x}.step")
        node("QuantizeLinear", [x, step], out, _BLOCKS)
        node("Transpose", [step], scales, {"perm": [0, 1, 3, 2]})
    else:
        signed = parts.graph.constant("signed", np.int8(0))
        node("QuantizeLinear", [node("Div", [x, largest], f"{x}.unit"), "unit", signed], out)
        node("Mul", [largest, "unit"], scales)


def query_scale(dims: WhisperDims) -> float:
    """What queries are multiplied by, so that scores are products."""
    return 1 / math.sqrt(dims.n_text_state // dims.n_text_head)
