"""ONNX graphs to int8, so that a row never depends on its batch-mates or its chunk.

Weights: symmetric int8, one scale an output column. Activations: one scale a row (the last axis of
what is multiplied), found at run time. The row's scale is factored out of the product::

    r = max|x|                        # a number a row
    q = quantise(x / r, scale 1/127)  # uint8 around 128: signed activations are 17 times slower
    y = matmul_int8(q, W) * r

so nothing is calibrated, an utterance alone and in any batch gives the same integers, and the
product is the same packed kernel that a scale per tensor would use (``MatMulIntegerToFloat``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mynah.export.quantize_convolution import quantize_subsampling
from mynah.export.quantize_four import fits, four_bits, pack, unpacking

if TYPE_CHECKING:
    import onnx

ZERO_POINT = 128
SMALLEST_ROW = 1e-8  # a row of zeros is divided by this, not by zero


@dataclass
class _Graph:
    """What the rewriting needs to look up, and what it adds."""

    initializers: dict[str, onnx.TensorProto]
    packed: frozenset[tuple[int, ...]] = frozenset()  # shapes of matrices to keep in four bits
    added: dict[str, onnx.TensorProto] = field(default_factory=dict)
    rows: dict[str, tuple[str, str]] = field(default_factory=dict)  # input -> (quantised, row max)

    def array(self, name: str) -> np.ndarray | None:
        import onnx

        tensor = self.initializers.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def constant(self, name: str, value: Any) -> str:
        import onnx

        if name not in self.added:
            self.added[name] = onnx.numpy_helper.from_array(np.asarray(value), name)
        return name


def quantize(
    model: onnx.ModelProto,
    *,
    normalised: bool = False,
    smallest: int = 1024,
    skip: Iterable[str] = (),
    packed: Iterable[tuple[int, ...]] = (),
) -> Any:
    """A copy of ``model`` with int8 weights.

    Every ``MatMul`` with a constant matrix and every ``Gather`` of rows of a constant table is
    rewritten, and a table that is both looked up and, transposed, multiplied by is kept once;
    everything else stays fp32, but for the subsampling's second convolution, which
    becomes a product, too, where features are normalised (:mod:`.quantize_convolution`).

    Args:
        model: an fp32 graph of opset 18 or later.
        normalised: the features that reach the first convolution have mean 0 and variance 1.
        smallest: constants with fewer elements stay fp32.
        skip: names of initializers that stay fp32.
        packed: shapes (K, N) of the matrices that take four bits (:mod:`.quantize_four`).

    Returns:
        the rewritten ``onnx.ModelProto``.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.value_info[:]  # shapes of tensors that are no more
    if normalised:
        quantize_subsampling(result)
    kept = set(skip)
    graph = _Graph(
        {t.name: t for t in result.graph.initializer if t.name not in kept}, frozenset(packed)
    )
    nodes: list[onnx.NodeProto] = []
    tables = _looked_up(result.graph.node, graph, smallest)
    turned = {n.output[0]: n.input[0] for n in result.graph.node if n.op_type == "Transpose"}
    for node in result.graph.node:
        table = _tied_table(node, graph, tables, turned)
        if table is not None:
            nodes += _tied(node, table, graph)
            continue
        weight = _weight(node, graph)
        if weight is None or weight.size < smallest or weight.dtype != np.float32:
            nodes.append(node)
        elif node.op_type == "MatMul":
            nodes += _matmul(node, weight, graph)
        else:
            nodes += _gather(node, graph)
    used = {name for node in nodes for name in node.input}
    nodes = [n for n in nodes if n.op_type != "Transpose" or n.output[0] in used]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    _replace_initializers(result.graph, graph)
    if not any(o.domain == "com.microsoft" for o in result.opset_import):
        result.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return result


def _weight(node: onnx.NodeProto, graph: _Graph) -> np.ndarray | None:
    """The constant matrix that the node multiplies by or looks up in, if it does."""
    if node.op_type == "MatMul":
        weight = graph.array(node.input[1])
    elif node.op_type == "Gather" and not any(a.name == "axis" and a.i for a in node.attribute):
        weight = graph.array(node.input[0])
    else:
        return None
    return weight if weight is not None and weight.ndim == 2 else None


def quantize_columns(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 by column: ``weight (K, N)`` to int8 ``(K, N)`` and scales ``(N,)``."""
    scale = np.maximum(np.abs(weight).max(axis=0), np.float32(1e-12)) / np.float32(127)
    integers = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    return integers, scale.astype(np.float32)


def _looked_up(
    nodes: Iterable[onnx.NodeProto], graph: _Graph, smallest: int
) -> dict[str, np.ndarray]:
    """The constant tables that rows are looked up in, by name."""
    found = {}
    for node in nodes:
        weight = _weight(node, graph) if node.op_type == "Gather" else None
        if weight is not None and weight.size >= smallest and weight.dtype == np.float32:
            found[node.input[0]] = weight
    return found


def _tied_table(
    node: onnx.NodeProto, graph: _Graph, tables: Mapping[str, np.ndarray], turned: Mapping[str, str]
) -> str | None:
    """The table whose transpose the node multiplies by: one that the graph turns, or that the
    exporter turned, which it does with small ones."""
    if node.op_type != "MatMul":
        return None
    name = node.input[1]
    if turned.get(name) in tables:
        return turned[name]
    weight = graph.array(name)
    if weight is None:
        return None
    return next((key for key, table in tables.items() if np.array_equal(table.T, weight)), None)


def _matmul(node: onnx.NodeProto, weight: np.ndarray, graph: _Graph) -> list[onnx.NodeProto]:
    name = node.input[1]
    if weight.shape in graph.packed and fits(weight):
        codes, factors, scale = four_bits(weight)
        nodes, matrix = unpacking(name, pack(codes), factors, graph.constant)
        return [
            *nodes,
            *_product(node, matrix, graph.constant(f"{name}_scale", scale), graph),
        ]
    integers, scale = quantize_columns(weight)
    matrix = graph.constant(f"{name}_int8", integers)
    return _product(node, matrix, graph.constant(f"{name}_scale", scale), graph)


def _tied(node: onnx.NodeProto, table: str, graph: _Graph) -> list[onnx.NodeProto]:
    """A product with a transposed table, whose rows have the scales that looking up needs; the
    engine turns it once, when it reads the graph."""
    import onnx

    scale, rows = _table(table, graph)
    turned = f"{node.output[0]}_turned"
    turn = onnx.helper.make_node("Transpose", [rows], [turned], f"{turned}_node", perm=[1, 0])
    flat = graph.constant(f"{table}_scale", scale)
    return [turn, *_product(node, turned, flat, graph)]


def _product(node: onnx.NodeProto, matrix: str, scale: str, graph: _Graph) -> list[onnx.NodeProto]:
    import onnx

    make = onnx.helper.make_node
    nodes, (quantised, row) = _quantize_rows(node.input[0], graph)
    unscaled = f"{node.output[0]}_unscaled"
    inputs = [
        quantised,
        matrix,
        graph.constant("int8_unit", np.float32(1 / 127)),
        scale,
        graph.constant("int8_middle", np.uint8(ZERO_POINT)),
    ]
    product = make(
        "MatMulIntegerToFloat", inputs, [unscaled], f"{unscaled}_node", domain="com.microsoft"
    )
    return [*nodes, product, make("Mul", [unscaled, row], [node.output[0]], f"{unscaled}_mul")]


def _quantize_rows(name: str, graph: _Graph) -> tuple[list[onnx.NodeProto], tuple[str, str]]:
    """Nodes that quantise the rows of ``name``, once for all products that take it."""
    import onnx

    if name in graph.rows:
        return [], graph.rows[name]
    make = onnx.helper.make_node
    high, low, negated = f"{name}_high", f"{name}_low", f"{name}_negated"
    row, unit, quantised = f"{name}_row", f"{name}_unit", f"{name}_uint8"
    last = graph.constant("int8_last_axis", np.array([-1], np.int64))
    nodes = [
        make("ReduceMax", [name, last], [high], f"{high}_node"),
        make("ReduceMin", [name, last], [low], f"{low}_node"),
        make("Neg", [low], [negated], f"{negated}_node"),
        make(
            "Max",
            [high, negated, graph.constant("int8_smallest_row", np.float32(SMALLEST_ROW))],
            [row],
            f"{row}_node",
        ),
        make("Div", [name, row], [unit], f"{unit}_node"),
        make(
            "QuantizeLinear",
            [
                unit,
                graph.constant("int8_unit", np.float32(1 / 127)),
                graph.constant("int8_middle", np.uint8(ZERO_POINT)),
            ],
            [quantised],
            f"{quantised}_node",
        ),
    ]
    graph.rows[name] = (quantised, row)
    return nodes, graph.rows[name]


def _gather(node: onnx.NodeProto, graph: _Graph) -> list[onnx.NodeProto]:
    """A table of vectors: int8 with a scale a vector, looked up and scaled."""
    import onnx

    make = onnx.helper.make_node
    name, out = node.input[0], node.output[0]
    scale, table = _table(name, graph)
    scales = graph.constant(f"{name}_rows_scale", scale[:, None])
    return [
        make("Gather", [table, node.input[1]], [f"{out}_int8"], f"{out}_int8_node"),
        make("Cast", [f"{out}_int8"], [f"{out}_float"], f"{out}_float_node", to=1),
        make("Gather", [scales, node.input[1]], [f"{out}_scale"], f"{out}_scale_node"),
        make("Mul", [f"{out}_float", f"{out}_scale"], [out], f"{out}_mul"),
    ]


def _table(name: str, graph: _Graph) -> tuple[np.ndarray, str]:
    """The scales (V,) of a table's rows, and the name of the rows in int8."""
    weight = graph.array(name)
    assert weight is not None
    integers, scale = quantize_columns(np.ascontiguousarray(weight.T))
    return scale, graph.constant(f"{name}_rows_int8", np.ascontiguousarray(integers.T))


def _replace_initializers(graph: onnx.GraphProto, lookup: _Graph) -> None:
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(lookup.added.values())
