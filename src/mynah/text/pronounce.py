"""How words are said: a pronouncing dictionary, and letter-to-sound rules learned from it.

A pronunciation is a tuple of phones: the 39 of ARPAbet, without stress. The rules are those of
IGTree (Daelemans et al. 1997, https://doi.org/10.1023/A:1006506017891): what a letter sounds like
is looked up with as much of its neighbourhood as was seen in the dictionary, the nearest letters
first.
"""

from __future__ import annotations

import lzma
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mynah.errors import InputError, ModelError
from mynah.text.scoring import normalize_for_scoring

Phones = tuple[str, ...]

PHONES: Phones = (
    "aa", "ae", "ah", "ao", "aw", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g", "hh",
    "ih", "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "r", "s", "sh", "t", "th", "uh",
    "uw", "v", "w", "y", "z", "zh",
)  # fmt: skip

RULES_FILE, WORDS_FILE = "letters.tsv.xz", "words.tsv.xz"

_KNOWN = frozenset(PHONES)
_VARIANT = re.compile(r"\(\d+\)$")
_NOT_LETTERS = re.compile(r"[^a-z]")
# Where the neighbours of a letter stand, the most telling first.
_NEIGHBOURS = (1, -1, 2, -2, 3, -3, 4, -4, 5)
_MAX_SOUNDS = 2  # phones that one letter may stand for (x: k s)
_VOICELESS = frozenset(("p", "t", "k", "f", "th"))
_HISSING = frozenset(("s", "z", "sh", "zh", "ch", "jh"))


def read_dictionary(path: str | Path) -> dict[str, tuple[Phones, ...]]:
    """Words and their pronunciations from a file as CMUdict has it (plain or .xz).

    A line is a word and its phones; ``word(2)`` is another pronunciation, ``#`` begins a comment,
    digits of stress are dropped. Words are brought into their scoring form; those that are not one
    word in it are left out.

    Raises:
        InputError: the file cannot be read, or a line has no phones or an unknown one.
    """
    found: dict[str, list[Phones]] = defaultdict(list)
    for number, line in enumerate(_lines(path), 1):
        name, *phones = line.partition("#")[0].partition(";;;")[0].split() or [""]
        if not name:
            continue
        sounds = tuple(phone.rstrip("012").lower() for phone in phones)
        unknown = next((p for p in sounds if p not in _KNOWN), None)
        if unknown or not sounds:
            what = f"unknown phone {unknown!r}" if unknown else "no phones"
            raise InputError(f"{path}:{number}: {what}")
        word = _VARIANT.sub("", name)
        if normalize_for_scoring(word) == word and " " not in word and sounds not in found[word]:
            found[word].append(sounds)
    return {word: tuple(variants) for word, variants in found.items() if variants}


def _lines(path: str | Path) -> Iterator[str]:
    opener = lzma.open if str(path).endswith(".xz") else open
    try:
        with opener(path, "rt", encoding="utf-8") as stream:
            yield from stream
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from None


class LetterToSound:
    """Rules from a letter among its neighbours to its phones, for words in no dictionary.

    ``rules`` maps a letter and as many neighbours as matter, in the order right, left, second to
    the right ..., to what the letter sounds like there; the longest that matches holds.
    """

    def __init__(self, rules: Mapping[str, str]) -> None:
        self.rules = dict(rules)

    def __call__(self, word: str) -> Phones:
        """The phones of ``word``; what is not a letter from a to z is passed over."""
        letters = _NOT_LETTERS.sub("", word)
        return tuple(
            phone
            for index in range(len(letters))
            for phone in self._sound(_context(letters, index)).split()
        )

    def _sound(self, context: str) -> str:
        for size in range(len(context), 0, -1):
            if (sound := self.rules.get(context[:size])) is not None:
                return sound
        return ""

    def save(self, path: str | Path) -> None:
        """Write the rules as lines of a rule and its phones, compressed by xz."""
        write_table(path, sorted(self.rules.items()))

    @staticmethod
    def load(path: str | Path) -> LetterToSound:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: the file is missing or damaged.
        """
        return LetterToSound(dict(read_table(path)))


def _context(letters: str, index: int) -> str:
    padded = f"______{letters}______"
    at = index + 6
    return padded[at] + "".join(padded[at + offset] for offset in _NEIGHBOURS)


def learn_letters(
    dictionary: Mapping[str, Sequence[Phones]], *, min_count: int = 1, rounds: int = 4
) -> LetterToSound:
    """Letter-to-sound rules from a dictionary; of each word its first pronunciation.

    Letters are aligned with phones by hard expectation and maximisation, each letter taking none,
    one or two; then every neighbourhood seen ``min_count`` times whose commonest sound differs
    from that of the next smaller one becomes a rule.

    Raises:
        InputError: no word can be aligned.
    """
    pairs = [(word, variants[0]) for word, variants in sorted(dictionary.items())]
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for word, aligned in align_letters(pairs, rounds=rounds):
        for index, (_, sound) in enumerate(aligned):
            context = _context(word, index)
            for size in range(1, len(context) + 1):
                seen[context[:size]][sound] += 1
    rules: dict[str, str] = {}
    for context in sorted(seen, key=len):
        counts = seen[context]
        best = min(counts, key=lambda sound: (-counts[sound], sound))
        inherited = next(
            (rules[context[:size]] for size in range(len(context) - 1, 0, -1)
             if context[:size] in rules), None
        )  # fmt: skip
        if best != inherited and (len(context) == 1 or sum(counts.values()) >= min_count):
            rules[context] = best
    return LetterToSound(rules)


def align_letters(
    pairs: Iterable[tuple[str, Phones]], *, rounds: int = 4
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The words that can be aligned, each with its letters and what each of them sounds like: none,
    one or two phones between spaces. By hard expectation and maximisation over all ``pairs``.

    Raises:
        InputError: no word can be aligned.
    """
    usable = [
        (word, phones)
        for word, phones in pairs
        if word.isascii() and word.isalpha() and len(phones) <= _MAX_SOUNDS * len(word)
    ]
    if not usable:
        raise InputError("no word to learn letter-to-sound rules from")
    costs = _first_costs(usable)
    sample = usable[:: max(1, len(usable) // 20000)]
    for _ in range(rounds):
        costs = _count_costs(_align(word, phones, costs) for word, phones in sample)
    return ((word, _align(word, phones, costs)) for word, phones in usable)


_Costs = dict[tuple[str, str], float]
_UNSEEN = 12.0
_FAR = 3.0  # what a letter and a phone that are only near each other cost more, at first


def _first_costs(pairs: Sequence[tuple[str, Phones]]) -> _Costs:
    """From words with as many phones as letters, taken one to one; for what these do not have (a
    ``dh``, which takes two letters), what stands at about the same place in all words."""
    costs: _Costs = {}
    near: Iterator[Iterator[tuple[str, str]]] = (
        _neighbours(word, phones) for word, phones in pairs
    )
    for key, cost in _count_costs(near).items():
        costs[key] = _FAR + cost
    aligned = (
        list(zip(word, phones, strict=True)) for word, phones in pairs if len(word) == len(phones)
    )
    for key, cost in _count_costs(aligned).items():
        costs[key] = min(cost, costs.get(key, cost))
    for letter in "abcdefghijklmnopqrstuvwxyz":
        costs[letter, ""] = 3.0
    return costs


def _neighbours(word: str, phones: Phones) -> Iterator[tuple[str, str]]:
    """Each letter with the phones that stand at its part of the word, or one beside it."""
    for i, letter in enumerate(word):
        at = i * len(phones) // len(word)
        for phone in phones[max(at - 1, 0) : at + 2]:
            yield letter, phone


def _count_costs(aligned: Iterable[Iterable[tuple[str, str]]]) -> _Costs:
    counts: Counter[tuple[str, str]] = Counter()
    letters: Counter[str] = Counter()
    for pairs in aligned:
        for letter, sound in pairs:
            counts[letter, sound] += 1
            letters[letter] += 1
    return {(a, b): -math.log(n / letters[a]) for (a, b), n in counts.items()}


def _align(word: str, phones: Phones, costs: _Costs) -> list[tuple[str, str]]:
    """The cheapest way to give each letter none, one or two of the phones in order."""
    size = len(phones)
    best: list[list[tuple[float, int]]] = [[(math.inf, 0)] * (size + 1) for _ in word]
    before = [(0.0, 0)] + [(math.inf, 0)] * size
    for i, letter in enumerate(word):
        row = best[i]
        left = _MAX_SOUNDS * (len(word) - i - 1)  # phones that the letters after it can take
        for end in range(max(0, size - left), min(size, _MAX_SOUNDS * (i + 1)) + 1):
            options = []
            for taken in range(min(_MAX_SOUNDS, end) + 1):
                cost = before[end - taken][0]
                if cost < math.inf:
                    options.append((cost + _cost(letter, phones[end - taken : end], costs), taken))
            if options:
                row[end] = min(options)
        before = row
    result: list[tuple[str, str]] = []
    end = size
    for i in range(len(word) - 1, -1, -1):
        taken = best[i][end][1]
        result.append((word[i], " ".join(phones[end - taken : end])))
        end -= taken
    return result[::-1]


def _cost(letter: str, phones: Phones, costs: _Costs) -> float:
    if len(phones) < 2:
        return costs.get((letter, phones[0] if phones else ""), _UNSEEN)
    known = costs.get((letter, " ".join(phones)))
    if known is not None:
        return known
    return 6.0 + min(costs.get((letter, phone), _UNSEEN) for phone in phones)


class Pronouncer:
    """Pronunciations of any word: those of the dictionary, else by rule."""

    def __init__(
        self, dictionary: Mapping[str, tuple[Phones, ...]], letters: LetterToSound
    ) -> None:
        self.dictionary = dict(dictionary)
        self.letters = letters

    def known(self, word: str) -> bool:
        """Whether the dictionary has the word, or what it is the genitive or the like of."""
        return bool(self._found(word))

    def __call__(self, word: str) -> tuple[Phones, ...]:
        """The pronunciations of a word in scoring form, the usual one first; none if unsayable."""
        found = self._found(word)
        if found:
            return found
        stem, mark, ending = word.rpartition("'")
        if mark and ending == "s" and stem:
            return tuple(_with_s(phones) for phones in self(stem))
        phones = self.letters(word)
        return (phones,) if phones else ()

    def _found(self, word: str) -> tuple[Phones, ...]:
        if found := self.dictionary.get(word):
            return found
        if word.endswith("'s"):
            return tuple(_with_s(phones) for phones in self.dictionary.get(word[:-2], ()))
        if word.endswith("s'"):
            return self.dictionary.get(word[:-1], ())
        return ()

    def save(self, folder: str | Path) -> None:
        """Write dictionary and rules into ``folder``."""
        folder = Path(folder)
        rows = [
            (word, ", ".join(" ".join(phones) for phones in variants))
            for word, variants in sorted(self.dictionary.items())
        ]
        write_table(folder / WORDS_FILE, rows)
        self.letters.save(folder / RULES_FILE)

    @staticmethod
    def load(folder: str | Path) -> Pronouncer:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        folder = Path(folder)
        dictionary = {
            word: tuple(tuple(phones.split()) for phones in variants.split(", "))
            for word, variants in read_table(folder / WORDS_FILE)
        }
        return Pronouncer(dictionary, LetterToSound.load(folder / RULES_FILE))


def _with_s(phones: Phones) -> Phones:
    """The ending of ``dog's``, ``cat's`` and ``horse's``."""
    last = phones[-1]
    if last in _HISSING:
        return (*phones, "ih", "z")
    return (*phones, "s" if last in _VOICELESS else "z")


def learn_pronouncer(path: str | Path) -> Pronouncer:
    """Dictionary and letter-to-sound rules from a file as :func:`read_dictionary` reads it."""
    dictionary = read_dictionary(path)
    return Pronouncer(dictionary, learn_letters(dictionary))


def write_table(path: str | Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write lines of a key, a tab and a value, compressed by xz."""
    text = "".join(f"{key}\t{value}\n" for key, value in rows)
    Path(path).write_bytes(lzma.compress(text.encode("utf-8")))


def read_table(path: str | Path) -> list[tuple[str, str]]:
    """Read what :func:`write_table` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        text = lzma.decompress(Path(path).read_bytes()).decode("utf-8")
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        key, tab, value = line.partition("\t")
        if not tab or not key:
            raise ModelError(f"{path}:{number}: expected two columns, got {line!r}")
        rows.append((key, value))
    return rows
