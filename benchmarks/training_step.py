"""A step of training: ours against the plain way, in utterances per second.

    python benchmarks/training_step.py [--threads 2] [--compile]
    python benchmarks/training_step.py --curves docs/training_curves.png

The model is that of WeNet's AISHELL recipe: 12 causal conformer blocks, 256 wide, 4 heads, 2048 in
the feed-forward layers, decoders 3 + 3, 4233 units, dropout 0.1; a batch is 16 utterances of 10 s
with 15 to 20 labels, chunks drawn as in training. Ours is the loop of ``mynah train`` in bf16. The
plain way is the same model with the same weights written one operation after another
(``plain_u2.py``), eager, in float32, with Adam and clip_grad_norm_, which is how WeNet trains on a
CPU. Ten steps of each after three of warm-up, in turns so that both see the same machine.

``--curves`` trains both from the same weights for 200 steps at a quarter of the size, on
synthetic utterances whose features follow from their labels, and draws the losses.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from plain_u2 import PlainU2

from mynah.config import build
from mynah.data.loader import Batch
from mynah.models.u2.model import U2, DecoderConfig, EncoderConfig, U2Config
from mynah.text import UnitTokenizer
from mynah.training.config import EvaluateConfig, TrainConfig
from mynah.training.distributed import Workers
from mynah.training.loop import Trainer
from mynah.training.run import matmul_precision
from mynah.training.schedule import learning_rate
from mynah.training.task import Place
from mynah.training.tasks.ctc_attention import CtcAttention, Options, draw_chunk

AISHELL = U2Config(
    vocab_size=4233,
    encoder=EncoderConfig(kernel=8, attention_dropout=0.1),
    decoder=DecoderConfig(reverse_layers=3, attention_dropout=0.1, cross_dropout=0.1),
)
OPTIONS = Options()
Step = Callable[[], float]  # gives the loss an utterance


def quarter(config: U2Config) -> U2Config:
    """A quarter of the weights: half as wide everywhere."""
    assert config.decoder is not None
    return replace(
        config,
        vocab_size=config.vocab_size // 4,
        sos=-1,
        eos=-1,
        encoder=replace(config.encoder, dim=128, hidden=1024),
        decoder=replace(config.decoder, hidden=1024),
    )


def random_batch(config: U2Config, number: int, frames: int = 998, size: int = 16) -> Batch:
    """Utterances of random features."""
    generator = torch.Generator().manual_seed(number)
    tokens, token_lens = random_tokens(config, generator, size, 15, 20)
    feats = torch.randn(size, frames, config.feature_dim, generator=generator)
    return make_batch(feats, torch.full((size,), frames), tokens, token_lens)


def spoken_batch(config: U2Config, number: int, size: int = 8) -> Batch:
    """Utterances in which each label is a pattern of 12 to 24 frames, in noise."""
    generator = torch.Generator().manual_seed(number)
    tokens, token_lens = random_tokens(config, generator, size, 8, 14, most=40)
    voices = torch.randn(64, config.feature_dim, generator=torch.Generator().manual_seed(0))
    rows = []
    for row, count in zip(tokens, token_lens.tolist(), strict=True):
        spans = torch.randint(12, 25, (count,), generator=generator)
        rows.append(voices[row[:count]].repeat_interleave(spans, 0))
    feats = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    feats = feats + 0.3 * torch.randn(feats.shape, generator=generator)
    return make_batch(feats, torch.tensor([len(r) for r in rows]), tokens, token_lens)


def random_tokens(
    config: U2Config, generator: torch.Generator, size: int, low: int, high: int, most: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels (B, U) and their number (B,)."""
    lens = torch.randint(low, high + 1, (size,), generator=generator)
    limit = most or config.vocab_size - 1
    tokens = torch.randint(1, limit, (size, high), generator=generator)
    return tokens * (torch.arange(high) < lens[:, None]), lens


def make_batch(
    feats: torch.Tensor, lens: torch.Tensor, tokens: torch.Tensor, token_lens: torch.Tensor
) -> Batch:
    """A batch with names and no texts."""
    names = tuple(str(number) for number in range(len(lens)))
    feats = feats * (torch.arange(feats.shape[1]) < lens[:, None])[..., None]
    return Batch(names, feats, lens, tokens, token_lens, ("",) * len(lens))


class Batches:
    """A loader's interface over batches made on demand."""

    def __init__(self, make: Callable[[int], Batch], count: int) -> None:
        self.made = [make(number) for number in range(count)]

    def num_rounds(self, epoch: int) -> int:
        """Rounds of an epoch."""
        return len(self.made)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        """The batches."""
        yield from self.made[start:]


def recipe(precision: str) -> TrainConfig:
    """What both sides train by."""
    values: dict[str, Any] = {
        "data": {"train": [{"manifest": "none"}]},
        "loop": {"max_steps": 10**6, "precision": precision},
        "optim": {"kind": "adam", "lr": 1e-3, "weight_decay": 0.0, "clip": 5.0},
        "schedule": {"kind": "warmup", "warmup": 50},
    }
    return build(TrainConfig, values)


def ours(config: U2Config, batches: Batches, precision: str, compiled: bool, folder: Path) -> Step:
    """A step of the loop of ``mynah train``."""
    torch.manual_seed(0)
    names = [f"u{number}" for number in range(config.vocab_size)]
    task = CtcAttention(U2(config), UnitTokenizer(names), OPTIONS, EvaluateConfig())
    if compiled:
        task.compile()
    trainer = Trainer(
        recipe(precision), task, batches, None, Workers(0, 1, torch.device("cpu")), folder, print
    )

    def step() -> float:
        number = trainer.progress.step % len(batches.made)
        with matmul_precision(precision):
            trainer._step([batches.made[number]])
        sums, _, _ = trainer.meter.turn()
        return sums["loss"] / sums["utterances"]

    return step


def plain(config: U2Config, batches: Batches) -> Step:
    """A step as it is usually written."""
    torch.manual_seed(0)
    model, settings = PlainU2(config), recipe("fp32")
    model.take(U2(config))
    model.train()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=1e-3, betas=settings.optim.betas, eps=settings.optim.eps
    )
    done = 0

    def step() -> float:
        nonlocal done
        batch = batches.made[done % len(batches.made)]
        done += 1
        chunk = draw_chunk(OPTIONS, Place(settings.seed, done, 0), batch.feats.shape[1] // 4)
        loss = model.loss(batch, OPTIONS, chunk.size)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optim.clip)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings.optim, settings.schedule, done)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def compare(args: argparse.Namespace) -> None:
    """Time both and print the figure."""
    make = {"aishell": AISHELL, "quarter": quarter(AISHELL)}
    config = make[args.size]
    batches = Batches(lambda number: random_batch(config, number), 2)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "ours": ours(config, batches, "bf16", args.compile, Path(folder)),
            "plain": plain(config, batches),
        }
        for number in range(args.warmup + args.steps):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                if number >= args.warmup:
                    times[name].append(time.perf_counter() - started)
                gc.collect()
    medians = {name: statistics.median(values) for name, values in times.items()}
    rates = {name: 16 / seconds for name, seconds in medians.items()}
    for name, seconds in medians.items():
        low, high = min(times[name]), max(times[name])
        print(
            f"{name:5}  {seconds:6.2f} s a step ({low:.2f} to {high:.2f})  "
            f"{rates[name]:5.2f} utterances/s"
        )
    ratio = rates["ours"] / rates["plain"]
    kind = "bf16, compiled blocks" if args.compile else "bf16, eager"
    print(f"ours ({kind}) is {ratio:.2f} times the plain way (fp32, eager), {args.threads} threads")
    name = "training step" + (", compiled" if args.compile else "")
    figure = {"name": name, "ours": rates["ours"], "peer": rates["plain"], "ratio": ratio}
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in figure.items()}))


def curves(args: argparse.Namespace) -> None:
    """Train both for 200 steps at a quarter of the size and draw the losses."""
    config = quarter(AISHELL)
    batches = Batches(lambda number: spoken_batch(config, number), 50)
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ours", "plain"):
            step = (
                ours(config, batches, "bf16", False, Path(folder))
                if name == "ours"
                else plain(config, batches)
            )
            losses[name] = [step() for _ in range(args.curve_steps)]
            del step
            gc.collect()
    last = {name: statistics.fmean(values[-20:]) for name, values in losses.items()}
    print("mean loss of the last 20 steps:", {k: round(v, 3) for k, v in last.items()})
    draw(losses, Path(args.curves))


def draw(losses: dict[str, list[float]], path: Path) -> None:
    """One curve on the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    labels = {"ours": "mynah, bf16", "plain": "plain PyTorch, fp32"}
    for name, style in (("plain", "-"), ("ours", "--")):
        axes.plot(range(1, len(losses[name]) + 1), losses[name], style, lw=1.2, label=labels[name])
    axes.set_xlabel("step")
    axes.set_ylabel("loss an utterance")
    axes.set_yscale("log")
    axes.legend()
    axes.set_title("U2++ at a quarter of AISHELL's size, the same weights and batches")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"{path}: drawn")


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--size", choices=("aishell", "quarter"), default="aishell")
    parser.add_argument("--compile", action="store_true", help="compile our blocks (needs gcc)")
    parser.add_argument("--curves", metavar="PNG", default="", help="draw loss curves instead")
    parser.add_argument("--curve-steps", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    curves(args) if args.curves else compare(args)


if __name__ == "__main__":
    main()
