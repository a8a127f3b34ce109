"""One interface to whatever computes a model, and the engine on ONNX Runtime.

Legend: B batch, T input frames, T' encoder frames, F feature bins, D model width, V vocabulary,
L decoder layers, H heads, d head width, N hypotheses, U tokens.

The state of a stream is a dict of arrays, batch first in each, whose shapes depend only on the
model, the batch size and the capacity (the number of encoder frames of left context that are
kept), so that streams are joined, split and reset by row. An engine may be used from several
threads at once.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mynah.errors import ConfigError, MissingDependency, ModelError, nearest
from mynah.model_folder import ModelFolder, ModelInfo, find_model, read_model_folder

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
State = dict[str, Array]

# an engine's name -> the module whose load(folder, *, precision, threads, device) makes it
ENGINES = {"onnx": "mynah.runtime.engine", "torch": "mynah.export.torch_engine"}
PRECISIONS = ("int8", "fp32")
MOST_THREADS = 1024  # of one computation


@dataclass(frozen=True)
class Encoded:
    """What the encoder gives for a batch."""

    log_probs: Array  # (B, T', V) float32, of CTC
    encoded: Array  # (B, T', D) float32
    lens: Array  # (B,) int64, frames of each row that count
    state: State  # for the next step


class AttentionStep(Protocol):
    """The attention decoder of one utterance, a token at a time; its cache lives behind it."""

    def __call__(self, tokens: Array, parents: Array) -> Array:
        """Extend hypotheses: ``tokens`` (N,) follow the hypotheses ``parents`` (N,) of the last
        call (ignored in the first) -> log-probabilities (N, V) of the next token."""
        ...


class Engine(Protocol):
    """Computes one model."""

    @property
    def info(self) -> ModelInfo:
        """What ``model.toml`` says."""
        ...

    @property
    def name(self) -> str:
        """What runs, for people: ``"onnx int8"``."""
        ...

    @property
    def subsampling(self) -> int:
        """Input frames to an encoder frame."""
        ...

    @property
    def overlap(self) -> int:
        """Input frames after the first that an encoder frame sees."""
        ...

    @property
    def has_decoder(self) -> bool:
        """Whether :meth:`score` and :meth:`attention` can be used."""
        ...

    def init_state(self, batch: int, capacity: int) -> State:
        """The state before the first frame; ``capacity`` 0 for whole utterances."""
        ...

    def encode(
        self,
        feats: Array,
        feat_lens: Array,
        state: State | None = None,
        *,
        next_state: State | None = None,
    ) -> Encoded:
        """Encode ``feats`` (B, T, F), of which ``feat_lens`` (B,) frames count.

        Without a state the frames are whole utterances. ``next_state`` are arrays, of the shapes
        of ``state`` and not the same, that the engine may write the next state into, to save
        allocating it; the state that counts is the one in the result.
        """
        ...

    def score(
        self, encoded: Array, lens: Array, tokens: Array, token_lens: Array
    ) -> tuple[Array, Array | None]:
        """Log-probabilities that the attention decoders give to hypotheses.

        ``encoded`` (B, T', D) with ``lens`` (B,), ``tokens`` (B, N, U) with ``token_lens`` (B, N)
        -> scores (B, N, U+1) of tokens and end, and the same of the right-to-left decoder for the
        reversed tokens, or ``None`` where the model has none.
        """
        ...

    def attention(self, encoded: Array, capacity: int) -> AttentionStep:
        """Start the attention decoder on one utterance (T', D), for at most ``capacity`` tokens."""
        ...


def load_engine(
    model: str | Path | ModelFolder | None = None,
    name: str = "auto",
    *,
    precision: str = "auto",
    threads: int = 1,
    device: str = "auto",
) -> Engine:
    """Load the model and the engine that computes it.

    ``model`` is a folder, a known name, or ``None`` for the bundled recogniser. ``"auto"`` takes
    ONNX Runtime on the CPU when the folder has graphs for it, PyTorch otherwise; int8 when the
    folder has it.

    Raises:
        ModelError: no such model, or it is broken.
        ConfigError: an unknown engine, precision, device or number of threads.
        MissingDependency: the engine needs a library that is not installed.
    """
    folder = model if isinstance(model, ModelFolder) else read_model_folder(find_model(model))
    engine: Engine = open_engine(
        folder, name, ENGINES, PRECISIONS, precision=precision, threads=threads, device=device
    )
    return engine


def open_engine(
    folder: ModelFolder,
    name: str,
    engines: Mapping[str, str],
    precisions: Sequence[str],
    *,
    precision: str,
    threads: int,
    device: str,
) -> Any:
    """What the module of the engine ``name`` makes of a folder, of whatever family.

    ``engines`` has the modules by name, as :data:`ENGINES`, and ``precisions`` what one may ask
    for beside ``"auto"``.

    Raises:
        ModelError, ConfigError, MissingDependency: as :func:`load_engine`.
    """
    if name not in ("auto", *engines):
        raise ConfigError(f"unknown engine {name!r}{nearest(name, engines)}")
    if precision not in ("auto", *precisions):
        raise ConfigError(f"unknown precision {precision!r}{nearest(precision, precisions)}")
    check_threads(threads)
    if name == "auto":
        name = choose_engine(folder, device)
    try:
        module = importlib.import_module(engines[name])
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "mynah":
            raise
        raise MissingDependency(str(error.name), extra="train") from None
    engine = module.load(folder, precision=precision, threads=threads, device=device)
    log.info("%s: %s, %d thread(s)", folder.info.name, engine.name, threads)
    return engine


def choose_engine(folder: ModelFolder, device: str = "auto") -> str:
    """The name of the engine that ``"auto"`` stands for."""
    graphs = any(folder.has(f"onnx/encoder.{precision}.onnx") for precision in PRECISIONS)
    return "onnx" if graphs and device in ("auto", "cpu") else "torch"


def load(folder: ModelFolder, *, precision: str, threads: int, device: str) -> Engine:
    """The engine on ONNX Runtime.

    Raises:
        ModelError: the folder has no graph of that precision, or it is broken.
        ConfigError: a device other than the CPU.
    """
    return OnnxEngine(folder, graph_precision(folder, precision, device), threads)


def graph_precision(folder: ModelFolder, precision: str, device: str) -> str:
    """The precision of the graphs that ONNX Runtime is to run; ``"auto"`` is int8 where the folder
    has it.

    Raises:
        ConfigError: a device other than the CPU, or a precision that it does not compute in.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"the onnx engine runs on the CPU, not on {device!r}")
    if precision not in ("auto", *PRECISIONS):
        known = " or ".join(PRECISIONS)
        raise ConfigError(
            f"precision: the onnx engine computes in {known}; {precision} is for a GPU "
            "(--engine torch --device cuda)"
        )
    there = [one for one in PRECISIONS if folder.has(f"onnx/encoder.{one}.onnx")]
    if precision == "auto":
        return there[0] if there else PRECISIONS[-1]
    if there and precision not in there:
        raise ModelError(
            f"{folder.path}: has graphs in {there[0]} alone, not in {precision}; mynah import or "
            "mynah export makes them (--precision)"
        )
    return precision


class OnnxEngine:
    """A model in ONNX graphs; the decoder's are opened when they are first used."""

    def __init__(self, folder: ModelFolder, precision: str, threads: int) -> None:
        self.info = folder.info
        self.name = f"onnx {precision}"
        self._folder, self._precision, self._threads = folder, precision, threads
        self._graphs: dict[str, Graph] = {}
        self._encoder = self._graph("encoder")
        self.subsampling = self._encoder.fact("subsampling")
        self.overlap = self._encoder.fact("overlap")
        self._fields = [
            name.removeprefix("state.")
            for name in self._encoder.inputs
            if name.startswith("state.")
        ]

    @property
    def has_decoder(self) -> bool:
        return self._folder.has(f"onnx/decoder.{self._precision}.onnx")

    def _graph(self, part: str) -> Graph:
        # two threads may both open a graph; the one that is kept serves from then on
        if part not in self._graphs:
            name = f"onnx/{part}.{self._precision}.onnx"
            self._graphs.setdefault(part, Graph(verified_graph(self._folder, name), self._threads))
        return self._graphs[part]

    def init_state(self, batch: int, capacity: int) -> State:
        shapes = {name: self._shape(name, capacity) for name in self._fields}
        return {
            name: np.zeros((batch, *shape), self._encoder.inputs[f"state.{name}"])
            for name, shape in shapes.items()
        }

    def _shape(self, name: str, capacity: int) -> tuple[int, ...]:
        """The shape of a row of the state's array ``name``."""
        fact = self._encoder.fact
        match name:
            case "overlap":
                return fact("overlap"), fact("feature_dim")
            case "keys" | "values":
                return fact("layers"), fact("heads"), capacity, fact("head_dim")
            case "conv":
                return fact("layers"), fact("kernel") - 1, fact("dim")
            case "overlap_lens" | "valid" | "position":
                return ()
        raise ModelError(f"{self._folder.path}: its encoder has an unknown state {name!r}")

    def encode(
        self,
        feats: Array,
        feat_lens: Array,
        state: State | None = None,
        *,
        next_state: State | None = None,
    ) -> Encoded:
        state = self.init_state(len(feats), 0) if state is None else state
        values = {f"state.{name}": state[name] for name in self._fields}
        values |= {"feats": feats, "feat_lens": feat_lens}
        into = {f"next.{name}": next_state[name] for name in self._fields} if next_state else {}
        out = self._encoder.run(values, into)
        return Encoded(
            log_probs=out["log_probs"],
            encoded=out["encoded"],
            lens=out["encoded_lens"],
            state={name: out[f"next.{name}"] for name in self._fields},
        )

    def score(
        self, encoded: Array, lens: Array, tokens: Array, token_lens: Array
    ) -> tuple[Array, Array | None]:
        values = {
            "encoded": encoded, "encoded_lens": lens, "tokens": tokens, "token_lens": token_lens
        }  # fmt: skip
        out = self._graph("decoder").run(values)
        return out["scores"], out.get("reverse_scores")

    def attention(self, encoded: Array, capacity: int) -> AttentionStep:
        cross, step = self._graph("decoder_cross"), self._graph("decoder_step")
        return OnnxAttention(cross, step, encoded, capacity)


class OnnxAttention:
    """The attention decoder of one utterance; the past is kept in buffers written in place.

    The buffers begin small and double, since a step costs as much as they are long.
    """

    def __init__(self, cross: Graph, step: Graph, encoded: Array, capacity: int) -> None:
        out = cross.run({"encoded": encoded[None]})
        self._step = step
        self._cross = {name: out[name] for name in ("cross_keys", "cross_values")}
        self._lens = np.array([len(encoded)])
        self._position = 0
        _, layers, heads, _, width = out["cross_keys"].shape  # (1, L, H, T', d)
        room = min(16, capacity)
        self._past = [np.zeros((1, layers, heads, room, width), np.float32) for _ in range(2)]

    def __call__(self, tokens: Array, parents: Array) -> Array:
        count, at = len(tokens), self._position
        if at and not np.array_equal(parents, np.arange(len(self._past[0]))):
            self._past = [past[parents] for past in self._past]
        if at == self._past[0].shape[3]:  # full: twice the room
            self._past = [np.concatenate([past, past], axis=3) for past in self._past]
        out = self._step.run({
            "token": tokens,
            "positions": np.full(count, at),
            "past_keys": self._past[0],
            "past_values": self._past[1],
            **self._cross,
            "encoded_lens": self._lens,
        })  # fmt: skip
        self._past[0][:, :, :, at : at + 1] = out["new_keys"]
        self._past[1][:, :, :, at : at + 1] = out["new_values"]
        self._position += 1
        return out["log_probs"]


def verified_graph(folder: ModelFolder, name: str) -> Path:
    """The path of a graph, once it and the file of its weights, if any, are what they were.

    Raises:
        ModelError: a part is missing or altered, or lies outside the folder.
    """
    path, root = folder.file(name), folder.path.resolve()
    weights = f"{name}.data"  # beside the graph where it is too large for one file
    if folder.has(weights):
        folder.file(weights)
    for part in (path, path.with_name(f"{path.name}.data")):
        if part.exists() and not part.resolve().is_relative_to(root):
            raise ModelError(f"{part}: a link that leaves the model folder")
    return path


def check_threads(threads: int) -> None:
    """Refuse a number of threads that is none; ONNX Runtime starts as many as it is told.

    Raises:
        ConfigError: below 1, or more than any machine has cores.
    """
    if threads < 1:
        raise ConfigError(f"threads: {threads} is not a positive number")
    if threads > MOST_THREADS:
        raise ConfigError(f"threads: {threads} is more than {MOST_THREADS}")


def open_session(path: Path, threads: int, *, rewrite: bool = True) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU; ``rewrite`` lets it change the
    graph, which one that was written for its kernels does without.

    Raises:
        ModelError: not a graph that ONNX Runtime can run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not rewrite:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    # threads spin between the operations of a run, which a small chunk needs to gain by a
    # second one, but a thread that waits for the next run must leave its core to others
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base of their own
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{path}: not a graph that ONNX Runtime can run ({reason})") from None


class Graph:
    """An ONNX graph: the types of its inputs, its metadata, and running it."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_session(path, threads)
        self.inputs = {item.name: _DTYPES[item.type] for item in self._session.get_inputs()}
        self.outputs = [item.name for item in self._session.get_outputs()]
        self._path = path
        self._metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def fact(self, key: str) -> int:
        """A whole number of the metadata.

        Raises:
            ModelError: it is not there.
        """
        try:
            return int(self._metadata[key])
        except (KeyError, ValueError):
            raise ModelError(f"{self._path}: the graph does not say its {key}") from None

    def run(self, values: Mapping[str, Array], into: Mapping[str, Array] | None = None) -> State:
        """Outputs by name; those in ``into`` are written to the arrays given there."""
        binding = self._session.io_binding()
        held = []  # the binding keeps addresses, not arrays
        for name, kind in self.inputs.items():
            array = np.ascontiguousarray(values[name], kind)
            held.append(array)
            binding.bind_cpu_input(name, array)
        given = {} if into is None else into
        for name in self.outputs:
            array = given.get(name, _EMPTY)
            if array.size == 0:
                binding.bind_output(name, "cpu")
            else:
                binding.bind_output(
                    name, "cpu", 0, array.dtype, array.shape, array.ctypes.data
                )  # fmt: skip
        self._session.run_with_iobinding(binding)
        results: Sequence[Any] = binding.get_outputs()
        out = {name: value.numpy() for name, value in zip(self.outputs, results, strict=True)}
        return out | {name: array for name, array in given.items() if array.size}

    def bound(self, values: Mapping[str, Array], into: Mapping[str, Array]) -> Callable[[], None]:
        """A run that reads all inputs from ``values`` and writes all outputs to ``into`` each time
        it is called. For a few frames in a small graph binding costs as much as computing, so it is
        done once. The arrays must be contiguous and of the graph's types."""
        binding = self._session.io_binding()
        for name in self.inputs:
            binding.bind_cpu_input(name, values[name])
        for name in self.outputs:
            array = into[name]
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        held = (values, into)  # the binding keeps addresses, not arrays

        def run(session: Any = self._session, held: Any = held) -> None:
            session.run_with_iobinding(binding)

        return run


_EMPTY = np.zeros(0, np.float32)
_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
