"""From summed gradients to a step: one division, clipping, a guard against non-finite ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mynah.training.config import OptimConfig


def mix(seed: int, *numbers: int | str) -> int:
    """A seed of 63 bits that depends on all arguments; the same on every machine."""
    text = "/".join(str(number) for number in (seed, *numbers))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def make_optimizer(
    config: OptimConfig, named: Iterable[tuple[str, nn.Parameter]]
) -> torch.optim.Optimizer:
    """Adam or AdamW over the parameters that are trained; vectors are not decayed."""
    trained = [parameter for _, parameter in named if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,  # one kernel over all parameters, on the CPU too
    )


def apply_gradients(
    optimizer: torch.optim.Optimizer, *, count: float, clip: float, rate: float
) -> tuple[float, bool]:
    """Divide the summed gradients by ``count``, clip them and step; or leave the weights alone.

    Returns the norm of the divided gradient before clipping, and whether the step was taken: it is
    not where the norm is not finite.
    """
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    norm = float(gradient_norm(gradients)) / count
    if not math.isfinite(norm):
        return norm, False
    scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
    torch._foreach_mul_(gradients, scale / count)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm, True


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all ``gradients`` together."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return norm


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]
) -> dict[str, Tensor]:
    """The optimiser's state as tensors named ``<parameter>/<entry>``."""
    return {
        f"{names[parameter]}/{key}": value
        for group in optimizer.param_groups
        for parameter in group["params"]
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    entries: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        entries.setdefault(parameter_name, {})[key] = value
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = entries.get(names[parameter], {})
            optimizer.state[parameter] = {
                key: value.to(parameter.device).clone() for key, value in state.items()
            }
