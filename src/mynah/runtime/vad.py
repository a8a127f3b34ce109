"""Voice activity: how probable speech is in each frame, by the bundled ``mynah-vad`` or another.

    vad = load_vad()
    probs = vad.probabilities(samples)                    # (S,) at vad.rate -> (T,)
    spans = vad.segments(samples)                         # [(start, end), ...] in seconds
    stream = vad.stream()
    probs = stream.feed(chunk), stream.feed(last_chunk, last=True)

Frame ``t`` stands for the time from ``t`` to ``t + 1`` times ``frame_seconds``. A live stream's
frames come ``delay`` seconds after they were heard, so that what follows has its say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mynah.audio.features import Frontend, make_frontend
from mynah.audio.segments import Segmenter, SegmentOptions, Span
from mynah.config import build
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelFolder, find_model, read_model_folder
from mynah.runtime.engine import Array, Graph, State, check_threads
from mynah.runtime.sound import as_samples, energy

BUNDLED = "mynah-vad"
FAMILY = "vad"
_LOUDEST = 8.0  # what is beyond is clipped, so that no energy is infinite
_FEW = 32  # frames up to which arrays stay bound
_BLOCK = 512  # frames computed at a time: what stays in cache


class Vad:
    """A loaded detector; may be used from several threads.

    Attributes:
        name: of the model.
        rate: hertz that samples must have.
        frame_seconds: from one frame to the next.
        delay: seconds that a live stream's frames come late.
        options: how this model's probabilities best become segments.
    """

    def __init__(self, folder: ModelFolder, threads: int = 1) -> None:
        info = folder.info
        if info.family != FAMILY:
            raise ModelError(f"{info.name}: a model of the family {info.family}, no voice detector")
        try:
            self.frontend: Frontend = make_frontend(info.frontend)
            self.options = build(SegmentOptions, info.decoding, "decoding")
        except ConfigError as error:
            raise ModelError(f"{folder.path}: {error}") from None
        self._graph = Graph(folder.file("onnx/detector.fp32.onnx"), threads)
        fact = self._graph.fact
        if fact("feature_dim") != self.frontend.dim:
            raise ModelError(f"{folder.path}: the graph does not fit the front end")
        self._counted = "feat_lens" in self._graph.inputs  # in graphs of earlier versions
        self.name, self.rate = info.name, self.frontend.rate
        self.frame_seconds = self.frontend.frame_shift
        self.delay_frames = fact("delay")
        self.delay = self.delay_frames * self.frame_seconds

    def init_state(self, batch: int = 1) -> State:
        """The state before the first frame."""
        fact = self._graph.fact
        return {
            "overlap": np.zeros((batch, fact("kernel") - 1, fact("feature_dim")), np.float32),
            "hidden": np.zeros((batch, fact("layers"), fact("dim")), np.float32),
        }

    def step(self, feats: Array, feat_lens: Array, state: State) -> tuple[Array, State]:
        """Features (B, T, F), of which (B,) frames count -> probabilities (B, T), of frames
        ``delay_frames`` earlier, and the next state."""
        counts = set(feat_lens.tolist())
        if len(counts) == 1 and counts != {0}:
            return self._step(feats[:, : counts.pop()], state)
        # the graph is for rows of one length
        probs = np.zeros(feats.shape[:2], np.float32)
        rows = []
        for row, count in enumerate(feat_lens.tolist()):
            rows.append({name: array[row : row + 1] for name, array in state.items()})
            if count:
                probs[row, :count], rows[-1] = self._step(feats[row : row + 1, :count], rows[-1])
        return probs, {name: np.concatenate([row[name] for row in rows]) for name in state}

    def _step(self, feats: Array, state: State) -> tuple[Array, State]:
        """All frames count."""
        out = self._graph.run(self._values(feats, state))
        return out["probs"], {name: out[f"next.{name}"] for name in state}

    def _values(self, feats: Array, state: State) -> dict[str, Array]:
        values = {f"state.{name}": array for name, array in state.items()} | {"feats": feats}
        if self._counted:
            values["feat_lens"] = np.full(len(feats), feats.shape[1], np.int64)
        return values

    def bound(self, frames: int, before: State, after: State) -> Bound:
        """A step of one row that reads the state ``before`` and writes the state ``after``."""
        feats = np.zeros((1, frames, self.frontend.dim), np.float32)
        probs = np.zeros((1, frames), np.float32)
        into = {f"next.{name}": array for name, array in after.items()} | {"probs": probs}
        return Bound(feats[0], probs[0], self._graph.bound(self._values(feats, before), into))

    def stream(self) -> VadStream:
        """A new stream."""
        return VadStream(self)

    def probabilities(self, samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The probability of speech in each frame: (S,) at :attr:`rate` -> (T,) float32.

        Raises:
            InputError: samples that are not finite numbers in one or two dimensions.
        """
        return self.stream().feed(samples, last=True)

    def segments(self, samples: npt.ArrayLike, options: SegmentOptions | None = None) -> list[Span]:
        """Where there is speech: (start, end) in seconds.

        Raises:
            InputError: as :meth:`probabilities`.
        """
        mono = as_samples(samples)
        stream = SegmentStream(self, options)
        return stream.feed(mono, last=True)


@dataclass(frozen=True)
class Bound:
    """A step whose arrays stay where they are: fill ``feats`` (T, F), ``run``, read ``probs``."""

    feats: Array
    probs: Array  # (T,)
    run: Callable[[], None]


class Steps:
    """The network over one stream's frames, as they come; two states take turns, and a few frames
    at a time are computed in arrays that stay bound."""

    def __init__(self, vad: Vad) -> None:
        self._vad = vad
        self._states = (vad.init_state(), vad.init_state())
        self._current = 0
        self._bound: dict[tuple[int, int], Bound] = {}  # by current state and frames

    def reset(self) -> None:
        """Begin a new stream."""
        for array in self._states[self._current].values():
            array.fill(0.0)

    def __call__(self, feats: Array) -> Array:
        """Frames (T, F) -> probabilities (T,)."""
        before, after = self._states[self._current], self._states[1 - self._current]
        if len(feats) > _FEW:
            probs, state = self._vad._step(feats[None], before)
            for name, array in state.items():
                before[name][:] = array
            return np.asarray(probs[0])
        key = self._current, len(feats)
        if key not in self._bound:
            self._bound[key] = self._vad.bound(len(feats), before, after)
        step = self._bound[key]
        step.feats[:] = feats
        step.run()
        self._current = 1 - self._current
        return step.probs.copy()


class VadStream:
    """The probabilities of samples that arrive in chunks of any lengths; belongs to one signal."""

    def __init__(self, vad: Vad) -> None:
        self._vad, self._feats, self._steps = vad, vad.frontend.stream(), Steps(vad)
        self._begin()

    def _begin(self) -> None:
        self._steps.reset()
        self._skip = self._vad.delay_frames  # answers that judge nothing
        self._newest: Array | None = None  # the last frame

    def feed(self, samples: npt.ArrayLike, last: bool = False) -> npt.NDArray[np.float32]:
        """The probabilities (T',) that the next samples (S',) complete; ``last`` ends the signal,
        and the next call begins a new one.

        Raises:
            InputError: samples that are not finite numbers in one or two dimensions.
        """
        vad = self._vad
        mono = as_samples(samples)
        if not energy(mono) <= _LOUDEST**2:
            mono = np.clip(mono, -_LOUDEST, _LOUDEST)
        feats = self._feats.feed(mono, last=last)
        if len(feats):
            self._newest = feats[-1:].copy()
        if last and self._newest is not None:  # the end goes on as it was until all is answered
            feats = np.concatenate([feats, np.repeat(self._newest, vad.delay_frames, axis=0)])
        probs = [
            self._steps(feats[first : first + _BLOCK]) for first in range(0, len(feats), _BLOCK)
        ]
        answers = np.concatenate(probs) if probs else np.zeros(0, np.float32)
        skipped = min(self._skip, len(answers))
        self._skip -= skipped
        if last:
            self._begin()
        return answers[skipped:]


class SegmentStream:
    """The segments of samples that arrive in chunks of any lengths; belongs to one signal."""

    def __init__(self, vad: Vad, options: SegmentOptions | None = None) -> None:
        self._rate, self._samples = vad.rate, 0
        self._stream = vad.stream()
        self._segmenter = Segmenter(options or vad.options, vad.frame_seconds)

    def feed(self, samples: npt.ArrayLike, last: bool = False) -> list[Span]:
        """The segments (start, end), seconds, that the next samples (S',) close.

        Raises:
            InputError: samples that are not finite numbers in one or two dimensions.
        """
        mono = as_samples(samples)
        self._samples += len(mono)
        spans = self._segmenter.feed(self._stream.feed(mono, last=last), last=last)
        duration = self._samples / self._rate
        if last:
            self._samples = 0
        return [(start, min(end, duration)) for start, end in spans if start < duration]


def load_vad(model: str | Path | None = None, *, threads: int = 1) -> Vad:
    """The detector ``model`` (a folder or a known name; ``None``: the bundled one), loaded once.

    Raises:
        ModelError: no such model, no detector, or it is broken.
        ConfigError: a wrong number of threads.
    """
    check_threads(threads)
    return _loaded(find_model(model or BUNDLED).resolve(), threads)


@lru_cache(maxsize=4)
def _loaded(path: Path, threads: int) -> Vad:
    return Vad(read_model_folder(path), threads)
