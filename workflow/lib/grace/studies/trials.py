"""Rows of a study's stimuli as trials: typed columns, conditions, derived columns."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from grace.prompts.plain_text import shortened
from grace.studies.declaration import Column, Condition, Derived, Stimuli
from grace.studies.expressions import Expression, Patterns, TextTemplate

# Spreadsheets and R may write 2 as 2.0.
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?=(?:\.0)?\Z)")
_NUMBER = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,2})?")


class TrialError(Exception):
    """A row is no trial; `findings` says why, in words."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Trial:
    """One row of a study's stimuli."""

    #: The columns of the file, in its order.
    values: Mapping[str, Any]
    derived: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def row(self) -> dict[str, Any]:
        """The input columns and their values, in file order."""
        return dict(self.values)

    def all(self) -> dict[str, Any]:
        """Input columns and derived ones."""
        return {**self.values, **self.derived}

    def __getitem__(self, name: str) -> Any:
        return self.values[name] if name in self.values else self.derived[name]


class ConditionCheck:
    """A condition, read. Raises `ConfigError` for an expression that is not allowed."""

    def __init__(self, condition: Condition, place: str) -> None:
        self._given = {
            name: Expression(source, f"{place}.given.{name}")
            for name, source in condition.given.items()
        }
        self._when = Expression(condition.when, f"{place}.when")
        self._message = TextTemplate(condition.message, f"{place}.message")
        #: All its expressions, with the names that each may use beside columns.
        self.expressions = [*self._given.values(), self._when, *self._message.expressions]
        self.given = set(self._given)

    @property
    def names(self) -> set[str]:
        """The columns and fields that it uses."""
        return set().union(*(each.names for each in self.expressions)) - self.given

    def violation(self, values: Mapping[str, Any], patterns: Patterns) -> str | None:
        """The message, if the condition does not hold."""
        values = dict(values)
        for name, expression in self._given.items():
            values[name] = expression.value(values, patterns)
        if self._when.value(values, patterns):
            return None
        return self._message.render(values, patterns)


class _Derivation:
    """How one derived column is computed."""

    def __init__(self, derived: Derived, name: str, patterns: Patterns, place: str) -> None:
        self._name, self._patterns = name, patterns
        self._classes = {label: f"{name} {label}" for label in derived.classes or {}}
        self.value = Expression(derived.value or derived.of or "", place)
        self.message = TextTemplate(derived.message or "", f"{place}.message")

    def compute(self, values: Mapping[str, Any]) -> Any:
        """Raises `TrialError` where no class fits, or more than one."""
        found = self.value.value(values, self._patterns)
        if not self._classes:
            return found
        labels = [
            label
            for label, pattern in self._classes.items()
            if self._patterns.compiled(pattern, values).fullmatch(str(found))
        ]
        if len(labels) != 1:
            raise TrialError([self.message.render(values, self._patterns)])
        return labels[0]


class TrialReader:
    """Reads rows as the declaration says. Raises `ConfigError` for a declaration that cannot be."""

    def __init__(self, stimuli: Stimuli, place: str) -> None:
        self.columns = stimuli.columns
        classes = {
            f"{name} {label}": pattern
            for name, derived in stimuli.derived.items()
            for label, pattern in (derived.classes or {}).items()
        }
        self.patterns = Patterns({**stimuli.patterns, **classes}, f"{place}.patterns")
        self.checks = {
            name: [
                ConditionCheck(condition, f"{place}.columns.{name}.conditions.{number}")
                for number, condition in enumerate(column.conditions)
            ]
            for name, column in stimuli.columns.items()
        }
        self.conditions = [
            ConditionCheck(condition, f"{place}.conditions.{number}")
            for number, condition in enumerate(stimuli.conditions)
        ]
        self.derivations = {
            name: _Derivation(derived, name, self.patterns, f"{place}.derived.{name}")
            for name, derived in stimuli.derived.items()
        }

    def trial(self, cells: Mapping[str, Any]) -> Trial:
        """A row's trial. Raises `TrialError`."""
        values: dict[str, Any] = {}
        findings = []
        for name, column in self.columns.items():
            value, problem = self._read(name, column, cells[name])
            values[name] = value
            if problem is not None:
                findings.append(f"{name} is {shortened(str(cells[name]))}: {problem}")
        if findings:
            raise TrialError(findings)
        for check in self.conditions:
            problem = check.violation(values, self.patterns)
            if problem is not None:
                raise TrialError([problem])
        derived: dict[str, Any] = {}
        for name, derivation in self.derivations.items():
            derived[name] = derivation.compute({**values, **derived})
        return Trial(values, derived)

    def _read(self, name: str, column: Column, cell: Any) -> tuple[Any, str | None]:
        """A cell's value, and what is wrong with it."""
        value, problem = typed(str(cell).strip(), column)
        if problem is None:
            for check in self.checks[name]:
                problem = check.violation({"value": value}, self.patterns)
                if problem is not None:
                    break
        return value, problem


def typed(text: str, column: Column) -> tuple[Any, str | None]:
    """A text as a value of a column's type, and what is wrong with it."""
    value: Any = text
    if column.type == "text":
        if not text and not column.empty:
            return None, "must not be empty"
    elif column.type == "integer":
        found = _INTEGER.match(text)
        value = int(found[0]) if found else None
    else:
        value = float(text) if _NUMBER.fullmatch(text) else None
        if value is not None and not math.isfinite(value):
            value = None
    if column.levels is not None and (value is None or value not in column.levels):
        return None, f"must be {listed(column.levels)}"
    if value is None:
        return None, f"must be a {'whole ' if column.type == 'integer' else ''}number"
    if column.minimum is not None and value < column.minimum:
        return None, f"must be {column.minimum:g} or more"
    if column.maximum is not None and value > column.maximum:
        return None, f"must be {column.maximum:g} or less"
    return value, None


def listed(values: Sequence[Any]) -> str:
    """Values as `1, 2 or 3`."""
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last
