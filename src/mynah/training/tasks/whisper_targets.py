"""What Whisper learns to say: prompt, text and times of an utterance as one row of tokens.

    <|startofprev|> text before <|startoftranscript|> <|en|> <|transcribe|> <|0.00|> text <|1.20|>
    ... <|endoftext|>

A manifest's columns say the rest: ``language`` (code or name), ``task`` (``transcribe`` or
``translate``), ``previous`` (what was said before), and several ``supervisions`` with start and
duration (segments), whose times are learnt; an utterance without is a segment from its start to its
end. Where they are not known, or this time by the draw, the prompt ends in ``<|notimestamps|>``. An
English-only model has neither language nor task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mynah.corpus.cut import Cut
from mynah.errors import ConfigError, InputError
from mynah.nn.mask import valid_mask
from mynah.text.whisper_languages import WITHOUT_SPACES, language_code
from mynah.text.whisper_tokenizer import WhisperTokenizer, WhisperTokens

TASKS = ("transcribe", "translate")


@dataclass(frozen=True)
class WhisperTargets:
    """Makes the tokens of utterances; see :class:`mynah.data.items.Targets`."""

    tokenizer: WhisperTokenizer
    context: int  # tokens that the decoder has room for
    language: str = ""  # where the manifest does not say
    task: str = "transcribe"  # likewise
    timestamps: float = 0.5  # share of the passes in which times are learnt, where they are known
    previous: float = 0.5  # share of the passes that begin with the text before, where there is one
    margin: float = 0.0

    def check(self, cut: Cut, language: str) -> None:
        """Refuse a language or task that the model does not have.

        Raises:
            InputError: the line names it.
        """
        self._start(cut, language, timestamps=False)

    def __call__(
        self,
        rng: np.random.Generator,
        cut: Cut,
        language: str,
        factor: float,
        shape: Callable[[str], str],
    ) -> list[int]:
        """Prompt, text, times and the end.

        Raises:
            InputError: more tokens than the decoder has room for.
        """
        draws = rng.random(2)
        segments = timed_segments(cut) if draws[0] < self.timestamps else []
        tokens = self._start(cut, language, timestamps=bool(segments))
        code = language_code(language or self.language or "en")
        english = self.tokenizer.special.translate in tokens
        spaced = english or code not in WITHOUT_SPACES
        for start, end, text in segments:
            tokens.append(self.tokenizer.timestamp(start / factor))
            tokens += self._encode(shape(text), spaced)
            tokens.append(self.tokenizer.timestamp(end / factor))
        if not segments:
            tokens += self._encode(shape(cut.text), spaced)
        tokens.append(self.tokenizer.special.eot)
        # the end is only predicted, never read
        if (room := self.context + 1 - len(tokens)) < 0:
            raise InputError(f"has {len(tokens) - 1} tokens, the model has room for {self.context}")
        before = shape(cut.value("previous"))
        size = min(room, self.context // 2) - 1  # no more than half of the room, as originally
        if before and size > 0 and draws[1] < self.previous:
            encoded = self._encode(before, spaced)
            tokens = [self.tokenizer.special.sot_prev, *encoded[-size:], *tokens]
        return tokens

    def _start(self, cut: Cut, language: str, *, timestamps: bool) -> list[int]:
        task = cut.value("task") or self.task
        if task not in TASKS:
            raise InputError(f"has task {task!r}, which is none of {', '.join(TASKS)}")
        name = language or self.language or None
        try:
            start = self.tokenizer.sot_sequence(
                name, "translate" if task == "translate" else "transcribe", timestamps=timestamps
            )
        except ConfigError as error:
            if name is None and self.tokenizer.special.multilingual:
                raise InputError(
                    "has no language, and the model knows several (a column language, or "
                    "task.language)"
                ) from None
            raise InputError(f"has {error}") from None
        return list(start)

    def _encode(self, text: str, spaced: bool) -> list[int]:
        return self.tokenizer.encode(f" {text}" if spaced else text)


def timed_segments(cut: Cut) -> list[tuple[float, float, str]]:
    """Start and end, in seconds, and text of what a cut holds; none where one of them is not known.

    A single one without a duration reaches to the end of the cut.
    """
    found: list[tuple[float, float, str]] = []
    alone = len(cut.supervisions) == 1
    for one in cut.supervisions:
        whole = cut.duration if alone else None
        end = whole if one.duration is None else one.start + one.duration
        before = found[-1][1] if found else 0.0
        if end is None or not before <= one.start < end or not one.text:
            return []
        found.append((one.start, end, one.text))
    return found


def prompt_length(row: list[int], special: WhisperTokens) -> int:
    """How many of a row's first tokens are the prompt: all before the first that is learnt."""
    end = row.index(special.sot) + (3 if special.multilingual else 1)
    return end + 1 if row[end] == special.no_timestamps else end


def split_targets(
    tokens: Tensor, token_lens: Tensor, special: WhisperTokens
) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it is to say after each of it, -1 where nothing is learnt
    (padding and the prompt): (B, U), (B,) -> twice (B, U - 1)."""
    starts = [prompt_length(row, special) for row in tokens.tolist()]
    begins = torch.tensor(starts, device=tokens.device)[:, None]
    index = torch.arange(1, tokens.shape[1], device=tokens.device)
    learnt = (index >= begins) & valid_mask(token_lens, tokens.shape[1])[:, 1:]
    return tokens[:, :-1], tokens[:, 1:].masked_fill(~learnt, -1)
