"""Batches of an epoch: each row once, none over the limit, the same from the same numbers."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.data.index import key_of
from mynah.data.plan import Plan, draw, make_plan, pack


def plan(seconds: list[float] | np.ndarray[Any, Any], **changes: Any) -> Plan:
    options = {
        "speed": (0.9, 1.0, 1.1), "frame_shift": 0.01, "max_frames": 1000, "max_items": 8,
        "buckets": 4, "seed": 1, "epoch": 0, "shuffle": True,
    } | changes  # fmt: skip
    lengths = np.asarray(seconds, np.float32)
    keys = np.arange(len(lengths), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return make_plan(lengths, keys, **options)


lengths = st.lists(st.floats(0.05, 8.9), max_size=60)


@settings(max_examples=30, deadline=None)
@given(
    seconds=lengths, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000),
    buckets=st.integers(1, 30), max_items=st.integers(1, 40), shuffle=st.booleans(),
)  # fmt: skip
def test_every_row_once_and_no_batch_over_the_limit(
    seconds: list[float], seed: int, epoch: int, buckets: int, max_items: int, shuffle: bool
) -> None:
    made = plan(seconds, seed=seed, epoch=epoch, buckets=buckets, max_items=max_items,
                shuffle=shuffle)  # fmt: skip
    batches = [made.rows(b) for b in range(len(made))]
    rows = np.concatenate(batches) if batches else np.empty(0, np.int64)
    assert sorted(rows.tolist()) == list(range(len(seconds)))
    for batch in batches:
        assert 1 <= len(batch) <= max_items
        assert made.frames[batch].max() * len(batch) <= 1000


@given(
    frames=st.lists(st.integers(1, 300), max_size=80),
    max_frames=st.integers(1, 1000),
    max_items=st.integers(1, 20),
)
def test_batches_are_filled(frames: list[int], max_frames: int, max_items: int) -> None:
    bounds = pack(np.asarray(frames, np.int64), max_frames, max_items).tolist()
    assert bounds[0] == 0 and bounds[-1] == len(frames)
    for start, stop in pairwise(bounds):
        assert max(frames[start:stop]) * (stop - start) <= max_frames or stop == start + 1
        if stop < len(frames):  # one more would have been too many
            grown = frames[start : stop + 1]
            assert len(grown) > max_items or max(grown) * len(grown) > max_frames


def test_epochs_and_seeds_differ_and_repeat() -> None:
    seconds = np.random.default_rng(0).uniform(1, 8, 500)
    first = plan(seconds)
    again = plan(seconds)
    for one, other in ((first, again),):
        np.testing.assert_array_equal(one.order, other.order)
        np.testing.assert_array_equal(one.sequence, other.sequence)
        np.testing.assert_array_equal(one.factors, other.factors)
    for changed in (plan(seconds, epoch=1), plan(seconds, seed=2)):
        assert not np.array_equal(first.order, changed.order)
        assert not np.array_equal(first.factors, changed.factors)


def test_little_padding_and_mixed_company() -> None:
    seconds = np.random.default_rng(0).gamma(4, 1.5, 5000).clip(0.5, 20)
    made = plan(seconds, max_frames=12_000, max_items=256, buckets=20)
    padded = sum(made.frames[r].max() * len(r) for r in map(made.rows, range(len(made))))
    assert made.frames.sum() / padded > 0.9
    other = plan(seconds, max_frames=12_000, max_items=256, buckets=20, epoch=1)

    def pairs(p: Plan) -> set[tuple[int, int]]:
        batches = (sorted(p.rows(b).tolist()) for b in range(len(p)))
        return {(a, b) for batch in batches for a in batch for b in batch if a < b}

    one, two = pairs(made), pairs(other)
    assert len(one & two) / len(one) < 0.15  # who meets whom changes from epoch to epoch


def test_frames_are_an_upper_bound_under_speed() -> None:
    made = plan([3.0] * 300)
    assert set(made.factors.tolist()) == {0, 1, 2}
    for factor, row_frames in zip((0.9, 1.0, 1.1), (335, 301, 274), strict=True):
        chosen = made.frames[made.factors == (0.9, 1.0, 1.1).index(factor)]
        assert set(chosen.tolist()) == {row_frames}


def test_draws_are_even() -> None:
    keys = np.asarray([key_of(str(n)) for n in range(9000)], np.uint64)
    counts = np.bincount(draw(keys, 3, 5, 3), minlength=3)
    assert np.abs(counts - 3000).max() < 250
    both = draw(keys, 3, 5, 3) * 3 + draw(keys, 3, 6, 3)
    assert np.abs(np.bincount(both, minlength=9) - 1000).max() < 200


def test_a_million_utterances_take_seconds() -> None:
    seconds = np.random.default_rng(0).gamma(4, 1.5, 1_000_000).clip(0.5, 30).astype(np.float32)
    start = time.perf_counter()
    made = plan(seconds, max_frames=12_000, max_items=256, buckets=20)
    assert time.perf_counter() - start < 20  # 1 s where nothing else runs
    size = sum(a.nbytes for a in (made.order, made.bounds, made.sequence, made.frames))
    assert size < 20 * len(seconds)


def test_a_batch_may_be_exactly_full() -> None:
    assert pack(np.full(10, 10), 50, 99).tolist() == [0, 5, 10]
    assert pack(np.full(10, 10), 99, 4).tolist() == [0, 4, 8, 10]


def test_a_margin_and_a_window_count() -> None:
    seconds, keys = np.array([1.0, 2.0, 4.0], np.float32), np.arange(3, dtype=np.uint64)
    plain = {"speed": (1.0,), "frame_shift": 0.01, "max_frames": 1000, "max_items": 9,
             "buckets": 1, "seed": 1, "epoch": 0, "shuffle": False}  # fmt: skip
    assert make_plan(seconds, keys, **plain).frames.tolist() == [101, 201, 401]
    after = make_plan(seconds, keys, **plain, margin=0.5)
    assert after.frames.tolist() == [151, 251, 451]
    whole = make_plan(seconds, keys, **plain, window=5.0)
    assert whole.frames.tolist() == [500, 500, 500]
    assert whole.bounds.tolist() == [0, 2, 3], "two windows fit exactly"


def test_the_first_batches_of_a_set_in_order_are_of_all_lengths() -> None:
    seconds = np.random.default_rng(0).uniform(0.5, 8.5, 400)
    made = plan(seconds, shuffle=False, speed=())
    means = [seconds[made.rows(b)].mean() for b in range(len(made))]
    assert max(means[:8]) > 6 and min(means[:8]) < 3
    spread = max(np.ptp(seconds[made.rows(b)]) for b in range(len(made)))
    assert spread < 1, "within a batch they are alike"
    again = plan(seconds, shuffle=False, epoch=3, speed=())
    assert all((made.rows(b) == again.rows(b)).all() for b in range(len(made)))
