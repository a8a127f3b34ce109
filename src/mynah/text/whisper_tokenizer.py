"""Whisper's tokenizer: byte-level BPE with tokens for languages, tasks and times."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mynah.config import as_dict, build
from mynah.errors import ConfigError, ModelError, nearest
from mynah.text.byte_bpe import ByteBpe, Vocabulary, load_vocabulary, save_vocabulary
from mynah.text.whisper_languages import LANGUAGES, WITHOUT_SPACES, language_code

TIME_STEP = 0.02  # seconds from one timestamp to the next
TIMES = 1501  # timestamps, 0.00 to 30.00 seconds
_SYMBOLS = "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪"
_TASKS = 6  # translate, transcribe, startoflm, startofprev, nospeech, notimestamps
_LANGUAGES_OF = {50_256: (99,), 50_257: (99, 100)}  # tokens of text: languages, as published
# A token of these alone is a word; several only where they follow each other here, as originally.
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


@dataclass(frozen=True)
class WhisperTokens:
    """The table ``[tokenizer]`` of ``model.toml``: numbers of the special tokens."""

    vocab_size: int
    eot: int  # end of text; the tokens before it are text
    sot: int  # start of transcript
    translate: int
    transcribe: int
    sot_lm: int
    sot_prev: int  # what follows is the text before
    no_speech: int
    no_timestamps: int
    timestamp_begin: int  # that of 0.00 seconds
    languages: dict[str, int] = field(default_factory=dict)  # code: token, in their order
    multilingual: bool = True
    kind: Literal["whisper"] = "whisper"

    def __post_init__(self) -> None:
        numbers = {key: v for key, v in as_dict(self).items() if key != "vocab_size"}
        numbers = {key: v for key, v in numbers.items() if type(v) is int} | self.languages
        for name, number in numbers.items():
            if not 0 <= number < self.vocab_size:
                raise ConfigError(f"{name}: {number} is not in 0..{self.vocab_size - 1}")
        for code in self.languages:
            if code not in LANGUAGES:
                raise ConfigError(f"languages: {code!r} is not known{nearest(code, LANGUAGES)}")


def standard_tokens(ordinary: int, vocab_size: int) -> WhisperTokens:
    """The special tokens as every published model has them, after ``ordinary`` tokens of text:
    end, start, languages, tasks, times. GPT-2's 50256 tokens mean an English-only model.

    Raises:
        ModelError: ``vocab_size`` leaves no room for them.
    """
    languages = vocab_size - ordinary - 2 - _TASKS - TIMES
    if languages not in _LANGUAGES_OF.get(ordinary, range(1, len(LANGUAGES) + 1)):
        other = "; is it that of an English-only model, or the other way round?"
        raise ModelError(
            f"a vocabulary of {ordinary} tokens of text does not belong to a model of {vocab_size}"
            + (other if ordinary in _LANGUAGES_OF else "")
        )
    codes = list(LANGUAGES)[:languages]
    first = ordinary + 2 + languages
    return WhisperTokens(
        vocab_size=vocab_size,
        eot=ordinary,
        sot=ordinary + 1,
        translate=first,
        transcribe=first + 1,
        sot_lm=first + 2,
        sot_prev=first + 3,
        no_speech=first + 4,
        no_timestamps=first + 5,
        timestamp_begin=first + _TASKS,
        languages={code: ordinary + 2 + i for i, code in enumerate(codes)},
        multilingual=ordinary != 50_256,
    )


def find_tokens(vocabulary: Vocabulary, vocab_size: int) -> WhisperTokens:
    """The special tokens that a vocabulary names, or :func:`standard_tokens` where it names none.

    Raises:
        ModelError: some are named and others are not, or there is no room for them.
    """
    given = vocabulary.specials
    if "<|startoftranscript|>" not in given:
        return standard_tokens(given.get("<|endoftext|>", len(vocabulary.tokens)), vocab_size)

    def number(*names: str) -> int:
        found = [given[f"<|{name}|>"] for name in names if f"<|{name}|>" in given]
        if not found:
            raise ModelError(f"the vocabulary has no token <|{names[0]}|>")
        return found[0]

    without_times = number("notimestamps")
    languages = {code: given[f"<|{code}|>"] for code in LANGUAGES if f"<|{code}|>" in given}
    try:
        return WhisperTokens(
            vocab_size=vocab_size,
            eot=number("endoftext"),
            sot=number("startoftranscript"),
            translate=number("translate"),
            transcribe=number("transcribe"),
            sot_lm=number("startoflm"),
            sot_prev=number("startofprev"),
            no_speech=number("nospeech", "nocaptions"),
            no_timestamps=without_times,
            timestamp_begin=given.get("<|0.00|>", without_times + 1),
            languages=dict(sorted(languages.items(), key=lambda item: item[1])),
            multilingual=number("endoftext") != 50_256,
        )
    except ConfigError as error:
        raise ModelError(f"special tokens: {error}") from None


class WhisperTokenizer:
    """Texts, times and special tokens to numbers and back. May be shared by threads.

    Attributes:
        special: the numbers of the special tokens.
    """

    blank = unk = -1  # there are none

    def __init__(self, vocabulary: Vocabulary, special: WhisperTokens) -> None:
        if len(vocabulary.tokens) > special.vocab_size:
            sizes = f"{len(vocabulary.tokens)} tokens, the model has {special.vocab_size}"
            raise ModelError(f"the vocabulary has {sizes}")
        self.special = special
        self._bpe = ByteBpe(vocabulary)
        self._times = range(special.timestamp_begin, special.timestamp_begin + TIMES)
        self._specials = frozenset(special.languages.values()) | {
            number
            for key, number in as_dict(special).items()
            if type(number) is int and key not in ("vocab_size", "timestamp_begin")
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return WhisperTokenizer, (self._bpe.vocabulary, self.special)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens that stand for bytes."""
        return self._bpe.vocabulary

    @property
    def vocab_size(self) -> int:
        return self.special.vocab_size

    @property
    def sos(self) -> int:
        return self.special.sot

    @property
    def eos(self) -> int:
        return self.special.eot

    @functools.cached_property
    def units(self) -> tuple[str, ...]:
        """What each token shows as."""
        return tuple(self.decode_with_timestamps([i]) for i in range(self.vocab_size))

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text``. Names of special tokens in it are taken as ordinary text."""
        return self._bpe.encode(text)

    def is_text(self, token: int) -> bool:
        """Whether a token stands for bytes of a text."""
        return (
            token < len(self._bpe.tokens)
            and token not in self._specials
            and token not in self._times
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special tokens and times left out."""
        return self._bpe.decode([i for i in ids if self.is_text(i)])

    def decode_with_timestamps(self, ids: Sequence[int]) -> str:
        """The text of tokens with times as ``<|1.08|>`` and special tokens by their names."""
        result, waiting = "", list[int]()
        for token in ids:
            if self.is_text(token):
                waiting.append(token)
                continue
            result += self._bpe.decode(waiting) + self._name(token)
            waiting = []
        return result + self._bpe.decode(waiting)

    def _name(self, token: int) -> str:
        if token in self._times:
            return f"<|{self.seconds(token):.2f}|>"
        return f"<|{self._special_names.get(token, f'extra{token}')}|>"

    @functools.cached_property
    def _special_names(self) -> dict[int, str]:
        special = self.special
        names = {number: code for code, number in special.languages.items()}
        return names | {
            special.eot: "endoftext",
            special.sot: "startoftranscript",
            special.translate: "translate",
            special.transcribe: "transcribe",
            special.sot_lm: "startoflm",
            special.sot_prev: "startofprev",
            special.no_speech: "nospeech",
            special.no_timestamps: "notimestamps",
        }

    def seconds(self, token: int) -> float:
        """The time, from the start of the window, that a timestamp token stands for."""
        return round((token - self.special.timestamp_begin) * TIME_STEP, 2)

    def timestamp(self, seconds: float) -> int:
        """The timestamp token nearest to a time in the window."""
        number = min(max(round(seconds / TIME_STEP), 0), TIMES - 1)
        return self.special.timestamp_begin + number

    def language_token(self, language: str) -> int:
        """The token of a language, given by its code or English name.

        Raises:
            ConfigError: the model does not know it.
        """
        code = language_code(language)
        if code not in self.special.languages:
            raise ConfigError(f"language: this model does not know {language!r}")
        return self.special.languages[code]

    def sot_sequence(
        self,
        language: str | None = None,
        task: Literal["transcribe", "translate"] = "transcribe",
        *,
        timestamps: bool = True,
    ) -> tuple[int, ...]:
        """What a transcript starts with: start, language, task, and whether times are left out.

        An English-only model has neither language nor task.

        Raises:
            ConfigError: a language or task that the model does not have, or none.
        """
        special = self.special
        result = [special.sot]
        if special.multilingual:
            if language is None:
                raise ConfigError("language: missing, and the model knows several")
            result += [self.language_token(language), getattr(special, task)]
        elif task == "translate" or language_code(language or "en") != "en":
            raise ConfigError(f"language, task: {language!r}, {task!r} with an English-only model")
        return tuple(result if timestamps else [*result, special.no_timestamps])

    @functools.cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Tokens of what is not said: brackets, music and the like. Hyphens and apostrophes inside
        words are no such tokens."""
        symbols = [*'"#()*+/:;<=>@[\\]^_`{|}~「」『』']
        symbols += _SYMBOLS.split()
        music = [*"♩♪♫♬♭♮♯"]  # of two tokens or more, and the first is like no other
        # in a small vocabulary they are a space and more, and spaces are said
        both = [self.encode(" -"), self.encode(" '")]
        result = {tokens[0] for tokens in both if len(tokens) == 1}
        for symbol in symbols + music:
            for tokens in (self.encode(symbol), self.encode(" " + symbol)):
                shared = len(self._bpe.tokens[tokens[0]]) == 1  # by much that is said
                if len(tokens) == 1 or (symbol in music and not shared):
                    result.add(tokens[0])
        return tuple(sorted(result))

    def words(self, ids: Sequence[int], language: str = "") -> list[tuple[str, int, int]]:
        """Words of tokens of text: text, index of the first token, and one past the last.

        A word keeps the space before it. In languages that are written without spaces every
        stretch of whole characters is a word, and elsewhere punctuation is one of its own.
        Special tokens and times end a word and belong to none.
        """
        result: list[tuple[str, int, int]] = []
        joins = False
        for text, first, end in self._whole_characters(ids):
            if not self.is_text(ids[first]):
                joins = False
                continue
            alone = language in WITHOUT_SPACES or text.strip() in _PUNCTUATION
            if joins and not alone and not text.startswith(" "):
                word, start, _ = result[-1]
                result[-1] = (word + text, start, end)
            else:
                result.append((text, first, end))
            joins = True
        return result

    def _whole_characters(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """The shortest stretches of tokens that are whole characters."""
        result: list[tuple[str, int, int]] = []
        first = 0
        for end in range(1, len(ids) + 1):
            last = end == len(ids) or not self.is_text(ids[end])
            if not self.is_text(ids[first]):
                result.append(("", first, end))
                first = end
                continue
            data = self._bpe.decode_bytes(ids[first:end])
            if last or _is_whole(data):
                result.append((data.decode("utf-8", "replace"), first, end))
                first = end
        return result

    def save(self, folder: str | Path) -> None:
        """Write ``tokens.tiktoken``, and ``merges.txt`` where there are merges, into ``folder``."""
        save_vocabulary(self._bpe.vocabulary, folder)

    def to_dict(self) -> dict[str, Any]:
        """The table ``[tokenizer]`` from which :func:`load_whisper_tokenizer` makes this again."""
        return as_dict(self.special)


def load_whisper_tokenizer(folder: str | Path, values: Mapping[str, Any]) -> WhisperTokenizer:
    """The tokenizer in ``folder``; ``values`` is the table ``[tokenizer]`` of ``model.toml``.

    Raises:
        ModelError: a file is missing or broken, or ``values`` is wrong.
    """
    try:
        special = build(WhisperTokens, values, "tokenizer")
    except ConfigError as error:
        raise ModelError(f"{folder}: {error}") from None
    return WhisperTokenizer(load_vocabulary(folder), special)


_LAST = re.compile(rb"[\xc0-\xff][\x80-\xbf]*\Z")


def _is_whole(data: bytes) -> bool:
    """Whether bytes do not end inside a character. Bytes that are none at all count as whole."""
    found = _LAST.search(data)
    if found is None:
        return True
    tail = found.group()
    wanted = 2 if tail[0] < 0xE0 else 3 if tail[0] < 0xF0 else 4
    return len(tail) >= wanted or tail[0] >= 0xF8
