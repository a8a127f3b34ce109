"""Hotwords and language models through the decoder, with every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.decoding import DecodingOptions, Hotwords, Hypothesis
from mynah.decoding.ngram import NgramModel, load_ngram
from mynah.errors import ConfigError, InputError
from mynah.runtime.decode import Decoder, Heard
from mynah.runtime.model import Model, load_model
from tone_model import UNITS, write_tone_model

METHODS = ("prefix_beam", "rescoring", "attention")
ARPA = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-3\t<unk>
0\t<s>\t-0.5
-0.5\t</s>
-2\tcab\t-0.3
-0.6\tdab\t-0.3

\\2-grams:
-0.1\t<s> dab

\\end\\
"""


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write_tone_model(tmp_path_factory.mktemp("decode") / "tones"))


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return load_ngram(path)


class Answers:
    """An engine whose attention decoder gives all tokens the same, and ends after three."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def attention(self, encoded: np.ndarray, capacity: int) -> Any:
        best = encoded[:, : len(UNITS)]
        steps = iter(range(1000))

        def step(tokens: np.ndarray, parents: np.ndarray) -> np.ndarray:
            at = next(steps)
            row = best[at] if at < len(best) else np.eye(len(UNITS))[-1] * 40 - 40
            return np.repeat(row[None].astype(np.float64), len(tokens), 0)

        return step


def heard(*letters: str) -> Heard:
    """Each frame one unit, or two of which the first is a little louder; a blank between."""
    rows = []
    for pair in letters:
        row = np.full(len(UNITS), 1e-6)
        for unit, prob in zip(pair, (0.6, 0.4) if len(pair) > 1 else (1.0,), strict=True):
            row[UNITS.index(unit)] = prob
        rows.append(np.log(row / row.sum()))
    log_probs = np.array(rows, np.float32)
    return Heard(log_probs, np.pad(log_probs, ((0, 0), (0, 40 - len(UNITS)))))


HEARD = heard("cd", "a", "b")


def decoder(
    model: Model,
    method: str,
    hotwords: Hotwords | None = None,
    lm: NgramModel | None = None,
    **options: Any,
) -> Decoder:
    if method == "attention":
        model = Model(Answers(model.engine), model.tokenizer, model.frontend)  # type: ignore[arg-type]
    return Decoder(model, DecodingOptions(method=method, **options), hotwords, lm)  # type: ignore[arg-type]


def text(found: Hypothesis) -> str:
    return "".join(UNITS[token] for token in found.tokens)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_hotwords(tones: Model, method: str) -> None:
    assert text(decoder(tones, method).best([HEARD])[0]) == "cab"
    (found,) = decoder(tones, method, Hotwords.parse(["dab"], 2.0)).best([HEARD])
    assert text(found) == "dab"
    assert found.added == pytest.approx(6.0)  # whole, through rescoring too
    (found,) = decoder(tones, method, Hotwords.parse(["da"], 2.0)).best([HEARD])
    assert (text(found), found.added) == ("cab", 0.0)
    capped = decoder(tones, method, Hotwords.parse(["dab"], 2.0), hotword_cap=0.1)
    assert text(capped.best([HEARD])[0]) == "cab"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lm_pass", ["first", "second"])
def test_every_method_takes_a_language_model(
    tones: Model, lm: NgramModel, method: str, lm_pass: str
) -> None:
    options = {"lm_weight": 0.5, "word_bonus": 0.25, "lm_pass": lm_pass}
    (found,) = decoder(tones, method, None, lm, **options).best([HEARD])
    assert text(found) == "dab"
    assert found.added == pytest.approx(0.5 * lm.score_sentence(["dab"]) + 0.25)
    (found,) = decoder(tones, method, None, lm, lm_weight=0.0).best([HEARD])
    assert text(found) == "cab"
    (found,) = decoder(tones, method, Hotwords.parse(["cab"], 3.0), lm, **options).best([HEARD])
    assert text(found) == "cab"


@pytest.mark.parametrize("method", METHODS)
def test_batch_mates_do_not_matter(tones: Model, lm: NgramModel, method: str) -> None:
    rng = np.random.default_rng(0)
    several = [HEARD, heard("d"), heard("ab", "ba", "cd", "a", "b"), heard("cd", "ab")]
    for frames in (1, 7, 12):
        logits = rng.normal(size=(frames, len(UNITS))) * 2
        rows = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
        several.append(Heard(rows, np.pad(rows, ((0, 0), (0, 40 - len(UNITS))))))
    hotwords = Hotwords.parse(["dab", "ba cab=4", "a"], 1.5)
    made = decoder(tones, method, hotwords, lm)
    alone = [made.best([item])[0] for item in several]
    assert made.best(several) == alone
    assert made.best(several[::-1]) == alone[::-1]
    again = decoder(tones, method, Hotwords.parse(["a", "ba cab=4", "dab"], 1.5), lm).best(several)
    assert [h.tokens for h in again] == [h.tokens for h in alone]


def test_streamed_equals_whole(tones: Model, lm: NgramModel) -> None:
    search = decoder(tones, "prefix_beam", Hotwords.parse(["dab"], 2.0), lm).search()
    whole = search.nbest(search.advance(search.start(), HEARD.log_probs))
    state = search.start()
    for row in HEARD.log_probs:
        state = search.advance(state, row[None])
        assert search.nbest(state, 1)
    assert search.nbest(state) == whole


def test_what_is_not_taken_is_refused(tones: Model, lm: NgramModel) -> None:
    with pytest.raises(ConfigError, match="greedy search takes no hotwords; use prefix_beam"):
        decoder(tones, "greedy", Hotwords.parse(["dab"]))
    with pytest.raises(ConfigError, match="greedy search takes no language model"):
        decoder(tones, "greedy", None, lm)
    decoder(tones, "greedy", Hotwords())  # an empty list asks for nothing
    for method in METHODS:
        with pytest.raises(InputError, match="'zoo' has characters"):
            decoder(tones, method, Hotwords.parse(["zoo"]))


def test_a_decoder_without_them_is_as_before(tones: Model) -> None:
    made = decoder(tones, "prefix_beam", Hotwords())
    assert made.scorers == made.second_pass == ()
    assert made.best([HEARD])[0].added == 0.0


def test_files_reach_the_search(tones: Model, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# for this meeting\ndab\t2.5\n", encoding="utf-8")
    (found,) = decoder(tones, "prefix_beam", Hotwords.read(path)).best([HEARD])
    assert (text(found), found.added) == ("dab", 7.5)
