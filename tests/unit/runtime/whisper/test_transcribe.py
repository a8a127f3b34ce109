"""Recordings to transcripts by the tests' own engine."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.whisper_plain import (
    TOKENIZER,
    Scripted,
    asked,
    blocks,
    decoded,
    plain_model,
    sound,
)
from tests.whisper_reference import Reference

from mynah.audio.segments import SegmentOptions
from mynah.errors import ConfigError
from mynah.runtime.offline import Cancelled
from mynah.runtime.result import Transcript
from mynah.runtime.whisper.longform import Lane, LongForm, Window
from mynah.runtime.whisper.model import WhisperModel
from mynah.runtime.whisper.pauses import between_pauses
from mynah.runtime.whisper.transcribe import make_run, transcribe
from mynah.runtime.whisper.window import Asked, Found, WindowDecoder

MODEL = plain_model()
SHORT = {"max_new_tokens": 9}
ROOM = MODEL.config.dims.n_text_ctx // 2 - 1  # tokens of prompts


def heard(samples: Any, model: WhisperModel = MODEL, **values: Any) -> Transcript:
    return transcribe(model, asked(**{**SHORT, **values}), blocks(samples))


def facts(windows: list[Window]) -> list[tuple[Any, ...]]:
    return [(w.seek, w.size, w.found.tokens, w.found.temperature, w.language) for w in windows]


def talk(*spans: tuple[float, float], seconds: float) -> np.ndarray[Any, Any]:
    samples = np.zeros(int(seconds * 16_000), np.float32)
    for start, end in spans:
        part = slice(int(start * 16_000), int(end * 16_000))
        samples[part] = sound(seconds)[part]
    return samples


TALK = talk((1, 8), (12, 25), (28, 41), (46, 50), seconds=52)


def test_a_transcript() -> None:
    found = heard(sound(12))
    assert found.status == "ok"
    assert found.language == "en"
    assert found.duration == 12.0
    for segment in found.segments:
        assert segment.text == segment.text.strip() != ""
        assert 0 <= segment.start <= segment.end <= 12
        assert segment.confidence is not None
        assert 0 < segment.confidence <= 1
        assert segment.language is None
        assert segment.decoded is not None
    assert Transcript.from_json(found.to_json()).text == found.text


def test_nothing_to_hear() -> None:
    empty = heard(np.zeros(0, np.float32))
    assert (empty.status, empty.text, empty.duration) == ("no_speech", "", 0.0)
    engine = MODEL.engine
    assert isinstance(engine, Reference)
    before = engine.encoded
    silent = heard(np.zeros(320_000, np.float32), detector=Scripted())
    assert (silent.status, silent.duration) == ("no_speech", 20.0)
    assert engine.encoded == before, "what is no speech is not decoded"


@pytest.mark.parametrize("detector", [Scripted(), None])
@pytest.mark.parametrize("batched", [False, True])
def test_no_speech_by_the_models_own_probability(detector: Scripted | None, batched: bool) -> None:
    """What such windows would say is in the result, as what was left out."""
    values = {"detector": detector, "batched": batched, "condition_on_previous_text": False}
    samples = talk((1, 4), (8, 11), seconds=12.5)
    silent = heard(samples, no_speech_threshold=0.0, logprob_threshold=None, **values)
    assert (silent.status, silent.text) == ("no_speech", "")
    assert {(one.reason, one.removed) for one in silent.suspected} == {("no_speech", True)}
    first = heard(samples, **values).segments[0]
    assert (silent.suspected[0].text, silent.suspected[0].start) == (first.text, first.start)
    assert max(one.end for one in silent.suspected) <= 12.5


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": (0.0, 0.7), "logprob_threshold": -0.05, "best_of": 2},
        {"temperature": 0.7, "best_of": 2},
        {"multilingual": True, "language": None, "language_threshold": 0.6},
        {"initial_prompt": "the cat", "hotwords": "mat", "prefix": "and"},
        {"short_context": True},
    ],
    ids=str,
)
def test_what_is_decoded_beside_a_window_does_not_matter(values: dict[str, Any]) -> None:
    found = []
    for size in (1, 3, 8):
        planned = asked(detector=Scripted(), batched=True, batch_size=size, **{**SHORT, **values})
        _, windows = decoded(MODEL, planned, TALK)
        found.append(facts(windows))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) >= 4
    assert [one[0] for one in found[0]] == sorted(one[0] for one in found[0])


@pytest.mark.parametrize(
    ("multilingual", "vad", "end", "left"),
    [
        (True, True, 300, True),  # four seconds of speech are behind the text
        (True, True, 690, False),  # a third of one
        (True, False, 300, False),  # nobody knows whether they are speech
        (False, True, 300, False),  # they were in this language
    ],
)
def test_speech_behind_a_text_may_be_in_another_language(
    multilingual: bool, vad: bool, end: int, left: bool
) -> None:
    """Where the language is detected anew, what a window leaves unsaid is heard once more."""
    planned = asked(None, Scripted() if vad else None, multilingual=multilingual)
    run = make_run(MODEL, planned, blocks(talk((0.5, 7.5), (20, 24), seconds=30)))
    (job,) = run.jobs(1)
    heard = MODEL.engine.encode(run.mels(job, 3000)[None])
    job.lane.language = "en"
    begin = TOKENIZER.special.timestamp_begin
    tokens = (begin, *TOKENIZER.encode("the cat"), begin + end // 2)
    found = Found(tokens, (-0.1,) * len(tokens), "the cat", 0.0, -0.1, 1.0, 0.0)
    start = job.lane.seek
    run.take([job], [0], heard, [found])
    assert job.lane.seek == start + (end if left else job.size)


@pytest.mark.parametrize("vad", [True, False])
@pytest.mark.parametrize("timed", [True, False])
def test_stretches_grow_where_times_say_how_far_they_were_heard(vad: bool, timed: bool) -> None:
    spoken = talk(*((n, n + 1.4) for n in range(1, 100, 2)), seconds=102)
    planned = asked("en", Scripted() if vad else None, batched=True, chunk_length=6.0,
                    without_timestamps=not timed)  # fmt: skip
    run, sizes = make_run(MODEL, planned, blocks(spoken)), []
    while (region := run.regions.next(run.recording)) is not None:
        run.regions.reach(region, np.inf, run.recording)
        sizes.append(region.stop - region.start)
    assert max(sizes[:8]) <= 640
    assert (max(sizes[8:]) > 1200) == timed


def test_only_the_original_hears_the_last_moment() -> None:
    def least(vad: bool) -> int:
        run = make_run(MODEL, asked("en", Scripted() if vad else None), blocks(TALK))
        return run.jobs(1)[0].lane.least

    assert (least(vad=True), least(vad=False)) == (10, 0)


def test_text_where_the_recording_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, text = TOKENIZER.special.timestamp_begin, "the cat sat on the mat and the dog"
    first = (begin, *TOKENIZER.encode("a bird"), begin + 395)
    tokens = (*first, begin + 395, *TOKENIZER.encode(text), begin + 398)
    found = Found(tokens, (-0.1,) * len(tokens), text, 0.0, -0.1, 1.0, 0.0)
    monkeypatch.setattr(WindowDecoder, "__call__", lambda *_: [found])
    assert heard(sound(8)).text == f"a bird {text}"
    guarded = heard(sound(8), guards="remove")
    assert (guarded.text, [one.reason for one in guarded.suspected]) == ("a bird", ["too_fast"])


def test_batches_hear_all_that_is_spoken_once() -> None:
    run, windows = decoded(MODEL, asked(detector=Scripted(), batched=True, **SHORT), TALK)
    assert not run.dropped
    covered = np.zeros(5200, int)
    for window in windows:
        covered[window.seek : window.seek + window.size] += 1
    spoken = np.abs(TALK[: 5200 * 160]).reshape(5200, 160).max(axis=1) > 0
    assert covered[spoken].min() >= 1
    ends = [(window.seek, window.seek + window.size) for window in windows]
    regions = {end for _, end in ends}
    for _, end in ends:  # joints of regions lie in pauses
        assert not spoken[max(end - 15, 0) : end].all() or end in regions


def test_only_windows_that_failed_are_decoded_again() -> None:
    planned = asked(detector=Scripted(), batched=True, **SHORT)
    _, plain = decoded(MODEL, planned, TALK)
    means = sorted(window.found.avg_logprob for window in plain)
    middle = (means[0] + means[-1]) / 2
    values = {"temperature": (0.0, 0.9), "logprob_threshold": middle}
    _, tried = decoded(MODEL, dataclasses.replace(
        planned, options=planned.options.replace(**values)), TALK)  # fmt: skip
    by_seek = {window.seek: window for window in plain}
    same = [w for w in tried if w.seek in by_seek and by_seek[w.seek].found.avg_logprob >= middle]
    assert same
    for window in same:
        assert window.found.temperature == window.found.tried == 0
        assert window.found.tokens == by_seek[window.seek].found.tokens
    assert any(window.found.tried == 0.9 for window in tried)


def test_samples_are_the_same_every_time() -> None:
    values = {"temperature": 1.0, "best_of": 2, "condition_on_previous_text": False}
    first, again = (heard(sound(20), **values) for _ in range(2))
    assert first == again
    assert heard(sound(20), seed=1, **values).text != first.text


def test_of_failed_tries_the_most_probable_is_kept() -> None:
    values = {"temperature": (0.0, 1.0), "logprob_threshold": 0.0, "best_of": 1}
    _, windows = decoded(MODEL, asked(**SHORT, **values), sound(10))
    for window in windows:
        assert window.found.failed
        assert window.found.tried == 1.0
    assert windows[0].found.temperature == 0.0


def test_languages() -> None:
    found = heard(sound(31), language=None)
    assert found.language in ("en", "zh", "de")
    assert {segment.language for segment in found.segments} == {found.language}
    only = heard(sound(31), language=None, languages=("german",))
    assert only.language == "de"
    unsure = heard(
        sound(31), language=None, multilingual=True, language_threshold=1.0, languages=("zh", "de")
    )
    assert len({segment.language for segment in unsure.segments}) == 1, "the first is kept"


def test_a_window_of_which_none_is_sure_keeps_the_language_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = iter([{"zh": 0.9, "en": 0.1}, {"de": 0.4, "en": 0.3}, {"de": 0.7, "zh": 0.3}])
    monkeypatch.setattr(
        "mynah.runtime.whisper.together.language_probabilities", lambda *_: [next(said)]
    )
    planned = asked(language=None, multilingual=True, language_threshold=0.5, **SHORT)
    clips = planned.options.replace(clip_timestamps=(0.0, 10.0, 15.0, 25.0, 30.0, 40.0))
    _, windows = decoded(MODEL, dataclasses.replace(planned, options=clips), sound(40))
    by_clip = {window.seek // 1500: window.language for window in windows}
    assert by_clip == {0: "zh", 1: "zh", 2: "de"}


@pytest.mark.parametrize("speech", [None, SegmentOptions(pad=0.25)])
def test_words_stand_beside_pauses(
    monkeypatch: pytest.MonkeyPatch, speech: SegmentOptions | None
) -> None:
    planned = asked(detector=Scripted(), word_timestamps="attention", max_new_tokens=40)
    planned = dataclasses.replace(planned, speech=speech)
    found = transcribe(MODEL, planned, blocks(TALK))
    with monkeypatch.context() as patch:
        patch.setattr("mynah.runtime.whisper.transcribe.between_pauses", lambda *asked: asked[0])
        plain = transcribe(MODEL, planned, blocks(TALK))
    run, _ = decoded(MODEL, planned, TALK)
    options = speech or SegmentOptions()
    wanted = between_pauses(plain.segments, run.regions.spoken, options)
    assert list(found.segments) == wanted != list(plain.segments)
    without = dataclasses.replace(planned, detector=None)
    assert transcribe(MODEL, without, blocks(TALK)).words


@pytest.mark.parametrize("asked_for", ["zh", None])
def test_words_of_a_translation_are_english(
    monkeypatch: pytest.MonkeyPatch, asked_for: str | None
) -> None:
    begin, text = TOKENIZER.special.timestamp_begin, " Bing and I"
    tokens = (begin, *TOKENIZER.encode(text), begin + 195)
    found = Found(tokens, (-0.1,) * len(tokens), text.strip(), 0.0, -0.1, 1.0, 0.0)
    monkeypatch.setattr(WindowDecoder, "__call__", lambda *_: [found])
    values = {"language": asked_for, "languages": () if asked_for else ("zh",)}
    said = heard(sound(4), word_timestamps="attention", task="translate", **values)
    assert said.language == "zh", "is spoken"
    assert [word.text for word in said.words] == ["Bing", "and", "I"]
    spoken = heard(sound(4), word_timestamps="attention", **values)
    assert len(spoken.words) > 3


@pytest.mark.parametrize("batched", [False, True])
def test_windows_end_where_the_language_changes(
    monkeypatch: pytest.MonkeyPatch, batched: bool
) -> None:
    samples = talk((1, 5), (6, 10), (11, 11.2), (13, 17), (18, 22), seconds=25)
    told = iter([{"en": 0.9}, {"zh": 0.81}, {"en": 0.79}, {"de": 0.9}])
    looks: list[tuple[int, Any]] = []

    def found(model: Any, heard: Any, rows: Any, allowed: Any) -> list[dict[str, float]]:
        looks.append((heard.frames, allowed))
        return [next(told)]

    monkeypatch.setattr("mynah.runtime.whisper.language.language_probabilities", found)
    planned = asked(
        language=None,
        multilingual=True,
        languages=("English", "zh", "de"),
        batched=batched,
        **SHORT,
    )
    planned = dataclasses.replace(planned, detector=Scripted(), speech=SegmentOptions())
    _, windows = decoded(MODEL, planned, samples)
    assert looks == [(300, ("en", "zh", "de"))] * 4, "in a short context, none at 0.2 s"
    borders = (0.0, 5.5, 17.5, 25.0)
    assert {np.searchsorted(borders, w.seek / 100 + 0.2) for w in windows} == {1, 2, 3}
    assert any(w.seek < 700 and w.seek + w.size > 1600 for w in windows), "unsure is no change"
    for window in windows:
        first, last = (window.seek + 20) / 100, (window.seek + window.size - 20) / 100
        assert np.searchsorted(borders, first) == np.searchsorted(borders, last)
    looks.clear()
    one = dataclasses.replace(planned, options=planned.options.replace(multilingual=False))
    decoded(MODEL, one, samples)
    assert not looks


def test_more_windows_are_asked_for_the_language_where_none_is_sure() -> None:
    model = plain_model()
    engine = model.engine
    assert isinstance(engine, Reference)
    values = {"language": None, "clip_timestamps": (0.0, 5.0), "without_timestamps": True}
    heard(sound(40), model, language_threshold=1.0, language_segments=3, **values)
    assert engine.encoded == 2, "there is no third"


def test_prefix_and_prompt_stand_before_the_first_window() -> None:
    seen: list[tuple[int, ...]] = []
    model = plain_model()
    engine = model.engine
    assert isinstance(engine, Reference)
    made = engine.decoder

    def decoder(heard_: Any, rows: Any, capacity: int = 448) -> Any:
        step = made(heard_, rows, capacity)

        def spy(tokens: Any, parents: Any = None) -> Any:
            if parents is None:
                seen.append(tuple(tokens[0].tolist()))
            return step.predict(tokens, parents)

        return SimpleNamespace(predict=spy)

    engine.decoder = decoder  # type: ignore[assignment]
    heard(sound(40), model, prefix="the cat", initial_prompt="mat", without_timestamps=True)
    special = TOKENIZER.special
    assert seen[0] == (special.sot_prev, *TOKENIZER.encode(" mat"), special.sot)
    assert seen[1][-len(TOKENIZER.encode(" the cat")) :] == tuple(TOKENIZER.encode(" the cat"))
    assert seen[2][: 1 + len(TOKENIZER.encode(" mat"))] == (
        special.sot_prev, *TOKENIZER.encode(" mat")
    )  # fmt: skip
    assert seen[3] == TOKENIZER.sot_sequence("en", timestamps=False)[1:]


def test_a_prefix_stays_where_the_first_window_is_heard_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, bool]] = []
    plain = LongForm.asked

    def watched(self: LongForm, lane: Lane) -> Asked:
        found = plain(self, lane)
        seen.append((lane.region.number, bool(found.given)))
        return found

    monkeypatch.setattr(LongForm, "asked", watched)
    monkeypatch.setattr(
        "mynah.runtime.whisper.together._is_doubtful", lambda job, _: job.lane.region.number == 0
    )
    samples = talk((1, 4), (8, 11), seconds=14)
    values = {"batched": True, "batch_size": 2, "short_context": True, "prefix": "the cat"}
    heard(samples, detector=Scripted(), without_timestamps=True, **values)
    assert seen == [(0, True), (1, False), (0, True)]


def test_a_prefix_and_all_hotwords_that_fit_leave_room_for_the_text() -> None:
    model, prefix = plain_model(), "the cat"
    asked: list[int] = []
    search = WindowDecoder._search

    def watched(self: WindowDecoder, windows: Any) -> Any:
        asked.extend(len(one.before) - 1 + len(one.given) for one in windows.asked)
        return search(self, windows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowDecoder, "_search", watched)
        heard(sound(40), model, prefix=prefix, hotwords="mat " * 300, without_timestamps=True)
    assert len(asked) >= 2 and set(asked) == {ROOM}


def test_stop_and_progress() -> None:
    told: list[tuple[float, float | None]] = []
    planned = asked(**SHORT)
    whole = transcribe(
        MODEL, planned, blocks(sound(65)), progress=lambda d, t: told.append((d, t)), total=65.0
    )
    assert told[-1] == (65.0, 65.0)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    with pytest.raises(Cancelled) as stopped:
        transcribe(MODEL, planned, blocks(sound(65)), stop=iter([False, True]).__next__)
    part = stopped.value.transcripts[0]
    assert part.segments == whole.segments[: len(part.segments)]
    assert 0 < part.duration < 65


def test_notes_say_what_may_cost_accuracy() -> None:
    found = heard(sound(4), short_context=True, hotwords="the cat sat " * 99)
    assert found.notes == ("short_context", "hotwords_cut")


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize(
    ("values", "notes"),
    [
        ({"initial_prompt": "the cat"}, ()),
        ({"initial_prompt": (7,) * ROOM}, ()),
        ({"initial_prompt": (7,) * (ROOM + 1)}, ("prompt_cut",)),
        ({"initial_prompt": (7,) * ROOM, "hotwords": "mat"}, ("prompt_cut",)),
        ({"initial_prompt": (7,) * ROOM, "prefix": "mat"}, ("prompt_cut",)),
        ({"initial_prompt": "cat", "hotwords": "mat " * 99}, ("hotwords_cut", "prompt_cut")),
    ],
)
def test_a_prompt_that_is_not_taken_whole_is_noted(
    carried: bool, values: dict[str, Any], notes: tuple[str, ...]
) -> None:
    assert heard(sound(2), carry_initial_prompt=carried, **values).notes == notes


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"language": "fr"}, "does not know 'fr'"),
        ({"languages": ("en",)}, "languages: 'en' is asked for"),
        ({"multilingual": True}, "multilingual: 'en' is asked for"),
        ({"max_new_tokens": 999}, "max_new_tokens: 999, at most 128"),
        ({"prefix": "a b c " * 60}, "prefix: "),
        ({"initial_prompt": (99_999,)}, "initial_prompt: tokens are"),
    ],
)
def test_refused(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        heard(sound(1), **values)
    assert line in str(error.value)


def test_a_window_that_goes_nowhere_is_over() -> None:
    """Every window ends, whatever times the model gives."""
    for seed in range(3):
        _, windows = decoded(plain_model(seed, times=6.0), asked(**SHORT), sound(33))
        assert len(windows) < 60
