"""A voice activity detector as one ONNX graph, its state as inputs and outputs.

It is small, so it stays in fp32. :mod:`mynah.runtime.vad` runs it by the names given here.

A live chunk is a few frames, where each node costs as much as its arithmetic: what is traced has
70 nodes more than it needs. So the graph is written here node by node, for rows of one length; an
export compares it with the PyTorch model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mynah.export.onnx import OPSET, Part
from mynah.models.vad.model import Vad, VadState

PRECISIONS = ("fp32",)


class DetectorGraph(nn.Module):
    """Features and state in, probabilities and the next state out; all frames count."""

    def __init__(self, model: Vad) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, feats: Tensor, overlap: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        lens = torch.full((len(feats),), feats.shape[1])
        logits, _, state = self.model(feats, lens, VadState(overlap, hidden))
        return torch.sigmoid(logits), state.overlap, state.hidden


def parts(model: Vad) -> dict[str, Part]:
    """The graph, ``detector``."""
    state = model.init_state(2)
    inputs = {
        "feats": torch.randn(2, 60, model.config.feature_dim),
        "state.overlap": torch.randn_like(state.overlap),
        "state.hidden": torch.randn_like(state.hidden).tanh(),
    }
    axes = {name: {0: "batch"} for name in inputs}
    axes["feats"][1] = "time"
    outputs = ["probs", "next.overlap", "next.hidden"]
    part = Part(DetectorGraph(model), inputs, axes, outputs, build=lambda: graph(model))
    return {"detector": part}


def facts(model: Vad) -> dict[str, str]:
    """What the runtime has to know, as the graph's metadata."""
    config = model.config
    names = ("feature_dim", "dim", "layers", "kernel", "delay")
    return {name: str(getattr(config, name)) for name in names}


def graph(model: Vad) -> Any:
    """The network as an ``onnx.ModelProto``: frames (B, T, F) and the state in, (B, T) out."""
    from onnx import TensorProto, helper, numpy_helper

    config = model.config
    past, layers = config.kernel - 1, range(config.layers)
    nodes: list[Any] = []

    def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> None:
        made = helper.make_node(kind, inputs.split(","), outputs.split(), **attributes)
        nodes.append(made)

    node("Clip", "feats,floor", "raised")
    node("Sub", "raised,mean", "centred")
    node("Mul", "centred,istd", "normal")
    node("Concat", "state.overlap,normal", "frames", axis=1)  # (B, K - 1 + T, F)
    if past:
        node("Slice", "frames,first,end,one", "next.overlap")
    else:
        node("Identity", "state.overlap", "next.overlap")
    node("Transpose", "frames", "turned", perm=[0, 2, 1])
    node("Conv", "turned,weight,bias", "convolved")
    node("Relu", "convolved", "rectified")
    node("Transpose", "rectified", "x0", perm=[2, 0, 1])  # (T, B, D)
    node("Transpose", "state.hidden", "hidden", perm=[1, 0, 2])
    befores = " ".join(f"before{n}" for n in layers)
    node("Split", "hidden", befores, axis=0, num_outputs=config.layers)
    for n in layers:
        sizes = {"hidden_size": config.dim, "linear_before_reset": 1}
        node("GRU", f"x{n},in{n},again{n},biases{n},,before{n}", f"y{n} after{n}", **sizes)
        if n + 1 < config.layers:
            node("Squeeze", f"y{n},one", f"x{n + 1}")
    node("Concat", ",".join(f"after{n}" for n in layers), "afters", axis=0)
    node("Transpose", "afters", "next.hidden", perm=[1, 0, 2])
    node("MatMul", f"y{config.layers - 1},last", "product")  # (T, 1, B, 1)
    node("Add", "product,last_bias", "sum")
    node("Squeeze", "sum,outer", "row")
    node("Transpose", "row", "logits", perm=[1, 0])
    node("Sigmoid", "logits", "probs")

    def value(name: str, *shape: str | int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    states = {
        "overlap": ("batch", past, config.feature_dim),
        "hidden": ("batch", config.layers, config.dim),
    }
    made = helper.make_graph(
        nodes,
        "detector",
        [value("feats", "batch", "time", config.feature_dim)]
        + [value(f"state.{name}", *shape) for name, shape in states.items()],
        [value("probs", "batch", "time")]
        + [value(f"next.{name}", *shape) for name, shape in states.items()],
        [numpy_helper.from_array(array, name) for name, array in _weights(model).items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _weights(model: Vad) -> dict[str, npt.NDArray[Any]]:
    """By the names of :func:`graph`; ONNX has a recurrent layer's gates in another order (update,
    reset, new) than PyTorch (reset, update, new)."""

    def array(tensor: Tensor) -> npt.NDArray[np.float32]:
        return tensor.detach().cpu().float().contiguous().numpy()

    def gates(tensor: Tensor) -> npt.NDArray[np.float32]:
        reset, update, new = array(tensor).reshape(3, model.config.dim, -1)
        return np.concatenate([update, reset, new])[None]  # (1, 3 D, D)

    own = model.state_dict()
    found: dict[str, npt.NDArray[Any]] = {
        "floor": np.array(model.config.floor, np.float32),
        "mean": array(model.mean),
        "istd": array(model.istd),
        "weight": array(own["convolution.weight"]),
        "bias": array(own["convolution.bias"]),
        "last": array(own["out.weight"]).T.copy(),
        "last_bias": array(own["out.bias"]),
        "one": np.array([1]),
        "outer": np.array([1, 3]),
    }
    if model.config.kernel > 1:
        found |= {"first": np.array([1 - model.config.kernel]), "end": np.array([2**62])}
    for number in range(model.config.layers):
        layer = f"layers.{number}"
        both = [gates(own[f"{layer}.bias_{kind}_l0"])[..., 0] for kind in ("ih", "hh")]
        found |= {
            f"in{number}": gates(own[f"{layer}.weight_ih_l0"]),
            f"again{number}": gates(own[f"{layer}.weight_hh_l0"]),
            f"biases{number}": np.concatenate(both, axis=1),  # (1, 6 D)
        }
    return found
