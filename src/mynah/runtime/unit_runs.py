"""Which unit of a model sounds in which frames of an utterance whose text is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mynah.audio.features import Array
from mynah.corpus.runs import FRAME, SILENCE, Run
from mynah.decoding import TextAlignment, force_align
from mynah.errors import ConfigError, InputError
from mynah.runtime.align import encode_long, spell, split_words, timed_words
from mynah.runtime.edges import Loudness
from mynah.runtime.model import Model


def unit_runs(
    model: Model, samples: Array, text: str, language: str | None = None
) -> tuple[list[Run], float]:
    """The units of ``text``, and the silence between its words, with the frames of 10 ms that each
    lasts, from the start of ``samples`` (S,) at the model's rate to their end; and the geometric
    mean of the units' probabilities, which tells whether the text is what was said.

    Words begin and end as :func:`mynah.runtime.align.align` finds them. A CTC model says when a
    unit is most certain, not how long it sounds: within a word one passes into the next half-way
    between them.

    Raises:
        InputError: a word has no units of the model, or the recording is too short for them.
        ConfigError: the model does not know ``language``, or has units for the space between words.
    """
    words = split_words(text)
    items = spell(model.tokenizer, words, model.language(language) or "en")
    for item in items:
        if not item.units:
            raise InputError(f"no units of the model spell {item.text!r}")
        if item.gap:
            raise ConfigError(f"{model.name}: has a unit for the space between words, which no time"
                              " can be given")  # fmt: skip
    if not items:
        raise InputError("the text has no words")
    units = [unit for item in items for unit in (*item.gap, *item.units)]
    nothing = np.zeros((0, model.tokenizer.vocab_size), np.float32)
    heard = np.concatenate([nothing, *encode_long(model, [samples])])
    found = force_align(heard, units, model.tokenizer.blank)
    loudness = Loudness(model.rate)
    loudness.add(samples)
    duration = len(samples) / model.rate
    timing = TextAlignment(found.starts, found.ends, found.confidences, (), True)
    timed = timed_words(model, items, timing, duration, loudness.values(), False)
    middles = (np.array(found.starts) + np.array(found.ends)) / 2
    centres = np.array([model.clock.spoken(frame) for frame in middles.tolist()])
    borders, names, first = [0.0], [SILENCE], 0
    for item, word in zip(items, timed, strict=True):
        begin, first = first + len(item.gap), first + len(item.gap) + len(item.units)
        between = (centres[begin : first - 1] + centres[begin + 1 : first]) / 2
        borders += [word.start, *between.clip(word.start, word.end), word.end]
        names += [*(model.tokenizer.units[unit] for unit in item.units), SILENCE]
    runs = list(_runs(np.array([*borders, duration]), names))
    mean = float(np.exp(np.log(np.maximum(found.confidences, 1e-30)).mean()))
    return runs, mean


def _runs(borders: Array, names: list[str]) -> Iterator[Run]:
    """Whole frames from border to border, none of them empty but silence."""
    ends = np.rint(np.maximum.accumulate(borders) / FRAME).astype(int)
    at = 0
    for name, end in zip(names, ends[1:], strict=True):
        end = max(int(end), at + (name != SILENCE))
        if end > at:
            yield name, end - at
        at = end
