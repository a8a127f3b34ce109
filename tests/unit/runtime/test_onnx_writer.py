"""Graphs that are written with numpy alone: what the checker of onnx and ONNX Runtime say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mynah.runtime.onnx_writer import MICROSOFT, Constant, GraphWriter

WEIGHT = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)


def graph() -> GraphWriter:
    """y (B, T, 5) = gelu(x W + 1/2), and the largest of x as a whole number, with a constant of
    every type."""
    writer = GraphWriter("test", metadata={"unit": "second", "über": "ü"})
    x = writer.input("x", "float32", ["B", "T", 300])
    weight = writer.constant("weight", Constant((300, 5), WEIGHT.dtype, lambda: WEIGHT))
    assert writer.constant("weight", 0) == "weight"  # the same once more
    product = writer.node("MatMul", [x, weight], "product")
    added = writer.node("Add", [product, writer.constant("half", np.float32(0.5))], "added")
    writer.node("Gelu", [added], "y", domain=MICROSOFT)
    axes = writer.constant("axes", np.array([-1, 1], np.int64))
    largest = writer.node("ReduceMax", [x, axes], "largest", {"keepdims": 0})
    writer.node("Cast", [largest], "whole", {"to": 7})
    leaky = writer.node("LeakyRelu", [x], "leaky", {"alpha": 0.25})
    writer.node("Transpose", [leaky], "turned", {"perm": [2, 1, 0]})
    writer.node("Split", [x], ["left", "right"], {"axis": -1, "num_outputs": 2})
    bytes_ = writer.constant("bytes", np.array([1, 255], np.uint8))
    writer.node("Cast", [bytes_], "bytes_whole", {"to": 7})
    writer.output("y", "float32", ["B", "T", 5])
    writer.output("whole", "int64", ["B"])
    writer.output("turned", "float32", [300, "T", "B"])
    writer.output("left", "float32", ["B", "T", 150])
    writer.output("bytes_whole", "int64", [2])
    return writer


def run(path: Path, x: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"unit": "second", "über": "ü"}
    assert session.get_inputs()[0].shape == ["B", "T", 300]
    return list(session.run(None, {"x": x}))


@pytest.mark.parametrize("external", [False, True])
def test_it_runs(tmp_path: Path, external: bool) -> None:
    writer, path = graph(), tmp_path / "a.onnx"
    writer.write(path, external=external)
    assert path.with_name("a.onnx.data").exists() == external
    if external:
        assert path.with_name("a.onnx.data").stat().st_size % 64 == 0
        assert path.stat().st_size < WEIGHT.nbytes
    x = np.random.default_rng(1).standard_normal((2, 3, 300)).astype(np.float32)
    y, whole, turned, left, small = run(path, x)
    from math import erf

    product = x @ WEIGHT + 0.5
    gelu = product * 0.5 * (1 + np.vectorize(erf)(product / np.sqrt(2)))
    np.testing.assert_allclose(y, gelu, atol=2e-4)
    np.testing.assert_array_equal(whole, x.max(axis=(1, 2)).astype(np.int64))
    np.testing.assert_array_equal(turned, np.where(x < 0, 0.25 * x, x).T)
    np.testing.assert_array_equal(left, x[..., :150])
    assert small.tolist() == [1, 255]


@pytest.mark.parametrize("external", [False, True])
def test_the_checker_accepts_it(tmp_path: Path, external: bool) -> None:
    onnx = pytest.importorskip("onnx")
    graph().write(tmp_path / "a.onnx", external=external)
    model = onnx.load(tmp_path / "a.onnx")
    del model.graph.node[2]  # of ONNX Runtime alone, which the checker does not know
    del model.graph.output[0]
    onnx.checker.check_model(model)
    found = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(found["weight"], WEIGHT)
    assert found["half"].shape == () and found["half"] == 0.5
    assert found["bytes"].tolist() == [1, 255]
    assert model.producer_name == "mynah"


def test_mistakes(tmp_path: Path) -> None:
    writer = GraphWriter("test")
    writer.input("x", "float32", ["N"])
    with pytest.raises(AssertionError, match="two values are called x"):
        writer.node("Identity", ["x"], "x")
    writer.constant("c", Constant((2,), np.dtype(np.float32), lambda: np.zeros(3)))
    with pytest.raises(ValueError, match=r"shape \(3,\), promised was \(2,\)"):
        writer.write(tmp_path / "a.onnx")
