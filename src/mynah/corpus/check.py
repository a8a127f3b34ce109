"""Checks of a corpus: every recording decoded, every line looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from mynah.corpus.cut import Cut
from mynah.corpus.parallel import ordered_map
from mynah.corpus.samples import Read, audio_bytes, load, probe
from mynah.corpus.storage import is_url
from mynah.errors import InputError

CLIPPED = 0.999  # of full scale
CLIPPED_PART = 0.01  # of the samples, above which a recording is reported
QUIET = 1e-4  # peak below which a recording is silent


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in one cut. ``error`` makes it unusable; warnings do not."""

    id: str
    seconds: float = 0.0
    rate: int | None = None  # hertz, of the file
    speaker: str = ""
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass
class Report:
    """All findings."""

    count: int = 0
    seconds: float = 0.0
    rates: Counter[int] = field(default_factory=Counter)
    errors: list[Checked] = field(default_factory=list)
    warnings: list[Checked] = field(default_factory=list)

    def add(self, checked: Checked) -> None:
        """Count one cut in."""
        self.count += 1
        if checked.error:
            self.errors.append(checked)
            return
        self.seconds += checked.seconds
        if checked.rate is not None:
            self.rates[checked.rate] += 1
        if checked.warnings:
            self.warnings.append(checked)


def check_cut(cut: Cut, read: Read, *, max_seconds: float = 6 * 3600.0) -> Checked:
    """Decode a cut and compare it with what its manifest says."""
    recording, warnings = cut.recording, []
    try:
        in_memory = recording.data is not None or recording.in_archive or is_url(recording.source)
        rate, _ = probe(audio_bytes(recording) if in_memory else recording.source)
        rate = rate or recording.rate
        samples = load(cut, read, rate=rate, max_seconds=max_seconds)
    except InputError as error:
        return Checked(cut.id, speaker=cut.speaker, error=str(error))
    seconds = len(samples) / rate if rate else cut.duration or 0.0
    if cut.duration is not None and rate and abs(seconds - cut.duration) > 0.05:
        if abs(seconds - cut.duration) > max(0.5, 0.2 * cut.duration):
            reason = f"decodes to {seconds:.2f} s, the manifest says {cut.duration:.2f} s"
            return Checked(cut.id, seconds, rate, cut.speaker, reason)
        warnings.append(f"is {seconds:.3f} s, the manifest says {cut.duration:.3f} s")
    peak = float(np.abs(samples).max())
    if peak < QUIET:
        warnings.append("is silent")
    elif float(np.mean(np.abs(samples) >= CLIPPED)) > CLIPPED_PART:
        warnings.append("is clipped")
    if not cut.text.strip():
        warnings.append("has no text")
    return Checked(cut.id, seconds, rate, cut.speaker, "", tuple(warnings))


def check_cuts(cuts: Iterable[Cut], read: Read, *, jobs: int = 0) -> Iterator[Checked]:
    """:func:`check_cut` over many, in threads; the second cut of an id is an error."""
    seen: set[str] = set()
    for checked in ordered_map(lambda cut: check_cut(cut, read), cuts, jobs):
        if checked.id in seen and not checked.error:
            yield Checked(checked.id, checked.seconds, checked.rate, checked.speaker,
                          "the id occurs more than once")  # fmt: skip
        else:
            yield checked
        seen.add(checked.id)
