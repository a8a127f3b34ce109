"""Memory that is kept: what comes back, when, and how much stays."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mynah.runtime.buffers import Buffers


def place(array: np.ndarray) -> int:
    return array.ctypes.data


def test_memory_comes_back() -> None:
    buffers = Buffers()
    first = buffers.take(1000)
    assert len(first) >= 1000 and first.flags.writeable
    there = place(first)
    other = buffers.take(1000)
    assert place(other) != there
    del first
    assert place(buffers.take(900)) == there


def test_views_keep_their_memory() -> None:
    buffers = Buffers()
    block = buffers.take(4096)
    there = place(block)
    view = block[:400].view(np.float32).reshape(10, 10)[2:, ::2].T
    view[:] = 7
    del block
    gc.collect()
    other = buffers.take(4096)
    other[:] = 0
    assert place(other) != there and (view == 7).all()
    del view
    assert place(buffers.take(4096)) == there


def test_the_smallest_that_is_large_enough() -> None:
    buffers = Buffers()
    blocks = {size: buffers.take(size) for size in (64, 6400, 640)}
    places = {size: place(block) for size, block in blocks.items()}
    del blocks
    assert place(buffers.take(100)) == places[640]
    small, large = buffers.take(10), buffers.array((3, 500), np.float32)
    assert place(small) != place(large) == places[6400]
    assert (large.shape, large.dtype) == ((3, 500), np.float32)
    assert buffers.array((0, 5), np.int8).shape == (0, 5)


def test_no_more_is_kept_than_was_in_use() -> None:
    buffers = Buffers()
    size = 6400
    for _ in range(12):  # each too small for the next
        block = buffers.take(size)
        del block
        size *= 2
    buffers.take(1)
    kept = sum(map(len, buffers._idle)) + sum(map(len, buffers._back))
    assert kept <= size // 2


def test_several_threads_at_once() -> None:
    buffers = Buffers()

    def work(seed: int) -> bool:
        dice = np.random.default_rng(seed)
        right = True
        for size in dice.integers(1, 5000, 300).tolist():
            block = buffers.take(size)
            block[:] = seed
            other = buffers.array((size,), np.int16)
            other[:] = -seed
            right &= bool((block == seed).all() and (other == -seed).all())
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
