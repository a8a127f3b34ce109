"""The subsampling's second convolution in int8: half the arithmetic of an encoder of usual size.

Its input is what the first convolution, from one channel, lets through its rectifier. Features are
normalised, so what channel c can reach is known: at most ``bound_c = LIMIT * sum|w_c| + b_c`` for
features within ``LIMIT`` standard deviations. The first convolution is scaled by ``255 / bound_c``,
its output is rounded to uint8 (which is the rectifier, too), and the scale goes into the second
kernel. Patches are gathered in uint8 and multiplied by the kernel as one matrix. Scales are fixed:
nothing depends on the batch or the chunk.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

LIMIT = 4.0  # standard deviations that features are taken to stay within
FEWEST = 16  # input channels below which a convolution is not worth it


def quantize_subsampling(model: onnx.ModelProto) -> None:
    """Rewrite ``Conv -> Relu -> Conv`` at the beginning of the graph in place, if it is there."""
    import onnx

    graph = model.graph
    arrays = {t.name: t for t in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in arrays:
            continue
        rectifier = producers.get(node.input[0])
        first = producers.get(rectifier.input[0]) if rectifier is not None else None
        if rectifier is None or rectifier.op_type != "Relu" or first is None:
            continue
        if first.op_type != "Conv" or any(name not in arrays for name in first.input[1:]):
            continue
        kernels = [onnx.numpy_helper.to_array(arrays[n.input[1]]) for n in (first, node)]
        if kernels[0].shape[1] != 1 or kernels[1].shape[1] < FEWEST:
            continue
        users = sum(rectifier.output[0] in other.input for other in graph.node)
        if users > 1 or len(first.input) < 3 or not _plain(node):
            continue
        added = _rewrite(graph, arrays, first, rectifier, node, kernels)
        _replace(graph, [rectifier, node], added)
        return


def _plain(node: onnx.NodeProto) -> bool:
    """Whether the convolution has strides and nothing else: no padding, groups or dilations."""
    found = {a.name: list(a.ints) or [a.i] for a in node.attribute}
    usual = {"pads": 0, "group": 1, "dilations": 1}
    return "strides" in found and all(
        set(found.get(name, [value])) == {value} for name, value in usual.items()
    )


def _rewrite(
    graph: onnx.GraphProto,
    arrays: dict[str, onnx.TensorProto],
    first: onnx.NodeProto,
    rectifier: onnx.NodeProto,
    second: onnx.NodeProto,
    kernels: list[np.ndarray],
) -> list[onnx.NodeProto]:
    """Scale the first convolution in place; returns the nodes that stand for the other two."""
    import onnx

    from mynah.export.quantize import quantize_columns

    bias = onnx.numpy_helper.to_array(arrays[first.input[2]])
    bound = LIMIT * np.abs(kernels[0]).sum(axis=(1, 2, 3)) + np.maximum(bias, 0)
    bound = np.maximum(bound, 1e-6)
    gain = 255 / bound
    _set(arrays[first.input[1]], kernels[0] * gain[:, None, None, None])
    _set(arrays[first.input[2]], bias * gain)

    out, _, height, width = kernels[1].shape
    scaled = kernels[1] / gain[None, :, None, None]
    matrix = scaled.transpose(2, 3, 1, 0).reshape(-1, out)  # rows: time, frequency, channel
    integers, scale = quantize_columns(matrix)
    strides = next(list(a.ints) for a in second.attribute if a.name == "strides")
    p = f"{second.output[0]}_"

    def constant(name: str, value: Any) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), p + name))
        return p + name

    make = onnx.helper.make_node
    one, zero = constant("one", np.float32(1)), constant("zero", np.uint8(0))
    nodes = [
        make("QuantizeLinear", [rectifier.input[0], one, zero], [f"{p}uint8"]),
        make("Transpose", [f"{p}uint8"], [f"{p}last"], perm=[0, 2, 3, 1]),  # (B, T, F, channel)
    ]
    nodes += _patches(p, constant, (height, width), strides)
    inputs = [
        f"{p}patches",
        constant("int8", integers),
        one,
        constant("scale", scale),
        zero,
        constant("middle", np.zeros(out, np.int8)),
        *second.input[2:],
    ]
    nodes += [
        make("MatMulIntegerToFloat", inputs, [f"{p}float"], domain="com.microsoft"),
        make("Transpose", [f"{p}float"], [second.output[0]], perm=[0, 3, 1, 2]),
    ]
    return nodes


def _patches(
    p: str, constant: Any, kernel: tuple[int, int], strides: list[int]
) -> list[onnx.NodeProto]:
    """(B, T, F, channel) to (B, T', F', height * width * channel), without padding.

    A tap begins at its offset and ends as many places before the end as taps come after it.
    """
    import onnx

    make = onnx.helper.make_node
    axes, steps = constant("axes", np.array([1, 2])), constant("steps", np.array(strides))
    far = np.iinfo(np.int64).max
    nodes, names = [], []
    for taps in itertools.product(range(kernel[0]), range(kernel[1])):
        name = f"{p}tap_{taps[0]}_{taps[1]}"
        after = [k - 1 - t for k, t in zip(kernel, taps, strict=True)]
        ends = constant(f"end_{taps[0]}_{taps[1]}", np.array([-a if a else far for a in after]))
        starts = constant(f"start_{taps[0]}_{taps[1]}", np.array(taps))
        nodes.append(make("Slice", [f"{p}last", starts, ends, axes, steps], [name]))
        names.append(name)
    nodes.append(make("Concat", names, [f"{p}patches"], axis=-1))
    return nodes


def _set(tensor: onnx.TensorProto, value: np.ndarray) -> None:
    import onnx

    tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), tensor.name))


def _replace(graph: onnx.GraphProto, old: list[onnx.NodeProto], new: list[onnx.NodeProto]) -> None:
    """Put ``new`` in the place of the last of ``old``."""
    gone = {node.output[0] for node in old}
    last = old[-1].output[0]
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] == last:
            nodes += new
        elif node.output[0] not in gone:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
