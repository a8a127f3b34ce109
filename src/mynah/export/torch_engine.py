"""The engine on PyTorch: the model itself, on a GPU of either maker or on the CPU.

It keeps to :class:`mynah.runtime.engine.Engine`; arrays come and go as numpy, everything between
stays on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelFolder, ModelInfo
from mynah.models.load import WEIGHTS, load_model
from mynah.models.u2.model import U2, EncoderState
from mynah.runtime.engine import Array, Encoded, State


def load(folder: ModelFolder, *, precision: str, threads: int, device: str) -> TorchEngine:
    """The engine on PyTorch; ``device`` is ``auto`` (a GPU if there is one), ``cpu``, ``cuda:1``…

    Raises:
        ModelError: the folder has no weights, or a family that this engine does not run.
        ConfigError: no such device, or a precision that it does not compute in.
    """
    if precision not in ("auto", "fp32"):
        raise ConfigError(f"precision: the torch engine computes in fp32, not {precision}")
    model, chosen = load_for(folder, threads, device)
    if not isinstance(model, U2):
        raise ModelError(f"{folder.path}: the torch engine does not run {folder.info.family}")
    return TorchEngine(folder.info, model.to(chosen), chosen)


def load_for(folder: ModelFolder, threads: int, device: str) -> tuple[nn.Module, torch.device]:
    """The model of a folder, still on the CPU, and the device that it is to run on; on the CPU by
    ``threads`` threads.

    Raises:
        ModelError: the folder has no weights, or they are broken.
        ConfigError: no such device.
    """
    if not folder.has(WEIGHTS):
        raise ModelError(f"{folder.path}: has no {WEIGHTS}, which the torch engine runs")
    chosen = choose_device(device)
    if chosen.type == "cpu":
        torch.set_num_threads(threads)
    return load_model(folder), chosen


def choose_device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` is a GPU where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device: {name!r} cannot be used here ({reason})") from None
    return device


class TorchEngine:
    """A U2 model computed by PyTorch."""

    def __init__(self, info: ModelInfo, model: U2, device: torch.device) -> None:
        self.info, self.name = info, f"torch fp32 {device}"
        self.subsampling, self.overlap = model.subsampling, model.overlap
        self.has_decoder = model.decoder is not None
        self._model, self._device = model, device

    def init_state(self, batch: int, capacity: int) -> State:
        """The state before the first frame.

        Raises:
            ModelError: a stream of a model that cannot stream.
        """
        return _arrays(self._model.init_state(batch, capacity=capacity).tensors())

    def encode(
        self,
        feats: Array,
        feat_lens: Array,
        state: State | None = None,
        *,
        next_state: State | None = None,
    ) -> Encoded:
        """See :meth:`mynah.runtime.engine.Engine.encode`; ``next_state`` is not needed here."""
        given = None
        if state is not None:
            given = EncoderState(**{k: self._tensor(v) for k, v in state.items()})
        with torch.inference_mode():
            encoded, lens, after = self._model(self._tensor(feats), self._tensor(feat_lens), given)
            out = {"p": self._model.ctc_log_probs(encoded), "x": encoded, "n": lens}
            arrays = _arrays(out)
            following = {} if after is None else _arrays(after.tensors())
        return Encoded(arrays["p"], arrays["x"], arrays["n"], following)

    def score(
        self, encoded: Array, lens: Array, tokens: Array, token_lens: Array
    ) -> tuple[Array, Array | None]:
        """See :meth:`mynah.runtime.engine.Engine.score`."""
        values = [self._tensor(v) for v in (encoded, lens, tokens, token_lens)]
        with torch.inference_mode():
            scores, reverse = self._model.score(*values)
        return scores.cpu().numpy(), None if reverse is None else reverse.cpu().numpy()

    def attention(self, encoded: Array, capacity: int) -> TorchAttention:
        """Start the attention decoder on one utterance (T', D), for ``capacity`` tokens."""
        return TorchAttention(self._model, self._tensor(encoded), capacity)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class TorchAttention:
    """The attention decoder of one utterance; the past stays in buffers on the device."""

    def __init__(self, model: U2, encoded: Tensor, capacity: int) -> None:
        with torch.inference_mode():
            self._cross = model.cross(encoded[None])
        self._model, self._capacity, self._position = model, capacity, 0
        self._lens = torch.tensor([len(encoded)], device=encoded.device)
        self._past: tuple[Tensor, Tensor] | None = None  # (N, L, H, P, d)

    def __call__(self, tokens: Array, parents: Array) -> Array:
        """See :class:`mynah.runtime.engine.AttentionStep`."""
        if self._position >= self._capacity:
            raise ValueError(f"the decoder was started for {self._capacity} tokens")
        device, count, at = self._lens.device, len(tokens), self._position
        with torch.inference_mode():
            keys, values = self._reordered(torch.from_numpy(np.asarray(parents)).to(device), count)
            token = torch.from_numpy(np.asarray(tokens)).to(device, torch.long)
            where = torch.full((count,), at, device=device)
            log_probs, new_keys, new_values = self._model.step(
                token, where, keys, values, *self._cross, self._lens
            )
            keys[:, :, :, at : at + 1] = new_keys
            values[:, :, :, at : at + 1] = new_values
        self._position += 1
        return np.asarray(log_probs.cpu().numpy())

    def _reordered(self, parents: Tensor, count: int) -> tuple[Tensor, Tensor]:
        if self._past is None:
            _, layers, heads, _, width = self._cross[0].shape
            empty = self._cross[0].new_zeros(count, layers, heads, self._capacity, width)
            self._past = empty, empty.clone()
        else:
            self._past = self._past[0][parents], self._past[1][parents]
        return self._past


def _arrays(tensors: dict[str, Any]) -> dict[str, Array]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
