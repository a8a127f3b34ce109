"""One interface to whatever computes a Whisper, and the engine on ONNX Runtime.

Legend: B windows of a batch, R of them that are still decoded, T' encoder frames, D model width,
V vocabulary, L decoder layers, H heads, d width of a head, N hypotheses, n new tokens, G hypotheses
of a window, P tokens before, C capacity.

A window is heard once; decoders step any number of hypotheses over what was heard, each over one
window. An engine may be used from several threads at once, a decoder belongs to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mynah.config import build
from mynah.decoding.whisper_prediction import Helpers, HostPrediction, Prediction
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelFolder
from mynah.runtime.buffers import Buffers
from mynah.runtime.engine import (
    Array,
    graph_precision,
    open_engine,
    open_session,
    verified_graph,
)
from mynah.runtime.whisper.config import FRAMES, UNHEARD, WhisperConfig, WhisperDims

# an engine's name -> the module whose load(folder, *, precision, threads, device) makes it
ENGINES = {"onnx": "mynah.runtime.whisper.engine", "torch": "mynah.export.whisper_torch"}
PRECISIONS = ("int8", "fp32", "fp16", "bf16")
_ROOM = 64  # tokens that the past has room for at first


class Heard(Protocol):
    """Windows that were encoded, and whatever else an engine keeps of them."""

    @property
    def output(self) -> Array:
        """What the encoder gave, (B, T', D) float32."""
        ...

    @property
    def frames(self) -> int:
        """T'."""
        ...


class TextDecoder(Protocol):
    """Predicts the next token of hypotheses."""

    def __call__(
        self, tokens: Array, parents: Array | None = None, *, every: bool = False
    ) -> Array:
        """Read ``tokens`` (N, n), n new tokens of each of N hypotheses.

        ``parents`` (N,) are the hypotheses of the last call that they continue, as many as one
        likes; without, each continues itself.

        Returns:
            logits after the last token (N, V), or with ``every`` after each, (N, n, V); float32.

        Raises:
            ValueError: more tokens than the decoder was started for.
        """
        ...

    def predict(self, tokens: Array, parents: Array | None = None) -> Prediction:
        """What may follow ``tokens``, which are read as by a call. It is there until the next.

        Raises:
            ValueError: as a call.
        """
        ...

    def align(self, tokens: Array, heads: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
        """The weights (N, heads, n, T') with which whole sequences ``tokens`` (N, n) attend to what
        is heard, in each (layer, head) of ``heads``, and the logits after each token (N, n, V).
        Row i hears what the decoder was started with; what it has read so far does not matter and
        stays."""
        ...


class WhisperEngine(Protocol):
    """Hears windows and predicts their texts."""

    @property
    def dims(self) -> WhisperDims:
        """Sizes of the model."""
        ...

    @property
    def name(self) -> str:
        """What runs, for people: ``"onnx int8"``."""
        ...

    def encode(self, mels: Array) -> Any:
        """Hear windows (B, n_mels, 2 T') float32, T' up to ``n_audio_ctx`` -> :class:`Heard`."""
        ...

    def decoder(self, heard: Any, rows: Sequence[int], capacity: int = 448) -> TextDecoder:
        """A decoder of hypotheses, the i-th of which hears the window ``rows[i]``, for at most
        ``capacity`` tokens (and as many as the model has places for)."""
        ...


def load_whisper_engine(
    folder: ModelFolder,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int = 1,
    device: str = "auto",
) -> WhisperEngine:
    """The engine for a model folder of the family ``whisper``.

    ``"auto"`` takes ONNX Runtime on the CPU when the folder has graphs for it, PyTorch otherwise;
    int8 when the folder has it.

    Raises:
        ModelError: the folder lacks what the engine needs, or it is broken.
        ConfigError: an unknown engine, precision, device or number of threads.
        MissingDependency: the engine needs a library that is not installed.
    """
    loaded: WhisperEngine = open_engine(
        folder, engine, ENGINES, PRECISIONS, precision=precision, threads=threads, device=device
    )
    return loaded


def load(folder: ModelFolder, *, precision: str, threads: int, device: str) -> OnnxWhisper:
    """The engine on ONNX Runtime.

    Raises:
        ModelError: the folder has no graphs of that precision, or they are broken.
        ConfigError: a device other than the CPU.
    """
    precision = graph_precision(folder, precision, device)
    try:
        config = build(WhisperConfig, folder.info.config, "config")
    except ConfigError as error:
        raise ModelError(f"{folder.path}: {error}") from None
    return OnnxWhisper(folder, config.dims, precision, threads)


@dataclass(frozen=True)
class OnnxHeard:
    """Windows that were encoded, and the keys and values that decoders attend to."""

    output: Array  # (B, T', D)
    frames: int  # T'
    cross: dict[str, Array]  # of each input "cross_*" of the decoder, (B, ...)

    @property
    def places(self) -> int:
        """How many frames there are keys and values of: T' and, with int8, some of zeros."""
        return int(self.cross["cross_values.0"].shape[2])


class OnnxWhisper:
    """A Whisper in two ONNX graphs (``mynah.models.whisper.graph_encoder`` and ``_decoder``)."""

    def __init__(
        self, folder: ModelFolder, dims: WhisperDims, precision: str, threads: int
    ) -> None:
        self.dims, self.name = dims, f"onnx {precision}"
        self._encoder, self.session = (
            open_session(
                verified_graph(folder, f"onnx/{part}.{precision}.onnx"), threads, rewrite=False
            )
            for part in ("encoder", "decoder")
        )
        self.helpers = Helpers(threads - 1) if threads > 1 else None
        self.buffers = Buffers()
        self._embedding = _embedding(folder, f"onnx/embedding.{precision}.npy", dims)
        self._cross = [item for item in self._encoder.get_outputs() if item.name != "output"]
        # whether what is heard is filled up to a round length
        self.fills = any(item.name == "unheard" for item in self.session.get_inputs())

    def encode(self, mels: Array) -> OnnxHeard:
        """See :meth:`WhisperEngine.encode`; one window after the other, so none sees another."""
        batch, bands, frames = mels.shape
        limit = 2 * self.dims.n_audio_ctx
        if bands != self.dims.n_mels or not 0 < frames <= limit or frames % 2:
            raise ValueError(
                f"mels of shape {mels.shape}; needed is (B, {self.dims.n_mels}, an even number "
                f"up to {limit})"
            )
        mels = np.ascontiguousarray(mels, np.float32)
        shapes = {item.name: self._shape(item, frames // 2) for item in self._cross}
        out = {"output": np.empty((batch, frames // 2, self.dims.n_audio_state), np.float32)}
        for item in self._cross:
            shape = batch, *shapes[item.name]
            out[item.name] = self.buffers.array(shape, _DTYPES[item.type])
        for row in range(batch):
            binding = self._encoder.io_binding()
            _bind_input(binding, "mels", mels[row : row + 1])
            for name, array in out.items():
                _bind_output(binding, name, array[row : row + 1])
            self._encoder.run_with_iobinding(binding)
        return OnnxHeard(out.pop("output"), frames // 2, out)

    def decoder(
        self, heard: OnnxHeard, rows: Sequence[int], capacity: int = 448
    ) -> OnnxTextDecoder:
        """See :meth:`WhisperEngine.decoder`."""
        return OnnxTextDecoder(self, heard, rows, min(capacity, self.dims.n_text_ctx))

    def embed(self, tokens: Array) -> Array:
        """The vectors (N, n, D) of ``tokens`` (N, n)."""
        rows = self._embedding[tokens]
        if rows.dtype.names is None:
            return np.asarray(rows)
        return np.asarray(rows["values"] * rows["scale"][..., None])

    def _shape(self, item: Any, frames: int) -> tuple[int, ...]:
        """The shape of a window's part of an output."""
        lengths = {"T": frames, "T+": -(-frames // FRAMES) * FRAMES}
        return tuple(lengths[size] if size in lengths else int(size) for size in item.shape[1:])


class OnnxTextDecoder:
    """Hypotheses; their past lies in buffers that the graph writes its new slice into.

    The graph wants the hypotheses of a window next to each other, equally many of each window, so
    they live in slots: window r has the slots r G to (r + 1) G, some of which may be idle.
    """

    def __init__(
        self,
        engine: OnnxWhisper,
        heard: OnnxHeard,
        rows: Sequence[int] | Array,
        capacity: int,
    ) -> None:
        self._engine, self._heard, self._started = engine, heard, np.asarray(rows, np.int64)
        self._capacity = capacity
        self._length = 0  # P
        dims = engine.dims
        self._shape = dims.n_text_head, dims.n_text_state // dims.n_text_head
        self._layers = range(dims.n_text_layer)
        self._rows = self._started  # the window of each hypothesis
        self._windows: Array = np.zeros(0, np.int64)  # those with slots, ascending
        self._cross: dict[str, Array] = {}  # (R, ...)
        nothing = len(self._layers), 2, 0, self._shape[0], 0, self._shape[1]
        self._past: Array = np.zeros(nothing, np.float32)  # (L, keys and values, slots, H, C, d)
        self._block: Array = np.zeros(0, np.uint8)  # where it lies
        self._ids = np.zeros((0, 0), np.int64)  # (slots, P): equal where the pasts of two are
        self._unheard = np.zeros(heard.places, np.float32)
        self._unheard[heard.frames :] = UNHEARD
        self._slots = self._arrange(self._rows)
        self._binding: Any = None
        self._vectors: Array = np.zeros((0, 0, 0), np.float32)  # of the tokens of a step
        self._logits: Array = self._vectors  # (slots, 1 or n, V)
        self._bind()

    def __call__(
        self, tokens: Array, parents: Array | None = None, *, every: bool = False
    ) -> Array:
        """See :meth:`TextDecoder.__call__`."""
        return self._read(tokens, parents, every=every).copy()

    def _read(self, tokens: Array, parents: Array | None = None, *, every: bool = False) -> Array:
        """As a call; the logits are there until the next."""
        tokens = np.asarray(tokens, np.int64)
        if parents is not None:
            self._continue(np.asarray(parents, np.int64))
        if len(tokens) != len(self._rows):
            raise ValueError(f"tokens of {len(tokens)} hypotheses, {len(self._rows)} are there")
        count = tokens.shape[1]
        if self._length + count > self._capacity:
            raise ValueError(
                f"{self._length} and {count} more tokens; the decoder was started for "
                f"{self._capacity}"
            )
        if self._length and count > 1 and len(self._ids) > 1:  # see the decoder's graph
            steps = [self._step(tokens[:, i : i + 1], every=False).copy() for i in range(count)]
            return np.stack(steps, axis=1)[:, :, 0] if every else steps[-1][:, 0]
        logits = self._step(tokens, every=every)
        return logits if every else logits[:, 0]

    def predict(self, tokens: Array, parents: Array | None = None) -> HostPrediction:
        """See :meth:`TextDecoder.predict`."""
        return HostPrediction(self._read(tokens, parents), self._engine.helpers)

    def align(self, tokens: Array, heads: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
        """See :meth:`TextDecoder.align`."""
        count = np.shape(tokens)[1]
        fresh = OnnxTextDecoder(self._engine, self._heard, self._started, count)
        windows, slots = len(fresh._windows), len(fresh._ids)
        width = self._shape[0], slots // windows * count, self._heard.places
        weights = {layer: np.empty((windows, *width), np.float32) for layer, _ in heads}
        logits = fresh._step(np.asarray(tokens, np.int64), every=True, weights=weights)
        found = [weights[layer][:, head].reshape(slots, count, -1) for layer, head in heads]
        return np.stack(found, axis=1)[fresh._slots, ..., : self._heard.frames], logits

    def _step(
        self, tokens: Array, *, every: bool, weights: dict[int, Array] | None = None
    ) -> Array:
        """Logits (N, 1 or n, V), there until the next step; the attention of some layers is
        written to ``weights``."""
        count, slots, before = tokens.shape[1], len(self._ids), self._length
        self._make_room(count)
        given = np.zeros((slots, count), np.int64)
        given[self._slots] = tokens
        self._lasts[:], self._total[()], self._place[0] = before + count - 1, before + count, before
        self._keep[0] = -count if every else -1
        shape = slots, count, self._engine.dims.n_text_state
        logits_shape = slots, count if every else 1, self._engine.dims.n_vocab
        binding = self._binding
        if self._vectors.shape != shape or self._logits.shape != logits_shape:
            self._vectors, self._logits = (np.empty(s, np.float32) for s in (shape, logits_shape))
            _bind_input(binding, "tokens", self._vectors)
            _bind_output(binding, "logits", self._logits)
        self._vectors[:], logits = self._engine.embed(given), self._logits
        for layer, array in (weights or {}).items():
            _bind_output(binding, f"heard.{layer}", array)
        self._engine.session.run_with_iobinding(binding)
        new = before + np.arange(count) + self._capacity * np.arange(slots)[:, None]
        self._ids = np.concatenate([self._ids, new], axis=1)
        self._length += count
        return logits if self._plain else logits[self._slots]

    def _continue(self, parents: Array) -> None:
        """Let hypotheses go on from ``parents`` (N,)."""
        rows, before = self._rows[parents], self._slots[parents]
        if len(rows) == len(self._rows) and (rows == self._rows).all():
            source = np.arange(len(self._ids))
            source[self._slots] = before
            self._reorder(source)
            return
        self._rows = rows
        self._slots = self._arrange(rows)
        source = np.zeros(self._count, np.int64)
        source[self._slots] = before
        self._move(source, self._past.shape[4])
        self._ids = self._ids[source]
        self._bind()

    def _arrange(self, rows: Array) -> Array:
        """Give the hypotheses of windows ``rows`` (N,) slots -> (N,); choose the windows.

        A window without hypotheses keeps its slots until half are such: to leave it out is to copy
        the keys and values of all others.
        """
        present = np.unique(rows)
        if 2 * len(present) <= len(self._windows) or not len(self._windows):
            self._windows = present
            self._cross = {n: self._of(array, present) for n, array in self._heard.cross.items()}
        window = np.searchsorted(self._windows, rows)
        counts = np.bincount(window, minlength=len(self._windows))
        order = np.argsort(window, kind="stable")
        rank = np.empty_like(rows)
        rank[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        most = int(counts.max())
        self._count = most * len(self._windows)
        slots = window * most + rank
        self._plain = np.array_equal(slots, np.arange(self._count))
        if not self._length:
            self._ids = np.zeros((self._count, 0), np.int64)
        return np.asarray(slots)

    def _of(self, array: Array, windows: Array) -> Array:
        """Some windows (ascending) of an array."""
        first, last = int(windows[0]), int(windows[-1]) + 1
        if last - first == len(windows):
            return array[first:last]
        chosen = self._engine.buffers.array((len(windows), *array.shape[1:]), array.dtype)
        return np.take(array, windows, axis=0, out=chosen)

    def _reorder(self, source: Array) -> None:
        """Slot i takes the past of slot ``source[i]``, as far as they differ.

        Hypotheses of a beam part late, so what is copied is short.
        """
        changed = np.flatnonzero(source != np.arange(len(source)))
        differ = self._ids[changed] != self._ids[source[changed]]
        firsts = np.where(differ.any(axis=1), differ.argmax(axis=1), self._length)
        copies = []  # all are read before any is overwritten
        for first in np.unique(firsts[firsts < self._length]).tolist():
            slots = changed[firsts == first]
            part = self._past[:, :, :, :, first : self._length]
            copies.append((part, slots, part[:, :, source[slots]]))
        for part, slots, values in copies:
            part[:, :, slots] = values
        self._ids[changed] = self._ids[source[changed]]

    def _make_room(self, count: int) -> None:
        """Buffers for ``count`` more tokens; they double, up to the capacity."""
        room, needed = self._past.shape[4], self._length + count
        if needed <= room and self._past.shape[2] == len(self._ids):
            return
        room = min(self._capacity, max(_ROOM, 2 * room, needed)) if needed > room else room
        if self._past.shape[2] == len(self._ids) and self._size(len(self._ids), room) <= len(
            self._block
        ):
            self._widen(room)
        else:
            self._move(np.arange(len(self._ids)), room)
        self._bind()

    def _size(self, slots: int, room: int) -> int:
        """Bytes of a past."""
        return 4 * math.prod((len(self._layers), 2, slots, room, *self._shape))

    def _laid(self, slots: int, room: int) -> Array:
        """A past at the beginning of the block."""
        heads, size = self._shape
        numbers = self._block[: self._size(slots, room)].view(np.float32)
        return numbers.reshape(len(self._layers), 2, slots, heads, room, size)

    def _widen(self, room: int) -> None:
        """To ``room`` in the same block, which is large enough."""
        before, self._past = self._past, self._laid(self._past.shape[2], room)
        parts = [part.reshape(-1, *part.shape[2:]) for part in (before, self._past)]
        for old, new in reversed(list(zip(*parts, strict=True))):  # none lies on an earlier one
            new[:, :, : self._length] = old[:, :, : self._length].copy()

    def _move(self, source: Array, room: int) -> None:
        """To another block with ``room``, where slot i has the past of slot ``source[i]``."""
        before = self._past
        self._block = self._engine.buffers.take(self._size(len(source), room))
        self._past = self._laid(len(source), room)
        if self._length:
            for slot, other in enumerate(source.tolist()):
                self._past[:, :, slot, :, : self._length] = before[:, :, other, :, : self._length]

    def _bind(self) -> None:
        """Tell the graph where everything lies that stays from one step to the next."""
        self._lasts = np.zeros(len(self._ids), np.int32)
        self._total = np.zeros((), np.int32)
        self._place, self._keep = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._vectors = self._logits = np.zeros((0, 0, 0), np.float32)  # to be bound by a step
        self._binding = self._engine.session.io_binding()
        fixed: dict[str, Array] = {"lasts": self._lasts, "total": self._total, "place": self._place}
        if self._engine.fills:
            fixed["unheard"] = self._unheard
        for name, array in (fixed | {"keep": self._keep} | self._cross).items():
            _bind_input(self._binding, name, array)
        if not self._past.shape[4]:
            return
        for layer in self._layers:
            for kind, array in zip(("keys", "values"), self._past[layer], strict=True):
                _bind_input(self._binding, f"past_{kind}.{layer}", array)
                _bind_output(self._binding, f"next_{kind}.{layer}", array)


def _embedding(folder: ModelFolder, name: str, dims: WhisperDims) -> Array:
    """The vectors of the tokens, a row each, left in their file."""
    path = folder.file(name)
    try:
        table = np.load(path, mmap_mode="r")
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: not a table of numbers ({error})") from None
    shape, kind = (dims.n_vocab, dims.n_text_state), table.dtype
    packed = [("scale", "<f4"), ("values", "i1", shape[1:])]
    if not (table.shape == shape and kind == np.float32) and not (
        table.shape == shape[:1] and kind == np.dtype(packed)
    ):
        raise ModelError(f"{path}: {table.shape} of {kind}; the model has {shape} numbers")
    return np.asarray(table)


def _bind_input(binding: Any, name: str, array: Array) -> None:
    """The binding keeps the address, not the array."""
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_output(binding: Any, name: str, array: Array) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


_DTYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(int8)": np.int8}
