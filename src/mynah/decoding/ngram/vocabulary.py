"""Text to word ids, and the choice of the words that a model knows."""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from mynah.decoding.ngram.counting import BOS_ID, EOS_ID, UNK_ID
from mynah.decoding.ngram.levels import BOS, EOS, UNK
from mynah.decoding.ngram.scratch import Array, Scratch
from mynah.errors import ConfigError, InputError

log = logging.getLogger(__name__)

SPECIAL = (UNK, BOS, EOS)
_WORD_BYTES = 150  # of a word in the table, about
_BATCH = 1 << 18  # characters that are encoded at a time


class Encoder:
    """Turns lines into ids, one line a sentence, and chooses the vocabulary at the end.

    Ids are given in the order of appearance and kept on disk when they are many;
    :meth:`choose` sorts the words by frequency and :meth:`blocks` gives the text in final ids.
    """

    def __init__(
        self,
        scratch: Scratch,
        *,
        words: Sequence[str] | None = None,
        limit: int | None = None,
        min_count: int = 1,
        memory: int = 1 << 28,
    ) -> None:
        """
        Args:
            words: the vocabulary, when it is given.
            limit: keep that many of the most frequent words.
            min_count: keep words that are there as often as this.
            memory: bytes for the table of words. When it is full and there is a ``limit`` or a
                ``min_count`` above 1, the rarest words so far are forgotten (their counts start
                anew); without one there is no bounded way, and it is an error.
        """
        self.limit = limit
        self.min_count = min_count
        self.sentences = 0
        self.tokens = 0
        self._closed = words is not None
        self._most = max(memory // _WORD_BYTES, 1000)
        self._next = itertools.count(len(SPECIAL))
        self._ids: dict[str, int] = defaultdict(self._next.__next__)
        self._ids.update({word: i for i, word in enumerate(SPECIAL)})
        for word in words or ():
            if len(word.split()) != 1:
                raise ConfigError(f"vocabulary: {word!r} is not one word")
            self._ids[word]
        self._issued = len(self._ids)
        self._counts = np.zeros(self._issued, dtype=np.int64)
        self._pile = scratch.pile(np.uint32)
        self._table = np.zeros(0, dtype=np.uint32)

    def add(self, lines: Iterable[str]) -> None:
        """Read lines; empty ones are passed over.

        Raises:
            InputError: a line holds ``<s>`` or ``</s>``, or the words do not fit into memory.
        """
        batch: list[str] = []
        size = 0
        for line in lines:
            if not line or line.isspace():
                continue
            batch.append(line)
            size += len(line)
            if size > _BATCH:
                self._encode(batch)
                batch, size = [], 0
        if batch:
            self._encode(batch)

    def _encode(self, batch: list[str]) -> None:
        words = f" {EOS} ".join(batch).split()
        words.append(EOS)
        if self._closed:
            get = self._ids.get
            ids = np.array([get(word, UNK_ID) for word in words], dtype=np.uint32)
        else:
            ids = np.array(list(map(self._ids.__getitem__, words)), dtype=np.uint32)
        counts = np.bincount(ids, minlength=len(self._counts))
        if counts[BOS_ID] or counts[EOS_ID] != len(batch):
            mark = next(word for line in batch for word in line.split() if word in (BOS, EOS))
            raise InputError(f"the text holds {mark}, which stands for a sentence's own border")
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        self._pile.append(ids)
        self.sentences += len(batch)
        self.tokens += len(ids)
        if len(self._ids) > self._most and not self._closed:
            self._forget()

    def _forget(self) -> None:
        if self.limit is None and self.min_count <= 1:
            raise InputError(
                f"more than {self._most} different words do not fit into memory; "
                "limit the vocabulary or allow more memory"
            )
        ids = np.fromiter(self._ids.values(), dtype=np.int64, count=len(self._ids))
        least = int(np.median(self._counts[ids]))
        log.warning("words seen up to %d times so far are forgotten, to save memory", least)
        for word, i in list(self._ids.items()):
            if self._counts[i] <= least and i > EOS_ID:
                del self._ids[word]

    def choose(self) -> list[str]:
        """The words of the model, special ones first, then by frequency.

        Raises:
            InputError: nothing was read.
        """
        if not self.sentences:
            raise InputError("the text is empty")
        counts = self._counts
        words = [word for word in self._ids if self._ids[word] > EOS_ID]
        ids = np.array([self._ids[word] for word in words], dtype=np.int64)
        often = counts[ids]
        order = np.lexsort((ids, -often))
        if not self._closed:
            order = order[often[order] >= self.min_count]
        order = order[: self.limit]
        self._table = np.zeros(len(counts), dtype=np.uint32)
        self._table[: len(SPECIAL)] = np.arange(len(SPECIAL))
        self._table[ids[order]] = np.arange(len(SPECIAL), len(SPECIAL) + len(order))
        self._ids = {}
        return [*SPECIAL, *(words[i] for i in order.tolist())]

    def blocks(self, size: int) -> Iterator[npt.NDArray[np.uint32]]:
        """The text in the ids of :meth:`choose`, sentences ended by that of ``</s>``."""
        tokens: Array = self._pile.array()
        for start in range(0, len(tokens), size):
            yield self._table[tokens[start : start + size]]
