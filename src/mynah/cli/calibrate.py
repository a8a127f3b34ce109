"""What `mynah evaluate --calibrate` does: fit a model's confidences on a manifest.

The recordings must not be those that the model learnt from. The map is kept in the model's own
``model.toml``, table ``[confidence]``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli import common
from mynah.errors import InputError

if TYPE_CHECKING:
    from mynah.runtime.calibrate import Facts
    from mynah.runtime.confidence import Calibration
    from mynah.runtime.recognizer import Recognizer

RISING = (0, 1)  # log_mean and log_least: the surer the units, the surer the word


@dataclass
class Words:
    """Recognised words of a set."""

    facts: list[Facts] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)  # confidence without a map
    right: list[bool] = field(default_factory=list)
    utterances: int = 0


def collect(
    recognizer: Recognizer,
    manifest: str,
    *,
    where: dict[str, Any],
    exclude: dict[str, Any],
    root: str | None = None,
    limit: int | None = None,
    options: Any = None,
) -> Words:
    """Recognise the utterances of a manifest and compare them with their texts."""
    from mynah.audio import read
    from mynah.corpus import load, read_manifest
    from mynah.evaluation.calibration import right_words
    from mynah.runtime.calibrate import recognised
    from mynah.runtime.decode import Decoder

    model, found = recognizer.model, Words()
    decoder = Decoder(model, model.decoding_options(options))
    language = model.language(None) or "en"
    spoilt: list[str] = []
    cuts = read_manifest(
        manifest, root=root, where=where, exclude=exclude,
        on_error=lambda name, reason: spoilt.append(f"{name}: {reason}"),
    )  # fmt: skip
    for cut in cuts:
        if limit is not None and found.utterances >= limit:
            break
        if not cut.text.strip():
            continue
        try:
            words = recognised(decoder, load(cut, read, rate=model.rate))
        except InputError as error:
            spoilt.append(f"{cut.id}: {error}")
            continue
        found.utterances += 1
        found.right += right_words([text for text, _, _ in words], cut.text, language)
        found.facts += [facts for _, facts, _ in words]
        found.plain += [plain for _, _, plain in words]
    for line in spoilt:
        print(line, file=sys.stderr)
    return found


def fit(words: Words, data: str) -> Calibration:
    """The map that fits ``words`` best.

    Raises:
        InputError: there is nothing to fit.
    """
    from mynah.evaluation.calibration import fit_logistic
    from mynah.runtime.confidence import Calibration

    weights, bias = fit_logistic(words.facts, words.right, rising=RISING)
    rounded = [round(weight, 5) for weight in weights]
    return Calibration(
        weights=(rounded[0], rounded[1], rounded[2], rounded[3]),
        bias=round(bias, 5),
        words=len(words.right),
        data=data,
    )


def run(args: argparse.Namespace) -> int:
    """Recognise, fit, keep, and say what changed."""
    from mynah.cli.evaluate import parse_conditions
    from mynah.config import as_dict
    from mynah.evaluation.calibration import calibration_error, normalized_cross_entropy
    from mynah.model_folder import find_model, update_calibration

    recognizer = common.choice(args).load()
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
    calibration = fit(words, data)
    update_calibration(find_model(args.model), as_dict(calibration))
    print(f"{words.utterances} utterances, {len(words.right)} words, "
          f"{sum(words.right) / len(words.right):.1%} of them right")  # fmt: skip
    mapped = [calibration(facts) for facts in words.facts]
    for name, values in (("before", words.plain), ("after", mapped)):
        error = calibration_error(values, words.right)
        entropy = normalized_cross_entropy(values, words.right)
        print(f"{name:>6}: calibration error {error:.1%}, normalised cross entropy {entropy:.3f}")
    return 0
