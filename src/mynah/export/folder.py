"""A model folder with weights to a model folder with graphs."""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mynah.errors import ModelError
from mynah.export.onnx import Part, save, to_onnx
from mynah.export.quantize import quantize
from mynah.model_folder import ModelFolder, write_model_folder
from mynah.models.load import WEIGHTS, load_model

log = logging.getLogger(__name__)

Precision = Literal["fp32", "int8"]
# a family -> the module that has its parts(model), facts(model) and PRECISIONS
GRAPHS = {
    "lm": "mynah.export.lm",
    "punctuation": "mynah.export.punctuation",
    "u2": "mynah.export.onnx",
    "vad": "mynah.export.vad",
}
# largest differences from PyTorch, relative where values are large; int8 only must not be broken
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "int8": 10.0}


@dataclass(frozen=True)
class Written:
    """One graph of an export."""

    name: str
    bytes: int
    difference: float  # largest, from PyTorch in fp32, on one example


def export_folder(
    source: ModelFolder,
    target: str | Path,
    *,
    precisions: Sequence[Precision] | None = None,
    weights: bool = False,
    pack: bool = False,
    progress: Callable[[str], None] = log.info,
) -> list[Written]:
    """Write ``target``: the folder ``source`` with ONNX graphs, and with its weights if asked.

    Without ``precisions`` there are graphs in each that the family has. With ``pack`` the int8
    graphs keep what the family's ``packed(model)`` names in four bits a weight.

    Every graph is run on an example beside PyTorch before the folder takes its place.

    Raises:
        ModelError: no weights, a family without graphs or without such a precision, or an fp32
            graph that differs.
        MissingDependency: onnx, onnxscript or safetensors is not installed.
    """
    if Path(target).exists() and Path(target).resolve() == source.path.resolve():
        weights = True  # graphs are added to the folder, nothing is taken from it
    model = load_model(source).eval()
    graphs = _graphs(source, precisions or (), pack)
    packed: Sequence[tuple[int, ...]] = graphs.packed(model) if pack else ()
    istd = getattr(model, "istd", None)  # of its features, whose range is then known
    normalised = isinstance(istd, torch.Tensor) and bool((istd != 1).any())
    threads = torch.get_num_threads()
    written: list[Written] = []
    with write_model_folder(target, source.info) as work:
        for name in source.files:
            if not name.startswith("onnx/") and (weights or name != WEIGHTS):
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.file(name), work / name)
        (work / "onnx").mkdir()
        for name, part in graphs.parts(model).items():
            progress(f"{name}: tracing")
            graph = to_onnx(part, graphs.facts(model))
            for precision in precisions or graphs.PRECISIONS:
                path = work / "onnx" / f"{name}.{precision}.onnx"
                ready = graph
                if precision != "fp32":
                    ready = quantize(graph, normalised=normalised, packed=packed)
                save(ready, path)
                difference = compare(part, path, threads)
                if not difference < TOLERANCES[precision]:  # NaN is not below anything
                    raise ModelError(f"{path.name}: off by {difference:.1e} from PyTorch")
                written.append(Written(path.name, path.stat().st_size, difference))
    return written


def _graphs(source: ModelFolder, precisions: Sequence[Precision], pack: bool) -> Any:
    """The module that knows the graphs of the folder's family, if it has what is asked for.

    Raises:
        ModelError: it has not.
    """
    family = source.info.family
    if family == "whisper":
        raise ModelError(
            f"{source.path}: the graphs of a Whisper are written when it is imported "
            "(--precision) or trained (task.graphs)"
        )
    if family not in GRAPHS:
        raise ModelError(f"{source.path}: the family {family} has no graphs")
    graphs = importlib.import_module(GRAPHS[family])
    for precision in precisions:
        if precision not in graphs.PRECISIONS:
            raise ModelError(f"{source.path}: the family {family} has no {precision} graphs")
    if pack and not hasattr(graphs, "packed"):
        raise ModelError(f"{source.path}: graphs of the family {family} cannot be packed")
    return graphs


def compare(part: Part, path: Path, threads: int = 1) -> float:
    """The largest difference of a graph's outputs from PyTorch's on the part's example.

    Differences of values above 1 are relative.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {name: tensor.numpy() for name, tensor in part.inputs.items()}
    # an input that the model does not need (a memory of length 0) is not in the graph
    wanted = {item.name for item in session.get_inputs()}
    found: Sequence[Any] = session.run(
        list(part.outputs), {k: v for k, v in feed.items() if k in wanted}
    )
    with torch.no_grad():
        expected = [t.numpy() for t in part.module(*part.inputs.values())]
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if b.size:  # numpy's maximum keeps a NaN, Python's may lose it
            difference = (np.abs(a - b) / np.maximum(np.abs(b), 1.0)).max()
            worst = float(np.maximum(worst, difference))
    return worst
