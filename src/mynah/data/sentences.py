"""Texts to batches of sentences for a language model: a row a sentence, in a tokenizer's units.

A source is a text as :mod:`mynah.data.prose` reads them, a line a sentence. What it is in units is
found once and kept in a file, since cutting words takes longer than learning from them. The units
of all lines lie in one array; a batch is one gather from it. An epoch's order, what is cut and how
batches are filled are functions of (seed, epoch), so a place is two numbers.

Legend: S sentences, N units of all, B batch, U units of a row.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mynah.config import as_dict
from mynah.data.config import DataConfig, SourceConfig
from mynah.data.items import Batch
from mynah.data.prose import text_lines
from mynah.errors import ConfigError, InputError
from mynah.text import Tokenizer
from mynah.text.characters import SPACE
from mynah.text.scoring import normalize_for_scoring
from mynah.text.titles import as_said
from mynah.whole import whole_file

Ints = npt.NDArray[np.int64]

_MEMO = 1 << 20  # words whose units are remembered
_MOST_UNITS = 1 << 16
# numbers of two bytes: what is alike in them stands two apart
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 1, "pb": 1}]


@dataclass(frozen=True)
class Sentences:
    """Sentences in units, one after the other."""

    units: npt.NDArray[np.uint16]  # (N,)
    starts: Ints  # (S + 1,) where each begins, and N

    def __len__(self) -> int:
        return len(self.starts) - 1


def encode(lines: Iterable[str], tokenizer: Tokenizer) -> Sentences:
    """The units of ``lines``, normalised as the tokenizer wants it; empty ones are left out.

    A word's units do not depend on its neighbours, and each word is cut once.

    Raises:
        ConfigError: the tokenizer has more units than two bytes number.
    """
    if tokenizer.vocab_size > _MOST_UNITS:
        raise ConfigError(f"tokenizer: {tokenizer.vocab_size} units, more than {_MOST_UNITS}")
    language = str(tokenizer.to_dict().get("language", ""))
    memo: dict[str, bytes] = {}
    rows: list[bytes] = []
    for line in lines:
        text = as_said(normalize_for_scoring(line, language), language) if language else line
        row = b""
        for word in text.split():
            units = memo.get(word)
            if units is None:
                units = np.array(tokenizer.encode(word), np.uint16).tobytes()
                if len(memo) < _MEMO:
                    memo[word] = units
            row += units
        if row:
            rows.append(row)
    lens = np.array([len(row) // 2 for row in rows], np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lens)])
    return Sentences(np.frombuffer(b"".join(rows), np.uint16), starts)


def read_sentences(
    config: DataConfig, sources: Sequence[SourceConfig], tokenizer: Tokenizer, folder: Path
) -> Sentences:
    """The sentences of ``sources``: from ``folder``, or from the texts, and then kept there.

    Where the folder has them the texts need not be there.

    Raises:
        InputError: a text or what was kept cannot be read, or gives no sentence.
        ConfigError: a condition on something that a text has not.
    """
    facts = [[as_dict(source) for source in sources], tokenizer.units]
    digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()
    path = folder / f"{digest}.xz"
    if path.is_file():
        found = _load(path, tokenizer.vocab_size)
    else:
        lines = (line for source in sources for line in text_lines(source, config.root))
        found = encode(lines, tokenizer)
        folder.mkdir(parents=True, exist_ok=True)
        _save(found, path)
    if not len(found):
        names = ", ".join(source.manifest for source in sources)
        raise InputError(f"{names}: no word in what is chosen of it")
    return found


def _save(sentences: Sentences, path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.diff(sentences.starts).astype(np.int32))
    np.save(stream, sentences.units)
    with whole_file(path) as packed:
        packed.write(lzma.compress(stream.getvalue(), filters=_FILTERS))


def _load(path: Path, vocab_size: int) -> Sentences:
    try:
        stream = io.BytesIO(lzma.decompress(path.read_bytes()))
        lens, units = (np.load(stream, allow_pickle=False) for _ in range(2))
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lens, dtype=np.int64)])
    if starts[-1] != len(units) or (len(units) and int(units.max()) >= vocab_size):
        raise InputError(f"{path}: damaged, or of another tokenizer; remove it")
    return Sentences(units, starts)


class SentenceLoader:
    """Batches of sentences, epoch by epoch; the loop's ``Batches``.

    A batch's ``tokens`` (B, U) are the units of its rows, without the marks of the sentence's
    start and end; it has no features. ``config.max_frames`` bounds B (U + 1).
    ``longest`` is the longest row: a longer sentence is cut before a word, or anywhere where none
    begins. While training, a share ``cut`` of the sentences is cut in two before a word drawn at
    random, since what a recogniser hears begins and ends anywhere.
    """

    def __init__(
        self,
        sentences: Sentences,
        tokenizer: Tokenizer,
        config: DataConfig,
        *,
        longest: int,
        cut: float,
        seed: int,
        training: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 4 <= longest < config.max_frames:
            raise ConfigError(f"task.longest: must be from 4 to data.max_frames, got {longest}")
        self.sentences, self.training = sentences, training
        self.seed, self.rank, self.world = seed, rank, world
        self._most, self._items = config.max_frames, config.max_items
        self._cut = cut if training else 0.0
        begins = np.array([unit.startswith(SPACE) for unit in tokenizer.units])
        # where words begin, and a border behind them all
        places = np.flatnonzero(begins[sentences.units])
        self._words: Ints = np.append(places, len(sentences.units))
        self._starts, self._stops = self._bounded(longest)
        self._plan: tuple[int, Ints, Ints, list[tuple[int, int]]] | None = None

    def num_rounds(self, epoch: int) -> int:
        """Rounds of an epoch, the same on every rank."""
        return -(-len(self._planned(epoch)[2]) // self.world)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch | None]:
        """The batches of this rank from round ``start`` on; None where it has none."""
        starts, stops, batches = self._planned(epoch)
        for number in range(start, self.num_rounds(epoch)):
            batch = number * self.world + self.rank
            if batch >= len(batches):
                yield None
                continue
            first, last = batches[batch]
            yield self._batch(starts[first:last], stops[first:last])

    def _bounded(self, longest: int) -> tuple[Ints, Ints]:
        """Where rows begin and end, none longer than ``longest``."""
        starts, stops = self.sentences.starts[:-1], self.sentences.starts[1:]
        more: list[tuple[int, int]] = []
        long = np.flatnonzero(stops - starts > longest)
        for first, stop in zip(starts[long].tolist(), stops[long].tolist(), strict=True):
            while stop - first > longest:
                at = int(np.searchsorted(self._words, first + longest, "right")) - 1
                place = int(self._words[at]) if at >= 0 else first
                place = place if first < place < stop else first + longest
                more.append((first, place))
                first = place
            more.append((first, stop))
        if not more:
            return starts, stops
        added = np.array(more, np.int64)
        starts = np.concatenate([np.delete(starts, long), added[:, 0]])
        stops = np.concatenate([np.delete(stops, long), added[:, 1]])
        return starts, stops

    def _planned(self, epoch: int) -> tuple[Ints, Ints, list[tuple[int, int]]]:
        """Where the rows of an epoch begin and end, those of a batch side by side, and the batches
        in their order: the first of their rows and one past the last."""
        if self._plan is not None and self._plan[0] == epoch:
            return self._plan[1:]
        starts, stops = self._starts, self._stops
        dice = np.random.default_rng([self.seed, epoch])
        if self._cut > 0:
            starts, stops = self._in_two(dice)
        ties = dice.random(len(starts)) if self.training else np.arange(len(starts))
        order = np.lexsort((ties, stops - starts))[::-1]
        starts, stops = starts[order], stops[order]
        batches: list[tuple[int, int]] = []
        first = 0
        while first < len(starts):
            rows = self._most // (int(stops[first] - starts[first]) + 1)
            last = min(first + min(rows, self._items), len(starts))
            batches.append((first, last))
            first = last
        if self.training:
            batches = [batches[i] for i in dice.permutation(len(batches)).tolist()]
        self._plan = (epoch, starts, stops, batches)
        return starts, stops, batches

    def _in_two(self, dice: np.random.Generator) -> tuple[Ints, Ints]:
        starts, stops = self._starts, self._stops
        chosen = np.flatnonzero(dice.random(len(starts)) < self._cut)
        first, stop = starts[chosen], stops[chosen]
        drawn = first + 1 + (dice.random(len(chosen)) * (stop - first - 1)).astype(np.int64)
        place = self._words[np.searchsorted(self._words, drawn)]
        inside = (place > first) & (place < stop)
        chosen, place = chosen[inside], place[inside]
        cut = stops.copy()
        cut[chosen] = place
        return np.concatenate([starts, place]), np.concatenate([cut, stops[chosen]])

    def _batch(self, starts: Ints, stops: Ints) -> Batch:
        lens = stops - starts
        offsets = np.arange(int(lens.max()))
        units = self.sentences.units
        index = np.minimum(starts[:, None] + offsets, len(units) - 1)
        tokens = units[index].astype(np.int64)
        tokens[offsets >= lens[:, None]] = 0
        return Batch(
            ids=("",) * len(lens),
            feats=torch.zeros(len(lens), 0),
            feat_lens=torch.zeros(len(lens), dtype=torch.int64),
            tokens=torch.from_numpy(tokens),
            token_lens=torch.from_numpy(lens),
            texts=("",) * len(lens),
        )
