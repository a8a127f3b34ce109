"""Options that act only beside others: one that cannot act is refused, never ignored.

A verb has a tuple of rules, and gives it to :func:`refuse` before anything is loaded. What depends
on the model is in :mod:`mynah.runtime.idle`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mynah.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """``options`` (attributes of the arguments) act only where ``acts`` says so; ``reason`` ends
    the line that refuses them. ``no``: a no asks for something, too."""

    options: tuple[str, ...]
    acts: Callable[[argparse.Namespace], bool]
    reason: str
    no: bool = False


def needs(options: Iterable[str], *partners: str) -> Rule:
    """The options act only beside one of ``partners``."""
    *most, last = map(flag, partners)
    names = f"{', '.join(most)} or {last}" if most else last
    return Rule(
        tuple(options),
        lambda args: any(given(args, partner) for partner in partners),
        f"needs {names}",
    )


def unless(options: Iterable[str], other: str) -> Rule:
    """The options do not act beside ``other``."""
    return Rule(tuple(options), lambda args: not given(args, other), f"not with {flag(other)}")


def flag(option: str) -> str:
    """The name of an option on the command line."""
    return "--" + option.replace("_", "-")


def given(args: argparse.Namespace, option: str) -> bool:
    """Whether an option asks for something: ``None``, no and nothing are what it is without."""
    value = getattr(args, option, None)
    return value is not None and value is not False and value not in ("None", [])


def refuse(args: argparse.Namespace, rules: Iterable[Rule]) -> None:
    """Refuse what was given and cannot act.

    Raises:
        ConfigError: there is such an option.
    """
    for rule in rules:
        for option in rule.options:
            asked = given(args, option) or (rule.no and getattr(args, option, None) is False)
            if asked and not rule.acts(args):
                raise ConfigError(f"{flag(option)}: {rule.reason}")
