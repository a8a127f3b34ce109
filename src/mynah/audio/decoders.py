"""From an opened file to blocks of samples: libsndfile for wav, flac, mp3, ogg and opus; FFmpeg,
through PyAV, for m4a, aac and webm.

What is fed to FFmpeg is an opened file and the name of one demuxer, never an address: it cannot
open another file or a connection.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import soundfile

from mynah.audio.containers import Container, sniff
from mynah.audio.parts import Section
from mynah.errors import InputError, MissingDependency

Array = npt.NDArray[np.float32]

_BLOCK_SAMPLES = 1 << 18  # of all channels


class Damaged(Exception):
    """Decoding stopped before the end; the text says why."""


@dataclass
class Decoder:
    """An opened recording. ``blocks`` gives arrays (n, channels) until the end, or raises
    :class:`Damaged`; ``announced`` is the number of frames that the container promises, zero when
    it does not, and ``tolerance`` how many of them may be missing in a sound file."""

    rate: int
    channels: int
    announced: int
    tolerance: int
    blocks: Iterator[Array]
    _handle: Any

    def close(self) -> None:
        """Release the decoder (not the file below it)."""
        self._handle.close()


def open_decoder(name: str, file: BinaryIO, starts: Sequence[int] = (0,)) -> Decoder:
    """Choose the decoder by what ``file`` holds, whatever it is called.

    ``starts`` are the positions of its parts (:mod:`mynah.audio.parts`), which are decoded one
    after another.

    Raises:
        InputError: not a recording, damaged from the start, or without an audio stream.
        MissingDependency: FFmpeg is needed and PyAV is not installed.
    """
    if len(starts) == 1:
        return _open_part(name, file)
    ends = (*starts[1:], file.seek(0, os.SEEK_END))
    parts = [Section(file, start, end) for start, end in zip(starts, ends, strict=True)]
    first = _open_part(name, cast(BinaryIO, parts[0]))
    announced, tolerance = first.announced, first.tolerance
    for part in parts[1:]:
        try:
            with contextlib.closing(_follow(name, part, first)) as decoder:
                # where one part does not say how long it is, all do not
                announced = announced and decoder.announced and announced + decoder.announced
                tolerance += decoder.tolerance
        except Damaged:
            break  # it is said when all before has been decoded
    blocks = _joined_blocks(name, first, parts[1:])
    return replace(first, announced=announced, tolerance=tolerance, blocks=blocks)


def _follow(name: str, part: Section, first: Decoder) -> Decoder:
    """A part behind the first."""
    try:
        decoder = _open_part(name, cast(BinaryIO, part))
    except InputError:
        raise Damaged("the next of the joined recordings cannot be read") from None
    if (decoder.rate, decoder.channels) != (first.rate, first.channels):
        decoder.close()
        raise Damaged("the sample rate or the channels change on the way")
    return decoder


def _joined_blocks(name: str, first: Decoder, later: list[Section]) -> Iterator[Array]:
    yield from first.blocks
    for part in later:
        with contextlib.closing(_follow(name, part, first)) as decoder:
            yield from decoder.blocks


def _open_part(name: str, file: BinaryIO) -> Decoder:
    file.seek(0)
    head = file.read(1024)
    file.seek(0)
    container = sniff(head)
    if container is not None and not container.native:
        return _open_media(name, file, container)
    try:
        return _open_native(file)
    except soundfile.LibsndfileError as error:
        if container is None:
            raise InputError(f"{name}: not a recording{_looks_like(head)}") from error
        try:
            file.seek(0)
            return _open_media(name, file, container)  # a codec that libsndfile lacks
        except (InputError, MissingDependency):
            reason = f"{name}: damaged or truncated {container.name} file"
            raise InputError(reason) from error


def _looks_like(head: bytes) -> str:
    printable = sum(byte >= 32 or byte in b"\t\n\r" for byte in head)
    return " (it holds text)" if printable == len(head) and b"\x00" not in head else ""


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks after each read of what it can seek in, to no use here: it costs time, and
    fails in a flac file whose header lies about the length."""

    def seekable(self) -> bool:
        return False


def _open_native(file: BinaryIO) -> Decoder:
    handle = _SoundFile(file)
    # Frames of lossy codecs overlap: sound files end some frames before or after what they say.
    tolerance = handle.samplerate // 4 if handle.format in ("MP3", "OGG") else 0
    announced = handle.frames if handle.frames < 1 << 60 else 0
    blocks = _native_blocks(handle)
    return Decoder(handle.samplerate, handle.channels, announced, tolerance, blocks, handle)


def _native_blocks(handle: soundfile.SoundFile) -> Iterator[Array]:
    frames = max(1024, _BLOCK_SAMPLES // handle.channels)
    while True:
        # No more at once than announced, so that a short file costs a short buffer.
        shape = (min(frames, max(handle.frames, 1024)), handle.channels)
        out = np.full(shape, np.nan, dtype=np.float32)
        try:
            block: Array = handle.read(dtype="float32", always_2d=True, out=out)
        except soundfile.LibsndfileError as error:
            there = ~np.isnan(out[:, 0])  # what had been decoded when the error came
            yield out[: len(out) if there.all() else int(there.argmin())]
            raise Damaged("the decoder lost its way") from error
        if not len(block):
            return
        yield block


def _open_media(name: str, file: BinaryIO, container: Container) -> Decoder:
    try:
        import av
    except ImportError:
        raise MissingDependency(
            f"{name}: av, which reads {container.name} files,", extra="media"
        ) from None
    try:
        handle = av.open(file, mode="r", format=container.demuxer)
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise InputError(f"{name}: damaged or truncated {container.name} file") from error
    if not handle.streams.audio:
        handle.close()
        raise InputError(f"{name}: no audio stream")
    stream = handle.streams.audio[0]
    frames = _media_frames(av, handle, stream)
    try:
        first = next(frames, None)
    except Damaged as error:
        handle.close()
        raise InputError(f"{name}: damaged or truncated {container.name} file") from error
    if first is None:
        handle.close()
        raise InputError(f"{name}: no samples")
    rate, channels = first.sample_rate, len(first.layout.channels)
    seconds = (
        Fraction(stream.duration) * stream.time_base
        if stream.duration and stream.time_base
        else Fraction(handle.duration or 0, 1_000_000)
    )
    announced = max(0, round(seconds * rate))
    blocks = _media_blocks(av, first, frames)
    return Decoder(rate, channels, announced, rate // 4, blocks, handle)


def _media_frames(av: Any, handle: Any, stream: Any) -> Iterator[Any]:
    try:
        yield from handle.decode(stream)
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise Damaged("the decoder lost its way") from error


def _media_blocks(av: Any, first: Any, frames: Iterator[Any]) -> Iterator[Array]:
    rate, channels = first.sample_rate, len(first.layout.channels)
    convert = av.AudioResampler(format="fltp", layout=first.layout, rate=rate)
    parts: list[Array] = []
    size = 0
    frame: Any = first
    while frame is not None:
        if frame.sample_rate != rate or len(frame.layout.channels) != channels:
            raise Damaged("the sample rate or the channels change on the way")
        parts += [part.to_ndarray().T for part in convert.resample(frame)]
        size += frame.samples * channels
        if size >= _BLOCK_SAMPLES:
            yield np.concatenate(parts)
            parts, size = [], 0
        frame = next(frames, None)
    parts += [part.to_ndarray().T for part in convert.resample(None)]
    if parts:
        yield np.concatenate(parts)
