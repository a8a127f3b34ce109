"""Convolutional subsampling of features, and the conformer's convolution module.

Everything is kept channels last, (B, T, D) in memory, which is the layout of the linear layers
around it and the one in which depthwise convolutions run fastest on CPUs.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mynah.nn.feed_forward import Activation, activation
from mynah.nn.mask import slice_rows

# (kernel, stride) of each convolution, equal in time and frequency
_LAYOUTS: dict[int, tuple[tuple[int, int], ...]] = {
    2: ((3, 2),),
    4: ((3, 2), (3, 2)),
    6: ((3, 2), (5, 3)),
    8: ((3, 2), (3, 2), (3, 2)),
}


class ConvSubsampling(nn.Module):
    """2-D convolutions without padding that keep one frame in ``factor``: 2, 4, 6 or 8.

    Output frame t sees input frames ``factor * t`` to ``factor * t + overlap``. ``channels`` of
    the convolutions, if fewer than ``dim``, make it much cheaper: they take a third of the time
    of a small encoder otherwise.
    """

    def __init__(
        self, feature_dim: int, dim: int, factor: Literal[2, 4, 6, 8], channels: int = 0
    ) -> None:
        super().__init__()
        self.factor, self.overlap = factor, 0
        self.convolutions = nn.ModuleList()
        width = channels or dim
        bins, inputs, step = feature_dim, 1, 1
        for kernel, stride in _LAYOUTS[factor]:
            self.convolutions.append(nn.Conv2d(inputs, width, kernel, stride))
            self.overlap += (kernel - 1) * step
            bins, inputs, step = (bins - kernel) // stride + 1, width, step * stride
        self.out = nn.Linear(bins * width, dim)

    def forward(self, feats: Tensor) -> Tensor:
        """(B, T, F) -> (B, T', D); T must exceed ``overlap``."""
        if torch.is_grad_enabled() and not torch.is_autocast_enabled(feats.device.type):
            x = feats[:, None]  # the backward pass of float32 is faster channels first
        else:
            x = feats[..., None].permute(0, 3, 1, 2)  # all others are a third faster like this
        for convolution in self.convolutions:
            x = convolution(x).relu()
        result: Tensor = self.out(x.permute(0, 2, 3, 1).flatten(2))  # bins, then channels
        return result

    def lens(self, feat_lens: Tensor) -> Tensor:
        """Output frames of so many input frames: (B,) -> (B,)."""
        for kernel, stride in _LAYOUTS[self.factor]:
            feat_lens = torch.div(feat_lens - kernel, stride, rounding_mode="floor") + 1
        return feat_lens.clamp(min=0)

    def join(
        self, feats: Tensor, feat_lens: Tensor, overlap: Tensor, overlap_lens: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Put the frames left over from the last step before the new ones.

        (B, T, F), (B,), right-aligned (B, O, F), (B,) -> input for :meth:`forward` (B, O + T, F)
        and its lengths, and what is left over now, (B, O, F) and (B,).
        """
        size = self.overlap
        x = torch.cat((overlap, feats), dim=1)
        x = slice_rows(x, size - overlap_lens, x.shape[1])
        lens = overlap_lens + feat_lens
        left = lens - self.lens(lens) * self.factor
        return x, lens, slice_rows(x, lens - size, size), left


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics are taken over valid frames only."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, dim: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), boolean (B, T) -> (B, T, D), in the type of the weights."""
        x = x.to(self.weight.dtype)
        if self.training:
            mean, var = self._statistics(x, valid)
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(var + self.eps)
        return x * scale + (self.bias - mean * scale)

    def _statistics(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        count = valid.sum().clamp(min=1)
        weight = valid[..., None] / count
        mean = (x * weight).sum((0, 1))
        var = ((x - mean).square() * weight).sum((0, 1))
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp(min=1))
            # a step that is skipped for not being finite must not leave its trace here
            finite = torch.isfinite(mean) & torch.isfinite(unbiased)
            for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
                running.lerp_(torch.where(finite, now.to(running.dtype), running), self.momentum)
            self.num_batches_tracked.add_(1)
        return mean, var


class ConvolutionModule(nn.Module):
    """The conformer's convolution module (https://arxiv.org/abs/2005.08100), causal or symmetric.

    A causal module starts from the response of the gate to a silent frame (one of zeros), as if
    silence had come before, and its cache holds the difference to that response: zeros at first.
    """

    def __init__(
        self,
        dim: int,
        kernel: int,
        *,
        causal: bool,
        norm: Literal["layer", "batch"] = "layer",
        act: Activation = "swish",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.kernel, self.causal = kernel, causal
        self.gate = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv2d(dim, dim, (1, kernel), groups=dim)
        self.norm = nn.LayerNorm(dim, eps) if norm == "layer" else MaskedBatchNorm(dim, eps)
        self.activation = activation(act)
        self.out = nn.Linear(dim, dim)

    @property
    def memory(self) -> int:
        """Frames that a streaming step must remember."""
        return self.kernel - 1 if self.causal else 0

    def forward(
        self, x: Tensor, lens: Tensor, valid: Tensor, cache: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,), (B, T), (B, M, D) or None -> output (B, T, D), next cache (B, M, D)."""
        x = F.glu(self.gate(x), dim=-1)
        if self.causal:
            silence = F.glu(self.gate.bias, dim=-1).to(x.dtype)
            past = silence.expand(x.shape[0], self.memory, -1) if cache is None else cache + silence
            x = torch.cat((past.to(x.dtype), x), dim=1)
            cache = slice_rows(x, lens, self.memory) - silence
            padding = 0
        else:
            x = x * valid[..., None]
            cache = x[:, :0]
            padding = (self.kernel - 1) // 2
        x = self._convolve(x, padding)
        x = self.norm(x) if isinstance(self.norm, nn.LayerNorm) else self.norm(x, valid)
        return self.out(self.activation(x)), cache

    def _convolve(self, x: Tensor, padding: int) -> Tensor:
        weight, bias = self.depthwise.weight, self.depthwise.bias
        few = x.shape[2] <= 16 * torch.get_num_threads()
        if few and x.dtype == torch.bfloat16 and x.device.type == "cpu":
            # oneDNN never comes back from making this kernel in bfloat16 for 16 channels, all that
            # there are or what it may give a thread
            with torch.autocast("cpu", enabled=False):
                return _depthwise(x.float(), weight.float(), bias, padding).to(x.dtype)
        return _depthwise(x, weight, bias, padding)


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    # As a 2-D convolution over a view that is channels last: 5 times faster than conv1d.
    view = x[:, None].permute(0, 3, 1, 2)  # (B, D, 1, T)
    weight = weight.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(view, weight, bias, padding=(0, padding), groups=x.shape[2])
    return y.permute(0, 2, 3, 1)[:, 0]
