"""Whisper on PyTorch: a GPU of either maker, or the CPU.

It keeps to :class:`mynah.runtime.whisper.engine.WhisperEngine`. The past of a text lies in buffers
of fixed capacity, and where the text has come to is a tensor: on a GPU the step of one token is
captured as a CUDA graph and replayed, so that the many small kernels of a layer cost no launches.
Buffers and graphs are kept by shape and used again by later windows; that there be few shapes,
hypotheses that have ended leave idle rows behind until half are such.

Legend: B windows, G windows that are decoded (on a GPU a power of two, some twice), M hypotheses of
a window, T' encoder frames, N hypotheses, R = G M rows, n new tokens, P tokens before, D width,
L layers, H heads, d width of a head, C capacity, V vocabulary.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mynah.decoding.whisper_prediction import HostPrediction, Prediction
from mynah.errors import ConfigError, ModelError
from mynah.export.torch_engine import load_for
from mynah.export.whisper_prediction import DevicePrediction, Masks, on_device, on_host
from mynah.model_folder import ModelFolder
from mynah.models.whisper.model import Decoder, Memory, Past, Whisper
from mynah.runtime.whisper.config import WhisperDims

Array = npt.NDArray[Any]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# records a step -> what runs it again, and the logits that it writes to each time
Record: TypeAlias = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]

_WARM_UP = 2  # steps of a shape that are run as they are before the next is captured
_LENGTHS = (64, 128, 256)  # of the past; no more of it is read than the next of them
_FEW = 4  # tokens after others that are as quick one by one, where a step is captured
_KEPT_ON_CPU = 1 << 28  # bytes of buffers that are kept for later windows; of a GPU a third


def load(folder: ModelFolder, *, precision: str, threads: int, device: str) -> TorchWhisper:
    """The engine on PyTorch; ``device`` is ``auto`` (a GPU if there is one), ``cpu``, ``cuda:1``…
    ``precision`` is ``auto`` (fp16 on a GPU, else fp32), ``fp32``, ``fp16`` or ``bf16``.

    Raises:
        ModelError: the folder has no weights, or is no Whisper.
        ConfigError: no such device, or a precision that it does not compute in.
    """
    if precision not in ("auto", *PRECISIONS):
        known = ", ".join(PRECISIONS)
        raise ConfigError(f"precision: the torch engine computes in {known}, not {precision}")
    model, chosen = load_for(folder, threads, device)
    if not isinstance(model, Whisper):
        raise ModelError(f"{folder.path}: is no Whisper but of the family {folder.info.family}")
    if precision == "auto":
        precision = "fp16" if chosen.type == "cuda" else "fp32"
    return TorchWhisper(model.to(chosen, PRECISIONS[precision]), precision)


@dataclass(frozen=True)
class TorchHeard:
    """Windows that were encoded; everything stays on the device."""

    encoded: Tensor  # (B, T', D)
    memory: Memory

    @property
    def output(self) -> Array:
        """What the encoder gave (B, T', D), float32."""
        return np.asarray(self.encoded.float().cpu().numpy())

    @property
    def frames(self) -> int:
        """T'."""
        return self.encoded.shape[1]


class TorchWhisper:
    """A Whisper computed by PyTorch. May be used from several threads."""

    def __init__(self, model: Whisper, precision: str) -> None:
        self.model = model.eval()
        self.device = model.decoder.positional_embedding.device
        self.dtype = model.decoder.positional_embedding.dtype
        self.name = f"torch {precision} {self.device}"
        model.decoder.join()
        kept, record = _KEPT_ON_CPU, None
        if self.device.type == "cuda":
            kept = torch.cuda.get_device_properties(self.device).total_memory // 3
            record = CudaRecorder(self.device)
        self._pool = _Pool(model, kept, record)
        # None: logits are arrays anyway, among which numpy chooses faster
        is_host = self.device.type == "cpu"
        self._masks = None if is_host else Masks(self.device, self.dims.n_vocab)

    @property
    def dims(self) -> WhisperDims:
        """The model's sizes."""
        return self.model.config.dims

    @torch.inference_mode()
    def encode(self, mels: Array) -> TorchHeard:
        """(B, n_mels, 2 T') float32, T' up to ``n_audio_ctx``."""
        given = torch.from_numpy(np.ascontiguousarray(mels)).to(self.device).to(self.dtype)
        encoded, _ = self.model.encoder(given)
        return TorchHeard(encoded, self.model.decoder.memory(encoded))

    def decoder(
        self, heard: TorchHeard, rows: Sequence[int], capacity: int = 448
    ) -> TorchTextDecoder:
        """A decoder of hypotheses, the i-th of which hears ``rows[i]``, of up to ``capacity``
        tokens."""
        capacity = min(capacity, self.dims.n_text_ctx)
        return TorchTextDecoder(self.model, heard, rows, capacity, self._pool, self._masks)


class TorchTextDecoder:
    """Hypotheses and their past; belongs to one thread at a time.

    The hypotheses of a window lie next to each other, equally many of each window, so that its keys
    and values are there once: window g has the rows g M to (g + 1) M, some of which may be idle.
    """

    def __init__(
        self,
        model: Whisper,
        heard: TorchHeard,
        rows: Sequence[int],
        capacity: int,
        pool: _Pool,
        masks: Masks | None,
    ) -> None:
        self._decoder, self._heard, self._pool = model.decoder, heard, pool
        self._masks = masks
        self._started = np.asarray(rows, np.int64)
        self._rows = self._started  # (N,) the window of each hypothesis
        self._places = self._started  # (N,) the row of each hypothesis
        self._windows = self._started[:0]  # (G,) ascending
        self._ids = np.zeros((0, 0), np.int64)  # (R, P): equal where the pasts of two are
        self._capacity, self._position = capacity, 0
        self._room: _Room | None = None
        self._lane: _Lane | None = None
        self._give_back: weakref.finalize[..., Any] | None = None

    @torch.inference_mode()
    def __call__(
        self, tokens: Array, parents: Array | None = None, *, every: bool = False
    ) -> Array:
        """``tokens`` (N, n) follow the hypotheses ``parents`` (N,) of the last call (``None``: the
        same) -> logits (N, V) after the last of them, or (N, n, V) with ``every``; float32.

        Raises:
            ValueError: more tokens than the decoder was made for.
        """
        logits, places = self._read(tokens, parents, every), self._places
        found = on_host(logits)
        if not np.array_equal(places, np.arange(len(found))):
            found = found[places]
        return found if every else found[:, -1]

    @torch.inference_mode()
    def predict(self, tokens: Array, parents: Array | None = None) -> Prediction:
        """What may follow ``tokens``, read as by a call, with the logits left where they are. They
        are there until the next call.

        Raises:
            ValueError: as a call.
        """
        if self._masks is None:
            return HostPrediction(self(tokens, parents))
        logits = self._read(tokens, parents, every=False)
        return DevicePrediction(logits[:, -1], self._places, self._masks)

    @torch.inference_mode()
    def align(self, tokens: Array, heads: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
        """The cross-attention of ``heads`` (layer, head) over whole texts (N, n), one for each of
        the rows that the decoder was made for: (N, heads, n, T') float32, and the logits after each
        token (N, n, V). Leaves the past alone."""
        given = torch.from_numpy(np.ascontiguousarray(tokens, np.int64))
        memory = _of_rows(self._heard.memory, _grouped(self._started.tolist()))
        device = self._heard.encoded.device
        weights, hidden = self._decoder.attention(given.to(device), memory, heads)
        return on_host(weights), on_host(self._decoder.logits(hidden).float())

    def _read(self, tokens: Array, parents: Array | None, every: bool) -> Tensor:
        """Logits (R, n or 1, V) on the device, to be used before the next call."""
        tokens = np.asarray(tokens, np.int64)
        size = tokens.shape[1]
        if self._position + size > self._capacity:
            raise ValueError(f"the decoder was made for {self._capacity} tokens")
        room, lane = self._continue(parents)
        assert len(self._rows) == len(tokens), "one row of tokens a hypothesis"
        given = np.zeros((len(self._ids), size), np.int64)
        given[self._places] = tokens
        alone = size == 1 or (lane.record is not None and self._position and size <= _FEW)
        if alone and (size == 1 or not every):
            for column in range(size):
                at = self._position + column
                logits = lane.step(self._decoder, room.memory, given[:, column], at)[:, None]
        else:
            logits = self._whole(room, lane, given, every)
        new = self._position + np.arange(size) + self._capacity * np.arange(len(given))[:, None]
        self._ids = np.concatenate([self._ids, new], axis=1)
        self._position += size
        return logits

    def _whole(self, room: _Room, lane: _Lane, given: Array, every: bool) -> Tensor:
        """Logits (R, n or 1, V) after several tokens (R, n) at once."""
        device, end = lane.given.device, self._position + given.shape[1]
        past = lane.past.up_to(_bucket(end, self._capacity))
        at = torch.arange(self._position, end, device=device)
        hidden = self._decoder(torch.from_numpy(given).to(device), room.memory, past, at)
        result: Tensor = self._decoder.logits(hidden if every else hidden[:, -1:]).float()
        return result

    def _continue(self, parents: Array | None) -> tuple[_Room, _Lane]:
        """Buffers in which hypothesis i continues ``parents[i]``."""
        if self._room is not None and self._lane is not None and parents is None:
            return self._room, self._lane
        held = self._room
        order = np.arange(len(self._rows)) if parents is None else np.asarray(parents, np.int64)
        rows, before = self._rows[order], self._places[order]
        if self._lane is None:
            room, lane = self._arrange(rows)
            self._ids = np.zeros((lane.rows, 0), np.int64)
        else:
            old, source = self._lane, np.arange(self._lane.rows)
            room, lane = self._arrange(rows)
            if lane is old:
                source[self._places] = before
                lane.reorder(source, self._ids)
            else:
                source = np.zeros(lane.rows, np.int64)  # idle rows take any
                source[self._places] = before
                lane.take(old, source, self._position)
            self._ids = self._ids[source]
        self._rows = rows
        if room is not held:
            if self._give_back is not None:
                self._give_back()  # now that its past was taken over
            self._give_back = weakref.finalize(self, self._pool.give_back, room)
        return room, lane

    def _arrange(self, rows: Array) -> tuple[_Room, _Lane]:
        """Give the hypotheses of windows ``rows`` (N,) places, in buffers for them."""
        present, counts = np.unique(rows, return_counts=True)
        most, room, lane = int(counts.max()), self._room, self._lane
        if room is None or lane is None or 2 * len(present) <= len(self._windows):
            wanted = self._pool.size(len(present))
            self._windows = np.pad(present, (0, wanted - len(present)), mode="edge")
            lane = None
            room = self._pool.take(self._heard.memory, self._windows.tolist(), self._capacity)
            self._room = room
        if lane is None or most > lane.width or 2 * most <= lane.width:
            lane = self._pool.lane(room, most)
        window = np.searchsorted(self._windows, rows)
        order = np.argsort(window, kind="stable")
        first = np.searchsorted(window[order], window[order])  # of the rows of its window
        self._places = np.empty_like(rows)
        self._places[order] = window[order] * lane.width + np.arange(len(rows)) - first
        self._lane = lane
        return room, lane


@dataclass(eq=False)
class _Lane:
    """The past of some hypotheses of each window, and the captured steps where there are."""

    width: int  # M
    past: Past  # (L, 2, R, H, C, d)
    given: Tensor  # (R + 1,) the tokens of a step and their position
    record: Record | None  # None: nothing is captured
    captured: dict[int, tuple[Callable[[], None], Tensor]] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)  # that were run, by length

    @property
    def rows(self) -> int:
        """R."""
        return len(self.given) - 1

    def step(self, decoder: Decoder, memory: Memory, tokens: Array, position: int) -> Tensor:
        """Logits (R, V) after one token (R,) at ``position``, to be used before the next step."""
        length = _bucket(position + 1, self.past.capacity)
        past = self.past.up_to(length)

        def run() -> Tensor:
            """Reads and writes these buffers alone; the same however often it runs."""
            hidden = decoder(self.given[:-1, None], memory, past, self.given[-1:])
            result: Tensor = decoder.logits(hidden[:, -1]).float()
            return result

        (sent,) = on_device(self.given.device, np.append(tokens, position))
        self.given.copy_(sent)
        self.steps[length] = self.steps.get(length, 0) + 1
        if self.record is not None and length not in self.captured:
            if self.steps[length] <= _WARM_UP:
                return run()
            self.captured[length] = self.record(run)
        if length not in self.captured:
            return run()
        replay, logits = self.captured[length]
        replay()
        return logits

    def reorder(self, source: Array, ids: Array) -> None:
        """Let row r continue row ``source[r]``; ``ids`` (R, P) are equal where the pasts are.

        Hypotheses of a beam part late, so what is copied is short.
        """
        changed = np.flatnonzero(source != np.arange(len(source)))
        differ = (ids[changed] != ids[source[changed]]).any(axis=0)
        if not differ.any():
            return
        to, parent = on_device(self.given.device, changed, source[changed])
        buffer = self.past.buffer[..., int(differ.argmax()) : len(differ), :]
        buffer.index_copy_(2, to, buffer.index_select(2, parent))

    def take(self, other: _Lane, source: Array, length: int) -> None:
        """Let row r continue row ``source[r]`` of another lane; ``length`` tokens are there."""
        (index,) = on_device(self.given.device, source)
        for mine, theirs in zip(self.past.buffer, other.past.buffer, strict=True):  # a layer each
            mine[..., :length, :] = theirs[..., :length, :].index_select(1, index)


@dataclass(eq=False)
class _Room:
    """What some windows give to attend to, and lanes of hypotheses, by their number."""

    key: tuple[int, int, int]  # G, C, T'
    memory: Memory  # (G, H, T', d)
    owned: bool  # whether the memory is a copy, which captured steps read where it is
    lanes: dict[int, _Lane] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        pairs = self.memory.layers if self.owned else ()
        return sum(t.nbytes for pair in pairs for t in pair) + sum(
            lane.past.buffer.nbytes for lane in self.lanes.values()
        )


class _Pool:
    """Rooms that nobody uses, by shape."""

    def __init__(self, model: Whisper, kept: int, record: Record | None) -> None:
        self._decoder, self._kept, self._record = model.decoder, kept, record
        self._free: list[_Room] = []  # the one used last at the end
        self._lock = threading.RLock()  # a decoder may be collected while it is held

    def size(self, windows: int) -> int:
        """How many windows to make room for."""
        return windows if self._record is None else 1 << (windows - 1).bit_length()

    def take(self, memory: Memory, windows: list[int], capacity: int) -> _Room:
        """A room in which hypotheses hear ``windows`` of ``memory``."""
        keys = memory.layers[0][0]
        key = (len(windows), capacity, keys.shape[2])
        with self._lock:
            found = next((room for room in reversed(self._free) if room.key == key), None)
            if found is not None:
                self._free.remove(found)
        if self._record is None:
            room = found or _Room(key, memory, owned=False)
            room.memory = _of_rows(memory, windows)
            return room
        if found is None:
            shape = (len(windows), *keys.shape[1:])
            found = _Room(key, _empty(shape, memory), owned=True)
        index = torch.tensor(windows, device=keys.device)
        plain = windows == [*range(len(keys))]
        for mine, given in zip(found.memory.layers, memory.layers, strict=True):
            for to, source in zip(mine, given, strict=True):
                to.copy_(source if plain else source[index])
        return found

    def lane(self, room: _Room, width: int) -> _Lane:
        """The lane of ``width`` hypotheses a window."""
        if width not in room.lanes:
            windows, capacity, _ = room.key
            past = self._decoder.init_past(windows * width, capacity, room.memory)
            given = torch.zeros(windows * width + 1, dtype=torch.long, device=past.buffer.device)
            room.lanes[width] = _Lane(width, past, given, self._record)
        return room.lanes[width]

    def give_back(self, room: _Room) -> None:
        """Keep a room for the next of its shape; the oldest go when there is much."""
        if not room.owned:
            room.memory = Memory(())  # of another window by then
        with self._lock:
            self._free.append(room)
            sizes = np.cumsum([one.size for one in reversed(self._free)])
            del self._free[: int((sizes[1:] > self._kept).sum())]  # never that of now


class CudaRecorder:
    """Captures steps as CUDA graphs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See :data:`Record`."""
        with _CAPTURING, torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):  # libraries set themselves up before the capture
                run()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # other threads may go on using the device meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                logits = run()
        return graph.replay, logits


_CAPTURING = threading.Lock()  # one graph at a time in the process


def _bucket(length: int, capacity: int) -> int:
    """How much of a past is read that has ``length`` tokens."""
    return min(next((size for size in _LENGTHS if size >= length), capacity), capacity)


def _empty(shape: tuple[int, ...], like: Memory) -> Memory:
    return Memory(tuple((k.new_empty(shape), v.new_empty(shape)) for k, v in like.layers))


def _grouped(rows: list[int]) -> list[int]:
    """Rows of the memory that neighbouring hypotheses share: of ``0 0 1 1`` they are ``0 1``.
    Where groups differ in size, every hypothesis has its own."""
    changes = [i for i in range(len(rows)) if i == 0 or rows[i] != rows[i - 1]]
    size = len(rows) // len(changes)
    return [rows[i] for i in changes] if changes == [*range(0, len(rows), size)] else rows


def _of_rows(memory: Memory, rows: list[int]) -> Memory:
    """The memory of some windows, the same tensors where it is all of them in order."""
    keys = memory.layers[0][0]
    if rows == [*range(len(keys))]:
        return memory
    index = torch.tensor(rows, device=keys.device)
    return Memory(tuple((k[index], v[index]) for k, v in memory.layers))
