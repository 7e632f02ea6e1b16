"""What an option is in its trial, so that options that differ by trial are counted alike.

Nothing here is known to what asks a model: an edit rebuilds tables and asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grace.prompts.plain_text import shortened
from grace.studies.analysis_parts import Labels
from grace.studies.declaration import filled
from grace.studies.expressions import Expression, Patterns
from grace.studies.trials import TrialError


class OptionLabels:
    """Labels of options. Raises `ConfigError` for an expression that is not allowed."""

    def __init__(self, declared: Labels, patterns: Patterns, place: str) -> None:
        self.queries = tuple(declared.queries)
        self.field = declared.field
        self._patterns = patterns
        self._of = {
            label: Expression(text, f"{place}.of.{label}") for label, text in declared.of.items()
        }
        #: Column of each label's summed probability.
        self.columns = {label: filled(declared.columns, {"label": label}) for label in self._of}
        #: Experiment 1's column, if a field holds an option.
        self.field_column = None if declared.field is None else f"{declared.field}_label"

    @property
    def expressions(self) -> list[Expression]:
        """All expressions, over the columns and `option`."""
        return list(self._of.values())

    def of(self, option: str, known: Mapping[str, Any]) -> str:
        """The one label of an option in a trial. Raises `TrialError` for none or several."""
        values = {**known, "option": option}
        found = [label for label, each in self._of.items() if each.value(values, self._patterns)]
        if len(found) != 1:
            several = f"{len(found)} labels, {', '.join(found)}" if found else "no label"
            raise TrialError(
                [
                    f"its option {shortened(option)} has {several}; `labels` of study.yaml must"
                    " give every option exactly one"
                ]
            )
        return found[0]

    def sums(
        self, distributions: Mapping[str, Mapping[str, float] | None], known: Mapping[str, Any]
    ) -> dict[str, float | None]:
        """Each label's probability, by column, over the queries that a trial was asked.

        None for all where one of them was not measured, or two were asked: labels would not make
        one distribution.
        """
        asked = [distributions[name] for name in self.queries if name in distributions]
        if len(asked) != 1 or asked[0] is None:
            return dict.fromkeys(self.columns.values())
        found: dict[str, float | None] = dict.fromkeys(self.columns.values(), 0.0)
        for option, probability in asked[0].items():
            column = self.columns[self.of(option, known)]
            found[column] = (found[column] or 0.0) + probability
        return found
