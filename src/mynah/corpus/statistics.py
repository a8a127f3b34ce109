"""Mean and inverse standard deviation of features (CMVN over a corpus)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.errors import InputError
from mynah.whole import whole_file, whole_text


@dataclass(frozen=True)
class Cmvn:
    """``(feats - mean) * istd`` has mean 0 and variance 1 over the corpus it was computed on."""

    mean: npt.NDArray[np.float64]  # (F,)
    istd: npt.NDArray[np.float64]  # (F,)
    frames: int
    frontend: Mapping[str, Any] = field(default_factory=dict)


def compute_cmvn(
    feats: Iterable[npt.NDArray[np.float32]], frontend: Mapping[str, Any] | None = None
) -> Cmvn:
    """Statistics over arrays (T, F), summed in float64 about the first mean, so that nothing
    cancels.

    Raises:
        InputError: there is no frame.
    """
    shift: npt.NDArray[np.float64] | None = None
    total = squares = np.zeros(0)
    frames = 0
    for block in feats:
        if not len(block):
            continue
        wide = block.astype(np.float64)
        if shift is None:
            shift = wide.mean(0)
            total, squares = np.zeros_like(shift), np.zeros_like(shift)
        wide -= shift
        total = total + wide.sum(0)
        squares = squares + (wide * wide).sum(0)
        frames += len(block)
    if shift is None:
        raise InputError("no frame to compute statistics from")
    mean = total / frames
    variance = np.maximum(squares / frames - mean * mean, 1e-10)
    return Cmvn(mean + shift, 1.0 / np.sqrt(variance), frames, dict(frontend or {}))


def write_cmvn(path: str | Path, cmvn: Cmvn) -> None:
    """Write statistics as JSON, or as ``.npz`` when the name ends so.

    Raises:
        InputError: it cannot be written.
    """
    target = Path(path)
    if target.suffix == ".npz":
        with whole_file(target) as packed:
            np.savez(packed, mean=cmvn.mean, istd=cmvn.istd, frames=cmvn.frames)
        return
    values = {"mean": cmvn.mean.tolist(), "istd": cmvn.istd.tolist(), "frames": cmvn.frames}
    with whole_text(target) as stream:
        json.dump({**values, "frontend": dict(cmvn.frontend)}, stream)
        stream.write("\n")


def read_cmvn(path: str | Path) -> Cmvn:
    """Read what :func:`write_cmvn` wrote.

    Raises:
        InputError: it is missing or not such a file.
    """
    try:
        if Path(path).suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                values: dict[str, Any] = {k: arrays[k] for k in ("mean", "istd", "frames")}
        else:
            values = json.loads(Path(path).read_text("utf-8"))
        mean, istd = (np.asarray(values[k], np.float64) for k in ("mean", "istd"))
        if mean.ndim != 1 or mean.shape != istd.shape or not np.isfinite([mean, istd]).all():
            raise ValueError("mean and istd do not fit")
        return Cmvn(mean, istd, int(values["frames"]), values.get("frontend") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no file of feature statistics ({error})") from None
