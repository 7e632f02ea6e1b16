"""What a study asks: its trials, prompts and questions.

A study knows nothing of engines, files or Snakemake. What it asks stands in one module, how its
answers are read in another (`grace.studies.answers`), so that reading them differently asks
nothing anew; `grace.studies` lists both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from grace.prompts.variants import PromptSet

Message = dict[str, str]


class Trial(BaseModel):
    """One row of a study's stimuli CSV. Subclasses list the columns in file order."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    def row(self) -> dict[str, Any]:
        """The input columns and their values, in file order."""
        return self.model_dump()


@dataclass(frozen=True)
class Query:
    """One prompt with a closed set of answer options."""

    name: str
    messages: tuple[Message, ...]
    options: tuple[str, ...]


class StudyDesign(ABC):
    """What one study asks. Instances hold no state."""

    name: ClassVar[str]
    trial_model: ClassVar[type[Trial]]
    #: Columns that together identify a trial.
    key_columns: ClassVar[tuple[str, ...]]
    #: Other spellings of a column that a file may use.
    column_aliases: ClassVar[Mapping[str, str]] = {}
    #: Prompt templates by experiment.
    templates: ClassVar[Mapping[str, tuple[str, ...]]]

    @abstractmethod
    def messages(self, trial: Any, prompts: PromptSet) -> tuple[Message, ...]:
        """Experiment 1's chat messages."""

    @abstractmethod
    def queries(self, trial: Any, prompts: PromptSet) -> tuple[Query, ...]:
        """Experiment 2's queries."""

    def input_columns(self) -> tuple[str, ...]:
        """The stimuli file's columns, in order."""
        return tuple(self.trial_model.model_fields)
