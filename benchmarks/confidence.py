"""Are confidences probabilities? Fitted on development speakers, shown on test speakers.

    OMP_NUM_THREADS=1 python benchmarks/confidence.py --data FOLDER [--model M] [--limit N]
        [--also MANIFEST ...] [--plot docs/confidence.png] [--record]

FOLDER holds the sets (speechocean762). The map is fitted on the twelve development speakers that
recipes/english/first.toml keeps out of training, and on the sets --also, which no model was trained
on (of those, at most --most utterances each, spread over the set); what it takes is chosen by
leaving out one set at a time. It is shown on the test split, of which --limit takes N utterances,
spread over it. Without a map a word's confidence is the geometric mean of its units' probabilities,
which is what is compared with. --record keeps the map in the model's ``model.toml`` (`mynah
evaluate MANIFEST --where speaker=... --calibrate` does the same without the test, on one set).
"""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from mynah.cli.calibrate import Words, collect, fit
from mynah.config import as_dict
from mynah.evaluation.calibration import (
    calibration_error,
    normalized_cross_entropy,
    reliability,
)
from mynah.model_folder import find_model, update_calibration
from mynah.runtime.recognizer import load

RECIPE = Path(__file__).parents[1] / "recipes" / "english" / "first.toml"
LEAST = 10  # words of a point in the plot
SET = "speechocean762/manifest.tsv"


def development_speakers() -> list[str]:
    """The speakers that the recipe keeps out of training."""
    recipe = tomllib.loads(RECIPE.read_text("utf-8"))
    entry = next(item for item in recipe["data"]["train"] if item["manifest"] == SET)
    speakers: list[str] = entry["exclude"]["speaker"]
    return speakers


def plot(path: Path, words: Words, mapped: list[float], title: str) -> None:
    """Reliability before and after, and how many words each confidence has."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(
        2, 1, figsize=(5.2, 6.4), height_ratios=(3, 1), sharex=True, layout="constrained"
    )
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="as it should be")
    for name, values, colour in (
        ("mean of probabilities", words.plain, "#c44e52"),
        ("calibrated", mapped, "#4c72b0"),
    ):
        table = [item for item in reliability(values, words.right) if item.count >= LEAST]
        error = calibration_error(values, words.right)
        label = f"{name}: error {error:.1%}"
        upper.plot([b.confidence for b in table], [b.right for b in table], "o-", color=colour,
                   label=label)  # fmt: skip
        lower.hist(values, bins=20, range=(0, 1), histtype="step", color=colour)
    upper.set(ylabel="share of words that are right", ylim=(0, 1), title=title)
    upper.legend(loc="upper left", fontsize=8)
    lower.set(xlabel="confidence", ylabel="words", xlim=(0, 1))
    figure.savefig(path, dpi=100, metadata={"Software": None})


def left_out(sets: list[Words], data: str) -> None:
    """Print what a map of the other sets gives on each."""
    for words, name in zip(sets, data.split("; "), strict=True):
        others = [other for other in sets if other is not words]
        if others:
            found = fit(others, "")
            values = [found(facts) or 0.0 for facts in words.facts]
            share = sum(words.right) / len(words.right)
            print(f"left out: {name[:40]:<42} right {share:6.1%}  error "
                  f"{calibration_error(words.plain, words.right):6.1%} -> "
                  f"{calibration_error(values, words.right):6.1%}, cross entropy "
                  f"{normalized_cross_entropy(words.plain, words.right):.3f} -> "
                  f"{normalized_cross_entropy(values, words.right):.3f}")  # fmt: skip


def main() -> None:
    """Fit, measure, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--model", metavar="M")
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--also", metavar="MANIFEST", nargs="*", default=[])
    parser.add_argument("--most", type=int, metavar="N", default=200)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    recognizer = load(args.model)
    manifest, speakers = str(args.data / SET), development_speakers()
    none: dict[str, Any] = {}
    held_out = collect(recognizer, manifest, where={"speaker": speakers}, exclude=none)
    data = f"{SET}, speakers {' '.join(speakers)}"
    sets = [held_out]
    for also in args.also:
        sets.append(
            collect(recognizer, also, where=none, exclude=none, limit=args.most, spread=True)
        )
        data += f"; {Path(also).parent.name}"
    calibration = fit(sets, data)
    test = collect(
        recognizer, manifest, where={"split": "test"}, exclude=none, limit=args.limit, spread=True
    )
    mapped = [calibration(facts) or 0.0 for facts in test.facts]
    print(
        f"{recognizer.info.name} ({recognizer.model.engine.name}): fitted on "
        f"{calibration.words} words of {len(sets)} sets, shown on {len(test.right)} "
        f"words of {test.utterances} test utterances, {sum(test.right) / len(test.right):.1%} right"
    )
    print(f"it takes {', '.join(calibration.facts)}")
    left_out(sets, data)
    print(f"{'':<22}{'calibration error':>20}{'cross entropy':>16}")
    for name, values in (("mean of probabilities", test.plain), ("calibrated", mapped)):
        error = calibration_error(values, test.right)
        entropy = normalized_cross_entropy(values, test.right)
        print(f"{name:<22}{error:>20.1%}{entropy:>16.3f}")
    before = calibration_error(test.plain, test.right)
    after = calibration_error(mapped, test.right)
    line = {"name": "confidence.calibration_error", "ours": round(after, 4),
            "peer": round(before, 4), "ratio": round(before / after, 2)}  # fmt: skip
    print(json.dumps(line))
    if args.plot:
        plot(args.plot, test, mapped, f"{recognizer.info.name}, speechocean762 test")
    if args.record:
        update_calibration(find_model(args.model), as_dict(calibration))


if __name__ == "__main__":
    main()
