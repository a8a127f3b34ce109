"""Features and regions of recordings that are read as they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.whisper_plain import TOKENIZER, Scripted, blocks, sound

from mynah.audio.features import make_frontend
from mynah.audio.segments import SegmentOptions
from mynah.runtime.whisper.config import WhisperDims
from mynah.runtime.whisper.longform import Lane
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.prompts import History, fixed_prompts
from mynah.runtime.whisper.recording import Recording
from mynah.runtime.whisper.regions import Everything, Pieces, Region, Regions, Speech

FRONTEND = make_frontend({"kind": "whisper", "num_mels": 80})
Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("size", [7_001, 48_000, 10_000_000])
def test_windows_do_not_depend_on_the_blocks(size: int) -> None:
    samples = sound(9.5)
    recording = Recording(FRONTEND, blocks(samples, size))
    first, second = recording.window(0, 300), recording.window(640, 310)
    other = Recording(FRONTEND, blocks(samples, 100_000))
    np.testing.assert_allclose(second, other.window(640, 310), atol=1e-6)
    np.testing.assert_allclose(first, other.window(0, 300), atol=1e-6)
    assert not second[:, 310:].any()
    recording.reach(10**9)
    assert (recording.frames, recording.ended) == (950, True)


def test_the_end_is_followed_by_silence() -> None:
    samples = sound(2.003)
    recording = Recording(FRONTEND, blocks(samples))
    whole = FRONTEND(np.concatenate([samples, np.zeros(32_000, np.float32)]))
    np.testing.assert_allclose(recording.window(0, 200)[:, :200], whole[:200].T, atol=1e-5)
    assert recording.frames == 200


def test_a_window_is_relative_to_its_own_loudest_or_to_the_recordings() -> None:
    samples = sound(6)
    samples[: 3 * 16_000] *= 1e-5
    own = Recording(FRONTEND, blocks(samples)).window(0, 290)
    whole = Recording(FRONTEND, blocks(samples), whole=True).window(0, 290)
    everything = FRONTEND(samples)
    np.testing.assert_allclose(whole[:, :290], everything[:290].T, atol=1e-5)
    assert np.abs(own - whole).max() > 0.1
    samples = sound(6)
    samples[16_000:20_000] = 0
    mel = Recording(FRONTEND, blocks(samples)).window(0, 290)[:, :290]
    assert mel.min() == pytest.approx(mel.max() - 2), "eight in log10, by four"


def test_what_was_decoded_is_forgotten() -> None:
    recording = Recording(FRONTEND, (sound(1, n) for n in range(60)))
    largest = 0
    for start in range(0, 5700, 100):
        recording.window(start, 300)
        recording.forget(start)
        largest = max(largest, sum(len(part) for part in recording._parts))
    assert largest <= 700


def test_nothing() -> None:
    recording = Recording(FRONTEND, iter([]))
    assert not recording.window(0, 100).any()
    assert (recording.frames, recording.ended) == (0, True)


def regions_of(regions: Regions, samples: Array) -> list[Region]:
    recording = Recording(FRONTEND, blocks(samples, 16_000), regions)
    found = []
    while (region := regions.next(recording)) is not None:
        found.append(region)
    return found


def test_everything_is_one_region() -> None:
    assert [(r.start, r.stop) for r in regions_of(Regions(Everything(), pad=0), sound(5.5))] == [
        (0, 550)
    ]


def test_clips() -> None:
    found = regions_of(Regions(Everything(), (1.0, 2.0, 2.0, 3.0, 4.5), pad=0), sound(6))
    assert [(r.start, r.stop, r.closed) for r in found] == [
        (100, 200, True), (200, 300, True), (450, 600, True)
    ]  # fmt: skip
    late = regions_of(Regions(Everything(), (1.0, 99.0), pad=0), sound(6))
    assert [(r.start, r.stop) for r in late] == [(100, 600)]
    assert regions_of(Regions(Everything(), (50.0,), pad=0), sound(6)) == []


def test_pieces_are_cut_where_it_is_quiet() -> None:
    samples = sound(40)
    for quiet in (5, 26, 33):
        samples[quiet * 16_000 : quiet * 16_000 + 8_000] *= 1e-3
    found = regions_of(Regions(Pieces(3000), join=0, pad=0), samples)
    assert [r.stop for r in found][-1] == 4000
    assert len(found) == 2
    assert 2600 <= found[0].stop == found[1].start <= 2650


def spoken(*spans: tuple[float, float], seconds: float = 60) -> Array:
    samples = np.zeros(int(seconds * 16_000), np.float32)
    for start, end in spans:
        part = slice(int(start * 16_000), int(end * 16_000))
        samples[part] = sound(seconds)[part]
    return samples


SPANS = ((2.0, 6.0), (7.0, 20.0), (21.5, 29.0), (30.0, 38.0), (50.0, 55.0))


def speech(longest: float) -> Regions:
    return Regions(Speech(16_000, Scripted(), SegmentOptions()), longest=longest)


def test_speech_in_windows_that_are_cut_in_pauses() -> None:
    found = regions_of(speech(3000), spoken(*SPANS))
    assert [r.start // 100 for r in found] == [1, 29, 49]
    for region, (start, end) in zip(found, [(2, 29), (30, 38), (50, 55)], strict=True):
        assert start - 0.6 <= region.start / 100 <= start - 0.4
        assert end + 0.4 <= region.stop / 100 <= end + 0.6
        assert region.stop - region.start <= 3000


@pytest.mark.parametrize("grows", [False, True])
def test_later_regions_may_be_longer(grows: bool) -> None:
    samples = spoken(*((n, n + 1.4) for n in range(1, 150, 2)), seconds=152)
    found = regions_of(
        Regions(Speech(16_000, Scripted(), SegmentOptions()), longest=600, grows=grows), samples
    )
    sizes = [r.stop - r.start for r in found]
    assert max(sizes[:8]) <= 640  # with what is around speech
    assert (max(sizes[8:]) > 2000) == grows
    pieces = regions_of(Regions(Pieces(600, grows), join=0, pad=0), samples)
    sizes = [r.stop - r.start for r in pieces]
    assert max(sizes[:8]) <= 640  # with what is around speech
    assert 1600 < max(sizes[8:]) <= 2400 if grows else max(sizes) <= 600
    assert (pieces[0].start, pieces[-1].stop) == (0, 15_200)


def test_what_is_left_is_too_little_to_be_heard() -> None:
    def over(seek: int, first: bool = False) -> bool:
        return Lane(Region(0, 0, 3000, 1e9, closed=True), seek, least=10, first=first).over

    assert (over(2989), over(2990), over(2991), over(3000)) == (False, False, True, True)
    assert not over(2991, first=True)


def test_one_after_the_other_regions_have_any_length() -> None:
    found = regions_of(speech(float("inf")), spoken(*SPANS))
    assert [r.stop // 100 for r in found] == [38, 55]


def test_speech_without_a_pause_is_not_cut() -> None:
    found = regions_of(speech(3000), spoken((1.0, 50.0), (58.0, 59.0)))
    assert [r.stop // 100 for r in found] == [50, 59]


def test_a_region_has_one_language() -> None:
    asked: list[int] = []

    def tell(recording: Recording, stretch: tuple[int, int]) -> str | None:
        recording.window(stretch[0], stretch[1] - stretch[0])  # it is still there
        asked.append(round(stretch[0] / 100))
        return languages[asked[-1]]

    def found(longest: float = 3000) -> list[tuple[int, int, str | None]]:
        asked.clear()
        regions = Regions(
            Speech(16_000, Scripted(), SegmentOptions()), longest=longest, told=tell, pad=20
        )
        rows = [(r.start, r.stop, r.language) for r in regions_of(regions, samples)]
        assert asked == sorted(languages), "once each, and only where it matters"
        return [(round(start / 100), round(stop / 100), which) for start, stop, which in rows]

    samples = spoken((2.0, 6.0), (7.0, 10.0), (11.0, 14.0), (15.0, 16.0), (17.0, 20.0))
    languages: dict[int, str | None] = {2: "en", 7: "en", 11: "zh", 15: None, 17: "en"}
    assert found() == [(2, 10, "en"), (11, 16, "zh"), (17, 20, "en")]
    languages |= {2: None, 7: "zh", 15: "zh", 17: None}
    assert found() == [(2, 20, "zh")]
    assert found(1100) == [(2, 10, "zh"), (11, 20, "zh")]


def test_silence_has_no_regions() -> None:
    regions = speech(3000)
    assert regions_of(regions, np.zeros(160_000, np.float32)) == []
    assert regions.spoken == []


DIMS = WhisperDims(80, 1500, 32, 2, 1, TOKENIZER.vocab_size, 32, 32, 2, 1)


def history(**values: Any) -> History:
    return History(fixed_prompts(WhisperOptions(**values), TOKENIZER, DIMS))


def encoded(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text))


def test_prompts_share_half_the_context() -> None:
    prompt = history(initial_prompt="the cat")
    assert prompt.prompt() == encoded(" the cat")
    prompt.add([1, 2, 3], forget=False)
    assert prompt.prompt() == (*encoded(" the cat"), 1, 2, 3)
    prompt.add(list(range(20)), forget=False)
    assert prompt.prompt() == tuple(range(5, 20)), "15 tokens fit"
    prompt.add([7], forget=True)
    assert prompt.prompt() == ()


def test_a_carried_prompt_stays() -> None:
    prompt = history(initial_prompt="the cat", carry_initial_prompt=True, hotwords="mat")
    fixed = encoded(" mat") + encoded(" the cat")
    prompt.add(list(range(40)), forget=False)
    assert prompt.prompt() == fixed + tuple(range(40))[-(15 - len(fixed)) :]
    prompt.add([1], forget=True)
    assert prompt.prompt() == fixed


def test_hotwords_never_crowd_out_the_text() -> None:
    fixed = fixed_prompts(WhisperOptions(hotwords="the cat sat " * 30), TOKENIZER, DIMS)
    assert fixed.cut
    prompt = History(fixed)
    prompt.add([1, 2], forget=False)
    assert len(prompt.prompt()) == 15


def test_a_prefix_takes_its_part_of_the_prompts_half() -> None:
    values = {"prefix": "the cat", "hotwords": "the cat sat " * 30, "without_timestamps": True}
    fixed = fixed_prompts(WhisperOptions(**values), TOKENIZER, DIMS)  # type: ignore[arg-type]
    prefix, prompt = fixed.prefix, History(fixed)
    prompt.add([1, 2], forget=False)
    assert prefix == encoded(" the cat")
    assert len(prompt.prompt(len(prefix))) + len(prefix) == 15
    assert len(prompt.prompt()) == 15, "later windows have no prefix"
    longest = " ".join(["mat"] * 40)
    for count in range(1, 40):
        given = longest[: 4 * count - 1]
        if len(encoded(" " + given)) > 15:
            break
        most = {"prefix": given, "hotwords": "sat " * 30, "initial_prompt": "cat " * 30}
        fixed = fixed_prompts(WhisperOptions(**most), TOKENIZER, DIMS)  # type: ignore[arg-type]
        assert len(History(fixed).prompt(len(fixed.prefix))) + len(fixed.prefix) <= 16


def test_what_nobody_speaks_in_is_forgotten() -> None:
    recording = Recording(FRONTEND, (np.zeros(16_000, np.float32) for _ in range(60)), speech(3000))
    largest, forget = 0, recording.forget

    def watched(frame: int) -> None:
        nonlocal largest
        forget(frame)
        largest = max(largest, sum(len(part) for part in recording._parts))

    recording.forget = watched  # type: ignore[method-assign]
    regions = recording._listener
    assert isinstance(regions, Regions) and regions.next(recording) is None
    assert recording.ended and 0 < largest <= 500
