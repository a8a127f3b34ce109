"""The banded search, with and without stars, against a plain one over all paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from mynah.decoding import align_text, force_align, trellis
from mynah.decoding.trellis import Trellis, search


def random_log_probs(seed: int, frames: int, vocab: int, sharp: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, vocab)) * sharp
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def spoken(seed: int, frames: int, count: int, vocab: int = 20, sure: float = 6.0) -> tuple:
    """Log-probabilities that speak ``count`` units, and these."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, vocab, count)
    logits = rng.normal(size=(frames, vocab))
    path = np.zeros(frames, np.int64)
    path[np.sort(rng.choice(np.arange(0, frames - 1, 2), count, replace=False))] = tokens
    logits[np.arange(frames), path] += sure
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), tokens


def plain_score(item: Trellis) -> float:
    """The best score by a table of all frames and all states, one cell at a time."""
    count, stars = len(item.labels), item.stars.tolist()
    logs = item.logs(0, len(item.frames), item.labels)

    def leave_out(place: list[float]) -> None:
        old = dict(zip(stars, [place[star] for star in stars], strict=True))
        for i, j in itertools.combinations(range(len(stars)), 2):
            landed = old[stars[i]] - (item.costs[j] - item.costs[i]) - item.leap
            place[stars[j]] = max(place[stars[j]], landed)

    unit, place = [-math.inf] * count, [0.0] + [-math.inf] * count
    leave_out(place)
    for t in range(len(item.frames)):
        new_unit, new_place = [], []
        for u in range(count):
            best = max(unit[u], place[u])
            if u and item.labels[u] != item.labels[u - 1]:
                best = max(best, unit[u - 1])
            new_unit.append(best + logs[t, u])
        for u in range(count + 1):
            best = max(place[u], unit[u - 1] if u else -math.inf)
            new_place.append(best + (item.star_logs[t] if u in stars else 0.0))
        leave_out(new_place)
        unit, place = new_unit, new_place
    return max(unit[-1], place[-1])


def path_score(item: Trellis, units: np.ndarray, places: np.ndarray) -> float:
    """What a path is worth, its steps checked."""
    stars, total, at = item.stars.tolist(), 0.0, 0.0
    where = [2 * u + 1 if u >= 0 else 2 * p for u, p in zip(units, places, strict=True)]
    at = 0
    logs = item.logs(0, len(item.frames), item.labels)
    for t, state in enumerate([*where, 2 * len(item.labels)]):
        ends = t == len(where)
        if state - at > 1 and not (state - at == 2 and state % 2 and item.labels[state // 2]
                                   != item.labels[at // 2]):  # fmt: skip
            # units were left out: from a star to a star, or from the unit before the one
            ahead = state // 2
            back = (at + 1) // 2
            if ends and at == state - 1:
                continue
            assert back in stars
            assert ahead in stars
            total -= item.costs[stars.index(ahead)] - item.costs[stars.index(back)] + item.leap
        if not ends:
            assert state >= at
            if state % 2:
                total += logs[t, state // 2]
            elif state // 2 in stars:
                total += item.star_logs[t]
            at = state
    return total


def starred(log_probs: np.ndarray, words: Sequence[int], seed: int = 0) -> Trellis:
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, log_probs.shape[1], sum(words))
    blanks = log_probs[:, 0].copy()
    return Trellis(
        log_probs,
        blanks,
        labels,
        np.append(0, np.cumsum(words)),
        np.append(0.0, np.cumsum(rng.uniform(0.1, 3.0, len(words)))),
        np.maximum(np.log1p(-np.exp(blanks)) - 1.0 - blanks, 0.0),
        leap=float(rng.uniform(0.0, 2.0)),
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("block", [1, 3, 128])
def test_stars_by_brute_force(monkeypatch: pytest.MonkeyPatch, seed: int, block: int) -> None:
    monkeypatch.setattr(trellis, "BLOCK", block)
    rng = np.random.default_rng(seed)
    words = rng.integers(1, 4, rng.integers(1, 6)).tolist()
    item = starred(random_log_probs(seed, int(rng.integers(1, 14)), 4), words, seed)
    for beam in (0.1, 3.0, 1000.0):
        found = search(item, beam=beam)
        assert found.exact
        assert found.score == pytest.approx(plain_score(item))
        assert path_score(item, found.units, found.places) == pytest.approx(found.score)


@pytest.mark.parametrize("count", [5, 60, 140])
@pytest.mark.parametrize("sure", [0.0, 1.0, 8.0])
def test_a_narrow_band_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, count: int, sure: float
) -> None:
    log_probs, tokens = spoken(count, 300, count, sure=sure)
    monkeypatch.setattr(trellis, "BEAM", math.inf)
    wide = force_align(log_probs, tokens)
    monkeypatch.setattr(trellis, "BLOCK", 16)
    for beam in (0.5, 10.0, 100.0):
        monkeypatch.setattr(search, "__kwdefaults__", {"beam": beam, "effort": math.inf})
        narrow = force_align(log_probs, tokens)
        assert (narrow.path == wide.path).all()
        assert narrow.score == wide.score


def test_what_was_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that first seems to fit later in the recording: the beam alone goes wrong."""
    monkeypatch.setattr(trellis, "BLOCK", 8)
    log_probs = np.full((64, 4), -8.0)
    log_probs[:, 0] = -0.01
    log_probs[2:9, 1] = 0.0  # unit 1 is very sure here ...
    log_probs[2:9, 0] = -9.0
    log_probs[40:60, 1] = 0.0  # ... but must be said here, for 2 and 3 to follow
    log_probs[40:60, 0] = -30.0
    labels = np.array([2, 3, 1])
    log_probs[60:, 2:] = -1.0
    none = np.zeros(0)
    item = Trellis(log_probs, log_probs[:, 0].copy(), labels, none.astype(np.int64), none, none)
    rushed = search(item, beam=1.0, effort=0)
    assert not rushed.exact
    sure = search(item, beam=1.0)
    assert sure.exact
    assert sure.score == pytest.approx(plain_score(item))
    assert rushed.score < sure.score


def test_the_band_is_narrow_where_the_sound_is_clear() -> None:
    log_probs, tokens = spoken(1, 6000, 900, sure=9.0)
    none = np.zeros(0)
    item = Trellis(log_probs, log_probs[:, 0].copy(), tokens, none.astype(np.int64), none, none)
    bands, lost = trellis._forward(item, item.most(), trellis.BEAM, None)
    assert lost < search(item).score
    assert max(len(band.unit) for band in bands) < 500
    held = sum(band.unit.nbytes + band.place.nbytes for band in bands)
    assert held < 300_000


def test_a_blank_that_is_impossible() -> None:
    log_probs = np.log(np.full((4, 3), 1 / 2))
    log_probs[:, 0] = -math.inf
    assert force_align(log_probs, [1, 2]).score == pytest.approx(4 * math.log(1 / 2))
    found = align_text(log_probs, [[1], [2]])
    assert min(found.starts) >= 0


# texts with faults


def sentence(words: Sequence[Sequence[int]], gap: int = 3, vocab: int = 12) -> np.ndarray:
    """Log-probabilities (T, V) of words said clearly, two frames a unit, blanks between."""
    path = [0] * gap
    for word in words:
        for unit in word:
            path += [unit, unit, 0]
        path += [0] * gap
    probs = np.full((len(path), vocab), 0.05 / (vocab - 1))
    probs[np.arange(len(path)), path] = 0.95
    return np.log(probs)


TEXT = [[1, 2, 3], [4, 5], [6, 6, 7], [8, 9, 1], [2, 10]]


def starts_of(words: Sequence[Sequence[int]], found: Sequence[int]) -> list[int]:
    firsts = np.cumsum([0] + [len(word) for word in words[:-1]])
    return [found[first] for first in firsts]


def test_a_clean_text_is_aligned_as_it_is() -> None:
    log_probs = sentence(TEXT)
    exact = force_align(log_probs, [unit for word in TEXT for unit in word])
    found = align_text(log_probs, TEXT)
    assert (found.starts, found.ends) == (exact.starts, exact.ends)
    assert found.confidences == pytest.approx(exact.confidences)
    assert (found.foreign, found.exact) == ((), True)


def test_words_that_are_not_said_are_left_out() -> None:
    said = [TEXT[0], TEXT[1], TEXT[4]]
    whole, found = align_text(sentence(said), said), align_text(sentence(said), TEXT)
    assert starts_of(TEXT, found.starts)[2:4] == [-1, -1]
    kept = [s for s in found.starts if s >= 0]
    assert kept == list(whole.starts)
    assert [c for s, c in zip(found.starts, found.confidences, strict=True) if s < 0] == [0.0] * 6


def test_speech_without_text_shifts_nothing() -> None:
    said = [TEXT[0], [11, 10, 11, 9], [11, 8], *TEXT[1:]]
    log_probs = sentence(said)
    whole, found = align_text(log_probs, said), align_text(log_probs, TEXT)
    assert list(found.starts) == [*whole.starts[:3], *whole.starts[9:]]
    assert found.foreign
    assert whole.ends[2] <= found.foreign[0][0]
    assert found.foreign[-1][1] <= whole.starts[9]


def test_nothing_fits_and_nothing_is_said() -> None:
    found = align_text(sentence([[11, 10, 11]]), [[1, 2, 3], [], [4, 5, 6]])
    assert set(found.starts) == {-1}
    assert align_text(np.zeros((0, 5)), [[1], [2]]).starts == (-1, -1)
    assert align_text(sentence([[3]]), []).foreign != ()
    assert align_text(sentence([[3]]), [[], []]).starts == ()
