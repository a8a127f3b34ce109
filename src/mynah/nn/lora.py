"""Low-rank adaptation (E. Hu et al., "LoRA", arXiv:2106.09685): a linear layer keeps its weight W
and learns a difference of rank r: ``y = W x + b + (alpha / r) up down x``.

A layer keeps the names of its weight and bias, so that a checkpoint of the model without adapters
can be loaded before or after they are put in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.errors import ConfigError, ModelError
from mynah.nn.weights import check_names

_BASE = "lora_base"  # the buffer with what identifies the weights that were adapted


class LoraLinear(nn.Module):
    """A linear layer whose weight is fixed and whose difference of low rank is learnt."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.scale, self.dropout = alpha / rank, dropout
        self.lora_down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        thin = F.dropout(x, self.dropout, self.training) if self.dropout else x
        difference = F.linear(F.linear(thin, self.lora_down), self.lora_up)
        return F.linear(x, self.weight, self.bias) + self.scale * difference

    def merged(self) -> Tensor:
        """The weight with the difference added (out, in)."""
        difference = self.lora_up.float() @ self.lora_down.float()
        return (self.weight.float() + self.scale * difference).to(self.weight.dtype)


def add_lora(
    model: nn.Module,
    layers: Sequence[str],
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    base: bytes = b"",
) -> int:
    """Put adapters into the linear layers whose names match a pattern of ``layers`` (``*.query``),
    and take everything else out of training; gives how many layers are adapted.

    ``base`` identifies the weights as they are: :func:`restore` refuses adapters of others.

    Raises:
        ConfigError: a pattern that matches no linear layer.
    """
    linear = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    chosen = {name for name in linear for pattern in layers if fnmatchcase(name, pattern)}
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in linear):
            kinds = sorted({f"*.{name.rpartition('.')[2]}" for name in linear})
            raise ConfigError(
                f"lora.layers: no linear layer is called {pattern!r}; there are {', '.join(kinds)}"
            )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name in sorted(chosen):
        parent, _, leaf = name.rpartition(".")
        adapted = LoraLinear(linear[name], rank, alpha, dropout)
        setattr(model.get_submodule(parent), leaf, adapted)
    model.register_buffer(_BASE, torch.tensor(list(base), dtype=torch.uint8))
    return len(chosen)


def is_adapter(name: str) -> bool:
    """Whether a name of ``state_dict`` is an adapter's own."""
    return name.rpartition(".")[2] in ("lora_down", "lora_up", _BASE)


def kept(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: of one with adapters these alone, else everything."""
    state: dict[str, Tensor] = model.state_dict()
    if _BASE not in state:
        return state
    return {name: value for name, value in state.items() if is_adapter(name)}


def restore(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put back what :func:`kept` gave.

    Raises:
        ModelError: the names differ, or the adapters belong to other weights.
    """
    own = kept(model)
    check_names(own, tensors, source)
    if _BASE in own and not torch.equal(own[_BASE].cpu(), tensors[_BASE].cpu()):
        raise ModelError(f"{source}: its adapters were made for other weights than those of init")
    model.load_state_dict(dict(tensors), strict=_BASE not in own)


def merged(model: nn.Module) -> dict[str, Tensor]:
    """The state of the model without adapters, their differences added to the weights."""
    state: dict[str, Tensor] = {k: v for k, v in model.state_dict().items() if not is_adapter(k)}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            state[f"{name}.weight"] = module.merged().detach()
    return state
