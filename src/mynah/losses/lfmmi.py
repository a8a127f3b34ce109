"""The denominator of lattice-free MMI: what all sequences of units are worth to a CTC model.

CTC alone makes the right sequence probable. Maximum mutual information makes it more probable than
every other that a language model of units allows, the model's own knowledge of which unit follows
which being taken away by that (Xiang and Ou 2019, arXiv:1902.07362; Povey et al. 2016). The sum
over all others is exact: a forward-backward pass through the states of a 3-gram of units, each
twice, after a unit and after a blank.

Legend: B batch, T frames, V units with the blank, which as a history stands for the start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from mynah.decoding.ngram import NgramModel
from mynah.errors import ConfigError

MOST = 256  # units; the tables grow with their third power
Sums: TypeAlias = Callable[[Tensor, "Grammar"], tuple[Tensor, Tensor]]


class Grammar(nn.Module):
    """A 3-gram of units as tables.

    ``moves`` (V, 2 V, V) are the probabilities of a unit after two others, by [the last, the one
    before, the unit]; in the second half of the middle axis the last unit does not follow itself,
    which takes a blank between. ``ends`` (V, 2 V) are those of the end.
    """

    moves: Tensor
    ends: Tensor

    def __init__(self, follows: Tensor, ends: Tensor, blank: int = 0) -> None:
        """``follows`` (V, V, V) and ``ends`` (V, V), by [the one before the last, the last]."""
        super().__init__()
        by_last = follows.transpose(0, 1).clone()
        by_last[:, :, blank] = 0.0
        apart = by_last.clone()
        unit = torch.arange(len(follows), device=follows.device)
        apart[unit, :, unit] = 0.0
        self.blank = blank
        self.register_buffer("moves", torch.cat((by_last, apart), 1), persistent=False)
        self.register_buffer("ends", torch.cat((ends.T, ends.T), 1), persistent=False)


def grammar_from(
    model: NgramModel, units: Sequence[str], blank: int = 0, never: Collection[int] = ()
) -> Grammar:
    """The tables of an n-gram model over the names of units; longer histories than two are cut.
    ``never`` are units that no text has.

    Raises:
        ConfigError: the model lacks one of the others, or they are too many for tables.
    """
    size = len(units)
    known = [i for i in range(size) if i != blank and i not in never and units[i]]
    missing = [units[i] for i in known if units[i] not in model.vocab]
    if missing:
        raise ConfigError(f"task.grammar: it lacks {len(missing)} units: {' '.join(missing[:8])}")
    if size > MOST:
        raise ConfigError(f"task.grammar: of at most {MOST} units; the model has {size}")
    words = np.array([model.word_id(units[i]) for i in known])
    follows, ends = np.zeros((size, size, size), np.float64), np.zeros((size, size))

    def fill(before: int, last: int, state: Any) -> None:
        follows[before, last, known] = np.exp(model.score_many(state, words))
        ends[before, last] = np.exp(model.end(state))

    fill(blank, blank, model.start())
    for last, word in zip(known, words, strict=True):
        fill(blank, last, model.score(model.start(), int(word))[0])
        first = model.score(model.null(), int(word))[0]
        for after, other in zip(known, words, strict=True):
            fill(last, after, model.score(first, int(other))[0])
    return Grammar(torch.from_numpy(follows).float(), torch.from_numpy(ends).float(), blank)


def denominator(logits: Tensor, lens: Tensor, grammar: Grammar, sums: Sums | None = None) -> Tensor:
    """The logarithm of the sum over all paths, times the probability of what they say, summed over
    the batch.

    (B, T, V) logits, normalised here, (B,). Added to :func:`mynah.losses.ctc_loss` it makes the
    loss of MMI, up to the grammar's probability of the text. Float32 whatever autocast says. An
    utterance without frames counts as 0.
    ``sums`` is another way to do what :func:`path_sums` does.
    """
    total: Tensor = _Denominator.apply(  # type: ignore[no-untyped-call]
        logits, lens, grammar, sums or path_sums
    )
    return total


class _Denominator(torch.autograd.Function):
    """The gradient for the logits is occupancy - softmax."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, lens: Tensor, grammar: Grammar, sums: Sums) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            inside = torch.arange(logits.shape[1], device=logits.device) < lens[:, None]
            soft = logits.float().softmax(-1)
            # behind its end an utterance says blanks for sure, which changes nothing
            sure = soft.new_zeros(soft.shape[-1])
            sure[grammar.blank] = 1.0
            probs = soft.where(inside[..., None], sure)
            total, occupancy = sums(probs, grammar)
            slope = (occupancy - soft).where(inside[..., None], 0.0).to(logits.dtype)
        ctx.save_for_backward(slope)
        return total.where(lens > 0, 0.0).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad, None, None, None


def path_sums(probs: Tensor, grammar: Grammar) -> tuple[Tensor, Tensor]:
    """Probabilities (B, T, V) -> the logarithms of the sums (B,), and the share (B, T, V) of the
    paths through each unit of each frame.

    A state tensor is (V, B, 2 V): [the last unit, utterance, the unit before it], first those that
    stand on a blank, then those that stand on the last unit.
    """
    rows, frames, units = probs.shape
    moves = grammar.moves.to(probs.dtype)
    on_unit = probs.permute(1, 2, 0)[..., None].contiguous()  # (T, V, B, 1)
    on_blank = on_unit[:, grammar.blank, :, :]  # (T, B, 1)
    state = probs.new_zeros(units, rows, 2 * units)
    state[grammar.blank, :, grammar.blank] = 1.0
    ahead = probs.new_empty(frames, units, rows, 2 * units)
    scales = probs.new_empty(frames, rows)
    for t in range(frames):
        blanks, said = state[..., :units], state[..., units:]
        new = ahead[t]
        torch.add(blanks, said, out=new[..., :units])
        new[..., :units].mul_(on_blank[t])
        torch.add(torch.bmm(state, moves).permute(2, 1, 0), said, out=new[..., units:])
        new[..., units:].mul_(on_unit[t])
        torch.sum(new, (0, 2), out=scales[t])
        new.div_(scales[t, :, None])
        state = new
    ends = grammar.ends.to(probs.dtype)[:, None]  # (V, 1, 2 V)
    total = scales.log().sum(0) + (state * ends).sum((0, 2)).log()

    back = ends.expand(units, rows, 2 * units)
    moves = moves.transpose(1, 2).contiguous()
    for t in reversed(range(frames)):
        before = ahead[t - 1] if t else None
        blanks, said = back[..., :units] * on_blank[t], back[..., units:] * on_unit[t]
        ahead[t].mul_(back)  # what has been seen times what is to come: the share of each state
        if before is None:
            break
        back = torch.bmm(said.permute(2, 1, 0), moves)
        back[..., :units].add_(blanks)
        back[..., units:].add_(blanks).add_(said)
        back.div_(back.amax((0, 2), keepdim=True))
    occupancy = ahead[..., units:].sum(-1).permute(2, 0, 1)  # (B, T, V)
    occupancy[..., grammar.blank] = ahead[..., :units].sum((1, 3)).T
    return total, occupancy / occupancy.sum(-1, keepdim=True)
