"""Which cuts of a manifest are used: conditions on its columns."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from mynah.errors import ConfigError

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

# columns and what they are to be: a table, or pairs where a column has several conditions
Conditions: TypeAlias = Mapping[str, Any] | Sequence[tuple[str, Any]]


class Row(Protocol):
    """What has columns: a cut, or a line of a text."""

    def value(self, column: str) -> str:
        """The value of a column; empty where there is none."""


def pairs(conditions: Conditions | None) -> list[tuple[str, Any]]:
    """The column and the condition of each, whichever way they were given."""
    return list(conditions.items() if isinstance(conditions, Mapping) else conditions or ())


def matcher(where: Conditions, exclude: Conditions) -> Callable[[Row], bool]:
    """A function that says whether a row meets all of ``where`` and none of ``exclude``.

    A condition names a column and a value, a list of values (any of them), or a comparison of
    numbers such as ``">=18"``; a row where the column is empty or not a number fails a comparison.
    Given as pairs, a column may have several.

    Raises:
        ConfigError: a comparison with something that is not a number.
    """
    wanted = [(k, _condition(k, v)) for k, v in pairs(where)]
    unwanted = [(k, _condition(k, v)) for k, v in pairs(exclude)]

    def matches(row: Row) -> bool:
        return all(test(row.value(k)) for k, test in wanted) and not any(
            test(row.value(k)) for k, test in unwanted
        )

    return matches


def _condition(column: str, value: Any) -> Callable[[str], bool]:
    if isinstance(value, (list, tuple)):
        tests = [_condition(column, v) for v in value]
        return lambda text: any(test(text) for test in tests)
    if isinstance(value, str):
        for sign, compare in _COMPARE.items():
            if value.startswith(sign):
                return _comparison(column, compare, value[len(sign) :])
    expected = str(value).lower() if isinstance(value, bool) else str(value)
    return lambda text: text == expected


def _comparison(
    column: str, compare: Callable[[float, float], bool], text: str
) -> Callable[[str], bool]:
    try:
        limit = float(text)
    except ValueError:
        raise ConfigError(f"{column}: cannot compare with {text!r}, not a number") from None

    def test(value: str) -> bool:
        try:
            return compare(float(value), limit)
        except ValueError:
            return False

    return test
