"""Subtitles, tables and text against openai-whisper's own writers: the same bytes."""

from __future__ import annotations

import io
import json
import random
from dataclasses import fields
from typing import Any

import pytest

from mynah.runtime.result import Decoded, Segment, Transcript, Word, make_transcript
from mynah.runtime.subtitles import Layout
from mynah.runtime.writers import render

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = [
    "the", "a", "morning,", "bird;", "sings?", "it's", "12.5", "o'clock", "—", "über", "alles!",
    "(maybe)", '"so"', "well-known", "x", "extraordinarily", "<b>", "&amp;", "a-->b",
]  # fmt: skip


def said(seed: int, *, words: bool, scale: float = 1.0) -> dict[str, Any]:
    """A result as whisper gives it."""
    rng, at = random.Random(seed), 0.0
    segments = []
    for _ in range(rng.randint(0, 6)):
        at += rng.choice([0.0, 0.2, 4.0, 3.01]) * scale
        own = []
        for _ in range(rng.randint(1, 12)):
            start = round(at + rng.choice([0.0, 0.0, 0.3, 3.5]), 2)
            end = round(start + rng.choice([0.0, 0.2, 0.71]) * scale, 2)
            own.append({"word": " " + rng.choice(WORDS), "start": start, "end": end})
            at = end
        if words:  # where words have times, whisper lets an arrow through
            own = [{**word, "word": word["word"].replace("-->", "-")} for word in own]
        text = "".join(word["word"] for word in own)
        segment = {"text": text, "start": own[0]["start"], "end": own[-1]["end"]}
        segments.append(segment | ({"words": own} if words else {}))
    return {"segments": segments}


def ours(result: dict[str, Any]) -> Transcript:
    segments = []
    for segment in result["segments"]:
        words = tuple(
            Word(word["word"].strip(), word["start"], word["end"], 0.5, "attention")
            for word in segment.get("words", ())
        )
        text, span = segment["text"].strip(), (segment["start"], segment["end"])
        known = {f.name: segment[f.name] for f in fields(Decoded) if f.name in segment}
        decoded = Decoded(**known) if known else None
        segments.append(Segment(text, *span, None, words, decoded=decoded))
    return make_transcript(segments, language="en", duration=1e4)


def theirs(result: dict[str, Any], kind: str, options: dict[str, Any]) -> str:
    utils = pytest.importorskip("whisper.utils")
    writer = utils.get_writer(kind, ".")
    file = io.StringIO()
    writer.write_result(result, file, **(options if kind in ("srt", "vtt") else {}))
    return file.getvalue()


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"highlight_words": True},
    {"max_line_width": 20},
    {"max_line_width": 18, "max_line_count": 2},
    {"max_line_width": 9, "max_line_count": 1, "highlight_words": True},
    {"max_line_count": 2},
    {"max_words_per_line": 3},
    {"max_words_per_line": 1, "highlight_words": True},
    {"max_words_per_line": 4, "max_line_width": 16},
    {"max_words_per_line": 4, "max_line_width": 16, "max_line_count": 3},
]


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles(kind: str, options: dict[str, Any]) -> None:
    for seed in range(60):
        result = said(seed, words=True, scale=1.0 if seed % 7 else 300.0)
        written = render(ours(result), kind, layout=Layout(**options), style="whisper")
        assert written == theirs(result, kind, options), seed


@pytest.mark.parametrize("kind", ["txt", "tsv", "srt", "vtt"])
def test_segments(kind: str) -> None:
    for seed in range(60):
        result = said(seed, words=False, scale=1.0 if seed % 7 else 300.0)
        assert render(ours(result), kind, style="whisper") == theirs(result, kind, {}), seed


@pytest.mark.parametrize("words", [True, False])
def test_json(words: bool) -> None:
    for seed in range(60):
        result = said(seed, words=words)
        result |= {"text": "".join(one["text"] for one in result["segments"]), "language": "en"}
        for number, segment in enumerate(result["segments"]):
            segment |= {
                "id": number, "seek": 3000 * number, "tokens": [50364, number], "temperature": 0.2,
                "avg_logprob": -0.5, "compression_ratio": 1.25, "no_speech_prob": 0.125,
            }  # fmt: skip
            for word in segment.get("words", ()):
                word["probability"] = 0.5
        written = json.loads(render(ours(result), "json", style="whisper"))
        for segment in written["segments"]:
            for word in segment.get("words", ()):
                assert word.pop("source")  # of its times, which is ours alone
        assert written == json.loads(theirs(result, "json", {})), seed


def test_scripts_without_spaces() -> None:
    texts = ["今天", "天气", "很好。", "我们", "走吧！"]
    words = [{"word": t, "start": i * 0.5, "end": i * 0.5 + 0.4} for i, t in enumerate(texts)]
    result = {
        "segments": [
            {"text": "".join(texts[:3]), "start": 0.0, "end": 1.4, "words": words[:3]},
            {"text": "".join(texts[3:]), "start": 1.5, "end": 2.4, "words": words[3:]},
        ]
    }
    for options in LAYOUTS:
        written = render(ours(result), "srt", layout=Layout(**options), style="whisper")
        assert written == theirs(result, "srt", options)
    found = json.loads(render(ours(result), "json", style="whisper"))
    assert [one["text"] for one in found["segments"]] == ["今天天气很好。", "我们走吧！"]
    assert found["text"] == "今天天气很好。我们走吧！"
    assert [w["word"] for one in found["segments"] for w in one["words"]] == texts


def test_an_arrow_and_a_line_break_break_no_file() -> None:
    words = (Word("a-->b", 0.0, 1.0, None, "aligned"), Word("c\n\nd", 1.0, 2.0, None, "aligned"))
    one = make_transcript([Segment("a-->b c\n\nd", 0, 2, None, words)], language="en", duration=2)
    assert render(one, "srt", style="whisper") == "1\n00:00:00,000 --> 00:00:02,000\na->b c d\n\n"
