"""Recordings in and out: any container, any number of channels, any rate, under limits.

A recording is decoded in blocks; the limits hold for what has been decoded so far, never for what a
header says: seconds always, bytes where they are kept. A file that is damaged or whose end is
missing is refused, since half a recording looks like a whole one in what follows; ``partial=True``
takes what there is, with a warning in the log. So are samples that are not numbers.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import soundfile

from mynah.audio.decoders import Damaged, Decoder, open_decoder
from mynah.audio.parts import look_through
from mynah.audio.resampling import Resampler, check_rate
from mynah.errors import InputError, MynahError
from mynah.whole import whole_file

Array = npt.NDArray[np.float32]
Source = str | os.PathLike[str] | bytes | BinaryIO
Channel = int | str  # a number, "mix" or "all"

MAX_SECONDS = 6 * 3600.0
MAX_BYTES = 4 << 30
LOUDEST = 1e10  # larger samples are no sound, and their squares no float32

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waveform:
    """Samples (S,), or (channels, S) when all channels were asked for, float32 in [-1, 1], and
    their rate in hertz."""

    samples: Array
    rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return float(self.samples.shape[-1] / self.rate)


def read(
    source: Source,
    *,
    rate: int | None = None,
    channel: Channel = "mix",
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_BYTES,
    partial: bool = False,
) -> Waveform:
    """Read a recording into memory.

    Args:
        source: path, bytes of a file, binary file object (read from where it stands), or ``"-"``
            for standard input. The format is recognised by the content.
        rate: hertz wanted; None keeps the recording's own.
        channel: ``"mix"`` averages the channels, a number picks one (from 0), ``"all"`` keeps
            them: samples (channels, S), also for one channel.
        max_seconds: refuse more than this, while decoding.
        max_bytes: refuse more decoded samples than this, all channels as float32, while decoding;
            also more bytes than this from a source that cannot seek.
        partial: take what can be decoded of a damaged or truncated recording.

    Raises:
        InputError: missing, unreadable, empty, damaged, truncated, too long, without samples, not
            a recording, no such channel, or a rate outside 1 kHz .. 768 kHz.
        MissingDependency: m4a, aac or webm without the extra ``media``.
    """
    with _Reader(source, rate, channel, max_seconds, max_bytes, partial, kept=True) as reader:
        parts = list(reader.parts())
    samples = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    return Waveform(samples, reader.rate)


def blocks(
    source: Source,
    *,
    rate: int | None = None,
    channel: Channel = "mix",
    block_seconds: float = 1.0,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_BYTES,
    partial: bool = False,
) -> Iterator[Array]:
    """The samples of :func:`read` in blocks of ``block_seconds``, the last one shorter, in memory
    that does not grow with the recording.

    Samples are not kept, so only ``max_seconds`` limits how many there are; ``max_bytes`` limits
    what a source that cannot seek gives, which is kept, on disk where it is long.

    Raises:
        InputError, MissingDependency: as :func:`read`; what lies behind a block is only found when
            that block is asked for.
    """
    if not block_seconds > 0:
        raise InputError(f"block_seconds: {block_seconds} is not more than 0")
    with _Reader(source, rate, channel, max_seconds, max_bytes, partial, kept=False) as reader:
        size = max(1, round(block_seconds * reader.rate))
        rest: list[Array] = []
        held = 0
        for part in reader.parts():
            rest.append(part)
            held += part.shape[-1]
            if held < size:
                continue
            joined = np.concatenate(rest, axis=-1)
            whole = held - held % size
            for start in range(0, whole, size):
                yield joined[..., start : start + size].copy()
            rest, held = [joined[..., whole:].copy()], held - whole
        if held:
            yield np.concatenate(rest, axis=-1)


def announced(source: Source) -> float | None:
    """Seconds that the header of a file promises; ``None`` where there is no such promise. Standard
    input, pipes and open files are not looked at."""
    if source == "-" or not isinstance(source, (str, os.PathLike, bytes)):
        return None
    if not isinstance(source, bytes) and not Path(source).is_file():
        return None  # what is read of a pipe is gone
    try:
        with contextlib.ExitStack() as stack:
            name, file = _open(source, MAX_BYTES, stack)
            decoder = open_decoder(name, file, look_through(file).starts)
            stack.callback(decoder.close)
            return decoder.announced / decoder.rate or None
    except MynahError:
        return None


class _Reader:
    """One pass over a recording: decoded, checked, reduced to the channels wanted, resampled."""

    def __init__(
        self,
        source: Source,
        rate: int | None,
        channel: Channel,
        max_seconds: float,
        max_bytes: int,
        partial: bool,
        *,
        kept: bool,  # whether the caller holds all samples, so that max_bytes is for them too
    ) -> None:
        self._max_seconds, self._max_bytes = max_seconds, max_bytes
        self._kept = kept
        self._partial = partial
        self._channel = channel
        wanted = None if rate is None else check_rate(rate, "rate")
        with contextlib.ExitStack() as stack:
            self._name, file = _open(source, max_bytes, stack)
            parts = look_through(file)
            if parts.missing:
                self._complain(f"truncated: {parts.missing}")
            if parts.doubt:
                _log.warning("%s: may be cut short: %s", self._name, parts.doubt)
            self._decoder: Decoder = open_decoder(self._name, file, parts.starts)
            stack.callback(self._decoder.close)
            check_rate(self._decoder.rate, f"{self._name}: sample rate")
            _check_channel(self._name, channel, self._decoder.channels)
            if not partial:  # before hours are decoded in vain
                self._check_length(self._decoder.announced - self._decoder.tolerance)
            self._stack = stack.pop_all()
        self.rate = wanted or self._decoder.rate

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def parts(self) -> Iterator[Array]:
        """Arrays (S,) or (channels, S); at least one sample in all."""
        decoder = self._decoder
        channels = decoder.channels if self._channel == "all" else None
        resampler = (
            Resampler(decoder.rate, self.rate, channels=channels)
            if decoder.rate != self.rate
            else None
        )
        given = 0
        for block in self._decoded():
            part = _choose(block, self._channel)
            if resampler is not None:
                part = resampler.feed(part)
            given += part.shape[-1]
            self._check_bytes(part.nbytes // max(1, part.shape[-1]) * given)
            if part.shape[-1]:
                yield part
        if resampler is not None:
            empty = np.zeros((0,) if channels is None else (channels, 0), dtype=np.float32)
            part = resampler.feed(empty, last=True)
            given += part.shape[-1]
            if part.shape[-1]:
                yield part
        if not given:
            raise InputError(f"{self._name}: no samples")

    def _decoded(self) -> Iterator[Array]:
        decoder, frames = self._decoder, 0
        try:
            for block in decoder.blocks:
                self._check_numbers(block, frames)
                frames += len(block)
                self._check_length(frames)
                self._check_bytes(4 * frames * decoder.channels)
                yield block
        except Damaged as error:
            self._complain(f"damaged or truncated: {error} after {frames / decoder.rate:.2f} s")
            return
        if frames < decoder.announced - decoder.tolerance:
            self._complain(
                f"truncated: the header announces {decoder.announced / decoder.rate:.2f} s, "
                f"{frames / decoder.rate:.2f} s are there"
            )

    def _check_numbers(self, block: Array, before: int) -> None:
        sound = np.abs(block) <= LOUDEST
        if sound.all():
            return
        wrong = int(np.flatnonzero(~sound.all(axis=1))[0])
        row, second = block[wrong], (before + wrong) / self._decoder.rate
        if np.isfinite(row).all():
            what = f"samples as large as {np.abs(row).max():.3g} (sound is from -1 to 1)"
        else:
            what = "samples that are not numbers (NaN or infinite)"
        raise InputError(f"{self._name}: {what}, the first at {second:.3f} s")

    def _check_length(self, frames: float) -> None:
        if frames > self._max_seconds * self._decoder.rate:
            raise InputError(f"{self._name}: longer than the limit of {self._max_seconds:g} s")

    def _check_bytes(self, size: int) -> None:
        if self._kept and size > self._max_bytes:
            raise InputError(
                f"{self._name}: more than the limit of {self._max_bytes} bytes of samples"
            )

    def _complain(self, reason: str) -> None:
        if not self._partial:
            raise InputError(f"{self._name}: {reason}")
        _log.warning("%s: %s", self._name, reason)


def _choose(block: Array, channel: Channel) -> Array:
    """(n, channels) to (n,) or (channels, n)."""
    if channel == "all":
        return np.ascontiguousarray(block.T)
    if block.shape[1] == 1:
        return block[:, 0]
    if channel == "mix":
        return np.asarray(block.mean(axis=1), dtype=np.float32)
    assert isinstance(channel, int)
    return np.ascontiguousarray(block[:, channel])


def _check_channel(name: str, channel: Channel, channels: int) -> None:
    if channel in ("mix", "all"):
        return
    if isinstance(channel, bool) or not isinstance(channel, int):
        raise InputError(f"channel: {channel!r} is neither a number nor 'mix' nor 'all'")
    if not 0 <= channel < channels:
        raise InputError(f"{name}: no channel {channel}; the last one is {channels - 1}")


def _open(source: Source, max_bytes: int, stack: contextlib.ExitStack) -> tuple[str, BinaryIO]:
    """A name for messages and a file that can seek and begins at 0."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "recording", _not_empty("recording", io.BytesIO(source))
    if source == "-":
        name = "standard input"
        if sys.stdin is None:
            raise InputError(f"{name}: is closed")
        return name, _not_empty(name, _spool(name, sys.stdin.buffer, max_bytes, stack))
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        try:
            file = stack.enter_context(open(name, "rb"))  # noqa: SIM115
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: {_reason(error, name)}") from None
        return name, _not_empty(name, file if regular else _spool(name, file, max_bytes, stack))
    given = getattr(source, "name", None)
    name = given if isinstance(given, str) else "recording"
    if not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise InputError(f"{name}: not a path, bytes or a file opened in binary mode")
    try:
        here = source.tell() if source.seekable() else -1
    except (AttributeError, OSError):
        here = -1
    binary = source if here == 0 else _spool(name, source, max_bytes, stack)
    return name, _not_empty(name, binary)


def _reason(error: OSError | ValueError, name: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError) or os.path.isdir(name):
        return "is a directory"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _spool(name: str, source: BinaryIO, max_bytes: int, stack: contextlib.ExitStack) -> BinaryIO:
    """What remains of ``source`` in a file that can seek: in memory while small, then on disk."""
    spool = tempfile.SpooledTemporaryFile(max_size=32 << 20)  # noqa: SIM115
    stack.callback(spool.close)
    size = 0
    while chunk := source.read(1 << 20):
        if not isinstance(chunk, bytes):
            raise InputError(f"{name}: not opened in binary mode")
        size += len(chunk)
        if size > max_bytes:
            raise InputError(f"{name}: more than the limit of {max_bytes} bytes")
        spool.write(chunk)
    spool.seek(0)
    return cast(BinaryIO, spool)


def _not_empty(name: str, file: BinaryIO) -> BinaryIO:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise InputError(f"{name}: empty (0 bytes)")
    return file


_FORMATS: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def write(
    target: str | os.PathLike[str] | BinaryIO,
    samples: npt.ArrayLike,
    rate: int,
    *,
    format: str | None = None,  # noqa: A002
    subtype: str | None = None,
) -> None:
    """Write samples (S,) or (channels, S) in [-1, 1]; what lies outside is clipped.

    A path is written whole or not at all (to a file beside it, then renamed); folders are made.

    Args:
        target: path or binary file object.
        samples: at least one.
        rate: hertz.
        format: wav, flac, ogg, opus or mp3; None takes the path's suffix.
        subtype: libsndfile's name of the encoding (PCM_24, FLOAT, ..); None is 16 bits, Vorbis,
            Opus or MP3.

    Raises:
        InputError: an unknown format, a rate or encoding that it does not hold, samples of the
            wrong shape, none, or not numbers, or a target that cannot be written.
    """
    is_path = isinstance(target, (str, os.PathLike))
    name = os.fspath(target) if is_path else "recording"  # type: ignore[arg-type]
    kind = (format or Path(name).suffix[1:]).lower()
    if kind not in _FORMATS:
        raise InputError(
            f"{name}: cannot write {kind or 'no format'}; {', '.join(_FORMATS)} can be"
        )
    container, encoding = _FORMATS[kind]
    data = _check_samples(name, samples)
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, data, check_rate(rate), subtype or encoding, format=container)
    except (soundfile.LibsndfileError, ValueError, TypeError) as error:
        raise InputError(
            f"{name}: {kind} ({subtype or encoding}) cannot hold {data.shape[1]} channel(s) at "
            f"{rate} Hz"
        ) from error
    if is_path:
        with whole_file(name) as stream:
            stream.write(buffer.getbuffer())
    else:
        cast(BinaryIO, target).write(buffer.getbuffer())


def _check_samples(name: str, samples: npt.ArrayLike) -> Array:
    signal = np.asarray(samples)
    if signal.ndim not in (1, 2) or signal.dtype.kind != "f":
        raise InputError(
            f"{name}: samples are {signal.dtype} of shape {signal.shape}, not floating point (S,) "
            f"or (channels, S)"
        )
    if not signal.size:
        raise InputError(f"{name}: no samples to write")
    if not math.isfinite(float(np.abs(signal).max())):
        raise InputError(f"{name}: samples that are not numbers (NaN or infinite)")
    return np.atleast_2d(signal).T.astype(np.float32)
