"""The one training loop. Tasks have turns; everything here is the same for all of them.

A step draws nothing from global random state: dropout and chunk sizes are seeded by (seed, step,
batch), the learning rate is a function of the step, and the data's place is (epoch, round). So a
checkpoint of weights, optimiser and a few numbers is all that a bit-for-bit continuation needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mynah.data.loader import Batch
from mynah.errors import MynahError
from mynah.nn.lora import kept, restore
from mynah.training.checkpoint import Checkpoint, CheckpointFolder, Progress
from mynah.training.config import TrainConfig, measure_of
from mynah.training.distributed import Workers, average_statistics, sum_gradients
from mynah.training.optimisation import (
    apply_gradients,
    load_optimizer_tensors,
    make_optimizer,
    mix,
    optimizer_tensors,
)
from mynah.training.progress import Meter, Record, Report
from mynah.training.schedule import learning_rate
from mynah.training.task import Losses, Place, Task

_COUNTS = ("utterances", "tokens", "frames")


class _NoMore:
    """The end of an epoch; a batch may be ``None``."""


_NO_MORE = _NoMore()


class TrainingError(MynahError):
    """Training cannot go on; the line says since when and what to try."""


class Batches(Protocol):
    """What the loop needs of a loader."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        """The rounds of an epoch from ``start`` on."""

    def num_rounds(self, epoch: int) -> int:
        """How many rounds an epoch has; the same for every worker."""


class Trainer:
    """A run in memory: the task, its optimisers, its place in the data, and its folder."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        train: Batches,
        dev: Batches | None,
        workers: Workers,
        folder: Path,
        report: Report,
        frame_shift: float = 0.01,
    ) -> None:
        self.config, self.task, self.train, self.dev = config, task, train, dev
        self.workers, self.report, self.frame_shift = workers, report, frame_shift
        self.checkpoints = CheckpointFolder(folder / "checkpoints", measure_of(config))
        self.progress = Progress(world=workers.world)
        self.meter = Meter()
        self.frozen = frozen_modules(task.model)
        self.optimizers = {
            turn.name: make_optimizer(config.optim, turn.module.named_parameters())
            for turn in task.turns
        }
        self.trained = {
            turn.name: [p for p in turn.module.parameters() if p.requires_grad]
            for turn in task.turns
        }
        self._names: dict[nn.Parameter, str] = {p: n for n, p in task.model.named_parameters()}
        self._known_rounds = 0
        self._stop = False
        self._elapsed = 0.0  # seconds of training up to the last step, the same for all workers
        self._saved_at = time.monotonic()
        self._bf16 = config.loop.precision == "bf16"

    # -- the run ---------------------------------------------------------------------------------

    def fit(self) -> bool:
        """Train until the recipe's end; whether it was reached (not when asked to stop)."""
        with self._signals():
            self._evaluate_if_due()  # a run may have been killed between a step and its evaluation
            self.meter = Meter()
            while not self._at_end():
                progress = self.progress
                for batches, last in self._groups(progress.epoch, progress.round):
                    flags = self._step(batches)
                    progress.round += len(batches)
                    if last:
                        progress.epoch, progress.round = progress.epoch + 1, 0
                    if self._after_step(flags):
                        return self._at_end()
            if not self.progress.finished:
                self._finish()
        return True

    def _groups(self, epoch: int, start: int) -> Iterator[tuple[list[Batch | None], bool]]:
        """The rounds of an epoch, ``accumulate`` at a time; the last group may be shorter."""
        rounds = self.train.epoch(epoch, start)
        group: list[Batch | None] = []
        done, batch = start, next(rounds, _NO_MORE)
        while not isinstance(batch, _NoMore):
            group.append(batch)
            batch, done = next(rounds, _NO_MORE), done + 1
            last = isinstance(batch, _NoMore)
            if last:
                self._known_rounds = done
            if last or len(group) == self.config.loop.accumulate:
                yield group, last
                group = []
        if done == start:
            raise TrainingError("the training set has no usable utterance")

    def _at_end(self) -> bool:
        loop, progress = self.config.loop, self.progress
        by_steps = bool(loop.max_steps) and progress.step >= loop.max_steps
        by_time = bool(loop.max_minutes) and self._elapsed >= 60 * loop.max_minutes
        return by_steps or by_time or (bool(loop.max_epochs) and progress.epoch >= loop.max_epochs)

    def _spent(self) -> float:
        """Seconds of training, those of earlier sessions counted."""
        return self.progress.seconds + self.meter.seconds()

    def _after_step(self, flags: tuple[bool, bool]) -> bool:
        """Log, save and evaluate as due; whether to leave the loop."""
        stop, save = flags
        loop, progress = self.config.loop, self.progress
        if progress.step % loop.log_every == 0:
            self._log_step()
        end = self._at_end()
        by_steps = bool(loop.save_every) and progress.step % loop.save_every == 0
        if stop or save or by_steps or (self._evaluation_due() and not end):
            self.save()
        if stop:
            return True
        if end:
            self._finish()
            return True
        self._evaluate_if_due()
        return False

    def _finish(self) -> None:
        self.progress.finished = True
        self.save()
        self._evaluate_if_due()

    # -- one step --------------------------------------------------------------------------------

    def _step(self, batches: list[Batch | None]) -> tuple[bool, bool]:
        """One optimiser step a turn over ``batches``; gives the flags (stop, save)."""
        progress, workers = self.progress, self.workers
        progress.step += 1
        audio = sum(float(b.feat_lens.sum()) for b in batches if b is not None) * self.frame_shift
        flags = (False, False)
        sums: dict[str, float] = {}
        for number, turn in enumerate(self.task.turns):
            self._set_mode()
            totals = self._backward(batches, turn.name)
            spent = self._spent() if workers.first else 0.0
            wishes = [] if number else [float(self._stop), float(self._wants_save()), audio, spent]
            names = (*_COUNTS, "loss", *self.task.parts)
            both = workers.sum(torch.cat([totals, totals.new_tensor(wishes)])).tolist()
            sums |= dict(zip(names, both, strict=False))
            if wishes:
                flags = (both[-4] > 0, both[-3] > 0)
                sums["audio"], self._elapsed = both[-2:]
            self._apply(turn.name, sums)
        average_statistics(self.task.model, workers)
        progress.utterances += int(sums["utterances"])
        progress.audio_seconds += sums["audio"]
        self.meter.add(sums)
        return flags

    def _backward(self, batches: list[Batch | None], turn: str) -> Tensor:
        """Gradients of the summed losses; gives counts, loss and parts as one float64 vector."""
        workers, device = self.workers, self.workers.device
        totals = torch.zeros(len(_COUNTS) + 1 + len(self.task.parts), dtype=torch.float64)
        totals = totals.to(device)
        # one context for all batches: the weights are cast once a step
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            for number, batch in enumerate(batches):
                if batch is None:
                    continue
                place = Place(
                    self.config.seed, self.progress.step, number * workers.world + workers.rank
                )
                torch.manual_seed(mix(place.seed, "dropout", place.step, place.batch))
                losses = self.task.losses(move_batch(batch, device), turn, place)
                with torch.autocast(device.type, enabled=False):
                    losses.total.backward()  # type: ignore[no-untyped-call]
                totals += self._as_vector(losses)
        return totals

    def _as_vector(self, losses: Losses) -> Tensor:
        numbers = [losses.total.detach(), *(losses.parts[name] for name in self.task.parts)]
        counts = torch.tensor([losses.counts[c] for c in _COUNTS], dtype=torch.float64)
        return torch.cat([counts.to(self.workers.device), torch.stack(numbers).double()])

    def _apply(self, turn: str, sums: dict[str, float]) -> None:
        """Sum gradients over the workers, divide once, and step unless they are not finite."""
        config, progress = self.config, self.progress
        optimizer = self.optimizers[turn]
        count = sums[config.loop.divide_by]
        minutes = config.loop.max_minutes
        rate = learning_rate(
            config.optim,
            config.schedule,
            progress.step,
            config.total_steps,
            self._elapsed / (60 * minutes) if minutes else 0.0,
        )
        sums["lr"] = rate
        if count == 0:  # no worker had a usable utterance
            optimizer.zero_grad(set_to_none=True)
            return
        sum_gradients(self.trained[turn], self.workers)
        norm, taken = apply_gradients(optimizer, count=count, clip=config.optim.clip, rate=rate)
        optimizer.zero_grad(set_to_none=True)
        sums["norm"] = norm
        if taken:
            progress.bad_in_row = 0
            return
        progress.skipped += 1
        progress.bad_in_row += 1
        if progress.bad_in_row >= config.optim.max_bad_steps:
            latest = self.checkpoints.latest()
            raise TrainingError(
                f"the gradient was not finite in {progress.bad_in_row} steps in a row, up to step "
                f"{progress.step} (learning rate {rate:.3g}); the last checkpoint is of step "
                f"{latest.step if latest else 0}; lower optim.lr or optim.clip, or lengthen "
                "schedule.warmup, and start with --fresh"
            )

    def _set_mode(self) -> None:
        self.task.model.train()
        for module in self.frozen:  # a frozen part is a fixed function: no dropout, no statistics
            module.eval()

    # -- checkpoints -----------------------------------------------------------------------------

    def resume(self) -> Checkpoint | None:
        """Go on from the newest checkpoint, if there is one."""
        if self.workers.first:
            self.checkpoints.clean()
        self.workers.barrier()
        checkpoint = self.checkpoints.latest()
        if not self.workers.agree(0 if checkpoint is None else checkpoint.step):
            raise TrainingError(
                f"{self.checkpoints.path}: the workers do not see the same checkpoints; the run's "
                "folder must be on a file system that all machines share"
            )
        if checkpoint is None:
            return None
        progress = checkpoint.progress()
        if progress.world != self.workers.world:
            raise TrainingError(
                f"the run was made with {progress.world} workers, now there are "
                f"{self.workers.world}; its place in the data holds for the same number only"
            )
        self.progress, self._elapsed = progress, progress.seconds
        progress.finished = progress.finished and self._at_end()  # the end may have been put off
        try:
            weights, tensors = checkpoint.model(), checkpoint.optimizer()
        except MynahError as error:
            before = [one.step for one in self.checkpoints.all() if one.resumable][-2:-1]
            hint = f"; without this folder the run goes on from step {before[0]}" if before else ""
            raise TrainingError(f"{error}{hint}") from None
        restore(self.task.model, weights, str(checkpoint.path))
        for name, optimizer in self.optimizers.items():
            mine = {k.partition(":")[2]: v for k, v in tensors.items() if k.startswith(f"{name}:")}
            load_optimizer_tensors(optimizer, self._names, mine)
        return checkpoint

    def save(self) -> None:
        """Write a checkpoint of this step and remove those no longer needed."""
        with self._pause():
            if self.workers.first:
                spent = self._spent()
                tensors = {
                    f"{name}:{key}": value
                    for name, optimizer in self.optimizers.items()
                    for key, value in optimizer_tensors(optimizer, self._names).items()
                }
                now = dataclasses.replace(self.progress, seconds=spent)
                self.checkpoints.write(now, kept(self.task.model), tensors)
                self._prune()
            self.workers.barrier()
        self._saved_at = time.monotonic()

    def _prune(self) -> None:
        loop = self.config.loop
        self.checkpoints.prune(loop.keep_last, loop.keep_best, self.task.selection)

    def _wants_save(self) -> bool:
        minutes = self.config.loop.save_minutes
        due = minutes > 0 and time.monotonic() - self._saved_at > 60 * minutes
        return due and self.workers.first

    # -- the development set ---------------------------------------------------------------------

    def _evaluation_due(self) -> bool:
        every, progress = self.config.evaluate.every, self.progress
        if self.dev is None or progress.step == 0:
            return False
        if progress.finished:
            return True
        return progress.step % every == 0 if every else progress.round == 0

    def _evaluate_if_due(self) -> None:
        """Evaluate the checkpoint of this step, unless it has its scores."""
        if not self._evaluation_due():
            return
        checkpoint = Checkpoint(
            self.checkpoints.path / f"step-{self.progress.step:08d}", self.progress.step
        )
        if checkpoint.scores(self.checkpoints.measure):
            return
        with self._pause():
            started = time.perf_counter()
            scores = self.evaluate()
            self.workers.barrier()
            if self.workers.first:
                checkpoint.write_scores(scores, self.checkpoints.measure)
                best = self.checkpoints.best(1, self.task.selection)
                self._prune()
                self.report(
                    {
                        "event": "evaluation",
                        "step": self.progress.step,
                        **scores,
                        "best": bool(best) and best[0].step == self.progress.step,
                        "seconds": time.perf_counter() - started,
                    }
                )
            self.workers.barrier()

    def evaluate(self) -> dict[str, float]:
        """The scores of the weights as they are, on the whole development set."""
        assert self.dev is not None
        device, most = self.workers.device, self.config.evaluate.max_batches
        sums = dict.fromkeys(self.task.sums, 0.0)
        self.task.model.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            for number, batch in enumerate(self.dev.epoch(0)):
                if most and number >= most:
                    break
                if batch is not None:
                    for key, value in self.task.evaluate(move_batch(batch, device)).items():
                        sums[key] += value
        total = self.workers.sum_numbers([sums[key] for key in self.task.sums])
        return self.task.scores(dict(zip(self.task.sums, total, strict=True)))

    # -- talk ------------------------------------------------------------------------------------

    def _log_step(self) -> None:
        sums, steps, seconds = self.meter.turn()
        self.progress.seconds += seconds
        if not self.workers.first:
            return
        progress, count = self.progress, max(sums[self.config.loop.divide_by], 1.0)
        record: Record = {
            "event": "step",
            "step": progress.step,
            "epoch": round(progress.epoch + min(progress.round / self._rounds(), 1.0), 4),
            "loss": sums["loss"] / count,
            **{f"loss/{name}": sums[name] / count for name in self.task.parts},
            "norm": sums.get("norm", 0.0) / steps,
            "lr": sums["lr"] / steps,
            "utterances_per_second": sums["utterances"] / seconds,
            "audio_seconds_per_second": sums["audio"] / seconds,
            "skipped": progress.skipped,
            "remaining": self._remaining(),
        }
        self.report(record)

    def _rounds(self) -> int:
        """Rounds of an epoch: of the last one that ended, as counting may cost a pass."""
        if not self._known_rounds:
            self._known_rounds = self.train.num_rounds(self.progress.epoch)
        return max(self._known_rounds, 1)

    def _remaining(self) -> float | None:
        """Seconds until the end at this session's pace, evaluations left out."""
        loop, progress = self.config.loop, self.progress
        left: list[float] = [loop.max_steps - progress.step] if loop.max_steps else []
        if loop.max_epochs:
            todo = (loop.max_epochs - progress.epoch) * self._rounds() - progress.round
            left.append(todo / loop.accumulate)
        seconds = [max(steps, 0.0) * self.meter.seconds_a_step for steps in left]
        if loop.max_minutes:
            seconds.append(max(60 * loop.max_minutes - self._elapsed, 0.0))
        return min(seconds)

    @contextlib.contextmanager
    def _pause(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.meter.paused += time.perf_counter() - started

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and the first SIGINT stop the run at the end of the step."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = True

        before: dict[int, Any] = {
            number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def move_batch(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on ``device``."""
    if device.type == "cpu":
        return batch
    return dataclasses.replace(
        batch,
        feats=batch.feats.to(device, non_blocking=True),
        feat_lens=batch.feat_lens.to(device, non_blocking=True),
        tokens=batch.tokens.to(device, non_blocking=True),
        token_lens=batch.token_lens.to(device, non_blocking=True),
        labels=None if batch.labels is None else batch.labels.to(device, non_blocking=True),
    )


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """The modules all of whose parameters are frozen."""
    return [
        module
        for module in model.modules()
        if (flags := [p.requires_grad for p in module.parameters()]) and not any(flags)
    ]
