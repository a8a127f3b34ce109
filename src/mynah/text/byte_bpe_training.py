"""Learning a byte-level BPE (R. Sennrich et al., arXiv:1508.07909) from texts."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable

from mynah.text.byte_bpe import Vocabulary, pieces

_Pair = tuple[bytes, bytes]


def train_vocabulary(texts: Iterable[str], size: int) -> Vocabulary:
    """The 256 bytes and, up to ``size`` tokens, the unions of the most frequent neighbours.

    Of equally frequent pairs the first in the order of bytes is united. There are fewer tokens
    where no pair occurs twice any more.
    """
    assert size >= 256
    counts = Counter(piece for text in texts for piece in pieces(text))
    words = [[bytes([b]) for b in piece.encode("utf-8", "surrogatepass")] for piece in counts]
    times = list(counts.values())
    pairs, places = Counter[_Pair](), defaultdict[_Pair, set[int]](set)
    for number, word in enumerate(words):
        for pair in itertools.pairwise(word):
            pairs[pair] += times[number]
            places[pair].add(number)
    queue = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(queue)
    tokens = [bytes([byte]) for byte in range(256)]
    known, merges = set(tokens), list[_Pair]()
    while len(tokens) < size and queue:
        count, pair = heapq.heappop(queue)
        if -count != pairs[pair] or -count < 2:
            continue  # counted anew since, and in the queue again; or too rare
        changed = set[_Pair]()
        for number in places.pop(pair):
            old = words[number]
            new = _united(old, pair)
            for before, sign in ((old, -1), (new, 1)):
                for found in itertools.pairwise(before):
                    pairs[found] += sign * times[number]
                    changed.add(found)
                    if sign > 0:
                        places[found].add(number)
            words[number] = new
        for found in changed:
            heapq.heappush(queue, (-pairs[found], found))
        merges.append(pair)
        if pair[0] + pair[1] not in known:
            known.add(pair[0] + pair[1])
            tokens.append(pair[0] + pair[1])
    return Vocabulary(tuple(tokens), tuple(merges))


def _united(word: list[bytes], pair: _Pair) -> list[bytes]:
    result: list[bytes] = []
    start = 0
    while start < len(word):
        if tuple(word[start : start + 2]) == pair:
            result.append(pair[0] + pair[1])
            start += 2
        else:
            result.append(word[start])
            start += 1
    return result
