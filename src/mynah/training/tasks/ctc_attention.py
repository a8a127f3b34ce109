"""Recognition by CTC and attention at once: U2 (arXiv:2012.05481) and U2++ (arXiv:2106.05642).

The loss of an utterance is ``w ctc + (1 - w) ((1 - r) left + r right)``: CTC on the encoder, the
label-smoothed cross entropy of the left-to-right decoder and, for U2++, of the right-to-left one.
With dynamic chunks the encoder sees, half of the time, the whole utterance, otherwise chunks of
``min_chunk`` to ``max_chunk`` frames, so that the same weights serve offline and live.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mynah.config import build
from mynah.data.loader import Batch
from mynah.decoding import Hypothesis, PrefixBeamSearch, ctc_greedy, rescore
from mynah.decoding.ngram import load_ngram
from mynah.errors import ConfigError
from mynah.evaluation.error_rate import ErrorRate, error_rate
from mynah.losses import consistency_loss, ctc_loss, label_smoothing_loss
from mynah.losses.ctc import room_for
from mynah.losses.lfmmi import denominator, grammar_from, path_sums
from mynah.models.u2.deepen import count_layers, deepen
from mynah.models.u2.model import NOT_LIVE, U2, U2Config
from mynah.nn.mask import valid_mask
from mynah.text import Tokenizer, normalize_for_scoring
from mynah.training.capture import CapturedLayers, CapturedSums
from mynah.training.config import EvaluateConfig
from mynah.training.optimisation import mix
from mynah.training.task import Losses, Place, Turn, compile_blocks

FAMILY = "u2"
LABELS = "text"  # what a batch's tokens are
STATISTICS = ("mean", "istd")  # the model's buffers that hold those of its features


@dataclass(frozen=True)
class Options:
    """The table ``task`` of a recipe, ``kind`` aside."""

    ctc_weight: float = 0.3
    smoothing: float = 0.1  # of the decoders' labels
    reverse_weight: float = 0.3  # of the right-to-left decoder, where the model has one
    dynamic_chunk: bool | None = None  # not given: where the convolutions do not look ahead
    min_chunk: int = 1  # encoder frames
    max_chunk: int = 25
    full_context: float = 0.5  # share of the steps that see whole utterances
    dynamic_left: bool = False  # also draw how many chunks to the left are seen
    # of the cross entropy with the units that data.alignment says sound in each frame
    alignment_weight: float = 0.0
    # of CTC after the middle layer, by the same output layer: an encoder that is trained so needs
    # less data (Lee and Watanabe 2021, arXiv:2102.03216)
    middle_weight: float = 0.0
    # of the divergence of two views of an utterance (data.views = 2) from one another: CR-CTC
    # (arXiv:2410.05101), which takes 0.2
    consistency_weight: float = 0.0
    # of the logarithm of what all sequences of units are worth together: MMI, by an n-gram of the
    # units (`mynah data units`, `mynah lm train`), of which three are used
    mmi_weight: float = 0.0
    grammar: str = ""  # its file
    captured: bool = False  # on a GPU, the encoder's layers, and the sums of MMI, as CUDA graphs

    def __post_init__(self) -> None:
        for name in ("ctc_weight", "reverse_weight", "full_context"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: must be between 0 and 1, got {getattr(self, name)}")
        if not 0.0 <= self.smoothing < 1.0:
            raise ConfigError(f"smoothing: must be from 0 to below 1, got {self.smoothing}")
        for name in ("alignment_weight", "middle_weight", "consistency_weight", "mmi_weight"):
            if getattr(self, name) < 0.0:
                raise ConfigError(f"{name}: is negative: {getattr(self, name)}")
        if (self.mmi_weight > 0) != bool(self.grammar):
            raise ConfigError("mmi_weight: goes with grammar, the file of an n-gram model of units")
        if self.mmi_weight > self.ctc_weight:  # units that no text has would be worth more and more
            raise ConfigError(
                f"mmi_weight: is at most ctc_weight ({self.ctc_weight}), got {self.mmi_weight}"
            )
        if not 1 <= self.min_chunk <= self.max_chunk:
            raise ConfigError(
                f"min_chunk, max_chunk: {self.min_chunk} to {self.max_chunk} is no range from 1 on"
            )


@dataclass(frozen=True)
class Chunk:
    """How much an encoder frame sees: ``size`` frames at once (None: all) and chunks before."""

    size: int | None = None
    left: int | None = None  # None: all


def settled(options: Options, model: U2) -> Options:
    """The options with ``dynamic_chunk`` decided."""
    if options.dynamic_chunk is not None:
        return options
    causal = model.config.encoder.convolution != "symmetric"
    return dataclasses.replace(options, dynamic_chunk=causal)


def draw_chunk(options: Options, place: Place, frames: int) -> Chunk:
    """The chunk of a step: the same for all batches and workers of it.

    The left context, where it is drawn, is a share of the chunks that ``frames`` encoder frames
    make, so a longer batch may see more of them.
    """
    if not options.dynamic_chunk:
        return Chunk()
    dice = random.Random(mix(place.seed, "chunk", place.step))
    full, size = dice.random(), dice.randint(options.min_chunk, options.max_chunk)
    share = dice.random()
    if full < options.full_context:
        return Chunk()
    if not options.dynamic_left:
        return Chunk(size)
    return Chunk(size, int(share * max((frames - 1) // size, 1)))


def make_model(
    values: Mapping[str, Any], tokenizer: Tokenizer, feature_dim: int, *, extra_units: int = 0
) -> U2:
    """The model of the table ``model``; what tokenizer and front end decide is not in it.

    ``extra_units`` are units beyond the tokenizer's.

    Raises:
        ConfigError: a wrong key or value, or one that contradicts tokenizer or front end.
    """
    decided = {
        "vocab_size": tokenizer.vocab_size + extra_units,
        "feature_dim": feature_dim,
        "blank": tokenizer.blank,
        "sos": tokenizer.sos,
        "eos": tokenizer.eos,
    }
    given = {key: value for key, value in values.items() if key != "family"}
    for key in decided.keys() & given.keys():
        if given[key] != decided[key]:
            source = "front end" if key == "feature_dim" else "tokenizer"
            raise ConfigError(
                f"model.{key}: {given[key]} in the recipe, {decided[key]} by the {source}; leave "
                "it out"
            )
    if values.get("family", FAMILY) != FAMILY:
        raise ConfigError(f"model.family: this task trains {FAMILY}, not {values['family']!r}")
    return U2(build(U2Config, {**given, **decided}, "model"))


def streaming(model: U2, options: Options) -> dict[str, Any]:
    """The chunk (encoder frames) and left context (chunks) for live use, or why there is none."""
    if model.config.encoder.convolution == "symmetric":
        return dict(NOT_LIVE)
    options = settled(options, model)
    return {"chunk": min(16, options.max_chunk), "left": 4} if options.dynamic_chunk else {}


def decoding(model: U2, options: Options) -> dict[str, Any]:
    """The search that suits the model."""
    if model.decoder is None or options.ctc_weight == 1:
        return {"method": "prefix_beam"}
    reverse = options.reverse_weight if model.reverse_decoder is not None else 0.0
    return {"method": "rescoring", "ctc_weight": 0.5, "reverse_weight": reverse}


def fitted(tensors: dict[str, Tensor], model: U2) -> tuple[dict[str, Tensor], str]:
    """The weights of ``init`` for a model with more layers, and a line about that if there are."""
    config = model.config.encoder
    more = config.layers - count_layers(tensors)
    if more <= 0 or not config.norm_first:
        return tensors, ""
    return deepen(tensors, config.layers), f"{more} layers are put between those of init"


def make_task(
    model: U2, tokenizer: Tokenizer, options: Options, evaluate: EvaluateConfig
) -> CtcAttention:
    """The task over a model."""
    return CtcAttention(model, tokenizer, options, evaluate)


def _numbers(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


class CtcAttention:
    """The task ``ctc_attention`` over a :class:`~mynah.models.u2.model.U2`."""

    parts: tuple[str, ...]
    sums = ("errors", "words", "utterances", "loss")
    selection = "error_rate"

    def __init__(
        self, model: U2, tokenizer: Tokenizer, options: Options, evaluate: EvaluateConfig
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.options, self.evaluation = settled(options, model), evaluate
        self.turns = (Turn("recognizer", model),)
        if model.decoder is None and options.ctc_weight < 1:
            raise ConfigError(
                f"task.ctc_weight: must be 1 without a decoder, got {options.ctc_weight}"
            )
        self.reverse_weight = options.reverse_weight if model.reverse_decoder is not None else 0.0
        names = ["ctc"] if options.ctc_weight > 0 else []
        if options.ctc_weight < 1:
            names += ["left"] + (["right"] if self.reverse_weight > 0 else [])
        if options.alignment_weight > 0:
            names.append("alignment")
        if options.consistency_weight > 0:
            names.append("consistency")
        if options.mmi_weight > 0:
            names.append("mmi")
            if not Path(options.grammar).is_file():
                raise ConfigError(f"task.grammar: no such file: {options.grammar}")
            never = {tokenizer.unk, tokenizer.sos, tokenizer.eos}
            self._grammar = grammar_from(
                load_ngram(options.grammar), tokenizer.units, tokenizer.blank, never
            )
        self._middle: Tensor | None = None
        if options.middle_weight > 0:
            names.append("middle")
            layers = model.encoder.layers
            layers[(len(layers) - 1) // 2].register_forward_hook(self._keep_middle)
        self.parts = tuple(names)

        self._sums = CapturedSums() if options.captured else path_sums
        if options.captured:
            if options.middle_weight > 0:
                raise ConfigError("task.captured: not with middle_weight")
            model.encoder.stack = CapturedLayers(model.encoder)

    def _keep_middle(self, layer: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> None:
        self._middle = output[0]

    def losses(self, batch: Batch, turn: str, place: Place) -> Losses:
        """The losses under the chunk of this step.

        Raises:
            ConfigError: ``consistency_weight`` is given, and the batch has no pairs of views.
        """
        if self.options.consistency_weight > 0 and batch.views != 2:
            raise ConfigError("task.consistency_weight: needs data.views = 2")
        chunk = draw_chunk(self.options, place, batch.feats.shape[1] // self.model.subsampling)
        encoded, encoded_lens, _ = self.model(
            batch.feats, batch.feat_lens, None, chunk=chunk.size, left=chunk.left
        )
        return self._losses(batch, encoded, encoded_lens)

    def _losses(self, batch: Batch, encoded: Tensor, encoded_lens: Tensor) -> Losses:
        options, parts = self.options, {}
        if max(options.ctc_weight, options.consistency_weight, options.mmi_weight) > 0:
            logits = self.model.ctc(encoded)
        if options.consistency_weight > 0:
            parts["consistency"] = (
                consistency_loss(logits, encoded_lens)[0]
                if batch.views == 2
                else encoded.new_zeros(())  # of the development set
            )
        if options.ctc_weight > 0:
            parts["ctc"], _ = ctc_loss(
                logits, encoded_lens, batch.tokens, batch.token_lens, blank=self.tokenizer.blank
            )
        if options.mmi_weight > 0:
            self._grammar = self._grammar.to(logits.device)
            # what CTC leaves out is left out here, too
            fits = room_for(batch.tokens, batch.token_lens) <= encoded_lens
            lens = encoded_lens.where(fits, 0)
            parts["mmi"] = denominator(logits, lens, self._grammar, self._sums)
        if options.alignment_weight > 0:
            parts["alignment"] = self._alignment(batch, encoded, encoded_lens)
        if options.middle_weight > 0:
            assert self._middle is not None
            middle, self._middle = self.model.encoder.norm(self._middle), None
            parts["middle"], _ = ctc_loss(
                self.model.ctc(middle), encoded_lens, batch.tokens, batch.token_lens,
                blank=self.tokenizer.blank,
            )  # fmt: skip
        for name in ("left", "right"):
            if name in self.parts:
                parts[name] = self._attention(batch, encoded, encoded_lens, name == "right")
        weights = {
            "ctc": options.ctc_weight,
            "left": (1 - options.ctc_weight) * (1 - self.reverse_weight),
            "right": (1 - options.ctc_weight) * self.reverse_weight,
            "alignment": options.alignment_weight,
            "middle": options.middle_weight,
            "consistency": options.consistency_weight,
            "mmi": options.mmi_weight,
        }
        total = torch.stack([weights[name] * parts[name] for name in self.parts]).sum()
        counts = {
            "utterances": len(batch.ids),
            "tokens": int(batch.token_lens.sum()),
            "frames": int(batch.feat_lens.sum()),
        }
        return Losses(total, {name: part.detach() for name, part in parts.items()}, counts)

    def _alignment(self, batch: Batch, encoded: Tensor, encoded_lens: Tensor) -> Tensor:
        """Which unit sounds, given that it is not the blank: a sum over the frames that are known.

        CTC leaves open where in its sound a unit is said; this tells the encoder what it hears
        without taking that freedom: the blank is left out of the softmax.
        """
        blank, factor = self.tokenizer.blank, self.model.subsampling
        if batch.labels is None:
            return encoded.new_zeros(())
        # the middle of what an encoder frame sees of the features
        at = (
            torch.arange(encoded.shape[1], device=encoded.device) * factor + self.model.overlap // 2
        )
        labels = batch.labels[:, at.clamp(max=batch.labels.shape[1] - 1)]
        known = (labels >= 0) & (labels != blank) & valid_mask(encoded_lens, encoded.shape[1])
        logits = self.model.ctc(encoded[known]).float()
        logits[:, blank] = -torch.inf
        return nn.functional.cross_entropy(logits, labels[known], reduction="sum")

    def _attention(
        self, batch: Batch, encoded: Tensor, encoded_lens: Tensor, reverse: bool
    ) -> Tensor:
        logits = self.model.decode(
            encoded, encoded_lens, batch.tokens, batch.token_lens, reverse=reverse
        )
        targets = self.model.targets(batch.tokens, batch.token_lens, reverse=reverse)
        total, _ = label_smoothing_loss(logits, targets, smoothing=self.options.smoothing)
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
        found = self._errors(batch, hypotheses)
        return {
            "errors": float(found.errors),
            "words": float(found.total),
            "utterances": float(len(batch.ids)),
            "loss": float(losses.total),
        }

    def _errors(self, batch: Batch, hypotheses: Sequence[Hypothesis]) -> ErrorRate:
        decode, unit = self.tokenizer.decode, self.evaluation.unit
        if unit == "token":  # told apart by their numbers, whatever they look like
            rows = zip(batch.tokens.tolist(), batch.token_lens.tolist(), hypotheses, strict=True)
            return error_rate(
                [(_numbers(tokens[:size]), _numbers(h.tokens)) for tokens, size, h in rows]
            )
        pairs = [
            (self._normal(text), self._normal(decode(hypothesis.tokens)))
            for text, hypothesis in zip(batch.texts, hypotheses, strict=True)
        ]
        return error_rate(pairs, unit=unit)

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

    def _prefix_beam(self, log_probs: npt.NDArray[np.float32]) -> list[Hypothesis]:
        beam = self.evaluation.beam
        search = PrefixBeamSearch(beam=beam, top_units=beam, blank=self.tokenizer.blank)
        return search.nbest(search.advance(search.start(), log_probs))

    def _rescore(
        self, nbest: Sequence[Hypothesis], encoded: Tensor, encoded_lens: Tensor
    ) -> Hypothesis:
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
        compile_blocks(self.model)
