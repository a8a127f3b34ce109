"""What stands before the text of a window: hotwords, a prompt, and what was said before.

They share half the text context, so that the text of the window always has the other half: hotwords
come first, then a prompt that is carried along, and the text before takes what is left. A prefix,
with which the first window's text begins, takes its part of that half before all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mynah.errors import ConfigError
from mynah.runtime.whisper.config import WhisperDims
from mynah.runtime.whisper.options import WhisperOptions
from mynah.text.whisper_tokenizer import WhisperTokenizer


@dataclass(frozen=True)
class Fixed:
    """What is the same for all windows of a recording, as tokens; ``room`` is what the prompt and
    the prefix may take, ``cut`` says whether hotwords did not fit, and ``initial_cut`` whether the
    initial prompt did not fit whole beside them."""

    room: int
    hotwords: tuple[int, ...] = ()
    initial: tuple[int, ...] = ()
    prefix: tuple[int, ...] = ()
    carry: bool = False
    cut: bool = False
    initial_cut: bool = False


def fixed_prompts(options: WhisperOptions, tokenizer: WhisperTokenizer, dims: WhisperDims) -> Fixed:
    """The texts of ``options`` as tokens.

    Raises:
        ConfigError: a prefix that leaves no room for text, or tokens that the model does not have.
    """
    room = dims.n_text_ctx // 2 - 1
    hotwords = _encoded(tokenizer, options.hotwords)
    prefix = _encoded(tokenizer, options.prefix)
    if len(prefix) > room:
        raise ConfigError(f"prefix: {len(prefix)} tokens, at most {room} fit")
    if isinstance(options.initial_prompt, tuple):
        initial = options.initial_prompt
        if any(not 0 <= token < tokenizer.vocab_size for token in initial):
            raise ConfigError(f"initial_prompt: tokens are 0..{tokenizer.vocab_size - 1}")
    else:
        initial = _encoded(tokenizer, options.initial_prompt)
    if prefix and not options.without_timestamps:
        prefix = (tokenizer.special.timestamp_begin, *prefix)
    left = room - len(prefix)
    return Fixed(
        room=room,
        hotwords=hotwords[:room],
        initial=initial,
        prefix=prefix,
        carry=options.carry_initial_prompt,
        cut=len(hotwords) > left,
        initial_cut=len(initial) > max(left - len(hotwords), 0),
    )


def _encoded(tokenizer: WhisperTokenizer, text: str | None) -> tuple[int, ...]:
    return tuple(tokenizer.encode(" " + text.strip())) if text and text.strip() else ()


@dataclass
class History:
    """What was said in the windows before, as far as it is a prompt for the next."""

    fixed: Fixed
    tokens: list[int] = field(default_factory=list)  # since it was last begun anew
    fresh: bool = True  # whether the initial prompt is part of it

    def add(self, tokens: list[int], *, forget: bool) -> None:
        """Take what a window said; ``forget`` begins anew after it."""
        self.tokens = [] if forget else [*self.tokens, *tokens][-self.fixed.room :]
        self.fresh = self.fresh and not forget

    def prompt(self, prefix: int = 0) -> tuple[int, ...]:
        """The tokens before the next window, whose text begins with ``prefix`` tokens: none, or as
        many as ``room`` is without these."""
        fixed = self.fixed
        whole = max(fixed.room - prefix, 0)
        hotwords = fixed.hotwords[:whole]
        room = whole - len(hotwords)
        if not fixed.carry:
            before = (*(fixed.initial if self.fresh else ()), *self.tokens)
            return hotwords + _last(before, room)
        kept = _last(fixed.initial, room)
        return hotwords + kept + _last(tuple(self.tokens), room - len(kept))


def _last(tokens: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tokens[-count:] if count > 0 else ()
