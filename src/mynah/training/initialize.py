"""Where weights come from before the first step: another model, in whole or in parts; freezing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mynah.errors import ConfigError, ModelError, nearest


@dataclass(frozen=True)
class Taken:
    """What :func:`load_parts` did, for one line to the user."""

    loaded: int  # tensors
    remade: tuple[str, ...]  # names of tensors that depend on the vocabulary and were made anew
    left: tuple[str, ...]  # names of the model's tensors that no chosen part covers

    def line(self, source: str) -> str:
        """The line."""
        text = f"init: {self.loaded} tensors from {source}"
        if self.remade:
            text += f"; made anew for the new vocabulary: {', '.join(self.remade)}"
        if self.left:
            text += f"; {len(self.left)} tensors outside init_parts start from nothing"
        return text


def vocabulary_tensors(make: Callable[[int], nn.Module]) -> frozenset[str]:
    """The names of a model's tensors whose shape depends on its number of units.

    ``make`` builds the model for so many units more than it has; two are built, without memory,
    and compared.
    """
    with torch.device("meta"):
        one, other = make(0).state_dict(), make(1).state_dict()
    return frozenset(name for name, value in one.items() if value.shape != other[name].shape)


def load_parts(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    parts: Sequence[str] = (),
    remake: frozenset[str] = frozenset(),
    source: str = "init",
) -> Taken:
    """Copy ``tensors`` into ``model``: all of them, or those of the modules ``parts``.

    Tensors named in ``remake`` keep the values that the model was made with. Everything else must
    be there, in the same shape.

    Raises:
        ConfigError: a part that the model does not have.
        ModelError: a tensor is missing, left over, or of another shape.
    """
    own = model.state_dict()
    check_names(parts, own, "init_parts")
    wanted = {name for name in own if not parts or any(_inside(name, part) for part in parts)}
    needed = wanted - remake
    missing = sorted(needed - tensors.keys())
    if missing:
        raise ModelError(
            f"{source}: has no {missing[0]}{_more(missing)}; is the model of the recipe another? "
            "init_parts names what to take"
        )
    extra = sorted(tensors.keys() - own.keys()) if not parts else []
    if extra:
        raise ModelError(
            f"{source}: has {extra[0]}{_more(extra)}, which the recipe's model has not; "
            "init_parts names what to take"
        )
    with torch.no_grad():
        for name in sorted(needed):
            if own[name].shape != tensors[name].shape:
                raise ModelError(
                    f"{source}: {name} is {list(tensors[name].shape)} there and "
                    f"{list(own[name].shape)} in the recipe's model"
                )
            own[name].copy_(tensors[name])
    return Taken(len(needed), tuple(sorted(wanted & remake)), tuple(sorted(own.keys() - wanted)))


def freeze(model: nn.Module, names: Sequence[str]) -> int:
    """Take the parameters of the named modules out of training; gives how many tensors.

    Raises:
        ConfigError: a name that matches nothing, or nothing left to train.
    """
    parameters = dict(model.named_parameters())
    check_names(names, parameters, "freeze")
    frozen = [name for name in parameters if any(_inside(name, part) for part in names)]
    for name in frozen:
        parameters[name].requires_grad_(False)
    if len(frozen) == len(parameters):
        raise ConfigError(f"freeze: {', '.join(names)} leaves nothing to train")
    return len(frozen)


def check_names(names: Sequence[str], known: Mapping[str, object], key: str) -> None:
    """Refuse names that are neither a tensor nor a module that holds one.

    Raises:
        ConfigError: with the nearest known name.
    """
    modules = {
        ".".join(pieces[:depth])
        for pieces in (name.split(".") for name in known)
        for depth in range(1, len(pieces) + 1)
    }
    for name in names:
        if name not in modules:
            hint = nearest(name, sorted(modules)) or (
                f"; its parts are {', '.join(sorted({m.split('.')[0] for m in modules}))}"
            )
            raise ConfigError(f"{key}: the model has no {name!r}{hint}")


def _inside(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
