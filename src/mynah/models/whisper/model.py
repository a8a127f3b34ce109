"""Whisper (A. Radford et al., arXiv:2212.04356) in PyTorch, under OpenAI's parameter names.

Legend: B batch, T mel frames, T' encoder frames (half of T), U tokens, N hypotheses, D width,
H heads, d head width, C capacity of the past, L layers, V vocabulary.

The encoder hears a window of any length up to ``2 n_audio_ctx`` frames; where rows differ in
length, each is heard as if it were alone. The decoder takes whole texts (training) or the next
tokens after a past of fixed capacity, which it writes to in place at a position that is a tensor:
no shape depends on how far a text has come, so one step can be captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mynah.models.whisper.positions import sinusoids
from mynah.nn.mask import key_mask, past_mask, valid_mask
from mynah.runtime.whisper.config import WhisperConfig, WhisperDims


@dataclass(frozen=True)
class Memory:
    """What the decoder attends to: keys and values of the speech, a pair (B, H, T', d) a layer."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor | None = None  # (B, 1, 1, T'), true where there is speech; None: everywhere


@dataclass(frozen=True)
class Past:
    """Keys and values of the text so far, written to in place: one buffer for all layers."""

    buffer: Tensor  # (L, 2, N, H, C, d)

    @property
    def capacity(self) -> int:
        """Tokens that have room."""
        return self.buffer.shape[4]

    def up_to(self, capacity: int) -> Past:
        """The same buffer as far as ``capacity`` tokens: no more is read."""
        return Past(self.buffer[..., :capacity, :])


class Attention(nn.Module):
    """Multi-head attention; the projection to keys has no bias."""

    joined: tuple[Tensor, Tensor] | None = None  # (3 D, D), (3 D,) of :meth:`join`

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    @torch.no_grad()
    def join(self) -> None:
        """Let :meth:`queries_keys_values` be one product; for inference, after the parameters are
        where they stay. They become parts of what is kept for it."""
        parts = (self.query, self.key, self.value)
        weight = torch.cat([part.weight for part in parts])
        none = torch.zeros_like(self.query.bias)
        bias = torch.cat([none if part.bias is None else part.bias for part in parts])
        for number, part in enumerate(parts):
            here = slice(number * len(none), (number + 1) * len(none))
            part.weight.data = weight[here]
            if part.bias is not None:
                part.bias.data = bias[here]
        self.joined = weight, bias

    def queries_keys_values(self, x: Tensor) -> Tensor:
        """Of attention to itself: (N, U, D) -> (3, N, H, U, d)."""
        if self.joined is None:
            made = torch.stack([self.query(x), self.key(x), self.value(x)], 2)
        else:
            made = F.linear(x, *self.joined)
        return made.reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)

    def project(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of what is attended to: (B, T, D) -> twice (B, H, T, d)."""
        return self._split(self.key(source)), self._split(self.value(source))

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
    ) -> Tensor:
        """(N, U, D), (B, H, T, d) twice, mask broadcasting to (B, H, U, T) -> (N, U, D).

        N is a multiple of B: neighbouring rows share keys, which are not copied for them.
        """
        q = self._split(self.query(x).reshape(len(keys), -1, x.shape[2]))  # (B, H, N/B U, d)
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=causal)
        return self._merge(y, x)

    def continued(self, x: Tensor, past: Tensor, at: Tensor, mask: Tensor) -> Tensor:
        """Attention of new tokens (N, U, D) at the positions ``at`` (U,) to the text so far, whose
        keys and values ``past`` (2, N, H, C, d) are written to; ``mask`` is added to the scores."""
        made = self.queries_keys_values(x)
        past.index_copy_(3, at, made[1:])
        y = F.scaled_dot_product_attention(made[0], past[0], past[1], attn_mask=mask)
        return self._merge(y, x)

    def weights(self, x: Tensor, keys: Tensor, heads: Sequence[int]) -> Tensor:
        """How much each position looks where: (N, U, D), (B, H, T, d) -> (N, heads, U, T) float32,
        of the heads asked for alone."""
        q = self._split(self.query(x))[:, heads]  # (N, heads, U, d)
        keys = keys[:, heads].repeat_interleave(len(q) // len(keys), 0)
        scores = q.float() @ keys.float().transpose(2, 3)
        result: Tensor = (scores * q.shape[-1] ** -0.5).softmax(-1)
        return result

    def _merge(self, y: Tensor, x: Tensor) -> Tensor:
        result: Tensor = self.out(y.transpose(1, 2).reshape(x.shape))
        return result

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Self-attention and feed-forward, each normalised before."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn, self.attn_ln = Attention(dim, heads), nn.LayerNorm(dim)
        self.mlp, self.mlp_ln = _feed_forward(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T', D) -> (B, T', D)."""
        y = self.attn_ln(x)
        x = x + self.attn(y, *self.attn.project(y), mask)
        result: Tensor = x + self.mlp(self.mlp_ln(x))
        return result


class DecoderBlock(nn.Module):
    """Self-attention, attention to the speech and feed-forward, each normalised before."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn, self.attn_ln = Attention(dim, heads), nn.LayerNorm(dim)
        self.cross_attn, self.cross_attn_ln = Attention(dim, heads), nn.LayerNorm(dim)
        self.mlp, self.mlp_ln = _feed_forward(dim), nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        past: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(N, U, D) with the keys and values of the speech and its mask -> (N, U, D).

        With a ``past`` (2, N, H, C, d) the tokens are those of the positions (U,) after it that
        come with it, as does what to add to their scores (U, C).
        """
        y = self.attn_ln(x)
        if past is None:
            x = x + self.attn(y, *self.attn.project(y), causal=True)
        else:
            x = x + self.attn.continued(y, *past)
        x = x + self.cross_attn(self.cross_attn_ln(x), keys, values, mask)
        result: Tensor = x + self.mlp(self.mlp_ln(x))
        return result


class Encoder(nn.Module):
    """Mel frames to encoder frames, two to one."""

    positional_embedding: Tensor

    def __init__(self, dims: WhisperDims) -> None:
        super().__init__()
        width = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        positions = torch.from_numpy(sinusoids(dims.n_audio_ctx, width))
        self.register_buffer("positional_embedding", positions)
        self.blocks = nn.ModuleList(
            EncoderBlock(width, dims.n_audio_head) for _ in range(dims.n_audio_layer)
        )
        self.ln_post = nn.LayerNorm(width)

    def forward(
        self, mels: Tensor, lens: Tensor | None = None, *, checkpointed: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """(B, n_mels, T), of which ``lens`` (B,) frames count -> (B, T', D), lengths (B,).

        Without ``lens`` all frames count. ``checkpointed``: layers are computed again in the
        backward pass, which saves memory.
        """
        if lens is None:
            x, mask = F.gelu(self.conv1(mels)), None
        else:  # beyond its end a row has what it would have alone: nothing
            inside = valid_mask(lens, mels.shape[2])[:, None]  # (B, 1, T)
            x = F.gelu(self.conv1(mels.masked_fill(~inside, 0.0))).masked_fill(~inside, 0.0)
            lens = torch.div(lens + 1, 2, rounding_mode="floor")
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # (B, T', D)
        x = x + self.positional_embedding[: x.shape[1]].to(x.dtype)
        if lens is not None:
            mask = key_mask(lens, x.shape[1])
        for block in self.blocks:
            x = _run(checkpointed, block, x, mask)
        return self.ln_post(x), lens


class Decoder(nn.Module):
    """Tokens and speech to the scores of the next token; the embedding is the output layer too."""

    def __init__(self, dims: WhisperDims) -> None:
        super().__init__()
        width = dims.n_text_state
        self.token_embedding = nn.Embedding(dims.n_vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(dims.n_text_ctx, width))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, dims.n_text_head) for _ in range(dims.n_text_layer)
        )
        self.ln = nn.LayerNorm(width)

    def memory(self, encoded: Tensor, lens: Tensor | None = None) -> Memory:
        """Keys and values of the speech (B, T', D), of which ``lens`` (B,) frames count."""
        mask = None if lens is None else key_mask(lens, encoded.shape[1])
        return Memory(tuple(block.cross_attn.project(encoded) for block in self._layers), mask)

    def forward(
        self,
        tokens: Tensor,
        memory: Memory,
        past: Past | None = None,
        at: Tensor | None = None,
        *,
        checkpointed: bool = False,
    ) -> Tensor:
        """Hidden states (N, U, D) after each of ``tokens`` (N, U), for :meth:`logits`.

        Without a ``past`` they are whole texts; with one, those of the positions ``at`` (U,).
        """
        x, before = self._embed(tokens, at), None
        if past is not None and at is not None:
            unseen = ~past_mask(at, past.capacity)
            added = torch.zeros_like(unseen, dtype=x.dtype).masked_fill_(unseen, -torch.inf)
        for number, (block, (keys, values)) in enumerate(
            zip(self.blocks, memory.layers, strict=True)
        ):
            if past is not None and at is not None:
                before = past.buffer[number], at, added
            x = _run(checkpointed, block, x, keys, values, memory.mask, before)
        result: Tensor = self.ln(x)
        return result

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return F.linear(hidden, self.token_embedding.weight)

    def attention(
        self, tokens: Tensor, memory: Memory, heads: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """The cross-attention of chosen ``heads`` (layer, head) over whole texts (N, U): (N, heads,
        U, T') float32, and what :meth:`logits` takes."""
        x, found = self._embed(tokens, None), dict[tuple[int, int], Tensor]()
        for number, (block, (keys, values)) in enumerate(
            zip(self._layers, memory.layers, strict=True)
        ):
            if here := [head for layer, head in heads if layer == number]:
                y = block.attn_ln(x)
                y = x + block.attn(y, *block.attn.project(y), causal=True)
                weights = block.cross_attn.weights(block.cross_attn_ln(y), keys, here)
                found |= {(number, head): weights[:, i] for i, head in enumerate(here)}
            x = block(x, keys, values, memory.mask)
        return torch.stack([found[layer, head] for layer, head in heads], 1), self.ln(x)

    def init_past(self, rows: int, capacity: int, like: Memory) -> Past:
        """Room for ``capacity`` tokens of ``rows`` texts, in the precision of a memory."""
        keys = like.layers[0][0]
        # zeros, as what is masked is still multiplied by 0
        shape = (len(self.blocks), 2, rows, keys.shape[1], capacity, keys.shape[3])
        return Past(keys.new_zeros(shape))

    def join(self) -> None:
        """Join projections where that is quicker; see :meth:`Attention.join`."""
        for block in self._layers:
            block.attn.join()

    @property
    def _layers(self) -> list[DecoderBlock]:
        return [block for block in self.blocks if isinstance(block, DecoderBlock)]

    def _embed(self, tokens: Tensor, at: Tensor | None) -> Tensor:
        positions = self.positional_embedding
        where = positions[: tokens.shape[1]] if at is None else positions[at]
        result: Tensor = self.token_embedding(tokens) + where
        return result


class Whisper(nn.Module):
    """Encoder and decoder."""

    subsampling = 2

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config.dims), Decoder(config.dims)

    def forward(self, mels: Tensor, mel_lens: Tensor | None, tokens: Tensor) -> Tensor:
        """Logits (B, U, V) of the token after each of ``tokens`` (B, U), having heard ``mels``
        (B, n_mels, T), of which ``mel_lens`` (B,) frames count (``None``: all)."""
        encoded, lens = self.encoder(mels, mel_lens)
        return self.decoder.logits(self.decoder(tokens, self.decoder.memory(encoded, lens)))


def _feed_forward(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


def _run(checkpointed: bool, block: nn.Module, *inputs: object) -> Tensor:
    if checkpointed and torch.is_grad_enabled():
        result: Tensor = checkpoint(block, *inputs, use_reentrant=False)
    else:
        result = block(*inputs)
    return result


Model, Config = Whisper, WhisperConfig  # what a family's module is asked for by name
