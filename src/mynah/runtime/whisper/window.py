"""Windows to texts: prompts, searches, and other temperatures where a text is not to be trusted."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mynah.decoding.whisper_prediction import Prediction
from mynah.decoding.whisper_rules import Rules
from mynah.decoding.whisper_search import Text, beam_search, best_text, sample
from mynah.runtime.engine import Array
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.recording import FRAMES
from mynah.text.whisper_tokenizer import TIME_STEP, WhisperTokenizer

if TYPE_CHECKING:
    from mynah.runtime.whisper.engine import Heard, WhisperEngine

# Tokens that a short context may give, and more for each of its seconds: no language is spoken so
# fast, and a text that goes round in circles is soon there.
_SAID, _SAID_A_SECOND = 20, 25
_TWICE = 5  # tokens that make a short context doubtful when they come again
_LATE = 10  # frames before the end of what is heard; nothing begins so late


@dataclass(frozen=True)
class Asked:
    """What is asked of a window: the tokens before its text, and numbers that its sampling begins
    with.

    ``before`` is the prompt, ``start`` the start sequence, and ``given`` how the text begins.
    """

    start: tuple[int, ...]
    before: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    seed: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Found:
    """The text of a window.

    Attributes:
        tokens: what was chosen, times included, and the log-probability of each in ``logs``.
        text: of the tokens.
        temperature: at which it was found.
        avg_logprob: mean log-probability of the tokens and the end.
        compression_ratio: how much smaller zlib makes the text.
        no_speech_prob: probability that nobody speaks.
        tried: the last temperature that was tried.
        failed: whether no temperature gave a text to be trusted.
    """

    tokens: tuple[int, ...]
    logs: tuple[float, ...]
    text: str
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    tried: float = 0.0
    failed: bool = False


def compression_ratio(text: str) -> float:
    """Length of a text over that of what zlib makes of it; above 2 or so it repeats itself."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))


def wanders(tokens: Sequence[int], size: int, longest: int, timestamp_begin: int) -> bool:
    """Whether a text of ``size`` frames does not end within ``longest`` tokens, begins a segment
    behind them, or says something twice."""
    behind, text = False, []
    for token in tokens:
        if token >= timestamp_begin:
            behind = 2 * (token - timestamp_begin) > size - _LATE
        elif behind:
            return True
        else:
            text.append(token)
    said = [tuple(text[n : n + _TWICE]) for n in range(len(text) - _TWICE + 1)]
    return len(tokens) >= longest or len(set(said)) < len(said)


@dataclass(frozen=True)
class _Try:
    """Windows that are decoded at a temperature, the ``number``-th that is tried."""

    heard: Heard
    rows: Sequence[int]  # of ``heard``, one a window
    asked: Sequence[Asked]  # one a window
    temperature: float
    number: int
    longest: int | None = None  # tokens of a text

    def of(self, chosen: Sequence[int]) -> _Try:
        """Of some of the windows alone."""
        rows, asked = [self.rows[n] for n in chosen], [self.asked[n] for n in chosen]
        return replace(self, rows=rows, asked=asked)


@dataclass(frozen=True)
class WindowDecoder:
    """Decodes windows by ``options``; what a window gives does not depend on the others."""

    engine: WhisperEngine
    tokenizer: WhisperTokenizer
    options: WhisperOptions
    first_suppressed: tuple[int, ...] = ()
    rules: Rules = field(init=False)

    def __post_init__(self) -> None:
        options, special = self.options, self.tokenizer.special
        latest = options.max_initial_timestamp
        rules = Rules(
            eot=special.eot,
            timestamp_begin=special.timestamp_begin,
            suppressed=options.suppressed(self.tokenizer),
            first_suppressed=self.first_suppressed if options.suppress_blank else (),
            timestamps=not options.without_timestamps,
            no_timestamps=special.no_timestamps,
            latest_first=None if latest is None else round(latest / TIME_STEP),
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram=options.no_repeat_ngram_size,
        )
        object.__setattr__(self, "rules", rules)

    def once(
        self, heard: Heard, rows: Sequence[int], asked: Sequence[Asked], sizes: Sequence[int]
    ) -> list[Found]:
        """The text of each window of ``sizes`` frames at the first temperature, for windows that
        were encoded in a short context, which asks for more doubt: a text fails that goes on
        behind what is heard, too, or says something twice, or does not end."""
        longest = _SAID + round(_SAID_A_SECOND * heard.frames * 2 / FRAMES)
        first = _Try(heard, rows, asked, self.options.temperatures[0], 0, longest)
        found, begin = self._decode(first), self.tokenizer.special.timestamp_begin
        return [
            replace(one, failed=one.failed or wanders(one.tokens, size, longest, begin))
            for one, size in zip(found, sizes, strict=True)
        ]

    def __call__(self, heard: Heard, rows: Sequence[int], asked: Sequence[Asked]) -> list[Found]:
        """The text of each window, which is a row of ``heard``; windows whose text is not to be
        trusted are decoded again at the next temperature."""
        tries: list[list[Found]] = [[] for _ in asked]
        open_ = list(range(len(asked)))
        for number, temperature in enumerate(self.options.temperatures):
            texts = self._decode(_Try(heard, rows, asked, temperature, number).of(open_))
            for n, found in zip(open_, texts, strict=True):
                tries[n].append(found)
            open_ = [n for n in open_ if tries[n][-1].failed]
            if not open_:
                break
        return [self._chosen(found) for found in tries]

    def _chosen(self, tries: list[Found]) -> Found:
        """The try that did not fail; else the most probable of those that do not repeat."""
        last = tries[-1]
        if not last.failed:
            return last
        limit = self.options.compression_ratio_threshold
        calm = [one for one in tries if limit is None or one.compression_ratio <= limit]
        best = max(calm or tries, key=lambda one: one.avg_logprob)
        return replace(best, tried=last.temperature)

    def _decode(self, windows: _Try) -> list[Found]:
        """One try of each window. Those whose prompts are equally long are one batch."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        for n, one in enumerate(windows.asked):
            groups.setdefault((len(one.before), len(one.start), len(one.given)), []).append(n)
        found: dict[int, Found] = {}
        for group in groups.values():
            texts, silent = self._search(windows.of(group))
            for n, text, nobody in zip(group, texts, silent, strict=True):
                found[n] = self._judged(text, windows.temperature, nobody)
        return [found[n] for n in range(len(windows.asked))]

    def _search(self, windows: _Try) -> tuple[list[Text], list[float]]:
        """The best text of each window, and the probability that nobody speaks; their prompts are
        equally long."""
        asked, temperature = windows.asked, windows.temperature
        options, room = self.options, self.engine.dims.n_text_ctx
        step = self.engine.decoder(windows.heard, windows.rows, room)
        head = np.array([[*one.before, one.start[0]] for one in asked], np.int64)
        rest = np.array([[*one.start[1:], *one.given] for one in asked], np.int64)
        first = step.predict(head)
        silent = first.probability(self.tokenizer.special.no_speech)
        if rest.shape[1]:
            first = step.predict(rest)
        given = np.array([one.given for one in asked], np.int64).reshape(len(asked), -1)
        used = head.shape[1] + rest.shape[1]
        limit = max(min(options.max_new_tokens or room // 2, room + 1 - used), 1)
        limit = min(limit, windows.longest or limit)

        def after(tokens: Array, parents: Array) -> Prediction:
            return step.predict(tokens[:, None], parents)

        if temperature == 0 and options.beam_size > 1:
            found = beam_search(
                first,
                after,
                self.rules,
                given,
                limit=limit,
                beam=options.beam_size,
                patience=options.patience,
            )
        else:
            found = sample(
                first,
                after,
                self.rules,
                given,
                limit=limit,
                temperature=temperature,
                count=options.best_of if temperature > 0 else 1,
                seeds=[(*one.seed, windows.number) for one in asked] if temperature > 0 else (),
            )
        return [best_text(texts, options.length_penalty) for texts in found], silent

    def _judged(self, text: Text, temperature: float, no_speech: float) -> Found:
        """The text with what says whether it is to be trusted."""
        options = self.options
        words = self.tokenizer.decode(text.tokens).strip()
        ratio = compression_ratio(words)
        limit, least = options.compression_ratio_threshold, options.logprob_threshold
        failed = limit is not None and ratio > limit
        unlikely = least is not None and text.mean < least
        nobody = options.no_speech_threshold
        silent = unlikely and nobody is not None and no_speech > nobody
        return Found(
            tokens=text.tokens,
            logs=text.logs[: len(text.tokens)],
            text=words,
            temperature=temperature,
            avg_logprob=text.mean,
            compression_ratio=ratio,
            no_speech_prob=no_speech,
            tried=temperature,
            failed=(failed or unlikely) and not silent,
        )

    def is_silent(self, found: Found) -> bool:
        """Whether nobody speaks in a window, by what the model says of it."""
        nobody, least = self.options.no_speech_threshold, self.options.logprob_threshold
        if nobody is None or found.no_speech_prob <= nobody:
            return False
        return least is None or found.avg_logprob <= least
