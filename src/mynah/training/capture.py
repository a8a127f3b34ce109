"""The layers of an encoder, and the sums of MMI, as CUDA graphs, so that a small model does not
wait for its host.

A step of a small model is some thousand kernels, each of which the host takes longer to start than
the device to run. A graph starts all of them at once, but has one shape: batches are padded to one
of a few, which are captured when they are first met.

Legend: B batch, T' encoder frames, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.errors import ConfigError
from mynah.losses.lfmmi import Grammar, path_sums
from mynah.models.u2.encoder import Encoder, View

_GROWTH = 1.15  # from one size to the next
_MOST = 1.6  # so many times as large as the batch a known shape may be, before one is captured

Inputs = tuple[Tensor, ...]
Capture = Callable[[nn.Module, Inputs], Callable[..., Tensor]]
Pair = tuple[Tensor, Tensor]
CaptureSums = Callable[[Tensor, Grammar], Callable[[], Pair]]


class CapturedLayers:
    """The layers of ``encoder`` over whole utterances, for its ``stack``; on a CPU as they are.

    What is captured stays in the memory of the device. The gradients of the weights lie in buffers
    that the next batch of that shape overwrites: a step takes one batch alone.

    Raises:
        ConfigError: positions that a padded batch would change.
    """

    def __init__(self, encoder: Encoder, capture: Capture | None = None) -> None:
        if encoder.config.positions == "relative":
            raise ConfigError("task.captured: not with positions = relative")
        self._layers = encoder.layers
        self._capture = capture or _Graphs()
        self._always = capture is not None
        self._known: dict[tuple[int, int], Callable[..., Tensor]] = {}

    def __call__(self, x: Tensor, view: View) -> Tensor:
        """(B, T', D) -> (B, T', D)."""
        body = _Body(self._layers)
        if x.device.type != "cuda" and not self._always:
            result: Tensor = body(*_inputs(x, view))
            return result
        rows, frames = x.shape[:2]
        shape = _shape(self._known, rows, frames)
        inputs = _inputs(x, view, shape)
        if shape not in self._known:
            self._known[shape] = self._capture(body, inputs)
        return self._known[shape](*inputs)[:rows, :frames]


class CapturedSums:
    """:func:`mynah.losses.lfmmi.path_sums` as CUDA graphs; on a CPU as it is."""

    def __init__(self, capture: CaptureSums | None = None) -> None:
        self._capture, self._always = capture or _SumGraphs(), capture is not None
        self._grammar: Grammar | None = None  # its tables are in the graphs
        self._known: dict[tuple[int, int], tuple[Tensor, Callable[[], Pair]]] = {}

    def __call__(self, probs: Tensor, grammar: Grammar) -> Pair:
        """(B, T, V) -> (B,), (B, T, V); what is given back is overwritten by the next call.

        Raises:
            ValueError: the grammar is not that of the first call.
        """
        if probs.device.type != "cuda" and not self._always:
            return path_sums(probs, grammar)
        if self._grammar is None:
            self._grammar = grammar
        if grammar is not self._grammar:
            raise ValueError("the graphs are of another grammar")
        rows, frames, units = probs.shape
        shape = _shape(self._known, rows, frames)
        if shape not in self._known:
            given = _blanks(probs.new_empty(*shape, units), grammar)
            self._known[shape] = given, self._capture(given, grammar)
        given, run = self._known[shape]
        _blanks(given, grammar)[:rows, :frames] = probs
        total, occupancy = run()
        return total[:rows], occupancy[:rows, :frames]


def _blanks(probs: Tensor, grammar: Grammar) -> Tensor:
    """Nothing but blanks, for sure."""
    probs.zero_()[..., grammar.blank] = 1.0
    return probs


class _SumGraphs:
    """Captures the sums for a shape; the graphs share their memory."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, given: Tensor, grammar: Grammar) -> Callable[[], Pair]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            path_sums(given, grammar)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            found = path_sums(given, grammar)

        def run() -> Pair:
            graph.replay()
            return found

        return run


def _shape(known: Collection[tuple[int, int]], rows: int, frames: int) -> tuple[int, int]:
    """The smallest shape that is known, if it is not much too large, or the next size up."""
    enough = [s for s in known if s[0] >= rows and s[1] >= frames]
    best = min(enough, key=lambda s: s[0] * s[1], default=None)
    if best is not None and best[0] * best[1] <= _MOST * rows * frames:
        return best
    return _next_size(rows, 4), _next_size(frames, 8)


def _next_size(size: int, step: int) -> int:
    """The first of ``step``, and of what is ``_GROWTH`` times as large each, that is enough."""
    found = step
    while found < size:
        found = max(found + step, round(found * _GROWTH / step) * step)
    return found


class _Body(nn.Module):
    """The layers with what they need as tensors alone."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(
        self, x: Tensor, lens: Tensor, valid: Tensor, mask: Tensor, where: Tensor | None = None
    ) -> Tensor:
        """(B, T', D), (B,), (B, T'), (B, 1, T', T'), (1, T', D) -> (B, T', D)."""
        view = View(lens, valid, mask, where)
        for layer in self.layers:
            x, _ = layer(x, view, None)
        return x


def _inputs(x: Tensor, view: View, shape: tuple[int, int] | None = None) -> Inputs:
    """What :class:`_Body` takes, padded to ``shape``; frames that are added see themselves."""
    rows, frames = x.shape[:2]
    more, longer = (0, 0) if shape is None else (shape[0] - rows, shape[1] - frames)
    mask = view.mask.expand(rows, 1, frames, frames)
    if more or longer:
        x = F.pad(x, (0, 0, 0, longer, 0, more))
        mask = F.pad(mask, (0, longer, 0, longer, 0, 0, 0, more))
        index = torch.arange(frames + longer, device=x.device)
        added = F.pad(view.valid.new_zeros(rows, frames), (0, longer, 0, more), value=True)
        mask = mask | (added[:, None, :, None] & (index == index[:, None]))
    inputs = (x, F.pad(view.lens, (0, more)), F.pad(view.valid, (0, longer, 0, more)), mask)
    if view.where is None:
        return inputs
    return (*inputs, F.pad(view.where, (0, 0, 0, longer)))


class _Graphs:
    """Captures modules; their graphs share their memory, since only one is ever at work."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, module: nn.Module, inputs: Inputs) -> Callable[..., Tensor]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
            # gradients come from the stream that captured; what waits for it is as it should be
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        like = tuple(
            x.detach().clone().requires_grad_(x.requires_grad) for x in inputs
        )  # what the graph reads from
        device, half = "cuda", torch.is_autocast_enabled("cuda")
        # casts of weights that autocast remembers from outside would not be repeated in the graph
        with torch.autocast(device, torch.bfloat16, enabled=half, cache_enabled=False):
            graphed = torch.cuda.make_graphed_callables(
                module, like, num_warmup_iters=2, allow_unused_input=True, pool=self._pool
            )
        return cast(Callable[..., Tensor], graphed)
