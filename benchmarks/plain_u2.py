"""U2++ written the usual way, to train against: one plain operation after another, in float32.

Separate query, key and value projections, attention by explicit products and softmax, one-
dimensional depthwise convolutions over (B, D, T), cross entropy against a dense smoothed target,
padding computed like everything else. It computes the same function as ``mynah.models.u2``
(relative positions without the shift, causal convolutions with layer norm), with its weights.
Legend: B batch, T frames, D width, H heads, U text length, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from mynah.models.u2.model import U2, U2Config


class Attention(nn.Module):
    """Multi-head attention with or without relative positions."""

    def __init__(self, dim: int, heads: int, dropout: float, relative: bool) -> None:
        super().__init__()
        self.heads, self.width = heads, dim // heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        self.relative = relative
        if relative:
            self.position = nn.Linear(dim, dim, bias=False)
            self.bias_u = nn.Parameter(torch.zeros(heads, self.width))
            self.bias_v = nn.Parameter(torch.zeros(heads, self.width))

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, d)."""
        return x.view(x.shape[0], -1, self.heads, self.width).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, where: Tensor | None) -> Tensor:
        """Queries (B, T, D), memory (B, T2, D), mask (B, 1 or T, T2), positions (1, T2, D)."""
        q, k, v = self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory))
        if self.relative:
            assert where is not None
            p = self.split(self.position(where))
            content = torch.matmul(q + self.bias_u[:, None], k.transpose(-2, -1))
            place = torch.matmul(q + self.bias_v[:, None], p.transpose(-2, -1))
            scores = (content + place) / math.sqrt(self.width)
        else:
            scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.width)
        hidden = ~mask[:, None]
        weights = torch.softmax(scores.masked_fill(hidden, -float("inf")), dim=-1)
        weights = self.dropout(weights.masked_fill(hidden, 0.0))
        y = torch.matmul(weights, v).transpose(1, 2).contiguous()
        return self.out(y.view(x.shape[0], -1, self.heads * self.width))


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, dim: int, hidden: int, dropout: float, act: nn.Module) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout, self.act = nn.Dropout(dropout), act

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.outer(self.dropout(self.act(self.inner(x))))


class Convolution(nn.Module):
    """The causal convolution module."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.gate = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), (B, T) -> (B, T, D)."""
        x = x.transpose(1, 2).masked_fill(~valid[:, None], 0.0)
        x = nn.functional.pad(x, (self.kernel - 1, 0))
        x = self.depthwise(nn.functional.glu(self.gate(x), dim=1))
        x = nn.functional.silu(self.norm(x.transpose(1, 2))).transpose(1, 2)
        return self.out(x).masked_fill(~valid[:, None], 0.0).transpose(1, 2)


class Block(nn.Module):
    """A conformer block."""

    def __init__(self, dim: int, heads: int, hidden: int, kernel: int, rates: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(5))
        self.macaron = FeedForward(dim, hidden, rates.dropout, nn.SiLU())
        self.attention = Attention(dim, heads, rates.attention_dropout, relative=True)
        self.convolution = Convolution(dim, kernel)
        self.feed_forward = FeedForward(dim, hidden, rates.dropout, nn.SiLU())
        self.dropout = nn.Dropout(rates.dropout)

    def forward(self, x: Tensor, mask: Tensor, where: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + 0.5 * self.dropout(self.macaron(self.norms[0](x)))
        y = self.norms[1](x)
        x = x + self.dropout(self.attention(y, y, mask, where))
        x = x + self.dropout(self.convolution(self.norms[2](x), valid))
        x = x + 0.5 * self.dropout(self.feed_forward(self.norms[3](x)))
        return self.norms[4](x)


class DecoderBlock(nn.Module):
    """A transformer decoder block."""

    def __init__(self, dim: int, heads: int, hidden: int, rates: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attention = Attention(dim, heads, rates.attention_dropout, relative=False)
        self.cross = Attention(dim, heads, rates.cross_dropout, relative=False)
        self.feed_forward = FeedForward(dim, hidden, rates.dropout, nn.ReLU())
        self.dropout = nn.Dropout(rates.dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, D)."""
        y = self.norms[0](x)
        x = x + self.dropout(self.attention(y, y, mask, None))
        x = x + self.dropout(self.cross(self.norms[1](x), memory, memory_mask, None))
        return x + self.dropout(self.feed_forward(self.norms[2](x)))


def sinusoids(size: int, dim: int) -> Tensor:
    """(1, size, D)."""
    place = torch.arange(size)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2) * -(math.log(10000.0) / dim))
    table = torch.zeros(size, dim)
    table[:, 0::2], table[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
    return table[None]


class Decoder(nn.Module):
    """Embedding, blocks, output."""

    def __init__(self, config: Any, layers: int, dim: int, size: int) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(size, dim)
        self.dropout = nn.Dropout(config.position_dropout)
        self.blocks = nn.ModuleList(
            DecoderBlock(dim, config.heads, config.hidden, config) for _ in range(layers)
        )
        self.norm, self.output = nn.LayerNorm(dim), nn.Linear(dim, size)

    def forward(self, tokens: Tensor, lens: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """(B, U), (B,) -> (B, U, V)."""
        size = tokens.shape[1]
        mask = torch.arange(size)[None] < lens[:, None]
        mask = mask[:, None] & torch.ones(size, size, dtype=torch.bool).tril()[None]
        x = self.embedding(tokens) * math.sqrt(self.dim) + sinusoids(size, self.dim)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, mask, memory, memory_mask)
        return self.output(self.norm(x))


class PlainU2(nn.Module):
    """The whole model with its loss."""

    def __init__(self, config: U2Config) -> None:
        super().__init__()
        e, d, dim = config.encoder, config.decoder, config.encoder.dim
        assert d is not None and e.positions == "relative_unshifted" and e.convolution == "causal"
        self.config, self.dim = config, dim
        self.conv = nn.Sequential(
            nn.Conv2d(1, dim, 3, 2), nn.ReLU(), nn.Conv2d(dim, dim, 3, 2), nn.ReLU()
        )
        bins = ((config.feature_dim - 1) // 2 - 1) // 2
        self.project = nn.Linear(dim * bins, dim)
        self.dropout = nn.Dropout(e.position_dropout)
        self.blocks = nn.ModuleList(
            Block(dim, e.heads, e.hidden, e.kernel, e) for _ in range(e.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.ctc = nn.Linear(dim, config.vocab_size)
        self.left = Decoder(d, d.layers, dim, config.vocab_size)
        self.right = Decoder(d, d.reverse_layers, dim, config.vocab_size)

    def encode(self, feats: Tensor, lens: Tensor, chunk: int | None) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) -> (B, T', D), (B,)."""
        x = self.conv(feats[:, None])
        batch, channels, size, bins = x.shape
        x = self.project(x.transpose(1, 2).contiguous().view(batch, size, channels * bins))
        lens = ((lens - 1) // 2 - 1) // 2
        valid = torch.arange(size)[None] < lens[:, None]
        mask = valid[:, None]
        if chunk is not None and chunk < size:
            block = torch.arange(size) // chunk
            mask = mask & (block[None] <= block[:, None])[None]
            mask = mask | torch.eye(size, dtype=torch.bool)[None]  # padding sees itself
        where = self.dropout(sinusoids(size, self.dim))
        x = self.dropout(x * math.sqrt(self.dim))
        for layer in self.blocks:
            x = layer(x, mask, where, valid)
        return self.norm(x), lens

    def loss(self, batch: Any, options: Any, chunk: int | None) -> Tensor:
        """The loss of a batch, divided by its utterances."""
        encoded, lens = self.encode(batch.feats, batch.feat_lens, chunk)
        log_probs = self.ctc(encoded).transpose(0, 1).log_softmax(2)
        ctc = nn.functional.ctc_loss(
            log_probs, batch.tokens, lens, batch.token_lens, reduction="sum", zero_infinity=True
        )
        memory_mask = (torch.arange(encoded.shape[1])[None] < lens[:, None])[:, None]
        both = []
        for decoder, reverse in ((self.left, False), (self.right, True)):
            inputs, targets = self.texts(batch.tokens, batch.token_lens, reverse)
            logits = decoder(inputs, batch.token_lens + 1, encoded, memory_mask)
            both.append(self.smoothed(logits, targets, options.smoothing))
        r, w = options.reverse_weight, options.ctc_weight
        attention = (1 - r) * both[0] + r * both[1]
        return (w * ctc + (1 - w) * attention) / len(batch.ids)

    def texts(self, tokens: Tensor, lens: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
        """Inputs <sos> ... and targets ... <eos>, -1 beyond, row by row."""
        inputs = torch.full((tokens.shape[0], tokens.shape[1] + 1), self.config.eos)
        targets = torch.full_like(inputs, -1)
        for row, count in enumerate(lens.tolist()):
            text = tokens[row, :count].flip(0) if reverse else tokens[row, :count]
            inputs[row, 1 : count + 1], targets[row, :count] = text, text
            targets[row, count] = self.config.eos
        return inputs, targets

    def smoothed(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Divergence from a dense smoothed distribution, summed."""
        size = logits.shape[2]
        logits, targets = logits.view(-1, size), targets.view(-1)
        ignored = targets < 0
        dense = torch.full_like(logits, smoothing / (size - 1))
        dense.scatter_(1, targets.clamp(min=0)[:, None], 1 - smoothing)
        kl = nn.functional.kl_div(torch.log_softmax(logits, 1), dense, reduction="none")
        return kl.masked_fill(ignored[:, None], 0.0).sum()

    def take(self, model: U2) -> None:
        """Copy the weights of ``model``."""
        with torch.no_grad():
            own = self.state_dict()
            for name, value in plain_weights(model).items():
                own.pop(name).copy_(value)
        assert not own, f"not set: {sorted(own)}"


def plain_weights(model: U2) -> dict[str, Tensor]:
    """The weights of ``model`` under the names of :class:`PlainU2`."""
    source, result = model.state_dict(), {}
    dim = model.config.encoder.dim
    for name in ("weight", "bias"):
        for theirs, mine in ((0, 0), (2, 1)):
            value = source[f"encoder.subsampling.convolutions.{mine}.{name}"]
            result[f"conv.{theirs}.{name}"] = value
        result[f"norm.{name}"] = source[f"encoder.norm.{name}"]
        result[f"ctc.{name}"] = source[f"ctc.{name}"]
    project = source["encoder.subsampling.out.weight"].view(dim, -1, dim)  # (D, bins, channels)
    result["project.weight"] = project.transpose(1, 2).reshape(dim, -1)
    result["project.bias"] = source["encoder.subsampling.out.bias"]
    norms = ("macaron", "attention", "convolution", "feed_forward", "final")
    for i in range(model.config.encoder.layers):
        _block(source, result, f"encoder.layers.{i}", f"blocks.{i}", norms)
    for mine, theirs in (("decoder", "left"), ("reverse_decoder", "right")):
        for part in (
            "embedding.weight",
            "norm.weight",
            "norm.bias",
            "output.weight",
            "output.bias",
        ):
            result[f"{theirs}.{part}"] = source[f"{mine}.{part}"]
        for i in range(len(getattr(model, mine).layers)):
            decoder_norms = ("attention", "cross", "feed_forward")
            names = (f"{mine}.layers.{i}", f"{theirs}.blocks.{i}")
            _block(source, result, *names, decoder_norms)
    return result


def _block(
    source: dict[str, Tensor], result: dict[str, Tensor], mine: str, theirs: str, norms: Any
) -> None:
    for name, value in source.items():
        if not name.startswith(f"{mine}."):
            continue
        part = name[len(mine) + 1 :]
        head, _, rest = part.partition(".")
        if head.startswith("norm_"):
            result[f"{theirs}.norms.{norms.index(head[5:])}.{rest}"] = value
        elif rest.startswith("qkv."):
            for letter, piece in zip("qkv", value.chunk(3), strict=True):
                result[f"{theirs}.{head}.{letter}.{rest[4:]}"] = piece
        elif rest.startswith("memory."):
            for letter, piece in zip("kv", value.chunk(2), strict=True):
                result[f"{theirs}.{head}.{letter}.{rest[7:]}"] = piece
        else:
            rest = rest.replace("query.", "q.").replace("bias_content", "bias_u")
            rest = rest.replace("bias_position", "bias_v")
            if head == "convolution" and rest in ("gate.weight", "out.weight"):
                value = value[..., None]
            if rest == "depthwise.weight":
                value = value[:, :, 0]
            result[f"{theirs}.{head}.{rest}"] = value
