"""The numbers that a study's analysis is about, computed for every row of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grace.errors import ConfigError
from grace.studies.analysis_parts import Response
from grace.studies.expressions import Expression, Patterns


class ResponseColumns:
    """`response_<i>_exp1` and `response_<i>_exp2` for each declared response, i from 1.

    Raises `ConfigError` for an expression that is not allowed.
    """

    def __init__(self, declared: Sequence[Response], patterns: Patterns, place: str) -> None:
        self._patterns = patterns
        self.expressions = {
            f"response_{number}_{experiment}": Expression(
                text, f"{place}.{number - 1}.{experiment}"
            )
            for number, response in enumerate(declared, start=1)
            for experiment in ("exp1", "exp2")
            if (text := getattr(response, experiment)) is not None
        }

    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self.expressions)

    def values(self, experiment: str, row: Mapping[str, Any]) -> dict[str, float | None]:
        """One experiment's columns of a row; None where a value that they need is missing.

        Raises `ConfigError` where an expression fails or gives no number.
        """
        found: dict[str, float | None] = {}
        for name, expression in self.expressions.items():
            if not name.endswith(f"_{experiment}"):
                continue
            if any(row.get(used) is None for used in expression.names):
                found[name] = None
                continue
            value = expression.value(row, self._patterns)
            if not isinstance(value, bool | int | float):
                raise ConfigError(
                    f"{expression.place}: gives {str(value)[:40]!r}, which is no number; compare"
                    " with ==, or name a column of numbers"
                )
            found[name] = float(value)
        return found
