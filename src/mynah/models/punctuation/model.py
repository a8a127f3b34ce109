"""Punctuation and casing: what follows each word, and how it is written.

A unit's hashed features are looked up, concatenated, and seen by a few layers of gated convolution
and feed-forward. Nothing depends on the place in the text, and an output sees a bounded number of
units on either side: long texts are read in windows that overlap by that much, with the result of
one pass. Attention within a fixed distance in place of wide kernels took two and a half times as
long a step.

Legend: B batch, T units, K features of a unit, D width, M marks, C classes of casing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from mynah.errors import ConfigError
from mynah.nn.convolution import ConvolutionModule
from mynah.nn.feed_forward import Dropout, FeedForward
from mynah.nn.mask import valid_mask
from mynah.text.punctuation import CASES, CHINESE, FEATURES, WESTERN


@dataclass(frozen=True)
class PunctuationConfig:
    """What the model is made of; widths in units, sizes in numbers."""

    marks: tuple[str, ...] = WESTERN  # what may follow a unit; the first is nothing
    # rows of the table for each feature (mynah.text.punctuation.FEATURES)
    features: dict[str, int] = field(default_factory=lambda: {"word": 8192, "again": 8192})
    feature_dim: int = 24
    dim: int = 128
    layers: int = 4
    hidden: int = 256
    kernel: int = 15
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel: {self.kernel} must be odd")
        if self.marks not in (WESTERN, CHINESE):
            raise ConfigError(f"marks: {list(self.marks)} are neither {WESTERN} nor {CHINESE}")
        if unknown := [name for name in self.features if name not in FEATURES]:
            raise ConfigError(f"features: {unknown[0]!r} is none of {', '.join(FEATURES)}")
        if not self.features or min(self.features.values()) < 1 or self.layers < 1:
            raise ConfigError("features: each needs rows, and the model a layer")

    @property
    def look_back(self) -> int:
        """Units before its own that an output sees."""
        return self.look_ahead + 1  # a pair has one more

    @property
    def look_ahead(self) -> int:
        """Units after its own that an output sees."""
        return self.layers * (self.kernel // 2)


class Layer(nn.Module):
    """Convolution and feed-forward, each added to its input."""

    def __init__(self, config: PunctuationConfig) -> None:
        super().__init__()
        c = config
        self.norm_convolution = nn.LayerNorm(c.dim)
        self.convolution = ConvolutionModule(c.dim, c.kernel, causal=False)
        self.norm_feed_forward = nn.LayerNorm(c.dim)
        self.feed_forward = FeedForward(c.dim, c.hidden, act="swish", dropout=c.dropout)
        self.dropout = Dropout(c.dropout)

    def forward(self, x: Tensor, lens: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), (B,), (B, T) -> (B, T, D)."""
        y, _ = self.convolution(self.norm_convolution(x), lens, valid, None)
        x = x + self.dropout(y)
        z: Tensor = x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))
        return z


class Punctuation(nn.Module):
    """Rows of features to log-probabilities of marks and casings."""

    def __init__(self, config: PunctuationConfig) -> None:
        super().__init__()
        self.config = c = config
        self.table = nn.Embedding(sum(c.features.values()), c.feature_dim)
        nn.init.normal_(self.table.weight, std=0.05)  # a rare row has few steps to leave it
        self.inner = nn.Linear(len(c.features) * c.feature_dim, c.dim)
        self.dropout = Dropout(c.dropout)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.dim)
        self.marks = nn.Linear(c.dim, len(c.marks))
        self.cases = nn.Linear(c.dim, 2 * CASES)

    def forward(self, rows: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, T, K) of ``lens`` (B,) units -> log-probabilities, float32.

        Those of the marks after each unit (B, T, M), and of its casing (B, T, 2, C): within a
        sentence, and at the beginning of one.
        """
        x = self.dropout(self.inner(self.table(rows).flatten(2)).float())
        valid = valid_mask(lens, rows.shape[1])
        for layer in self.layers:
            x = layer(x, lens, valid)
        x = self.norm(x)
        marks = self.marks(x).float().log_softmax(-1)
        cases = self.cases(x).float().unflatten(-1, (2, CASES)).log_softmax(-1)
        return marks, cases


Model, Config = Punctuation, PunctuationConfig  # what a family's module is asked for by name
