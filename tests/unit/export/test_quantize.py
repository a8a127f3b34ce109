"""int8 by row: close to fp32, equal to the arithmetic done by hand, independent of batch-mates."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip("onnx")

from mynah.export.quantize import quantize, quantize_columns  # noqa: E402
from mynah.export.quantize_four import fits, four_bits  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((64, 96)).astype(np.float32)
BIAS = RNG.standard_normal(96).astype(np.float32)
SECOND = RNG.standard_normal((64, 32)).astype(np.float32)
TABLE = RNG.standard_normal((50, 64)).astype(np.float32)


def graph() -> onnx.ModelProto:
    """tokens -> table rows -> two products of the same rows, one with a bias."""
    make, tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [
        make("Gather", ["table", "tokens"], ["rows"]),
        make("Add", ["rows", "x"], ["sum"]),
        make("MatMul", ["sum", "weight"], ["product"]),
        make("Add", ["product", "bias"], ["y"]),
        make("MatMul", ["sum", "second"], ["z"]),
    ]
    value = onnx.helper.make_tensor_value_info
    inputs = [value("tokens", 7, ["B", "T"]), value("x", 1, ["B", "T", 64])]
    outputs = [value("y", 1, ["B", "T", 96]), value("z", 1, ["B", "T", 32])]
    constants = {"table": TABLE, "weight": WEIGHT, "bias": BIAS, "second": SECOND}
    weights = [tensor(array, name) for name, array in constants.items()]
    return onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", inputs, outputs, weights),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=9,
    )


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


FLOAT, INT8 = session(graph()), session(quantize(graph()))


def inputs(batch: int, length: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, length, 64)) * rng.uniform(0.01, 30, (batch, length, 1))
    return {"tokens": rng.integers(0, 50, (batch, length)), "x": x.astype(np.float32)}


def test_close_to_float() -> None:
    feed = inputs(3, 11)
    for exact, rounded in zip(FLOAT.run(None, feed), INT8.run(None, feed), strict=True):
        scale = np.abs(exact).max(axis=-1, keepdims=True)
        assert (np.abs(exact - rounded) / scale).max() < 0.03


def test_equals_arithmetic_by_hand() -> None:
    feed = inputs(2, 5)
    rows, scale = quantize_columns(np.ascontiguousarray(TABLE.T))
    x = (rows.T * scale[:, None]).astype(np.float32)[feed["tokens"]] + feed["x"]
    row = np.abs(x).max(axis=-1, keepdims=True)
    integers = np.rint(x / row * 127).astype(np.int64)
    weight, columns = quantize_columns(WEIGHT)
    y = integers @ weight.astype(np.int64) * (columns / 127) * row + BIAS
    np.testing.assert_allclose(INT8.run(["y"], feed)[0], y, rtol=1e-3, atol=1e-2)


def test_batch_mates_do_not_matter() -> None:
    feed = inputs(4, 9)
    together = INT8.run(None, feed)
    for b in range(4):
        for t in range(9):
            alone = INT8.run(None, {k: v[b : b + 1, t : t + 1] for k, v in feed.items()})
            for one, many in zip(alone, together, strict=True):
                np.testing.assert_allclose(one[0, 0], many[b, t], rtol=1e-5, atol=1e-5)


def test_rows_of_zeros() -> None:
    feed = {"tokens": np.zeros((1, 2), np.int64), "x": -TABLE[None, [0, 0]]}
    assert np.isfinite(INT8.run(None, feed)[0]).all()


def test_weights_are_stored_once_in_8_bits() -> None:
    model = quantize(graph())
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert {n for n, a in stored.items() if a.dtype == np.int8} == {
        "table_rows_int8", "weight_int8", "second_int8"
    }  # fmt: skip
    assert "weight" not in stored
    assert [n.op_type for n in model.graph.node].count("QuantizeLinear") == 1, "shared by both"


def test_skip_and_small_constants_stay() -> None:
    names = {t.name for t in quantize(graph(), skip=["second"]).graph.initializer}
    assert "second" in names
    assert "weight_int8" in names
    assert {t.name for t in quantize(graph(), smallest=10**9).graph.initializer} == {
        "table", "weight", "bias", "second"
    }  # fmt: skip


def test_four_bits_become_int8_in_the_engine() -> None:
    codes, factors, scale = four_bits(WEIGHT)
    assert np.abs(codes).max() <= 7
    assert factors.shape == (2, 96) and factors.min() >= 1 and factors.max() <= 18
    integers = codes.astype(int) * np.repeat(factors.astype(int), 32, axis=0)
    assert np.abs(integers).max() <= 127
    error = np.linalg.norm(integers * scale - WEIGHT) / np.linalg.norm(WEIGHT)
    assert 0.03 < error < 0.12
    # the graph, whose matrix is made when it is read, against the int8 graph of that matrix
    model = quantize(graph(), packed=[WEIGHT.shape])
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert stored["weight_packed"].shape == (32, 96) and "weight_int8" not in stored
    assert "second_int8" in stored, "only the shapes that are asked for"
    plain = graph()
    for tensor in plain.graph.initializer:
        if tensor.name == "weight":
            exact = (integers * scale).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(exact, "weight"))
    feed = {
        "tokens": RNG.integers(50, size=(2, 3)),
        "x": RNG.standard_normal((2, 3, 64)).astype(np.float32),
    }
    (ours,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], feed)
    (theirs,) = onnxruntime.InferenceSession(plain.SerializeToString()).run(["y"], feed)
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_matrices_that_have_no_whole_blocks_stay_int8() -> None:
    model = quantize(graph(), packed=[(50, 64), (63, 32)])
    assert "weight_int8" in {t.name for t in model.graph.initializer}
    assert not fits(WEIGHT[:32]) and fits(WEIGHT)
