"""What `mynah evaluate --calibrate` does: fit a model's confidences on recordings.

They must not be those that the model learnt from. Which facts of a word the map takes is chosen by
what it gives on the recordings that it was not fitted on: each set in turn, or parts of the one
that there is. The map is kept in the model's own ``model.toml``, table ``[confidence]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli import common, whisper_flags
from mynah.errors import InputError

if TYPE_CHECKING:
    from mynah.corpus.select import Conditions
    from mynah.runtime.confidence import Calibration, Facts
    from mynah.runtime.recognizer import Recognizer

# the surer the units and the search, the surer the word
RISING = frozenset(["log_mean", "log_least", "logit", "utterance", "margin", "lm"])
# what a map may take; the first that none is better than is taken
CANDIDATES = (
    ("logit",),
    ("log_mean", "log_least", "log_units", "log_frames"),
    ("logit", "log_units", "utterance"),
    ("logit", "log_units", "margin"),
    ("logit", "log_units", "utterance", "margin"),
    ("logit", "log_units", "margin", "lm"),
    ("logit", "log_units", "utterance", "margin", "lm"),
)
PARTS = 4  # of one set, when there is but one


@dataclass
class Words:
    """Recognised words of a set."""

    facts: list[Facts] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)  # confidence without a map
    right: list[bool] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)  # the utterance of each
    utterances: int = 0

    def known(self, names: Sequence[str]) -> list[list[float]] | None:
        """The facts of these names (N, F); None where one is not known of all words."""
        from mynah.runtime.confidence import FACTS

        columns = [FACTS.index(name) for name in names]
        rows = [[facts[column] for column in columns] for facts in self.facts]
        whole = [[value for value in row if value is not None] for row in rows]
        return whole if all(len(row) == len(names) for row in whole) else None

    def parts(self, count: int) -> list[Words]:
        """The same in parts, whole utterances that follow each other."""
        found = [Words() for _ in range(count)]
        for facts, plain, right, owner in zip(
            self.facts, self.plain, self.right, self.owners, strict=True
        ):
            part = found[owner * count // max(self.utterances, 1)]
            part.facts.append(facts)
            part.plain.append(plain)
            part.right.append(right)
        return [part for part in found if part.right]


def collect(
    recognizer: Recognizer,
    manifest: str,
    *,
    where: Conditions,
    exclude: Conditions,
    root: str | None = None,
    limit: int | None = None,
    options: Any = None,
    spread: bool = False,
) -> Words:
    """Recognise the utterances of a manifest and compare them with their texts.

    ``limit`` takes the first so many, or with ``spread`` some of the whole manifest.
    """
    from mynah.audio import read
    from mynah.corpus import load, read_manifest
    from mynah.evaluation.calibration import right_words
    from mynah.runtime.calibrate import recognised
    from mynah.runtime.request import Request, plan

    model, found = recognizer.model, Words()
    decoder = plan(model, Request(options=options)).decoder  # as it will be used, all its parts
    language = model.language(None) or "en"
    spoilt: list[str] = []
    cuts = read_manifest(
        manifest, root=root, where=where, exclude=exclude,
        on_error=lambda name, reason: spoilt.append(f"{name}: {reason}"),
    )  # fmt: skip
    chosen = list(cuts) if spread else cuts
    if spread and limit is not None and isinstance(chosen, list):
        chosen = chosen[:: max(len(chosen) // limit, 1)]
    for cut in chosen:
        if limit is not None and found.utterances >= limit:
            break
        if not cut.text.strip():
            continue
        try:
            words = recognised(decoder, load(cut, read, rate=model.rate))
        except InputError as error:
            spoilt.append(f"{cut.id}: {error}")
            continue
        found.owners += [found.utterances] * len(words)
        found.utterances += 1
        found.right += right_words([text for text, _, _ in words], cut.text, language)
        found.facts += [facts for _, facts, _ in words]
        found.plain += [plain for _, _, plain in words]
    for line in spoilt:
        print(line, file=sys.stderr)
    return found


def fit(sets: Sequence[Words], data: str) -> Calibration:
    """The map that gives most on sets that it was not fitted on, fitted on all; with another, for
    words of which the search knows nothing.

    Raises:
        InputError: there is nothing to fit.
    """
    from mynah.runtime.confidence import ALWAYS

    searched = [names for names in CANDIDATES if not set(names) <= set(ALWAYS)]
    plain = _best([names for names in CANDIDATES if names not in searched], sets, data)
    if plain is None:
        raise InputError("confidence cannot be fitted: no words")
    best = _best(CANDIDATES, sets, data)
    if best is None or best.facts == plain.facts:
        return plain
    return dataclasses.replace(best, otherwise=plain)


def _best(
    candidates: Sequence[tuple[str, ...]], sets: Sequence[Words], data: str
) -> Calibration | None:
    """The map of the facts that lose least on the words left out in turn."""
    parts = list(sets) if len(sets) > 1 else sets[0].parts(PARTS)
    best: tuple[str, ...] | None = None
    least = math.inf
    for names in candidates:
        if any(words.known(names) is None for words in sets):
            continue
        loss = _left_out(names, parts)
        if best is None or loss < least - 1e-9:
            best, least = names, loss
    return None if best is None else _fitted(best, sets, data)


def _left_out(names: tuple[str, ...], parts: Sequence[Words]) -> float:
    """The mean over parts of what a word costs there, in nats, by a map of the others."""
    from mynah.evaluation.calibration import log_loss

    losses = []
    for part in parts:
        others = [other for other in parts if other is not part]
        try:
            found = _fitted(names, others, "")
        except InputError:  # all right or all wrong
            continue
        losses.append(log_loss([found(facts) or 0.0 for facts in part.facts], part.right))
    return sum(losses) / len(losses) if losses else math.inf


def _fitted(names: tuple[str, ...], sets: Sequence[Words], data: str) -> Calibration:
    """The map of these facts on all sets."""
    from mynah.evaluation.calibration import fit_logistic
    from mynah.runtime.confidence import Calibration

    facts = [row for words in sets for row in words.known(names) or ()]
    right = [truth for words in sets for truth in words.right]
    rising = [place for place, name in enumerate(names) if name in RISING]
    weights, bias = fit_logistic(facts, right, rising=rising)
    return Calibration(
        weights=tuple(round(weight, 5) for weight in weights),
        bias=round(bias, 5),
        words=len(right),
        data=data,
        facts=names,
    )


def run(args: argparse.Namespace) -> int:
    """Recognise, fit, keep, and say what changed."""
    from mynah.cli.evaluate import parse_conditions
    from mynah.config import as_dict
    from mynah.evaluation.calibration import calibration_error, normalized_cross_entropy
    from mynah.model_folder import update_calibration

    recognizer = common.choice(args).load()
    whisper_flags.refuse(args, recognizer.info.name)
    words = collect(
        recognizer,
        args.manifest,
        where=parse_conditions(args.where),
        exclude=parse_conditions(args.exclude),
        root=args.root,
        limit=args.limit,
        options=common.decoding_options(args, recognizer),
    )
    where = Path(args.manifest)  # not the whole path, which is nobody else's
    data = " ".join(["/".join(where.parts[-2:]), *args.where])
    calibration = fit([words], data)
    update_calibration(common.choice(args).find(), as_dict(calibration))
    print(f"{words.utterances} utterances, {len(words.right)} words, "
          f"{sum(words.right) / len(words.right):.1%} of them right")  # fmt: skip
    print(f"the map takes {', '.join(calibration.facts)}")
    mapped = [calibration(facts) or 0.0 for facts in words.facts]
    for name, values in (("before", words.plain), ("after", mapped)):
        error = calibration_error(values, words.right)
        entropy = normalized_cross_entropy(values, words.right)
        print(f"{name:>6}: calibration error {error:.1%}, normalised cross entropy {entropy:.3f}")
    return 0
