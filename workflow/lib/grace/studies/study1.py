"""Study 1, knowledge attribution, after Goodman & Stuhlmüller (2013), TopiCS 5:173-184.

A speaker has looked at `access` of 3 things and says that `observe` of them have a property. How
many of the 3 do? Does the speaker know exactly how many?
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from grace.prompts.variants import PromptSet
from grace.studies.base import Message, Query, StudyDesign, Trial

STATES = (0, 1, 2, 3)
PERCENTAGES = tuple(range(0, 101, 10))
PERCENT_OPTIONS = tuple(f"{percentage}%" for percentage in PERCENTAGES)
KNOWLEDGE_OPTIONS = ("yes", "no")
_PRIOR_QUESTION = re.compile(
    r"\bHow many of the 3 (?P<things>.+?) do you (?:think|expect|believe) (?P<predicate>.+?)\s*\?",
    re.IGNORECASE,
)
#: Openings of such a question: a text with two of them leaves open which property is meant.
_OPENINGS = re.compile(r"\bhow many of\b|\bdo you (?:think|expect|believe)\b", re.IGNORECASE)


class Study1Trial(Trial):
    """One row of study1.csv."""

    participant_id: str = Field(min_length=1)
    story_shortname: str = Field(min_length=1)
    story_setup: str = Field(min_length=1)
    priorQ: str = Field(min_length=1)
    speach: str = Field(min_length=1)
    speachQ: str = Field(min_length=1)
    knowledgeQ: str = Field(min_length=1)
    access: int = Field(ge=1, le=3)
    observe: int = Field(ge=1, le=3)

    @field_validator("access", "observe", mode="before")
    @classmethod
    def _one_to_three(cls, value: object) -> int:
        # Spreadsheets and R may write 2 as 2.0.
        text = str(value).strip().removesuffix(".0")
        if text not in {"1", "2", "3"}:
            raise ValueError("must be 1, 2 or 3")
        return int(text)

    @field_validator("priorQ")
    @classmethod
    def _names_the_property(cls, value: str) -> str:
        if not _PRIOR_QUESTION.search(value) or len(_OPENINGS.findall(value)) != 2:
            raise ValueError(
                "must hold one question of the form 'How many of the 3 <things> do you think"
                " <have the property>?', from which the prompts take the property"
            )
        return value

    @model_validator(mode="after")
    def _saw_what_it_reports(self) -> Study1Trial:
        if self.observe > self.access:
            raise ValueError(
                f"observe is {self.observe} but access is {self.access}: a speaker can report"
                " at most as many things as were looked at"
            )
        return self

    @model_validator(mode="after")
    def _says_what_it_saw(self) -> Study1Trial:
        match = _PRIOR_QUESTION.search(self.priorQ)
        assert match is not None  # the validator saw to it
        counts = re.findall(
            rf"\b([0-9]+) of the (?:3\b|{re.escape(match['things'])}\b)", self.speach
        )
        wrong = [count for count in counts if count not in {str(self.access), str(self.observe)}]
        if wrong:
            raise ValueError(
                f"speach says '{wrong[0][:20]} of the …', but access is {self.access} and observe"
                f" is {self.observe}: the text and the numbers of a trial must agree"
            )
        return self

    @property
    def things(self) -> str:
        """The things that have the property, such as `letters that have stamps`."""
        match = _PRIOR_QUESTION.search(self.priorQ)
        assert match is not None  # the validator saw to it
        return f"{match['things']} that {match['predicate']}"


class Study1Design(StudyDesign):
    """Knowledge attribution: what is asked."""

    name = "study1"
    trial_model = Study1Trial
    key_columns = ("participant_id", "story_shortname")
    column_aliases = {"speech": "speach", "speechQ": "speachQ"}
    templates = {
        "exp1": ("study1_exp1.j2",),
        "exp2": ("study1_exp2_state.j2", "study1_exp2_knowledge.j2"),
    }

    def _values(self, trial: Study1Trial) -> dict[str, Any]:
        return {
            "setup": re.sub(r"\s*<br\s*/?>\s*", "\n", trial.story_setup, flags=re.I),
            "prior_question": trial.priorQ,
            "speech": trial.speach,
            "posterior_question": trial.speachQ,
            "knowledge_question": trial.knowledgeQ,
            "things": trial.things,
        }

    def messages(self, trial: Study1Trial, prompts: PromptSet) -> tuple[Message, ...]:
        return prompts.render("study1_exp1.j2", self._values(trial))

    def queries(self, trial: Study1Trial, prompts: PromptSet) -> tuple[Query, ...]:
        values = self._values(trial)
        states = tuple(
            Query(
                f"state{state}",
                prompts.render("study1_exp2_state.j2", {**values, "state": state}),
                PERCENT_OPTIONS,
            )
            for state in STATES
        )
        knowledge = Query(
            "knowledge", prompts.render("study1_exp2_knowledge.j2", values), KNOWLEDGE_OPTIONS
        )
        return (*states, knowledge)
