"""A function over many items in threads, results in order, with a bound on what is under way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def default_jobs() -> int:
    """As many threads as cores, at most 16."""
    return min(16, os.cpu_count() or 1)


def ordered_map(function: Callable[[T], R], items: Iterable[T], jobs: int = 0) -> Iterator[R]:
    """``function`` of each item, in their order, computed by ``jobs`` threads (0: one a core).

    At most four items a thread are read ahead. Decoding and resampling leave Python's lock, so
    threads are enough for them.
    """
    jobs = jobs or default_jobs()
    if jobs == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
