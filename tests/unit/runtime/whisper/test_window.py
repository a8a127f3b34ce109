"""When a text is to be trusted, and what is kept where none is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.whisper_plain import TOKENIZER
from tests.whisper_reference import DIMS

from mynah.decoding.whisper_prediction import HostPrediction
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.window import Asked, Found, WindowDecoder, wanders

Array = npt.NDArray[Any]

GOOD, OTHER = "the cat sat on the mat", "and then the rat ate"
LOOP = "the cat sat " * 20  # zlib makes a tenth of it


@dataclass
class Says:
    """An engine that says a text each time that it is asked, every token as probable as given;
    ``nobody`` is the probability that nobody speaks."""

    texts: list[tuple[str, float]]
    nobody: float = 0.1
    dims = DIMS
    name = "says"
    asked: list[str] = field(default_factory=list)
    read: list[list[int]] = field(default_factory=list)  # the tokens of each try

    def encode(self, mels: Array) -> Any:
        raise AssertionError

    def decoder(self, heard: Any, rows: Sequence[int], capacity: int = 448) -> Any:
        text, probability = self.texts[len(self.asked)]
        self.asked.append(text)
        wanted = [*TOKENIZER.encode(" " + text.strip()), TOKENIZER.eos]
        script = [(TOKENIZER.special.no_speech, self.nobody)]
        script += [(token, probability) for token in wanted]
        answers = iter(script)
        self.read.append([])

        def predict(tokens: Array, parents: Array | None = None) -> HostPrediction:
            self.read[-1] += tokens[0].tolist()
            token, share = next(answers, script[-1])
            logits = np.full((len(tokens), DIMS.n_vocab), (1 - share) / (DIMS.n_vocab - 1))
            logits[:, token] = share
            return HostPrediction(np.log(logits).astype(np.float32))

        return SimpleNamespace(predict=predict)


def found(engine: Says, **values: Any) -> Found:
    """What is kept of a window, each try by the greedy search."""
    tries = {"temperature": (0.0,) * len(engine.texts), "beam_size": 1, "max_new_tokens": 100}
    options = WhisperOptions(**{**tries, "without_timestamps": True, **values})
    decoder = WindowDecoder(engine, TOKENIZER, options)  # type: ignore[arg-type]
    start = TOKENIZER.sot_sequence("en", timestamps=False)
    (one,) = decoder(None, [0], [Asked(start)])  # type: ignore[arg-type]
    return one


@pytest.mark.parametrize("first", [(LOOP, 0.9), (GOOD, 0.3)], ids=["repeats", "improbable"])
def test_another_temperature_where_a_text_is_not_to_be_trusted(first: tuple[str, float]) -> None:
    engine = Says([first, (OTHER, 0.8), (GOOD, 0.9)])
    assert found(engine).text == OTHER
    assert engine.asked == [first[0], OTHER]
    assert not found(Says([(OTHER, 0.8)])).failed


def test_thresholds_can_be_set_and_left_out() -> None:
    loop, faint = (LOOP, 0.9), (GOOD, 0.3)
    assert found(Says([loop, faint]), compression_ratio_threshold=None).text == LOOP.strip()
    assert found(Says([faint, loop]), logprob_threshold=None).text == GOOD
    assert found(Says([(GOOD, 0.9), faint]), compression_ratio_threshold=0.5).failed
    assert found(Says([(GOOD, 0.9), faint]), logprob_threshold=-0.01).failed


def test_an_improbable_text_where_nobody_speaks_is_silence() -> None:
    engine = Says([(GOOD, 0.3), (OTHER, 0.8)], nobody=0.7)
    silent = found(engine)
    assert engine.asked == [GOOD], "no other temperature makes a voice"
    assert silent.no_speech_prob == pytest.approx(0.7, abs=1e-3)
    sure = found(Says([(GOOD, 0.9)], nobody=0.7))
    decoder = WindowDecoder(engine, TOKENIZER, WhisperOptions())  # type: ignore[arg-type]
    assert decoder.is_silent(silent)
    assert not decoder.is_silent(sure), "who is sure of a text hears one"
    assert not decoder.is_silent(found(Says([(GOOD, 0.3)], nobody=0.5)))


def test_where_all_failed_the_most_probable_that_does_not_repeat() -> None:
    one = found(Says([(GOOD, 0.2), (LOOP, 0.9), (OTHER, 0.3), (GOOD, 0.1)]))
    assert one.failed
    assert one.text == OTHER
    assert found(Says([(LOOP, 0.5), (LOOP + "mat", 0.9)])).text == LOOP + "mat"


def test_each_try_draws_anew() -> None:
    faint = [(GOOD, 0.01)] * 2  # any token is as probable as the next
    engine, again = Says(faint), Says(faint)
    for one in (engine, again):
        found(one, temperature=(1.0, 1.0), best_of=1, max_new_tokens=8)
    first, second = engine.read
    assert first != second
    assert again.read == engine.read


@pytest.mark.parametrize(
    ("tokens", "so"),
    [
        ([100, 1, 2, 3, 4, 5, 150], False),  # times are 100 and more, 0.02 s each
        ([100, 1, 2, 3, 120, 120, 4, 5, 6, 150], False),
        ([100, 1, 2, 3, 146, 146, 4, 150], True),  # a segment where nothing is left to hear
        ([100, 1, 2, 3, 4, 5, 120, 120, 1, 2, 3, 4, 5, 140], True),  # the same again
        ([100, 1, 2, 3, 4, 120, 120, 1, 2, 3, 4, 140], False),
        ([100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], True),  # no end
    ],
)
def test_texts_of_a_short_context_that_wander(tokens: list[int], so: bool) -> None:
    assert wanders(tokens, size=100, longest=16, timestamp_begin=100) is so
