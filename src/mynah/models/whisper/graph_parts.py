"""Parts that the graphs of the encoder and of the decoder share: products, norms, quantised rows.

Legend: B windows, T' encoder frames, N hypotheses, n new tokens, R windows heard, D width, H heads,
d width of a head, V vocabulary, K and M inputs and outputs of a product.

Products in int8 of many rows: weights with a scale an output, the rows of what is multiplied with
a scale each, found at run time and factored out of the product (``ARCHITECTURE.md``)::

    r = max|x|                        # a number a row
    q = quantise(x / r, scale 1/127)  # uint8 around 128
    y = matmul_int8(q, W) * r

A row of zeros has r = 0: whatever its quotient becomes, it is multiplied by 0.

Products in int8 of a few rows, as a decoder has them, are one operator that does all of this by
blocks of at most 256 inputs, of which weights and rows have a scale each (MatMulNBits, 8 bits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.runtime.onnx_writer import MICROSOFT, Constant, GraphWriter

Array = npt.NDArray[Any]

UNIT = np.float32(1 / 127)  # a row's largest magnitude is 127 steps
_FLOAT = np.dtype(np.float32)
_EPSILON = 1e-5  # of layer norms
_LEAST_GELU = -0.17  # no GELU is smaller
_ROW_BLOCKS = {"axis": -1, "block_size": 1 << 20}  # a block is a row, however wide
_SOME = 4096  # rows of a matrix that are made int8 at once
_BLOCKS = (256, 128, 64, 32, 16)  # inputs of a product that share a scale, the widest that fits


@dataclass
class Parts:
    """A graph under construction, of the tensors of a checkpoint (OpenAI's names)."""

    graph: GraphWriter
    tensors: Mapping[str, Array]
    int8: bool
    many: bool = False  # rows, so that what a row costs counts, not an operator
    _middle_of_rows: str | None = None
    _rows: dict[str, tuple[str, str]] = field(default_factory=dict)
    _active: set[str] = field(default_factory=set)  # what GELU gave

    def __post_init__(self) -> None:
        self.graph.constant("unit", UNIT)
        self.graph.constant("middle", np.uint8(128))
        self.graph.constant("last_axis", np.array([-1], np.int64))

    def tensor(self, name: str) -> str:
        """A tensor of the checkpoint, float32."""
        return self.graph.constant(name, self._constant(name))

    def made(
        self, name: str, shape: Sequence[int], load: Callable[[], Array], dtype: Any = _FLOAT
    ) -> str:
        """A tensor that is computed when the graph is written."""
        return self.graph.constant(name, Constant(tuple(shape), np.dtype(dtype), load))

    def product(
        self, x: str, name: str, weights: Sequence[str], *, scale: float = 1.0, bias: str = ""
    ) -> str:
        """x (..., K) times the matrices ``weights`` (M, K), one beside the other, and ``bias``
        (sum of M,) -> (..., sum of M); the first of them is multiplied by ``scale``."""
        out = f"{name}.product" if bias else name
        if not self.int8:
            shape = self._size(weights)
            matrix = self.made(f"{name}.weight", shape, lambda: self._columns(weights, scale))
            x = self.graph.node("MatMul", [x, matrix], out)
        elif self.many:
            x = self.rows_product(x, out, *self.matrix(name, weights, scale))
        else:
            return self._blocks_product(x, name, weights, scale, bias)
        return self.graph.node("Add", [x, bias], name) if bias else x

    def _size(self, weights: Sequence[str]) -> tuple[int, int]:
        """K and the sum of M."""
        shapes = [self._constant(w).shape for w in weights]
        return shapes[0][1], sum(shape[0] for shape in shapes)

    def _blocks_product(
        self, x: str, name: str, weights: Sequence[str], scale: float, bias: str
    ) -> str:
        inputs, outputs = self._size(weights)
        block = next((b for b in _BLOCKS if inputs % b == 0), _BLOCKS[-1])
        blocks = -(-inputs // block)

        def of_blocks(what: Callable[[Array], Array], result: Array) -> Array:
            for place, rows in self._rows_of(weights, scale):
                filled = np.pad(rows, ((0, 0), (0, blocks * block - inputs)))
                result[place] = what(filled.reshape(-1, block)).reshape(result[place].shape)
            return result

        def integers() -> Array:
            made = of_blocks(to_int8, np.empty((outputs, blocks, block), np.int8))
            return made.view(np.uint8) ^ np.uint8(128)  # around 128

        def scales() -> Array:
            return of_blocks(row_scales, np.empty((outputs, blocks), np.float32)).ravel()

        return self.graph.node(
            "MatMulNBits",
            [
                x,
                self.made(f"{name}.blocks", (outputs, blocks, block), integers, np.uint8),
                self.made(f"{name}.scales", (outputs * blocks,), scales),
                *(["", "", bias] if bias else []),
            ],
            name,
            {"K": inputs, "N": outputs, "bits": 8, "block_size": block, "accuracy_level": 4},
            domain=MICROSOFT,
        )

    def matrix(self, name: str, weights: Sequence[str], scale: float = 1.0) -> tuple[str, str]:
        """The matrices ``weights`` (M, K) one beside the other as int8 (K, sum of M), and scales
        (sum of M,); the first is multiplied by ``scale``."""
        inputs, outputs = self._size(weights)

        def integers() -> Array:
            result = np.empty((inputs, outputs), np.int8)
            for place, rows in self._rows_of(weights, scale):
                result[:, place] = to_int8(rows).T
            return result

        def scales() -> Array:
            return np.concatenate([row_scales(rows) for _, rows in self._rows_of(weights, scale)])

        return (
            self.made(f"{name}.int8", (inputs, outputs), integers, np.int8),
            self.made(f"{name}.scale", (outputs,), scales),
        )

    def rows_product(
        self, x: str, name: str, integers: str, scales: str, more: str | None = None
    ) -> str:
        """x times int8 ``integers`` (..., K, M) of ``scales`` () or (M,), the rows of x quantised;
        ``more`` (M,) is added before a row's magnitude is multiplied."""
        quantised, row = self.quantised(x)
        unscaled = self.graph.node(
            "MatMulIntegerToFloat",
            [quantised, integers, "unit", scales, "middle", *(["", more] if more else [])],
            f"{name}.unscaled",
            domain=MICROSOFT,
        )
        return self.graph.node("Mul", [unscaled, row], name)

    def quantised(self, x: str) -> tuple[str, str]:
        """The rows of x as uint8 and their largest magnitudes, once for all that take them."""
        if x not in self._rows:
            node = self.graph.node
            row = self._largest(x)
            if self.many:  # in one operator, where a row is a block of its own
                step = node("Mul", [row, "unit"], f"{x}.step")
                inputs = [x, step, self._middles(row)]
                quantised = node("QuantizeLinear", inputs, f"{x}.uint8", _ROW_BLOCKS)
            else:
                unit = node("Div", [x, row], f"{x}.unit")
                quantised = node("QuantizeLinear", [unit, "unit", "middle"], f"{x}.uint8")
            self._rows[x] = quantised, row
        return self._rows[x]

    def _middles(self, row: str) -> str:
        """The middle of uint8 for each of the rows, as many for all products."""
        if self._middle_of_rows is None:
            shape = self.graph.node("Shape", [row], f"{row}.shape")
            self._middle_of_rows = self.graph.node("Expand", ["middle", shape], f"{row}.middles")
        return self._middle_of_rows

    def other_rows(self) -> None:
        """From here on products are of another number of rows."""
        self._middle_of_rows = None

    def _largest(self, x: str) -> str:
        """The largest magnitude of each row of x."""
        node, least = self.graph.node, f"{x}.least"
        if x not in self._active and not self.many:
            return node("ReduceMax", [node("Abs", [x], f"{x}.abs"), "last_axis"], f"{x}.row")
        most = node("ReduceMax", [x, "last_axis"], f"{x}.most")
        if x in self._active:
            least = self.graph.constant("least_gelu", np.float32(-_LEAST_GELU))
        else:
            node("Neg", [node("ReduceMin", [x, "last_axis"], f"{x}.lowest")], least)
        return node("Max", [most, least], f"{x}.row")

    def norm(self, x: str, name: str, out: str) -> str:
        """Layer norm by the tensors ``name``."""
        weights = [self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")]
        attributes = {"epsilon": _EPSILON, "axis": -1}
        return self.graph.node("LayerNormalization", [x, *weights], out, attributes)

    def added_norm(self, x: str, y: str, name: str, out: str) -> tuple[str, str]:
        """x + y, and its layer norm by the tensors ``name`` -> (norm, sum)."""
        # SkipLayerNormalization, one operator, takes as long for a row and four times for forty
        total = self.graph.node("Add", [x, y], f"{out}.sum")
        return self.norm(total, name, out), total

    def feed_forward(self, x: str, block: str) -> str:
        """The feed-forward layer of ``block``."""
        for part, name in (("0", "wide"), ("2", "narrow")):
            bias = self.tensor(f"{block}.mlp.{part}.bias")
            weights = [f"{block}.mlp.{part}.weight"]
            x = self.product(x, f"{block}.{name}", weights, bias=bias)
            x = self.gelu(x, f"{block}.active") if name == "wide" else x
        return x

    def gelu(self, x: str, out: str) -> str:
        """The exact GELU of x."""
        self._active.add(out)
        return self.graph.node("Gelu", [x], out, domain=MICROSOFT)

    def output_bias(self, attention: str) -> str:
        """The bias after an attention, with that of its values, whose weights sum to 1, in it."""
        names = [f"{attention}.{part}" for part in ("out.weight", "value.bias", "out.bias")]

        def load() -> Array:
            weight, value, out = (np.asarray(self.tensors[n], np.float64) for n in names)
            return (weight @ value + out).astype(np.float32)

        return self.made(f"{attention}.bias", self._constant(names[2]).shape, load)

    def scaled(self, name: str, factor: float) -> str:
        """A vector of the checkpoint times ``factor``."""
        shape = self._constant(name).shape
        return self.made(
            f"{name}.scaled", shape, lambda: np.float32(factor) * self._constant(name).load()
        )

    def _columns(self, weights: Sequence[str], scale: float) -> Array:
        """(K, sum of M) float32."""
        return np.concatenate([rows for _, rows in self._rows_of(weights, scale)]).T

    def _rows_of(self, weights: Sequence[str], scale: float) -> Iterator[tuple[slice, Array]]:
        """The rows of ``weights``, one after the other, some at a time: their place and values
        (m, K) float32."""
        place = 0
        for number, name in enumerate(weights):
            whole = self.tensors[name]
            for start in range(0, len(whole), _SOME):
                rows = np.asarray(whole[start : start + _SOME], np.float32)
                if scale != 1.0 and number == 0:
                    rows = rows * np.float32(scale)
                yield slice(place, place + len(rows)), rows
                place += len(rows)

    def _constant(self, name: str) -> Constant:
        stored = getattr(self.tensors, "stored", None)
        shape = stored[name].shape if stored else np.shape(self.tensors[name])
        return Constant(tuple(shape), _FLOAT, lambda: np.asarray(self.tensors[name], np.float32))


def row_scales(rows: Array) -> Array:
    """Symmetric int8: the steps (m,) of ``rows`` (m, K)."""
    largest = np.maximum(np.maximum(rows.max(axis=1), -rows.min(axis=1)), np.float32(1e-12))
    return np.asarray(largest / np.float32(127), np.float32)


def to_int8(rows: Array) -> Array:
    """``rows`` (m, K) in their steps."""
    steps = rows / row_scales(rows)[:, None]
    return np.clip(np.rint(steps, out=steps), -127, 127, out=steps).astype(np.int8)
