"""Word times by attention against openai-whisper's on a random model, and by brute force."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.whisper_reference import FULL, Reference, random_whisper

from mynah.runtime.whisper.words import (
    Said,
    Stretch,
    TimedWord,
    dtw,
    median_filter,
    merge_punctuation,
    place_words,
    time_words,
)
from mynah.text.byte_bpe import read_vocabulary
from mynah.text.whisper_tokenizer import WhisperTokenizer, standard_tokens

pytestmark = pytest.mark.filterwarnings("ignore")

HEADS = ((0, 1), (1, 0))
TEXTS = {
    "en": [" Hello, world.", ' "It\'s 12.50" (he said)... Well — ok?', " a b c d e f g!", " hm"],
    "zh": ["今天天气很好，我们走吧。", "好！", "一二三abc四五"],
}


@pytest.fixture(scope="module")
def whisper() -> Any:
    return pytest.importorskip("whisper")


@dataclasses.dataclass(frozen=True)
class Both:
    """The same random model as openai-whisper's and as the reference."""

    whisper: Any  # the package
    theirs: Any
    reference: Reference
    tokenizer: WhisperTokenizer


@pytest.fixture(scope="module")
def both(whisper: Any) -> Both:
    torch = pytest.importorskip("torch")
    dims, tensors = random_whisper(FULL, seed=4)
    theirs = whisper.model.Whisper(whisper.model.ModelDimensions(**dataclasses.asdict(dims)))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    mask = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
    for layer, head in HEADS:
        mask[layer, head] = True
    theirs.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
    path = Path(whisper.__file__).parent / "assets" / "multilingual.tiktoken"
    tokenizer = WhisperTokenizer(read_vocabulary(path), standard_tokens(50257, 51865))
    return Both(whisper, theirs.eval(), Reference(dims, tensors), tokenizer)


@dataclasses.dataclass(frozen=True)
class Heard:
    """Windows of a language as either side takes them, and the times that ours gives."""

    windows: list[tuple[Said, list[Stretch]]]
    mels: list[Any]  # torch tensors (80, 3000)
    tokenizer: Any  # openai-whisper's
    words: list[list[TimedWord]]


@pytest.fixture(scope="module", params=["en", "zh"])
def heard(request: pytest.FixtureRequest, both: Both) -> Heard:
    import torch

    made = windows(request.param, both.tokenizer)
    rng = np.random.default_rng(5)
    mels = rng.uniform(-1, 1.5, (len(made), 80, 3000)).astype(np.float32)
    words = time_words(
        both.reference,  # type: ignore[arg-type]
        both.reference.encode(mels),
        range(len(made)),
        [one for one, _ in made],
        tokenizer=both.tokenizer,
        heads=HEADS,
    )
    theirs = both.whisper.tokenizer.get_tokenizer(True, language=request.param, task="transcribe")
    return Heard(made, list(torch.from_numpy(mels)), theirs, words)


def windows(language: str, tokenizer: WhisperTokenizer) -> list[tuple[Said, list[Stretch]]]:
    """Windows of one to three segments, not all whole."""
    rng, found = random.Random(language), []
    for number, text in enumerate([*TEXTS[language], "".join(TEXTS[language])]):
        tokens = tokenizer.encode(text)
        frames = rng.choice([1500, 1500, 400, 90])
        sot = tokenizer.sot_sequence(language, timestamps=False)
        cuts = sorted({0, len(tokens), rng.randint(0, len(tokens)), rng.randint(0, len(tokens))})
        edges = np.linspace(0, frames * 0.02, len(cuts))
        parts = [
            Stretch(tuple(tokens[a:b]), 30.0 * number + round(edges[i], 2),
                    30.0 * number + round(edges[i + 1], 2))
            for i, (a, b) in enumerate(itertools.pairwise(cuts))
        ]  # fmt: skip
        found.append((Said(tuple(tokens), sot, frames, language), parts))
    return found


def test_find_alignment(both: Both, heard: Heard) -> None:
    for (one, _), mel, found in zip(heard.windows, heard.mels, heard.words, strict=True):
        expected = both.whisper.timing.find_alignment(
            both.theirs, heard.tokenizer, list(one.tokens), mel, 2 * one.frames
        )
        assert [w.text for w in found] == [w.word for w in expected]
        assert [w.count for w in found] == [len(w.tokens) for w in expected]
        times = [(w.start, w.end) for w in found]
        np.testing.assert_allclose(times, [(w.start, w.end) for w in expected], atol=1e-9)
        np.testing.assert_allclose(
            [w.probability for w in found], [w.probability for w in expected], rtol=1e-3
        )


def test_add_word_timestamps(both: Both, heard: Heard) -> None:
    last = 0.0
    for number, (one, parts) in enumerate(heard.windows):
        segments = _segments(parts, 3000 * number)
        both.whisper.timing.add_word_timestamps(
            segments=segments, model=both.theirs, tokenizer=heard.tokenizer,
            mel=heard.mels[number], num_frames=2 * one.frames, last_speech_timestamp=last,
        )  # fmt: skip
        words = heard.words[number]
        placed = place_words(parts, words, offset=30.0 * number, last_speech=last)
        _compare(placed, segments)
        last = next((s["end"] for s in reversed(segments) if s["words"]), last)


def _segments(parts: list[Stretch], seek: float) -> list[dict[str, Any]]:
    """As openai-whisper has them."""
    return [{"seek": seek, "start": p.start, "end": p.end, "tokens": list(p.tokens)} for p in parts]


def _compare(placed: list[Stretch], segments: list[dict[str, Any]]) -> None:
    for mine, other in zip(placed, segments, strict=True):
        kept = [w for w in other["words"] if w["word"].strip()]
        assert [w.text for w in mine.words] == [w["word"].strip() for w in kept]
        assert [w.start for w in mine.words] == pytest.approx([w["start"] for w in kept])
        ends = [max(w["start"], w["end"]) for w in kept]
        assert [w.end for w in mine.words] == pytest.approx(ends)
        if kept:
            assert mine.start == pytest.approx(other["start"])
            assert mine.end == pytest.approx(max(other["start"], other["end"]))


def _draw(rng: random.Random) -> tuple[list[TimedWord], list[Stretch], float, float]:
    """Words as an alignment gives them, with long ones, and segments over them."""
    texts = [" the", " cat", ".", " (", " so", ",", ")", "?", " —", " it", "'s", "！", "好", " "]
    words, at = [], 0.0
    for _ in range(rng.randint(1, 14)):
        at = round(at + rng.choice([0.0, 0.0, 1.0]), 2)
        end = round(at + rng.choice([0.0, 0.1, 0.3, 0.3, 2.5]), 2)
        words.append(TimedWord(rng.choice(texts), rng.randint(1, 3), at, end, rng.random()))
        at = end
    total = sum(word.count for word in words)
    cuts = sorted({0, total, rng.randint(0, total)})
    offset = rng.choice([0.0, 12.34])
    parts = []
    for first, stop in itertools.pairwise(cuts):
        start = round(offset + rng.uniform(0, at), 2)
        end = round(start + rng.choice([0.5, 3.0]), 2)
        parts.append(Stretch(tuple([9] * (stop - first)), start, end))
    return words, parts, offset, rng.choice([0.0, offset, offset - 5])


def test_the_rules_about_long_words(whisper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tokens:
        eot = 10

    rng, changed = random.Random(1), 0
    for _ in range(1500):
        words, parts, offset, last = _draw(rng)
        theirs = [
            whisper.timing.WordTiming(w.text, [9] * w.count, w.start, w.end, w.probability)
            for w in words
        ]
        segments = _segments(parts, offset * 100)
        monkeypatch.setattr(
            whisper.timing, "find_alignment", lambda *a, found=theirs, **k: copy.deepcopy(found)
        )
        whisper.timing.add_word_timestamps(
            segments=segments, model=None, tokenizer=Tokens(), mel=None, num_frames=0,
            last_speech_timestamp=last,
        )  # fmt: skip
        placed = place_words(parts, words, offset=offset, last_speech=last)
        _compare(placed, segments)
        raw = [round(offset + w.start, 2) for w in words]
        changed += any(w.start not in raw for part in placed for w in part.words)
    assert changed > 50  # the rules had work to do


def test_punctuation_is_merged() -> None:
    texts = [" (", " a", ",", " b", ")", "!", " c"]
    words = [TimedWord(text, 1, n, n + 1, 0.5) for n, text in enumerate(texts)]
    merged = [(w.text, w.count, w.start, w.end) for w in merge_punctuation(words) if w.text]
    assert merged == [(" ( a,", 3, 1, 2), (" b)!", 3, 3, 4), (" c", 1, 6, 7)]


def _cheapest(cost: Any) -> float:
    rows, columns = cost.shape
    best: dict[tuple[int, int], float] = {}

    def total(i: int, j: int) -> float:
        if (i, j) not in best:
            before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
            ways = [total(a, b) for a, b in before if a >= 0 and b >= 0]
            best[i, j] = cost[i, j] + min(ways, default=0.0)
        return best[i, j]

    return total(rows - 1, columns - 1)


def test_time_warping_is_cheapest() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        cost = rng.standard_normal(rng.integers(1, 9, 2))
        rows, columns = dtw(cost)
        assert (rows[0], columns[0]) == (0, 0)
        assert (rows[-1], columns[-1]) == (cost.shape[0] - 1, cost.shape[1] - 1)
        steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
        assert steps <= {(1, 1), (1, 0), (0, 1)}
        assert cost[rows, columns].sum() == pytest.approx(_cheapest(cost), abs=1e-5)


def test_time_warping_as_the_original(whisper: Any) -> None:
    rng = np.random.default_rng(1)
    for n in range(40):
        shape = rng.integers(1, 60, 2)
        cost = rng.standard_normal(shape) if n % 2 else rng.integers(-3, 3, shape).astype(float)
        theirs = whisper.timing.dtw_cpu(cost.copy())
        np.testing.assert_array_equal(np.stack(dtw(cost)), theirs)


@pytest.mark.parametrize("size", [1, 3, 4, 6, 7, 50])
def test_median(size: int) -> None:
    values = np.random.default_rng(size).standard_normal((2, 3, size)).astype(np.float32)
    found = median_filter(values, 7)
    if size <= 3:
        np.testing.assert_array_equal(found, values)
        return
    padded = np.pad(values, [(0, 0), (0, 0), (3, 3)], mode="reflect")
    for at in range(size):
        np.testing.assert_array_equal(found[..., at], np.median(padded[..., at : at + 7], axis=-1))
