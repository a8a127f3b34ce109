"""Settings of a search, as they stand in a configuration file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mynah.errors import ConfigError

Method = Literal["greedy", "prefix_beam", "rescoring", "attention"]
METHODS: tuple[Method, ...] = ("greedy", "prefix_beam", "rescoring", "attention")


@dataclass(frozen=True)
class DecodingOptions:
    """How log-probabilities become text.

    Attributes:
        method: ``greedy`` (CTC), ``prefix_beam`` (CTC), ``rescoring`` (CTC n-best scored by the
            attention decoders), ``attention`` (beam search of the decoder alone).
        beam: prefixes kept after every frame or step.
        top_units: units of a frame that may extend a prefix.
        ctc_weight: weight of the CTC score in rescoring.
        reverse_weight: share of the right-to-left decoder in rescoring, 0..1.
        length_penalty: attention scores are divided by length ** length_penalty.
        blank_penalty: taken from the blank's logit: above 0 deletes less and inserts more.
        blank_skip: frames whose blank is more probable than this are taken as blank only
            (faster, no longer exact); None looks at every frame.

    Raises:
        ConfigError: a value out of its range.
    """

    method: Method = "rescoring"
    beam: int = 10
    top_units: int = 10
    ctc_weight: float = 0.5
    reverse_weight: float = 0.0
    length_penalty: float = 0.0
    blank_penalty: float = 0.0
    blank_skip: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method: {self.method!r} is not one of {', '.join(METHODS)}")
        check_beam(self.beam, self.top_units, self.blank_penalty, self.blank_skip)
        if not (math.isfinite(self.ctc_weight) and self.ctc_weight >= 0):
            raise ConfigError(f"ctc_weight: {self.ctc_weight} is not a number of 0 or more")
        if not 0 <= self.reverse_weight <= 1:
            raise ConfigError(f"reverse_weight: {self.reverse_weight} is not between 0 and 1")
        if not math.isfinite(self.length_penalty):
            raise ConfigError(f"length_penalty: {self.length_penalty} is not a number")


def check_beam(beam: int, top_units: int, blank_penalty: float, blank_skip: float | None) -> None:
    """Refuse settings with which no beam search can run.

    Raises:
        ConfigError: a value out of its range.
    """
    for name, value in (("beam", beam), ("top_units", top_units)):
        if value < 1:
            raise ConfigError(f"{name}: {value} is not 1 or more")
    check_blank_penalty(blank_penalty)
    if blank_skip is not None and not 0 < blank_skip <= 1:
        raise ConfigError(f"blank_skip: {blank_skip} is not a probability above 0")


def check_blank_penalty(blank_penalty: float) -> None:
    """Refuse a penalty that is no number.

    Raises:
        ConfigError: not finite.
    """
    if not math.isfinite(blank_penalty):
        raise ConfigError(f"blank_penalty: {blank_penalty} is not a number")
