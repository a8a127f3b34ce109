"""A U2 model as ONNX graphs: the encoder with its state as inputs and outputs, and the decoders.

One encoder graph serves offline (the whole recording in one step, left context of length 0) and
live (a chunk a step). :mod:`mynah.runtime.engine` runs them by the names of their inputs and
outputs, which are given here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mynah.errors import MissingDependency
from mynah.models.u2.model import U2, EncoderState

OPSET = 18
PRECISIONS = ("fp32", "int8")


class EncoderGraph(nn.Module):
    """Features and state in, log-probabilities, encoded frames and the next state out."""

    def __init__(self, model: U2) -> None:
        super().__init__()
        self.model = model

    def forward(self, feats: Tensor, feat_lens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before = EncoderState(*state) if state else None
        encoded, lens, after = self.model(feats, feat_lens, before)
        following = () if after is None else after.tensors().values()
        return (self.model.ctc_log_probs(encoded), encoded, lens, *following)


class DecoderGraph(nn.Module):
    """Scores of given texts by one or both decoders."""

    def __init__(self, model: U2) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, encoded: Tensor, encoded_lens: Tensor, tokens: Tensor, token_lens: Tensor
    ) -> tuple[Tensor, ...]:
        scores, reverse = self.model.score(encoded, encoded_lens, tokens, token_lens)
        return (scores,) if reverse is None else (scores, reverse)


class CrossGraph(nn.Module):
    """Keys and values of the encoded speech, once an utterance."""

    def __init__(self, model: U2) -> None:
        super().__init__()
        self.model = model

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.cross(encoded)


class StepGraph(nn.Module):
    """One step of the attention search."""

    def __init__(self, model: U2) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.model.step(*inputs)


@dataclasses.dataclass(frozen=True)
class Part:
    """One graph: what is traced, example inputs by name, their dynamic axes, names of outputs."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    axes: Mapping[str, Mapping[int, str]]
    outputs: Sequence[str]
    # axes of outputs that the exporter takes for fixed (it does behind a recurrent layer)
    output_axes: Mapping[str, Mapping[int, str]] = dataclasses.field(default_factory=dict)
    build: Callable[[], Any] | None = None  # writes the graph where tracing is not good enough


def parts(model: U2) -> dict[str, Part]:
    """The graphs of ``model`` by name: ``encoder``, and ``decoder*`` where it has decoders."""
    found = {"encoder": _encoder(model)}
    if model.decoder is not None:
        found |= {
            "decoder": _decoder(model),
            "decoder_cross": _cross(model),
            "decoder_step": _step(model),
        }
    return found


def packed(model: U2) -> list[tuple[int, int]]:
    """The shapes of the matrices that four bits a weight do for: of the feed-forward layers."""
    c = model.config.encoder
    return [(c.dim, c.hidden), (c.hidden, c.dim)]


def _encoder(model: U2) -> Part:
    """With a state, unless the model cannot stream: then its graph has none."""
    inputs = {
        "feats": torch.randn(2, 75, model.config.feature_dim),
        "feat_lens": torch.tensor([75, 70]),
    }
    outputs = ["log_probs", "encoded", "encoded_lens"]
    if model.config.encoder.convolution != "symmetric":
        state = model.init_state(2, capacity=24).tensors()
        inputs |= {f"state.{name}": tensor for name, tensor in state.items()}
        outputs += [f"next.{name}" for name in state]
    axes = {name: {0: "batch"} for name in inputs}
    axes["feats"][1] = "time"
    for name in ("state.keys", "state.values"):
        if name in axes:
            axes[name][3] = "capacity"
    return Part(EncoderGraph(model), inputs, axes, outputs)


def _decoder(model: U2) -> Part:
    inputs = {
        "encoded": torch.randn(2, 30, model.config.encoder.dim),
        "encoded_lens": torch.tensor([30, 20]),
        "tokens": torch.randint(1, model.config.vocab_size - 1, (2, 3, 7)),
        "token_lens": torch.tensor([[7, 5, 0], [3, 7, 1]]),
    }
    axes = {
        "encoded": {0: "batch", 1: "time"},
        "encoded_lens": {0: "batch"},
        "tokens": {0: "batch", 1: "texts", 2: "length"},
        "token_lens": {0: "batch", 1: "texts"},
    }
    both = model.reverse_decoder is not None
    return Part(
        DecoderGraph(model), inputs, axes, ["scores", "reverse_scores"] if both else ["scores"]
    )


def _cross(model: U2) -> Part:
    inputs = {"encoded": torch.randn(2, 30, model.config.encoder.dim)}
    axes = {"encoded": {0: "batch", 1: "time"}}
    return Part(CrossGraph(model), inputs, axes, ["cross_keys", "cross_values"])


def _step(model: U2) -> Part:
    config = model.config
    assert config.decoder is not None
    layers, heads = config.decoder.layers, config.decoder.heads
    width = config.encoder.dim // heads
    past = torch.randn(4, layers, heads, 9, width)
    cross = torch.randn(2, layers, heads, 30, width)
    inputs = {
        "token": torch.randint(1, config.vocab_size, (4,)),
        "positions": torch.tensor([3, 4, 5, 0]),
        "past_keys": past,
        "past_values": past.clone(),
        "cross_keys": cross,
        "cross_values": cross.clone(),
        "encoded_lens": torch.tensor([30, 20]),
    }
    axes: dict[str, dict[int, str]] = {name: {0: "texts"} for name in inputs}
    axes["past_keys"][3] = axes["past_values"][3] = "past"
    for name in ("cross_keys", "cross_values"):
        axes[name] = {0: "batch", 3: "time"}
    axes["encoded_lens"] = {0: "batch"}
    return Part(StepGraph(model), inputs, axes, ["log_probs", "new_keys", "new_values"])


def facts(model: U2) -> dict[str, str]:
    """What an engine has to know of the graphs, as their metadata."""
    encoder = model.config.encoder
    values = {
        "subsampling": model.subsampling,
        "overlap": model.overlap,
        "layers": encoder.layers,
        "heads": encoder.heads,
        "head_dim": encoder.dim // encoder.heads,
        "kernel": encoder.kernel if encoder.convolution == "causal" else 1,
        "dim": encoder.dim,
        "feature_dim": model.config.feature_dim,
    }
    return {key: str(value) for key, value in values.items()}


def to_onnx(part: Part, metadata: Mapping[str, str]) -> Any:
    """The graph of ``part``, traced with its axes left open or as it builds it: an
    ``onnx.ModelProto``.

    Raises:
        MissingDependency: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency(str(error.name), extra="train") from None
    proto = _trace(part) if part.build is None else part.build()
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return proto


def _trace(part: Part) -> Any:
    names = list(part.inputs)
    dynamic: tuple[Any, ...] = tuple(
        dict.fromkeys(part.axes.get(name, {}), torch.export.Dim.DYNAMIC) for name in names
    )
    fixed = {EncoderGraph: 2, StepGraph: 0}.get(type(part.module), len(names))
    shapes = dynamic[:fixed] + ((dynamic[fixed:],) if len(names) > fixed else ())
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            part.module.eval(),
            tuple(part.inputs.values()),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=names,
            output_names=list(part.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _tidy(proto, part)
    return proto


def _tidy(proto: Any, part: Part) -> None:
    """Drop what no engine reads (where each node comes from, shapes in between), and open the axes
    of outputs that are not fixed."""
    for node in proto.graph.node:
        del node.metadata_props[:]
    if not part.output_axes:
        return
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        for axis, name in part.output_axes.get(output.name, {}).items():
            output.type.tensor_type.shape.dim[axis].dim_param = name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def save(proto: Any, path: Path) -> None:
    """Write a graph; one over 1 GB keeps its weights in a file beside it, inside the folder."""
    import onnx

    if proto.ByteSize() > 1_000_000_000:
        copy = onnx.ModelProto()  # saving strips the weights from what is saved
        copy.CopyFrom(proto)
        onnx.save(copy, path, save_as_external_data=True, location=f"{path.name}.data")
    else:
        onnx.save(proto, path)
