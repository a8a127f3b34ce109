"""Synthetic speech for training: sentences of a text read by flite, festival and espeak-ng.

All are small programs of every Linux distribution, run here as ordinary processes. What item
``index`` says, and how, is a function of (seed, index) alone: a run that was interrupted goes on
where it stopped, and any number of jobs makes the same corpus.

A voice is ``flite:NAME``, ``festival:NAME``, ``espeak:ACCENT`` or ``espeak:ACCENT+VARIANT``. Beside
rate and pitch the *warp* is drawn: the recording is made slower by that factor and then resampled,
which moves formants and pitch together as a shorter or longer vocal tract does (above 1: a smaller
speaker).
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import count as count_from
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mynah.corpus.prompt_text import (
    LANGUAGES,
    Syllables,
    count_words,
    spoken_text,
    written_for,
)
from mynah.errors import ConfigError, InputError, MynahError
from mynah.whole import whole_file, write_whole

log = logging.getLogger(__name__)

RATE = 16000
PROGRAMS = {"flite": "flite", "festival": "text2wave", "espeak": "espeak-ng"}
FLITE_VOICES = ("flite:awb", "flite:rms", "flite:slt", "flite:kal16")
FESTIVAL_VOICES = ("festival:kal_diphone", "festival:ked_diphone",
                   "festival:cmu_us_slt_arctic_hts")  # fmt: skip
_ACCENTS = ("en-us", "en-us-nyc", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan",
            "en-gb-x-gbcwmd", "en-029")  # fmt: skip
_VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5",
             "klatt2", "klatt4", "Andy", "Annie", "Michael", "steph2", "linda", "Lee")  # fmt: skip
ESPEAK_VOICES = tuple(f"espeak:{a}+{v}" for a in _ACCENTS for v in _VARIANTS)
# The voice that reads pinyin: what stands in hanzi it would mistake.
MANDARIN_VOICES = tuple(f"espeak:cmn-latn-pinyin+{v}" for v in _VARIANTS)
_SECONDS_LIMIT = 60.0  # a program that hangs is stopped
_FIELDS = ("id", "path", "speaker", "duration", "text", "split")


@dataclass(frozen=True)
class SynthesisConfig:
    """What to make. ``hours`` ends the run once reached (0: make exactly ``count`` items)."""

    seed: int = 1
    count: int = 0
    hours: float = 0.0
    voices: tuple[str, ...] = FLITE_VOICES + ESPEAK_VOICES
    # how the items are shared among the programs that have voices
    shares: dict[str, float] = field(
        default_factory=lambda: {"flite": 0.5, "festival": 0.2, "espeak": 0.3}
    )
    min_words: int = 2
    max_words: int = 30
    min_seconds: float = 0.8
    max_seconds: float = 12.0
    short_share: float = 0.5  # of the items have at most short_words words
    short_words: int = 9
    rate: tuple[float, float] = (0.7, 1.3)  # speaking rate, 1.0 as the voice has it
    warp: tuple[float, float] = (0.88, 1.22)
    silence: tuple[float, float] = (0.05, 0.4)  # seconds of silence before, and again after
    split: str = "train"
    language: str = "en"  # of the sentences; en or zh

    def __post_init__(self) -> None:
        if self.count <= 0 and not 0 < self.hours < math.inf:
            raise ConfigError("say how much to make: a count or hours above 0")
        if self.language not in LANGUAGES:
            raise ConfigError(f"language: {self.language!r} is none of {', '.join(LANGUAGES)}")
        for voice in self.voices:
            if voice.partition(":")[0] not in PROGRAMS or not voice.partition(":")[2]:
                raise ConfigError(
                    f"{voice}: a voice is flite:NAME, festival:NAME or espeak:ACCENT+VARIANT"
                )
            if self.shares.get(voice.partition(":")[0], 0.0) <= 0.0:
                raise ConfigError(f"shares: nothing for {voice}")
        if not self.voices:
            raise ConfigError("voices is empty")


@dataclass(frozen=True)
class Prompt:
    """One item before it is spoken: the sentence, and how it is to be said."""

    index: int
    sentence: str
    voice: str
    rate: float
    pitch: float  # 0 low to 1 high, within what is natural for the voice
    warp: float
    silence: tuple[float, float]

    @property
    def id(self) -> str:
        return f"synth_{self.index:07d}"

    @property
    def path(self) -> str:
        return f"audio/{self.index // 1000:04d}/{self.id}.flac"

    @property
    def speaker(self) -> str:
        """The voice and its warp in steps of 0.05: what sounds like one speaker."""
        return f"{self.voice.replace(':', '_')}_{round(self.warp * 20) * 5}"


class Prompts:
    """``prompts[index]`` for any index: sentences without repetition until all were used."""

    def __init__(self, sentences: list[str], config: SynthesisConfig) -> None:
        self.config = config
        rng = np.random.default_rng(config.seed)
        sizes = [count_words(sentence, config.language) for sentence in sentences]
        pairs = list(zip(sentences, sizes, strict=True))
        short = [s for s, size in pairs if size <= config.short_words]
        rest = [s for s, size in pairs if size > config.short_words]
        self._pools = [(pool, rng.permutation(len(pool))) for pool in (short, rest) if pool]
        groups = {p: [v for v in config.voices if v.startswith(f"{p}:")] for p in PROGRAMS}
        self._voices = [group for group in groups.values() if group]
        shares = np.array([config.shares[p] for p, group in groups.items() if group])
        self._bounds = np.cumsum(shares / shares.sum())

    def __getitem__(self, index: int) -> Prompt:
        config = self.config
        rng = np.random.default_rng((config.seed, index))
        pool, order = self._pools[0]
        number = index
        if len(self._pools) == 2:
            # Item `index` takes the next unused one of its pool: counted, not drawn, so that no
            # sentence comes twice.
            before, after = (int((index + step) * config.short_share) for step in (0, 1))
            is_short = after > before
            pool, order = self._pools[0 if is_short else 1]
            number = before if is_short else index - before
        drawn = int(np.searchsorted(self._bounds, rng.random(), side="right"))
        group = self._voices[min(drawn, len(self._voices) - 1)]
        return Prompt(
            index=index,
            sentence=pool[order[number % len(pool)]],
            voice=group[int(rng.integers(len(group)))],
            rate=float(rng.uniform(*config.rate)),
            pitch=float(rng.uniform()),
            warp=float(rng.uniform(*config.warp)),
            silence=(float(rng.uniform(*config.silence)), float(rng.uniform(*config.silence))),
        )


def render(prompt: Prompt, syllables: Syllables | None = None) -> npt.NDArray[np.float32]:
    """The prompt spoken: float32 samples at 16 kHz; ``syllables`` as in :func:`synthesize`.

    Raises:
        MynahError: the program fails.
    """
    import soundfile
    import soxr

    program, _, voice = prompt.voice.partition(":")
    sentence = written_for(prompt.sentence, syllables)
    with tempfile.TemporaryDirectory(prefix="mynah-") as folder:
        wav = os.path.join(folder, "speech.wav")
        rate = prompt.rate / prompt.warp  # the warp makes it faster again
        # The sentence goes through a file: it can then never be taken for an option.
        text = os.path.join(folder, "text.txt")
        Path(text).write_text(sentence + "\n", encoding="ascii", errors="ignore")
        _execute(_COMMANDS[program](voice, rate, prompt.pitch, text, wav))
        try:
            samples, wav_rate = soundfile.read(wav, dtype="float32")
        except (OSError, soundfile.LibsndfileError):
            raise MynahError(f"{PROGRAMS[program]}: voice {voice} gave no audio") from None
    samples = soxr.resample(samples, wav_rate * prompt.warp, RATE)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        raise MynahError(f"{PROGRAMS[program]}: voice {voice} gave silence")
    loud = np.flatnonzero(np.abs(samples) > 0.005 * peak)
    samples = samples[loud[0] : loud[-1] + 1] * (0.5 / peak)
    before, after = (int(seconds * RATE) for seconds in prompt.silence)
    return np.pad(samples, (before, after)).astype(np.float32)


def _flite_command(voice: str, rate: float, pitch: float, text: str, wav: str) -> list[str]:
    low, high = (140, 240) if voice == "slt" else (80, 160)
    return [
        PROGRAMS["flite"], "-voice", voice,
        "--setf", f"duration_stretch={1 / rate:.3f}",
        "--setf", f"int_f0_target_mean={low + pitch * (high - low):.0f}",
        "-f", text, "-o", wav,
    ]  # fmt: skip


def _festival_command(voice: str, rate: float, pitch: float, text: str, wav: str) -> list[str]:
    if not re.fullmatch(r"\w+", voice):  # it becomes part of a program
        raise MynahError(f"{PROGRAMS['festival']}: {voice!r} is no name of a voice")
    settings = f"(voice_{voice}) (Parameter.set 'Duration_Stretch {1 / rate:.3f})"
    if voice.endswith("_hts"):
        settings += (
            " (set! hts_engine_params (append hts_engine_params"
            f' \'(("-r" {rate:.3f}) ("-fm" {(pitch - 0.5) * 8:.2f}))))'
        )
    else:
        settings += (
            f" (set! int_lr_params '((target_f0_mean {85 + 60 * pitch:.0f}) (target_f0_std 15)"
            " (model_f0_mean 170) (model_f0_std 34)))"
        )
    return [PROGRAMS["festival"], "-eval", f"(begin {settings})", "-o", wav, text]


def _espeak_command(voice: str, rate: float, pitch: float, text: str, wav: str) -> list[str]:
    return [
        PROGRAMS["espeak"], "-v", voice, "-z",
        "-s", f"{max(80, round(165 * rate))}", "-p", f"{round(25 + 50 * pitch)}",
        "-f", text, "-w", wav,
    ]  # fmt: skip


_COMMANDS: dict[str, Callable[[str, float, float, str, str], list[str]]] = {
    "flite": _flite_command,
    "festival": _festival_command,
    "espeak": _espeak_command,
}


def _execute(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_SECONDS_LIMIT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise MynahError(f"{command[0]}: not installed (a package of that name exists)") from None
    except subprocess.TimeoutExpired:
        raise MynahError(f"{command[0]}: no answer in {_SECONDS_LIMIT:.0f} s") from None
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise MynahError(f"{command[0]}: {reason[-1] if reason else f'exit {done.returncode}'}")


def _make(prompt: Prompt, folder: Path, syllables: Syllables | None) -> float:
    """Render into ``folder`` unless it is there; the duration in seconds."""
    import soundfile

    target = folder / prompt.path
    if target.exists():  # whole, because it is renamed into place
        return float(soundfile.info(str(target)).duration)
    samples = render(prompt, syllables)
    data = io.BytesIO()  # libsndfile itself does not say why it cannot write
    soundfile.write(data, samples, RATE, format="FLAC", subtype="PCM_16")
    with whole_file(target) as stream:
        stream.write(data.getbuffer())
    return len(samples) / RATE


def synthesize(
    sentences: list[str],
    folder: str | Path,
    config: SynthesisConfig,
    *,
    jobs: int = 1,
    progress: Callable[[int, float], None] | None = None,
    syllables: Syllables | None = None,
) -> tuple[int, float]:
    """Make the corpus: ``folder/audio/...flac`` and ``folder/manifest.tsv``; (items, hours).

    Items whose duration is out of bounds, or that a program cannot say, are left out (logged).
    ``progress(items, hours)`` is called after each item. ``syllables`` says how hanzi are read, for
    sentences in Chinese (:func:`mynah.text.pinyin.syllables`). Raises MynahError when a program is
    not installed, or fails for 20 items in a row, or the folder holds items of other sentences or
    settings.
    """
    folder = Path(folder)
    for program in {PROGRAMS[v.partition(":")[0]] for v in config.voices}:
        if shutil.which(program) is None:
            raise MynahError(f"{program}: not installed (a package of that name exists)")
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, sentences, config)
    rows: list[str] = []
    seconds, failures = 0.0, 0
    for prompt, outcome in _in_order(
        Prompts(sentences, config), folder, config.count, jobs, syllables
    ):
        if isinstance(outcome, InputError):
            raise outcome  # the folder takes no more
        if isinstance(outcome, MynahError):
            log.warning("%s left out: %s", prompt.id, outcome)
            failures += 1
            if failures == 20:
                raise outcome
            continue
        failures = 0
        if not config.min_seconds <= outcome <= config.max_seconds:
            continue
        text = spoken_text(prompt.sentence, config.language) or ""
        fields = (prompt.id, prompt.path, prompt.speaker, f"{outcome:.4f}", text, config.split)
        rows.append("\t".join(fields))
        seconds += outcome
        if progress:
            progress(len(rows), seconds / 3600)
        if config.hours and seconds >= config.hours * 3600:
            break
    write_whole(folder / "manifest.tsv", "\n".join(["\t".join(_FIELDS), *rows]) + "\n")
    return len(rows), seconds / 3600


def _claim(folder: Path, sentences: list[str], config: SynthesisConfig) -> None:
    """Keep what the items of ``folder`` are made of; what is there is not made again, so it must be
    of the same."""
    chosen = {name: value for name, value in asdict(config).items() if name not in _OF_A_RUN}
    facts = json.dumps([chosen, sentences], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()
    path = folder / "made_of.sha256"
    if path.is_file() and path.read_text("utf-8").strip() != digest:
        raise MynahError(
            f"{folder}: holds items of other sentences or settings; choose another folder"
        )
    write_whole(path, digest + "\n")


# how much is made and how it is listed, which changes no item
_OF_A_RUN = ("count", "hours", "min_seconds", "max_seconds", "split")


def _in_order(
    prompts: Prompts, folder: Path, count: int, jobs: int, syllables: Syllables | None
) -> Iterator[tuple[Prompt, float | MynahError]]:
    """Items made by ``jobs`` threads (each waits for a process), handed out by index."""

    def attempt(prompt: Prompt) -> float | MynahError:
        try:
            return _make(prompt, folder, syllables)
        except MynahError as error:
            return error

    waiting: deque[tuple[Prompt, Future[float | MynahError]]] = deque()
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        for index in range(count) if count else count_from():
            prompt = prompts[index]
            waiting.append((prompt, pool.submit(attempt, prompt)))
            if len(waiting) >= 4 * max(1, jobs):
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
