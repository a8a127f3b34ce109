"""Workers: one process, or those that torchrun started, and the device each has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from mynah.errors import ConfigError


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this worker writes files and reports."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """``values`` summed over the workers, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def sum_numbers(self, values: Sequence[float]) -> list[float]:
        """Plain numbers summed over the workers, in float64."""
        if self.world == 1:
            return [float(v) for v in values]
        total: list[float] = self.sum(
            torch.tensor(values, dtype=torch.float64, device=self.device)
        ).tolist()
        return total

    def agree(self, value: float) -> bool:
        """Whether all workers have the same ``value``; all get the same answer."""
        total, squares = self.sum_numbers([value, value * value])
        return squares * self.world == total * total

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.world > 1:
            self.sum_numbers([0.0])

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first worker runs the block while the others wait; then they run it."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()


@contextlib.contextmanager
def join_workers(device: str = "auto") -> Iterator[Workers]:
    """Join the workers that torchrun describes in the environment, or be the only one.

    ``device`` is ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: the device does not exist here.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1:
        yield Workers(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world
    )
    try:
        yield Workers(rank, world, chosen)
    finally:
        dist.destroy_process_group()


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The torch device for ``name``.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise ConfigError(f"device: {name!r} is none of auto, cpu, cuda, cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(number) if number else local_rank
    if index >= found:
        raise ConfigError(f"device: {name} asked for, but torch sees {found} CUDA devices here")
    return torch.device("cuda", index)


def sum_gradients(parameters: Sequence[torch.nn.Parameter], workers: Workers) -> None:
    """Sum the gradients of ``parameters`` over the workers, bucket by bucket.

    A parameter without a gradient counts as zero everywhere, so a worker without data takes part.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if workers.world == 1:
        return
    for bucket in _buckets(parameters):
        gradients = [p.grad for p in bucket if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        workers.sum(flat)
        parts = torch.split(flat, [g.numel() for g in gradients])
        torch._foreach_copy_(
            gradients, [x.view_as(g) for x, g in zip(parts, gradients, strict=True)]
        )


def _buckets(
    parameters: Sequence[torch.nn.Parameter], limit: int = 8_000_000
) -> Iterator[list[torch.nn.Parameter]]:
    bucket: list[torch.nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > limit:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


def average_statistics(model: torch.nn.Module, workers: Workers) -> None:
    """Make the running statistics of batch normalisation the same on all workers: their mean."""
    if workers.world == 1:
        return
    running = [
        buffer
        for name, buffer in model.named_buffers()
        if name.rpartition(".")[2] in ("running_mean", "running_var")
    ]
    if running:
        flat = workers.sum(torch.cat(running)) / workers.world
        parts = torch.split(flat, [buffer.numel() for buffer in running])
        torch._foreach_copy_(running, list(parts))
