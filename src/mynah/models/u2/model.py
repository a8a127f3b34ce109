"""U2 and U2++: one encoder for offline and streaming, CTC, and attention decoders that rescore.

Zhang et al., https://arxiv.org/abs/2012.05481 (U2) and https://arxiv.org/abs/2106.05642 (U2++).
Legend: B batch, T input frames, T' encoder frames, F feature bins, D width, V vocabulary,
U text length, N hypotheses, L layers, H heads, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mynah.errors import ConfigError, ModelError
from mynah.models.u2.decoder import Decoder, DecoderConfig
from mynah.models.u2.encoder import Encoder, EncoderConfig, EncoderState, join_states
from mynah.nn.mask import reverse_rows, valid_mask

__all__ = [
    "DecoderConfig",
    "EncoderConfig",
    "EncoderState",
    "U2",
    "U2Config",
    "join_states",
]


# What a model folder says of streaming where the convolutions are symmetric.
NOT_LIVE = {
    "reason": "its convolutions are symmetric: every output depends on frames still to come"
}


@dataclass(frozen=True)
class U2Config:
    """What a U2 model is made of. Negative special units count from the end of the vocabulary."""

    vocab_size: int
    feature_dim: int = 80
    blank: int = 0
    sos: int = -1
    eos: int = -1
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        for name in ("blank", "sos", "eos"):
            unit = getattr(self, name)
            if not -self.vocab_size <= unit < self.vocab_size:
                raise ConfigError(f"{name}: {unit} is not one of {self.vocab_size} units")
            object.__setattr__(self, name, unit % self.vocab_size)


class U2(nn.Module):
    """A recogniser: features to CTC log-probabilities, and scores of texts by its decoders."""

    mean: Tensor
    istd: Tensor

    def __init__(self, config: U2Config) -> None:
        super().__init__()
        self.config = config
        dim, size = config.encoder.dim, config.vocab_size
        # Mean and inverse standard deviation of the training features; identity until set.
        self.register_buffer("mean", torch.zeros(config.feature_dim))
        self.register_buffer("istd", torch.ones(config.feature_dim))
        self.encoder = Encoder(config.encoder, config.feature_dim)
        self.ctc = nn.Linear(dim, size)
        self.decoder: Decoder | None = None
        self.reverse_decoder: Decoder | None = None
        c = config.decoder
        if c.layers:
            self.decoder = Decoder(c, c.layers, dim, size)
        if c.reverse_layers:
            self.reverse_decoder = Decoder(c, c.reverse_layers, dim, size)

    @property
    def subsampling(self) -> int:
        """Input frames per encoder frame."""
        return self.encoder.subsampling.factor

    @property
    def overlap(self) -> int:
        """Input frames that an encoder frame sees beyond its own first one."""
        return self.encoder.subsampling.overlap

    def init_state(self, batch: int, *, capacity: int) -> EncoderState:
        """The beginning of ``batch`` streams with ``capacity`` encoder frames of left context.

        With capacity 0 the whole recording is meant to come in one step.

        Raises:
            ModelError: a stream (capacity above 0) of a model with symmetric convolutions.
        """
        if capacity and self.config.encoder.convolution == "symmetric":
            raise ModelError(
                "the model cannot stream: its convolutions are symmetric, so every output depends "
                f"on {self.config.encoder.layers} layers of frames that are still to come"
            )
        return self.encoder.init_state(batch, capacity, self.mean.device)

    def forward(
        self,
        feats: Tensor,
        feat_lens: Tensor,
        state: EncoderState | None = None,
        *,
        chunk: int | None = None,
        left: int | None = None,
    ) -> tuple[Tensor, Tensor, EncoderState | None]:
        """Encode features (B, T, F) of ``feat_lens`` (B,) frames.

        Without a state, whole utterances: with full context, or, given ``chunk`` encoder frames,
        under the mask of a stream whose chunks see ``left`` chunks before them (None: all).
        With a state, the next step of B streams: what is new sees all that is new and all that is
        cached. Rows may bring any number of frames, also none.

        Returns the encoded frames (B, T', D), zero beyond their lengths, their lengths (B,), and
        the state for the next step (None if none was given).
        """
        feats = (feats - self.mean) * self.istd
        encoded: tuple[Tensor, Tensor, EncoderState | None]
        encoded = self.encoder(feats, feat_lens, state, chunk, left)
        return encoded

    def ctc_log_probs(self, encoded: Tensor) -> Tensor:
        """Log-probabilities of the units: (B, T', D) -> (B, T', V) float32."""
        logits: Tensor = self.ctc(encoded)
        return logits.float().log_softmax(-1)

    def decode(
        self,
        encoded: Tensor,
        encoded_lens: Tensor,
        tokens: Tensor,
        token_lens: Tensor,
        *,
        reverse: bool = False,
    ) -> Tensor:
        """Teacher forcing: logits (N, U + 1, V) of what follows <sos> and each of ``tokens``.

        ``tokens`` (N, U) are in reading order, N a multiple of the B utterances; ``reverse`` runs
        the right-to-left decoder over them from the last to the first. :meth:`targets` gives what
        the logits should predict.

        Raises:
            ModelError: the model has no decoder of that direction.
        """
        decoder = self.reverse_decoder if reverse else self.decoder
        if decoder is None:
            raise ModelError(f"the model has no {'right-to-left ' if reverse else ''}decoder")
        tokens = tokens.masked_fill(~valid_mask(token_lens, tokens.shape[1]), 0)
        if reverse:
            tokens = reverse_rows(tokens, token_lens)
        start = tokens.new_full((tokens.shape[0], 1), self.config.sos)
        logits: Tensor = decoder(
            torch.cat((start, tokens), 1), decoder.cross(encoded), encoded_lens
        )
        return logits

    def targets(self, tokens: Tensor, token_lens: Tensor, *, reverse: bool = False) -> Tensor:
        """What :meth:`decode` should predict: the tokens, <eos>, then -1: (N, U) -> (N, U + 1)."""
        if reverse:
            tokens = reverse_rows(tokens, token_lens)
        padded = torch.cat((tokens, tokens.new_zeros(tokens.shape[0], 1)), 1)
        index = torch.arange(padded.shape[1], device=tokens.device)
        padded = padded.masked_fill(index == token_lens[:, None], self.config.eos)
        return padded.masked_fill(index > token_lens[:, None], -1)

    def score(
        self, encoded: Tensor, encoded_lens: Tensor, tokens: Tensor, token_lens: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Score N hypotheses of each utterance by both decoders.

        (B, T', D), (B,), (B, N, U), (B, N) -> log-probabilities (B, N, U + 1) of the tokens and of
        <eos>, zero after it; and those of the reversed tokens, None without such a decoder.
        """
        shape = (*tokens.shape[:2], tokens.shape[2] + 1)
        tokens, token_lens = tokens.flatten(0, 1), token_lens.flatten()
        scores: list[Tensor] = []
        for reverse in (False, True)[: 1 + (self.reverse_decoder is not None)]:
            logits = self.decode(encoded, encoded_lens, tokens, token_lens, reverse=reverse)
            targets = self.targets(tokens, token_lens, reverse=reverse)
            taken = logits.float().log_softmax(-1).gather(2, targets.clamp(min=0)[..., None])
            scores.append(taken[..., 0].masked_fill(targets < 0, 0.0).reshape(shape))
        return scores[0], scores[1] if len(scores) > 1 else None

    def cross(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that :meth:`step` attends to: (B, T', D) -> twice (B, L, H, T', d).

        Raises:
            ModelError: the model has no decoder.
        """
        if self.decoder is None:
            raise ModelError("the model has no decoder")
        pairs = self.decoder.cross(encoded)
        return torch.stack([k for k, _ in pairs], 1), torch.stack([v for _, v in pairs], 1)

    def step(
        self,
        token: Tensor,
        positions: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
        cross_keys: Tensor,
        cross_values: Tensor,
        encoded_lens: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of a search with the left-to-right decoder over N hypotheses.

        ``token`` (N,) is the last unit (<sos> at first) and ``positions`` (N,) the number of units
        before it, which is how much of the buffers ``past_keys`` and ``past_values``
        (N, L, H, P, d) counts. The N / B hypotheses of an utterance are neighbours.

        Returns log-probabilities (N, V) of the next unit, and the new slices of keys and values
        (N, L, H, 1, d), to be written at ``positions``.

        Raises:
            ModelError: the model has no decoder.
        """
        if self.decoder is None:
            raise ModelError("the model has no decoder")
        cross = [(cross_keys[:, i], cross_values[:, i]) for i in range(cross_keys.shape[1])]
        logits, keys, values = self.decoder.step(
            token, positions, past_keys, past_values, cross, encoded_lens
        )
        return logits.float().log_softmax(-1), keys, values


Model, Config = U2, U2Config  # what a family's module is asked for by name
