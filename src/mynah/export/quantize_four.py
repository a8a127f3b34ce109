"""Weights that take four bits in a file, and are int8 when the engine has read it.

A column has a scale, and each block of 32 weights in it a whole number that its weights, from -7
to 7, are multiplied by: ``w = scale * factor * code``. So ``factor * code`` is the int8 matrix that
:mod:`mynah.export.quantize` needs, and how a product is reckoned, and its speed, stay what they
are. The graph makes the matrix of constants alone, which the engine does once, when it reads the
graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

BLOCK = 32
LARGEST = 7  # of a code
LARGEST_FACTOR = 127 // LARGEST
# parts of a block's largest weight that its largest code may stand for; the best is taken
_RANGES = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0)

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def fits(weight: npt.NDArray[Any]) -> bool:
    """Whether a matrix can be taken apart into pairs of blocks."""
    return bool(weight.shape[0] % (2 * BLOCK) == 0)


def four_bits(weight: Floats) -> tuple[npt.NDArray[np.int8], Bytes, Floats]:
    """A matrix (K, N) as codes (K, N), factors (K / BLOCK, N) and scales (N,)."""
    blocks = weight.reshape(-1, BLOCK, weight.shape[1])
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / (LARGEST * LARGEST_FACTOR)
    unit = blocks / scale
    most = np.abs(unit).max(axis=1, keepdims=True)
    codes = np.zeros(unit.shape, np.int8)
    factors = np.ones(most.shape, np.uint8)
    least = np.full(most.shape, np.inf)
    for part in _RANGES:
        tried = np.clip(np.rint(most * part / LARGEST), 1, LARGEST_FACTOR)
        near = np.clip(np.rint(unit / tried), -LARGEST, LARGEST)
        error = np.square(near * tried - unit).sum(axis=1, keepdims=True)
        better = error < least
        codes = np.where(better, near, codes).astype(np.int8)
        factors[better] = tried[better]
        least = np.minimum(error, least)
    return codes.reshape(weight.shape), factors[:, 0], scale.astype(np.float32)


def pack(codes: npt.NDArray[np.int8]) -> Bytes:
    """Codes (K, N) as bytes (K / 2, N): the first half of the rows in the low bits."""
    low, high = np.split((codes + LARGEST + 1).astype(np.uint8), 2)
    packed: Bytes = np.bitwise_or(low, high << 4, dtype=np.uint8)
    return packed


def unpacking(
    name: str, packed: Bytes, factors: Bytes, constant: Callable[[str, Any], str]
) -> tuple[list[onnx.NodeProto], str]:
    """The nodes that make the int8 matrix of its constants, and its name."""
    import onnx

    rows, columns = 2 * packed.shape[0], packed.shape[1]
    nodes: list[onnx.NodeProto] = []

    def add(kind: str, inputs: list[str], what: str, **attributes: Any) -> str:
        out = f"{name}_{what}"
        nodes.append(onnx.helper.make_node(kind, inputs, [out], f"{out}_node", **attributes))
        return out

    stored = constant(f"{name}_packed", packed)
    low = add("BitwiseAnd", [stored, constant("int4_mask", np.uint8(15))], "low")
    high = add("BitShift", [stored, constant("int4_bits", np.uint8(4))], "high", direction="RIGHT")
    both = add("Concat", [low, high], "both", axis=0)
    raised = add("Cast", [both], "raised", to=onnx.TensorProto.FLOAT)
    codes = add("Sub", [raised, constant("int4_middle", np.float32(LARGEST + 1))], "codes")
    shape = constant(f"int4_blocks_{columns}", np.array([-1, BLOCK, columns], np.int64))
    blocks = add("Reshape", [codes, shape], "blocks")
    stored = constant(f"{name}_factors", factors[:, None])
    factor = add("Cast", [stored], "factor", to=onnx.TensorProto.FLOAT)
    product = add("Mul", [blocks, factor], "product")
    shape = constant(f"int4_shape_{rows}_{columns}", np.array([rows, columns], np.int64))
    flat = add("Reshape", [product, shape], "flat")
    return nodes, add("Cast", [flat], "int8", to=onnx.TensorProto.INT8)
