"""Whisper on PyTorch: a GPU of either maker, or the CPU.

It keeps to :class:`mynah.runtime.whisper.engine.WhisperEngine`. The past of a text lies in buffers
of fixed capacity, and where the text has come to is a tensor: on a GPU the step of one token is
captured as a CUDA graph and replayed, so that the many small kernels of a layer cost no launches.
Buffers and graphs are kept by shape and used again by later windows.

Legend: B windows, T' encoder frames, N hypotheses, n new tokens, D width, V vocabulary.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mynah.errors import ConfigError, ModelError
from mynah.export.torch_engine import load_for
from mynah.model_folder import ModelFolder
from mynah.models.whisper.model import Memory, Past, Whisper
from mynah.runtime.whisper.config import WhisperDims

Array = npt.NDArray[Any]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WARM_UP = 2  # steps of a shape that are run as they are before the next is captured
_KEPT = 8  # shapes whose buffers are kept for later windows


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
        self._pool = _Pool(model, captured=self.device.type == "cuda")

    @property
    def dims(self) -> WhisperDims:
        """The model's sizes."""
        return self.model.config.dims

    @torch.inference_mode()
    def encode(self, mels: Array) -> TorchHeard:
        """(B, n_mels, 2 T') float32, T' up to ``n_audio_ctx``."""
        given = torch.from_numpy(np.ascontiguousarray(mels)).to(self.device, self.dtype)
        encoded, _ = self.model.encoder(given)
        return TorchHeard(encoded, self.model.decoder.memory(encoded))

    def decoder(
        self, heard: TorchHeard, rows: Sequence[int], capacity: int = 448
    ) -> TorchTextDecoder:
        """A decoder of hypotheses, the i-th of which hears ``rows[i]``, of up to ``capacity``
        tokens."""
        capacity = min(capacity, self.dims.n_text_ctx)
        return TorchTextDecoder(self.model, heard, rows, capacity, self._pool)


class TorchTextDecoder:
    """Hypotheses and their past; belongs to one thread at a time."""

    def __init__(
        self,
        model: Whisper,
        heard: TorchHeard,
        rows: Sequence[int],
        capacity: int,
        pool: _Pool,
    ) -> None:
        self._decoder, self._heard, self._pool = model.decoder, heard, pool
        self._first = tuple(int(row) for row in rows)
        self._rows, self._capacity, self._position = self._first, capacity, 0
        self._slot: _Slot | None = None
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
        given = self._tensor(tokens)
        size = given.shape[1]
        if self._position + size > self._capacity:
            raise ValueError(f"the decoder was made for {self._capacity} tokens")
        slot = self._settle(None if parents is None else [int(p) for p in parents])
        assert len(self._rows) == len(given), "one row of tokens a hypothesis"
        if size == 1:
            logits = slot.step(self._decoder, given, self._position)[:, None]
        else:
            at = torch.arange(self._position, self._position + size, device=given.device)
            hidden = self._decoder(given, slot.memory, slot.past, at)
            logits = self._decoder.logits(hidden if every else hidden[:, -1:]).float()
        self._position += size
        return np.asarray((logits if every else logits[:, -1]).cpu().numpy())

    @torch.inference_mode()
    def align(self, tokens: Array, heads: Sequence[tuple[int, int]]) -> Array:
        """The cross-attention of ``heads`` (layer, head) over whole texts (N, n), one for each of
        the rows that the decoder was made for: (N, heads, n, T') float32. Leaves the past alone."""
        memory = _of_rows(self._heard.memory, _grouped(self._first)[0])
        return np.asarray(
            self._decoder.attention(self._tensor(tokens), memory, heads).cpu().numpy()
        )

    def _tensor(self, tokens: Array) -> Tensor:
        given = torch.from_numpy(np.ascontiguousarray(tokens, np.int64))
        return given.to(self._heard.encoded.device)

    def _settle(self, parents: list[int] | None) -> _Slot:
        """Buffers in which hypothesis i continues ``parents[i]``."""
        rows = self._rows if parents is None else tuple(self._rows[p] for p in parents)
        order = None if parents is None or parents == [*range(len(self._rows))] else parents
        if self._slot is not None and rows == self._rows:
            if order is not None:
                self._slot.reorder(order, self._position)
            return self._slot
        slot = self._pool.take(self._heard.memory, rows, self._capacity)
        if self._slot is not None:
            slot.take_past(self._slot, parents or [*range(len(rows))], self._position)
        if self._give_back is not None:
            self._give_back()
        self._slot, self._rows = slot, rows
        self._give_back = weakref.finalize(self, self._pool.give_back, slot)
        return slot


@dataclass(eq=False)
class _Slot:
    """Buffers of one shape, and the captured step where there is one."""

    key: tuple[int, ...]
    memory: Memory  # (groups, H, T', d)
    past: Past  # (N, H, C, d)
    tokens: Tensor  # (N, 1)
    at: Tensor  # (1,)
    captured: bool  # whether the step is to be captured
    logits: Tensor | None = None  # (N, V) float32, what the captured step writes
    graph: torch.cuda.CUDAGraph | None = None
    steps: int = 0

    def step(self, decoder: Any, tokens: Tensor, position: int) -> Tensor:
        """Logits (N, V) after one token (N, 1) at ``position``."""
        self.tokens.copy_(tokens)
        self.at.fill_(position)
        self.steps += 1
        if self.captured and self.graph is None and self.steps > _WARM_UP:
            self._capture(decoder)
        if self.graph is not None and self.logits is not None:
            self.graph.replay()
            return self.logits
        return self._run(decoder)

    def _run(self, decoder: Any) -> Tensor:
        hidden = decoder(self.tokens, self.memory, self.past, self.at)
        result: Tensor = decoder.logits(hidden[:, -1]).float()
        return result

    def _capture(self, decoder: Any) -> None:
        """Record the step. It reads and writes this slot's buffers alone, and what it writes into
        the past is the same however often it runs."""
        with _CAPTURING, torch.cuda.device(self.at.device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # libraries set themselves up outside of the capture
                self._run(decoder)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # other threads may go on using the device meanwhile
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.logits = self._run(decoder)
        self.graph = graph

    def hear(self, memory: Memory) -> None:
        """Put what is to be attended to in place; a graph reads it where it was captured."""
        if not self.captured:
            self.memory = memory
            return
        for mine, given in zip(self.memory.layers, memory.layers, strict=True):
            mine[0].copy_(given[0])
            mine[1].copy_(given[1])

    def reorder(self, order: list[int], length: int) -> None:
        """Let row i continue row ``order[i]``; ``length`` tokens are there."""
        index = torch.tensor(order, device=self.at.device)
        for buffer in (tensor for pair in self.past.layers for tensor in pair):
            buffer[:, :, :length] = buffer[:, :, :length].index_select(0, index)

    def take_past(self, other: _Slot, order: list[int], length: int) -> None:
        """Let row i continue row ``order[i]`` of another slot."""
        index = torch.tensor(order, device=self.at.device)
        for mine, theirs in zip(self.past.layers, other.past.layers, strict=True):
            for to, source in zip(mine, theirs, strict=True):
                to[:, :, :length] = source[:, :, :length].index_select(0, index)


_CAPTURING = threading.Lock()  # one graph at a time in the process


class _Pool:
    """Slots that nobody uses, by shape."""

    def __init__(self, model: Whisper, *, captured: bool) -> None:
        self._decoder, self._captured = model.decoder, captured
        self._free: list[_Slot] = []  # the one used last at the end
        self._lock = threading.Lock()

    def take(self, memory: Memory, rows: tuple[int, ...], capacity: int) -> _Slot:
        """A slot whose hypotheses hear ``rows`` of ``memory``."""
        groups, _ = _grouped(rows)
        heard = _of_rows(memory, groups)
        key = (len(rows), len(groups), capacity, memory.layers[0][0].shape[2])
        with self._lock:
            found = next((slot for slot in reversed(self._free) if slot.key == key), None)
            if found is not None:
                self._free.remove(found)
        slot = self._make(key, heard) if found is None else found
        slot.hear(heard)
        return slot

    def give_back(self, slot: _Slot) -> None:
        """Keep a slot for the next of its shape; the oldest goes when there are many."""
        if not slot.captured:
            slot.memory = Memory(())  # of another window by then
        with self._lock:
            self._free.append(slot)
            del self._free[:-_KEPT]

    def _make(self, key: tuple[int, ...], memory: Memory) -> _Slot:
        rows, _, capacity, _ = key
        device = memory.layers[0][0].device
        own = memory
        if self._captured:
            own = Memory(tuple((k.clone(), v.clone()) for k, v in memory.layers))
        return _Slot(
            key=key,
            memory=own,
            past=self._decoder.init_past(rows, capacity, memory),
            tokens=torch.zeros(rows, 1, dtype=torch.long, device=device),
            at=torch.zeros(1, dtype=torch.long, device=device),
            captured=self._captured,
        )


def _grouped(rows: Sequence[int]) -> tuple[list[int], int]:
    """Rows of the memory and how many neighbouring hypotheses share each: ``0 0 1 1`` is
    ``([0, 1], 2)``. Where groups differ in size, every hypothesis has its own."""
    changes = [i for i in range(len(rows)) if i == 0 or rows[i] != rows[i - 1]]
    size = len(rows) // len(changes)
    if changes == [*range(0, len(rows), size)]:
        return [rows[i] for i in changes], size
    return list(rows), 1


def _of_rows(memory: Memory, rows: list[int]) -> Memory:
    """The memory of some windows, the same tensors where it is all of them in order."""
    keys = memory.layers[0][0]
    if rows == [*range(len(keys))]:
        return memory
    index = torch.tensor(rows, device=keys.device)
    return Memory(tuple((k[index], v[index]) for k, v in memory.layers))
