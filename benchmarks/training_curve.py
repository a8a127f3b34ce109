"""Loss and development errors of one training that went on over several runs, as a picture.

    python benchmarks/training_curve.py docs/english_training.png runs/phones_1 runs/phones_2 ...

Reads each run's ``log.jsonl`` and ``recipe.toml``. The loss is that of CTC in nats a second of
speech, so that runs on utterances of different lengths can be compared; across, the hours of speech
that were trained on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mynah.config import read_toml


def read_run(folder: Path, start: float) -> tuple[list[tuple[float, float]], Any, float]:
    """Loss (hours, nats a second) and errors (hours, percent) of a run, and where it ended."""
    loss: list[tuple[float, float]] = []
    errors: list[tuple[float, float]] = []
    hours, last = start, 0
    frames = read_toml(folder / "recipe.toml")["data"]["max_frames"]  # of a step
    for line in (folder / "log.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        if record.get("event") == "step":
            seconds = record["audio_seconds_per_second"] / record["utterances_per_second"]
            batches = record["step"] - last
            last = record["step"]
            hours += batches * frames / 100 * FILLED / 3600
            loss.append((hours, record.get("loss/ctc", record["loss"]) / seconds))
        elif record.get("event") == "evaluation":
            errors.append((hours, 100 * record["error_rate"]))
    return loss, errors, hours


FILLED = 0.93  # the part of a step's frames that is no padding


def smooth(points: list[tuple[float, float]], width: int = 8) -> list[tuple[float, float]]:
    """Means of ``width`` points."""
    groups = [points[i : i + width] for i in range(0, len(points), width)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    args = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, left = plt.subplots(figsize=(8, 4))
    right = left.twinx()
    hours = 0.0
    for number, run in enumerate(args.runs):
        loss, errors, hours = read_run(run, hours)
        left.plot(*zip(*smooth(loss), strict=True), color="tab:blue", lw=1.5)
        right.plot(*zip(*errors, strict=True), "o-", color="tab:red", ms=4, lw=1)
        if number:
            left.axvline(loss[0][0], color="0.8", lw=1, zorder=0)
    left.set_xlabel("hours of speech trained on")
    left.set_ylabel("CTC loss (nats a second)", color="tab:blue")
    right.set_ylabel("phone errors, development sets (%)", color="tab:red")
    left.set_ylim(bottom=0)
    right.set_ylim(0, 105)
    figure.tight_layout()
    figure.savefig(args.out, dpi=100)
    print(f"{args.out}: {hours:.0f} hours")


if __name__ == "__main__":
    main()
