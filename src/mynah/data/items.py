"""From a request for a batch to the batch: decoding, augmentation, features, tokens, padding.

What becomes of an utterance is a function of the configuration and (seed, epoch, utterance), so
it does not matter which process does it, or beside which others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mynah import audio
from mynah.audio.augment import at_places, speed
from mynah.audio.features import Frontend
from mynah.corpus.cut import Cut
from mynah.corpus.lines import LineManifest
from mynah.corpus.runs import SILENCE, Run, parse_runs
from mynah.corpus.samples import load
from mynah.data import pieces
from mynah.data.augment import Augmenter, Reject
from mynah.data.config import DataConfig, SourceConfig, TextForm
from mynah.errors import InputError, MissingDependency

if TYPE_CHECKING:
    from mynah.text import Tokenizer

log = logging.getLogger(__name__)
T = TypeVar("T")
_TEMPO = 1 << 31  # of what is drawn for an utterance, its rhythm


@dataclass
class Batch:
    """Utterances padded to a common length, in the order of ``ids``."""

    ids: tuple[str, ...]
    feats: Tensor  # (B, T, F) float32, zeros after feat_lens
    feat_lens: Tensor  # (B,) int64
    tokens: Tensor  # (B, U) int64, zeros after token_lens; or a label a frame, (B, T)
    token_lens: Tensor  # (B,) int64
    texts: tuple[str, ...]
    # (B, T) int64: the unit that sounds in a frame of feats, the blank in silence, -1: not known
    labels: Tensor | None = None
    views: int = 1  # rows of an utterance, each varied in its own way, one after another


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance of a request."""

    source: int
    position: int
    key: int
    factor: float
    frames: int  # expected; what the batch was planned with
    cut: Cut | None = None  # with its audio, where the manifest is a stream


@dataclass(frozen=True, slots=True)
class Request:
    """A batch to be made."""

    epoch: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch that was made, and what was left out of it: (id, reason)."""

    batch: Batch | None
    rejected: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recording and what is to be learnt of it."""

    id: str
    samples: npt.NDArray[np.float32]  # (S,)
    tokens: list[int]
    text: str
    labels: npt.NDArray[np.int64] | None  # (T,), where the manifest tells which unit sounds when
    runs: tuple[Run, ...]  # the same as the manifest has it
    speaker: str  # empty where not known


@dataclass(frozen=True, slots=True)
class _Ready:
    id: str
    feats: npt.NDArray[np.float32]  # (T, F)
    tokens: list[int]
    text: str
    labels: npt.NDArray[np.int64] | None = None  # (T,)


_Views = tuple[_Ready, ...]  # of one utterance


class Examples(Protocol):
    """Makes of a recording, without its text, what a task with a label a frame learns from."""

    def __call__(
        self, rng: np.random.Generator, samples: npt.NDArray[np.float32], reject: Reject
    ) -> tuple[npt.NDArray[np.float32], list[int]]:
        """Features (T, F) and T labels.

        Raises:
            InputError: the recording cannot be used.
        """
        ...


class Targets(Protocol):
    """Makes the tokens of an utterance where a task wants more of it than its text."""

    @property
    def margin(self) -> float:
        """Seconds of silence put after each utterance."""
        ...

    def check(self, cut: Cut, language: str) -> None:
        """Refuse an utterance whose columns say what the model does not know.

        Raises:
            InputError: the line names the column and its value.
        """
        ...

    def __call__(
        self,
        rng: np.random.Generator,
        cut: Cut,
        language: str,
        factor: float,
        shape: Callable[[str], str],
    ) -> list[int]:
        """The tokens; the speech has become faster by ``factor``, and ``shape`` brings a text into
        the form that is trained on.

        Raises:
            InputError: the utterance cannot be used.
        """
        ...


class ItemReader:
    """Makes batches. It can be sent to other processes."""

    def __init__(
        self,
        config: DataConfig,
        sources: Sequence[SourceConfig],
        manifests: Sequence[LineManifest],
        tokenizer: Tokenizer | None,
        frontend: Frontend,
        augmenter: Augmenter | None,
        seed: int,
        examples: Examples | None = None,
        targets: Targets | None = None,
        views: int = 1,
    ) -> None:
        self.config = config
        self.sources = tuple(sources)
        self.manifests = tuple(manifests)
        self.tokenizer = tokenizer
        self.frontend = frontend
        self.augmenter = augmenter
        self.seed = seed
        self.examples = examples
        self.targets = targets
        self.views = views
        self.ids = {unit: n for n, unit in enumerate(tokenizer.units)} if tokenizer else {}

    def __getitem__(self, request: Request | None) -> Loaded:
        if request is None:
            return Loaded(None, ())
        ready: list[_Views] = []
        rejected: list[tuple[str, str]] = []
        for item in request.items:
            made = self._tried(
                item,
                rejected,
                partial(self._made, item=item, epoch=request.epoch, rejected=rejected),
            )
            if made is not None:
                ready.append(made)
        self._fit(ready, request, rejected)
        batch = collate([view for views in ready for view in views]) if ready else None
        if batch is not None:
            batch.views = self.views
        return Loaded(batch, tuple(rejected))

    def utterance(self, item: Item) -> tuple[Utterance | None, list[tuple[str, str]]]:
        """An utterance as it was recorded, neither varied nor made into features.

        Returns ``None`` where it cannot be used, and what was rejected: (id, reason).
        """
        rejected: list[tuple[str, str]] = []
        return self._tried(item, rejected, partial(self._utterance, item=item)), rejected

    def units(self, item: Item) -> list[int]:
        """The tokens of an utterance's text, unknown ones too; none where it cannot be used."""
        found = self._tried(item, [], lambda cut: self._encoded(cut, item, 0))
        return found[1] if found else []

    def _tried(
        self, item: Item, rejected: list[tuple[str, str]], make: Callable[[Cut], T]
    ) -> T | None:
        """What ``make`` makes of an item's cut; ``None``, with the reason noted, if it cannot."""
        name = f"{self.sources[item.source].manifest}@{item.position}"
        try:
            cut = item.cut or self.manifests[item.source].at(item.position)
            name = cut.id
            return make(cut)
        except (MissingDependency, ImportError):  # of the installation, not of the recording
            raise
        except InputError as error:
            rejected.append((name, str(error)))
        except Exception as error:  # a decoder that fails in its own way; the rest goes on
            log.debug("%s", name, exc_info=True)
            rejected.append((name, f"{type(error).__name__}: {error}"))
        return None

    def _utterance(self, cut: Cut, item: Item) -> Utterance:
        text, tokens = self._text(cut, item, 0)
        samples = self._samples(cut)
        frames = self.frontend.num_frames(len(samples))
        if self.tokenizer:
            _check_room(tokens, frames, self.config.subsampling or 1)
        runs = self._runs(cut)
        return Utterance(cut.id, samples, tokens, text, self._labels(runs, frames, 1.0), runs,
                         cut.speaker)  # fmt: skip

    def _samples(self, cut: Cut) -> npt.NDArray[np.float32]:
        samples = load(
            cut, audio.read, rate=self.frontend.rate, max_seconds=2 * self.config.max_seconds + 1
        )
        _check_length(cut, len(samples) / self.frontend.rate, self.config)
        return samples

    def _made(self, cut: Cut, item: Item, epoch: int, rejected: list[tuple[str, str]]) -> _Views:
        """The views of an utterance, which differ in what is drawn for them alone."""
        make = self._item if self.examples is None else self._example
        return tuple(
            # the first is what it is without others
            make(cut, item, epoch, rejected, [] if view == 0 else [view + 1])
            for view in range(self.views)
        )

    def _item(
        self, cut: Cut, item: Item, epoch: int, rejected: list[tuple[str, str]], view: list[int]
    ) -> _Ready:
        text, tokens = self._text(cut, item, epoch)
        samples, runs = self._samples(cut), self._runs(cut)
        rng = np.random.default_rng([self.seed, epoch, item.key])
        if self.augmenter is not None:
            samples, runs, tokens = self._piece(rng, samples, runs, tokens)
            if view:  # of the same piece
                rng = np.random.default_rng([self.seed, epoch, item.key, *view])
            samples = self.augmenter.samples(
                rng, samples, item.factor, lambda name, reason: rejected.append((name, reason))
            )
        if self.targets is not None:
            samples = np.pad(samples, (0, round(self.targets.margin * self.frontend.rate)))
        feats = self.frontend(samples)
        if not np.isfinite(feats).all():
            raise InputError("gives features that are not numbers")
        labels = self._labels(runs, len(feats), item.factor)
        if self.augmenter is not None:
            # the same for all views, whose frames are compared
            paced = np.random.default_rng([self.seed, epoch, item.key, _TEMPO])
            places = self.augmenter.tempo(paced, len(feats))
            if places is not None:
                feats = at_places(feats, places)
                labels = None if labels is None else labels[np.rint(places).astype(np.int64)]
            feats = self.augmenter.feats(rng, feats)
        if self.tokenizer and self.targets is None:
            _check_room(tokens, len(feats), self.config.subsampling or 1)
        return _Ready(cut.id, feats, tokens, text, labels)

    def _piece(
        self,
        rng: np.random.Generator,
        samples: npt.NDArray[np.float32],
        runs: tuple[Run, ...],
        tokens: list[int],
    ) -> tuple[npt.NDArray[np.float32], tuple[Run, ...], list[int]]:
        """At times only a piece of an utterance, at times with silence around it."""
        crop, silence = self.config.crop, self.config.silence
        if crop is not None and self.tokenizer and runs and rng.random() < crop.probability:
            samples, runs = pieces.crop(rng, samples, runs, self.ids, crop, self.frontend.rate)
            tokens = [self.ids[name] for name, _ in runs if name in self.ids]
        if silence is not None and rng.random() < silence.probability:
            samples, lead, tail = pieces.surround(rng, samples, silence, self.frontend.rate)
            runs = ((SILENCE, lead), *runs, (SILENCE, tail)) if runs else ()
        return samples, runs, tokens

    def _text(self, cut: Cut, item: Item, epoch: int) -> tuple[str, list[int]]:
        """The text of an utterance and its tokens, some of which the tokenizer knows."""
        text, tokens = self._encoded(cut, item, epoch)
        unknown = None if self.tokenizer is None else self.tokenizer.unk
        if not text or (self.tokenizer and not set(tokens) - {unknown}):
            raise InputError("has no text that a model could learn")
        return text, tokens

    def _encoded(self, cut: Cut, item: Item, epoch: int) -> tuple[str, list[int]]:
        source = self.sources[item.source]
        language = cut.language or source.language
        shape = partial(shape_text, form=source.text or self.config.text, language=language)
        text, tokens = shape(cut.text), list[int]()
        if text and self.targets is not None:
            rng = np.random.default_rng([self.seed, epoch, item.key, 1])
            tokens = self.targets(rng, cut, language, item.factor, shape)
        elif text and self.tokenizer:
            tokens = self.tokenizer.encode(text)
        return text, tokens

    def _runs(self, cut: Cut) -> tuple[Run, ...]:
        """Which unit sounds when, where the recipe asks for it and the manifest says so."""
        column = self.config.alignment
        runs = parse_runs(cut.value(column)) if column else ()
        unknown = next((n for n, _ in runs if n != SILENCE and n not in self.ids), None)
        if unknown is not None and self.tokenizer is not None:
            raise InputError(f"{column}: the tokenizer has no unit {unknown!r}; mynah data align "
                             "writes those of a model")  # fmt: skip
        return runs

    def _labels(
        self, runs: Sequence[Run], frames: int, factor: float
    ) -> npt.NDArray[np.int64] | None:
        """What the manifest says of each frame, where the recipe asks for it."""
        if not self.config.alignment or self.tokenizer is None:
            return None
        return frame_labels(runs, self.ids, self.tokenizer.blank, frames, factor)

    def _example(
        self, cut: Cut, item: Item, epoch: int, rejected: list[tuple[str, str]], view: list[int]
    ) -> _Ready:
        """An utterance of a task that labels frames."""
        assert self.examples is not None
        samples = self._samples(cut)
        rng = np.random.default_rng([self.seed, epoch, item.key, *view])
        if item.factor != 1.0:
            samples = speed(samples, item.factor)
        feats, labels = self.examples(
            rng, samples, lambda name, reason: rejected.append((name, reason))
        )
        return _Ready(cut.id, feats, labels, cut.text)

    def _fit(self, ready: list[_Views], request: Request, rejected: list[tuple[str, str]]) -> None:
        """Leave out what is longer than planned, until the batch keeps to its limit."""
        planned = max((item.frames for item in request.items), default=0)
        limit = max(self.config.max_frames // self.views, planned)
        # silence that was put around is not counted: what is planned is what the manifest says
        silence = 0.0 if self.config.silence is None else 2 * self.config.silence.seconds[1]
        more = 0 if self.augmenter is None else math.ceil(silence / self.frontend.frame_shift)
        sizes = [max(len(view.feats) for view in views) for views in ready]
        while sizes and ((longest := max(sizes)) - more) * len(sizes) > limit:
            worst = sizes.index(longest)
            sizes.pop(worst)
            name = ready.pop(worst)[0].id
            rejected.append((name, f"has {longest} frames, more than the manifest says"))


def _check_length(cut: Cut, seconds: float, config: DataConfig) -> None:
    if seconds < config.min_seconds:
        raise InputError(f"decodes to {seconds:.2f} s, below min_seconds = {config.min_seconds:g}")
    if seconds > config.max_seconds:
        raise InputError(f"decodes to {seconds:.2f} s, above max_seconds = {config.max_seconds:g}")
    if cut.duration is not None and abs(seconds - cut.duration) > max(0.5, 0.2 * cut.duration):
        raise InputError(f"decodes to {seconds:.2f} s, the manifest says {cut.duration:.2f} s")


def _check_room(tokens: Sequence[int], frames: int, subsampling: int) -> None:
    """CTC needs a frame a token and a blank between equal ones."""
    repeats = sum(a == b for a, b in pairwise(tokens))
    room = frames // subsampling - 1
    if len(tokens) + repeats > room:
        raise InputError(
            f"has {len(tokens)} tokens ({repeats} doubled) for {max(0, room)} encoder frames"
        )


def shape_text(text: str, form: TextForm, language: str) -> str:
    """The text in the form that is trained on."""
    text = " ".join(text.split())
    if form == "scoring":
        from mynah.text.scoring import normalize_for_scoring

        return normalize_for_scoring(text, language or "en")
    return text.lower() if form == "lower" else text.upper() if form == "upper" else text


def frame_labels(
    runs: Sequence[Run], ids: Mapping[str, int], blank: int, frames: int, factor: float = 1.0
) -> npt.NDArray[np.int64]:
    """The unit ids of ``frames`` frames of 10 ms, (T,), from the runs of an alignment.

    ``ids`` are those of the units by name, ``factor`` is how much faster the speech has become.
    What is no unit is silence, the blank; frames beyond the end, or all if there are no runs, are
    -1.
    """
    labels = np.full(frames, -1, np.int64)
    if not runs:
        return labels
    units = np.array([ids.get(name, blank) for name, _ in runs], np.int64)
    places = np.repeat(units, np.array([length for _, length in runs]))
    at = ((np.arange(frames) + 0.5) * factor).astype(np.int64)
    inside = at < len(places)
    labels[inside] = places[at[inside]]
    return labels


def collate(ready: Sequence[_Ready]) -> Batch:
    """Pad utterances with zeros to the longest."""
    feat_lens = [len(r.feats) for r in ready]
    token_lens = [len(r.tokens) for r in ready]
    feats = torch.zeros(len(ready), max(feat_lens), ready[0].feats.shape[1])
    tokens = torch.zeros(len(ready), max(token_lens), dtype=torch.int64)
    for row, r in enumerate(ready):
        feats[row, : feat_lens[row]] = torch.from_numpy(np.ascontiguousarray(r.feats, np.float32))
        tokens[row, : token_lens[row]] = torch.tensor(r.tokens, dtype=torch.int64)
    labels: Tensor | None = None
    if any(r.labels is not None for r in ready):
        labels = torch.full((len(ready), max(feat_lens)), -1, dtype=torch.int64)
        for row, r in enumerate(ready):
            if r.labels is not None:
                labels[row, : feat_lens[row]] = torch.from_numpy(r.labels)
    return Batch(
        ids=tuple(r.id for r in ready),
        feats=feats,
        feat_lens=torch.tensor(feat_lens, dtype=torch.int64),
        tokens=tokens,
        token_lens=torch.tensor(token_lens, dtype=torch.int64),
        texts=tuple(r.text for r in ready),
        labels=labels,
    )
