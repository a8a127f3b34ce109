"""Settings of a search."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mynah.config import as_dict, build
from mynah.decoding import DecodingOptions
from mynah.errors import ConfigError


def test_from_a_configuration_and_back() -> None:
    values = {"method": "attention", "beam": 4, "length_penalty": 0.6}
    options = build(DecodingOptions, values)
    assert (options.method, options.beam, options.length_penalty) == ("attention", 4, 0.6)
    assert build(DecodingOptions, as_dict(options)) == options


@pytest.mark.parametrize(
    "values",
    [
        {"method": "viterbi"},
        {"beam": 0},
        {"top_units": -1},
        {"ctc_weight": -0.1},
        {"ctc_weight": math.nan},
        {"reverse_weight": 1.2},
        {"length_penalty": math.inf},
        {"blank_penalty": math.nan},
        {"blank_skip": 2.0},
        {"lm_weight": -0.1},
        {"lm_weight": math.inf},
        {"word_bonus": math.nan},
        {"lm_unknown": 0.5},
        {"lm_unknown": -math.inf},
        {"lm_level": "words"},
        {"lm_pass": "third"},
        {"hotword_cap": 0.0},
        {"hotword_cap": math.nan},
    ],
)
def test_wrong_values_name_their_key(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(values))}: "):
        DecodingOptions(**values)
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(DecodingOptions, values)


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="blank_penalty"):
        build(DecodingOptions, {"blank_penalti": 1.0})
