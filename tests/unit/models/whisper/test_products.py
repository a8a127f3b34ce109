"""Products of the graphs against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import whisper_files as files

from mynah.model_folder import read_model_folder
from mynah.models.whisper.convert import import_whisper
from mynah.models.whisper.graph_parts import Parts
from mynah.runtime.engine import open_session
from mynah.runtime.onnx_writer import GraphWriter
from mynah.runtime.whisper.engine import load_whisper_engine


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("inputs", [24, 40, 128, 384, 512])  # of blocks: filled up, 16 to 256 wide
def test_a_product(tmp_path: Path, inputs: int, int8: bool, many: bool) -> None:
    rng = np.random.default_rng(inputs)
    first, second = (rng.standard_normal((m, inputs)).astype(np.float32) for m in (48, 5))
    bias = rng.standard_normal(53).astype(np.float32)
    x = rng.standard_normal((7, inputs)).astype(np.float32)
    x[3] *= 1e-3  # a row is as precise as it is loud
    x[5] = 0.0
    graph = GraphWriter("product")
    parts = Parts(graph, {"first": first, "second": second}, int8, many=many)
    graph.input("x", "float32", ["n", inputs])
    given = graph.constant("bias", bias)
    parts.product("x", "plain", ["first", "second"], scale=0.5)
    parts.product("x", "biased", ["first", "second"], scale=0.5, bias=given)
    for name in ("plain", "biased"):
        graph.output(name, "float32", ["n", 53])
    graph.write(tmp_path / "product.onnx")
    session = open_session(tmp_path / "product.onnx", 1, rewrite=False)
    plain, biased = session.run(["plain", "biased"], {"x": x})
    wanted = x.astype(np.float64) @ np.concatenate([0.5 * first, second]).T
    size = np.abs(wanted).max(axis=1, keepdims=True) + 1e-12
    assert (np.abs(plain - wanted) / size).max() < (0.03 if int8 else 1e-5)
    np.testing.assert_allclose(biased, plain + bias, atol=1e-5)
    assert not plain[5].any()
    for count in (1, 2, 5):  # rows do not depend on one another
        (alone,) = session.run(["plain"], {"x": x[:count]})
        np.testing.assert_allclose(alone, plain[:count], atol=1e-4)


def test_logits_in_int8(tmp_path: Path) -> None:
    folder = files.write_huggingface(tmp_path / "hf", files.random_tensors())
    out = read_model_folder(import_whisper(folder, tmp_path / "out", precision="both"))
    mels = (
        np.random.default_rng(0)
        .standard_normal((1, files.DIMS.n_mels, 2 * files.DIMS.n_audio_ctx))
        .astype(np.float32)
    )
    found = {}
    for precision in ("int8", "fp32"):
        engine = load_whisper_engine(out, precision=precision)
        decoder = engine.decoder(engine.encode(mels), [0])
        found[precision] = decoder(np.array([[1, 5, 9]]), every=True)
    np.testing.assert_allclose(found["int8"], found["fp32"], atol=0.1 * found["fp32"].std())
