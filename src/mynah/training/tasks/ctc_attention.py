"""Recognition by CTC and attention at once: U2 (arXiv:2012.05481) and U2++ (arXiv:2106.05642).

The loss of an utterance is ``w ctc + (1 - w) ((1 - r) left + r right)``: CTC on the encoder, the
label-smoothed cross entropy of the left-to-right decoder and, for U2++, of the right-to-left one.
With dynamic chunks the encoder sees, half of the time, the whole utterance, otherwise chunks of 1
to ``max_chunk`` frames, so that the same weights serve offline and live.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mynah.data.loader import Batch
from mynah.decoding import ctc_greedy
from mynah.decoding.hypothesis import Hypothesis
from mynah.errors import ConfigError
from mynah.evaluation import error_rate
from mynah.losses.ctc import ctc_loss
from mynah.losses.label_smoothing import label_smoothing_loss
from mynah.models.u2.model import U2
from mynah.text import Tokenizer, normalize_for_scoring
from mynah.training.config import EvaluateConfig
from mynah.training.optimisation import mix
from mynah.training.task import Losses, Place, Turn


@dataclass(frozen=True)
class Options:
    """The table ``task`` of a recipe, ``kind`` aside."""

    ctc_weight: float = 0.3
    smoothing: float = 0.1  # of the decoders' labels
    reverse_weight: float = 0.3  # of the right-to-left decoder, where the model has one
    dynamic_chunk: bool = True
    max_chunk: int = 25  # encoder frames
    full_context: float = 0.5  # share of the steps that see whole utterances
    dynamic_left: bool = False  # also draw how many chunks to the left are seen

    def __post_init__(self) -> None:
        for name in ("ctc_weight", "reverse_weight", "full_context"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: must be between 0 and 1, got {getattr(self, name)}")
        if not 0.0 <= self.smoothing < 1.0:
            raise ConfigError(f"smoothing: must be from 0 to below 1, got {self.smoothing}")
        if self.max_chunk < 1:
            raise ConfigError(f"max_chunk: must be above 0, got {self.max_chunk}")


@dataclass(frozen=True)
class Chunk:
    """How much an encoder frame sees: ``size`` frames at once (None: all) and chunks before."""

    size: int | None = None
    left: int | None = None  # None: all


def draw_chunk(options: Options, place: Place, frames: int) -> Chunk:
    """The chunk of a step: the same for all batches and workers of it.

    The left context, where it is drawn, is a share of the chunks that ``frames`` encoder frames
    make, so a longer batch may see more of them.
    """
    if not options.dynamic_chunk:
        return Chunk()
    dice = random.Random(mix(place.seed, "chunk", place.step))
    full, size, share = dice.random(), dice.randint(1, options.max_chunk), dice.random()
    if full < options.full_context:
        return Chunk()
    if not options.dynamic_left:
        return Chunk(size)
    return Chunk(size, int(share * max((frames - 1) // size, 1)))


class CtcAttention:
    """The task ``ctc_attention`` over a :class:`~mynah.models.u2.model.U2`."""

    parts: tuple[str, ...]
    sums = ("errors", "words", "utterances", "loss")
    selection = "error_rate"

    def __init__(
        self, model: U2, tokenizer: Tokenizer, options: Options, evaluate: EvaluateConfig
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.options, self.evaluation = options, evaluate
        self.turns = (Turn("recognizer", model),)
        self.reverse_weight = options.reverse_weight if model.has_reverse else 0.0
        names = ["ctc"] if options.ctc_weight > 0 else []
        if options.ctc_weight < 1:
            names += ["left"] + (["right"] if self.reverse_weight > 0 else [])
        self.parts = tuple(names)

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        """The three losses under the chunk of this step."""
        frames = self.model.encoder_frames(batch.feats.shape[1])
        chunk = draw_chunk(self.options, place, frames)
        encoded, encoded_lens, _ = self.model(
            batch.feats, batch.feat_lens, None, chunk=chunk.size, left=chunk.left
        )
        return self._losses(batch, encoded, encoded_lens)

    def _losses(self, batch: Batch, encoded: Tensor, encoded_lens: Tensor) -> Losses:
        options, parts = self.options, {}
        if options.ctc_weight > 0:
            log_probs = self.model.ctc_log_probs(encoded)
            parts["ctc"], _ = ctc_loss(log_probs, encoded_lens, batch.tokens, batch.token_lens)
        for name in ("left", "right"):
            if name in self.parts:
                parts[name] = self._attention(batch, encoded, encoded_lens, name == "right")
        weights = {
            "ctc": options.ctc_weight,
            "left": (1 - options.ctc_weight) * (1 - self.reverse_weight),
            "right": (1 - options.ctc_weight) * self.reverse_weight,
        }
        total = torch.stack([weights[name] * parts[name] for name in self.parts]).sum()
        counts = {
            "utterances": len(batch.ids),
            "tokens": int(batch.token_lens.sum()),
            "frames": int(batch.feat_lens.sum()),
        }
        return Losses(total, {name: part.detach() for name, part in parts.items()}, counts)

    def _attention(
        self, batch: Batch, encoded: Tensor, encoded_lens: Tensor, reverse: bool
    ) -> Tensor:
        logits = self.model.decode(
            encoded, encoded_lens, batch.tokens, batch.token_lens, reverse=reverse
        )
        targets = with_eos(batch.tokens, batch.token_lens, self.tokenizer.eos, reverse=reverse)
        total, _ = label_smoothing_loss(
            logits, targets, batch.token_lens + 1, smoothing=self.options.smoothing
        )
        return total

    # -- the development set ---------------------------------------------------------------------

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Errors of the chosen search, and the loss, summed over the batch."""
        config = self.evaluation
        chunk = config.chunk or None
        left = None if config.left < 0 or chunk is None else config.left
        encoded, encoded_lens, _ = self.model(
            batch.feats, batch.feat_lens, None, chunk=chunk, left=left
        )
        losses = self._losses(batch, encoded, encoded_lens)
        hypotheses = self._search(encoded, encoded_lens)
        pairs = [
            (self._normal(text), self._normal(self.tokenizer.decode(hypothesis.tokens)))
            for text, hypothesis in zip(batch.texts, hypotheses, strict=True)
        ]
        found = error_rate(pairs, unit=config.unit)
        return {
            "errors": float(found.errors),
            "words": float(found.total),
            "utterances": float(len(pairs)),
            "loss": float(losses.total),
        }

    def scores(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The error rate (0..1, or more) and the loss an utterance."""
        return {
            "error_rate": sums["errors"] / max(sums["words"], 1.0),
            "loss": sums["loss"] / max(sums["utterances"], 1.0),
        }

    def _normal(self, text: str) -> str:
        language = self.evaluation.language
        return normalize_for_scoring(text, language) if language else text

    def _search(self, encoded: Tensor, encoded_lens: Tensor) -> list[Hypothesis]:
        log_probs = self.model.ctc_log_probs(encoded).float().cpu().numpy()
        lens = encoded_lens.tolist()
        if self.evaluation.method == "greedy":
            blank = self.tokenizer.blank
            return [ctc_greedy(x[:n], blank=blank) for x, n in zip(log_probs, lens, strict=True)]
        nbests = [
            self._prefix_beam(row[:frames]) for row, frames in zip(log_probs, lens, strict=True)
        ]
        if self.evaluation.method == "prefix_beam":
            return [nbest[0] for nbest in nbests]
        return [
            self._rescore(nbest, encoded[row : row + 1], encoded_lens[row : row + 1])
            for row, nbest in enumerate(nbests)
        ]

    def _prefix_beam(self, log_probs: object) -> list[Hypothesis]:
        from mynah.decoding import PrefixBeamSearch

        beam = self.evaluation.beam
        search = PrefixBeamSearch(beam=beam, top_units=beam, blank=self.tokenizer.blank)
        return search.nbest(search.advance(search.start(), log_probs))

    def _rescore(
        self, nbest: Sequence[Hypothesis], encoded: Tensor, encoded_lens: Tensor
    ) -> Hypothesis:
        from mynah.decoding import rescore

        longest = max(len(h.tokens) for h in nbest)
        tokens = torch.zeros(1, len(nbest), longest, dtype=torch.long, device=encoded.device)
        for number, hypothesis in enumerate(nbest):
            tokens[0, number, : len(hypothesis.tokens)] = torch.tensor(hypothesis.tokens)
        lens = torch.tensor([[len(h.tokens) for h in nbest]], device=encoded.device)
        scores, reverse = self.model.score(encoded, encoded_lens, tokens, lens)
        return rescore(
            nbest,
            scores[0].float().cpu().numpy(),
            None if reverse is None else reverse[0].float().cpu().numpy(),
            ctc_weight=self.evaluation.ctc_weight,
            reverse_weight=self.evaluation.reverse_weight,
        )[0]

    def compile(self) -> None:
        """Compile each block of the encoder and of the decoders on its own."""
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList):
                for block in module:
                    block.compile(dynamic=True)


def with_eos(tokens: Tensor, token_lens: Tensor, eos: int, *, reverse: bool = False) -> Tensor:
    """The decoder's targets (B, U+1): the tokens, for ``reverse`` backwards, then ``eos``, then 0."""
    batch, longest = tokens.shape
    place = torch.arange(longest + 1, device=tokens.device).expand(batch, -1)
    lens = token_lens.unsqueeze(1)
    source = (lens - 1 - place) if reverse else place
    padded = torch.nn.functional.pad(tokens, (0, 1))
    taken = padded.gather(1, source.clamp(0, longest))
    ended = torch.where(place == lens, eos, taken)
    return torch.where(place <= lens, ended, 0)
