"""Memory for large arrays that is kept for the next ones.

Fresh memory comes a page at a time, which on a virtual machine may take as long as what is then
computed in it.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_ROUND = 64  # bytes: a block is a whole number of the largest vectors


class Buffers:
    """Blocks of memory, which come back when nobody refers to them any more; may be used from
    several threads.

    Those that lie idle and those in use are together never larger than what was once in use.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Bytes] = []  # the smallest first
        self._back: deque[Bytes] = deque()  # by whatever thread dropped the last view
        self._used = self._most = 0  # bytes

    def take(self, size: int) -> Bytes:
        """A block of at least ``size`` bytes, whatever is in it. It and what is made of it by
        slices, ``view`` and ``reshape`` keep it from being given again."""
        with self._lock:
            self._collect()
            place = next((n for n, block in enumerate(self._idle) if len(block) >= size), None)
            if place is None:
                memory: Bytes = np.empty(max(-(-size // _ROUND), 1) * _ROUND, np.uint8)
            else:
                memory = self._idle.pop(place)
            self._used += len(memory)
            self._most = max(self._most, self._used)
            while self._idle and self._used + sum(map(len, self._idle)) > self._most:
                self._idle.pop(0)
        # what is made of an array refers to the owner of its memory: to this one, not to ``memory``
        block: Bytes = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(block, self._back.append, memory).atexit = False
        return block

    def array(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """An array in a block of its own."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        made: npt.NDArray[Any] = self.take(size)[:size].view(dtype).reshape(shape)
        return made

    def _collect(self) -> None:
        while self._back:
            memory = self._back.popleft()
            self._used -= len(memory)
            self._idle.append(memory)
        self._idle.sort(key=len)
