"""A deeper encoder from the weights of another: new layers between the old ones, idle at first.

A new layer is a copy of the one before it whose parts all add nothing, and whose last normalisation
gives back what it is given, up to how mean and variance differ from frame to frame. So the model
begins nearly as good as it was (compare Gong et al., "Efficient training of BERT by progressively
stacking", 2019, where new layers begin as copies that are at work).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

_LAYER = re.compile(r"(encoder\.layers\.)(\d+)\.(.+)")
# what each part of a layer adds is the output of one of these
_ADDED = ("macaron.outer", "attention.out", "convolution.out", "feed_forward.outer")


def count_layers(tensors: Mapping[str, Tensor]) -> int:
    """Layers of the encoder."""
    found = (_LAYER.fullmatch(name) for name in tensors)
    return 1 + max((int(match[2]) for match in found if match), default=-1)


def deepen(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The weights of a model with ``layers`` layers in its encoder, no fewer than it has.

    The layers must normalise their input (``norm_first``).
    """
    have = count_layers(tensors)
    made = {name: value for name, value in tensors.items() if not _LAYER.fullmatch(name)}
    places = [layer * layers // have for layer in range(have + 1)]
    for layer, (place, after) in enumerate(pairwise(places)):
        old = {
            match[3]: value
            for name, value in tensors.items()
            if (match := _LAYER.fullmatch(name)) and int(match[2]) == layer
        }
        for new in range(place, after):
            values = old if new == place else _idle(old)
            made |= {f"encoder.layers.{new}.{name}": value for name, value in values.items()}
    return made


def _idle(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a layer that gives what it is given."""
    idle = dict(layer)
    for part in _ADDED:
        for name in (f"{part}.weight", f"{part}.bias"):
            if name in idle:
                idle[name] = torch.zeros_like(idle[name])
    weight, bias = layer.get("norm_final.weight"), layer.get("norm_final.bias")
    if weight is not None and bias is not None:
        spread = (weight.square().mean() + bias.var(unbiased=False)).sqrt()
        idle["norm_final.weight"] = torch.full_like(weight, float(spread))
        idle["norm_final.bias"] = torch.full_like(bias, float(bias.mean()))
    return idle
