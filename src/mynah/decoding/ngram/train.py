"""Training a model: a text in, an n-gram model out, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mynah.decoding.ngram.counting import count
from mynah.decoding.ngram.kneser_ney import Estimate, estimate
from mynah.decoding.ngram.levels import MAX_ORDER, Trie
from mynah.decoding.ngram.prune import prune
from mynah.decoding.ngram.scratch import Scratch
from mynah.decoding.ngram.vocabulary import Encoder
from mynah.errors import ConfigError

log = logging.getLogger(__name__)

LEAST_MEMORY = 16 << 20


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        order: the longest n-grams.
        cutoffs: for orders 1, 2 and so on, n-grams that occur so often or less are left out; the
            last one holds for all higher orders. The first is 0, and they do not fall.
        prune: threshold of entropy pruning after that; 0 is none.
        words: the vocabulary, when it is given; other words are ``<unk>``.
        limit: keep that many of the most frequent words.
        min_count: keep words that are there as often as this.
        memory: bytes that it may take, above what Python and numpy take themselves; what does not
            fit goes to files.
        folder: where those files go (default: the system's temporary folder).
    """

    order: int = 3
    cutoffs: tuple[int, ...] = (0,)
    prune: float = 0.0
    words: Sequence[str] | None = None
    limit: int | None = None
    min_count: int = 1
    memory: int = 1 << 30
    folder: str | Path | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigError: a value cannot be.
        """
        if not 1 <= self.order <= MAX_ORDER:
            raise ConfigError(f"order: must be 1 to {MAX_ORDER}, got {self.order}")
        falling = any(b < a for a, b in pairwise(self.cutoffs))
        if not self.cutoffs or self.cutoffs[0] != 0 or falling or len(self.cutoffs) > self.order:
            raise ConfigError(
                f"cutoffs: at most {self.order} counts that begin with 0 and do not fall, "
                f"got {' '.join(map(str, self.cutoffs))}"
            )
        if not 0 <= self.prune < float("inf"):
            raise ConfigError(f"prune: must be 0 or above, got {self.prune}")
        if self.memory < LEAST_MEMORY:
            raise ConfigError(f"memory: at least {LEAST_MEMORY >> 20}M, got {self.memory} bytes")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: must be above 0, got {self.limit}")

    def every_cutoff(self) -> tuple[int, ...]:
        """The cut-off of each order."""
        return (*self.cutoffs, *[self.cutoffs[-1]] * (self.order - len(self.cutoffs)))


@dataclass(frozen=True)
class Trained:
    """A model and how it came about; the arrays may lie in the scratch folder."""

    trie: Trie
    estimate: Estimate
    sentences: int
    tokens: int  # words and sentence ends


def train(
    lines: Iterable[str],
    options: TrainOptions,
    scratch: Scratch,
    *,
    say: Callable[[str], None] = log.info,
) -> Trained:
    """Train a model on sentences, words separated by white space.

    Args:
        lines: one sentence each; empty ones are passed over.
        options: how.
        scratch: where large arrays go (see :func:`scratch_for`); the model lies there until it is
            saved, so the scratch must be open as long.
        say: is told what is being done.

    Raises:
        InputError: the text is empty, holds ``<s>``, or has too many different words for memory.
    """
    encoder = Encoder(
        scratch,
        words=options.words,
        limit=options.limit,
        min_count=options.min_count,
        memory=options.memory // 4,
    )
    encoder.add(lines)
    vocab = encoder.choose()
    say(f"{encoder.sentences} sentences, {encoder.tokens} tokens, {len(vocab)} words; counting")
    counts = count(
        encoder.blocks,
        order=options.order,
        vocab_size=len(vocab),
        scratch=scratch,
        memory=options.memory // 3,
    )
    say("estimating")
    found = estimate(counts, vocab, cutoffs=options.every_cutoff(), scratch=scratch)
    trie = found.trie
    if options.prune > 0 and trie.order > 1:
        say(f"pruning {' '.join(map(str, trie.counts))} n-grams")
        trie = prune(trie, options.prune, history=found.history, make=scratch.zeros)
    return Trained(trie, found, encoder.sentences, encoder.tokens)


def scratch_for(options: TrainOptions) -> Scratch:
    """The scratch space that fits these options."""
    return Scratch(options.memory // 4, options.folder)
