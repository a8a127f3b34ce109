"""Learning rates as functions of the step, or of the time spent, so that resuming needs no state.

``warmup`` rises linearly to the peak and falls with the square root of the step, as WeNet and
ESPnet have it; ``noam`` is that of Vaswani et al. 2017, arXiv:1706.03762, where the peak follows
from the model's width; ``cosine`` is Loshchilov and Hutter 2017, arXiv:1608.03983, one period.
"""

from __future__ import annotations

import math

from mynah.training.config import OptimConfig, ScheduleConfig


def learning_rate(
    optim: OptimConfig, schedule: ScheduleConfig, step: int, total: int = 0, share: float = 0.0
) -> float:
    """The learning rate of ``step``, counted from 1; ``total`` is where a cosine ends. Where that
    is not known (0), ``share`` says how much of the run is done, and the warmup is by steps."""
    assert step >= 1
    warmup = schedule.warmup
    rise = step / warmup if step < warmup else 1.0
    if schedule.kind == "constant":
        return optim.lr * rise
    if schedule.kind == "cosine":
        if step < warmup:
            return optim.lr * rise
        done = min((step - warmup) / max(total - warmup, 1) if total else share, 1.0)
        fall = 0.5 * (1.0 + math.cos(math.pi * done))
        return optim.lr * (schedule.floor + (1.0 - schedule.floor) * fall)
    shape = step**-0.5
    if warmup:
        shape = min(shape, step * warmup**-1.5)
    if schedule.kind == "noam":
        return float(optim.lr * schedule.width**-0.5 * shape)
    return float(optim.lr * shape * (warmup**0.5 if warmup else 1.0))
