"""Kneser-Ney, back-off scoring and entropy pruning in dicts, as the papers define them."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Gram = tuple[str, ...]
SPECIAL = ("<unk>", "<s>", "</s>")
FALLBACK = (0.5, 1.0, 1.5)
SMALL = 1e-9  # of what is outside a context's n-grams: rounding


@dataclass
class Plain:
    """A back-off model: natural logs of each n-gram and of each context's weight."""

    words: list[str]
    order: int
    log_probs: dict[Gram, float]
    backoffs: dict[Gram, float]

    def score(self, context: Gram, word: str) -> float:
        """log P(word | context)."""
        context = context[max(len(context) - self.order + 1, 0) :]
        if (*context, word) in self.log_probs:
            return self.log_probs[(*context, word)]
        return self.backoffs.get(context, 0.0) + self.score(context[1:], word)

    def sentence(self, words: Sequence[str]) -> float:
        """log P of a sentence with its end."""
        known = [w if (w,) in self.log_probs else "<unk>" for w in words]
        path = ["<s>", *known, "</s>"]
        return sum(self.score(tuple(path[:i]), path[i]) for i in range(1, len(path)))

    def total(self, context: Gram) -> float:
        """The sum of the probabilities of all words that can follow."""
        return sum(math.exp(self.score(context, w)) for w in self.words if w != "<s>")


def discounts(adjusted: Counter[Gram]) -> tuple[float, float, float]:
    n = Counter(adjusted.values())
    if n[1] and n[2] and n[3]:
        y = n[1] / (n[1] + 2 * n[2])
        found = (1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3])
        if all(0 <= d <= i for i, d in enumerate(found, start=1)):
            return found
    return FALLBACK


def counts(sentences: Sequence[Sequence[str]], order: int) -> tuple[list[Counter[Gram]], ...]:
    """Adjusted and raw counts of each order."""
    raw: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for words in sentences:
        path = ["<s>", *words, "</s>"]
        for n in range(1, order + 1):
            for end in range(max(n, 2), len(path) + 1):
                raw[n - 1][tuple(path[end - n : end])] += 1
    adjusted: list[Counter[Gram]] = []
    for n in range(1, order + 1):
        if n == order:
            adjusted.append(Counter(raw[n - 1]))
            continue
        left: dict[Gram, set[str]] = defaultdict(set)
        for gram in raw[n]:
            left[gram[1:]].add(gram[0])
        adjusted.append(
            Counter({g: c if g[0] == "<s>" else len(left[g]) for g, c in raw[n - 1].items()})
        )
    return adjusted, raw


def kneser_ney(
    sentences: Sequence[Sequence[str]],
    order: int,
    *,
    words: Sequence[str] | None = None,
    cutoffs: Sequence[int] = (),
) -> Plain:
    """Interpolated modified Kneser-Ney, one n-gram at a time."""
    vocab = sorted({w for s in sentences for w in s} if words is None else set(words))
    vocab = [*SPECIAL, *(w for w in vocab if w not in SPECIAL)]
    known = [[w if w in vocab else "<unk>" for w in s] for s in sentences]
    adjusted, raw = counts(known, order)
    cutoffs = [*cutoffs, *[0] * (order - len(cutoffs))]
    model = Plain(vocab, order, {}, {})
    probs: dict[Gram, float] = {}
    for n in range(1, order + 1):
        d = discounts(adjusted[n - 1])
        contexts: dict[Gram, list[Gram]] = defaultdict(list)
        for gram in adjusted[n - 1]:
            contexts[gram[:-1]].append(gram)
        for context, grams in contexts.items():
            total = sum(adjusted[n - 1][g] for g in grams)
            kept = [g for g in grams if raw[n - 1][g] > cutoffs[n - 1]]
            a = {g: adjusted[n - 1][g] for g in kept}
            used = {g: (a[g] - d[min(a[g], 3) - 1]) / total for g in kept}
            gamma = 1 - sum(used.values())
            if context in probs or context in ((), ("<s>",)):
                model.backoffs[context] = math.log(gamma) if gamma > 0 else -math.inf
            for gram in kept if n > 1 else [(w,) for w in vocab if w != "<s>"]:
                lower = 1 / (len(vocab) - 1) if n == 1 else probs[gram[1:]]
                probs[gram] = used.get(gram, 0.0) + gamma * lower
    model.log_probs = {g: math.log(p) for g, p in probs.items()}
    del model.backoffs[()]
    return model


def prune(model: Plain, threshold: float, joint: dict[Gram, float]) -> Plain:
    """Stolcke's pruning; ``joint`` is log P of each context."""
    kept = dict(model.log_probs)
    for n in range(model.order, 1, -1):
        needed = {g[:-1] for g in kept if len(g) == n + 1}
        contexts: dict[Gram, list[Gram]] = defaultdict(list)
        for gram in model.log_probs:
            if len(gram) == n:
                contexts[gram[:-1]].append(gram)
        for h, grams in contexts.items():
            # single precision can leave nothing, or less, to back off to
            left = max(1 - sum(math.exp(model.log_probs[g]) for g in grams), SMALL)
            free = max(1 - sum(math.exp(model.score(h[1:], g[-1])) for g in grams), SMALL)
            for g in grams:
                log_p, log_q = model.log_probs[g], model.score(h[1:], g[-1])
                now = math.log(left / free)
                then = math.log((left + math.exp(log_p)) / (free + math.exp(log_q)))
                change = math.exp(log_p) * (log_q + then - log_p) + left * (then - now)
                loss = math.exp(-math.exp(joint[h]) * change) - 1
                if loss < threshold and g not in needed:
                    del kept[g]
    smaller = Plain(model.words, model.order, kept, {})
    for n in range(1, model.order):
        below = {g[:-1] for g in kept if len(g) == n + 1}
        for h in below:
            grams = [g for g in kept if g[:-1] == h]
            left = 1 - sum(math.exp(kept[g]) for g in grams)
            free = 1 - sum(math.exp(smaller.score(h[1:], g[-1])) for g in grams)
            sound = left > SMALL and free > SMALL
            smaller.backoffs[h] = math.log(left / free) if sound else model.backoffs[h]
    return smaller


def contexts(words: Sequence[str], longest: int) -> list[Gram]:
    """All contexts of up to ``longest`` words, those at a sentence's start included."""
    usual = [w for w in words if w not in ("<s>", "</s>")]
    plain = [c for n in range(longest + 1) for c in itertools.product(usual, repeat=n)]
    return plain + [("<s>", *c) for c in plain if len(c) < longest]
