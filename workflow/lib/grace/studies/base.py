"""What a study is: its trials, its questions, its answers and its columns.

A study knows nothing of engines, files or Snakemake. Everything about one study stands in one
module; `grace.studies` lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from grace.prompts import PromptSet

Message = dict[str, str]


class Trial(BaseModel):
    """One row of a study's stimuli CSV. Subclasses list the columns in file order."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    def row(self) -> dict[str, Any]:
        """The input columns and their values, in file order."""
        return self.model_dump()


class StructuredAnswer(BaseModel):
    """A parsed raw answer. Subclasses add the study's own fields, None where not found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extraction_confidence: float = Field(
        ge=0, le=1, description="1: in the form asked for; 0.8: found in other text; 0: not found."
    )
    extraction_errors: str | None = Field(description="What could not be read; null if nothing.")


@dataclass(frozen=True)
class Query:
    """One prompt with a closed set of answer options."""

    name: str
    messages: tuple[Message, ...]
    options: tuple[str, ...]


class Study(ABC):
    """One study. Instances hold no state."""

    name: ClassVar[str]
    trial_model: ClassVar[type[Trial]]
    answer_model: ClassVar[type[StructuredAnswer]]
    #: Columns that together identify a trial.
    key_columns: ClassVar[tuple[str, ...]]
    #: Other spellings of a column that a file may use.
    column_aliases: ClassVar[Mapping[str, str]] = {}
    #: Input columns of the raw-response table, in order.
    raw_input_columns: ClassVar[tuple[str, ...]]
    #: Input columns of the probability table, in order.
    probability_input_columns: ClassVar[tuple[str, ...]]
    #: Names of experiment 2's queries, in order.
    query_names: ClassVar[tuple[str, ...]]
    #: Prompt templates by experiment.
    templates: ClassVar[Mapping[str, tuple[str, ...]]]

    @abstractmethod
    def derived_columns(self, trial: Any) -> dict[str, Any]:
        """Columns computed from the input row, such as `Goal_simplified`."""

    @abstractmethod
    def messages(self, trial: Any, prompts: PromptSet) -> tuple[Message, ...]:
        """Experiment 1's chat messages."""

    @abstractmethod
    def queries(self, trial: Any, prompts: PromptSet) -> tuple[Query, ...]:
        """Experiment 2's queries."""

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

    def input_columns(self) -> tuple[str, ...]:
        """The stimuli file's columns, in order."""
        return tuple(self.trial_model.model_fields)

    def answer_columns(self) -> tuple[str, ...]:
        """The structured table's own columns, in order."""
        common = tuple(StructuredAnswer.model_fields)
        own = tuple(name for name in self.answer_model.model_fields if name not in common)
        return own + common
