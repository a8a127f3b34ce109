"""Voice activity detection: a causal convolution over log-mel frames and gated recurrent layers.

Legend: B batch, T input frames, F feature bins, D width, K kernel, L layers.

The answer for a frame comes ``delay`` frames later, when the network has heard what follows: logit
``t`` judges frame ``t - delay``, so the first ``delay`` say nothing. That is all it looks ahead.
Recurrent layers as in K. Cho et al., arXiv:1406.1078.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.errors import ConfigError
from mynah.nn.mask import slice_rows


@dataclass(frozen=True)
class VadConfig:
    """Sizes."""

    feature_dim: int = 40
    dim: int = 80
    layers: int = 2
    kernel: int = 5  # frames that the convolution sees, the last being the newest
    delay: int = 3  # frames
    floor: float = 0.0  # features below are raised to it: digital silence is no outlier

    def __post_init__(self) -> None:
        for name in ("feature_dim", "dim", "layers", "kernel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be above 0, got {getattr(self, name)}")
        if self.delay < 0:
            raise ConfigError(f"delay: must not be negative, got {self.delay}")


@dataclass(frozen=True)
class VadState:
    """What a stream remembers; batch first."""

    overlap: Tensor  # (B, K - 1, F) normalised frames
    hidden: Tensor  # (B, L, D)


class Vad(nn.Module):
    """Frames to the logit of speech."""

    mean: Tensor
    istd: Tensor
    subsampling = 1

    def __init__(self, config: VadConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.feature_dim))
        self.register_buffer("istd", torch.ones(config.feature_dim))
        self.convolution = nn.Conv1d(config.feature_dim, config.dim, config.kernel)
        self.layers = nn.ModuleList(
            nn.GRU(config.dim, config.dim, batch_first=True) for _ in range(config.layers)
        )
        self.out = nn.Linear(config.dim, 1)

    def init_state(self, batch: int) -> VadState:
        """The state before the first frame."""
        config, weight = self.config, self.out.weight
        return VadState(
            weight.new_zeros(batch, config.kernel - 1, config.feature_dim),
            weight.new_zeros(batch, config.layers, config.dim),
        )

    def forward(
        self, feats: Tensor, feat_lens: Tensor, state: VadState | None = None
    ) -> tuple[Tensor, Tensor, VadState]:
        """Features (B, T, F), of which ``feat_lens`` (B,) frames count -> logits (B, T), their
        lengths, and the state after the frames that count."""
        state = self.init_state(len(feats)) if state is None else state
        x = (feats.clamp(min=self.config.floor) - self.mean) * self.istd
        x = torch.cat([state.overlap, x], dim=1)  # (B, K - 1 + T, F)
        overlap = slice_rows(x, feat_lens, self.config.kernel - 1)
        x = F.relu(self.convolution(x.transpose(1, 2))).transpose(1, 2)  # (B, T, D)
        hidden = []
        for number, layer in enumerate(self.layers):
            before = state.hidden[:, number]
            x, _ = layer(x, before[None].contiguous())
            past = torch.cat([before[:, None], x], dim=1)  # (B, 1 + T, D)
            hidden.append(slice_rows(past, feat_lens, 1))
        logits = self.out(x).squeeze(-1)
        return logits, feat_lens, VadState(overlap, torch.cat(hidden, dim=1))


Model, Config = Vad, VadConfig  # what a family's module is asked for by name
