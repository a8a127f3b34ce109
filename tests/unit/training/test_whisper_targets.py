"""What Whisper is to say: prompts, times, the text before, and what of it is learnt."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files

torch = pytest.importorskip("torch")

from mynah.corpus.cut import Cut, cut_from_row  # noqa: E402
from mynah.data.items import shape_text  # noqa: E402
from mynah.errors import InputError  # noqa: E402
from mynah.text.byte_bpe import pieces  # noqa: E402
from mynah.text.byte_bpe_training import train_vocabulary  # noqa: E402
from mynah.text.whisper_tokenizer import WhisperTokenizer, find_tokens, standard_tokens  # noqa: E402
from mynah.training.tasks.whisper_targets import WhisperTargets, split_targets  # noqa: E402

LOWER = partial(shape_text, form="lower", language="en")
NAMES = files.special_tokens()


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    vocabulary = files.vocabulary()
    return WhisperTokenizer(vocabulary, find_tokens(vocabulary, files.TOKENS))


def cut(**row: Any) -> Cut:
    return cut_from_row({"id": "a", "path": "a.wav", **row})


def make(targets: WhisperTargets, one: Cut, language: str = "", factor: float = 1.0) -> list[int]:
    rng = np.random.default_rng(1)
    return targets(rng, one, language or one.language, factor, LOWER)


def test_text_with_language_and_task(tokenizer: WhisperTokenizer) -> None:
    targets = WhisperTargets(tokenizer, 64)
    row = make(targets, cut(text="The Cat  sat", language="German", task="translate"))
    shown = tokenizer.decode_with_timestamps(row)
    wanted = "<|startoftranscript|><|de|><|translate|><|notimestamps|> the cat sat<|endoftext|>"
    assert shown == wanted
    chinese = make(targets, cut(text="你好"), "zh")
    assert tokenizer.decode_with_timestamps(chinese).endswith("<|notimestamps|>你好<|endoftext|>")
    translated = make(targets, cut(text="the cat", task="translate"), "zh")
    assert tokenizer.decode_with_timestamps(translated).endswith(
        "<|notimestamps|> the cat<|endoftext|>"
    )
    plain = WhisperTargets(tokenizer, 64, language="en", task="translate")
    assert make(plain, cut(text="The cat"))[1:3] == [NAMES["<|en|>"], NAMES["<|translate|>"]]


SEGMENTS = [
    {"text": "The cat", "start": 0.0, "duration": 1.2},
    {"text": "sat", "start": 1.5, "duration": 0.5},
]


def test_times_of_segments(tokenizer: WhisperTokenizer) -> None:
    targets = WhisperTargets(tokenizer, 64, language="en", timestamps=1.0)
    timed = cut(supervisions=SEGMENTS)
    shown = tokenizer.decode_with_timestamps(make(targets, timed))
    start = "<|startoftranscript|><|en|><|transcribe|>"
    assert shown == f"{start}<|0.00|> the cat<|1.20|><|1.50|> sat<|2.00|><|endoftext|>"
    faster = tokenizer.decode_with_timestamps(make(targets, timed, factor=1.25))
    assert faster == f"{start}<|0.00|> the cat<|0.96|><|1.20|> sat<|1.60|><|endoftext|>"
    never = WhisperTargets(tokenizer, 64, language="en", timestamps=0.0)
    plain = f"{start}<|notimestamps|> the cat sat<|endoftext|>"
    assert tokenizer.decode_with_timestamps(make(never, timed)) == plain
    half = WhisperTargets(tokenizer, 64, language="en", timestamps=0.5)
    rng = np.random.default_rng(2)
    rows = [half(rng, timed, "", 1.0, LOWER) for _ in range(40)]
    share = sum(tokenizer.special.no_timestamps not in row for row in rows)
    assert 10 <= share <= 30
    assert all(half(rng, cut(text="x"), "", 1.0, LOWER)[3] == tokenizer.special.no_timestamps
               for _ in range(9))  # fmt: skip


def test_an_utterance_without_segments_is_one(tokenizer: WhisperTokenizer) -> None:
    targets = WhisperTargets(tokenizer, 64, language="en", timestamps=1.0)
    start = "<|startoftranscript|><|en|><|transcribe|>"
    whole = cut(text="the cat", duration=1.5)
    shown = tokenizer.decode_with_timestamps(make(targets, whole, factor=1.25))
    assert shown == f"{start}<|0.00|> the cat<|1.20|><|endoftext|>"
    unknown = {"text": "the cat", "start": 0.4}
    last = cut(duration=2.0, supervisions=[*SEGMENTS[:0], unknown])
    assert "<|0.40|> the cat<|2.00|>" in tokenizer.decode_with_timestamps(make(targets, last))
    parts = [{"text": "the cat", "start": 1.0}, {"text": "sat", "start": 3.0}]
    over = [{**SEGMENTS[0], "start": 0.5}, SEGMENTS[1]]  # one begins before the other is over
    for row in (cut(text="the cat"), cut(text="the cat", duration=0.0), cut(duration=1.0),
                cut(duration=5.5, supervisions=parts), cut(supervisions=over)):  # fmt: skip
        assert tokenizer.special.no_timestamps in make(targets, row)


def test_text_before(tokenizer: WhisperTokenizer) -> None:
    targets = WhisperTargets(tokenizer, 64, language="en", previous=1.0)
    row = make(targets, cut(text="the cat", previous="On  the mat"))
    shown = tokenizer.decode_with_timestamps(row)
    assert shown.startswith("<|startofprev|> on the mat<|startoftranscript|><|en|>")
    long = make(targets, cut(text="the cat", previous="the mat " * 60))
    begun = long.index(tokenizer.special.sot)
    assert begun == 64 // 2, "no more than half of the room"
    assert tokenizer.decode(long[:begun]).endswith("the mat")
    tight = WhisperTargets(tokenizer, len(make(targets, cut(text="the cat"))) + 1,
                           language="en", previous=1.0)  # fmt: skip
    assert len(make(tight, cut(text="the cat", previous="the mat " * 60))) <= tight.context + 1
    never = WhisperTargets(tokenizer, 64, language="en", previous=0.0)
    assert make(never, cut(text="the cat", previous="on"))[0] == tokenizer.special.sot


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"language": "klingon"}, "language: 'klingon' is not known"),
        ({"language": "fr"}, "language: this model does not know 'fr'"),
        ({}, "has no language, and the model knows several"),
        ({"language": "en", "task": "sing"}, "has task 'sing', which is none of transcribe, tr"),
    ],
)
def test_wrong_columns(tokenizer: WhisperTokenizer, row: dict[str, str], message: str) -> None:
    targets, one = WhisperTargets(tokenizer, 64), cut(text="the cat", **row)
    with pytest.raises(InputError, match=message):
        targets.check(one, one.language)
    with pytest.raises(InputError, match=message):
        make(targets, one)


def test_too_much_text(tokenizer: WhisperTokenizer) -> None:
    targets = WhisperTargets(tokenizer, 16, language="en")
    with pytest.raises(InputError, match=r"has \d+ tokens, the model has room for 16"):
        make(targets, cut(text="the cat sat on the mat " * 4))


def test_an_english_only_model_has_neither_language_nor_task() -> None:
    vocabulary = files.vocabulary()
    padded = [*vocabulary.tokens, *(b"" for _ in range(50_256 - len(vocabulary.tokens)))]
    english = WhisperTokenizer(
        type(vocabulary)(tuple(padded), vocabulary.merges), standard_tokens(50_256, 51_864)
    )
    targets = WhisperTargets(english, 64)
    shown = english.decode_with_timestamps(make(targets, cut(text="The cat", language="en")))
    assert shown == "<|startoftranscript|><|notimestamps|> the cat<|endoftext|>"
    row = torch.tensor([make(targets, cut(text="The cat"))])
    read, wanted = split_targets(row, torch.tensor([row.shape[1]]), english.special)
    assert wanted[0, 0] == -1 and torch.equal(wanted[0, 1:], row[0, 2:])
    assert torch.equal(read, row[:, :-1])
    for bad in ({"language": "de"}, {"task": "translate"}):
        with pytest.raises(InputError, match="with an English-only model"):
            targets.check(cut(text="x", **bad), bad.get("language", ""))


def test_the_prompt_is_not_learnt(tokenizer: WhisperTokenizer) -> None:
    special = tokenizer.special
    timed = WhisperTargets(tokenizer, 64, language="en", timestamps=1.0, previous=1.0)
    rows = [
        make(timed, cut(text="the cat", previous="on the mat")),
        make(timed, cut(supervisions=SEGMENTS)),
    ]
    size = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (size - len(row)) for row in rows])
    _, wanted = split_targets(tokens, torch.tensor([len(row) for row in rows]), special)
    for row, learnt in zip(rows, wanted.tolist(), strict=True):
        kept = [token for token in learnt if token >= 0]
        start = row.index(special.sot) + 3
        start += row[start] == special.no_timestamps
        assert kept == row[start:] and kept[-1] == special.eot
    assert wanted[1, 2] == special.timestamp_begin


def test_a_vocabulary_is_learnt_from_texts() -> None:
    texts = ["the cat sat on the mat"] * 3 + ["then the rat, über 你好"]
    for size in (256, 262, 270, 4000):
        found = train_vocabulary((f" {text}" for text in texts), size)
        assert found.tokens[:256] == tuple(bytes([b]) for b in range(256))
        assert found.tokens[256:] == plain_vocabulary(texts, size)
    tokenizer = WhisperTokenizer(
        found, standard_tokens(len(found.tokens), len(found.tokens) + 1512)
    )
    for text in (*texts, "quite other words"):
        assert tokenizer.decode(tokenizer.encode(f" {text}")) == f" {text}"
    assert len(tokenizer.encode(" the cat")) == 2
    assert tokenizer.encode(" ")[0] not in tokenizer.non_speech_tokens


def plain_vocabulary(texts: list[str], size: int) -> tuple[bytes, ...]:
    """The same by counting anew after every union."""
    words = [[bytes([b]) for b in p.encode()] for text in texts for p in pieces(f" {text}")]
    made: list[bytes] = []
    while 256 + len(made) < size:
        counts: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for left, right in zip(word, word[1:], strict=False):  # noqa: RUF007
                counts[left, right] = counts.get((left, right), 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        made.append(best[0] + best[1])
        for word in words:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = [best[0] + best[1]]
                at += 1
    return tuple(made)
