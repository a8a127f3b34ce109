"""Streamed equals whole: sessions under ragged feeding, endpoints, joined in batches."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import mynah
from mynah.decoding import DecodingOptions
from mynah.errors import ConfigError, InputError, ModelError, MynahError
from mynah.runtime.endpoint import Cut
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.request import Request
from mynah.runtime.result import Segment
from mynah.runtime.session import Endpoint, Endpointing, Event, Final, Partial, Session
from tone_model import RATE, speak, write_tone_model


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return mynah.load(write_tone_model(tmp_path_factory.mktemp("session") / "tones"))


def pause(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def talk() -> np.ndarray:
    """Two utterances with a pause that ends the first."""
    return np.concatenate([speak("abc de"), pause(1.7), speak("bad cab"), pause(0.3)])


def run(session: Session, samples: np.ndarray, sizes: np.ndarray | list[int]) -> list[Event]:
    events: list[Event] = []
    cuts = np.cumsum(sizes)
    for part in np.split(samples, cuts[cuts < samples.shape[-1]], axis=-1):
        events += session.feed(part)
    return events + session.feed(np.zeros(0, np.float32), last=True)


def finals(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


@pytest.mark.parametrize("method", ["greedy", "prefix_beam", "rescoring"])
def test_ragged_feeding_gives_the_same_events(tones: Recognizer, method: str) -> None:
    samples = talk()
    whole = run(tones.stream(method=method), samples, [len(samples)])
    assert finals(whole) == ["abc de", "bad cab"]
    rng = np.random.default_rng(0)
    for largest in (50, 700, 5000, 40000):
        sizes = rng.integers(0, largest, 1 + 2 * len(samples) // largest)
        assert run(tones.stream(method=method), samples, sizes) == whole


def test_the_last_samples_with_or_before_the_end(tones: Recognizer) -> None:
    samples = talk()
    for length in range(29_000, 31_000, 160):
        together, apart = tones.stream(), tones.stream()
        one = together.feed(samples[:length], last=True)
        other = apart.feed(samples[:length]) + apart.feed(samples[:0], last=True)
        assert one == other


def test_streamed_log_probs_equal_whole(tones: Recognizer) -> None:
    samples, model = speak("abc de ab"), tones.model
    feats = model.frontend(samples)
    whole = model.engine.encode(feats[None], np.array([len(feats)]))
    session, heard = tones.stream(), []
    absorb = session.absorb
    session.absorb = lambda lp, enc: heard.append(lp) or absorb(lp, enc)  # type: ignore[method-assign]
    run(session, samples, [1000] * 100)
    assert sum(map(len, heard)) == whole.lens[0]
    np.testing.assert_allclose(
        np.concatenate(heard), whole.log_probs[0, : whole.lens[0]], atol=1e-4
    )


def test_segments_lose_and_repeat_nothing(tones: Recognizer) -> None:
    samples, model = speak("abc de ab"), tones.model
    feats = model.frontend(samples)
    whole = model.engine.encode(feats[None], np.array([len(feats)]))
    session, heard = tones.stream(endpointing=Endpointing(longest=0.5)), []
    said = session._said

    def watched(cut: Cut | None, frames: int) -> list[Segment]:
        heard.append(np.concatenate(session._segment.log_probs)[:frames])
        return said(cut, frames)

    session._said = watched  # type: ignore[method-assign]
    events = run(session, samples, [1000] * 100)
    assert sum(isinstance(event, Endpoint) for event in events) >= 3
    starts_silent = len(whole.log_probs[0, : whole.lens[0]]) - sum(map(len, heard))
    expected = whole.log_probs[0, starts_silent : whole.lens[0]]
    np.testing.assert_allclose(np.concatenate(heard), expected, atol=1e-4)


def test_what_is_too_quiet_is_not_heard(tones: Recognizer) -> None:
    options = DecodingOptions(method="greedy", blank_penalty=60.0)  # would hear words in anything
    quiet = speak("ab") * np.float32(9e-5 / 0.3)
    assert tones.transcribe(quiet * 2, options=options).status == "ok"
    assert tones.transcribe(quiet, options=options).status == "no_speech"
    assert tones.transcribe_live(quiet * 2, options=options).status == "ok"
    assert tones.transcribe_live(quiet, options=options).status == "no_speech"
    assert run(tones.stream(options=options), quiet, [999] * 100) == []


def test_live_says_what_offline_says(tones: Recognizer) -> None:
    samples = speak("dad bead cab")
    live, offline = tones.transcribe_live(samples), tones.transcribe(samples)
    assert live.text == offline.text == "dad bead cab"
    for one, other in zip(live.words, offline.words, strict=True):
        assert one.start == pytest.approx(other.start, abs=0.05)
        assert one.end == pytest.approx(other.end, abs=0.05)


def test_partials_grow_and_have_times(tones: Recognizer) -> None:
    events = run(tones.stream(), talk(), [800] * 300)
    texts = [event.text for event in events if isinstance(event, Partial)]
    assert texts[:3] == ["a", "ab", "abc"]
    assert len(set(itertools.pairwise(texts))) == len(texts) - 1  # no text twice running
    for event in events:
        if isinstance(event, Partial):
            assert " ".join(word.text for word in event.words) == event.text


def test_chinese_in_one_script(tmp_path: Path) -> None:
    pytest.importorskip("opencc")
    folder = write_tone_model(tmp_path / "zh", letters="頭髮后面里", languages=("zh",))
    recognizer = mynah.load(folder)
    samples, plain = speak("abecd"), recognizer.transcribe(speak("abecd"))
    assert plain.text == "頭髮里后面"
    for script, text in (("simplified", "头发里后面"), ("taiwan", "頭髮裡後面")):
        request = Request(script=script)  # type: ignore[arg-type]
        found = recognizer.transcribe(samples, request)
        assert (found.text, "".join(w.text for w in found.words)) == (text, text)
        assert [(w.start, w.confidence) for w in found.words] == [
            (w.start, w.confidence) for w in plain.words
        ]
        assert recognizer.transcribe_live(samples, request).text == text
        events = run(recognizer.stream(request), samples, [800] * 300)
        partials = [event for event in events if isinstance(event, Partial)]
        assert partials[0].text == text[0] and partials[-1].text == text
        assert "".join(word.text for word in partials[-1].words) == text
        (final,) = [event for event in events if isinstance(event, Final)]
        assert final.segment.text == text
        wordless = recognizer.stream(Request(script=script, words=False))  # type: ignore[arg-type]
        events = run(wordless, samples, [800] * 300)
        assert [event.text for event in events if isinstance(event, Partial)][-1] == text
    chars = recognizer.transcribe(samples, Request(script="taiwan", chars=True)).words
    assert chars and all(len(word.chars) == len(word.text) for word in chars)


def test_a_script_needs_a_language(tmp_path: Path) -> None:
    pytest.importorskip("opencc")
    both = mynah.load(write_tone_model(tmp_path / "both", languages=("zh", "en")))
    with pytest.raises(ConfigError, match="script: tones knows several languages; say which"):
        both.transcribe(speak("abc"), Request(script="taiwan"))
    assert both.transcribe(speak("abc"), Request(script="taiwan", language="zh")).text == "abc"


def test_endpoints_and_times_over_segments(tones: Recognizer) -> None:
    samples = talk()
    session = tones.stream()
    events = run(session, samples, [1600] * 200)
    (endpoint,) = [event for event in events if isinstance(event, Endpoint)]
    assert endpoint.reason == "after_speech"
    speech_end = len(speak("abc de")) / RATE - 0.15
    assert speech_end + 1.0 <= endpoint.time <= speech_end + 1.0 + 0.4
    position = events.index(endpoint)
    assert isinstance(events[position - 1], Final)
    result = session.finish()
    assert result.text == "abc de bad cab"
    assert result.duration == pytest.approx(len(samples) / RATE)
    offset = len(speak("abc de")) / RATE + 1.7
    assert result.words[2].start == pytest.approx(offset + 0.5, abs=0.12)
    times = [t for word in result.words for t in (word.start, word.end)]
    assert times == sorted(times)


def test_nothing_for_five_seconds(tones: Recognizer) -> None:
    session = tones.stream()
    events = run(session, np.concatenate([pause(11), speak("a")]), [4000] * 100)
    assert [e.reason for e in events if isinstance(e, Endpoint)] == ["nothing", "nothing"]
    assert finals(events) == ["a"]
    assert session.finish().words[0].start == pytest.approx(11.5, abs=0.12)


def test_the_longest_segment(tones: Recognizer) -> None:
    words = " ".join("abcde" for _ in range(14))
    session = tones.stream()
    events = run(session, speak(words), [4000] * 500)
    assert [e.reason for e in events if isinstance(e, Endpoint)] == ["longest"]
    assert len(finals(events)) == 2
    assert session.finish().text.replace(" ", "") == words.replace(" ", "")


def test_rules_can_be_set(tones: Recognizer) -> None:
    sound = np.concatenate([speak("ab"), pause(0.7), speak("cd")])
    short = tones.stream(endpointing=Endpointing(after_speech=0.5))
    assert finals(run(short, sound, [1600] * 100)) == ["ab", "cd"]
    never = Endpointing(after_speech=float("inf"), nothing=float("inf"), longest=float("inf"))
    assert finals(run(tones.stream(endpointing=never), talk(), [1600] * 100)) == ["abc de bad cab"]
    with pytest.raises(ConfigError, match="after_speech: 0 is not above 0"):
        Endpointing(after_speech=0)


def test_silence_and_an_empty_stream(tones: Recognizer) -> None:
    for samples in (pause(0), pause(0.001), pause(2.0), np.full(32000, 5e-5, np.float32)):
        session = tones.stream()
        assert run(session, samples, [500] * 100) == []
        assert session.finish().status == "no_speech"


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_rates_channels_and_integers(tones: Recognizer, rate: int) -> None:
    sound = (speak("abd", rate) * 32767).astype(np.int16)
    stereo = np.stack([sound, sound])
    assert finals(run(tones.stream(rate=rate), stereo, [777] * 300)) == ["abd"]


@pytest.mark.parametrize(("chunk", "left"), [(1, 0), (3, 7), (16, 4), (1000, 1)])
def test_any_chunk(tones: Recognizer, chunk: int, left: int) -> None:
    events = run(tones.stream(chunk=chunk, left=left), speak("abc de"), [999] * 100)
    assert finals(events) == ["abc de"]


def test_an_ended_session_refuses(tones: Recognizer) -> None:
    session = tones.stream()
    result = session.finish()
    assert session.finish() == result
    with pytest.raises(InputError, match="the session has ended"):
        session.feed(pause(1))


def test_what_is_not_sound_is_refused(tones: Recognizer) -> None:
    session = tones.stream()
    with pytest.raises(InputError, match="not finite"):
        session.feed(np.array([0.0, np.nan]))
    assert run(session, speak("ab"), [1600] * 100)[-1].text == "ab"  # and leaves no trace


def test_models_that_do_not_stream(tmp_path: Path) -> None:
    reason = "its convolution looks ahead"
    folder = write_tone_model(tmp_path / "m", streaming={"reason": reason})
    with pytest.raises(ModelError, match=f"tones does not stream: {reason}"):
        mynah.load(folder).stream()


def test_unlimited_left_context_is_refused(tones: Recognizer) -> None:
    with pytest.raises(ConfigError, match="unlimited left context runs offline only"):
        tones.stream(left=-1)


def test_left_context_that_no_memory_holds(tones: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="left: 10000000 chunks of 4: more than 15000 frames"):
        tones.stream(left=10_000_000)
    for value, line in ((10_000_000, "left: 10000000 chunks"), ("x", "streaming.left: 'x' is no")):
        folder = write_tone_model(tmp_path / "m", streaming={"chunk": 4, "left": value})
        with pytest.raises(MynahError, match=line):
            mynah.load(folder).stream()


def sounds() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    letters = ["".join(rng.choice(list("abcde"), 3)) for _ in range(5)]
    talks = [speak(f"{a} {b}") for a, b in itertools.pairwise(letters)]
    return [*talks, talk(), pause(2.0)]


def test_batched_sessions_equal_lone_ones(tones: Recognizer) -> None:
    signals = sounds()
    alone = [run(tones.stream(), signal, [1600] * 200) for signal in signals]
    batcher = tones.batcher(max_rows=3)  # fewer rows than sessions
    sessions = [tones.stream() for _ in signals]
    events: list[list[Event]] = [[] for _ in signals]
    rng = np.random.default_rng(1)
    places = [0] * len(signals)
    while not all(session.closed for session in sessions):
        present = [n for n in rng.permutation(len(signals)) if rng.random() < 0.6]
        present = [n for n in present if not sessions[n].closed]
        sizes = {n: int(rng.integers(0, 9000)) for n in present}
        pairs = [(sessions[n], signals[n][places[n] : places[n] + sizes[n]]) for n in present]
        for n, found in zip(present, batcher.feed_many(pairs), strict=True):
            places[n] += sizes[n]
            events[n] += found
            if places[n] >= len(signals[n]):
                events[n] += batcher.feed_many([(sessions[n], pause(0))], last=True)[0]
    assert events == alone


def test_sessions_move_between_batchers(tones: Recognizer) -> None:
    signals = sounds()[:3]
    alone = [run(tones.stream(), signal, [1600] * 200) for signal in signals]
    batchers = [tones.batcher(), tones.batcher()]
    sessions = [tones.stream() for _ in signals]
    events: list[list[Event]] = [[] for _ in signals]
    rng = np.random.default_rng(2)
    for first in range(0, max(map(len, signals)), 3000):
        for n, session in enumerate(sessions):
            part = signals[n][first : first + 3000]
            which = int(rng.integers(3))
            if which == 2:
                events[n] += session.feed(part)
            else:
                events[n] += batchers[which].feed_many([(session, part)])[0]
    for n, session in enumerate(sessions):
        events[n] += session.feed(pause(0), last=True)
    assert events == alone


def test_nothing_is_copied_while_the_company_stays(
    tones: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = tones.batcher()
    sessions = [tones.stream() for _ in range(3)]
    signals = [speak("abcde abcde") for _ in sessions]
    batcher.feed_many(list(zip(sessions, [s[:12000] for s in signals], strict=True)))
    arrays = {id(array) for state in (batcher._state, batcher._spare) for array in state.values()}
    engine = tones.model.engine

    def never(batch: int, capacity: int) -> dict[str, np.ndarray]:
        raise AssertionError("the state is made anew")

    monkeypatch.setattr(engine, "init_state", never)
    for first in range(12000, 40000, 2560):
        parts = [signal[first : first + 2560] for signal in signals]
        batcher.feed_many(list(zip(sessions, parts, strict=True)))
    after = {id(array) for state in (batcher._state, batcher._spare) for array in state.values()}
    assert after == arrays


def test_finish_many(tones: Recognizer) -> None:
    batcher = tones.batcher()
    sessions = [tones.stream(), tones.stream()]
    batcher.feed_many(list(zip(sessions, [speak("ab"), speak("ced")], strict=True)))
    assert [result.text for result in batcher.finish_many(sessions)] == ["ab", "ced"]


def test_a_session_that_has_ended_among_others(tones: Recognizer) -> None:
    batcher = tones.batcher()
    live, ended = tones.stream(), tones.stream()
    batcher.feed_many([(ended, speak("d"))], last=True)
    with pytest.raises(InputError, match="has ended"):
        batcher.feed_many([(live, speak("ab")), (ended, speak("ab"))])
    batcher.feed_many([(live, speak("ab"))], last=True)
    assert live.transcript().text == "ab"  # nothing was taken of what was refused


def test_a_session_twice_or_with_other_context(tones: Recognizer) -> None:
    session = tones.stream()
    with pytest.raises(InputError, match="there twice"):
        tones.batcher().feed_many([(session, pause(1)), (session, pause(1))])
    other = tones.stream(left=7)
    batcher, heard = tones.batcher(), speak("ab")
    batcher.feed_many([(session, heard[:8000])])
    with pytest.raises(InputError, match="different left context"):
        batcher.feed_many([(session, pause(1)), (other, pause(1))])
    batcher.feed_many([(session, heard[8000:])], last=True)
    batcher.feed_many([(other, speak("de"))], last=True)
    assert session.transcript().text == "ab", "nothing was taken of what was refused"
    assert other.transcript().text == "de"
