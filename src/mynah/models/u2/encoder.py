"""The encoder: conformer or transformer layers over subsampled features, whole or as a stream.

Legend: B batch, T input frames, T' encoder frames, F feature bins, D width, L layers, H heads,
d head width, C cached frames, O overlap of the subsampling, K kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor, nn

from mynah.errors import ConfigError
from mynah.nn.attention import Positions, SelfAttention
from mynah.nn.convolution import ConvolutionModule, ConvSubsampling
from mynah.nn.feed_forward import Activation, Dropout, FeedForward
from mynah.nn.mask import chunk_mask, key_mask, slice_rows, stream_mask, valid_mask
from mynah.nn.position import Sinusoid


@dataclass(frozen=True)
class EncoderConfig:
    """What the encoder is made of.

    A conformer has ``macaron`` feed-forward layers and a ``convolution``; a transformer is
    ``macaron = false, convolution = "none"``.
    """

    dim: int = 256
    heads: int = 4
    layers: int = 12
    hidden: int = 2048  # width inside the feed-forward layers
    subsampling: Literal[2, 4, 6, 8] = 4
    subsampling_channels: int = 0  # of its convolutions; 0: dim
    positions: Positions = "relative_unshifted"
    macaron: bool = True
    convolution: Literal["causal", "symmetric", "none"] = "causal"
    kernel: int = 15
    convolution_norm: Literal["layer", "batch"] = "layer"
    activation: Activation = "swish"
    norm_first: bool = True  # normalise the input of each block, rather than its output
    final_norm: bool = True
    norm_eps: float = 1e-5
    dropout: float = 0.1
    position_dropout: float = 0.1
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.dim % 2:
            raise ConfigError(f"dim: {self.dim} must be even and a multiple of heads {self.heads}")
        if self.positions == "rotary" and self.dim // self.heads % 2:
            raise ConfigError("positions: rotary needs heads of even width")
        if self.convolution == "symmetric" and self.kernel % 2 == 0:
            raise ConfigError(f"kernel: {self.kernel} must be odd for a symmetric convolution")
        if self.layers < 1 or self.kernel < 1:
            raise ConfigError("layers and kernel must be positive")


@dataclass
class EncoderState:
    """What a stream has seen, a row for each session. Shapes never depend on the input.

    The valid part of ``overlap``, ``keys`` and ``values`` is at their end. All zeros is the
    beginning of a stream, for any row.
    """

    overlap: Tensor  # (B, O, F) features not yet used up
    overlap_lens: Tensor  # (B,)
    keys: Tensor  # (B, L, H, C, d)
    values: Tensor  # (B, L, H, C, d)
    valid: Tensor  # (B,) cached frames that count
    conv: Tensor  # (B, L, K - 1, D)
    position: Tensor  # (B,) encoder frames seen

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, as the exported graph calls them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def rows(self, index: Tensor) -> EncoderState:
        """The sessions ``index`` (N,) alone, in that order."""
        return EncoderState(**{k: v.index_select(0, index) for k, v in self.tensors().items()})

    def reset(self, done: Tensor) -> EncoderState:
        """A copy in which the rows where ``done`` (B,) is true are at their beginning."""

        def clear(x: Tensor) -> Tensor:
            return x.masked_fill(done.reshape(-1, *[1] * (x.dim() - 1)), 0)

        return EncoderState(**{k: clear(v) for k, v in self.tensors().items()})


def join_states(states: Sequence[EncoderState]) -> EncoderState:
    """One state with the rows of all of ``states``, which must have the same capacity."""
    parts = [state.tensors() for state in states]
    return EncoderState(**{k: torch.cat([part[k] for part in parts]) for k in parts[0]})


class EncoderLayer(nn.Module):
    """Half a feed-forward layer, attention, convolution, the other half; or a transformer layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        c = config
        self.norm_first = c.norm_first
        self.share = 0.5 if c.macaron else 1.0
        if c.macaron:
            self.norm_macaron = nn.LayerNorm(c.dim, c.norm_eps)
            self.macaron = FeedForward(c.dim, c.hidden, act=c.activation, dropout=c.dropout)
        self.norm_attention = nn.LayerNorm(c.dim, c.norm_eps)
        self.attention = SelfAttention(
            c.dim, c.heads, dropout=c.attention_dropout, positions=c.positions
        )
        if c.convolution != "none":
            self.norm_convolution = nn.LayerNorm(c.dim, c.norm_eps)
            self.convolution = ConvolutionModule(
                c.dim,
                c.kernel,
                causal=c.convolution == "causal",
                norm=c.convolution_norm,
                act=c.activation,
                eps=c.norm_eps,
            )
            self.norm_final = nn.LayerNorm(c.dim, c.norm_eps)
        self.norm_feed_forward = nn.LayerNorm(c.dim, c.norm_eps)
        self.feed_forward = FeedForward(c.dim, c.hidden, act=c.activation, dropout=c.dropout)
        self.dropout = Dropout(c.dropout)
        self.has_macaron, self.has_convolution = c.macaron, c.convolution != "none"

    def forward(
        self, x: Tensor, view: View, cache: tuple[Tensor, Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """(B, T', D) and a cache of keys, values and convolution -> the same, one step later."""
        if self.has_macaron:
            y = self.macaron(self._before(self.norm_macaron, x))
            x = self._after(self.norm_macaron, x, y, self.share)
        past = None if cache is None else cache[:2]
        y, keys, values = self.attention(
            self._before(self.norm_attention, x), view.mask, view.where, past
        )
        x = self._after(self.norm_attention, x, y, 1.0)
        conv = x[:, :0]
        if self.has_convolution:
            y, conv = self.convolution(
                self._before(self.norm_convolution, x),
                view.lens,
                view.valid,
                None if cache is None else cache[2],
            )
            x = self._after(self.norm_convolution, x, y, 1.0)
        y = self.feed_forward(self._before(self.norm_feed_forward, x))
        x = self._after(self.norm_feed_forward, x, y, self.share)
        if self.has_convolution:
            x = self.norm_final(x)
        return x, (keys, values, conv)

    def _before(self, norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x) if self.norm_first else x

    def _after(self, norm: nn.Module, x: Tensor, y: Tensor, scale: float) -> Tensor:
        y = self.dropout(y)
        x = x + y if scale == 1.0 else x + scale * y
        return x if self.norm_first else norm(x)


@dataclass
class View:
    """What the layers know of lengths, context and positions."""

    lens: Tensor  # (B,) new encoder frames
    valid: Tensor  # (B, T')
    mask: Tensor  # (B or 1, 1, T' or 1, C + T')
    where: Tensor | None  # for SelfAttention


class Encoder(nn.Module):
    """Subsampling, positions and layers."""

    def __init__(self, config: EncoderConfig, feature_dim: int) -> None:
        super().__init__()
        self.config, self.feature_dim = config, feature_dim
        self.subsampling = ConvSubsampling(
            feature_dim, config.dim, config.subsampling, config.subsampling_channels
        )
        width = config.dim // config.heads if config.positions == "rotary" else config.dim
        self.sinusoid = Sinusoid(width)
        self.scale = 1.0 if config.positions == "none" else config.dim**0.5
        self.dropout = Dropout(config.position_dropout)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        # what runs the layers over whole utterances while they are trained, if not the layers alone
        self.stack: Callable[[Tensor, View], Tensor] | None = None
        final = config.norm_first and config.final_norm
        self.norm = nn.LayerNorm(config.dim, config.norm_eps) if final else nn.Identity()

    def init_state(self, batch: int, capacity: int, device: torch.device) -> EncoderState:
        """The beginning of ``batch`` streams that keep ``capacity`` encoder frames each."""
        c = self.config
        memory = c.kernel - 1 if c.convolution == "causal" else 0
        cache = torch.zeros(batch, c.layers, c.heads, capacity, c.dim // c.heads, device=device)
        none = torch.zeros(batch, dtype=torch.long, device=device)
        return EncoderState(
            overlap=torch.zeros(batch, self.subsampling.overlap, self.feature_dim, device=device),
            overlap_lens=none,
            keys=cache,
            values=cache.clone(),
            valid=none.clone(),
            conv=torch.zeros(batch, c.layers, memory, c.dim, device=device),
            position=none.clone(),
        )

    def forward(
        self,
        feats: Tensor,
        feat_lens: Tensor,
        state: EncoderState | None,
        chunk: int | None,
        left: int | None,
    ) -> tuple[Tensor, Tensor, EncoderState | None]:
        """See :meth:`mynah.models.u2.model.U2.forward`; ``feats`` are normalised here."""
        if state is not None:
            feats, feat_lens, overlap, overlap_lens = self.subsampling.join(
                feats, feat_lens, state.overlap, state.overlap_lens
            )
            state = replace(state, overlap=overlap, overlap_lens=overlap_lens)
        elif feats.shape[1] <= self.subsampling.overlap:
            short = self.subsampling.overlap + 1 - feats.shape[1]
            feats = nn.functional.pad(feats, (0, 0, 0, short))
        # The residual stream stays float32 under autocast.
        x = self.subsampling(feats).to(feats.dtype) * self.scale
        lens = self.subsampling.lens(feat_lens)
        valid = valid_mask(lens, x.shape[1])
        if state is not None:
            capacity = state.keys.shape[3]
            mask = stream_mask(state.valid, lens, capacity, x.shape[1])
            start = state.position[:, None]
        else:
            capacity, start = 0, lens.new_zeros(1, 1)
            full = chunk is None or chunk >= x.shape[1]
            mask = key_mask(lens, x.shape[1])
            if chunk is not None and not full:
                mask = chunk_mask(lens, x.shape[1], chunk, left)
        x, where = self._positions(x, start, capacity)
        x, view = self.dropout(x), View(lens, valid, mask, where)
        if self.stack is not None and state is None and torch.is_grad_enabled():
            x = self.stack(x, view)
        else:
            x, state = self._layers(x, view, state)
        return self.norm(x) * valid[..., None], lens, state

    def _positions(self, x: Tensor, start: Tensor, capacity: int) -> tuple[Tensor, Tensor | None]:
        """Absolute positions go into ``x``; others are returned as SelfAttention wants them."""
        size, kind = x.shape[1], self.config.positions
        if kind == "none":
            return x, None
        if kind == "relative":
            distance = torch.arange(capacity + 2 * size, device=x.device)
            return x, self.dropout(self.sinusoid(capacity + size - 1 - distance)[None])
        keys = start - capacity + torch.arange(capacity + size, device=x.device)
        if kind == "relative_unshifted":
            return x, self.dropout(self.sinusoid(keys))
        new = keys[:, capacity:]
        if kind == "rotary":
            return x, self.sinusoid.angles(new)
        return x + self.sinusoid(new), None

    def _layers(
        self, x: Tensor, view: View, state: EncoderState | None
    ) -> tuple[Tensor, EncoderState | None]:
        if state is None:
            for layer in self.layers:
                x, _ = layer(x, view, None)
            return x, None
        capacity, heads = state.keys.shape[3], state.keys.shape[2]
        starts = view.lens.repeat_interleave(heads)  # the cache ends where the new frames end
        keys, values, convs = [], [], []
        for i, layer in enumerate(self.layers):
            cache = (state.keys[:, i], state.values[:, i], state.conv[:, i])
            x, (k, v, conv) = layer(x, view, cache)
            keys.append(_latest(k, starts, capacity))
            values.append(_latest(v, starts, capacity))
            convs.append(conv)
        return x, replace(
            state,
            keys=torch.stack(keys, 1),
            values=torch.stack(values, 1),
            valid=(state.valid + view.lens).clamp(max=capacity),
            conv=torch.stack(convs, 1),
            position=state.position + view.lens,
        )


def _latest(x: Tensor, starts: Tensor, capacity: int) -> Tensor:
    """The frames to keep: (B, H, C + T, d), (B H,) -> (B, H, C, d)."""
    kept = slice_rows(x.flatten(0, 1), starts, capacity)
    return kept.view(*x.shape[:2], capacity, x.shape[3])
