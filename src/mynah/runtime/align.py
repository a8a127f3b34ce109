"""A recording and its text: where each word of the text is heard.

The recording may be hours long: features and encoder run in windows that overlap, and of the
encoder's output only the blank and the units of the text are kept. Words of the text that are not
heard, and speech that is not in the text, do not shift the rest
(:func:`mynah.decoding.align_text`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from mynah.audio.files import MAX_SECONDS, Channel
from mynah.decoding import TextAlignment, align_text, force_align
from mynah.errors import InputError
from mynah.runtime.chunker import Pieces
from mynah.runtime.edges import Core, Loudness, refine
from mynah.runtime.engine import Array
from mynah.runtime.model import Model
from mynah.runtime.result import Segment, Transcript, Word, make_transcript
from mynah.runtime.sound import Audio, sound_blocks
from mynah.runtime.words import TokenSpan, make_words
from mynah.text import Tokenizer, normalize_for_scoring
from mynah.text.borrowed import MANDARIN, borrowed_units, borrows
from mynah.text.characters import ALONE, HANZI, is_alone

WINDOW = 24.0  # seconds of a window that are kept
CONTEXT = 3.0  # and on both sides of it, that are only seen
FOREIGN = 0.5  # seconds; speech without text that is shorter is not reported
HEARD = 0.01  # geometric mean of the probabilities of a word's units, below which it is not there

_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|[。！？]+[”’」』）]*")  # of a sentence
_PIECE = re.compile(f"{ALONE.pattern}|[^{ALONE.pattern[1:]}+")
_SHORTEST = 3  # words of a sentence; "Dr." ends none


@dataclass(frozen=True)
class AlignedText:
    """What :func:`align` found.

    Attributes:
        transcript: the text, a segment a sentence. Words that were not heard have confidence 0 and
            times spread between their neighbours (``source`` is ``"interpolated"``); words that the
            model has no units for have no confidence, and times likewise.
        missing: the words that were not heard.
        foreign: start and end, in seconds, of speech that is not in the text.
        exact: whether the best of all alignments was found for certain.
        heard: whether any word is there; ``align(exact=True)`` gives times to all of them, also to
            those that nothing speaks for.
    """

    transcript: Transcript
    missing: tuple[Word, ...]
    foreign: tuple[tuple[float, float], ...]
    exact: bool
    heard: bool


@dataclass(frozen=True)
class Spelt:
    """A word of the text and its units; ``gap`` are those of the space before it."""

    text: str
    gap: tuple[int, ...]
    units: tuple[int, ...]


def align(
    model: Model,
    audio: Audio,
    text: str,
    *,
    rate: int | None = None,
    channel: Channel = "mix",
    language: str | None = None,
    exact: bool = False,
    chars: bool = False,
    max_seconds: float = MAX_SECONDS,
    partial: bool = False,
    progress: Callable[[float], None] | None = None,
) -> AlignedText:
    """Align ``text`` to a recording; ``audio``, ``rate``, ``channel``, ``max_seconds`` and
    ``partial`` as in :meth:`mynah.Recognizer.transcribe`.

    Segments are the lines of the text, and the sentences of a line. With ``exact`` the text is
    taken for what was said, word for word, which a weak model is better told. Words beside a pause
    end and begin where the sound does. ``chars`` asks for the times of characters too; ``progress``
    is called with seconds of audio as they are done. English phones align Mandarin (hanzi), too.

    Raises:
        InputError: the recording cannot be read, the text has no word that the model can spell, or
            with ``exact`` the recording is too short for it.
        ConfigError: the model does not know ``language``.
        MissingDependency: what reads hanzi is not installed.
    """
    language = _language(model, text, language)
    lines = [(line, split_words(line)) for line in split_sentences(text)]
    lines = [(line, words) for line, words in lines if words]
    items = spell(model.tokenizer, [w for _, words in lines for w in words], language or "en")
    used = sorted({unit for item in items for unit in (*item.gap, *item.units)})
    if not any(item.units for item in items):
        raise InputError("the text has no word that the model can spell")
    columns = [model.tokenizer.blank, *used]
    blocks = sound_blocks(
        audio, model.rate, samples_rate=rate, channel=channel, max_seconds=max_seconds,
        partial=partial,
    )  # fmt: skip
    counted = _Counted(blocks, progress, model.rate)
    parts = [log_probs[:, columns] for log_probs in encode_long(model, counted)]
    heard = np.concatenate(parts) if parts else np.zeros((0, len(columns)), np.float32)
    number = {unit: column for column, unit in enumerate(columns)}
    spelt = [[number[unit] for unit in (*item.gap, *item.units)] for item in items]
    found = _exactly(heard, spelt) if exact else align_text(heard, spelt)
    duration = counted.samples / model.rate
    words = timed_words(model, items, found, duration, counted.loudness.values(), chars)
    rest = iter(words)
    segments = [_segment(line, tuple(islice(rest, len(part)))) for line, part in lines]
    return AlignedText(
        transcript=make_transcript(
            segments, language=language, duration=duration, model=model.name
        ),
        missing=tuple(word for word in words if word.confidence == 0 and word.source != "aligned"),
        foreign=_foreign(model, found, duration),
        exact=found.exact,
        heard=_any_heard(items, found.confidences),
    )


def _language(model: Model, text: str, wanted: str | None) -> str | None:
    """What the text is spelt in: as asked, Mandarin where it has hanzi, or the model's own."""
    hanzi, words = len(HANZI.findall(text)), len(re.findall("[A-Za-z]+", text))
    # Japanese has hiragana between its words, and at most a name or a particle is among Mandarin
    chinese = hanzi > words and 4 * len(re.findall("[\u3041-\u3096]", text)) < hanzi
    if (wanted == MANDARIN or (wanted is None and chinese)) and borrows(model.tokenizer, MANDARIN):
        return MANDARIN
    return model.language(wanted)


def _exactly(heard: Array, words: Sequence[Sequence[int]]) -> TextAlignment:
    best = force_align(heard, [unit for word in words for unit in word])
    return TextAlignment(best.starts, best.ends, best.confidences, (), True)


def _any_heard(items: Sequence[Spelt], confidences: Sequence[float]) -> bool:
    """Whether a word is there, by its units' own probabilities: what a map makes of them says how
    often words that were recognised are right."""
    first = 0
    for item in items:
        begin, first = first + len(item.gap), first + len(item.gap) + len(item.units)
        units = np.asarray(confidences[begin:first])
        if len(units) and np.log(np.maximum(units, 1e-30)).mean() >= np.log(HEARD):
            return True
    return False


def _segment(text: str, words: tuple[Word, ...]) -> Segment:
    known = [word.confidence for word in words if word.confidence is not None]
    confidence = sum(known) / len(known) if known else None
    return Segment(text, words[0].start, words[-1].end, confidence, words)


class _Counted:
    """Blocks of samples on their way, counted."""

    def __init__(
        self, blocks: Iterator[Array], progress: Callable[[float], None] | None, rate: int
    ) -> None:
        self._blocks, self._progress, self._rate = blocks, progress, rate
        self.samples, self.loudness = 0, Loudness(rate)

    def __iter__(self) -> Iterator[Array]:
        for block in self._blocks:
            self.samples += len(block)
            self.loudness.add(block)
            yield block
            if self._progress is not None:
                self._progress(len(block) / self._rate)


def encode_long(model: Model, blocks: Iterable[Array]) -> Iterator[Array]:
    """CTC log-probabilities (T', V) of a recording of any length, a window at a time.

    A window sees ``CONTEXT`` seconds more on both sides than the frames that are kept of it, so
    that nothing is said at its border. A recording of one window is encoded whole.
    """
    engine, stream = model.engine, model.frontend.stream()
    step = engine.subsampling
    frames = max(round(WINDOW / model.clock.step), 1)  # encoder frames kept of a window
    context = max(round(CONTEXT / model.clock.step), 1)
    ahead = (frames + context) * step + engine.overlap + 1 - step  # feature frames from its start
    feats, seen = Pieces(), 0  # of the features held, encoder frames that were given out before
    for block in blocks:
        feats.add(stream.feed(block))
        while len(feats) >= seen * step + ahead:
            held = feats.take(len(feats))
            yield encode_feats(model, held[: seen * step + ahead])[seen : seen + frames]
            left = max(seen + frames - context, 0)  # frames before those that later windows see
            feats.add(held[left * step :].copy())
            seen += frames - left
    feats.add(stream.feed(np.zeros(0, np.float32), last=True))
    held = feats.take(len(feats))
    if len(held) > engine.overlap:
        yield encode_feats(model, held)[seen:]


def encode_feats(model: Model, feats: Array) -> Array:
    out = model.engine.encode(feats[None], np.array([len(feats)], np.int64))
    log_probs: Array = out.log_probs[0, : int(out.lens[0])]
    return log_probs


def split_sentences(text: str) -> list[str]:
    """The lines of a text, and the sentences of a line."""
    found = []
    for line in text.splitlines():
        start = 0
        for end in (*(match.end() for match in _END.finditer(line)), len(line)):
            if end == len(line) or len(split_words(line[start:end])) >= _SHORTEST:
                found.append(line[start:end])
                start = end
    return [" ".join(sentence.split()) for sentence in found if sentence.strip()]


def split_words(text: str) -> list[str]:
    """The words of a text, punctuation left at the word before it; hanzi and kana are words."""
    words: list[str] = []
    lead = ""  # punctuation before the first word
    for chunk in text.split():
        joint = " "
        for piece in _PIECE.findall(chunk):
            if any(map(str.isalnum, piece)):
                words.append(lead + piece)
                lead = ""
            elif words:
                words[-1] += joint + piece if joint else piece
            else:
                lead += piece
            joint = ""
    return words


def spell(tokenizer: Tokenizer, words: Sequence[str], language: str) -> list[Spelt]:
    """The units of each word, as it is written or as it would be scored; none where the model has
    none for it (a numeral, another script). Mandarin may be in the phones of English.

    Raises:
        MissingDependency: what reads hanzi is not installed.
    """
    if borrows(tokenizer, language):
        units = borrowed_units(tokenizer, words)
    else:
        units = [_units(tokenizer, word, language) for word in words]
    gap: tuple[int, ...] | None = None
    spelt = []
    for number, (word, ids) in enumerate(zip(words, units, strict=True)):
        between: tuple[int, ...] = ()
        if (
            number
            and ids
            and units[number - 1]
            and not (_alone(word) and _alone(words[number - 1]))
        ):
            if gap is None:
                both = _units(tokenizer, f"{words[number - 1]} {word}", language)
                gap = both[len(units[number - 1]) : max(len(both) - len(ids), 0)]
            between = gap
        spelt.append(Spelt(word, between, ids))
    return spelt


def _alone(word: str) -> bool:
    return any(map(is_alone, word))


def _units(tokenizer: Tokenizer, text: str, language: str) -> tuple[int, ...]:
    plain = normalize_for_scoring(text, language)
    for form in (text, plain, plain.upper()):
        ids = tokenizer.encode(form)
        if ids and tokenizer.unk not in ids:
            return tuple(ids)
    return ()


def timed_words(
    model: Model,
    items: Sequence[Spelt],
    found: TextAlignment,
    duration: float,
    loudness: Array,
    chars: bool,
) -> list[Word]:
    """Every word of the text: where it was heard, or spread between those that were."""
    spans, pieces, heard = [], [], []
    for start, stop, confidence in zip(found.starts, found.ends, found.confidences, strict=True):
        spans.append(TokenSpan(start, stop, confidence, "aligned"))
    first = 0
    decode = model.tokenizer.decode
    for number, item in enumerate(items):
        begin, first = first + len(item.gap), first + len(item.gap) + len(item.units)
        if item.units and spans[begin].first >= 0:
            spelt = "".join(decode([unit]) for unit in item.units)
            pieces.append((spelt, begin, first))
            heard.append(number)
    labels = [decode([unit]) for item in items for unit in (*item.gap, *item.units)]
    timed = make_words(
        pieces,
        spans,
        clock=model.clock,
        start=0.0,
        end=duration,
        calibration=model.calibration,
        units=labels if chars else (),
    )
    words = [
        Word(item.text, 0.0, 0.0, 0.0 if item.units else None, "interpolated") for item in items
    ]
    cores: list[Core | None] = [None] * len(words)
    clock = model.clock
    for number, word, (_, begin, last) in zip(heard, timed, pieces, strict=True):
        text = items[number].text
        words[number] = replace(word, text=text, chars=_written(text, word))
        cores[number] = clock.spoken(spans[begin].first), clock.spoken(spans[last - 1].stop)
    words = refine(words, cores, loudness)
    _interpolate(words, duration)
    return words


def _written(text: str, word: Word) -> tuple[tuple[float, float], ...]:
    """Times of the characters of ``text`` from those that were spelt; punctuation takes none."""
    letters = [char.isalnum() or char in "'’" for char in text]
    if sum(letters) != len(word.chars):
        return ()
    times, at, spelt = [], word.start, iter(word.chars)
    for letter in letters:
        times.append(next(spelt) if letter else (at, at))
        at = times[-1][1]
    return tuple(times)


def _interpolate(words: list[Word], duration: float) -> None:
    """Spread words that were not heard between those that were, by their numbers of characters."""
    first = 0
    while first < len(words):
        if words[first].source == "aligned":
            first += 1
            continue
        last = first
        while last < len(words) and words[last].source != "aligned":
            last += 1
        start = words[first - 1].end if first else 0.0
        end = words[last].start if last < len(words) else duration
        total = sum(len(word.text) for word in words[first:last])
        at = 0
        for number in range(first, last):
            begin = start + (end - start) * at / total
            at += len(words[number].text)
            stop = start + (end - start) * at / total
            words[number] = replace(words[number], start=begin, end=stop)
        first = last


def _foreign(
    model: Model, found: TextAlignment, duration: float
) -> tuple[tuple[float, float], ...]:
    """Seconds of speech between two words of the text, pauses in it included."""
    starts = np.array(sorted(start for start in found.starts if start >= 0))
    merged: list[list[int]] = []
    for first, stop in found.foreign:
        if merged and np.searchsorted(starts, merged[-1][0]) == np.searchsorted(starts, first):
            merged[-1][1] = stop
        else:
            merged.append([first, stop])
    times = [[max(model.clock.spoken(frame), 0.0) for frame in pair] for pair in merged]
    spans = [(first, min(stop, duration)) for first, stop in times]
    return tuple((first, stop) for first, stop in spans if stop - first >= FOREIGN)
