"""What a Whisper predicts, where PyTorch computed it: the rules are applied and the tokens chosen
on the device.

The logits of a step are many megabytes, of which a search wants a few candidates a row. What rules
need to know of the hypotheses goes to the device in one small transfer, while the step is still
computed, and the candidates come back in another. Choices are those of
:class:`mynah.decoding.whisper_prediction.HostPrediction`.

Legend: R rows of a step, N hypotheses, n tokens that each has said, K candidates, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mynah.decoding.whisper_prediction import refuse_nan
from mynah.decoding.whisper_rules import Rules

Array = npt.NDArray[Any]

_KEPT = 32  # masks of rules, of V numbers each
_LOW = 0xFFFF_FFFF  # the bits of a key that say which token it is of


class Masks:
    """What no hypothesis may say, as numbers to add to its logits; kept on the device."""

    def __init__(self, device: torch.device, size: int) -> None:
        self.units = torch.arange(size, device=device)  # (V,)
        self.reversed = size - 1 - self.units
        self._kept: dict[tuple[Rules, bool, bool], Tensor] = {}

    def __call__(self, rules: Rules, *, first: bool, nothing: bool) -> Tensor:
        """(V,) float32, 0 or -inf; see :meth:`Rules.forbid`."""
        key = rules, first, nothing
        found = self._kept.get(key)
        if found is None:
            values = np.zeros((1, len(self.units)), np.float32)
            rules.forbid(values, first=first, nothing=nothing)
            found = torch.from_numpy(values[0]).to(self.units.device)
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = found
        return found


class DevicePrediction:
    """A prediction whose logits (R, V) stay on the device; hypothesis i has row ``places[i]``.

    See :class:`mynah.decoding.whisper_prediction.Prediction`.
    """

    def __init__(self, logits: Tensor, places: Array, masks: Masks) -> None:
        self._logits, self._places, self._masks = logits, places, masks

    def of(self, rows: Array) -> DevicePrediction:
        """See :meth:`Prediction.of`."""
        return DevicePrediction(self._logits, self._places[rows], self._masks)

    @torch.inference_mode()
    def probability(self, token: int) -> list[float]:
        """See :meth:`Prediction.probability`."""
        logits = self._logits.double()
        found = (logits[:, token] - logits.logsumexp(1)).exp()
        return [float(p) for p in on_host(found)[self._places]]

    @torch.inference_mode()
    def best(self, rules: Rules, said: Array, begun: int, count: int) -> tuple[Array, Array]:
        """See :meth:`Prediction.best`."""
        logits, _ = self._ruled(rules, said, begun)
        # whole numbers in the order of the logits, and of equal ones in that of the tokens
        bits = logits.view(torch.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFF_FFFF)
        keys = (bits.long() << 32) | self._masks.reversed
        best = keys.topk(min(count, keys.shape[1]), dim=1).values
        return self._answer(logits, len(self._masks.units) - 1 - (best & _LOW))

    @torch.inference_mode()
    def drawn(
        self, rules: Rules, said: Array, begun: int, temperature: float, uniform: Array
    ) -> tuple[Array, Array]:
        """See :meth:`Prediction.drawn`."""
        logits, (place, heat) = self._ruled(
            rules, said, begun, uniform, np.array([temperature], np.float64)
        )
        scaled = logits / heat.view(torch.float64).float()  # by a number, a GPU would multiply
        masses = (scaled - scaled.amax(1, keepdim=True)).double().exp().cumsum(1)
        wanted = place.view(torch.float64)[:, None] * masses[:, -1:]
        tokens = torch.searchsorted(masses, wanted, right=True)
        chosen, logs = self._answer(logits, tokens.clamp(max=logits.shape[1] - 1))
        return chosen[:, 0], logs[:, 0]

    def _ruled(
        self, rules: Rules, said: Array, begun: int, *more: Array
    ) -> tuple[Tensor, list[Tensor]]:
        """The logits (N, V) of what may follow, and ``more`` numbers on the device."""
        count, size = said.shape[1], len(said)
        timed, penalised = rules.timestamps and count > 0, rules.repetition_penalty != 1.0
        rows, tokens = rules.repeating(said) if rules.no_repeat_ngram else (_NONE, _NONE)
        no_text, least = rules.times(said) if timed else (_NONE, _NONE)
        plain = np.array_equal(self._places, np.arange(len(self._logits)))
        sent = on_device(
            self._logits.device,
            _NONE if plain else self._places,
            said if penalised else _NONE,
            rows,
            tokens,
            no_text.astype(np.int64),
            least,
            *more,
        )
        logits = self._logits if plain else self._logits.index_select(0, sent[0])
        if penalised and count:
            before = sent[1].view(size, count)
            values, penalty = logits.gather(1, before), rules.repetition_penalty
            values = torch.where(values < 0, values * penalty, values / penalty)
            logits = logits.scatter(1, before, values)
        logits = logits + self._masks(rules, first=count == begun, nothing=count == 0)
        if len(rows):
            logits[sent[2], sent[3]] = -torch.inf
        if timed:
            self._time(logits, rules, sent[4] > 0, sent[5])
        return logits, sent[6:]

    def _time(self, logits: Tensor, rules: Rules, no_text: Tensor, least: Tensor) -> None:
        begin = rules.timestamp_begin
        text, times = logits[:, :begin], logits[:, begin:]
        text[:, : rules.eot].masked_fill_(no_text[:, None], -torch.inf)
        times.masked_fill_(self._masks.units[: times.shape[1]] < least[:, None], -torch.inf)
        # more probable together than any text: it is a timestamp
        text.masked_fill_((times.logsumexp(1) > text.amax(1))[:, None], -torch.inf)

    def _answer(self, logits: Tensor, tokens: Tensor) -> tuple[Array, Array]:
        """``tokens`` (N, K) and their log-probabilities, by the logits (N, V)."""
        parts = [tokens, logits.gather(1, tokens), logits.logsumexp(1, keepdim=True)]
        found = on_host(torch.cat([part.double() for part in parts], 1))
        count = tokens.shape[1]
        refuse_nan(found[:, -1])
        return found[:, :count].astype(np.int64), found[:, count:-1] - found[:, -1:]


_NONE = np.zeros(0, np.int64)


def on_device(device: torch.device, *arrays: Array) -> list[Tensor]:
    """Small arrays of int64 or float64, flat and as int64, in one transfer; nobody waits for it."""
    flat = np.concatenate([array.reshape(-1).view(np.int64) for array in arrays])
    found = torch.from_numpy(flat)
    if device.type != "cpu":
        found = found.pin_memory().to(device, non_blocking=True)
    return list(torch.split(found, [array.size for array in arrays]))


def on_host(tensor: Tensor) -> Array:
    """A tensor as an array; memory that a GPU writes to at once is kept by PyTorch for later."""
    if tensor.device.type == "cpu":
        return np.asarray(tensor.numpy())
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return np.asarray(host.numpy())
