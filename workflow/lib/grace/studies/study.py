"""One study whole: what it asks, and how its answers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from grace.digests import digest
from grace.studies.answers import COMMON, AnswerReader, StructuredAnswer
from grace.studies.asking import StudyDesign
from grace.studies.declaration import Declaration
from grace.studies.distributions import DistributionColumns
from grace.studies.trials import Trial


class Study(StudyDesign):
    """A loaded study. Raises `ConfigError` for a declaration that cannot be."""

    def __init__(self, name: str, folder: Path, declaration: Declaration, source: str) -> None:
        super().__init__(name, folder, declaration, source)
        self.answers = (
            AnswerReader(declaration.generate, f"{source}: generate")
            if declaration.generate
            else None
        )
        self.distributions = DistributionColumns(self.query_forms)

    @property
    def title(self) -> str:
        """What readers know the study by."""
        return self.declaration.title

    @cached_property
    def derived_names(self) -> tuple[str, ...]:
        """Names of the columns that are computed from the trials' own."""
        return tuple(self.declaration.stimuli.derived)

    @cached_property
    def raw_input_columns(self) -> tuple[str, ...]:
        """Input columns of the raw-response table, in order."""
        return self._shown(self.declaration.tables.responses)

    @cached_property
    def probability_input_columns(self) -> tuple[str, ...]:
        """Input columns of the probability table, in order."""
        return self._shown(self.declaration.tables.probabilities)

    def _shown(self, columns: Sequence[str] | None) -> tuple[str, ...]:
        return tuple(columns or (*self.input_columns(), *self.derived_names))

    @cached_property
    def query_names(self) -> tuple[str, ...]:
        """Names of experiment 2's queries, in order."""
        return tuple(form.name for form in self.query_forms)

    def derived_columns(self, trial: Trial) -> dict[str, Any]:
        """Columns computed from the input row, such as `Goal_simplified`."""
        return dict(trial.derived)

    def parse(self, response: str | None, row: Mapping[str, Any] | None = None) -> StructuredAnswer:
        """A raw answer, read by the declaration's patterns; `row` holds its trial's columns."""
        assert self.answers is not None  # experiment 1 was asked
        return self.answers.parse(response, row or {})

    def answer_columns(self) -> tuple[str, ...]:
        """The structured table's own columns, in order."""
        return (*(self.answers.fields if self.answers else ()), *COMMON)

    def answer_checks(
        self, answer: Mapping[str, Any], percentage_tolerance: float
    ) -> Sequence[str]:
        """What is out of range in a parsed answer; empty if nothing."""
        settings = {"percentage_tolerance": percentage_tolerance}
        return self.answers.violations(answer, settings) if self.answers else []

    def probability_columns(self) -> tuple[str, ...]:
        """Names of the distribution and summary columns, in order."""
        return self.distributions.names()

    def probabilities(
        self, distributions: Mapping[str, Mapping[str, float] | None]
    ) -> dict[str, float | None]:
        """Distribution and summary columns from each query's normalised distribution.

        `distributions` maps a query's name to {option: probability}, or to None where the
        measurement failed; its columns are then None.
        """
        return self.distributions.values(distributions)

    def probability_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Columns that each form one distribution, by the distribution's name."""
        return self.distributions.groups()

    def reading_digest(self) -> str:
        """Digest of all in the declaration that decides how answers and trials make tables."""
        declared = self.declaration
        stimuli = declared.stimuli.model_dump(include={"columns", "patterns", "derived"})
        for column in stimuli["columns"].values():
            del column["conditions"], column["aliases"]  # they refuse, or name
        return digest(
            {
                "stimuli": stimuli,
                "generate": declared.generate
                and declared.generate.model_dump(exclude={"template", "examples"}),
                "score": [
                    entry.model_dump(exclude={"template"}, exclude_none=True)
                    for entry in declared.score
                ],
                "tables": declared.tables.model_dump(),
                "labels": declared.labels and declared.labels.model_dump(),
            }
        )
