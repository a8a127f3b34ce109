"""What a run says: records for whoever listens, a JSONL file, TensorBoard, and their text."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mynah.training.checkpoint import write_whole

_log = logging.getLogger(__name__)

Record = dict[str, Any]  # "event" says which: note, step, evaluation, end
Report = Callable[[Record], None]


def log_record(record: Record) -> None:
    """The default listener: the library's log."""
    _log.info("%s", format_record(record))


class Recorder:
    """Writes records to ``RUN/log.jsonl`` and ``RUN/tensorboard`` and passes them on.

    Opened again at ``step``, it drops the lines that a killed run wrote beyond that step.
    """

    def __init__(self, folder: Path, report: Report, *, step: int, tensorboard: bool) -> None:
        self._report = report
        self._path = folder / "log.jsonl"
        _cut_log(self._path, step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _open_board(folder / "tensorboard", step) if tensorboard else None

    def __call__(self, record: Record) -> None:
        """Write one record."""
        self._file.write(json.dumps(_finite(record), ensure_ascii=False) + "\n")
        self._file.flush()
        if self._board is not None and "step" in record:
            for key, value in record.items():
                if key != "step" and isinstance(value, (int, float)):
                    self._board.add_scalar(f"{record['event']}/{key}", value, record["step"])
        self._report(record)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _finite(record: Record) -> Record:
    # JSON has no infinity: what is not finite is written as text
    return {
        k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }


def _cut_log(path: Path, step: int) -> None:
    if not path.is_file():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line).get("step", 0) <= step:
                kept.append(line)
        except ValueError:  # the last line of a killed run
            continue
    write_whole(path, "".join(f"{line}\n" for line in kept))


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


@dataclass
class Meter:
    """Sums since the last line of progress, and the pace over the whole session."""

    started: float = field(default_factory=time.perf_counter)
    paused: float = 0.0  # seconds spent on evaluation and checkpoints
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    session_steps: int = 0
    session_seconds: float = 0.0

    def add(self, sums: dict[str, float]) -> None:
        """Add one step's sums."""
        for key, value in sums.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        self.steps += 1

    def seconds(self) -> float:
        """Seconds of training since the last line."""
        return max(time.perf_counter() - self.started - self.paused, 1e-9)

    def turn(self) -> tuple[dict[str, float], int, float]:
        """The sums, steps and seconds since the last call; starts anew."""
        result = (self.sums, self.steps, self.seconds())
        self.session_steps += self.steps
        self.session_seconds += result[2]
        self.started, self.paused, self.sums, self.steps = time.perf_counter(), 0.0, {}, 0
        return result

    @property
    def seconds_a_step(self) -> float:
        """The mean over this session."""
        return self.session_seconds / max(self.session_steps, 1)


def format_record(record: Record) -> str:
    """A record as one line of text."""
    event = record.get("event")
    if event == "step":
        return _format_step(record)
    if event == "evaluation":
        rest = ", ".join(
            f"{key} {value:.4g}"
            for key, value in record.items()
            if isinstance(value, float) and key not in ("error_rate", "seconds")
        )
        rate = record.get("error_rate")
        head = f"{100 * rate:.2f} % errors, " if isinstance(rate, float) else ""
        best = ", the best so far" if record.get("best") else ""
        name = record.get("set", "dev")
        return f"{name} after step {record['step']}: {head}{rest}{best} ({record['seconds']:.0f} s)"
    return str(record.get("text", record))


def _format_step(record: Record) -> str:
    parts = [
        f"step {record['step']}",
        f"epoch {record['epoch']:.2f}",
        f"loss {record['loss']:.4g}",
        *(f"{k[5:]} {v:.4g}" for k, v in record.items() if k.startswith("loss/")),
        f"norm {record['norm']:.3g}",
        f"lr {record['lr']:.3g}",
        f"{record['utterances_per_second']:.1f} utt/s",
        f"{record['audio_seconds_per_second']:.0f} s/s",
    ]
    if record.get("skipped"):
        parts.append(f"{record['skipped']} skipped")
    if record.get("remaining") is not None:
        parts.append(f"{format_seconds(record['remaining'])} left")
    return "  ".join(parts)


def format_seconds(seconds: float) -> str:
    """``2 d 3 h``, ``3 h 20 min``, ``12 min``, ``40 s``."""
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min" if whole >= 120 else f"{whole} s"
