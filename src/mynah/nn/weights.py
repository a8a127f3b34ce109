"""Named tensors into a module, strictly, and safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mynah.errors import MissingDependency, ModelError, nearest


def fill(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load ``tensors`` into ``model``: each must have its place and each place its tensor.

    Raises:
        ModelError: naming the first that is missing, left over, or of another shape.
    """
    own = model.state_dict()
    check_names(own, tensors, source)
    for name, value in tensors.items():
        if own[name].shape != value.shape:
            shapes = f"{tuple(value.shape)}, the configuration says {tuple(own[name].shape)}"
            raise ModelError(f"{source}: {name} is {shapes}")
    model.load_state_dict(dict(tensors), strict=True)


def check_names(expected: Mapping[str, object], given: Mapping[str, object], source: str) -> None:
    """Refuse a set of tensors that is not the expected one, in either direction.

    Raises:
        ModelError: with the first missing or unexpected name, and the nearest on the other side.
    """
    missing = [name for name in expected if name not in given]
    extra = [name for name in given if name not in expected]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        hint = nearest(missing[0], extra)
        raise ModelError(f"{source}: has no tensor {missing[0]}{more}{hint}")
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise ModelError(f"{source}: the model has no place for tensor {extra[0]}{more}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ModelError: the file cannot be read.
        MissingDependency: safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise MissingDependency("safetensors", extra="train") from None
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    return tensors


def write_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file.

    Raises:
        MissingDependency: safetensors is not installed.
        ModelError: the disk is full, or takes no file there.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError:
        raise MissingDependency("safetensors", extra="train") from None
    # tied weights may share memory, which the format refuses: each name gets its own
    copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    try:
        save_file(copies, path)
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be written ({error})") from None
