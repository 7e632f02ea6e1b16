"""How a study's answers are read: its parser, its columns, its distributions.

Nothing here is known to what asks a model: an edit makes tables anew and asks nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from grace.studies.base import StudyDesign


class StructuredAnswer(BaseModel):
    """A parsed raw answer. Subclasses add the study's own fields, None where not found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extraction_confidence: float = Field(
        ge=0, le=1, description="1: in the form asked for; 0.8: found in other text; 0: not found."
    )
    extraction_errors: str | None = Field(description="What could not be read; null if nothing.")


class Study(StudyDesign):
    """One study whole. Instances hold no state."""

    answer_model: ClassVar[type[StructuredAnswer]]
    #: Input columns of the raw-response table, in order.
    raw_input_columns: ClassVar[tuple[str, ...]]
    #: Input columns of the probability table, in order.
    probability_input_columns: ClassVar[tuple[str, ...]]
    #: Names of experiment 2's queries, in order.
    query_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def derived_columns(self, trial: Any) -> dict[str, Any]:
        """Columns computed from the input row, such as `Goal_simplified`."""

    @abstractmethod
    def parse(self, response: str | None) -> StructuredAnswer:
        """A raw answer, read by deterministic rules. Never raises on an answer's text."""

    @abstractmethod
    def probability_columns(self) -> tuple[str, ...]:
        """Names of the distribution and summary columns, in order."""

    @abstractmethod
    def probabilities(
        self, distributions: Mapping[str, Mapping[str, float] | None]
    ) -> dict[str, float | None]:
        """Distribution and summary columns from each query's normalised distribution.

        `distributions` maps a query's name to {option: probability}, or to None where the
        measurement failed; its columns are then None.
        """

    @abstractmethod
    def probability_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Columns that each form one distribution, by the distribution's name."""

    @abstractmethod
    def answer_checks(
        self, answer: Mapping[str, Any], percentage_tolerance: float
    ) -> Sequence[str]:
        """What is out of range in a parsed answer; empty if nothing."""

    def answer_columns(self) -> tuple[str, ...]:
        """The structured table's own columns, in order."""
        common = tuple(StructuredAnswer.model_fields)
        own = tuple(name for name in self.answer_model.model_fields if name not in common)
        return own + common
