"""Graphs of words for CTC: T (units), L (the lexicon) and G (the language model), composed.

Miao, Gowayyed and Metze, "EESEN: end-to-end speech recognition using deep RNN models and WFST-based
decoding" (2015); the labels are WeNet's: input label 0 is epsilon and unit ``u`` is ``u + 1``,
output labels are those of ``words.txt``. kaldifst does the work.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mynah.decoding.lexicon import Lexicon
from mynah.decoding.ngram import NgramModel
from mynah.errors import ConfigError, InputError, MissingDependency

EPSILON, BACKOFF = "<eps>", "#0"
_EXACT = 256  # units up to which T allows no unit twice without a blank between


def build_graph(
    lexicon: Lexicon,
    model: NgramModel,
    fst: str | Path,
    words: str | Path,
    *,
    blank: int = 0,
    lm_weight: float = 1.0,
    word_bonus: float = 0.0,
) -> tuple[int, int]:
    """Write the graph of ``lexicon`` and ``model`` to ``fst``, its words to ``words``.

    A word has the score that the model gives it by its best way through the back-off arcs, times
    ``lm_weight``, plus ``word_bonus``. Words that the model does not know are left out.

    Returns:
        states and arcs of the graph.

    Raises:
        MissingDependency: kaldifst is not installed.
        ConfigError: the weight is not above 0.
        InputError: the lexicon and the model share no word.
    """
    if not (math.isfinite(lm_weight) and lm_weight > 0):
        raise ConfigError(f"lm_weight: {lm_weight} is not a number above 0")
    kaldifst = import_kaldifst()
    known = [word for word in lexicon.words if word in model.vocab]
    if not known:
        raise InputError("lexicon: the language model knows none of its words")
    table = {word: number for number, word in enumerate([EPSILON, *known, BACKOFF])}
    text, marks = _lexicon_fst(lexicon, table)
    grammar = kaldifst.compile(_grammar_fst(model, table, lm_weight, word_bonus))
    lexical = kaldifst.compile(text)
    first_mark = lexicon.vocab_size + 1  # of the input labels: #0, #1, ...
    kaldifst.add_self_loops(lexical, [first_mark], [table[BACKOFF]])
    kaldifst.arcsort(lexical, "olabel")
    kaldifst.arcsort(grammar, "ilabel")
    both = kaldifst.compose(lexical, grammar)
    both = kaldifst.StdVectorFst(both)
    if both.num_states == 0:
        raise InputError("lexicon: no sentence of the language model can be spelled")
    kaldifst.determinize_star(both)
    kaldifst.minimize_encoded(both)
    kaldifst.arcsort(both, "ilabel")
    units = sorted({ord(unit) for spelling in lexicon.spellings for unit in spelling})
    if lexicon.boundary is not None and lexicon.boundary not in units:
        units.append(lexicon.boundary)
    token = kaldifst.compile(_token_fst(units, blank, range(first_mark, first_mark + marks)))
    kaldifst.arcsort(token, "olabel")
    whole = kaldifst.StdVectorFst(kaldifst.compose(token, both))
    kaldifst.arcsort(whole, "ilabel")
    lines = [f"{word} {number}\n" for word, number in table.items()]
    try:
        Path(words).write_text("".join(lines), encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"{words}: cannot be written ({error.strerror})") from None
    if not whole.write(str(fst)):
        raise InputError(f"{fst}: cannot be written")
    states = int(whole.num_states)
    return states, sum(int(whole.num_arcs(state)) for state in range(states))


def import_kaldifst() -> Any:
    """The module kaldifst.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import kaldifst
    except ModuleNotFoundError:
        raise MissingDependency("kaldifst", extra="lm") from None
    return kaldifst


def _token_fst(units: Sequence[int], blank: int, marks: Iterable[int]) -> str:
    """T: paths of CTC to units. State 0 follows a blank or nothing, each unit has its own."""
    marks = list(marks)
    lines = [f"0 0 {blank + 1} 0"]
    states = {unit: number for number, unit in enumerate(units, 1)}
    exact = len(units) <= _EXACT
    for unit, state in states.items():
        lines += [f"0 {state} {unit + 1} {unit + 1}", f"{state} {state} {unit + 1} 0"]
        if not exact:
            lines.append(f"{state} 0 0 0")
            continue
        lines.append(f"{state} 0 {blank + 1} 0")
        lines += [
            f"{state} {after} {next_} {next_}"
            for next_, after in ((other + 1, at) for other, at in states.items() if other != unit)
        ]
    for state in (0, *states.values()) if exact else (0,):
        lines += [f"{state} {state} 0 {mark}" for mark in marks]
        lines.append(f"{state}")
    return "\n".join(lines) + "\n"


def _lexicon_fst(lexicon: Lexicon, table: dict[str, int]) -> tuple[str, int]:
    """L: units to words, and how many marks it has: #0 for the language model, then those that keep
    homophones and beginnings of longer words apart, then that of the boundary."""
    entries = [(word, spelling) for word, spelling in lexicon.entries() if word in table]
    same = Counter(spelling for _, spelling in entries)
    begun = {spelling[:n] for spelling in same for n in range(1, len(spelling))}
    seen: Counter[tuple[int, ...]] = Counter()
    first_mark, most = lexicon.vocab_size + 1, 0
    lines, state = list[str](), 1
    for word, spelling in entries:
        labels = [unit + 1 for unit in spelling]
        if same[spelling] > 1 or spelling in begun:
            seen[spelling] += 1
            most = max(most, seen[spelling])
            labels.append(first_mark + seen[spelling])
        before, output = 0, table[word]
        for place, label in enumerate(labels, 1):
            after = 0 if place == len(labels) else state
            lines.append(f"{before} {after} {label} {output}")
            before, output = after, 0
            state += after != 0
    if lexicon.boundary is not None:
        most += 1
        lines.append(f"0 {state} {lexicon.boundary + 1} 0")
        lines.append(f"{state} 0 {first_mark + most} 0")
    lines.append("0")
    return "\n".join(lines) + "\n", most + 1


def _grammar_fst(model: NgramModel, table: dict[str, int], weight: float, bonus: float) -> str:
    """G: a state of the model is one of the graph, its n-grams are arcs, so is backing off."""
    labels = {model.vocab[word]: label for word, label in table.items() if word in model.vocab}
    labels.pop(model.unk, None)
    numbers = {model.start(): 0}
    waiting, lines = [model.start()], list[str]()

    def number(state: Any) -> int:
        if state not in numbers:
            numbers[state] = len(numbers)
            waiting.append(state)
        return numbers[state]

    while waiting:
        state = waiting.pop()
        here, follow = numbers[state], model.successors(state)
        pairs = zip(follow.words.tolist(), follow.log_probs.tolist(), strict=True)
        for word, log_prob in pairs:
            if word == model.eos:
                lines.append(f"{here} {-weight * log_prob}")
            elif word in labels:
                after, label = number(model.score(state, word)[0]), labels[word]
                cost = -weight * log_prob - bonus
                lines.append(f"{here} {after} {label} {label} {cost}")
        if follow.shorter is not None:
            cost = -weight * follow.backoff
            lines.append(f"{here} {number(follow.shorter)} {table[BACKOFF]} 0 {cost}")
    return "\n".join(lines) + "\n"
