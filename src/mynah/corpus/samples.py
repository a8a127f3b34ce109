"""From a cut to its samples.

The decoder is given by the caller (``mynah.audio.read``): manifests do not depend on it.
"""

from __future__ import annotations

import io
import os
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from mynah.corpus.cut import Cut, Recording
from mynah.corpus.storage import is_url, read_range
from mynah.errors import InputError

_SEEKABLE = ("WAV", "WAVEX", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF")


class Waveform(Protocol):
    """What a decoder returns: float32 samples, mono, and their rate in hertz."""

    @property
    def samples(self) -> npt.NDArray[np.float32]: ...
    @property
    def rate(self) -> int: ...


class Read(Protocol):
    """The shape of ``mynah.audio.read``."""

    def __call__(
        self,
        source: Any,
        *,
        rate: int | None = None,
        channel: Any = "mix",
        max_seconds: float = ...,
    ) -> Waveform: ...


def audio_bytes(recording: Recording) -> bytes:
    """The encoded audio of a recording.

    Raises:
        InputError: it cannot be read.
    """
    if recording.data is not None:
        return recording.data
    return read_range(recording.source, recording.byte_start, recording.byte_size)


def probe(source: str | bytes) -> tuple[int | None, float | None]:
    """Rate (hertz) and duration (seconds) from the header; ``None`` where it does not say.

    Raises:
        InputError: the file is missing or empty.
    """
    if source == b"":
        raise InputError("is empty")
    try:
        info = soundfile.info(_for_soundfile(source))
    except soundfile.LibsndfileError:
        return None, None  # a format that soundfile does not know; decoding will tell
    if info.samplerate <= 0 or not 0 < info.frames < 1 << 48:
        return None, None
    return int(info.samplerate), info.frames / info.samplerate


def _for_soundfile(source: str | bytes) -> Any:
    """A name as the system has it: soundfile itself takes none that is not UTF-8."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return os.fsencode(source) if os.name == "posix" else source


def native_rate(cut: Cut) -> int:
    """The sampling rate of a cut's recording, 16 kHz where its header does not say.

    Raises:
        InputError: the file is missing or empty.
    """
    recording = cut.recording
    if recording.rate:
        return recording.rate
    in_memory = recording.data is not None or recording.in_archive or is_url(recording.source)
    return probe(audio_bytes(recording) if in_memory else recording.source)[0] or 16000


def load(
    cut: Cut, read: Read, *, rate: int | None = None, max_seconds: float = 6 * 3600.0
) -> npt.NDArray[np.float32]:
    """The samples (S,) of a cut at ``rate`` hertz, mono, float32 in [-1, 1].

    ``max_seconds`` limits what is decoded.

    Raises:
        InputError: it cannot be read or decoded, holds no samples, or numbers that are not finite.
    """
    samples = _load(cut, read, rate, max_seconds)
    if samples.size == 0:
        raise InputError("has no samples")
    if not np.isfinite(samples).all():
        raise InputError("has samples that are not numbers (NaN or infinite)")
    return samples


def _load(cut: Cut, read: Read, rate: int | None, max_seconds: float) -> npt.NDArray[np.float32]:
    recording = cut.recording
    channel: Any = "mix" if cut.channel is None else cut.channel
    partial = cut.start > 0 or not cut.whole
    source: Any = recording.source
    if recording.data is not None or recording.in_archive or is_url(recording.source):
        source = audio_bytes(recording)
    if not partial:
        wave = read(source, rate=rate, channel=channel, max_seconds=max_seconds)
        return wave.samples
    part = _seek(source, cut, max_seconds)
    if part is not None:
        return read(part, rate=rate, channel=channel, max_seconds=max_seconds).samples
    end = max_seconds if cut.duration is None else cut.start + cut.duration
    wave = read(source, rate=rate, channel=channel, max_seconds=max(max_seconds, 4 * 3600.0))
    return wave.samples[round(cut.start * wave.rate) : round(end * wave.rate)]


def _seek(source: Any, cut: Cut, max_seconds: float) -> io.BytesIO | None:
    """The stretch of ``source`` as a wav in memory, where the format can seek to it."""
    try:
        with soundfile.SoundFile(_for_soundfile(source)) as file:
            if file.format not in _SEEKABLE:
                return None
            start = round(cut.start * file.samplerate)
            if start >= file.frames:
                length = file.frames / file.samplerate
                raise InputError(f"starts at {cut.start:g} s, the recording has {length:g} s")
            seconds = max_seconds if cut.duration is None else min(cut.duration, max_seconds)
            file.seek(start)
            samples = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)
            target = io.BytesIO()
            soundfile.write(target, samples, file.samplerate, format="WAV", subtype="FLOAT")
    except soundfile.LibsndfileError:
        return None
    target.seek(0)
    return target
