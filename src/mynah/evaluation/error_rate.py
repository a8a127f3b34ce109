"""Word, character and mixed error rates: of a set, of each utterance, of groups of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mynah.errors import InputError, nearest
from mynah.evaluation.alignment import align, count_edits, format_alignment
from mynah.text.characters import ALONE
from mynah.text.scoring import normalize_for_scoring, without_spaces

Unit = Literal["word", "char", "mixed"]
NAMES: Mapping[str, str] = {"word": "WER", "char": "CER", "mixed": "MER"}


@dataclass(frozen=True)
class ErrorRate:
    """Edits that make the hypotheses of the references, and the tokens of the references."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    total: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference token; may pass 1. Without a reference token: 0 or infinity."""
        if self.total:
            return self.errors / self.total
        return float("inf") if self.errors else 0.0

    def __add__(self, other: ErrorRate) -> ErrorRate:
        return ErrorRate(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.total + other.total,
        )

    def __str__(self) -> str:
        return (
            f"{100 * self.rate:.2f} % ({self.substitutions} substituted, {self.deletions} deleted,"
            f" {self.insertions} inserted, of {self.total})"
        )


@dataclass(frozen=True)
class Utterance:
    """A reference and what was recognised; ``groups`` such as ``{"speaker": "0012"}``, and its
    language where it is not that of the whole set."""

    id: str
    ref: str
    hyp: str
    groups: Mapping[str, str] = field(default_factory=dict)
    language: str = ""


@dataclass(frozen=True)
class Interval:
    """Where a rate lies with probability ``level``, by bootstrap."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Report:
    """Scores of a set: ``utterances[n]`` has ``scores[n]``; texts are in the form scored."""

    unit: Unit
    utterances: tuple[Utterance, ...]
    scores: tuple[ErrorRate, ...]

    @property
    def name(self) -> str:
        """``"WER"``, ``"CER"`` or ``"MER"``."""
        return NAMES[self.unit]

    @property
    def total(self) -> ErrorRate:
        return _sum(self.scores)

    def by(self, group: str) -> dict[str, ErrorRate]:
        """Rates by the value of ``group``, sorted by value; utterances without one are ``""``."""
        found: dict[str, list[ErrorRate]] = {}
        for utterance, score in zip(self.utterances, self.scores, strict=True):
            found.setdefault(utterance.groups.get(group, ""), []).append(score)
        return {value: _sum(found[value]) for value in sorted(found)}

    def worst(self, count: int) -> list[tuple[Utterance, ErrorRate]]:
        """The ``count`` utterances with the most errors, most first."""
        scored = zip(self.utterances, self.scores, strict=True)
        return sorted((s for s in scored if s[1].errors), key=lambda s: -s[1].errors)[:count]

    def interval(
        self, level: float = 0.95, *, by: str = "", samples: int = 1000, seed: int = 0
    ) -> Interval:
        """Bootstrap confidence interval of the total rate.

        Utterances are drawn with replacement, or, with ``by="speaker"``, whole speakers: what one
        speaker said is not independent, so this interval is wider and the honest one for a set with
        few of them. The interval is between percentiles of ``samples`` draws. Bisani and Ney,
        "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.
        """
        scores = list(self.by(by).values()) if by else list(self.scores)
        if not scores:
            return Interval(0.0, 0.0, level)
        errors = np.array([s.errors for s in scores], np.float64)
        totals = np.array([s.total for s in scores], np.float64)
        rng = np.random.default_rng(seed)
        rates = np.empty(samples)
        for n in range(samples):
            drawn = rng.integers(len(scores), size=len(scores))
            rates[n] = errors[drawn].sum() / max(totals[drawn].sum(), 1.0)
        low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high), level)

    def alignment(self, index: int, width: int = 100) -> str:
        """Three aligned lines of an utterance, for a terminal."""
        utterance = self.utterances[index]
        ref, hyp = (split_tokens(text, self.unit) for text in (utterance.ref, utterance.hyp))
        return format_alignment(align(ref, hyp), width)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "metric": self.name,
            "total": rate_to_dict(self.total),
            "utterances": [
                {"id": u.id, "ref": u.ref, "hyp": u.hyp, **dict(u.groups), **rate_to_dict(s)}
                for u, s in zip(self.utterances, self.scores, strict=True)
            ],
        }


def split_tokens(text: str, unit: Unit = "word") -> list[str]:
    """The tokens that are compared.

    ``word``: between white space. ``char``: every character but white space. ``mixed``: hanzi and
    kana one by one, everything else between white space and them as words (for MER of Chinese mixed
    with English).

    Raises:
        InputError: an unknown unit.
    """
    if unit == "word":
        return text.split()
    if unit == "char":
        return [char for char in text if not char.isspace()]
    if unit == "mixed":
        return ALONE.sub(r" \g<0> ", text).split()
    raise InputError(f"unit {unit!r} is none of word, char, mixed{nearest(unit, NAMES)}")


def error_rate(pairs: Iterable[tuple[str, str]], unit: Unit = "word") -> ErrorRate:
    """The error rate over all ``(reference, hypothesis)`` pairs, texts taken as they are."""
    return _sum(error_rates(pairs, unit))


def error_rates(pairs: Iterable[tuple[str, str]], unit: Unit = "word") -> list[ErrorRate]:
    """The error rate of each ``(reference, hypothesis)`` pair, texts taken as they are."""
    tokens = [(split_tokens(ref, unit), split_tokens(hyp, unit)) for ref, hyp in pairs]
    counts = count_edits(tokens).tolist()
    return [
        ErrorRate(s, d, i, len(ref)) for (s, d, i), (ref, _) in zip(counts, tokens, strict=True)
    ]


def score(
    utterances: Iterable[Utterance], *, unit: Unit = "word", language: str | None = "en"
) -> Report:
    """Score utterances after normalising both sides for ``language``, or their own (``None``: as
    they are)."""
    kept = tuple(
        u
        if language is None
        else Utterance(
            u.id,
            normalize_for_scoring(u.ref, u.language or language),
            normalize_for_scoring(u.hyp, u.language or language),
            u.groups,
            u.language,
        )
        for u in utterances
    )
    return Report(unit, kept, tuple(error_rates(((u.ref, u.hyp) for u in kept), unit)))


def unit_of(language: str) -> Unit:
    """The unit a language is scored in: ``mixed`` where it is written without spaces."""
    return "mixed" if without_spaces(language) else "word"


def rate_to_dict(rate: ErrorRate) -> dict[str, Any]:
    """Counts and rate for JSON; the rate is ``None`` where it is infinite."""
    return {
        "rate": rate.rate if np.isfinite(rate.rate) else None,
        "errors": rate.errors,
        "substitutions": rate.substitutions,
        "deletions": rate.deletions,
        "insertions": rate.insertions,
        "total": rate.total,
    }


def _sum(scores: Iterable[ErrorRate]) -> ErrorRate:
    return sum(scores, ErrorRate())
